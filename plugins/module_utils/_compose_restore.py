# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a kept backup of a compose project back, as a change like any other. Internal to this collection.

It does without reading the project as it lies there: that may be just what is broken.
"""

from __future__ import annotations

import os
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose, _compose_files, _compose_paths, _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._backup import PLACE, Backup, read
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_change import Change, write_only
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_mask import masked
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_read import DOTENV, shown
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

NEWEST = "newest"


class Restoring:
    """The project of `docker` (_docker.Docker) and the backup that shall come back. Raises LocalModelsError.

    wanted: `newest`, or the number (str) of a backup. number: int, which one that is. changes: list of (name, bytes or None for a file
    that goes), in the order to write them. edited: names of files that somebody edited since, whose edits go with it.
    """

    def __init__(self, docker, wanted=NEWEST):
        self.docker = docker
        self.folder = docker.project_dir
        self.backup = Backup(self.folder)
        self.number = self._chosen(wanted)
        found = self.backup.before(self.number)
        changes = [(name, coming) for name, coming in found.items() if coming != read(os.path.join(self.folder, name))]
        # Whoever calls compose in between finds a project: a file is named in .env after it is there, and goes after that.
        self.changes = sorted(changes, key=lambda one: 1 if one[0] == DOTENV else 2 if one[1] is None else 0)
        self.edited = self.backup.foreign([name for name, dummy in self.changes])

    def changed(self, apply=True):
        """Whether there is anything to do."""
        return bool(self.changes or (apply and self.backup.unfinished()))

    def told(self, apply=True):
        """The task's result: dict without secrets."""
        actions = [("Bring %s back as it was before change %d" if coming is not None else "Remove %s, which was not there before change %d")
                   % (os.path.join(self.folder, name), self.number) for name, coming in self.changes]
        if not self.changes and self.changed(apply):
            actions.append("Finish a change that was cut off")
        return {"actions": actions, "restored": self.number, "backups": self.backup.numbers(), "diff": self._differences()}

    def apply(self, timeout, keep, clock=time):
        """Bring the files back, and the containers to what they then say; or leave all as it was. Raises LocalModelsError."""
        before, unfinished = self._before(), self.backup.unfinished()
        change = Change(self.docker, self.backup, timeout, clock)
        services = set()

        def up():
            after = self.docker.config()
            project = _project.describe(after, self.docker.containers(), self.folder)
            facts = _compose_paths.facts(after, _project.describe(after, [], self.folder))
            called = _called(facts)
            services.update(one for one, spec in after["services"].items() if spec != (before or after)["services"].get(one)
                            and project.services[one].state != "missing")
            services.update(name for name in [project.app.name, called] if name)
            if unfinished or before is None:
                services.update(name for name in facts["apps"] + [facts["gateway"], facts["one_api"]]
                                if name and project.services[name].state != "missing")
            change.start(services, after)
            change.wait(lambda: self._look(after, called), timeout)

        def back():
            if before is None:
                raise LocalModelsError("docker compose could not read them before either")
            change.start(services & set(before["services"]), before)
            change.wait_back(lambda: self._look(before, _called(_compose_paths.facts(before, _project.describe(before, [], self.folder)))))
        change.carry_out(self.changes, keep, up, back, restored=self.number)

    def write(self, keep):
        """Bring the files back and touch no container. Raises LocalModelsError."""
        write_only(self.backup, self.changes, keep, restored=self.number)

    def _chosen(self, wanted):
        numbers, place = self.backup.numbers(), os.path.join(self.folder, PLACE, "backups")
        if not numbers:
            raise LocalModelsError("There is no backup in %s" % place, "A run that changes something makes one, unless "
                                   "fastgpt_compose_backups (backups) is 0")
        chosen = self.backup.newest() if wanted == NEWEST else int(wanted) if wanted.isdigit() else None
        if chosen not in numbers:
            raise LocalModelsError("There is no backup %s in %s" % (wanted, place),
                                   "Set fastgpt_compose_restore (restore) to newest or one of %s" % ", ".join(map(str, numbers)))
        return chosen

    def _before(self):
        """The effective project as it lies there (dict), None where compose cannot read it."""
        try:
            return self.docker.config()
        except LocalModelsError:
            return None

    def _look(self, config, called):
        found = _project.describe(config, self.docker.containers(), self.folder)
        found.gateway = found.services[called] if called else None
        return found

    def _differences(self):
        differences = []
        for name, coming in self.changes:
            path = os.path.join(self.folder, name)
            differences.append({"before": _shown(name, read(path)), "after": _shown(name, coming),
                                "before_header": path + " (values masked)", "after_header": path + " (values masked)"})
        return differences


def _called(facts):
    """Name of the service that FastGPT calls for its models, None where that is none of this project."""
    if any(facts["services"][app]["variables"].get("AIPROXY_API_ENDPOINT") for app in facts["apps"]):
        return facts["gateway"]
    return facts["one_api"]


def _shown(name, raw):
    """What may be seen of a file: our own but for a key, of any other its shape."""
    text = (raw or b"").decode("utf-8", "replace")
    if name == DOTENV:
        return _compose_files.masked_dotenv(text)
    return shown(text) if _compose.is_ours(text) else masked(text)
