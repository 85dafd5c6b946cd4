# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks the way of a question hop by hop, from inside, and finds the first one that is broken. Internal to this collection.

Each hop is asked from where it really starts: FastGPT's container asks AI Proxy, AI Proxy's container asks Ollama. A hop after a
broken one is not asked: its failure would only repeat the first.
"""

from __future__ import annotations

import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _aiproxy
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import HopError, LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt import connect, models_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import chat_of, understand
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_app import Apps, find, inputs_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._inside import Inside
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project_options import fastgpt, gateway, read_project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes import (
    cause_of,
    gateway_trouble,
    ollama_trouble,
)
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_table import shorten, verdict

OK, FAILED, SKIPPED = "ok", "failed", "skipped"
TYPE_OLLAMA = 30
PATIENCE = 12   # seconds: AI Proxy's relay learns of a changed channel within 10
BREATH = 2      # seconds between two tries
SHORTEST_SECRET = 8


def verify(params, run, asks=True):
    """Result (dict) of module fastgpt_verify. params: its options. run: see _docker.Docker. asks: whether models are asked.

    Raises LocalModelsError where the way cannot even be found, such as a project that compose cannot read.
    """
    project = read_project(params, run) if params.get("project_dir") else None
    endpoint = fastgpt(params, run)
    key = project.admin_key() if project else None
    walk = Walk([key.value if key else "", params.get("admin_key") or "", endpoint.secret.value], asks)
    way = Way(walk, connect(endpoint, params, read_only=True), lambda: _aiproxy.connect(gateway(params, run), params, read_only=True),
              project, Docker(run, params.get("project_dir")), params["ollamas"], params.get("app"), params["question"],
              params["model_timeout"], params["every_model"])
    way.go()
    return {"healthy": walk.broken is None, "verdict": verdict(walk.broken) if walk.broken else "", "answer": way.answer, "hops": walk.hops}


class Broken(Exception):
    """A hop does not do what it should. answered: what came back; cause, mend: plain sentences, may be empty. All str."""

    def __init__(self, answered, cause="", mend=""):
        super().__init__(answered)
        self.answered = answered
        self.cause = cause
        self.mend = mend


class Walk:
    """The hops that were walked. secrets: texts that must not appear. asks: False in check mode, where no model is asked.

    hops: list of dict with hop, asked, answered, ms (int or None), status (OK, FAILED, SKIPPED), cause, mend.
    """

    def __init__(self, secrets=(), asks=True, clock=time.monotonic):
        self.hops = []
        # Shorter ones are placeholders such as "aiproxy" or "1234": they would blacken ordinary words, and nobody sends them back.
        self.secrets = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
        self.asks = asks
        self._clock = clock
        self._stage = self._broken_stage = None

    @property
    def broken(self):
        """The first broken hop (dict), or None."""
        return next((hop for hop in self.hops if hop["status"] == FAILED), None)

    def stage(self, number):
        """The hops from now on belong together: if one is broken, the others of its stage are still asked."""
        self._stage = number

    def hop(self, name, asked, function, asks_model=False):
        """Walk one hop. function: callable() -> what came back (str); raises Broken or LocalModelsError. Returns whether it is well."""
        if self._broken_stage not in (None, self._stage):
            return self._add(name, "", "not asked, for the hop above is broken", SKIPPED)
        if asks_model and not self.asks:
            return self._add(name, "", "check mode: would ask %s" % asked, SKIPPED)
        start = self._clock()
        try:
            answered, status, cause, mend = function(), OK, "", ""
        except Broken as problem:
            answered, status, cause, mend = problem.answered, FAILED, problem.cause, problem.mend
        except HopError as problem:
            answered, status, cause, mend = problem.problem, FAILED, "", problem.mend
        except LocalModelsError as problem:
            answered, status, cause, mend = problem.what, FAILED, "", problem.mend
        return self._add(name, asked, answered, status, int((self._clock() - start) * 1000), cause, mend)

    def skip(self, name, why):
        """A hop that cannot be asked, for a reason (str) that is no failure."""
        return self._add(name, "", why, SKIPPED)

    def _add(self, name, asked, answered, status, ms=None, cause="", mend=""):
        clean = [scrub(str(text), self.secrets) for text in (asked, answered, cause, mend)]
        self.hops.append({"hop": name, "asked": clean[0], "answered": shorten(clean[1], 400), "ms": ms, "status": status,
                          "cause": clean[2], "mend": clean[3]})
        if status == FAILED:
            self._broken_stage = self._stage
        return status == OK


class Way:
    """The whole way. walk: Walk. fastgpt: _fastgpt.FastGPT. aiproxy: callable() -> AIProxy. project: _project.Project or None.
    docker: _docker.Docker. ollamas: list of {name, url, models: [{name, type}]}. app: str, may be empty.
    question: str. timeout: seconds a model may take."""

    def __init__(self, walk, fastgpt, aiproxy, project, docker, ollamas, app, question, timeout, every_model=False):
        self.walk, self.fastgpt, self.project = walk, fastgpt, project
        self.ollamas, self.app, self.question, self.timeout = ollamas, app, question, timeout
        self._inside = Inside(docker)
        self._make_aiproxy, self._every_model = aiproxy, every_model
        self._aiproxy = self._channels = self._stored = None
        self.answer = ""

    def go(self):
        """Walk it; see self.walk and, for what the app said, self.answer."""
        stages = (self._fastgpt_answers, self._gateway_from_fastgpt, self._gateway_takes_key, self._ollama_from_gateway,
                  self._ollama_holds, self._channel_lists, self._gateway_completes, self._fastgpt_lists, self._fastgpt_tests,
                  self._app_answers)
        for number, stage in enumerate(stages):
            self.walk.stage(number)
            stage()

    # -- 1: FastGPT

    def _fastgpt_answers(self):
        def ask():
            data = self.fastgpt.init_data()
            if not (data.get("feConfigs") or {}).get("show_aiproxy"):
                raise Broken("it answers, and says that it has no gateway", *cause_of("AI Proxy endpoint is not set"))
            return "it answers, with AI Proxy as gateway"
        self.walk.hop("host -> FastGPT", "%s/api/common/system/getInitData" % self.fastgpt.client.base_url, ask)

    # -- 2: FastGPT -> AI Proxy

    def _gateway_from_fastgpt(self):
        name = "FastGPT -> AI Proxy"
        if self.project is None:
            self.walk.skip(name, "can only be asked from within a container of project_dir")
            return
        endpoint = self.project.endpoint

        def ask():
            got = self._inside.get(self.project.app.container, endpoint + "/api/status")
            if got.trouble:
                stopped = self.project.gateway is not None and not self.project.gateway.runs()
                raise Broken(got.said, *(self._stopped(self.project.gateway) if stopped
                                         else gateway_trouble(got.trouble, self.project.app.container, endpoint)))
            if not (isinstance(got.json(), dict) and got.json().get("success")):
                raise Broken(got.said, "%s is not AI Proxy" % endpoint,
                             "AIPROXY_API_ENDPOINT of FastGPT is AI Proxy's address without /v1 and without / at its end")
            return "it answers"
        self.walk.hop(name, "%s/api/status in %s" % (endpoint, self.project.app.container), ask)

    def _stopped(self, service):
        return ("The container of service %s is %s" % (service.name, service.state),
                "Start it with `docker compose up -d` in %s, and look at `docker compose logs %s` if it stops again"
                % (self.project.folder, service.name))

    # -- 3: the admin key

    def _gateway_takes_key(self):
        def ask():
            if self.project is not None and self.project.keys_differ():
                raise Broken("FastGPT holds another key than AI Proxy", *cause_of("invalid token"))
            self._aiproxy = self._make_aiproxy()
            self._channels = self._aiproxy.channels()
            return "the key is accepted; channels: %s" % (", ".join(one.get("name") or "?" for one in self._channels) or "none")
        self.walk.hop("admin key of AI Proxy", "/api/channels/all", ask)

    # -- 4 and 5: AI Proxy -> Ollama

    def _ollama_from_gateway(self):
        for one in self.ollamas:
            name = "AI Proxy -> Ollama (%s)" % one["name"]
            if self._gateway_container() is None:
                self.walk.skip(name, "can only be asked from within AI Proxy's container of project_dir")
            else:
                self.walk.hop(name, "%s/api/version in %s" % (one["url"], self._gateway_container()), lambda one=one: self._version(one))

    def _ollama_holds(self):
        for one in self.ollamas:
            name = "models in Ollama (%s)" % one["name"]
            if self._gateway_container() is None:
                self.walk.skip(name, "can only be asked from within AI Proxy's container of project_dir")
            else:
                self.walk.hop(name, "%s/api/tags in %s" % (one["url"], self._gateway_container()), lambda one=one: self._held(one))

    def _gateway_container(self):
        return self.project.gateway.container if self.project is not None and self.project.gateway is not None else None

    def _from_gateway(self, one, path):
        got = self._inside.get(self._gateway_container(), one["url"] + path)
        if got.trouble:
            raise Broken(got.said, *ollama_trouble(got.trouble, self._gateway_container(), one["url"]))
        if not isinstance(got.json(), dict):
            raise Broken(got.said, "What answers at %s is not Ollama" % one["url"], "The channel's base_url is Ollama's address without /v1")
        return got.json()

    def _version(self, one):
        version = self._from_gateway(one, "/api/version").get("version")
        if not version:
            raise Broken("JSON without a version", "What answers at %s is not Ollama" % one["url"], "Correct the address of the channel")
        return "Ollama %s" % version

    def _held(self, one):
        held = {ModelName.parse(model["name"]).key for model in self._from_gateway(one, "/api/tags").get("models") or []}
        missing = [model["name"] for model in one["models"] if ModelName.parse(model["name"]).key not in held]
        if missing:
            raise Broken("it has not: %s" % ", ".join(missing), *cause_of("model '%s' not found" % missing[0]))
        return "it has %s" % ", ".join(model["name"] for model in one["models"])

    # -- 6: the channel

    def _channel_lists(self):
        for one in self.ollamas:
            self.walk.hop("channel %s in AI Proxy" % one["name"], "its address and models", lambda one=one: self._channel_is_right(one))

    def _channel_is_right(self, one):
        found = [channel for channel in self._channels if channel.get("name") == one["name"]]
        again = "Run role fastgpt_models: it makes the channel right"
        if len(found) != 1:
            raise Broken("AI Proxy has %d channels of that name" % len(found), "", again if not found else
                         "Delete all but one in FastGPT's AI Proxy page, for nobody can tell which one is meant")
        channel, wanted = found[0], {model["name"] for model in one["models"]}
        listed = set(channel.get("models") or ())
        wrong = []
        if channel.get("type") != TYPE_OLLAMA:
            wrong.append("its type is %s, not Ollama (%d)" % (channel.get("type"), TYPE_OLLAMA))
        if channel.get("status") != _aiproxy.ENABLED:
            wrong.append("it is switched off")
        if (channel.get("base_url") or "").rstrip("/") != one["url"].rstrip("/"):
            wrong.append("its address is %s" % (channel.get("base_url") or "empty"))
        if wanted - listed:
            wrong.append("it lacks %s" % ", ".join(sorted(wanted - listed)))
        if listed - wanted:
            wrong.append("it also lists %s" % ", ".join(sorted(listed - wanted)))
        if wrong:
            raise Broken("; ".join(wrong), "The channel is not as declared", again)
        one["channel"] = channel["id"]
        return "id %s, %s, %d models" % (channel["id"], channel["base_url"], len(listed))

    # -- 7: AI Proxy completes

    def _gateway_completes(self):
        for one in self.ollamas:
            if isinstance(self._aiproxy, _aiproxy.BridgedAIProxy):
                self.walk.skip("answer through AI Proxy (%s)" % one["name"], "AI Proxy's address leads nowhere from this host")
                continue
            for model in self._chosen(one["models"]):
                name = "%s through AI Proxy" % model["name"]
                if model["type"] == "embedding":
                    self._relay(name, "/v1/embeddings, channel %s" % one["name"], lambda one=one, model=model: "%d numbers" % len(
                        self._aiproxy.embedding(model["name"], channel=one["channel"], timeout=self.timeout)))
                else:
                    self._relay(name, "/v1/chat/completions, channel %s" % one["name"], lambda one=one, model=model: repr(
                        self._aiproxy.chat(model["name"], channel=one["channel"], timeout=self.timeout)))
                    self._relay(name + ", streamed", "/v1/chat/completions, channel %s" % one["name"],
                                lambda one=one, model=model: self._stream(model["name"], one["channel"]))

    def _chosen(self, models):
        """One model of each type, or every one: a model has to be loaded before it answers."""
        if self._every_model:
            return models
        firsts = {}
        for model in models:
            firsts.setdefault(model["type"], model)
        return list(firsts.values())

    def _relay(self, name, asked, function):
        def ask():
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    return function()
                except HopError as problem:
                    if problem.status != 404 or "do not have access" not in problem.problem or time.monotonic() > end:
                        raise Broken(problem.problem, *(cause_of(problem.problem) if not problem.mend else ("", problem.mend))) from problem
                time.sleep(BREATH)
        self.walk.hop(name, asked, ask, asks_model=True)

    def _stream(self, model, channel):
        client = self._aiproxy.client
        answer = client.request("POST", "/v1/chat/completions", {
            "model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16, "stream": True},
            headers={"Aiproxy-Channel": str(channel)}, timeout=self.timeout)
        said = understand(answer.status, answer.headers, answer.body)
        if not said.ok:
            raise client.refused(answer, said.message)
        return repr(said.data)

    # -- 8: FastGPT's models

    def _fastgpt_lists(self):
        def ask():
            self._stored = models_of(self.fastgpt)[1]
            wanted = {model["name"]: model["type"] for one in self.ollamas for model in one["models"]}
            wrong = []
            for name in sorted(wanted):
                record = self._stored.get(name)
                if record is None:
                    wrong.append("%s is not there" % name)
                elif not record.get("isActive"):
                    wrong.append("%s is not active" % name)
                elif record.get("type") != wanted[name]:
                    wrong.append("%s is of type %s, not %s" % (name, record.get("type"), wanted[name]))
            if wrong:
                raise Broken("; ".join(wrong), "FastGPT's models are not as declared", "Run role fastgpt_models: it adds and activates them")
            return "%d models, all active" % len(wanted)
        self.walk.hop("models in FastGPT", "/api/core/ai/model/getConfigJson", ask)

    def _fastgpt_tests(self):
        models = [model for one in self.ollamas for model in one["models"]]
        for model in self._chosen(list({model["name"]: model for model in models}.values())):
            self.walk.hop("%s, tested by FastGPT" % model["name"], "/api/core/ai/model/test",
                          lambda model=model: self._test(model["name"]), asks_model=True)

    def _test(self, name):
        said = models_of(self.fastgpt)[0].test(name, self.timeout)
        if not said.ok or not said.data:
            words = said.message or "an empty answer"
            raise Broken(words, *cause_of(words))
        return "vectors" if isinstance(said.data, dict) else repr(said.data)

    # -- 9: the app

    def _app_answers(self):
        if not self.app:
            self.walk.skip("app", "no app is named")
            return
        self.walk.hop("app %s" % self.app, "%r" % self.question, self._chat, asks_model=True)

    def _chat(self):
        apps = Apps(self.fastgpt)
        found = find(apps.all(), self.app)
        if found is None:
            raise Broken("FastGPT has no app of that name", "", "Run role fastgpt_models: it adds the app")
        said = apps.chat(found["_id"], self.question, self.timeout)
        if not said.ok:
            raise Broken(said.message, *cause_of(said.message))
        chat = chat_of(said.data)
        # FastGPT answers with its default model where the app's model is gone, and names the display name of the one it asked.
        live = inputs_of(apps.live(found["_id"])["nodes"]).get("model")
        names = {live, (self._stored.get(live) or {}).get("name")}
        if chat.model not in names:
            raise Broken("it answers, and not with its model %s but with %s" % (live, chat.model or "another one"),
                         "FastGPT does not have the model of this app, and took its default model without a word",
                         "Run role fastgpt_models: it gives the app a model that is there")
        self.answer = chat.text
        return repr(chat.text)
