# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a host's Ollama container and makes it what is wanted, or puts back what ran before. Internal to this collection."""

from __future__ import annotations

import os
import re
import shutil

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _answer, _process, _undo
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_container import PROJECT, PROJECT_LABEL, is_ours

LOG_LINES = 15

DOCKERS_LOG = "Look at Docker's log: journalctl -u docker"


def refuse_unfit_host():
    """Raise LocalModelsError where there is no docker command."""
    if shutil.which("docker") is None:
        raise LocalModelsError("Docker is absent on this host: there is no docker command",
                               "Install Docker Engine with its compose plugin, or use ollama_provider: host")


class ContainerHost:
    """This host. docker: _docker.Docker. wanted: _ollama_container.Wanted."""

    def __init__(self, docker, wanted):
        self.docker = docker
        self.wanted = wanted
        self.undo = _undo.Undo(os.path.join(wanted.project_dir, "undo.json"), [wanted.file],
                               os.path.join(wanted.project_dir, "replaced"))

    def read(self):
        """(text of the compose file, container as inspected or None, version that the API tells or None)."""
        found = self.docker.inspect([self.wanted.container])
        container = found[0] if found else None
        version = _answer.version_at(self.wanted.listen.url) if container else None
        return _undo.read(self.wanted.file) or "", container, version

    def refuse(self, container):
        """Raise LocalModelsError for what would make the change fail, before anything is changed."""
        wanted = self.wanted
        self.docker.compose("version")
        if container and not is_ours(container):
            raise LocalModelsError(
                "There is a container %s already that this role did not make%s" % (wanted.container, _origin(container)),
                "Its models stay when it goes: set ollama_docker_volume to %s, then remove it with: docker rm -f %s" % (
                    _volume(container) or "its volume", wanted.container))
        for name in wanted.other_networks:
            if not self.docker.network_exists(name):
                raise LocalModelsError("There is no Docker network %s" % name,
                                       "Correct ollama_docker_networks, or start the project that makes it first")
        self._refuse_taken_port()
        if wanted.gpus:
            self._refuse_missing_gpu_support()

    def apply(self, different, container):
        """Make it so. different: what differs. Raises LocalModelsError after putting things back."""
        wanted = self.wanted
        self._have_image()
        os.makedirs(wanted.project_dir, mode=0o755, exist_ok=True)
        self.undo.begin({"container": "yes" if container else ""})
        try:
            self._have("network", wanted.network)
            if not wanted.keeps_models_in_a_folder:
                self._have("volume", wanted.volume)
            # Environment values may be secrets: proxies with passwords.
            _undo.write(wanted.file, wanted.text, 0o600)
            if set(different) - {"file", "interrupted"}:
                self._up()
                self._wait()
        except (LocalModelsError, OSError) as problem:
            raise self._back(problem) from problem
        self.undo.forget()

    def _have_image(self):
        image = self.wanted.image
        if self.docker.call("image", "inspect", "--format", "{{.Id}}", image)[0] == 0:
            return
        rc, out, err = self.docker.call("pull", "--quiet", image)
        if not rc:
            return
        said = scrub(" ".join(err.split()))[-300:]
        if re.search(r"manifest unknown|not found|pull access denied|does not exist|repository .* not", said):
            raise LocalModelsError("There is no image %s: %s" % (image, said), "Check ollama_version, or set ollama_docker_image")
        raise LocalModelsError("The image %s cannot be pulled: %s" % (image, said),
                               "Check the way to its registry, or set ollama_docker_image to a mirror")

    def _have(self, kind, name):
        if self.docker.call(kind, "inspect", name)[0]:
            self._must(kind, "create", name)

    def _up(self):
        wanted = self.wanted
        # Compose overlooks what was changed on a running container, such as a network it was taken out of.
        rc, out, err = self.docker.compose("--project-directory", wanted.project_dir, "--file", wanted.file,
                                           "--project-name", PROJECT, "up", "--detach", "--force-recreate")
        if rc:
            raise LocalModelsError("docker compose up fails in %s: %s" % (wanted.project_dir, scrub(" ".join(err.split()))[-400:]), DOCKERS_LOG)

    def _wait(self):
        wanted = self.wanted
        version = _answer.wait(wanted.listen.url, wanted.timeout, self._trouble)
        if wanted.version and version != wanted.version:
            raise LocalModelsError("%s answers with version %s, although the image is %s" % (
                wanted.listen.url, version, wanted.image), "Set ollama_docker_image to an image whose tag tells the release that is in it")

    def _trouble(self):
        found = self.docker.inspect([self.wanted.container])
        if not found:
            return "its container is gone"
        state = found[0]["State"]
        if found[0].get("RestartCount") or state.get("Status") in ("exited", "dead", "restarting"):
            return "it ends as soon as it starts (exit status %s)" % state.get("ExitCode")
        return ""

    def _back(self, problem):
        lines = self.docker.logs(self.wanted.container, LOG_LINES)
        said = "\n  ".join(scrub(line) for line in lines) or "(there are none)"
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
        return "The container was removed and the compose file is as it was; models and network stay"

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
                                   "Stop it, or choose another ollama_listen")

    def _refuse_missing_gpu_support(self):
        out = self.docker.call("info", "--format", "{{json .Runtimes}}")[1]
        if "nvidia" not in out and not shutil.which("nvidia-container-runtime-hook"):
            raise LocalModelsError("The Docker engine on this host has no NVIDIA support",
                                   "Install the NVIDIA container toolkit and run `nvidia-ctk runtime configure`, "
                                   "or set ollama_docker_gpus: false to run on the CPU")


def _origin(container):
    project = (container["Config"].get("Labels") or {}).get(PROJECT_LABEL)
    return ": it belongs to the compose project %s" % project if project else ""


def _volume(container):
    return next((mount.get("Name") or mount.get("Source") for mount in container.get("Mounts") or []
                 if mount.get("Destination") == "/root/.ollama"), "")
