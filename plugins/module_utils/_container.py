# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One service as a compose project of its own: its file, and what differs in its container. Pure. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import fingerprint
from ansible_collections.localmodels.fastgpt.plugins.module_utils._yaml_text import emit

FILE_NAME = "compose.yml"
MARK = "localmodels.fastgpt.settings"
PROJECT_LABEL = "com.docker.compose.project"
HEADER = "# Written by Ansible (localmodels.fastgpt). Changes made here are replaced.\n"


def file_in(project_dir):
    """Path (str) of the compose file in its folder."""
    return "%s/%s" % (project_dir.rstrip("/"), FILE_NAME)


def compose_file(project, service, networks, volume=None):
    """(mark, text) of the compose file of a project of one service, which has the project's name.

    service: dict. networks: list of str, Docker's names. volume: its name, or None where it is a folder of the host. The mark
    (str) stands for the whole service and is its container's label.
    """
    mark = fingerprint(service)
    # Networks and volume are made beside the project: so a `docker compose down -v` deletes no data, and does not stumble
    # over containers of other projects in the network.
    found = {"name": project, "services": {project: dict(service, labels={MARK: mark})},
             "networks": {name: {"name": name, "external": True} for name in networks}}
    if volume:
        found["volumes"] = {volume: {"name": volume, "external": True}}
    return mark, HEADER + emit(found)


def is_ours(container, project):
    """Whether a container (as inspected) belongs to the compose project of this name."""
    return (container["Config"].get("Labels") or {}).get(PROJECT_LABEL) == project


def difference(wanted, container):
    """What is not as wanted in a container as `docker inspect` tells it, or None: sentence, "" where nothing is.

    wanted: has container, networks, mark, restart_policy.
    """
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
