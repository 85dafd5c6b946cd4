# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FastGPT's own hops: that it answers, knows the models, reaches them, and that its app answers. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt import NoModelAdministration, models_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import chat_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_app import Apps, find, inputs_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_model import PROVIDER
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_plan import current_defaults
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes import cause_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_route import AIPROXY
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_walk import Broken, CannotAsk, chosen

# What a model has of its own in place of the gateway's address and key.
OF_ITS_OWN = {"requestUrl": "address", "requestAuth": "key"}


class FastGPTHops:
    """walk: _verify_walk.Walk. fastgpt: _fastgpt.FastGPT. route: _verify_route.Route. models: list of {name, type}. app: str, may be empty.
    question: str. timeout: seconds a model may take. every_model: see _verify_walk.chosen. answer: what the app said (str)."""

    def __init__(self, walk, fastgpt, route, models, app, question, timeout, every_model):
        self.walk, self.fastgpt, self.route, self.app = walk, fastgpt, route, app
        self._question, self._timeout, self._every_model = question, timeout, every_model
        self._models = {model["name"]: model for model in models}
        self._administration, self._stored = None, {}
        self.answer = ""

    def answers(self):
        """The first hop: FastGPT answers, and has somebody to ask for models."""
        def ask():
            shows_aiproxy = (self.fastgpt.init_data().get("feConfigs") or {}).get("show_aiproxy")
            if self.route.path == AIPROXY and not shows_aiproxy:
                raise Broken("it answers, and says that it has no gateway", *cause_of("AI Proxy endpoint is not set"))
            if self.route.path is None and self.route.base:
                raise Broken("it answers, and its models come from %s" % self.route.base, "%s of FastGPT is empty" % self.route.variable,
                             "Run role fastgpt_compose (playbook connect), which tells FastGPT whom to ask")
            return "it answers, with %s" % self.route.told
        self.walk.hop("host -> FastGPT", "%s/api/common/system/getInitData" % self.fastgpt.client.base_url, ask)

    def stages(self):
        """The hops after the way to Ollama, in their order (list of callable)."""
        return [self._lists, self._tests, self._app_answers]

    def _lists(self):
        def ask():
            try:
                self._administration, self._stored = models_of(self.fastgpt)
            except NoModelAdministration as problem:
                raise CannotAsk(problem.what) from problem
            wrong = [sentence for name, model in sorted(self._models.items()) for sentence in self._wrong(name, model["type"])]
            if wrong:
                raise Broken("; ".join(wrong), "FastGPT's models are not as declared", "Run role fastgpt_models: it adds and activates them")
            return "%d models, all active" % len(self._models)
        self.walk.hop("models in FastGPT", "/api/core/ai/model/getConfigJson", ask)

    def _wrong(self, name, kind):
        record = self._stored.get(name)
        if record is None:
            return ["%s is not there" % name]
        if not record.get("isActive"):
            return ["%s is not active" % name]
        if record.get("type") != kind:
            return ["%s is of type %s, not %s" % (name, record.get("type"), kind)]
        # Both are used even where the other is empty, and go round the gateway.
        return ["%s has a request %s of its own (%s)" % (name, word, key) for key, word in OF_ITS_OWN.items() if record.get(key)]

    def _tests(self):
        for model in chosen(list(self._models.values()), self._every_model):
            self.walk.hop("%s, tested by FastGPT" % model["name"], "/api/core/ai/model/test",
                          lambda model=model: self._test(model["name"]), asks_model=True)
        for name, uses in sorted(self._left_behind().items()):
            self.walk.hop("%s, FastGPT's default for %s" % (name, ", ".join(uses)), "/api/core/ai/model/test",
                          lambda name=name: self._test_left_behind(name), asks_model=True)

    def _left_behind(self):
        """Ollama's models that are FastGPT's defaults and not declared (any more): {name: list of uses}. FastGPT keeps such a default."""
        found = {}
        for use, name in current_defaults(self._stored, self._administration.DEFAULTS).items() if self._administration else ():
            if name not in self._models and self._stored[name].get("provider") == PROVIDER:
                found.setdefault(name, []).append(use)
        return found

    def _test_left_behind(self, name):
        try:
            return self._test(name)
        except Broken as problem:
            raise Broken(problem.answered, "It is not among the declared models, and FastGPT asks it wherever nobody chose another one",
                         "Give another model its place (default_for), or declare it again; with state: absent it goes everywhere") from problem

    def _test(self, name):
        if self._administration is None:
            raise CannotAsk("this FastGPT cannot test single models over its API")
        said = self._administration.test(name, self._timeout)
        if not said.ok or not said.data:
            words = said.message or "an empty answer"
            raise Broken(words, *cause_of(words, self.route.path))
        return "vectors" if isinstance(said.data, dict) else repr(said.data)

    def _app_answers(self):
        if not self.app:
            self.walk.skip("app", "no app is named")
            return
        self.walk.hop("app %s" % self.app, "%r" % self._question, self._chat, asks_model=True)

    def _chat(self):
        apps = Apps(self.fastgpt)
        found = find(apps.all(), self.app)
        if found is None and self._administration is None:
            raise CannotAsk("there is no app of that name, and role fastgpt_models makes none in this FastGPT")
        if found is None and "llm" not in [model["type"] for model in self._models.values()]:
            raise CannotAsk("there is no app of that name, and role fastgpt_models makes none without a model for chats")
        if found is None:
            raise Broken("FastGPT has no app of that name", "", "Run role fastgpt_models: it adds the app")
        said = apps.chat(found["_id"], self._question, self._timeout)
        if not said.ok:
            raise Broken(said.message, *cause_of(said.message, self.route.path))
        chat = chat_of(said.data)
        self._refuse_other_model(apps, found["_id"], chat.model)
        self.answer = chat.text
        return repr(chat.text)

    def _refuse_other_model(self, apps, app_id, model):
        """FastGPT answers with its default model where the app's model is gone, and names the display name of the one it asked."""
        live = inputs_of(apps.live(app_id)["nodes"]).get("model")
        names = {live, (self._stored.get(live) or {}).get("name")}
        if self._administration is not None and model not in names:
            raise Broken("it answers, and not with its model %s but with %s" % (live, model or "another one"),
                         "FastGPT does not have the model of this app, and took its default model without a word",
                         "Run role fastgpt_models: it gives the app a model that is there")
