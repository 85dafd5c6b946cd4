# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From FastGPT straight to Ollama, hop by hop. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes import ollama_trouble
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_models import ModelsAt
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_ollama import OllamaFrom, holding
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_route import trouble_in
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_walk import Broken, chosen


class Directly:
    """walk: _verify_walk.Walk. route: _verify_route.Route. project: _project.Project. inside: _inside.Inside. models: list of {name, type}.
    timeout: seconds a model may take. every_model: see _verify_walk.chosen."""

    def __init__(self, walk, route, project, inside, models, timeout, every_model):
        self.walk, self.route, self._app = walk, route, project.app
        self._models, self._every_model = models, every_model
        self._ollama = OllamaFrom(inside, self._app.container, "%s of FastGPT is Ollama's address with /v1 behind" % route.variable)
        self._asked = ModelsAt(inside, self._app.container, route, timeout)

    def stages(self):
        """The hops in their order, those that belong together in one (list of callable)."""
        return [self._reaches, self._holds, self._completes]

    def _reaches(self):
        def ask():
            trouble = trouble_in(self.route, self._app.network_mode)
            if trouble:
                raise Broken("not asked", *trouble)
            return self._ollama.version(self.route.root)
        self.walk.hop("FastGPT -> Ollama", "%s/api/version in %s" % (self.route.root, self._app.container), ask)

    def _holds(self):
        self.walk.hop("models in Ollama", "%s/models in %s" % (self.route.base, self._app.container), lambda: holding(
            self._asked.listed(lambda trouble: ollama_trouble(trouble, self._app.container, self.route.root)), self._models))

    def _completes(self):
        for model in chosen(self._models, self._every_model):
            name = "%s from Ollama" % model["name"]
            if model["type"] == "embedding":
                self.walk.hop(name, "%s/embeddings" % self.route.base, lambda model=model: self._asked.embedding(model["name"]), asks_model=True)
                continue
            for more, stream in (("", False), (", streamed", True)):
                self.walk.hop(name + more, "%s/chat/completions" % self.route.base,
                              lambda model=model, stream=stream: self._asked.chat(model["name"], stream=stream), asks_model=True)
