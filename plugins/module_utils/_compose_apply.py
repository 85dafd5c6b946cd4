# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes FastGPT's compose project so that it either answers again or is as before. Internal to this collection."""

from __future__ import annotations

import os
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose, _compose_files, _compose_paths, _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._backup import read
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_change import Change, write_only
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_intents import Intent, differences, fulfilled
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import carried_out
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_read import DOTENV, Reading
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import dotenv_value
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError


class Site(Reading):
    """One compose project on this host, read and ready to be changed."""

    def pending(self, plan):
        """The files that differ from the plan: list of (name, bytes or None for a file that goes), in the order to write them."""
        return [(name, coming) for name, coming in self._changes(plan) if coming != read(os.path.join(self.folder, name))]

    def apply(self, plan, timeout, keep, clock=time):
        """Make the project as planned, or leave it as it was. Raises LocalModelsError.

        plan: {"intents": [Intent as list], "text": text of our file or None for no such file, "edits": {name of a file of the operator's:
        edits, see _compose_edit_text}, "services": [names to bring up], "gateway": name of the service that has to answer beside FastGPT,
        or None, "external": [networks that must be there already], "needs": {service: [Intent as list, networks by Docker's names] that its
        container must have}}.
        timeout: seconds until everything has to answer. keep: how many backups stay. clock: module `time` or what stands for it.
        """
        self.docker.refuse_old_compose()
        for name in plan["external"]:
            if not self.docker.network_exists(name):
                raise LocalModelsError(
                    "There is no Docker network %s on this host" % name,
                    "Ollama's container lives there: run role localmodels.fastgpt.ollama first (ollama_provider: docker)")
        self._refuse_bad_result(plan)
        former = self.project.gateway
        former = former.name if former and former.runs() else None
        services = set(plan["services"]) | (set() if self.project.app.runs() else {self.project.app.name})
        change = Change(self.docker, self.backup, timeout, clock)
        left = {}  # service: names of the networks in which its container was, where compose had to be told to make it anew

        def up():
            change.start(services, self.config)
            left.update(self._make_anew(change, plan))
            change.wait(lambda: self._look(plan["gateway"]), timeout)

        def back():
            change.start(services, self.config)
            self._leave_again(left)
            change.wait_back(lambda: self._look(former))
        change.carry_out(self.pending(plan), keep, up, back, self._private(plan))

    def write(self, plan, keep):
        """Write the files as planned and touch no container, for a pipeline that brings them up itself. Raises LocalModelsError."""
        self._refuse_bad_result(plan)
        write_only(self.backup, self.pending(plan), keep, self._private(plan))

    def _changes(self, plan):
        """Every file that the plan says something about: list of (name, bytes or None).

        Compose finds a whole project whenever it is called in between. Our file is listed in .env only after it is there, and goes
        only after it is no longer listed. The operator's files are edited before ours goes, and are his own again after ours is there.
        """
        former = read(os.path.join(self.folder, DOTENV))
        dotenv = (former or b"").decode("utf-8", "surrogateescape")
        separator = dotenv_value(self.folder, "COMPOSE_PATH_SEPARATOR") or ":"
        operators = list(self._operators(plan).items())
        left_over = [(name, None) for name in self.layout.left_over]
        parted = _compose_files.parted_dotenv(dotenv, separator)
        coming = former if parted == dotenv else parted.encode("utf-8", "surrogateescape") or None
        if plan["text"] is None:
            return operators + [(DOTENV, coming), (self.layout.place, None)] + left_over
        ours = [(self.layout.place, self._keyed_text(plan).encode("utf-8"))]
        if not self.layout.joined:
            dotenv = _compose_files.joined_dotenv(parted if self.outlived else dotenv, self.layout.base, separator)
            ours.append((DOTENV, dotenv.encode("utf-8", "surrogateescape")))
        elif self.outlived:
            ours.append((DOTENV, coming))
        return ours + operators + left_over

    def _operators(self, plan):
        """{name: bytes} of the operator's files as the plan wants them."""
        found = {}
        for name, raw in self.own.items():
            found[name] = raw
            if plan["edits"].get(name):
                if os.path.dirname(name):
                    raise LocalModelsError("%s lies outside of %s" % (name, self.folder),
                                           "Use the strategy override (fastgpt_compose_strategy), which leaves that file as it is")
                found[name] = carried_out(raw.decode("utf-8"), self._keyed(plan["edits"][name])).encode("utf-8")
        return found

    def _private(self, plan):
        """Names (tuple) of the files that only their owner may read: ours, with one-api's key in it."""
        return (self.layout.place,) if plan["text"] is not None and _compose_paths.KEY in plan["text"] else ()

    def _keyed_text(self, plan):
        """Our file with one-api's key in the place of its placeholder."""
        return _compose.with_header(self._keyed(_compose.body_of(plan["text"])))

    def _keyed(self, node):
        if isinstance(node, (list, tuple)):
            return [self._keyed(one) for one in node]
        return node.replace(_compose_paths.KEY, self.key) if self.key and isinstance(node, str) else node

    def _make_anew(self, change, plan):
        """Recreate the containers that still lack what the files say; {service: networks (set) in which each was}. Raises LocalModelsError.

        Compose 2.26 compares a container with the files by a note of what it was made from, so it takes one that left a network
        (`docker network disconnect`) for current. It is made anew, and not connected from here: only compose gives it the names, the address
        and the priority that the file says, and whatever else it may lack.
        """
        unmet = self._unmet(plan)
        if not unmet:
            return {}
        before = {name: set(one.networks) for name, one in self._look(None).services.items() if one.state != "missing"}
        # Who shares the network of a container loses it with that container.
        sharing = [name for name, spec in self.config["services"].items()
                   if (spec.get("network_mode") or "").partition("service:")[2] in unmet and name in before]
        change.start(list(unmet) + sharing, self.config, anew=True)
        for name, sentences in sorted(self._unmet(plan).items()):
            raise LocalModelsError(
                "docker compose up -d --force-recreate %s made the container anew, and it still lacks what the files say: %s" % (
                    name, "; ".join(sentences)),
                "Compare what `docker compose config` in %s and `docker inspect` say of it, and look for what else on this host changes "
                "containers" % self.folder)
        return {name: before[name] for name in unmet}

    def _unmet(self, plan):
        """{service: sentences (list)} of what its container lacks, see _compose.differing."""
        now = self._look(None).services
        found = {name: _compose.differing(self._container(now[name]), [Intent(*one) for one in intents]) for name, intents in plan["needs"].items()}
        return {name: sentences for name, sentences in found.items() if sentences}

    def _leave_again(self, left):
        """Take containers that were made anew out of the networks in which they were not before (see _make_anew)."""
        now = self._look(None).services
        for name, before in left.items():
            for network in sorted(set(now[name].networks) - before):
                self.docker.call("network", "disconnect", network, now[name].container)

    def _refuse_bad_result(self, plan):
        """Let compose read the planned files before they lie in the project: it must differ as intended, and in nothing else."""
        intents = [Intent(*self._keyed(one)) for one in plan["intents"]]
        more = [] if plan["text"] is None else [self._keyed_text(plan).encode("utf-8")]
        wrong = differences(fulfilled(self.config, intents), self.merged(self._operators(plan), *more))
        if wrong:
            raise LocalModelsError(
                "This version of docker compose does not read the change as intended; it differs in %s" % ", ".join(sorted(wrong)[:4]),
                "Use Docker Compose 2.17 or newer, or the other strategy (fastgpt_compose_strategy); nothing was changed")

    def _look(self, gateway):
        """The project as it is now; `gateway` (name or None) is the one that has to answer, whoever looks like AI Proxy."""
        found = _project.describe(self.config, self.docker.containers(), self.folder)
        found.gateway = found.services[gateway] if gateway else None
        return found
