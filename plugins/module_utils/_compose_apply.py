# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads FastGPT's compose project on its host, and changes it so that it either answers again or is as before.

Internal to this collection.
"""

from __future__ import annotations

import os
import tempfile
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose, _compose_files, _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._backup import Backup, read
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_wait import NotUp, last_words, wait_until_answers
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import DEFAULT_FILES, BrokenProject, dotenv_value
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._outline import outline

DOTENV = ".env"
PATIENCE = 60  # seconds at least that the former containers get to answer again, however short the wait for the new ones was


class Site:
    """One compose project on this host: docker (_docker.Docker) and what was read of it.

    layout: _compose_files.Layout. project: _project.Project of the operator's own files and the running containers.
    """

    def __init__(self, docker):
        self.docker = docker
        self.folder = docker.project_dir
        docker.refuse_missing_files()
        self.backup = Backup(self.folder)
        self.layout = self._layout()
        containers = docker.containers()
        self.config = docker.config(files=self.layout.base)
        self.project = _project.describe(self.config, containers, self.folder)
        if self.project.version is None and self.project.app.runs():
            self.project.version = docker.package_version(self.project.app.container)

    def found(self):
        """What the controller has to know to decide: dict without secrets."""
        spec = self.config["services"][self.caller.name]
        return {
            "folder": self.folder,
            "version": self.project.version,
            "gateway": self.project.gateway.name,
            "app": self.project.app.name,
            "place": self.layout.place,
            "text": self._text(self.layout.place),
            "joined": self.layout.joined,
            "left_over": self.layout.left_over,
            "unfinished": self.backup.unfinished(),
            "networks": self.project.networks,
            "caller": {
                "name": self.caller.name,
                "network_mode": self.caller.network_mode,
                "networks": {key: self.project.networks.get(key, key) for key in spec.get("networks") or {}},
                "extra_hosts": _project.split_extra_hosts(spec.get("extra_hosts")),
            },
            "container": {
                "name": self.caller.container or self.caller.name,
                "state": self.caller.state,
                "networks": sorted(self.caller.networks),
                "extra_hosts": self.caller.extra_hosts,
            },
        }

    def apply(self, plan, timeout, keep, clock=time):
        """Make the project as planned, or leave it as it was. Raises LocalModelsError.

        plan: {"text": text of our file or None for no such file, "networks": [Docker's names the caller must be in],
        "extra_hosts": [names the caller must know], "external": [those networks that must be there already]}.
        timeout: seconds until everything has to answer. keep: how many backups stay. clock: module `time` or what stands for it.
        """
        for name in plan["external"]:
            if not self.docker.network_exists(name):
                raise LocalModelsError(
                    "There is no Docker network %s on this host" % name,
                    "Ollama's container lives there: run role localmodels.fastgpt.ollama first (ollama_provider: docker)")
        self._refuse_bad_merge(plan)
        before = self._containers()
        changes = self._changes(plan["text"])
        self.backup.begin(changes)
        try:
            self.backup.write(changes)
            self._up()
            wait_until_answers(self._look, timeout, clock)
        except LocalModelsError as problem:
            raise self._undo(problem, before, timeout, clock) from problem
        self.backup.finish(keep)

    def _layout(self):
        names = [name for name in os.listdir(self.folder) if os.path.isfile(os.path.join(self.folder, name))]
        ours = [name for name in (_compose_files.FREE_PLACE, _compose_files.OWN_PLACE)
                if name in names and _compose.is_ours(self._text(name))]
        if os.environ.get("COMPOSE_FILE"):
            raise BrokenProject("COMPOSE_FILE is set in the environment of the user who runs this",
                                "Set it in %s/.env instead, where it counts for everybody" % self.folder)
        separator = dotenv_value(self.folder, "COMPOSE_PATH_SEPARATOR") or ":"
        listed = [name.strip() for name in dotenv_value(self.folder, "COMPOSE_FILE").split(separator) if name.strip()]
        found = _compose_files.layout(names, listed, ours)
        if found.place == _compose_files.OWN_PLACE and found.place in names and found.place not in ours:
            raise BrokenProject(
                "%s was written by this role and edited since" % os.path.join(self.folder, found.place),
                "Move your own lines into a file of your own, list that in COMPOSE_FILE, and delete this one")
        return found

    @property
    def caller(self):
        """The Service whose container talks to Ollama: AI Proxy, or the one whose network AI Proxy shares."""
        gateway = self.project.gateway
        if gateway is None:
            raise _project.NoSuchService(
                "No service in %s is AI Proxy; AIPROXY_API_ENDPOINT of FastGPT %s is %s" % (
                    self.folder, self.project.version or "", self.project.endpoint or "not set"),
                "Official files have AI Proxy from 4.9.0 on: upgrade the project, or set AIPROXY_API_ENDPOINT to the "
                "service that runs it")
        shared = gateway.network_mode
        if shared.startswith("container:"):
            raise LocalModelsError(
                "Service %s uses the network of a container that this project does not know (network_mode: %s)" % (
                    gateway.name, shared), "Give it networks of its own")
        return self.project.services[shared.partition(":")[2]] if shared.startswith("service:") else gateway

    def _text(self, name):
        return (read(os.path.join(self.folder, name)) or b"").decode("utf-8", "replace")

    def _refuse_bad_merge(self, plan):
        """Let compose merge the planned file before it lies in the project: what it refuses must not get there."""
        if plan["text"] is None:
            return
        with tempfile.NamedTemporaryFile("w", suffix=".yml", dir=self.folder, encoding="utf-8") as trial:
            trial.write(plan["text"])
            trial.flush()
            merged = self.docker.config(files=self.layout.base + [trial.name])
        spec = merged["services"][self.caller.name]
        names = {key: (one or {}).get("name") or key for key, one in (merged.get("networks") or {}).items()}
        joined = {names.get(key) for key in spec.get("networks") or {}}
        known = _project.split_extra_hosts(spec.get("extra_hosts"))
        kept = self.config["services"][self.caller.name].get("networks") or {}
        lost = sorted(set(kept) - set(spec.get("networks") or {}))
        if lost or set(plan["networks"]) - joined or set(plan["extra_hosts"]) - set(known):
            raise LocalModelsError(
                "This version of docker compose does not merge the override as intended: service %s would have the networks "
                "%s" % (self.caller.name, ", ".join(sorted(spec.get("networks") or {})) or "none"),
                "Use Docker Compose 2.17 or newer; nothing was changed")

    def _changes(self, text):
        """The files to write, in order: list of (name, bytes or None for a file that goes).

        Our file is listed in .env only after it is there, and goes only after it is no longer listed: compose never
        finds a listed file missing, whenever it is called.
        """
        former = read(os.path.join(self.folder, DOTENV)) or b""
        dotenv = former.decode("utf-8", "surrogateescape")
        separator = dotenv_value(self.folder, "COMPOSE_PATH_SEPARATOR") or ":"
        left_over = [(name, None) for name in self.layout.left_over]
        if text is None:
            coming = _compose_files.parted_dotenv(dotenv, separator).encode("utf-8", "surrogateescape")
            return ([(DOTENV, coming or None)] if coming != former else []) + [(self.layout.place, None)] + left_over
        ours = [(self.layout.place, text.encode("utf-8"))]
        if not self.layout.joined:
            dotenv = _compose_files.joined_dotenv(dotenv, self.layout.base, separator)
            ours.append((DOTENV, dotenv.encode("utf-8", "surrogateescape")))
        return ours + left_over

    def _up(self):
        """Recreate what changed and nothing else; start what is down with all that it depends on.

        Not with --no-deps: compose 2.26 then leaves out `depends_on` when it notes what a container was made from, and the
        operator's next `docker compose up -d` recreates it for nothing.
        """
        services = {self.caller.name, self.project.gateway.name}
        if not self.project.app.runs():
            services.add(self.project.app.name)
        rc, dummy, err = self.docker.compose("--ansi", "never", "up", "-d", *sorted(services))
        if rc:
            raise LocalModelsError("docker compose up -d %s fails: %s" % (" ".join(sorted(services)), _said(err)), _mend_of(err))

    def _look(self):
        return _project.describe(self.config, self.docker.containers(), self.folder)

    def _containers(self):
        """{service: container id}: tells afterwards whether anything was recreated."""
        return {one["Config"]["Labels"][_project.SERVICE_LABEL]: one["Id"] for one in self.docker.containers()}

    def _undo(self, problem, before, timeout, clock):
        """Put files and containers back; the LocalModelsError that tells both what failed and how things are now."""
        words = last_words(self.docker, problem.service) if isinstance(problem, NotUp) else ""
        self.backup.restore()
        now = "The files are as before, and no container was touched"
        if self._containers() != before:
            now = "Files and containers are as before, and FastGPT answers again"
            try:
                self._up()
                wait_until_answers(self._look, max(timeout, PATIENCE), clock)
            except LocalModelsError as worse:
                now = "The files are as before, but not all is up again: %s" % worse.what
        self.backup.forget()
        return LocalModelsError("%s%s" % (problem.what, words), "%s%s" % (problem.mend + ". " if problem.mend else "", now))


def _said(err):
    """The lines of compose's error stream that tell why, without its lines of progress."""
    lines = [line.strip() for line in err.splitlines() if line.strip() and not line.startswith("time=")]
    told = [line for line in lines if "rror" in line or "denied" in line or "unknown" in line or "not found" in line]
    return " ".join((told or lines)[-2:])[:400] or "no message"


def _mend_of(err):
    if "manifest unknown" in err or "pull access denied" in err or "failed to resolve" in err or "not found" in err:
        return "Check the image's name and tag in the compose file, and whether its registry can be reached from this host"
    return ""


def outlines(docker, problem):
    """[{path, text, said}] of the project's files without their values, for a BrokenProject that has a place to be told."""
    if not problem.said:
        return []
    listed = [name.strip() for name in dotenv_value(docker.project_dir, "COMPOSE_FILE").split(":") if name.strip()]
    names = listed or list(DEFAULT_FILES + _compose_files.OVERRIDE_FILES)
    texts = [(os.path.join(docker.project_dir, name), read(os.path.join(docker.project_dir, name))) for name in names]
    return [{"path": path, "text": outline(text.decode("utf-8", "replace")), "said": problem.said}
            for path, text in texts if text is not None]
