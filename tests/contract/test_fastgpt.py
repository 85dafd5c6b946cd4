# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What FastGPT 4.11 and 4.16 answered, asked of the stand-in again, and read by our client.

LAB_FASTGPT=/path/to/fastgpt-{version} asks real ones instead: programs that serve FastGPT 4.11.1 or 4.16.0 as the stand-in does, told by
PORT, HOSTNAME, DEFAULT_ROOT_PSW and the variables of the gateway, and keep what they store for each HOME. Behind FastGPT stand AI Proxy
(its stand-in, or LAB_AIPROXY=/path/to/aiproxy) and an Ollama with two tiny models. What the recorder did between two recorded lines (log
in, add a model, change the gateway's address) is done again by the hooks; ids and notes of the lines tell what it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import sys
import time
import types

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt import FastGPT
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import DATA, ERROR, NO_ROUTE, chat_of, understand
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.tests.contract import replay, wire
from ansible_collections.localmodels.fastgpt.tests.contract.compare import Rules
from ansible_collections.localmodels.fastgpt.tests.contract.upstream import Upstream

OLD, NEW = FILES = ("fastgpt-4.11.jsonl", "fastgpt-4.16.jsonl")
VERSIONS = {OLD: "4.11.1", NEW: "4.16.0"}
REAL = os.environ.get("LAB_FASTGPT")  # may hold {version}
SERVERS = pathlib.Path(__file__).resolve().parent.parent / "lab" / "servers"
PASSWORD, ADMIN_KEY = "contract-password", "contract-admin-key"
ACCOUNT, MODEL = "/api/support/user/account/", "/api/core/ai/model/"
NO_CODE = "zzzzzz"  # the code the recorder sent where it meant a wrong one
SECRETS = ("<AIPROXY_ADMIN_KEY>", "<PASSWORD", "<ROOT_TOKEN", "<API_KEY", "wrong-token")
RULES = Rules(
    said=Rules.said + ("type", "provider", "isCustom", "isActive", "isDefault", "isDefaultDatasetTextModel", "maxContext", "maxResponse",
                       "contextToken", "show_aiproxy", "valid", "content", "finish_reason", "finishReason", "moduleType", "errorText",
                       "username", "errno", "syscall", "isRefreshed", "base_url", "models[]", "status", "event", "max_tokens", "num_ctx"),
    # Only the Ollama type is of interest; how other types are configured is not kept.
    # AI Proxy shows accessed_at once a channel was used; when that was written differs.
    # The recorded 4.16 ran with axios 1.21.1; the lock file of 4.16.0 has 1.18.1, which has one setting less.
    optional=("bridge-type-metas: data.*.configSchema", "*bridge-channel*: data[].accessed_at", "*bridge-channel*: data.accessed_at",
              "*bridge-create*: data.config.transitional.encodeBasicAuthUsername"),
    # The recorder cut the vectors; their length is checked by a hook.
    free=("*: data.vectors[]",),
    learn=re.compile(r"<[A-Z]+(_[A-Z0-9]+)*>|[0-9a-f]{24}"))


def environments(aiproxy, ollama):
    """{beginning of ids: environment of the gateway}; the recorder restarted FastGPT with each."""
    gateway = {"AIPROXY_API_ENDPOINT": aiproxy, "AIPROXY_API_TOKEN": ADMIN_KEY}
    direct = {"AIPROXY_API_ENDPOINT": "", "AIPROXY_API_TOKEN": "", "OPENAI_BASE_URL": "http://%s/v1" % ollama}
    return {
        "direct-": dict(direct, CHAT_API_KEY="ollama"),
        "directnokey-": direct,
        "gwdown-": dict(gateway, AIPROXY_API_ENDPOINT="http://127.0.0.1:9"),
        "gwtoken-": dict(gateway, AIPROXY_API_TOKEN="wrong-token"),
        "gwslash-": dict(gateway, AIPROXY_API_ENDPOINT=aiproxy + "/"),
        "gwv1-": dict(gateway, AIPROXY_API_ENDPOINT=aiproxy + "/v1"),
        "gwback-": gateway,
        "": gateway,
    }


class Recorder:
    """Calls that were made and not recorded."""

    def __init__(self, story):
        self.story, self.logins = story, 0

    def __call__(self, method, path, body=None, headers=None):
        return wire.send(self.story.server.url, method, path, headers or {}, body)

    def code(self, username="root"):
        return self("GET", ACCOUNT + "preLogin?username=" + username)["body"]["data"]["code"]

    def log_in(self):
        """A new login token, counted for another address than the story's own logins."""
        self.logins += 1
        body = {"username": "root", "password": hashlib.sha256(PASSWORD.encode()).hexdigest(), "code": self.code()}
        headers = {"X-Forwarded-For": "192.0.2.%d" % (self.logins // 5)}
        return self("POST", ACCOUNT + "loginByPassword", body, headers)["body"]["data"]["token"]

    def as_root(self, method, path, body=None):
        """A call with the newest token that the story knows."""
        tokens = [value for name, value in self.story.values.items() if name.startswith("<ROOT_TOKEN")]
        answer = self(method, path, self.story.words(body), {"token": tokens[-1]})
        assert answer["status"] == 200, answer
        return answer

    def fail_to_log_in(self, times):
        for _n in range(times):
            answer = self("POST", ACCOUNT + "loginByPassword", {"username": "root", "password": "x", "code": NO_CODE})
        return answer["status"]

    def add_model(self, name, kind, **metadata):
        self.as_root("PUT", MODEL + "update", {"model": name, "metadata": dict(metadata, type=kind, provider="Ollama", name=name, isActive=True)})

    def channel(self, base_url):
        self.as_root("PUT", "/api/aiproxy/api/channel/1", {"type": 30, "name": "ollama", "base_url": base_url, "models": ["tiny:latest"],
                                                           "model_mapping": {}, "key": "ollama", "priority": 1, "status": 1})


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """function(file) -> its Story, begun when it is first asked for."""
    begun, processes = {}, []

    def story_of(file):
        if file not in begun:
            begun[file] = begin(file, tmp_path_factory, processes)
        return begun[file]

    yield story_of
    for process in processes:
        process.stop()


def program(file):
    """argv of the FastGPT that a transcript is asked of; the test is skipped where no real one of its version was given."""
    if not REAL:
        return [sys.executable, str(SERVERS / "fastgpt.py")]
    path = REAL.replace("{version}", VERSIONS[file])
    if VERSIONS[file] not in path or not os.path.exists(path):
        pytest.skip("LAB_FASTGPT gives no %s" % VERSIONS[file])
    return [path]


def fastgpt(file, folder, **env):
    """A FastGPT of this transcript's version, not yet started."""
    return wire.Server(program(file), folder, ready="/api/common/system/getInitData", env=dict({
        "PORT": "{port}", "HOSTNAME": "127.0.0.1", "DEFAULT_ROOT_PSW": PASSWORD, "FASTGPT_LAB_VERSION": VERSIONS[file],
        "FASTGPT_LAB_RELOAD": "0"}, **env))


def begin(file, tmp_path_factory, processes):
    """A Story with its servers running; each of them is added to `processes`."""
    server = fastgpt(file, tmp_path_factory.mktemp("fastgpt"))
    real = os.environ.get("LAB_AIPROXY")
    upstreams = {port: Upstream().start() for port in ("11434", "11510")}
    aiproxy = wire.Server([real] if real else [sys.executable, str(SERVERS / "aiproxy.py")], tmp_path_factory.mktemp("aiproxy"), ready="/api/status",
                          env={"ADMIN_KEY": ADMIN_KEY, "LISTEN": "127.0.0.1:{port}", "DISABLE_MODEL_CONFIG": "true", "BILLING_ENABLED": "false"})
    processes += [server, aiproxy, *upstreams.values()]
    gateways = environments(aiproxy.url, upstreams["11434"].address)
    aiproxy.start()
    server.start(**gateways[""])
    values = {"127.0.0.1:" + port: upstream.address for port, upstream in upstreams.items()}
    values.update({"<PASSWORD>": PASSWORD, "<PASSWORD_SHA256>": hashlib.sha256(PASSWORD.encode()).hexdigest(),
                   "<AIPROXY_ADMIN_KEY>": ADMIN_KEY, "<ROOT_KEY>": "contract-root-key", "http://127.0.0.1:3811": aiproxy.url})
    story = replay.Story(file, server, RULES, values=values, real=bool(REAL))
    story.only_stand_in("the real one has no switch that adds a user", "*non-root")
    prepare(story, Recorder(story), gateways, file)
    return story


def prepare(story, recorder, gateways, file):
    current = [""]

    @story.before("*")
    def gateway_of_the_line(story, exchange):
        prefix = next(prefix for prefix in gateways if exchange.id.startswith(prefix))
        if gateways[prefix] != gateways[current[0]] and not exchange.id.startswith("login-"):
            current[0] = prefix
            story.server.restart(**gateways[prefix])

    @story.before("*")
    def token_of_the_line(story, exchange):
        for placeholder in re.findall(r"<\w*TOKEN\w*>", json.dumps(exchange.headers)):
            if placeholder not in story.values:
                story.values[placeholder] = recorder.log_in() if placeholder.startswith("<ROOT") else recorder(
                    "PUT", "/_lab/user", {"username": "somebody"})["body"]["data"]["token"]

    @story.before("login-code-overwritten")
    def a_second_code(story, exchange):
        story.values[exchange.body["code"]] = recorder.code()
        latest = next(other for other in replay.load(file) if other.id == "login-code-latest")
        story.values[latest.body["code"]] = recorder.code()

    @story.after("prelogin*")
    def know_the_code(story, exchange, answer):
        if answer["status"] == 200:
            story.values[exchange.response["body"]["data"]["code"]] = answer["body"]["data"]["code"]

    @story.before("login-code-lowercased")
    def the_known_code_in_small_letters(story, exchange):
        story.values.update({code.lower(): here.lower() for code, here in story.values.items() if code.lower() == exchange.body["code"]})

    @story.before("login*")
    def code_of_the_line(story, exchange):
        code = (exchange.body or {}).get("code", NO_CODE)
        if code != NO_CODE and code not in story.values:
            story.values[code] = recorder.code(exchange.body["username"])

    @story.before("login-rate-limited")
    def the_tenth_call(_story, _exchange):
        assert recorder.fail_to_log_in(1) == 500

    @story.before("login-after-window")
    def two_minutes_later(_story, _exchange):
        assert recorder.fail_to_log_in(11) == 429
        if REAL:
            time.sleep(121)
        else:
            recorder("PUT", "/_lab/clock", {"skip": 121})

    @story.before("tokenlogin-evicted")
    def eleven_logins(story, _exchange):
        for _n in range(10):
            recorder.log_in()
        story.values["<ROOT_TOKEN_3>"] = recorder.log_in()

    @story.before("bridge-create-channel")
    def as_many_channels_before(story, _exchange):
        for id in range(1, 6 if file == NEW else 1):
            recorder.as_root("POST", "/api/aiproxy/api/createChannel", {"type": 30, "name": "gone", "base_url": "http://127.0.0.1:9", "models": ["x"]})
            recorder.as_root("DELETE", "/api/aiproxy/api/channel/%d" % id)

    @story.before("app-list-no-token")
    def another_database(_story, _exchange):
        if file == NEW:  # no default was chosen there
            recorder.as_root("PUT", MODEL + "updateDefault", {})

    @story.before("model-test-channel-disabled-later")
    def the_cache_has_caught_up(story, exchange):
        deadline = time.monotonic() + 30
        while story.send(exchange)["status"] == 200:
            assert time.monotonic() < deadline, "the disabled channel still serves"
            time.sleep(0.5)

    @story.before("chat-channel-unreachable-detail")
    def ollama_is_gone(_story, _exchange):
        recorder.channel("http://127.0.0.1:9")

    @story.before("chat-mended")
    def ollama_is_back(_story, _exchange):
        recorder.channel("http://127.0.0.1:11434")

    @story.before("gwslash-bridge-channels")
    def one_channel_less(_story, _exchange):
        recorder.as_root("DELETE", "/api/aiproxy/api/channel/%d" % (8 if file == NEW else 3))

    @story.before("direct-model-test-missing")
    def a_model_ollama_lacks(_story, _exchange):
        recorder.add_model("ghost:1b", "llm")

    @story.before("direct-model-test-embedding")
    def embedding_model(_story, _exchange):
        recorder.add_model("tiny-embed:latest", "embedding")

    @story.before("direct-model-test-embedding-requesturl")
    def embedding_model_elsewhere(_story, _exchange):
        recorder.add_model("tiny-embed:latest", "embedding", requestUrl="http://127.0.0.1:11510/v1/embeddings")

    @story.after("*chat*", "*test*")
    def some_text_or_none(_story, exchange, answer):
        """What a model says is free, but not whether it says something."""
        for side in (exchange.response, answer):
            said_something(side)
            if "events" in side:
                side["events"] = [event_of(text) for text in side["events"]]

    @story.after("*test*embedding", "*test*requesturl")
    def padded_vectors(_story, _exchange, answer):
        data = answer["body"]["data"]
        assert isinstance(data, str) or [len(vector) for vector in data["vectors"]] == [1536]

    @story.after("*")
    def any_web_page(_story, exchange, answer):
        """What stands on an error page is of no interest, only that it is a page."""
        for side in (exchange.response, answer):
            if str(side.get("body")).startswith("<!DOCTYPE html>"):
                side["body"] = "<page>"

    @story.after("*config-json*")
    def look_into_the_text(_story, exchange, answer):
        for side in (exchange.response, answer):
            side["body"]["data"] = json.loads(side["body"]["data"])


def said_something(thing):
    """Replace each text of a model by one word, in place."""
    if isinstance(thing, dict):
        if thing.get("content") and isinstance(thing["content"], str):
            thing["content"] = "<text>"
        for below in thing.values():
            said_something(below)
    elif isinstance(thing, list):
        for below in thing:
            said_something(below)


def event_of(text):
    """A server-sent event as {event, data}."""
    found = dict(line.split(": ", 1) for line in text.split("\n"))
    if found["data"] == "[DONE]":
        return {"event": found.get("event", "") + " [DONE]"}
    data = json.loads(found["data"])
    said_something(data)
    return {"event": found.get("event", ""), "data": data}


@pytest.mark.parametrize("exchange", [case for file in FILES for case in replay.cases(file)])
def test_answers_as_recorded(stories, exchange):
    stories(exchange.file).check(exchange)


def meant(exchange):
    """(kind, what it says) as a person reads the recorded answer: the data of a success, the server's words of a failure."""
    body, events = exchange.response.get("body"), exchange.response.get("events")
    if events is not None:
        text = "".join(re.findall(r'"content":"((?:[^"\\\\]|\\\\.)*)"', "".join(event for event in events if "flowResponses" not in event)))
        return (DATA, text) if text else (ERROR, "request error" if any("errorText" in event for event in events) else "an empty answer")
    if isinstance(body, str):
        if body.startswith("event: error"):
            return ERROR, "appId is empty"
        return (NO_ROUTE, "no such route") if exchange.response["status"] == 404 else (ERROR, "")
    if "choices" in body:
        said = body["choices"][0]["message"]["content"]
        steps = [step.get("errorText", "") for step in body.get("responseData", [])]
        return (DATA, body) if said and isinstance(said, str) else (ERROR, body.get("error") or "".join(steps) or "an empty answer")
    if "errno" in body:
        return ERROR, body["code"]
    if body.get("success") is False or "statusText" in body and body["code"] != 200:
        return ERROR, body["message"]
    return DATA, body.get("data")


EVERY_LINE = [pytest.param(exchange, id=exchange.name) for file in FILES for exchange in replay.load(file)]


@pytest.mark.parametrize("exchange", EVERY_LINE)
def test_the_client_understands_it(exchange):
    """Also the lines that are not replayed."""
    said, (kind, words) = understand(*exchange.raw()), meant(exchange)
    assert said.kind == kind
    if kind == DATA:
        assert said.data == words
        return
    assert words in said.message
    nobody = types.SimpleNamespace(value="<PASSWORD>", found_in="a test", load=lambda: None)
    problem = FastGPT(Client("http://fastgpt:3000", "FastGPT"), nobody, nobody).refused(exchange.path, said)
    assert " ".join(words.split())[:200] in str(problem)
    for text in (str(problem), repr(said), repr(said.data)):
        assert not [secret for secret in SECRETS if secret in text]


DETAILED = [case for case in EVERY_LINE if isinstance(case.values[0].response.get("body"), dict) and "responseData" in case.values[0].response["body"]]


@pytest.mark.parametrize("exchange", DETAILED)
def test_the_client_sees_which_model_answered(exchange):
    chat = chat_of(exchange.response["body"])
    assert chat.ok == bool(chat.text) and bool(chat.error) != chat.ok
    known = exchange.file == NEW or chat.ok and exchange.id != "chat-unknown-model"
    assert chat.model == ("tiny:latest" if known else "")
