# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ollama as a container reaches it: its version, and the models it holds. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes import cause_of, ollama_trouble
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_walk import Broken


class OllamaFrom:
    """Asked from within a container. inside: _inside.Inside. container: name (str). address: what to correct where something else
    answers (str, a sentence)."""

    def __init__(self, inside, container, address):
        self._inside = inside
        self._container = container
        self._address = address

    def version(self, url):
        """What it says of itself (str). Raises Broken."""
        version = self._ask(url, "/api/version").get("version")
        if not version:
            raise Broken("JSON without a version", "What answers at %s is not Ollama" % url, self._address)
        return "Ollama %s" % version

    def holds(self, url, models):
        """That it holds these models (list of {name}), as a sentence. Raises Broken."""
        return holding([model["name"] for model in self._ask(url, "/api/tags").get("models") or []], models)

    def _ask(self, url, path):
        got = self._inside.get(self._container, url + path)
        if got.trouble:
            raise Broken(got.said, *ollama_trouble(got.trouble, self._container, url))
        if not isinstance(got.json(), dict):
            raise Broken(got.said, "What answers at %s is not Ollama" % url, self._address)
        return got.json()


def holding(names, models):
    """That all of `models` (list of {name}) are among `names` (list of str), as a sentence. Raises Broken."""
    held = {ModelName.parse(name).key for name in names}
    missing = [model["name"] for model in models if ModelName.parse(model["name"]).key not in held]
    if missing:
        raise Broken("it has not: %s" % ", ".join(missing), *cause_of("model '%s' not found" % missing[0]))
    return "it has %s" % ", ".join(model["name"] for model in models)
