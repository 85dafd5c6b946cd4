# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a URL from within a container, with what the container has. Internal to this collection."""

from __future__ import annotations

import json

from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes import trouble_of

SECONDS = 10

# FastGPT's and AI Proxy's images bring curl (their Dockerfiles); BusyBox's wget and Node.js are what else may be there.
_NODE = ("fetch(process.argv[1],{signal:AbortSignal.timeout(%d)}).then(r=>r.text()).then(t=>console.log(t))"
         ".catch(e=>{console.error(String(e.cause||e));process.exit(1)})" % (SECONDS * 1000))
_TOOLS = (
    lambda url: ["curl", "-sS", "-m", str(SECONDS), url],
    lambda url: ["wget", "-q", "-O", "-", "-T", str(SECONDS), url],
    lambda url: ["node", "-e", _NODE, url],
)


class Got:
    """What came back. said: str. trouble: see _verify_causes.trouble_of, "" where there was an answer of any kind."""

    def __init__(self, said, trouble=""):
        self.said = said
        self.trouble = trouble

    def json(self):
        """The parsed body, or None where it is no JSON."""
        try:
            return json.loads(self.said)
        except ValueError:
            return None


class Inside:
    """docker: _docker.Docker."""

    def __init__(self, docker):
        self._docker = docker

    def get(self, container, url):
        """Got for a GET of `url` by a process in `container` (name). No secret may be in the URL: process lists show it."""
        got = Got("the container has neither curl nor wget nor node", "other")
        for tool in _TOOLS:
            rc, out, err = self._docker.call("exec", container, *tool(url))
            if rc == 0:
                return Got(out or "an empty answer")
            trouble = trouble_of(rc, err + out)
            if trouble != "tool":
                return Got((err or out).strip() or "nothing, with exit status %d" % rc, trouble)
        return got
