# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one-api 0.6 answered, asked of the stand-in again, and read by our client.

LAB_ONE_API=/path/to/one-api asks a real server instead, which listens on all addresses: it has no setting for that. What the
recorder did between two recorded lines is done again by the hooks.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import sys
import time

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _http, _one_api
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import Refused
from ansible_collections.localmodels.fastgpt.tests.contract import replay, wire
from ansible_collections.localmodels.fastgpt.tests.contract.compare import Rules
from ansible_collections.localmodels.fastgpt.tests.contract.upstream import Upstream

FILE = "one-api-0.6.jsonl"
STAND_IN = pathlib.Path(__file__).resolve().parent.parent / "lab" / "servers" / "one_api.py"
REAL = os.environ.get("LAB_ONE_API")
TOKENIZERS = ("9b5ad71b2ce5302211f9c61530b329a4922fc6a4", "fb374d419588a4632f3f557e76b4b70aebbca790")
SECRETS = {"<ACCESS_TOKEN>": "accessTokenOfTheFirst00000000001", "<ROOT_TOKEN>": "rootTokenOfTheFirst0000000000000000000000000001",
           "<ACCESS_TOKEN_B>": "accessTokenOfTheSecond0000000001", "<ROOT-TOKEN-WITH-DASHES>": "root-token-with-dashes-in-it",
           "<ACCESS_TOKEN_PG>": "accessTokenOfPostgres00000000001", "<ROOT_TOKEN_PG>": "rootTokenOfPostgres00000001",
           "<ACCESS_TOKEN of 40 characters>": "accessTokenOfFortyCharacters000000000001",
           "<ACCESS_TOKEN_LATER>": "accessTokenThatCameTooLate000001", "<CHANNEL_KEY>": "contract-channel-key",
           "<CHANNEL_KEY_2>": "contract-second-key", "<NEW_ROOT_PASSWORD>": "contract-root-pw", "<ADMIN_PASSWORD>": "contract-admin-pw"}
TALK = ("channel-test-no-model", "channel-test-model*", "channel-test-alias", "channel-test-slash-name", "channel-test-not-in-channel",
        "channel-test-substring", "*channel-test-just-after-create", "real-channel-test-chat", "real-channel-test-type-50")
RULES = Rules(
    said=Rules.said + ("id", "name", "type", "status", "models", "group", "base_url", "key", "model_mapping", "priority", "weight", "config",
                       "unlimited_quota", "expired_time", "remain_quota", "subnet", "role", "username", "display_name", "modelName", "object",
                       "finish_reason", "param", "system_name", "model", "owned_by", "root"),
    volatile=Rules.volatile + ((re.compile(r"request id: \d+"), "request id: <n>"), (re.compile(r"chatcmpl-\w+"), "chatcmpl-<id>"),
                               (re.compile(r"lookup (\S+) on [\d.]+:53"), r"lookup \1 on <resolver>")),
    # What a channel test that succeeds says are the model's words; options are many, and few are of interest.
    free=tuple(glob + ": message" for glob in TALK) + ("options-list: data[].key",),
    learn=re.compile(r"<TOKEN_KEY_\w+>|<ACCESS_TOKEN_B\d>"))

HERE, CAPPED, EMBEDDING = "http://127.0.0.1:11434", "http://127.0.0.1:18434/q", "http://127.0.0.1:11520"
STUB, DEAD = "http://127.0.0.1:18434", "http://127.0.0.1:9"
BROKEN = {"bad-down": DEAD, "bad-html": STUB + "/html", "bad-openai-404": STUB + "/oai", "bad-500": STUB + "/s/500",
          "bad-401": STUB + "/s/401", "bad-404": STUB + "/s/404", "bad-429": STUB + "/s/429", "bad-with-v1": HERE + "/v1",
          "bad-trailing-slash": CAPPED + "/", "bad-no-scheme": "127.0.0.1:11434", "bad-unresolvable": "http://no-such-host.invalid:11434"}


def stories(tmp_path_factory):
    """{part of the recorded `version`: server}: the recorder ran these instances. Those on PostgreSQL are the stand-in's only."""
    instances = {
        "alpha (SQLite)": {"INITIAL_ROOT_ACCESS_TOKEN": SECRETS["<ACCESS_TOKEN>"], "INITIAL_ROOT_TOKEN": SECRETS["<ROOT_TOKEN>"]},
        "empty tiktoken files": {"INITIAL_ROOT_ACCESS_TOKEN": SECRETS["<ACCESS_TOKEN_B>"],
                                 "INITIAL_ROOT_TOKEN": SECRETS["<ROOT-TOKEN-WITH-DASHES>"]},
        "MEMORY_CACHE_ENABLED": {"INITIAL_ROOT_ACCESS_TOKEN": SECRETS["<ACCESS_TOKEN_PG>"], "INITIAL_ROOT_TOKEN": SECRETS["<ROOT_TOKEN_PG>"],
                                 "MEMORY_CACHE_ENABLED": "true", "SYNC_FREQUENCY": "5", "SQL_DSN": "postgres://nobody@127.0.0.1:9/none"},
        "40 characters": {"INITIAL_ROOT_ACCESS_TOKEN": SECRETS["<ACCESS_TOKEN of 40 characters>"],
                          "INITIAL_ROOT_TOKEN": SECRETS["<ROOT_TOKEN_PG>"], "SQL_DSN": "postgres://nobody@127.0.0.1:9/none"}}
    for words, env in instances.items():
        if not REAL or "SQL_DSN" not in env:
            yield words, server(tmp_path_factory.mktemp("one-api"), **env)


def server(folder, **env):
    """A one-api, not yet started; `env` on top of what every one gets."""
    for name in TOKENIZERS:
        (folder / name).touch()
    return wire.Server([REAL] if REAL else [sys.executable, str(STAND_IN)], folder, ready="/api/status",
                       env=dict({"PORT": "{port}", "LAB_LISTEN": "127.0.0.1", "TIKTOKEN_CACHE_DIR": "{state}"}, **env))


class Admin:
    """Calls of the recorder that were not recorded."""

    def __init__(self, story):
        self.story = story

    def __call__(self, method, path, body=None, token="<ACCESS_TOKEN>", **headers):
        answer = self.any(method, path, body, **dict({"Authorization": token}, **headers))
        assert answer["body"].get("success"), answer
        return answer["body"].get("data")

    def any(self, method, path, body=None, **headers):
        return wire.send(self.story.server.url, method, path, self.story.words(headers), self.story.words(body))

    def channel(self, name, base_url, models, token="<ACCESS_TOKEN>", mapping=None, **more):
        self("POST", "/api/channel/", dict({"type": 30, "name": name, "key": "ollama", "base_url": base_url, "models": models,
                                            "model_mapping": json.dumps(mapping) if mapping else ""}, **more), token)

    def put(self, id, token="<ACCESS_TOKEN>", **changes):
        self("PUT", "/api/channel/", dict(changes, id=id), token)

    def chat(self, model, key="<ROOT_TOKEN>"):
        return self.any("POST", "/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": "hi"}]},
                        Authorization="Bearer " + key)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    servers = dict(stories(tmp_path_factory))
    upstreams = {port: Upstream().start() for port in ("11434", "18434", "11520")}
    values = dict(SECRETS, **{"127.0.0.1:" + port: upstream.address for port, upstream in upstreams.items()})
    values["127.0.0.1:18434/oai"] = upstreams["18434"].address + "/openai"
    for one in servers.values():
        one.start()
    story = replay.Story(FILE, None, RULES, values=values, real=bool(REAL))
    story.only_stand_in("needs a PostgreSQL", "pg-*")
    prepare(story, servers)
    yield story
    for process in list(servers.values()) + list(upstreams.values()):
        process.stop()


def prepare(story, servers):
    admin = Admin(story)

    @story.before("*")
    def its_instance(story, exchange):
        story.server = next(one for words, one in servers.items() if words in exchange.version)

    @story.after("*")
    def keep_the_session(story, exchange, answer):
        named = re.match(r"session=(<\w+>)", exchange.response["headers"].get("set-cookie", ""))
        if named:
            story.values[named.group(1)] = answer["headers"]["set-cookie"].partition(";")[0].partition("=")[2]

    @story.before("channel-list-p0")
    def more_than_a_page(_story, _exchange):
        for i in range(7):
            admin.channel("fill-%d" % i, CAPPED, "tiny:latest,alias-tiny", mapping={"alias-tiny": "tiny:latest"}, priority=10, weight=5,
                          system_prompt="", status=2)

    @story.before("channel-list-after-cleanup")
    def clean_up(_story, _exchange):
        remove_others()

    def remove_others():
        for channel in admin("GET", "/api/channel/search?keyword="):
            if channel["id"] > 1:
                admin("DELETE", "/api/channel/%d" % channel["id"])

    @story.before("channel-test-no-model")
    def models_of_the_first(_story, _exchange):
        mapping = json.dumps({"alias-tiny": "tiny:latest", "hf.co/x/y:z": "tiny:latest"})
        admin.put(1, models="tiny:latest,alias-tiny,hf.co/x/y:z,ghost:7b", model_mapping=mapping, priority=0)

    @story.before("channel-test-down")
    def broken_channels(_story, _exchange):
        for name, base_url in BROKEN.items():
            admin.channel(name, base_url, name, mapping={name: "tiny:latest"}, status=2)

    @story.before("relay-chat-channel-disabled")
    def disable(_story, _exchange):
        admin.put(1, status=2)

    @story.before("relay-chat-channel-enabled")
    def enable(_story, _exchange):
        admin.put(1, status=1)

    @story.before("relay-upstream-down")
    def enable_the_broken_ones(_story, _exchange):
        for id in range(2, 2 + len(BROKEN)):
            admin.put(id, status=1)

    @story.before("failover-retry3-tiers-1")
    def two_hosts(_story, _exchange):
        admin.channel("fo-dead", DEAD, "fo", mapping={"fo": "tiny:latest"}, priority=10)
        admin.channel("fo-good", CAPPED, "fo", mapping={"fo": "tiny:latest"})

    @story.instead("failover-retry3-tiers-*")
    def one_in_four_fails(story, exchange):
        answers = (story.send(exchange) for _time in range(20))  # a retry may meet the dead host again, by chance
        return next(answer for answer in answers if answer["status"] == 200)

    @story.before("channel-get-after-failure-*")
    def one_failed_call(_story, exchange):
        name = "bad-" + exchange.id.rpartition("-")[2]
        assert admin.chat(name)["status"] >= 400
        if name == "bad-401":  # in the background
            wait_until(lambda: admin("GET", "/api/channel/6")["status"] == 3)

    @story.before("relay-chat-empty-tiktoken-files")
    def a_channel_and_a_token(story, _exchange):
        admin.channel("o", CAPPED, "tiny:latest", "<ACCESS_TOKEN_B>")
        story.values["<TOKEN_KEY_B1>"] = token("b1", "<ACCESS_TOKEN_B>")

    def token(name, access_token="<ACCESS_TOKEN>", unlimited=True, **headers):
        return admin("POST", "/api/token/", {"name": name, "expired_time": -1, "unlimited_quota": unlimited}, access_token, **headers)["key"]

    @story.before("access-token-rotate-by-token")
    def rotate(story, _exchange):
        story.values["<ACCESS_TOKEN_B3>"] = admin("GET", "/api/user/token", token="<ACCESS_TOKEN_B2>")

    @story.before("relay-chat-user-without-quota")
    def a_token_of_a_common_user(story, _exchange):
        story.values["<TOKEN_KEY_B2>"] = token("b2", Cookie="session=<SESSION_B4>")

    @story.before("login-rate-limited")
    def many_logins(_story, _exchange):
        use_up(21, "POST", "/api/user/login", {"username": "root", "password": "wrong"})

    @story.before("api-rate-limited-status")
    def many_calls(_story, _exchange):
        use_up(481, "GET", "/api/status")

    def use_up(most, *request):
        assert any(admin.any(*request)["status"] == 429 for _time in range(most))

    @story.before("restart-initial-access-token-ignored")
    def other_initial_values(story, _exchange):
        story.server.restart(INITIAL_ROOT_ACCESS_TOKEN=SECRETS["<ACCESS_TOKEN_LATER>"], INITIAL_ROOT_TOKEN=SECRETS["<ROOT_TOKEN>"])

    @story.before("pg-relay-after-sync")
    def the_cache_has_caught_up(_story, _exchange):
        wait_until(lambda: admin.chat("tiny:latest", "<ROOT_TOKEN_PG>")["status"] == 200)

    @story.before("pg-channel-search-case")
    def enable_again(_story, _exchange):
        admin.put(1, "<ACCESS_TOKEN_PG>", status=1)

    @story.before("real-channel-create")
    def only_the_first(_story, _exchange):
        remove_others()

    @story.before("relay-chat-token-only-name")
    def tokens_without_quota(story, _exchange):
        for row in admin("GET", "/api/token/search?keyword="):
            if row["id"] > 2:
                admin("DELETE", "/api/token/%d" % row["id"])
        story.values["<TOKEN_KEY_ONLY_NAME>"] = admin("POST", "/api/token/", {"name": "only-name"})["key"]
        story.values["<TOKEN_KEY_NO_QUOTA>"] = token("no-quota", unlimited=False)


def wait_until(true, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not become true within %d s" % seconds
        time.sleep(0.3)


@pytest.mark.parametrize("exchange", replay.cases(FILE))
def test_answers_as_recorded(story, exchange):
    story.check(exchange)


class Recorded:
    """In place of _http.Client: the recorded answer to whatever is asked."""

    base_url, hop, secrets = "http://one-api:3000", _one_api.HOP, (SECRETS["<ACCESS_TOKEN>"],)
    refused = _http.Client.refused

    def __init__(self, exchange):
        status, headers, body = exchange.raw()
        self.headers, self.answer = {}, _http.Answer(status, headers, body)

    def request(self, method, path, body=None, headers=None, timeout=None):
        return self.answer


class Impatient:
    """A clock on which waiting is over at once."""

    now = 0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def reader(exchange):
    """The client's way to ask what a recorded line asks: function(OneAPI)."""
    path = exchange.path.partition("?")[0]
    calls = {("GET", "/api/status"): lambda one: one.status(), ("GET", "/api/user/self"): lambda one: one.user(),
             ("POST", "/api/user/login"): lambda one: one.login("contract"), ("GET", "/api/user/token"): lambda one: one.new_access_token("c"),
             ("PUT", "/api/user/self"): lambda one: one.set_password("contract"), ("GET", "/api/option/"): lambda one: one.options(),
             ("PUT", "/api/option/"): lambda one: one.set_option("a", "b"), ("GET", "/api/channel/search"): lambda one: one.channels(),
             ("PUT", "/api/channel/"): lambda one: one.update_channel(1, {}), ("GET", "/api/token/search"): lambda one: one.tokens(),
             ("POST", "/api/token/"): lambda one: one.create_token({}), ("PUT", "/api/token/"): lambda one: one.update_token({}, {})}
    if exchange.method == "DELETE" and re.fullmatch(r"/api/(channel|token)/\d+", path):
        return (lambda one: one.delete_channel(1)) if "channel" in path else (lambda one: one.delete_token(1))
    return calls.get((exchange.method, path), lambda one: one.ask(exchange.method, exchange.path))


ALL = [pytest.param(exchange, id=exchange.name) for exchange in replay.load(FILE) if "events" not in exchange.response]


@pytest.mark.parametrize("exchange", ALL)
def test_the_client_understands_each_recorded_answer(exchange):
    """Also those that no test replays. Streams are left out: the client never asks for one."""
    clock, body, status = Impatient(), exchange.response["body"], exchange.response["status"]
    body = body if isinstance(body, dict) else None  # no JSON
    one = _one_api.OneAPI(Recorded(exchange), clock=clock, sleep=clock.sleep)
    if body is not None and body.get("success") is True:
        agrees(exchange, reader(exchange)(one), body.get("data"))
    elif status == 200 and body is not None and "object" in body:
        assert one.ask(exchange.method, exchange.path) == body
    elif exchange.path == "/api/user/login" and status == 200:
        assert one.login("contract") is None
    elif exchange.method == "DELETE" and body is not None and body.get("message") == "record not found":
        assert one.delete_token(1) is False
    else:
        with pytest.raises(Refused) as caught:
            reader(exchange)(one)
        assert caught.value.status == status
        told(exchange, str(caught.value), body)
        assert status != 429 or exchange.response["body"] or clock.now == (0 if "login" in exchange.path else _one_api.LIMIT_SECONDS)


def agrees(exchange, result, data):
    """What the client made of a success, for the calls whose result people rely on."""
    path = exchange.path.partition("?")[0]
    if path == "/api/user/login":
        assert result == re.match("[^;]*", exchange.response["headers"]["set-cookie"]).group()
    elif path == "/api/option/" and exchange.method == "GET":
        assert result["RegisterEnabled"] == "true" and len(result) == len(data)
    elif path == "/api/channel/" and exchange.method == "PUT":
        assert "key" not in result and result["models"] == data["models"]
    elif path.startswith("/api/token/") and isinstance(data, dict) and exchange.method == "POST":
        assert result == data and result["key"]
    elif exchange.method == "GET" and path not in ("/api/token/search", "/api/user/token"):
        assert result == data


def told(exchange, said, body):
    """An error tells what the server said; and where it said nothing of use, what to do."""
    if exchange.response["body"] == "" and exchange.response["status"] == 429:
        assert "too many requests" in said and ("20 logins" if "login" in exchange.path else "480 requests") in said
    elif body is None:
        assert "Does one-api listen at this address" in said
    else:
        words = body["message"] if "message" in body else body["error"]["message"]
        assert " ".join(words.split())[:200] in said
