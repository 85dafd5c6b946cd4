# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the container of a project of one service what is wanted, or puts back what ran before. Internal to this collection."""

from __future__ import annotations

import os
import re
import shutil

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _process, _undo
from ansible_collections.localmodels.fastgpt.plugins.module_utils._container import PROJECT_LABEL, is_ours
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub

LOG_LINES = 15

DOCKERS_LOG = "Look at Docker's log: journalctl -u docker"


def refuse_missing_docker(mend):
    """Raise LocalModelsError where there is no docker command. mend: what to do about it."""
    if shutil.which("docker") is None:
        raise LocalModelsError("Docker is absent on this host: there is no docker command", mend)


class ContainerHost:
    """This host. docker: _docker.Docker. wanted: what shall be, with image, container, project_dir, file, text, listen (Listen, or
    None where nothing is published), own_networks and own_volume (made where they are missing; the volume may be None),
    other_networks (must exist).

    A server's own class says how it is read and when it has come up.
    """

    project = None  # name of the compose project and its service
    store = None  # where the container keeps its data
    data = None  # what that data is, for people
    options = {}  # the role's variables: image, volume, networks, listen

    def __init__(self, docker, wanted):
        self.docker = docker
        self.wanted = wanted
        self.undo = _undo.Undo(os.path.join(wanted.project_dir, "undo.json"), [wanted.file],
                               os.path.join(wanted.project_dir, "replaced"))

    def wait(self):
        """Return when the server has come up. Raises LocalModelsError."""
        raise NotImplementedError

    def hidden(self):
        """What its log may tell and nobody shall see: list of str. Passwords in URLs are hidden anyway."""
        return []

    def container(self):
        """The container as inspected, or None."""
        found = self.docker.inspect([self.wanted.container])
        return found[0] if found else None

    def refuse(self, container):
        """Raise LocalModelsError for what would make the change fail, before anything is changed."""
        wanted = self.wanted
        self.docker.compose("version")
        if container and not is_ours(container, self.project):
            raise LocalModelsError(
                "There is a container %s already that this role did not make%s" % (wanted.container, _origin(container)),
                "Its %s stay when it goes: set %s to %s, then remove it with: docker rm -f %s" % (
                    self.data, self.options["volume"], self._volume(container) or "its volume", wanted.container))
        for name in wanted.other_networks:
            if not self.docker.network_exists(name):
                raise LocalModelsError("There is no Docker network %s" % name,
                                       "Correct %s, or start the project that makes it first" % self.options["networks"])
        if wanted.listen:
            self._refuse_taken_port()

    def apply(self, different, container):
        """Make it so. different: what differs. Raises LocalModelsError after putting things back."""
        wanted = self.wanted
        self._have_image()
        os.makedirs(wanted.project_dir, mode=0o755, exist_ok=True)
        self.undo.begin({"container": "yes" if container else ""})
        try:
            for network in wanted.own_networks:
                self._have("network", network)
            if wanted.own_volume:
                self._have("volume", wanted.own_volume)
            # Environment values may be secrets: proxies with passwords.
            _undo.write(wanted.file, wanted.text, 0o600)
            if set(different) - {"file", "interrupted"}:
                self._up()
                self.wait()
        except (LocalModelsError, OSError) as problem:
            raise self._back(problem) from problem
        self.undo.forget()

    def trouble(self):
        """A sentence why waiting for the server is vain, or ""."""
        container = self.container()
        if container is None:
            return "its container is gone"
        state = container["State"]
        if container.get("RestartCount") or state.get("Status") in ("exited", "dead", "restarting"):
            return "it ends as soon as it starts (exit status %s)" % state.get("ExitCode")
        return ""

    def _have_image(self):
        image = self.wanted.image
        if self.docker.call("image", "inspect", "--format", "{{.Id}}", image)[0] == 0:
            return
        rc, out, err = self.docker.call("pull", "--quiet", image)
        if not rc:
            return
        said = scrub(" ".join(err.split()))[-300:]
        if re.search(r"manifest unknown|not found|pull access denied|does not exist|repository .* not", said):
            raise LocalModelsError("There is no image %s: %s" % (image, said), "Check %s, or set %s" % (
                self.options["version"], self.options["image"]))
        raise LocalModelsError("The image %s cannot be pulled: %s" % (image, said),
                               "Check the way to its registry, or set %s to a mirror" % self.options["image"])

    def _have(self, kind, name):
        if self.docker.call(kind, "inspect", name)[0]:
            self._must(kind, "create", name)

    def _up(self):
        wanted = self.wanted
        # Compose overlooks what was changed on a running container, such as a network it was taken out of.
        rc, out, err = self.docker.compose("--project-directory", wanted.project_dir, "--file", wanted.file,
                                           "--project-name", self.project, "up", "--detach", "--force-recreate")
        if rc:
            raise LocalModelsError("docker compose up fails in %s: %s" % (wanted.project_dir, scrub(" ".join(err.split()))[-400:]), DOCKERS_LOG)

    def _back(self, problem):
        lines = self.docker.logs(self.wanted.container, LOG_LINES)
        said = "\n  ".join(scrub(line, self.hidden()) for line in lines) or "(there are none)"
        try:
            outcome = self._put_back()
        except (LocalModelsError, OSError) as second:
            outcome = "Putting back what ran before failed too: %s" % getattr(second, "what", second)
        what = ". ".join(filter(None, (getattr(problem, "what", str(problem)), outcome, getattr(problem, "mend", ""))))
        return LocalModelsError(what, "Its last log lines:\n  " + said)

    def _put_back(self):
        ran = self.undo.unfinished()["container"]
        self.undo.restore()
        self.docker.call("rm", "--force", self.wanted.container)
        if ran and os.path.exists(self.wanted.file):
            self._up()
            self.undo.forget()
            return "The compose file and the container that ran before were put back and started"
        self.undo.forget()
        return "The container was removed and the compose file is as it was; %s and network stay" % self.data

    def _must(self, *arguments):
        rc, out, err = self.docker.call(*arguments)
        if rc:
            raise LocalModelsError("docker %s fails: %s" % (" ".join(arguments), scrub(" ".join(err.split()))[-300:]), DOCKERS_LOG)

    def _refuse_taken_port(self):
        listen = self.wanted.listen
        for process in _process.holders(listen.port, listen.host):
            holder = _process.describe(process)
            if process.name().startswith("docker-pr"):
                names = self.docker.call("ps", "--filter", "publish=%d" % listen.port, "--format", "{{.Names}}")[1].split()
                if self.wanted.container in names:
                    continue
                holder = "the Docker container %s" % ", ".join(names) if names else holder
            raise LocalModelsError("Port %d on %s is taken by %s" % (listen.port, listen.host, holder),
                                   "Stop it, or choose another %s" % self.options["listen"])

    def _volume(self, container):
        return next((mount.get("Name") or mount.get("Source") for mount in container.get("Mounts") or []
                     if mount.get("Destination") == self.store), "")


def _origin(container):
    project = (container["Config"].get("Labels") or {}).get(PROJECT_LABEL)
    return ": it belongs to the compose project %s" % project if project else ""
