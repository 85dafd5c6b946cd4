# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ollama as a container of a compose project of its own: the file, and what differs. Pure. Internal to this collection."""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._yaml_text import doubled, emit
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import fingerprint

PROJECT = "ollama"
SERVICE = "ollama"
FILE_NAME = "compose.yml"
MARK = "localmodels.fastgpt.settings"
PROJECT_LABEL = "com.docker.compose.project"
# Where the official image keeps models and its key (it declares no volume), and the port it listens on.
STORE = "/root/.ollama"
PORT = 11434
HEADER = "# Written by Ansible (localmodels.fastgpt). Changes made here are replaced.\n"


class Wanted:
    """What shall be. image, container, network, project_dir, restart_policy: str; volume: name, or absolute path on the host;
    listen: Listen, published on the host; environment: {name: str}; networks: list of str, further ones that exist already;
    gpus: bool; timeout: seconds."""

    def __init__(self, image, container, volume, network, project_dir, listen, environment, networks, gpus, restart_policy,
                 timeout):
        self.image = image
        self.container = container
        self.volume = volume
        self.network = network
        self.project_dir = project_dir
        self.file = "%s/%s" % (project_dir.rstrip("/"), FILE_NAME)
        self.listen = listen
        self.environment = environment
        self.other_networks = [name for name in networks if name != network]
        self.gpus = gpus
        self.restart_policy = restart_policy
        self.timeout = timeout
        service = self._service()
        self.mark = fingerprint(service)
        self.text = HEADER + emit(self._project(service))

    @property
    def networks(self):
        return [self.network] + self.other_networks

    @property
    def version(self):
        """The version (str) that the image's tag promises, or None where the tag is no version."""
        match = re.search(r":v?(\d+\.\d+\.\d+)(?:-rocm)?$", self.image)
        return match.group(1) if match else None

    @property
    def keeps_models_in_a_folder(self):
        return self.volume.startswith("/")

    def _service(self):
        service = {
            "image": self.image,
            "container_name": self.container,
            "restart": self.restart_policy,
            "ports": ["%s:%d" % (self.listen.text, PORT)],
            "volumes": ["%s:%s" % (self.volume, STORE)],
            "networks": self.networks,
            # The image holds neither curl nor wget.
            "healthcheck": {"test": ["CMD", "ollama", "list"], "interval": "10s", "timeout": "10s", "retries": 5,
                            "start_period": "30s"},
        }
        if self.environment:
            service["environment"] = {name: doubled(self.environment[name]) for name in sorted(self.environment)}
        if self.gpus:
            service["deploy"] = {"resources": {"reservations": {"devices": [
                {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]}}}
        return service

    def _project(self, service):
        # Network and volume are made beside the project: so a `docker compose down -v` deletes no models, and does not
        # stumble over containers of other projects that joined the network.
        project = {"name": PROJECT,
                   "services": {SERVICE: dict(service, labels={MARK: self.mark})},
                   "networks": {name: {"name": name, "external": True} for name in self.networks}}
        if not self.keeps_models_in_a_folder:
            project["volumes"] = {self.volume: {"name": self.volume, "external": True}}
        return project


def differences(wanted, text, container, version):
    """{what: sentence} of all that is not as wanted.

    text: of the compose file, "" where absent. container: as `docker inspect` tells it, or None. version: what the API says,
    or None.
    """
    checks = (
        ("file", text != wanted.text and "%s %s" % (wanted.file, "differs" if text else "does not exist")),
        ("container", _container_difference(wanted, container)),
        ("api", container is not None and _api_difference(wanted, version)),
    )
    return {what: sentence for what, sentence in checks if sentence}


def is_ours(container):
    """Whether a container (as inspected) belongs to the project of this role."""
    return (container["Config"].get("Labels") or {}).get(PROJECT_LABEL) == PROJECT


def store_path(container):
    """The model store as seen from the host (str), or "" where it is not known."""
    for mount in container.get("Mounts") or []:
        if mount.get("Destination") == STORE:
            return mount.get("Source", "") + "/models"
    return ""


def _container_difference(wanted, container):
    if container is None:
        return "There is no container %s" % wanted.container
    # The mark stands for the whole service: a container never changes after it was made, but for the few things below.
    if (container["Config"].get("Labels") or {}).get(MARK) != wanted.mark:
        return "Container %s was made with other settings" % wanted.container
    state = container["State"]
    if state.get("Status") != "running":
        return "Container %s does not run (it is %s)" % (wanted.container, state.get("Status", "unknown"))
    policy = container["HostConfig"].get("RestartPolicy", {}).get("Name")
    if policy != wanted.restart_policy:
        return "Container %s has the restart policy %s" % (wanted.container, policy)
    missing = [name for name in wanted.networks if name not in container["NetworkSettings"]["Networks"]]
    if missing:
        return "Container %s is not in network %s" % (wanted.container, " and ".join(missing))
    return ""


def _api_difference(wanted, version):
    if version is None:
        return "Ollama does not answer at %s" % wanted.listen.url
    if wanted.version and version != wanted.version:
        return "Ollama at %s has version %s instead of %s" % (wanted.listen.url, version, wanted.version)
    return ""
