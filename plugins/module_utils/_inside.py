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


# With a key: by the standard input, for everybody sees the arguments of a process. BusyBox's wget takes none there.
_KEYED_NODE = ("let i=JSON.parse(require('fs').readFileSync(0));"
               "fetch(i.url,{method:i.body?'POST':'GET',headers:i.headers,body:i.body||undefined,signal:AbortSignal.timeout(i.seconds*1000)})"
               ".then(async r=>{let t=await r.text();console.log(t+'\\n'+r.status+' '+(r.headers.get('content-type')||''))})"
               ".catch(e=>{console.error(String(e.cause||e));process.exit(1)})")
_TRAILER = "\\n%{http_code} %{content_type}"  # as curl's configuration spells a line break


def _curl_config(url, headers, body, seconds):
    """A request as curl reads it from its standard input (its man page, --config)."""
    lines = [("url", url), ("max-time", str(seconds)), ("write-out", _TRAILER)]
    lines += [("header", "%s: %s" % pair) for pair in headers.items()] + ([("data", body)] if body else [])
    quoted = [(name, value if value == _TRAILER else value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in lines]
    return "".join('%s = "%s"\n' % pair for pair in quoted)


class Got:
    """What came back. said: str. trouble: see _verify_causes.trouble_of, "" where there was an answer of any kind. status: of HTTP (int), kind:
    its content type (str), where they were asked for."""

    def __init__(self, said, trouble="", status=None, kind=""):
        self.said = said
        self.trouble = trouble
        self.status = status
        self.kind = kind

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

    def send(self, container, url, key, body=None, seconds=SECONDS):
        """Got with its status for a GET of `url`, or a POST of `body` (dict), by a process in `container`, with `key` (str) as bearer token.

        seconds: until it has to be answered. trouble is "tool" where the container has neither curl nor Node.js.
        """
        headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json"}
        text = json.dumps(body) if body is not None else None
        asked = json.dumps({"url": url, "headers": headers, "body": text, "seconds": seconds})
        for tool, data in ((["curl", "-q", "-sS", "-K", "-"], _curl_config(url, headers, text, seconds)), (["node", "-e", _KEYED_NODE], asked)):
            rc, out, err = self._docker.call("exec", "-i", container, *tool, data=data)
            if rc == 0:
                said, dummy, trailer = out.rstrip("\n").rpartition("\n")
                status, dummy, kind = trailer.partition(" ")
                return Got(said, "", int(status), kind)
            trouble = trouble_of(rc, err + out)
            if trouble != "tool":
                return Got(err.strip() or "nothing, with exit status %d" % rc, trouble)
        return Got("the container has neither curl nor Node.js", "tool")
