# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk over one-api and straight to Ollama: FastGPT's own key from within, each broken hop with its mend, nothing falsely broken."""

from __future__ import annotations

import json
import re
import types

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _verify
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import Refused
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_app import keep_apps
from ansible_collections.localmodels.fastgpt.plugins.module_utils._inside import Inside
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import Project, Service
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes import cause_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_direct import Directly
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_fastgpt import FastGPTHops
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_models import completed, streamed, words_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_one_api import ByOneAPI, Server, server_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_route import AIPROXY, DIRECT, ONE_API, route_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_table import verdict
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_walk import FAILED, OK, SKIPPED, Walk
from ansible_collections.localmodels.fastgpt.tests.unit.fastgpt_fake import FakeFastGPT, failed, said

KEY = "sk-" + "k" * 48
HTML = "<!doctype html><html></html>"
ONE_API_HOPS = ["host -> FastGPT", "FastGPT -> one-api", "FastGPT's key in one-api", "one-api -> Ollama (ollama)", "models in Ollama (ollama)",
                "channel ollama in one-api", "m:1 through one-api", "m:1 through one-api, streamed", "e:1 through one-api",
                "models in FastGPT", "m:1, tested by FastGPT", "e:1, tested by FastGPT", "app Local models"]
DIRECT_HOPS = ["host -> FastGPT", "FastGPT -> Ollama", "models in Ollama", "m:1 from Ollama", "m:1 from Ollama, streamed", "e:1 from Ollama"] + ONE_API_HOPS[9:]
MODELS = [{"name": "m:1", "type": "llm"}, {"name": "e:1", "type": "embedding"}]
STREAM = 'data: {"choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'
REFUSED = (7, "", "curl: (7) Failed to connect: Connection refused")
UNKNOWN = (6, "", "curl: (6) Could not resolve host")


def error(words, status):
    return status, json.dumps({"error": {"message": words + " (request id: 2026)", "type": "one_api_error"}}), "application/json"


class World:
    """Every server on the way, well until a test breaks one. inside: {URL: what curl within a container gets}: text, (rc, out, err); asked with
    a key also (status, body, type)."""

    def __init__(self, base, version="4.11.1", **variables):
        root = base[:-len("/v1")]
        self.variables, self.version = dict({"OPENAI_BASE_URL": base, "CHAT_API_KEY": KEY}, **variables), version
        self.listed = {"data": [{"id": "m:1"}, {"id": "e:1"}]}
        self.inside = {"http://one-api:3000/api/status": '{"success":true,"data":{}}', "http://one-api:3000/api/version": '{"error":{}}',
                       "http://ollama:11434/api/version": '{"version":"0.32.15"}',
                       "http://ollama:11434/api/tags": json.dumps({"models": [{"name": "m:1"}, {"name": "E:1"}]})}
        self.keyed = {base + "/models": lambda key, body: (200, json.dumps(self.listed), "application/json"),
                      base + "/chat/completions": self._chat, base + "/embeddings": lambda key, body: (
                          200, json.dumps({"data": [{"embedding": [0.5] * 64}]}), "application/json"),
                      root + "/models": lambda key, body: (200, HTML, "text/html")}
        self.channel = {"id": 7, "name": "ollama", "type": 30, "status": 1, "base_url": "http://ollama:11434", "models": "e:1,m:1"}
        self.service_state, self.hosts_one_api, self.commands, self.fed, self.keys = "running", True, [], [], []
        self.test, self.say = {"m:1": "hi", "e:1": {"vectors": [[0.1]]}}, "hi"
        self.server = FakeFastGPT({"m:1": {"type": "llm", "isActive": True, "name": "Model M"}, "e:1": {"type": "embedding", "isActive": True}})
        keep_apps(self.server.fastgpt(), [{"name": "Local models", "model": "m:1", "state": "present"}])
        self.server.ai_model_test = lambda query, body: (
            self.test[query["model"]] if hasattr(self.test[query["model"]], "status") else said(self.test[query["model"]]))
        self.real, self.server.request = self.server.request, self.request

    def _chat(self, key, body):
        if body.get("stream"):
            return 200, STREAM, "text/event-stream"
        return 200, json.dumps({"choices": [{"message": {"content": self.say if "max_tokens" in body else "at last"}}]}), "application/json"

    def request(self, method, path, body=None, headers=None, timeout=None):
        if path == "/api/v1/chat/completions":
            return types.SimpleNamespace(status=200, headers={}, body=json.dumps({
                "choices": [{"message": {"content": "hi"}}], "responseData": [{"moduleType": "chatNode", "model": "Model M"}]}).encode())
        if path.endswith("getInitData"):
            return said({"feConfigs": {"show_aiproxy": False}})
        return self.real(method, path, body, headers, timeout)

    def run(self, arguments, data=None, **dummy):
        self.commands.append(arguments)
        if data is None:
            found = self.inside[arguments[-1]]
            return found if isinstance(found, tuple) else (0, found, "")
        self.fed.append(data)
        if arguments[4] != "curl":
            return 127, "", 'exec: "%s": executable file not found in $PATH' % arguments[4]
        lines = re.findall(r'(?m)^([a-z-]+) = "(.*)"$', data)
        asked = {name: re.sub(r"\\(.)", r"\1", value) for name, value in lines if name in ("url", "data")}
        key = re.search(r"Bearer (\S*)\"", data).group(1)
        self.keys.append(key)
        answer = self.keyed[asked["url"]]
        answer = answer(key, json.loads(asked["data"]) if "data" in asked else None) if callable(answer) else answer
        if isinstance(answer[1], str) and answer[0] >= 200:
            return 0, "%s\n%d %s" % (answer[1], answer[0], answer[2]), ""
        return answer

    def project(self):
        app = Service("fastgpt", {"environment": self.variables, "container_name": "fastgpt-1"}, {}, [])
        app.state = "running"
        project = Project("/opt/fastgpt", "fastgpt", {"fastgpt": app}, [app], None, {})
        project.version = self.version
        return project

    def channels(self):
        if isinstance(self.channel, Exception):
            raise self.channel
        return [self.channel] if isinstance(self.channel, dict) else self.channel

    def walk(self, asks=True, ollamas=None):
        project, inside = self.project(), Inside(Docker(self.run, "/opt/fastgpt"))
        ollamas = ollamas or [{"name": "ollama", "url": "http://ollama:11434", "models": MODELS}]
        client, walk = self.server.fastgpt(read_only=True), Walk([KEY], asks)
        route = _verify.find_route(project, client, {"ollamas": ollamas}, inside)
        service = types.SimpleNamespace(name="one-api", container="one-api", state=self.service_state, runs=lambda: self.service_state == "running")
        server = Server(service if self.hosts_one_api else None, "/opt/one-api", (lambda: self) if self.channel else None)
        way = {ONE_API: lambda: ByOneAPI(walk, route, project, server, inside, ollamas, 5, False),
               DIRECT: lambda: Directly(walk, route, project, inside, MODELS, 5, False)}[route.path]()
        ends = FastGPTHops(walk, client, route, MODELS, "Local models", "Are you there?", 5, False)
        _verify.go(walk, ends, way)
        return walk, ends


def over_one_api(**variables):
    return World("http://one-api:3000/v1", **variables)


def straight(**variables):
    return World("http://ollama:11434/v1", **variables)


@pytest.mark.parametrize("world, hops", [(over_one_api, ONE_API_HOPS), (straight, DIRECT_HOPS)])
def test_all_is_well(world, hops):
    walk, ends = world().walk()
    assert [(hop["hop"], hop["status"]) for hop in walk.hops] == [(name, OK) for name in hops]
    assert ends.answer == "hi" and "(OPENAI_BASE_URL)" in walk.hops[0]["answered"]


def test_an_ollama_without_models_needs_no_channel():
    walk, dummy = over_one_api().walk(ollamas=[{"name": name, "url": "http://ollama:11434", "models": models}
                                               for name, models in (("ollama", MODELS), ("ollama-2", []))])
    assert walk.broken is None and [hop["answered"] for hop in walk.hops if hop["hop"] == "channel ollama-2 in one-api"] == [
        "there is none, and no model that it should serve"]


@pytest.mark.parametrize("world", [over_one_api, straight])
def test_the_key_is_fastgpts_own_and_is_in_no_list_of_processes(world):
    made = world()
    walk, dummy = made.walk()
    assert set(made.keys) == {KEY} and len(made.fed) == 4
    assert KEY not in str(made.commands) and KEY not in str(walk.hops)
    assert all(command[:4] == ["docker", "exec", "-i", "fastgpt-1"] for command in made.commands if command[-1] == "-")


def test_check_mode_asks_no_model():
    walk, dummy = over_one_api().walk(asks=False)
    assert [hop["hop"] for hop in walk.hops if hop["status"] == SKIPPED] == [ONE_API_HOPS[n] for n in (6, 7, 8, 10, 11, 12)]


def test_an_ollama_behind_another_address_is_told_by_its_answer():
    world = World("https://models.lan/v1")
    world.inside["https://models.lan/api/version"] = '{"version":"0.32.15"}'
    walk, dummy = world.walk()
    assert [hop["hop"] for hop in walk.hops] == DIRECT_HOPS and walk.broken is None


def sets(**values):
    return lambda world: vars(world).update(values)


def inside(url, answer):
    return lambda world: world.inside.update({url: answer})


def keyed(path, answer):
    return lambda world: world.keyed.update({"http://one-api:3000/v1" + path: answer})


def of_channel(**values):
    return lambda world: world.channel.update(values)


STATUS = "http://one-api:3000/api/status"
VERSION, TAGS = "http://ollama:11434/api/version", "http://ollama:11434/api/tags"


@pytest.mark.parametrize("broken, hop, words", [
    (lambda world: world.variables.update(OPENAI_BASE_URL="http://127.0.0.1:3000/v1"), 1, "a container that is the container itself"),
    (lambda world: world.variables.update(OPENAI_BASE_URL="'http://one-api:3000/v1'"), 1, "is no address"),
    (lambda world: (inside(STATUS, UNKNOWN)(world), sets(service_state="exited")(world)), 1, "The container of service one-api is exited"),
    (inside(STATUS, UNKNOWN), 1, "OPENAI_BASE_URL must name the service or container of one-api"),
    (inside(STATUS, REFUSED), 1, "its inner one (3000), not one that is published"),
    (inside(STATUS, HTML), 1, "http://one-api:3000 is not one-api"),
    (lambda world: world.variables.update(OPENAI_BASE_URL="http://one-api:3000"), 2, "a web page instead of JSON"),
    (keyed("/models", error("无效的令牌", 401)), 2, "one-api does not know FastGPT's key"),
    (keyed("/models", error("该令牌已过期", 401)), 2, "has expired or is switched off"),
    (keyed("/models", error("该令牌额度已用尽", 401)), 2, "is used up"),
    (lambda world: (keyed("/models", error("无效的令牌", 401))(world), world.variables.update(AIPROXY_API_TOKEN="left-behind")), 2,
     "FastGPT sends AIPROXY_API_TOKEN"),
    (lambda world: (world.variables.pop("CHAT_API_KEY"), sets(version="4.16.0")(world)), 2, "CHAT_API_KEY is empty"),
    (inside(VERSION, REFUSED), 3, "listens on 127.0.0.1 only"),
    (inside(VERSION, UNKNOWN), 3, "Run role fastgpt_compose"),
    (inside(VERSION, "404 page not found"), 3, "is not Ollama"),
    (inside(TAGS, '{"models":[{"name":"m:1"}]}'), 4, "it has not: e:1. Ollama does not have this model. Run role ollama_models"),
    (of_channel(models="m:1,x"), 5, "it lacks e:1; it also lists x"),
    (of_channel(base_url="http://ollama:11434/v1"), 5, "its address is http://ollama:11434/v1"),
    (of_channel(base_url="http://ollama:11434/"), 5, "its address ends with /"),
    (of_channel(type=1), 5, "its type is 1, not Ollama (30)"),
    (of_channel(status=2), 5, "it is switched off"),
    (of_channel(status=3), 5, "one-api itself has switched it off"),
    (of_channel(status=9), 5, "its status is 9"),
    (of_channel(name="other"), 5, "0 channels of that name"),
    (lambda world: sets(channel=[world.channel, world.channel])(world), 5, "2 channels of that name"),
    (sets(channel=Refused("one-api", "http://x", "answered 200: no", "The access token is wrong")), 5, "The access token is wrong"),
    (keyed("/chat/completions", error("当前分组 default 下对于模型 m:1 无可用渠道", 503)), 6, "No enabled channel of one-api serves"),
    (keyed("/chat/completions", error("该令牌无权使用模型：m:1", 403)), 6, "has a list of models"),
    (keyed("/chat/completions", error("user quota is not enough", 403)), 6, "is used up"),
    (keyed("/chat/completions", error("", 404)), 6, "it has no such model or no such path"),
    (keyed("/chat/completions", error("", 400)), 6, "an embedding model that was asked to chat"),
    (keyed("/chat/completions", error("", 500)), 6, "too little memory"),
    (keyed("/chat/completions", error('do request failed: Post "http://ollama:11434/api/chat": dial tcp: connect: connection refused', 500)), 6,
     "Nothing listens at the address by which one-api calls Ollama"),
    (keyed("/chat/completions", lambda key, body: (200, '{"choices":[{"message":{"content":""}}]}', "json")), 6,
     "The model's answer is empty"),
    (keyed("/chat/completions", lambda key, body: (200, "data: [DONE]\n\n", "text/event-stream") if "stream" in body else
           (200, '{"choices":[{"message":{"content":"hi"}}]}', "json")), 7, "one-api 0.6.8 lose streams"),
    (keyed("/chat/completions", (28, "", "curl: (28) Operation timed out")), 6, "curl: (28)"),
    (keyed("/embeddings", error("", 501)), 8, "or the other way round"),
    (lambda world: world.server.models["e:1"].update(isActive=False), 9, "e:1 is not active"),
    (sets(test={"m:1": failed(500, "Connection error."), "e:1": "x"}), 10, "systemEnv.oneapiUrl"),
    (sets(test={"m:1": failed(500, "无效的令牌 (request id: 1)"), "e:1": "x"}), 10, "one-api does not know FastGPT's key"),
    (sets(test={"m:1": failed(500, " (request id: 1)"), "e:1": "x"}), 10, "Ollama refused what one-api asked"),
    (lambda world: world.server.apps.clear(), 12, "no app of that name"),
])
def test_the_first_broken_hop_over_one_api_is_named_with_its_mend(broken, hop, words):
    world = over_one_api()
    broken(world)
    walk, dummy = world.walk()
    assert walk.broken and walk.broken["hop"] == ONE_API_HOPS[hop] and walk.broken["mend"]
    assert words in verdict(walk.broken)
    assert [one["status"] for one in walk.hops[:hop]] == [OK] * hop and [one["hop"] for one in walk.hops][:len(ONE_API_HOPS)] == ONE_API_HOPS
    assert FAILED not in [one["status"] for one in walk.hops[hop + 3:]]


def by_ollama(path, answer):
    return lambda world: world.keyed.update({"http://ollama:11434" + path: answer})


@pytest.mark.parametrize("broken, hop, words", [
    (lambda world: world.variables.update(OPENAI_BASE_URL="http://localhost:11434/v1"), 1, "such as http://ollama:11434/v1"),
    (inside(VERSION, REFUSED), 1, "listens on 127.0.0.1 only"),
    (inside(VERSION, UNKNOWN), 1, "role ollama starts it"),
    (inside(VERSION, HTML), 1, "is not Ollama"),
    (lambda world: (world.variables.update(OPENAI_BASE_URL="http://ollama:11434"),
                    by_ollama("/models", (404, "404 page not found", "text/plain"))(world)), 2, "Ollama's address with /v1 behind"),
    (by_ollama("/v1/models", REFUSED), 2, "listens on 127.0.0.1 only"),
    (sets(listed={"data": [{"id": "m:1"}]}), 2, "it has not: e:1"),
    (sets(listed={"data": None}), 2, "it has not: m:1, e:1"),
    (by_ollama("/v1/chat/completions", (500, '{"error":{"message":"model requires more system memory (9 GiB)"}}', "json")), 3, "too little memory"),
    (by_ollama("/v1/embeddings", (404, '{"error":{"message":"model \\"e:1\\" not found, try pulling it first"}}', "json")), 5, "Run role ollama_models"),
    (sets(test={"m:1": failed(500, "404 404 page not found\n"), "e:1": "x"}), 7, "Ollama's address with /v1 behind"),
    (sets(test={"m:1": failed(500, "Missing credentials. Please pass an `apiKey`"), "e:1": "x"}), 7, "CHAT_API_KEY is empty"),
])
def test_the_first_broken_hop_straight_to_ollama_is_named_with_its_mend(broken, hop, words):
    world = straight()
    broken(world)
    walk, dummy = world.walk()
    assert walk.broken and walk.broken["hop"] == DIRECT_HOPS[hop] and walk.broken["mend"]
    assert words in verdict(walk.broken) and [one["status"] for one in walk.hops[:hop]] == [OK] * hop


# -- never a false failure

def test_a_model_that_thinks_longer_than_the_short_answer_may_finish():
    world = over_one_api()
    world.say = ""
    assert world.walk()[0].broken is None


def test_thoughts_are_an_answer():
    assert completed('{"choices":[{"message":{"content":"","reasoning":"hm"}}]}') == "hm"
    assert streamed('data: {"choices":[{"delta":{"content":"","reasoning_content":"hm"}}]}\n\ndata: [DONE]\n') == "hm"
    assert streamed('data: null\n\ndata: 5\n\ndata: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n') == "a"
    assert [completed('{"choices":[{"message":%s}]}' % one) for one in ("null", '"hi"', "[]")] == [None] * 3
    assert streamed('data: {"choices":[]}\n\n') is None and streamed('data: {"error":{"message":"x"}}\n\ndata: [DONE]\n') is None
    assert completed("[]") is None and words_of("") == "" and words_of('{"error":"x"}') == "x"


def test_without_an_access_token_the_channels_are_skipped():
    world = over_one_api()
    world.channel = None
    walk, dummy = world.walk()
    assert [hop["hop"] for hop in walk.hops if hop["status"] == SKIPPED] == [ONE_API_HOPS[5]] and walk.broken is None


def test_a_one_api_elsewhere_is_not_asked_from_within():
    world = over_one_api()
    world.hosts_one_api = False
    walk, dummy = world.walk()
    assert [hop["hop"] for hop in walk.hops if hop["status"] == SKIPPED] == ONE_API_HOPS[3:5] and walk.broken is None


def test_a_container_without_curl_and_node_cannot_ask_with_a_key():
    world = over_one_api()
    missing = (127, "", "executable file not found in $PATH")
    world.keyed = dict.fromkeys(world.keyed, missing)
    walk, dummy = world.walk()
    assert [hop["hop"] for hop in walk.hops if hop["status"] == SKIPPED] == [ONE_API_HOPS[n] for n in (2, 6, 7, 8)] and walk.broken is None


def test_an_empty_answer_is_one_apis_own_limit():
    world = over_one_api()
    world.inside[STATUS] = ""
    assert [hop["status"] for hop in world.walk()[0].hops][1:3] == [SKIPPED, OK]


def test_a_fastgpt_without_administration_of_models_is_asked_for_its_app_only():
    world = over_one_api(version="4.8.11")
    world.server.absent = ("/api/admin/", "/api/core/ai/")
    walk, ends = world.walk()
    assert [hop["hop"] for hop in walk.hops if hop["status"] == SKIPPED] == ONE_API_HOPS[9:12] and walk.broken is None and ends.answer == "hi"
    assert "4.8.20" in walk.hops[9]["answered"]
    world.server.apps.clear()
    assert world.walk()[0].broken is None


def test_no_gateway_at_all_is_told():
    world = over_one_api(version="4.8.11")
    route = route_of(Service("fastgpt", {"environment": {}}, {}, []), "4.8.11", "/opt/fastgpt", [])
    walk = Walk()
    _verify.go(walk, FastGPTHops(walk, world.server.fastgpt(), route, MODELS, "", "?", 5, False), None)
    assert "OPENAI_BASE_URL of FastGPT is empty" in verdict(walk.broken)


def test_without_a_project_nobody_can_tell_the_way():
    world = over_one_api()
    route = _verify.find_route(None, world.server.fastgpt(), {}, None)
    assert route.path is None and _verify.way_of(Walk(), route, None, {"ollamas": [], "model_timeout": 1, "every_model": False}, None, None) is None
    assert _verify.find_route(None, world.server.fastgpt(), {"aiproxy_url": "http://x"}, None).path == AIPROXY


# -- several channels

def test_with_several_channels_the_key_names_the_one_that_is_meant():
    world = over_one_api()
    world.channel = [dict(world.channel, name=name, id=number) for number, name in ((1, "ollama-a"), (2, "ollama-b"))]
    world.walk(ollamas=[{"name": name, "url": "http://ollama:11434", "models": MODELS} for name in ("ollama-a", "ollama-b")])
    assert world.keys == [KEY] + [KEY + "-1"] * 3 + [KEY + "-2"] * 3


def test_a_key_whose_owner_may_name_no_channel_is_asked_as_it_is():
    world = over_one_api()
    world.channel = [dict(world.channel, name=name, id=number) for number, name in ((1, "ollama-a"), (2, "ollama-b"))]
    plain = world._chat
    world.keyed["http://one-api:3000/v1/chat/completions"] = lambda key, body: (
        plain(key, body) if key == KEY else error("普通用户不支持指定渠道", 403))
    walk, dummy = world.walk(ollamas=[{"name": name, "url": "http://ollama:11434", "models": MODELS} for name in ("ollama-a", "ollama-b")])
    assert walk.broken is None


# -- which one-api it is

def containers_run(tmp_path, name="one-api", aliases=()):
    def run(arguments, **dummy):
        if arguments[1] == "ps":
            assert "--all" in arguments and "label=com.docker.compose.project.working_dir=%s" % tmp_path in arguments
            return 0, "abc\n", ""
        return 0, json.dumps([{"Name": "/" + name, "Config": {"Env": [], "Image": "one-api"}, "State": {"Status": "exited"},
                               "NetworkSettings": {"Networks": {"n": {"Aliases": list(aliases), "IPAddress": ""}}}}]), ""
    return run


@pytest.mark.parametrize("base, name, aliases, key, found", [
    ("http://one-api:3000/v1", "one-api", (), KEY, True), ("http://gateway:3000/v1", "one-api", ("gateway",), KEY, True),
    ("http://192.0.2.9:3001/v1", "one-api", (), "sk-" + "c" * 48, True), ("http://elsewhere:3000/v1", "one-api", (), KEY, False),
])
def test_the_one_api_of_the_role_is_known_by_name_or_by_its_key(tmp_path, base, name, aliases, key, found):
    (tmp_path / ".env").write_text("ONE_API_CLIENT_KEY=%s\nONE_API_ACCESS_TOKEN=%s\n" % ("c" * 48, "a" * 32))
    world = World(base, CHAT_API_KEY=key)
    project, run = world.project(), containers_run(tmp_path, name, aliases)
    route = route_of(project.app, "4.11.1", "/opt/fastgpt", [])
    server = server_of(project, route, {"one_api_project_dir": str(tmp_path), "timeout": 5}, Docker(run), run)
    assert (server.service is not None, server.api is not None) == (found, found) and (not found or not server.service.runs())


def test_a_service_of_the_project_is_the_one_and_needs_a_token_for_its_channels():
    world = over_one_api()
    project = world.project()
    spec = {"environment": {}, "ports": [{"target": 3000, "published": "3001"}]}
    project.services["one-api"] = Service("one-api", spec, {}, [])
    route, params = route_of(project.app, "4.11.1", "/opt/fastgpt", []), {"timeout": 5, "one_api_project_dir": "/none"}
    assert server_of(project, route, params, None, None).api is None
    server = server_of(project, route, dict(params, one_api_access_token="a" * 32), None, None)
    assert server.service.name == "one-api" and server.api().client.base_url == "http://127.0.0.1:3001" and server.api().read_only


@pytest.mark.parametrize("words, path, mend", [
    # tests/fixtures/field-failures.yml: layers gateway-token, gateway-channel, fastgpt-model, network
    ("answered 403: 该令牌无权使用模型：m3e", "one_api", "Add the name to the token's list"),
    ("insufficient user quota: user quota is not enough", "one_api", "a token without limit still needs a user with quota"),
    ("当前分组 svip 下对于模型 gpt-5 无可用渠道", "one_api", "The owner of FastGPT's token"),
    ("當前分組 default 下對於模型 x 無可用渠道", "one_api", "exactly the names of local_models"),
    ("無效的令牌", "one_api", "CHAT_API_KEY of FastGPT must be a token"),
    ("Connection error.", "direct", "systemEnv.oneapiUrl"), ("Invalid URL", "one_api", "OPENAI_BASE_URL"),
    ("Invalid URL (POST /chat/completions) (request id: 1)", "one_api", "with /v1 behind"),
    ("model 'ghost:1b' not found", "direct", "Run role ollama_models"),  # direct-model-test-missing
    ("do request failed: Post \"http://x\": dial tcp: lookup no-such-host.invalid: no such host", "one_api", "Run role one_api"),
])
def test_causes_of_the_other_paths(words, path, mend):
    cause, told = cause_of(words, path)
    assert cause and mend in told and "AI Proxy" not in cause
