# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ollama as a container of a compose project of its own: the file, and what differs. Pure. Internal to this collection."""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._container import compose_file, difference, file_in
from ansible_collections.localmodels.fastgpt.plugins.module_utils._yaml_text import doubled

PROJECT = "ollama"
# Where the official image keeps models and its key (it declares no volume), and the port it listens on.
STORE = "/root/.ollama"
PORT = 11434
_TAG = re.compile(r":v?(\d+\.\d+\.\d+(?:-rc\d+)?)(?:-\w+)*\Z")


class Wanted:
    """What shall be. image, container, network, project_dir, restart_policy: str; volume: name, or absolute path on the host;
    listen: Listen, published on the host; environment: {name: str}; networks: list of str, further ones that exist already;
    gpus: bool; timeout: seconds."""

    def __init__(self, image, container, volume, network, project_dir, listen, environment, networks, gpus, restart_policy,
                 timeout):
        self.image = image
        self.version = promised_version(image)
        self.container = container
        self.volume = volume
        self.project_dir = project_dir
        self.file = file_in(project_dir)
        self.listen = listen
        self.environment = environment
        self.other_networks = [name for name in networks if name != network]
        self.gpus = gpus
        self.restart_policy = restart_policy
        self.timeout = timeout
        self.own_networks = [network]
        self.networks = self.own_networks + self.other_networks
        self.own_volume = None if volume.startswith("/") else volume
        self.mark, self.text = compose_file(PROJECT, self._service(), self.networks, self.own_volume)

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


def promised_version(image):
    """The version (str) that an image's tag promises, as Ollama in it tells it: "0.32.15-rc1"; None where the tag is no version."""
    match = _TAG.search(image)
    return match.group(1) if match else None


def differences(wanted, text, container, version):
    """{what: sentence} of all that is not as wanted.

    text: of the compose file, "" where absent. container: as `docker inspect` tells it, or None. version: what the API says,
    or None.
    """
    checks = (
        ("file", text != wanted.text and "%s %s" % (wanted.file, "differs" if text else "does not exist")),
        ("container", difference(wanted, container)),
        ("api", container is not None and _api_difference(wanted, version)),
    )
    return {what: sentence for what, sentence in checks if sentence}


def store_path(container):
    """The model store as seen from the host (str), or "" where it is not known."""
    for mount in container.get("Mounts") or []:
        if mount.get("Destination") == STORE:
            return mount.get("Source", "") + "/models"
    return ""


def _api_difference(wanted, version):
    if version is None:
        return "Ollama does not answer at %s" % wanted.listen.url
    if wanted.version and version != wanted.version:
        return "Ollama at %s has version %s instead of %s" % (wanted.listen.url, version, wanted.version)
    return ""
