# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes files of a compose project and brings its containers up, or leaves both as they were. Internal to this collection."""

from __future__ import annotations

import os
import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._backup import PLACE
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_wait import (
    CHECK_WITHOUT_PROGRAM,
    NotUp,
    cannot_check,
    health,
    last_words,
    wait_until_answers,
)
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import BrokenProject
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub

PATIENCE = 60  # seconds at least that the former containers get to answer again, however short the wait for the new ones was


class Change:
    """A change of the project of `docker` (_docker.Docker), whose files `backup` (_backup.Backup) keeps.

    timeout: seconds until everything has to answer. clock: module `time` or what stands for it.
    """

    def __init__(self, docker, backup, timeout, clock):
        self.docker = docker
        self.backup = backup
        self.timeout = timeout
        self.clock = clock

    def carry_out(self, changes, keep, up, back, private=(), restored=None):
        """Write `changes` (see Backup), then up(); or put the files back, then back(). Raises LocalModelsError in the second case.

        up, back: callables that bring up what the files then say, and wait. keep: how many backups stay. private, restored: see Backup.
        """
        # After a change that was cut off, what runs at the beginning need not be what the files said before it.
        before = None if self.backup.unfinished() else self._containers()
        try:
            if changes:
                self.backup.begin(changes, restored=restored)
            self.backup.write(changes, private, restored)
            up()
        except (LocalModelsError, OSError) as problem:
            raise self._taken_back(problem, before, back) from problem
        if self.backup.unfinished():
            self.backup.finish(keep)

    def start(self, services, config, anew=False):
        """Recreate what changed and nothing else; start what is down with all that it depends on.

        services: names (collection). config: the effective project (dict). anew: recreate these services even where nothing changed; what
        they depend on is treated as without it, for compose means by --force-recreate only the services that are named. Not with --no-deps:
        compose 2.26 then leaves out `depends_on` when it notes what a container was made from, and the operator's next
        `docker compose up -d` recreates it for nothing.
        """
        if not services:
            return
        rc, dummy, err = self.docker.compose("--ansi", "never", "up", "-d", *(["--force-recreate"] if anew else []), *sorted(services))
        if rc:
            raise self._refused(sorted(services), config, err)

    def wait(self, look, seconds):
        """Return when the project of look() answers, see _compose_wait. Raises NotUp after so many seconds."""
        wait_until_answers(look, seconds, self.clock)

    def wait_back(self, look):
        self.wait(look, max(self.timeout, PATIENCE))

    def _containers(self):
        """{service: container id}: tells afterwards whether anything was recreated."""
        try:
            containers = self.docker.containers()
        except BrokenProject:
            return {}  # nothing of it runs: its name would be known otherwise
        return {one["Config"]["Labels"][_project.SERVICE_LABEL]: one["Id"] for one in containers}

    def _taken_back(self, problem, before, back):
        """The LocalModelsError that tells both what failed and how things are now.

        While not all is as it was, the copies stay: the next run knows by them that it has something to finish.
        """
        problem = _told(problem, self.backup.folder)
        words = last_words(self.docker, problem.service) if isinstance(problem, NotUp) else ""
        now = "The files are as before, and no container was touched"
        try:
            if self.backup.unfinished():
                self.backup.restore()
            if self._containers() != before:
                back()
                now = "Files and containers are as before, and FastGPT answers again"
            if self.backup.unfinished():
                self.backup.forget()
        except OSError as worse:
            now = "The files could not be put back (%s); copies of them are in %s" % (worse, os.path.join(self.backup.folder, PLACE, "undo"))
        except LocalModelsError as worse:
            now = "The files are as before, but not all is up again: %s" % worse.what
        return LocalModelsError("%s%s" % (problem.what, words), "%s%s" % (problem.mend + ". " if problem.mend else "", now))

    def _refused(self, services, config, err):
        """The LocalModelsError for what `docker compose up` wrote to its error stream."""
        what = "docker compose up -d %s fails: %s" % (" ".join(services), _said(err))
        now = _project.describe(config, self.docker.containers(), self.backup.folder).services
        for service in now.values():
            if service.container and re.search(r"container %s (is unhealthy|exited)" % re.escape(service.container), err):
                return NotUp("%s. %s" % (what, health(service)), service, CHECK_WITHOUT_PROGRAM if cannot_check(service) else "")
        # Compose says it in two ways; a network told by its id is one that a container was in.
        network = re.search(r"network (?![0-9a-f]{64}\b)(\S+) (?:declared as external, but could not be found|not found)", err)
        if network:
            return LocalModelsError(what, "The compose file says that this network is there already: bring up the project that makes it, "
                                          "call docker network create %s, or take it out of the file" % network.group(1))
        for image in sorted({config["services"][name].get("image") or "" for name in services} - {""}):
            if self.docker.call("image", "inspect", image)[0]:
                return LocalModelsError("%s. The image %s is not on this host" % (what, image), _mend_of_image(image, err))
        return LocalModelsError(what)


def write_only(backup, changes, keep, private=(), restored=None):
    """Write files and touch no container. Raises LocalModelsError, with the files as they were. Parameters as in Change."""
    try:
        backup.begin(changes, up=False, restored=restored)
        backup.write(changes, private, restored)
    except OSError as problem:
        if backup.unfinished():
            backup.restore()
        told = _told(problem, backup.folder)
        raise LocalModelsError(told.what, told.mend + ". The files are as before") from problem
    # An earlier change may have left containers half-way: that record waits for a run that may touch them.
    if not backup.brought_up():
        backup.finish(keep)


def _told(problem, folder):
    if isinstance(problem, LocalModelsError):
        return problem
    return LocalModelsError("The files in %s cannot be written: %s" % (folder, problem), "Make room there, or let this user write")


def _said(err):
    """The lines of compose's error stream that tell why, without its lines of progress."""
    lines = [line.strip() for line in scrub(err).splitlines() if line.strip() and not line.startswith("time=")]
    told = [line for line in lines if "rror" in line or "denied" in line or "unknown" in line or "not found" in line or "unhealthy" in line]
    return " ".join((told or lines)[-2:])[:400] or "no message"


def _mend_of_image(image, err):
    first, slash, dummy = image.partition("/")
    registry = first if slash and ("." in first or ":" in first) else "registry-1.docker.io"
    if re.search(r"manifest unknown|pull access denied|manifest for .* not found|repository does not exist|: not found", err):
        return "Check the image's name and tag in the compose file, and whether its registry can be reached from this host"
    return ("Open the way to its registry %s, name a registry in the compose file that can be reached (official files for China have "
            "registry.cn-hangzhou.aliyuncs.com), set registry-mirrors in /etc/docker/daemon.json, or bring the image here by docker save and "
            "docker load" % registry)
