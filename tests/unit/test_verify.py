# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk over every hop: asked from inside, the first broken one named, nothing asked twice, no secret shown."""

from __future__ import annotations

import json
import types

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils._aiproxy import AIProxy
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import Refused
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_app import keep_apps
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Answer
from ansible_collections.localmodels.fastgpt.plugins.module_utils._inside import Inside
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify import go
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_aiproxy import ByAIProxy
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes import cause_of, trouble_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_fastgpt import FastGPTHops
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_route import AIPROXY, Route
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_table import table, verdict
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_walk import FAILED, OK, SKIPPED, Walk
from ansible_collections.localmodels.fastgpt.tests.unit.fastgpt_fake import FakeFastGPT, failed, said

NAMES = ["host -> FastGPT", "FastGPT -> AI Proxy", "admin key of AI Proxy", "AI Proxy -> Ollama (ollama)", "models in Ollama (ollama)",
         "channel ollama in AI Proxy", "m:1 through AI Proxy", "m:1 through AI Proxy, streamed", "e:1 through AI Proxy",
         "models in FastGPT", "m:1, tested by FastGPT", "e:1, tested by FastGPT", "app Local models"]
STREAM = 'data: {"choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'


class World:
    """Every server on the way, well until a test breaks one."""

    def __init__(self):
        self.models = [{"name": "m:1", "type": "llm"}, {"name": "e:1", "type": "embedding"}]
        self.inside = {"http://aiproxy:3000/api/status": '{"success":true}', "http://ollama:11434/api/version": '{"version":"0.32.15"}',
                       "http://ollama:11434/api/tags": json.dumps({"models": [{"name": "m:1"}, {"name": "E:1"}]})}
        self.channel = {"id": 7, "name": "ollama", "type": 30, "status": 1, "base_url": "http://ollama:11434/", "models": ["m:1", "e:1"]}
        self.chat, self.test, self.model_of_answer = "hi", {"m:1": "hi", "e:1": {"tokens": 1, "vectors": [[0.1]]}}, "Model M"
        self.commands, self.differ, self.gateway_state, self.relay_error = [], False, "running", None
        self.server = FakeFastGPT({"m:1": {"type": "llm", "isActive": True, "name": "Model M"}, "e:1": {"type": "embedding", "isActive": True}})
        keep_apps(self.server.fastgpt(), [{"name": "Local models", "model": "m:1", "state": "present"}])
        self.server.ai_model_test = lambda query, body: (
            self.test[query["model"]] if hasattr(self.test[query["model"]], "status") else said(self.test[query["model"]]))
        self.init = self.server.request
        self.server.request = self.request

    def request(self, method, path, body=None, headers=None, timeout=None):
        if path == "/api/v1/chat/completions":
            return types.SimpleNamespace(status=200, headers={}, body=json.dumps({
                "choices": [{"message": {"content": self.chat}}],
                "responseData": [{"moduleType": "chatNode", "model": self.model_of_answer}]}).encode())
        return self.init(method, path, body, headers, timeout)

    def run(self, arguments, **dummy):
        self.commands.append(arguments)
        url = arguments[-1]
        found = self.inside[url]
        return found if isinstance(found, tuple) else (0, found, "")

    def aiproxy(self):
        def relay(kind):
            def answer(model, channel=None, timeout=None):
                assert channel == 7
                if self.relay_error:
                    raise self.relay_error
                return "hi" if kind == "chat" else [0.5] * 64
            return answer
        client = types.SimpleNamespace(
            request=lambda *a, **k: types.SimpleNamespace(status=200, headers={"content-type": "text/event-stream"}, body=STREAM.encode()),
            refused=lambda answer, words: Refused("AI Proxy", "http://x", words))
        return types.SimpleNamespace(channels=lambda: [self.channel] if self.channel else [], chat=relay("chat"), embedding=relay("embedding"), client=client)

    def walk(self, asks=True, project=True):
        service = types.SimpleNamespace(container="aiproxy-1", name="aiproxy", state=self.gateway_state,
                                        runs=lambda: self.gateway_state == "running")
        told = types.SimpleNamespace(app=types.SimpleNamespace(container="fastgpt-1"), gateway=service, endpoint="http://aiproxy:3000",
                                     keys_differ=lambda: self.differ, folder="/opt/fastgpt") if project else None
        walk = Walk(["a-long-admin-key", "1234"], asks)
        way = ByAIProxy(walk, self.aiproxy, told, Inside(Docker(self.run, "/opt/fastgpt")),
                        [{"name": "ollama", "url": "http://ollama:11434", "models": self.models}], 5, False)
        ends = FastGPTHops(walk, self.server.fastgpt(read_only=True), Route(AIPROXY), self.models, "Local models", "Are you there?", 5, False)
        go(walk, ends, way)
        return walk, ends


def test_all_is_well():
    walk, ends = World().walk()
    assert [(hop["hop"], hop["status"]) for hop in walk.hops] == [(name, OK) for name in NAMES]
    assert walk.broken is None and ends.answer == "hi" and all(hop["ms"] is not None for hop in walk.hops)


def test_where_there_is_no_model_for_chats_there_need_be_no_app():
    world = World()
    world.models, world.channel["models"] = world.models[1:], ["e:1"]
    assert world.walk()[1].answer == "hi", "somebody made one"
    world.server.apps.clear()
    walk, dummy = world.walk()
    assert walk.broken is None and walk.hops[-1]["status"] == SKIPPED and "makes none without a model for chats" in walk.hops[-1]["answered"]


@pytest.mark.parametrize("flags, uses", [
    ({"isDefault": True}, "llm"), ({"isDefault": True, "isDefaultDatasetTextModel": True}, "llm, datasetTextLLM")])
def test_a_default_that_nobody_declares_any_more_is_tried_too(flags, uses):
    world = World()
    world.server.models["old:1"] = dict(flags, type="llm", isActive=True, provider="Ollama")
    world.test["old:1"] = failed(500, "The model `old:1` does not exist or you do not have access to it.")
    broken = world.walk()[0].broken
    assert broken["hop"] == "old:1, FastGPT's default for %s" % uses and "does not exist" in broken["answered"]
    assert "not among the declared models" in broken["cause"] and "default_for" in broken["mend"]
    world.test["old:1"] = "hi"
    assert world.walk()[0].broken is None, "a channel that somebody else made serves it"


def test_a_default_of_another_provider_costs_nobody_a_question():
    world = World()
    world.server.models["cloud"] = {"type": "llm", "isActive": True, "isDefault": True, "provider": "OpenAI"}
    assert [hop["hop"] for hop in world.walk()[0].hops] == NAMES


def test_an_ollama_without_models_needs_no_channel():
    world = World()
    world.models, world.channel = [], None
    world.server.apps.clear()
    assert world.walk()[0].broken is None
    world.models = [{"name": "m:1", "type": "llm"}]
    assert "has 0 channels of that name" in world.walk()[0].broken["answered"]


def test_containers_are_asked_from_within_and_no_secret_is_in_the_process_list():
    world = World()
    world.walk()
    assert [command[1:3] + command[-1:] for command in world.commands] == [
        ["exec", "fastgpt-1", "http://aiproxy:3000/api/status"], ["exec", "aiproxy-1", "http://ollama:11434/api/version"],
        ["exec", "aiproxy-1", "http://ollama:11434/api/tags"]]


def test_check_mode_asks_no_model():
    walk, ends = World().walk(asks=False)
    assert [hop["hop"] for hop in walk.hops if hop["status"] == SKIPPED] == [NAMES[n] for n in (6, 7, 8, 10, 11, 12)]
    assert ends.answer == "" and walk.broken is None


def test_without_a_project_the_inside_cannot_be_asked():
    walk, dummy = World().walk(project=False)
    assert [hop["hop"] for hop in walk.hops if hop["status"] == SKIPPED] == [NAMES[n] for n in (1, 3, 4)] and walk.broken is None


def no_gateway(world):
    world.server.request = lambda *a, **k: said({"feConfigs": {"show_aiproxy": False}})


def error(words, status=500):
    return Refused("AI Proxy", "http://x", "answered %d: %s" % (status, words), status=status)


def breaks(**values):
    return lambda world: vars(world).update(values)


def inside(url, answer):
    return lambda world: world.inside.update({url: answer})


VERSION, TAGS, STATUS = "http://ollama:11434/api/version", "http://ollama:11434/api/tags", "http://aiproxy:3000/api/status"
REFUSED = (7, "", "curl: (7) Failed to connect to ollama port 11434: Connection refused")


@pytest.mark.parametrize("broken, hop, words", [
    (no_gateway, 0, "AIPROXY_API_ENDPOINT or AIPROXY_API_TOKEN is empty"),
    (inside(STATUS, (6, "", "curl: (6) Could not resolve host: aiproxy")), 1, "does not know the host in http://aiproxy:3000"),
    (lambda world: (inside(STATUS, REFUSED)(world), breaks(gateway_state="exited")(world)), 1, "is exited"),
    (inside(STATUS, "<html>"), 1, "is not AI Proxy"),
    (inside(STATUS, (1, "", "Error response from daemon: Container fastgpt-1 is not running")), 1, "The container fastgpt-1 does not run"),
    (breaks(differ=True), 2, "FastGPT holds another key"),
    (inside(VERSION, REFUSED), 3, "listens on 127.0.0.1 only"),
    (inside(VERSION, (6, "", "curl: (6) Could not resolve host: ollama")), 3, "Run role fastgpt_compose"),
    (inside(VERSION, (28, "", "curl: (28) Connection timed out")), 3, "firewall"),
    (inside(VERSION, "404 page not found"), 3, "is not Ollama"),
    (inside(TAGS, '{"models":[{"name":"m:1"}]}'), 4, "it has not: e:1. Ollama does not have this model. Run role ollama_models"),
    (lambda world: world.channel.update(models=["m:1", "x"]), 5, "it lacks e:1; it also lists x"),
    (lambda world: world.channel.update(status=2), 5, "it is switched off"),
    (lambda world: world.channel.update(base_url="http://ollama:11434/v1"), 5, "its address is http://ollama:11434/v1"),
    (lambda world: world.channel.update(type=1), 5, "its type is 1"),
    (lambda world: world.channel.update(name="other"), 5, "0 channels of that name"),
    (breaks(relay_error=error("request error: Post \"http://xxx\": dial tcp: connect: connection refused")), 6, "Nothing listens at the address"),
    (breaks(relay_error=error("model requires more system memory (9 GiB)")), 6, "too little memory"),
    (lambda world: world.server.models["e:1"].update(isActive=False), 9, "e:1 is not active"),
    (lambda world: world.server.models["e:1"].update(type="llm"), 9, "e:1 is of type llm, not embedding"),
    (lambda world: world.server.models["m:1"].update(requestUrl="http://h/v1"), 9, "m:1 has a request address of its own (requestUrl)"),
    (lambda world: world.server.models["e:1"].update(requestAuth="k"), 9, "e:1 has a request key of its own (requestAuth)"),
    (lambda world: world.server.models.pop("m:1"), 9, "m:1 is not there"),
    (breaks(test={"m:1": failed(500, "fetch failed"), "e:1": "x"}), 10, "FastGPT cannot reach AI Proxy"),
    (breaks(test={"m:1": failed(500, "invalid token"), "e:1": "x"}), 10, "AI Proxy does not accept FastGPT's key"),
    (lambda world: world.server.apps.clear(), 12, "no app of that name"),
    (breaks(chat=""), 12, "The model's answer is empty"),
    (breaks(model_of_answer="gpt-4"), 12, "not with its model m:1 but with gpt-4"),
    (breaks(model_of_answer=""), 12, "took its default model without a word"),
])
def test_the_first_broken_hop_is_named_with_its_mend(broken, hop, words):
    world = World()
    broken(world)
    walk, dummy = world.walk()
    assert walk.broken["hop"] == NAMES[hop] and walk.broken["mend"]
    assert words in verdict(walk.broken) and verdict(walk.broken).startswith("First broken hop: %s. " % NAMES[hop])
    assert all(one["status"] == OK for one in walk.hops[:hop])
    later = [one["status"] for one in walk.hops[hop + 1:]]
    assert OK not in later[2:] and [one["hop"] for one in walk.hops][:len(NAMES)] == NAMES


@pytest.mark.parametrize("body", ['{"object":"x","choices":null}', '{"object":"x","choices":[]}', '{"object":"x"}', '{"success":true,"data":null}',
                                  '{"object":"x","choices":[{"message":"hi"}]}'])
def test_an_answer_of_another_form_is_a_broken_hop(body):
    """To find what sends such a thing is what the walk is for."""
    client = types.SimpleNamespace(headers={}, base_url="http://x", request=lambda *a, **k: Answer(200, {}, body.encode()))
    walk = Walk()
    assert not walk.hop("m through AI Proxy", "/v1/chat/completions", lambda: AIProxy(client).chat("m"))
    assert walk.broken["answered"].startswith("something that is no answer to that (") and "its version" in walk.broken["mend"]


def test_a_hop_after_a_broken_one_is_not_asked():
    world = World()
    world.inside[VERSION] = REFUSED
    world.walk()
    assert TAGS not in [command[-1] for command in world.commands] and "POST /api/core/app/list" not in world.server.asked[5:]


def test_a_wrong_password_is_tried_once_in_a_whole_walk():
    world = World()
    world.server.password, before = "another", world.server.logins
    walk, dummy = world.walk()
    assert walk.broken["hop"] == "models in FastGPT" and "is wrong" in walk.broken["mend"] and world.server.logins == before + 1
    assert walk.broken["asked"] == "http://fastgpt.test:3000/api/support/user/account/loginByPassword"
    assert "give the right one as fastgpt_models_root_password (root_password)" in walk.broken["mend"]


def test_secrets_are_not_shown_but_short_placeholders_do_not_blacken_words():
    world = World()
    world.inside[STATUS] = (7, "", "curl: (7) refused a-long-admin-key at 1234 Bearer abcdef")
    walk, dummy = world.walk()
    assert walk.broken["answered"] == "curl: (7) refused *** at 1234 Bearer ***"


def test_a_relay_that_does_not_know_a_new_channel_yet_is_asked_again(monkeypatch):
    world = World()
    problem = error("The model `m:1` does not exist or you do not have access to it.", 404)
    world.relay_error = problem
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        world.relay_error = None
    monkeypatch.setattr("ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_aiproxy.time.sleep", sleep)
    assert world.walk()[0].broken is None and len(slept) == 1


# -- asking from within

@pytest.mark.parametrize("tools, expected", [
    (["curl"], ["curl"]), (["wget"], ["curl", "wget"]), (["node"], ["curl", "wget", "node"]), ([], ["curl", "wget", "node"])])
def test_what_the_container_has_is_used(tools, expected):
    tried = []

    def run(arguments, **dummy):
        tried.append(arguments[3])
        if arguments[3] in tools:
            return 0, "{}", ""
        return 126, "", 'OCI runtime exec failed: exec: "%s": executable file not found in $PATH: unknown' % arguments[3]
    got = Inside(Docker(run, "/x")).get("c", "http://h")
    assert tried == expected and bool(got.trouble) == (not tools)


@pytest.mark.parametrize("rc, text, trouble", [
    (6, "curl: (6) x", "name"), (7, "curl: (7) x", "refused"), (28, "curl: (28) x", "time"), (52, "curl: (52) x", "closed"),
    (1, "wget: bad address 'x'", "name"), (1, "wget: can't connect to remote host (1.2.3.4): Connection refused", "refused"),
    (1, "Error: getaddrinfo ENOTFOUND x", "name"), (1, "Error response from daemon: No such container: x", "container"), (1, "x", "other")])
def test_troubles(rc, text, trouble):
    assert trouble_of(rc, text) == trouble


@pytest.mark.parametrize("words, mend", [
    # as recorded in tests/contract/transcripts
    ("The model `tiny:latest` does not exist or you do not have access to it.", "Run role fastgpt_models"),
    ("the upstream load is saturated, please try again later", "Run role fastgpt_models"),
    ("model 'ghost:1b' not found", "Run role ollama_models"),
    ("404 404 page not found\n", "must end neither in / nor in /v1"),
    ("Mismatch type ollama.errorResponse with value number \"at index 0: mismatched type with value\\n\\n\\t404 page not found", "without /v1"),
    ("timeout with deadline exceeded: Post \"http://x\": net/http: timeout awaiting response headers", "firewall"),
    ("unauthorized, no access token provided", "must be the same"),
    # as users met them, tests/fixtures/field-failures.yml
    ("model config not found: [gpt-4o]", "DISABLE_MODEL_CONFIG"),
    ("do request failed: Post ... proxyconnect tcp: dial tcp: lookup http on 127.0.0.11:53: no such host", "HTTP_PROXY"),
    ("\"bge-m3\" does not support chat", "Leave type"), ("x does not support tools", "Leave tools"),
    ("unable to load model ... unknown model architecture: 'qwen3'", "ollama_version"),
    ("server busy, please try again.  maximum pending requests exceeded", "OLLAMA_NUM_PARALLEL"),
    ("failed to encode response: json: unsupported value: NaN", "quantization"),
    ("LLM model response empty", "v0.1.3"),
])
def test_causes(words, mend):
    cause, told = cause_of(words)
    assert cause and mend in told


def test_the_table_has_one_line_a_hop():
    hops = World().walk(asks=False)[0].hops
    hops[0].update(status=FAILED, answered="line one\nline two " + "x" * 500)
    lines = table(hops)
    assert len(lines) == len(hops) and all("\n" not in line and len(line) < 260 for line in lines)
    assert lines[0].startswith("failed   host -> FastGPT ") and "line one line two" in lines[0]
    assert lines[6].startswith("skipped  m:1 through AI Proxy ")


def test_a_line_says_what_was_asked_what_came_back_and_how_long_it_took():
    walk, dummy = World().walk()
    walk.hops[1]["ms"] = 127
    assert " ".join(table(walk.hops)[1].split()) == "ok FastGPT -> AI Proxy 127 ms http://aiproxy:3000/api/status in fastgpt-1 -> it answers"
