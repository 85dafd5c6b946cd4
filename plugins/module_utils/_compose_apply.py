# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes FastGPT's compose project so that it either answers again or is as before. Internal to this collection."""

from __future__ import annotations

import os
import re
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose, _compose_files, _compose_paths, _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._backup import read
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_intents import Intent, differences, fulfilled
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import carried_out
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_read import DOTENV, Reading
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_wait import NotUp, last_words, wait_until_answers
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import dotenv_value
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

PATIENCE = 60  # seconds at least that the former containers get to answer again, however short the wait for the new ones was


class Site(Reading):
    """One compose project on this host, read and ready to be changed."""

    def pending(self, plan):
        """The files that differ from the plan: list of (name, bytes or None for a file that goes), in the order to write them."""
        return [(name, coming) for name, coming in self._changes(plan) if coming != read(os.path.join(self.folder, name))]

    def apply(self, plan, timeout, keep, clock=time):
        """Make the project as planned, or leave it as it was. Raises LocalModelsError.

        plan: {"intents": [Intent as list], "text": text of our file or None for no such file, "edits": {name of a file of the operator's:
        edits, see _compose_edit_text}, "services": [names to bring up], "gateway": name of the service that has to answer beside FastGPT,
        or None, "external": [networks that must be there already]}.
        timeout: seconds until everything has to answer. keep: how many backups stay. clock: module `time` or what stands for it.
        """
        self.docker.refuse_old_compose()
        for name in plan["external"]:
            if not self.docker.network_exists(name):
                raise LocalModelsError(
                    "There is no Docker network %s on this host" % name,
                    "Ollama's container lives there: run role localmodels.fastgpt.ollama first (ollama_provider: docker)")
        self._refuse_bad_result(plan)
        before, former = self._containers(), self.project.gateway
        former = former.name if former and former.runs() else None
        changes = self.pending(plan)
        if changes:
            self.backup.begin(changes)
        try:
            self.backup.write(changes, (self.layout.place,) if self._holds_key(plan) else ())
            self._up(plan["services"])
            wait_until_answers(lambda: self._look(plan["gateway"]), timeout, clock)
        except LocalModelsError as problem:
            raise self._undo(problem, plan, before, former, timeout, clock) from problem
        if self.backup.unfinished():
            self.backup.finish(keep)

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
        if plan["text"] is None:
            parted = _compose_files.parted_dotenv(dotenv, separator)
            coming = former if parted == dotenv else parted.encode("utf-8", "surrogateescape") or None
            return operators + [(DOTENV, coming), (self.layout.place, None)] + left_over
        ours = [(self.layout.place, self._keyed_text(plan).encode("utf-8"))]
        if not self.layout.joined:
            dotenv = _compose_files.joined_dotenv(dotenv, self.layout.base, separator)
            ours.append((DOTENV, dotenv.encode("utf-8", "surrogateescape")))
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

    def _holds_key(self, plan):
        return plan["text"] is not None and _compose_paths.KEY in plan["text"]

    def _keyed_text(self, plan):
        """Our file with one-api's key in the place of its placeholder."""
        return _compose.with_header(self._keyed(_compose.body_of(plan["text"])))

    def _keyed(self, node):
        if isinstance(node, (list, tuple)):
            return [self._keyed(one) for one in node]
        return node.replace(_compose_paths.KEY, self.key) if self.key and isinstance(node, str) else node

    def _refuse_bad_result(self, plan):
        """Let compose read the planned files before they lie in the project: it must differ as intended, and in nothing else."""
        intents = [Intent(*self._keyed(one)) for one in plan["intents"]]
        more = [] if plan["text"] is None else [self._keyed_text(plan).encode("utf-8")]
        wrong = differences(fulfilled(self.config, intents), self.merged(self._operators(plan), *more))
        if wrong:
            raise LocalModelsError(
                "This version of docker compose does not read the change as intended; it differs in %s" % ", ".join(sorted(wrong)[:4]),
                "Use Docker Compose 2.17 or newer, or the other strategy (fastgpt_compose_strategy); nothing was changed")

    def _up(self, services):
        """Recreate what changed and nothing else; start what is down with all that it depends on.

        Not with --no-deps: compose 2.26 then leaves out `depends_on` when it notes what a container was made from, and the
        operator's next `docker compose up -d` recreates it for nothing.
        """
        services = set(services)
        if not self.project.app.runs():
            services.add(self.project.app.name)
        if not services:
            return
        rc, dummy, err = self.docker.compose("--ansi", "never", "up", "-d", *sorted(services))
        if rc:
            raise LocalModelsError("docker compose up -d %s fails: %s" % (" ".join(sorted(services)), _said(err)), _mend_of(err))

    def _look(self, gateway):
        """The project as it is now; `gateway` (name or None) is the one that has to answer, whoever looks like AI Proxy."""
        found = _project.describe(self.config, self.docker.containers(), self.folder)
        found.gateway = found.services[gateway] if gateway else None
        return found

    def _containers(self):
        """{service: container id}: tells afterwards whether anything was recreated."""
        return {one["Config"]["Labels"][_project.SERVICE_LABEL]: one["Id"] for one in self.docker.containers()}

    def _undo(self, problem, plan, before, former, timeout, clock):
        """Put files and containers back; the LocalModelsError that tells both what failed and how things are now."""
        words = last_words(self.docker, problem.service) if isinstance(problem, NotUp) else ""
        if self.backup.unfinished():
            self.backup.restore()
        now = "The files are as before, and no container was touched"
        if self._containers() != before:
            now = "Files and containers are as before, and FastGPT answers again"
            try:
                self._up(plan["services"])
                wait_until_answers(lambda: self._look(former), max(timeout, PATIENCE), clock)
            except LocalModelsError as worse:
                now = "The files are as before, but not all is up again: %s" % worse.what
        if self.backup.unfinished():
            self.backup.forget()
        return LocalModelsError("%s%s" % (problem.what, words), "%s%s" % (problem.mend + ". " if problem.mend else "", now))


def _said(err):
    """The lines of compose's error stream that tell why, without its lines of progress."""
    lines = [line.strip() for line in err.splitlines() if line.strip() and not line.startswith("time=")]
    told = [line for line in lines if "rror" in line or "denied" in line or "unknown" in line or "not found" in line]
    return " ".join((told or lines)[-2:])[:400] or "no message"


def _mend_of(err):
    blocked = re.search(r"connection reset|Client\.Timeout|i/o timeout|handshake timeout|lookup \S+.*no such host", err)
    if blocked:
        host = re.search(r"https?://([^/\s\"]+)/v2/", err)
        return "The registry%s cannot be reached from this host: use images of a registry that can (official files for China have " \
               "registry.cn-hangzhou.aliyuncs.com), set registry-mirrors in /etc/docker/daemon.json, or load the images from files" % (
                   " " + host.group(1) if host else "")
    if "manifest unknown" in err or "pull access denied" in err or "failed to resolve" in err or "not found" in err:
        return "Check the image's name and tag in the compose file, and whether its registry can be reached from this host"
    return ""
