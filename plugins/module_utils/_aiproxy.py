# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AI Proxy's admin API and relay. Internal to this collection.

Facts about the server: v0.6.5 run and recorded (tests/contract/transcripts/aiproxy-0.6.jsonl), older tags read from source
(docs/upstream.md). Every method raises Unreachable or Refused; no message shows a key.
"""

from __future__ import annotations

import json
import time
import urllib.parse

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _fastgpt
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import HopError, LocalModelsError, Refused, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import NO_ROUTE
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project_options import BRIDGE_PATH, Endpoint

HOP = "AI Proxy"
ENABLED, DISABLED = 1, 2
CHAT, EMBEDDING = 1, 3  # ids of model configs' types
LIVE_SECONDS = 30  # other nodes, status changes and deleted configs take up to 10 s to reach the relay
LOAD_SECONDS = 300  # a cold model may take this long to say its first word

# What a row of a channel tells that is not a setting: sent back to nobody, compared with nothing.
READ_ONLY = frozenset((
    "id", "created_at", "accessed_at", "last_test_error_at", "test_at", "response_duration", "channel_tests", "balance",
    "balance_updated_at", "balance_threshold", "used_amount", "request_count", "retry_count", "status"))
# Shorter channel keys are placeholders such as "ollama", and would blacken ordinary words.
SHORTEST_SECRET = 8

WRONG_KEY = ("The admin key is wrong. It is ADMIN_KEY in AI Proxy's environment, and AIPROXY_API_TOKEN of FastGPT's compose file "
             "has to be the same")
GIVE_KEY = "Where FastGPT's compose file does not tell it, give it as fastgpt_models_admin_key (admin_key)"
SK_KEY = ("AI Proxy cuts sk- off every key it is shown, so an ADMIN_KEY that begins with sk- never fits. Choose another one for "
          "ADMIN_KEY and for AIPROXY_API_TOKEN of FastGPT's compose file")
NO_AIPROXY = "Does AI Proxy listen at this address?"


class Said:
    """What an answer of AI Proxy means. ok: bool. data: of a success. message: the server's words about a failure, or None
    where it is no answer of AI Proxy at all."""

    def __init__(self, ok, data=None, message=None):
        self.ok = ok
        self.data = data
        self.message = message

    @property
    def gone(self):
        """Whether it says that there is no such thing: with status 500, or 200 before v0.2.0 (reference, A3, A10)."""
        return not self.ok and "record not found" in (self.message or "")


def understand(status, parsed):
    """Said for an HTTP status (int) and a parsed body (None where it is no JSON). Pure; never raises.

    Until v0.1.8 failures come with status 200, so the body decides. A failure's `data` is not kept: FastGPT's bridge
    puts AI Proxy's admin key in there.
    """
    if not isinstance(parsed, dict):
        return Said(False)
    if isinstance(parsed.get("success"), bool):
        if parsed["success"] and status < 400:
            return Said(True, parsed.get("data"))
        return Said(False, message=str(parsed.get("message") or "no reason given"))
    error = parsed.get("error")
    if isinstance(error, dict) and "message" in error:
        return Said(False, message=str(error["message"]))
    if status == 200 and "object" in parsed:
        return Said(True, parsed)
    return Said(False)


class AIProxy:
    """One AI Proxy, reached at its own address.

    client: _http.Client whose headers carry the admin key. read_only: writing requests raise instead, so that check mode
    cannot write by accident. `requests` lists what was asked.
    """

    # FastGPT's bridge has another path for creating; and it loses the slash at the end of a path (reference of FastGPT, 5).
    create_path = "/api/channel/"

    def __init__(self, client, read_only=False):
        self.client = client
        self.read_only = read_only
        self.requests = []
        self._secrets = set()

    # -- channels

    def channels(self):
        """All channels (list of dict, as the server tells them), newest first."""
        rows = self.ask("GET", "/api/channels/all") or []  # null before v0.5.0
        self.keep_secret(*(row.get("key") for row in rows))
        return rows

    def channel(self, name):
        """The channel (dict) of this exact name, or None. Names are not unique there: two of them are an error."""
        return one_named(name, self.channels())

    def type_ids(self):
        """{name of a channel type, such as ollama: its id (int)}. Raises Refused for a wrong admin key."""
        return {meta["name"]: int(number) for number, meta in self.ask("GET", "/api/channels/type_metas").items()}

    def create(self, settings):
        """Create a channel from `settings` (dict, the API's names); its row (dict). The answer holds no id, so it is looked up."""
        self.keep_secret(settings.get("key"))
        self.ask("POST", self.create_path, settings, writes=True)
        row = self.channel(settings["name"])
        if row is None:
            raise HopError(HOP, self.client.base_url, "took the channel %s and does not list it" % settings["name"],
                           "Look at AI Proxy's log, and whether somebody else changes its channels right now")
        return row

    def update(self, row, changes):
        """Change settings (dict) of the channel `row` (dict, as channels() told it); the new row.

        A PUT resets whatever it does not mention, so everything that can be set is sent back. `status` it ignores.
        """
        self.keep_secret(changes.get("key"))
        settings = {name: value for name, value in row.items() if name not in READ_ONLY}
        settings.update(changes)
        return self.ask("PUT", "/api/channel/%d" % row["id"], settings, writes=True) or dict(row, **changes)

    def set_status(self, id, status):
        """Enable or disable a channel. status: ENABLED or DISABLED. Not live at once: see wait_until_live."""
        self.ask("POST", "/api/channel/%d/status" % id, {"status": status}, writes=True)

    def delete(self, id):
        """Delete a channel. Returns whether it was there."""
        said = self._try("DELETE", "/api/channel/%d" % id, writes=True)
        if said.gone:
            return False
        self._data(said)
        return True

    def test(self, id, model, timeout=LOAD_SECONDS):
        """Let AI Proxy ask a model (str) through a channel. None when it answered, else what went wrong (str).

        The HTTP status is always 200, and `success` is there twice; the inner one is the verdict (reference, A5).
        A chat test lasts as long as the model talks.
        """
        said = self._try("GET", "/api/channel/%d/test/%s" % (id, urllib.parse.quote(model, safe="")), timeout=timeout)
        if said.message is not None:
            return self._clean(said.message)
        result = self._data(said)
        if result["success"]:
            return None
        try:
            inner = json.loads(result.get("response") or "null")
        except ValueError:
            inner = None
        return self._clean(understand(result.get("code") or 500, inner).message or result.get("response") or "no reason given")

    # -- model configs

    def declared(self, models):
        """{model: type id (int)} for those of `models` (iterable of str) that have a model config."""
        found = self.ask("POST", "/api/model_configs/contains", {"models": sorted(models)}) or []
        return {config["model"]: config.get("type", 0) for config in found}

    def declare(self, kinds):
        """Make model configs. kinds: {model: CHAT or EMBEDDING}, only models that have none: saving replaces the whole row."""
        if kinds:
            self.ask("POST", "/api/model_configs/", [{"model": model, "type": kinds[model]} for model in sorted(kinds)], writes=True)

    # -- what is live

    def serving(self):
        """{model: set of ids of the channels that serve it now}, or None where the server cannot tell."""
        said = self._try("GET", "/api/models/sets")
        if said.message is None and not said.ok:
            return None  # an old server without this route answers 404 in plain text
        return {model: {channel["id"] for channels in sets.values() for channel in channels}
                for model, sets in (self._data(said) or {}).items()}

    def wait_until_live(self, expected, seconds=LIVE_SECONDS, clock=time.monotonic, sleep=time.sleep):
        """Wait until the relay serves what is expected: {channel id: set of models, empty for none at all}."""
        end = clock() + seconds
        while True:
            serving = self.serving()
            late = [] if serving is None else sorted(
                id for id, models in expected.items() if {model for model, ids in serving.items() if id in ids} != models)
            if not late:
                return
            if clock() >= end:
                raise HopError(HOP, self.client.base_url, "has stored channel %s and does not relay accordingly after %d s"
                               % (", ".join(str(id) for id in late), seconds), "Look at AI Proxy's log")
            sleep(0.5)

    # -- relay

    def models(self):
        """Names (list of str) of the models that are relayed."""
        return [entry["id"] for entry in self.ask("GET", "/v1/models")["data"] or []]

    def chat(self, model, text="hi", channel=None, timeout=LOAD_SECONDS):
        """What a model (str) answers (str, never empty) to a text. channel: id, to ask through this one only."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 16}
        answer = self._relayed("/v1/chat/completions", body, channel, timeout)
        message = answer["choices"][0].get("message") or {}
        said = message.get("content") or message.get("reasoning_content")
        if not said:
            raise HopError(HOP, self.client.base_url, "answered for %s with an empty text" % model)
        return said

    def embedding(self, model, text="hi", channel=None, timeout=LOAD_SECONDS):
        """The vector (list of float) of a text by an embedding model."""
        return self._relayed("/v1/embeddings", {"model": model, "input": text}, channel, timeout)["data"][0]["embedding"]

    def _relayed(self, path, body, channel, timeout):
        headers = {"Aiproxy-Channel": str(channel)} if channel is not None else None
        return self._data(self._try("POST", path, body, timeout=timeout, headers=headers))

    # -- requests

    def ask(self, method, path, body=None, writes=False):
        """`data` of a call. Raises Unreachable or Refused."""
        return self._data(self._try(method, path, body, writes))

    def health(self):
        """Raises unless AI Proxy answers; no key is needed for this."""
        self.ask("GET", "/api/status")

    def keep_secret(self, *keys):
        """Never show these channel keys (str or None) in a message."""
        self._secrets.update(key for key in keys if key and len(key) >= SHORTEST_SECRET)

    def _try(self, method, path, body=None, writes=False, timeout=None, headers=None):
        self._before(method, path, writes)
        self._answer = self.client.request(method, path, body, headers=headers, timeout=timeout)
        return understand(self._answer.status, self._answer.json())

    def _before(self, method, path, writes):
        if writes and self.read_only:
            raise LocalModelsError("%s %s would change AI Proxy, and this run only looks" % (method, path))
        self.requests.append("%s %s" % (method, path))

    def _data(self, said):
        if said.ok:
            return said.data
        raise self.client.refused(self._answer, None if said.message is None else self._clean(said.message),
                                  self._mend(self._answer.status, said.message))

    def _mend(self, status, message):
        if status == 401:
            key = self.client.headers.get("Authorization", "")
            return SK_KEY if key.startswith("Bearer sk-") else "%s. %s" % (WRONG_KEY, GIVE_KEY)
        if message is None:
            return NO_AIPROXY
        if message.startswith("model config not found"):
            return "Set DISABLE_MODEL_CONFIG=true in AI Proxy's environment, as FastGPT's official compose files do"
        return ""

    def _clean(self, text):
        return scrub(text, self._secrets)


class BridgedAIProxy(AIProxy):
    """AI Proxy behind FastGPT, which lets its root user through at /api/aiproxy and adds the admin key itself.

    fastgpt: _fastgpt.FastGPT. For places where AI Proxy's port leads nowhere: official files publish none.
    """

    create_path = "/api/createChannel"

    def __init__(self, fastgpt):
        super().__init__(fastgpt.client, fastgpt.read_only)
        self._fastgpt = fastgpt

    def declare(self, kinds):
        """One call a model: the path of the list ends with a slash, which the bridge loses. Before v0.3.1 there is no such
        call; FastGPT's official files then run AI Proxy with DISABLE_MODEL_CONFIG=true, which needs no model configs."""
        for model in sorted(kinds):
            said = self._try("POST", "/api/model_config/" + urllib.parse.quote(model, safe=""), {"type": kinds[model]}, writes=True)
            if said.message is not None:
                self._data(said)

    def _relayed(self, path, body, channel, timeout):
        raise LocalModelsError("FastGPT's bridge leads to AI Proxy's admin API only, not to its relay",
                               "Give fastgpt_models_aiproxy_url and fastgpt_models_admin_key (aiproxy_url and admin_key)")

    def _try(self, method, path, body=None, writes=False, timeout=None, headers=None):
        self._before(method, path, writes)
        self._answer = self._fastgpt.try_to_ask(method, BRIDGE_PATH + path, body, writes, timeout)
        said = self._answer
        return Said(said.ok, said.data, None if said.ok or said.kind == NO_ROUTE else said.message)

    def _data(self, said):
        if said.ok:
            return said.data
        words = self._clean(said.message or self._answer.message)
        raise Refused(HOP, self.client.base_url + BRIDGE_PATH, "(through FastGPT) answered %d: %s" % (self._answer.status, words),
                      self._mend(self._answer.status, said.message), status=self._answer.status)

    def _mend(self, status, message):
        if status == 401:
            return WRONG_KEY
        if any(word in (message or "") for word in ("ECONNREFUSED", "ENOTFOUND", "fetch failed")):
            return "FastGPT does not reach AI Proxy: check AIPROXY_API_ENDPOINT, and whether AI Proxy runs"
        return super()._mend(status, message)


def connect(endpoint, params, read_only=False):
    """AIProxy for a _project_options.Endpoint. params: the options `project_dir` and `timeout` (seconds)."""
    if endpoint.bridged:
        behind = Endpoint(endpoint.url[:-len(BRIDGE_PATH)], endpoint.secret, endpoint.found_in, stopped=endpoint.stopped)
        return BridgedAIProxy(_fastgpt.connect(behind, params, read_only))
    return direct(endpoint.url, endpoint.secret.value, params["timeout"], read_only)


def direct(url, admin_key, timeout=30, read_only=False):
    """AIProxy at a base URL. timeout: seconds without a byte."""
    client = Client(url, HOP, headers={"Authorization": "Bearer " + admin_key}, secrets=[admin_key], timeout=timeout)
    return AIProxy(client, read_only)


def one_named(name, rows):
    """The one of `rows` with this exact name, or None. Raises LocalModelsError for two."""
    found = [row for row in rows if row["name"] == name]
    if len(found) > 1:
        raise LocalModelsError("AI Proxy has %d channels with the name %s (ids %s)" % (
            len(found), name, ", ".join(str(row["id"]) for row in sorted(found, key=lambda row: row["id"]))),
            "Delete or rename all but one in FastGPT's AI Proxy page: nobody can tell which one is meant")
    return found[0] if found else None
