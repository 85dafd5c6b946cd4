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


class OllamaHops:
    """The hops from a gateway to each Ollama. walk: _verify_walk.Walk. inside: _inside.Inside. gateway: its name for people (str).
    container: its container (str), or None: then `nowhere` (str) says why these hops cannot be asked. ollamas: list of {name, url, models}."""

    def __init__(self, walk, inside, gateway, container, nowhere, ollamas):
        self._walk, self._gateway, self._container, self._nowhere, self._ollamas = walk, gateway, container, nowhere, ollamas
        self._ollama = OllamaFrom(inside, container, "The channel's base_url is Ollama's address without /v1")

    def reach(self):
        """Whether the gateway reaches each of them."""
        self._each("%s -> Ollama (%%s)" % self._gateway, "/api/version", lambda one: self._ollama.version(one["url"]))

    def hold(self):
        """Whether each of them holds its models."""
        self._each("models in Ollama (%s)", "/api/tags", lambda one: self._ollama.holds(one["url"], one["models"]))

    def _each(self, name, path, ask):
        for one in self._ollamas:
            if self._container is None:
                self._walk.skip(name % one["name"], self._nowhere)
            else:
                self._walk.hop(name % one["name"], "%s%s in %s" % (one["url"], path, self._container), lambda one=one: ask(one))


def holding(names, models):
    """That all of `models` (list of {name}) are among `names` (list of str), as a sentence. Raises Broken."""
    held = {ModelName.parse(name).key for name in names}
    missing = [model["name"] for model in models if ModelName.parse(model["name"]).key not in held]
    if missing:
        raise Broken("it has not: %s" % ", ".join(missing), *cause_of("model '%s' not found" % missing[0]))
    return "it has %s" % ", ".join(model["name"] for model in models)
