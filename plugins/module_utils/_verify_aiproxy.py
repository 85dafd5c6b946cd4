# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From FastGPT over AI Proxy to Ollama, hop by hop. Internal to this collection."""

from __future__ import annotations

import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _aiproxy
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import HopError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import understand
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes import cause_of, gateway_trouble
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_ollama import OllamaHops
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_walk import Broken, chosen, stopped

TYPE_OLLAMA = 30
PATIENCE = 12   # seconds: AI Proxy's relay learns of a changed channel within 10
BREATH = 2      # seconds between two tries
OUTSIDE = "can only be asked from within AI Proxy's container of project_dir"


class ByAIProxy:
    """walk: _verify_walk.Walk. aiproxy: callable() -> _aiproxy.AIProxy. project: _project.Project or None. inside: _inside.Inside.
    ollamas: list of {name, url, models: [{name, type}]}. timeout: seconds a model may take. every_model: see _verify_walk.chosen."""

    def __init__(self, walk, aiproxy, project, inside, ollamas, timeout, every_model):
        self.walk, self.project, self._inside, self.ollamas = walk, project, inside, ollamas
        self._make_aiproxy, self._timeout, self._every_model = aiproxy, timeout, every_model
        self._aiproxy = self._channels = None
        self._gateway = project.gateway.container if project is not None and project.gateway is not None else None
        self._to_ollama = OllamaHops(walk, inside, "AI Proxy", self._gateway, OUTSIDE, ollamas)

    def stages(self):
        """The hops in their order, those that belong together in one (list of callable)."""
        return [self._answers, self._takes_key, self._to_ollama.reach, self._to_ollama.hold, self._channels_list, self._completes]

    def _answers(self):
        name = "FastGPT -> AI Proxy"
        if self.project is None:
            self.walk.skip(name, "can only be asked from within a container of project_dir")
            return
        endpoint = self.project.endpoint

        def ask():
            got = self._inside.get(self.project.app.container, endpoint + "/api/status")
            if got.trouble:
                down = self.project.gateway is not None and not self.project.gateway.runs()
                raise Broken(got.said, *(stopped(self.project.gateway, self.project.folder) if down
                                         else gateway_trouble(got.trouble, self.project.app.container, endpoint)))
            if not (isinstance(got.json(), dict) and got.json().get("success")):
                raise Broken(got.said, "%s is not AI Proxy" % endpoint,
                             "AIPROXY_API_ENDPOINT of FastGPT is AI Proxy's address without /v1 and without / at its end")
            return "it answers"
        self.walk.hop(name, "%s/api/status in %s" % (endpoint, self.project.app.container), ask)

    def _takes_key(self):
        def ask():
            if self.project is not None and self.project.keys_differ():
                raise Broken("FastGPT holds another key than AI Proxy", *cause_of("invalid token"))
            self._aiproxy = self._make_aiproxy()
            self._channels = self._aiproxy.channels()
            return "the key is accepted; channels: %s" % (", ".join(one.get("name") or "?" for one in self._channels) or "none")
        self.walk.hop("admin key of AI Proxy", "/api/channels/all", ask)

    def _channels_list(self):
        for one in self.ollamas:
            self.walk.hop("channel %s in AI Proxy" % one["name"], "its address and models", lambda one=one: self._channel_is_right(one))

    def _channel_is_right(self, one):
        found = [channel for channel in self._channels if channel.get("name") == one["name"]]
        if not found and not one["models"]:
            return "there is none, and no model that it should serve"
        again = "Run role fastgpt_models: it makes the channel right"
        if len(found) != 1:
            raise Broken("AI Proxy has %d channels of that name" % len(found), "", again if not found else
                         "Delete all but one in FastGPT's AI Proxy page, for nobody can tell which one is meant")
        channel = found[0]
        wrong = wrong_in_channel(one, channel.get("type"), channel.get("base_url"), channel.get("models") or ())
        if channel.get("status") != _aiproxy.ENABLED:
            wrong.append("it is switched off")
        if wrong:
            raise Broken("; ".join(wrong), "The channel is not as declared", again)
        one["channel"] = channel["id"]
        return "id %s, %s, %d models" % (channel["id"], channel["base_url"], len(one["models"]))

    def _completes(self):
        for one in self.ollamas:
            if isinstance(self._aiproxy, _aiproxy.BridgedAIProxy):
                self.walk.skip("answer through AI Proxy (%s)" % one["name"], "AI Proxy's address leads nowhere from this host")
                continue
            for model in chosen(one["models"], self._every_model):
                name = "%s through AI Proxy" % model["name"]
                if model["type"] == "embedding":
                    self._relay(name, "/v1/embeddings, channel %s" % one["name"], lambda one=one, model=model: "%d numbers" % len(
                        self._aiproxy.embedding(model["name"], channel=one["channel"], timeout=self._timeout)))
                else:
                    self._relay(name, "/v1/chat/completions, channel %s" % one["name"], lambda one=one, model=model: repr(
                        self._aiproxy.chat(model["name"], channel=one["channel"], timeout=self._timeout)))
                    self._relay(name + ", streamed", "/v1/chat/completions, channel %s" % one["name"],
                                lambda one=one, model=model: self._stream(model["name"], one["channel"]))

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
            headers={"Aiproxy-Channel": str(channel)}, timeout=self._timeout)
        said = understand(answer.status, answer.headers, answer.body)
        if not said.ok:
            raise client.refused(answer, said.message)
        return repr(said.data)


def wrong_in_channel(one, type_id, base_url, models):
    """What of a gateway's channel is not as declared (list of str). one: {name, url, models: [{name, type}]}. type_id: int, the same number
    means Ollama in AI Proxy and one-api. base_url: str or None. models: names (iterable of str)."""
    wanted, listed = {model["name"] for model in one["models"]}, set(models)
    wrong = []
    if type_id != TYPE_OLLAMA:
        wrong.append("its type is %s, not Ollama (%d)" % (type_id, TYPE_OLLAMA))
    if (base_url or "").rstrip("/") != one["url"].rstrip("/"):
        wrong.append("its address is %s" % (base_url or "empty"))
    if wanted - listed:
        wrong.append("it lacks %s" % ", ".join(sorted(wanted - listed)))
    if listed - wanted:
        wrong.append("it also lists %s" % ", ".join(sorted(listed - wanted)))
    return wrong
