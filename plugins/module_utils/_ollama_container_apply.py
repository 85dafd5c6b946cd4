# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a host's Ollama container, and makes it what is wanted. Internal to this collection."""

from __future__ import annotations

import shutil

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _answer, _container_apply, _undo
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_container import PROJECT, STORE


def refuse_unfit_host():
    """Raise LocalModelsError where there is no docker command."""
    _container_apply.refuse_missing_docker("Install Docker Engine with its compose plugin, or use ollama_provider: host")


class ContainerHost(_container_apply.ContainerHost):
    """This host. docker: _docker.Docker. wanted: _ollama_container.Wanted."""

    project = PROJECT
    store = STORE
    data = "models"
    options = {"image": "ollama_docker_image", "version": "ollama_version", "volume": "ollama_docker_volume",
               "networks": "ollama_docker_networks", "listen": "ollama_listen"}

    def read(self):
        """(text of the compose file, container as inspected or None, version that the API tells or None)."""
        container = self.container()
        version = _answer.version_at(self.wanted.listen.url) if container else None
        return _undo.read(self.wanted.file) or "", container, version

    def refuse(self, container):
        super().refuse(container)
        if self.wanted.gpus:
            self._refuse_missing_gpu_support()

    def wait(self):
        wanted = self.wanted
        version = _answer.wait(wanted.listen.url, wanted.timeout, self.trouble)
        if wanted.version and version != wanted.version:
            raise LocalModelsError("%s answers with version %s, although the image is %s" % (
                wanted.listen.url, version, wanted.image), "Set ollama_docker_image to an image whose tag tells the release that is in it")

    def _refuse_missing_gpu_support(self):
        out = self.docker.call("info", "--format", "{{json .Runtimes}}")[1]
        if "nvidia" not in out and not shutil.which("nvidia-container-runtime-hook"):
            raise LocalModelsError("The Docker engine on this host has no NVIDIA support",
                                   "Install the NVIDIA container toolkit and run `nvidia-ctk runtime configure`, "
                                   "or set ollama_docker_gpus: false to run on the CPU")
