# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options that modules share (doc fragment `project`) to addresses and secrets. Internal to this collection.

Secrets are read on the FastGPT host and stay there; what can be shown is where they were found.
"""

from __future__ import annotations

import socket

from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import is_loopback
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Unreachable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import (
    Secret,
    describe,
    endpoint_host,
    endpoint_port,
    stopped,
)

BRIDGE_PATH = "/api/aiproxy"
PROBE_SECONDS = 3

ARGUMENT_SPEC = {
    "project_dir": {"type": "path"},
    "fastgpt_url": {"type": "str"},
    "root_password": {"type": "str", "no_log": True},
    "aiproxy_url": {"type": "str"},
    "admin_key": {"type": "str", "no_log": True},
    "timeout": {"type": "int", "default": 30},
}


class Down(LocalModelsError):
    """A service of the project does not run."""


def without_it(problem, params):
    """The warning (str) with which check mode goes on where the project does not run, or "" for any other problem (LocalModelsError).

    Before it role fastgpt_compose would have started the project. An address that was given as an option is another matter.
    """
    given = params.get("fastgpt_url") or params.get("aiproxy_url")
    if isinstance(problem, Down) or (isinstance(problem, Unreachable) and not given):
        return "%s Check mode goes on without it: what would change there is only known when it runs." % problem
    return ""


class Endpoint:
    """A server and how to get in.

    url: str, base URL as this host reaches it. secret: Secret. found_in: str, where the URL comes from.
    bridged: True where `url` is FastGPT's bridge to AI Proxy (`.../api/aiproxy`); `secret` is then FastGPT's root password,
    and requests carry a FastGPT login token instead of the admin key. stopped: what to say (str) if it does not answer, because
    its container did not run when it was looked at, else "".
    """

    def __init__(self, url, secret, found_in, bridged=False, stopped=""):
        self.url = url.rstrip("/")
        self.secret = secret
        self.found_in = found_in
        self.bridged = bridged
        self.stopped = stopped

    def public(self):
        """What may be shown in a module's result: dict."""
        return {"url": self.url, "url_found_in": self.found_in, "secret_found_in": self.secret.found_in}


def read_project(params, run):
    """Project of `project_dir`, read with the docker command. run: see _docker.Docker.

    Raises LocalModelsError (BrokenProject, DockerError, NoSuchService).
    """
    folder = params.get("project_dir")
    if not folder:
        raise LocalModelsError("project_dir is not set, and the other options do not say everything",
                               "Give project_dir, or fastgpt_url with root_password, or aiproxy_url with admin_key")
    docker = Docker(run, folder)
    containers = docker.containers()
    project = describe(docker.config(), containers, folder)
    if project.version is None and project.app.runs():
        project.version = docker.package_version(project.app.container)
    return project


def fastgpt(params, run):
    """Endpoint of FastGPT: options first, the project of `project_dir` for what they leave open."""
    url, password = params.get("fastgpt_url"), _given(params, "root_password")
    if url and password:
        return Endpoint(url, password, "option fastgpt_url")
    return fastgpt_of(read_project(params, run), url, password)


def fastgpt_of(project, url=None, password=None):
    """Endpoint of a Project's FastGPT. Raises LocalModelsError while its container has no address."""
    found_in = "option fastgpt_url" if url else "service %s in %s" % (project.app.name, project.folder)
    url = url or project.fastgpt_url()
    if not url:
        raise _down(project.app, "FastGPT", project.folder)
    return Endpoint(url, password or project.root_password(), found_in,
                    stopped="" if project.app.runs() else ". ".join(stopped(project.app, project.folder)))


def gateway(params, run, reaches=None):
    """Endpoint of AI Proxy: options first, then its container's address, else FastGPT's bridge.

    reaches: callable(host (str), port (int)) -> bool, a trial connection; official files publish no port of AI Proxy,
    and a container's address leads nowhere from the host where Docker runs rootless or in a virtual machine.
    """
    url, key = params.get("aiproxy_url"), _given(params, "admin_key")
    if url and key:
        return Endpoint(url, key, "option aiproxy_url")
    project = read_project(params, run)
    key = key or project.admin_key()
    if url:
        return Endpoint(url, _needed(key, project), "option aiproxy_url")
    found = project.gateway_url()
    if project.gateway is None and (not found or is_loopback(endpoint_host(found) or "localhost")):
        raise LocalModelsError(
            "No service in %s is AI Proxy, and AIPROXY_API_ENDPOINT of FastGPT is %s" % (project.folder, found or "not set"),
            "Set AIPROXY_API_ENDPOINT to AI Proxy's service and inner port, such as http://aiproxy:3000, or give "
            "fastgpt_models_aiproxy_url and fastgpt_models_admin_key (aiproxy_url and admin_key)")
    if project.gateway is not None and not project.gateway.runs():
        raise _down(project.gateway, "AI Proxy", project.folder)
    if found and (reaches or _reaches)(endpoint_host(found), endpoint_port(found) or 80):
        where = "service %s in %s" % (project.gateway.name, project.folder) if project.gateway else "AIPROXY_API_ENDPOINT"
        return Endpoint(found, _needed(key, project), where)
    through = fastgpt_of(project, params.get("fastgpt_url"), _given(params, "root_password"))
    return Endpoint(through.url + BRIDGE_PATH, through.secret, "FastGPT's bridge to AI Proxy", bridged=True, stopped=through.stopped)


def _given(params, name):
    return Secret(params[name], "option %s" % name) if params.get(name) else None


def _needed(key, project):
    if key is None:
        raise LocalModelsError("AI Proxy's admin key is nowhere in %s: neither ADMIN_KEY of AI Proxy nor AIPROXY_API_TOKEN of "
                               "FastGPT is set" % project.folder, "Set both to the same secret, or give fastgpt_models_admin_key (admin_key)")
    return key


def _down(service, hop, folder):
    return Down(
        "%s (service %s in %s) does not run: its container is %s" % (hop, service.name, folder, service.state),
        "Start it with `docker compose up -d` in that folder, and look at `docker compose logs %s` if it stops" % service.name)


def _reaches(host, port):
    try:
        socket.create_connection((host, port), PROBE_SECONDS).close()
    except ConnectionRefusedError:
        return True  # the machine is there, its server is not: an error of the hop itself, to be told as such
    except OSError:
        return False
    return True
