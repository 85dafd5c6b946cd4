# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until FastGPT and AI Proxy answer, not only run. Internal to this collection."""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import HopError, LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client

PAUSE = 1.0  # seconds between two looks
REQUEST_SECONDS = 5
CRASHES = 3  # restarts by Docker's policy while we wait: it will not get better by waiting
LOG_LINES = 15
CHECK_WITHOUT_PROGRAM = ("The health check in the compose file calls a program that is not in this image, so it can never pass: use one "
                         "that is there (wget, node, python3), or take the check out")


class NotUp(LocalModelsError):
    """A container did not come up. `service`: _project.Service, whose log tells why."""

    def __init__(self, what, service, mend=""):
        self.service = service
        super().__init__(what, mend)


def wait_until_answers(look, timeout, clock):
    """Return when every container that FastGPT's calls pass through answers. Raises NotUp.

    look: callable() -> _project.Project as it is now. timeout: seconds (int). clock: module `time` or what stands for it.
    """
    started = clock.monotonic()
    first_count = {}
    while True:
        project = look()
        service, reason = waits_for(project)
        if service is None:
            return
        reason += _others(project, service)
        crashes = service.restarts - first_count.setdefault(service.container, service.restarts)
        if crashes >= CRASHES:
            raise NotUp("%s crashes again and again (%d restarts): %s" % (service.container, crashes, reason), service)
        if clock.monotonic() - started >= timeout:
            raise NotUp("%s is not up after %d s: %s" % (service.container or service.name, timeout, reason), service)
        clock.sleep(PAUSE)


def waits_for(project):
    """(Service, why) of the first container that is not up, or (None, "")."""
    for service in [one for one in (project.gateway, project.app) if one]:
        if not service.runs():
            return service, "its container is %s" % service.state
        if service.health not in ("", "healthy") and not cannot_check(service):
            return service, health(service)
    if project.gateway and project.gateway.health != "healthy":
        reason = _silent("AI Proxy", project.gateway_url(), "/api/status", lambda body: body.get("success") is True)
        if reason:
            return project.gateway, reason
    # FastGPT has no health check in any official file, and this path needs no login (reference, section 7).
    reason = _silent("FastGPT", project.fastgpt_url(), "/api/common/system/getInitData", lambda body: body.get("code") == 200)
    return (project.app, reason) if reason else (None, "")


def _others(project, service):
    """What else of the project crashes (str): a gateway whose database does not start is not what has to be mended."""
    found = [one.name for one in project.services.values() if one.state == "restarting" and one is not service]
    return ". Look at %s first, which Docker restarts again and again" % " and ".join(found) if found else ""


def health(service):
    """What is known of a container's health, as a part of a sentence."""
    if not service.health:
        return "%s is %s" % (service.container, service.state)
    return "its health check says %s%s" % (service.health, ": " + service.health_said if service.health_said else "")


def cannot_check(service):
    """Whether its health check calls a program that the image does not have: such a check tells nothing, the server's answer does."""
    return bool(re.search(r"executable file not found|(?:curl|wget): (?:command )?not found", service.health_said))


def last_words(docker, service):
    """The container's last log lines as a part of a sentence, without secrets; "" where it has none."""
    if not service.container or service.state == "missing":
        return ""
    lines = [scrub(line, service.secret_values()) for line in docker.logs(service.container, LOG_LINES)]
    return ". Its last lines:\n%s\n" % "\n".join("  " + line for line in lines) if lines else ""


def _silent(hop, url, path, good):
    """Why a server does not answer as it should, or None."""
    if not url:
        return "it has no address yet"
    try:
        answer = Client(url, hop, timeout=REQUEST_SECONDS).request("GET", path)
    except HopError as problem:
        return "%s %s" % (problem.url, problem.problem)
    body = answer.json()
    return None if isinstance(body, dict) and good(body) else "%s%s answers %d" % (url, path, answer.status)
