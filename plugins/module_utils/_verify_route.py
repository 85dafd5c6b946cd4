# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom FastGPT asks for models, read from its variables as FastGPT of that version reads them. Pure. Internal to this collection.

Source: packages/service/core/ai/config.ts of FastGPT 4.6 to 4.16, run with these variables set and empty for 4.11.1 and 4.16.0 (`direct-*`,
`directnokey-*` in tests/contract/transcripts/fastgpt-*.jsonl). From 4.17.0 on there is AI Proxy only.
"""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import OLLAMA_PORT, is_any, is_loopback
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_paths import (
    FIRST_WITH_AIPROXY,
    FIRST_WITH_AIPROXY_ONLY,
    FIRST_WITHOUT_ONEAPI_URL,
)
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import endpoint_host, endpoint_port, version_numbers

AIPROXY, ONE_API, DIRECT = "aiproxy", "one_api", "direct"
# From here on AIPROXY_API_TOKEN counts only together with AIPROXY_API_ENDPOINT, and an empty CHAT_API_KEY ends every call.
FIRST_WITH_CHECKED_VARIABLES = (4, 14, 18)
NOWHERE = "https://api.openai.com/v1"  # whom FastGPT asks where it is told nobody
BASE, OLD_BASE, ENDPOINT, TOKEN, KEY = "OPENAI_BASE_URL", "ONEAPI_URL", "AIPROXY_API_ENDPOINT", "AIPROXY_API_TOKEN", "CHAT_API_KEY"


class Route:
    """path: AIPROXY, ONE_API, DIRECT, or None where nobody can tell. base: URL (str) to which FastGPT adds /chat/completions, "" where that is AI
    Proxy's or nobody can tell. variable: which one says so (str). key: _project.Secret, or None where it is empty. needs_key: whether FastGPT sends
    nothing without one. told: str, for people."""

    def __init__(self, path, base="", variable=ENDPOINT, key=None, needs_key=False):
        self.path = path
        self.base = base.rstrip("/")
        self.variable = variable
        self.key = key
        self.needs_key = needs_key

    @property
    def root(self):
        """The base URL without /v1: where the server's own API is."""
        return self.base[:-len("/v1")] if self.base.endswith("/v1") else self.base

    @property
    def told(self):
        if self.path == AIPROXY:
            return "AI Proxy as gateway"
        if not self.base:
            return "a gateway that it does not tell"
        return "%s %s (%s)" % ("one-api at" if self.path == ONE_API else "Ollama itself at", scrub(self.base), self.variable)


def route_of(app, version, folder, ollamas):
    """Route of a FastGPT.

    app: its _project.Service. version: str or None. folder: of the project. ollamas: list of {url}, for telling Ollama from one-api.
    """
    numbers = version_numbers(version)
    knows_aiproxy = not numbers or numbers >= FIRST_WITH_AIPROXY
    if knows_aiproxy and app.variable(ENDPOINT) or numbers >= FIRST_WITH_AIPROXY_ONLY:
        return Route(AIPROXY)
    names = [BASE] if not numbers or numbers >= FIRST_WITHOUT_ONEAPI_URL else [OLD_BASE, BASE]
    variable = next((name for name in names if app.variable(name)), None)
    if variable is None:
        return Route(AIPROXY) if knows_aiproxy else Route(None, NOWHERE, BASE)
    checked = not numbers or numbers >= FIRST_WITH_CHECKED_VARIABLES
    keys = [TOKEN, KEY] if knows_aiproxy and not checked else [KEY]
    key = next((secret for secret in (app.secret(name, folder) for name in keys) if secret), None)
    base = app.variable(variable)
    return Route(DIRECT if is_ollama(base, ollamas) else ONE_API, base, variable, key, checked)


def is_ollama(base, ollamas):
    """Whether a base URL looks like that of an Ollama: of a declared one (list of {url}), or by Ollama's own port."""
    return _place(base) in [_place(one["url"]) for one in ollamas] or endpoint_port(base) == OLLAMA_PORT


def trouble_in(route, network_mode):
    """(cause, mend) for a base URL that cannot work as it is written, or None. network_mode: of FastGPT's service, "" for its own networks."""
    host = endpoint_host(route.base)
    if not re.match(r"https?://[^\s'\"]+\Z", route.base) or not host:
        return ("%s of FastGPT is no address: it needs http://, a host and /v1, and neither quotes nor blanks" % route.variable,
                "Correct it in the compose file, and recreate FastGPT's container")
    if is_any(host) or is_loopback(host) and network_mode != "host":
        return ("%s of FastGPT names %s, and from a container that is the container itself: its port 3000 is FastGPT's own page" % (
            route.variable, host), "Run role fastgpt_compose (playbook connect), or write the container's name and inner port there, such as %s"
            % ("http://one-api:3000/v1" if route.path == ONE_API else "http://ollama:11434/v1"))
    return None


def _place(url):
    return (endpoint_host(url), endpoint_port(url) or {"http": 80, "https": 443}.get(url.partition(":")[0]))
