# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AI Proxy 0.6 answered, asked of the stand-in again, and read by our client.

LAB_AIPROXY=/path/to/aiproxy asks a real server instead. What the recorder did between two recorded lines (make a channel,
set an option) is done again by the hooks; the notes and answers of the lines tell what it was.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import re
import sys
import time

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _aiproxy, _http
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import HopError, Refused
from ansible_collections.localmodels.fastgpt.tests.contract import replay, wire
from ansible_collections.localmodels.fastgpt.tests.contract.compare import Rules
from ansible_collections.localmodels.fastgpt.tests.contract.upstream import Upstream

FILE = "aiproxy-0.6.jsonl"
STAND_IN = pathlib.Path(__file__).resolve().parent.parent / "lab" / "servers" / "aiproxy.py"
REAL = os.environ.get("LAB_AIPROXY")
ADMIN_KEY = "contract-admin-key"
RULES = Rules(
    said=Rules.said + ("name", "type", "status", "priority", "weight", "base_url", "key", "models[]", "sets[]", "model", "mode", "total",
                       "actual_model", "owner", "owned_by", "channel_name", "channel_type", "max_error_rate", "skip_tls_verify",
                       "enabled_no_permission_ban", "finish_reason", "object", "group", "value"),
    volatile=Rules.volatile + ((re.compile(r"lookup (\S+) on [\d.]+:53"), r"lookup \1 on <resolver>"),),
    # Maps from a model's name: which models are live depends on lines that are left out.
    open=("*models-sets*: data", "sets-models-sets: data", "failover-weights: data"),
    # Only the Ollama type is of interest; how other types are configured is not kept.
    optional=("type-metas: data.*.configSchema",),
    free=("failover-weights: data.*[].default[].name", "sets-models-sets: data.*[].*[].name"),
    learn=re.compile(r"<TOKEN_KEY_\w+>"))


def stories(tmp_path_factory):
    """{recorded `version`: server}: the recorder ran three instances, with these environments."""
    environments = {
        "model configs required": {"ADMIN_KEY": ADMIN_KEY},
        "FastGPT compose environment": {"ADMIN_KEY": ADMIN_KEY, "DISABLE_MODEL_CONFIG": "true", "RETRY_TIMES": "3",
                                        "BILLING_ENABLED": "false"},
        "starts with sk-": {"ADMIN_KEY": "sk-" + ADMIN_KEY, "DISABLE_WEB": "true"}}
    argv = [REAL] if REAL else [sys.executable, str(STAND_IN)]
    for words, env in environments.items():
        yield words, wire.Server(argv, tmp_path_factory.mktemp("aiproxy"), env=dict(env, LISTEN="127.0.0.1:{port}"), ready="/api/status")


class Admin:
    """Calls of the recorder that were not recorded."""

    def __init__(self, story):
        self.story = story

    def __call__(self, method, path, body=None, status=200):
        answer = wire.send(self.story.server.url, method, path, {"Authorization": "Bearer " + ADMIN_KEY}, self.story.words(body))
        assert answer["status"] == status, answer
        return answer["body"].get("data")

    def declare(self, *models, kind=1):
        self("POST", "/api/model_configs/", [{"model": model, "type": kind} for model in models])

    def channel(self, name, base_url, models, **more):
        """Make a channel, return its id."""
        self("POST", "/api/channel/", dict({"type": 30, "name": name, "base_url": base_url, "models": models}, **more))
        return self.id(name)

    def id(self, name):
        return self("GET", "/api/channels/?name=" + name)["channels"][0]["id"]

    def remove(self, *names):
        for name in names:
            for channel in self("GET", "/api/channels/?name=" + name)["channels"]:
                self("DELETE", "/api/channel/%d" % channel["id"])

    def put(self, id, **changes):
        self("PUT", "/api/channel/%d" % id, dict(self("GET", "/api/channel/%d" % id), **changes))

    def retries(self, times):
        self("PUT", "/api/option/RetryTimes", str(times))


HERE, CAPPED, EMBEDDING = "http://127.0.0.1:11434", "http://127.0.0.1:18434/q", "http://127.0.0.1:11520"
CODES = (400, 401, 404, 429, 500, 503)
STUB, DEAD = "http://127.0.0.1:18434", "http://127.0.0.1:9"
BROKEN = (("bad-down", DEAD), ("bad-not-ollama-html", STUB + "/html"), ("bad-openai-404", STUB + "/oai"),
          ("bad-upstream-500", STUB + "/s/500"), ("bad-upstream-401", STUB + "/s/401"), ("bad-upstream-404", STUB + "/s/404"),
          ("bad-upstream-429", STUB + "/s/429"), ("bad-with-v1", HERE + "/v1"), ("bad-trailing-slash", HERE + "/"),
          ("bad-no-scheme", "127.0.0.1:11434"), ("bad-unresolvable", "http://no-such-host.invalid:11434"))


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    servers = dict(stories(tmp_path_factory))
    upstreams = {port: Upstream().start() for port in ("11434", "18434", "11520")}
    values = {"127.0.0.1:" + port: upstream.address for port, upstream in upstreams.items()}
    values.update({recorded.replace(":", "%3A"): here.replace(":", "%3A") for recorded, here in values.items()})
    values.update({"<ADMIN_KEY>": ADMIN_KEY, "<ADMIN_KEY starting with sk->": "sk-" + ADMIN_KEY,
                   "<CHANNEL_KEY>": "contract-channel-key", "<CHANNEL_KEY_2>": "contract-second-key"})
    for server in servers.values():
        server.start()
    story = replay.Story(FILE, None, RULES, values=values, real=bool(REAL))
    prepare(story, servers)
    yield story
    for process in list(servers.values()) + list(upstreams.values()):
        process.stop()


def prepare(story, servers):
    admin = Admin(story)

    @story.before("*")
    def its_instance(story, exchange):
        story.server = next(server for words, server in servers.items() if words in exchange.version)

    @story.after("*channel*test*")
    def compare_what_the_test_got(_story, exchange, answer):
        for side in (exchange.response, answer):
            unpack_responses(side["body"])

    @story.before("channel-test-down")
    def broken_channels(_story, _exchange):
        for name, base_url in BROKEN:
            id = admin.channel(name, base_url, ["tiny:latest"], status=2)
            assert id == 18 + [each for each, _url in BROKEN].index(name)

    @story.before("relay-models-admin-key")
    def short_answers(_story, _exchange):
        mapped = dict.fromkeys(("alias-tiny", "tiny-embed", "hf.co/x/y:z"), "tiny:latest")
        admin.put(1, base_url=CAPPED, models=["tiny:latest", "ghost:7b"] + list(mapped), model_mapping=mapped)

    @story.before("relay-chat-channel-disabled")
    def the_cache_has_caught_up(_story, _exchange):
        wait_until(lambda: not admin("GET", "/api/models/sets"))

    @story.before("models-sets-after-put-of-disabled", "models-sets-after-enable-and-put")
    def rebuilt_by_a_put(_story, _exchange):
        admin.put(1)

    @story.before("failover-weights")
    def two_hosts(_story, _exchange):
        admin.declare("fo:latest", "dead:1b", "mixed", "html", "setmodel", "wmodel", *("e%d" % code for code in CODES))
        admin.channel("fo-dead", DEAD, ["fo:latest", "dead:1b"], priority=1000000)
        admin.channel("fo-good", CAPPED, ["fo:latest"], model_mapping={"fo:latest": "tiny:latest"}, priority=1)
        for code in CODES:
            admin.channel("e%d" % code, STUB + "/s/%d" % code, ["e%d" % code])
        admin.channel("html", STUB + "/html", ["html"])

    @story.before("failover-retry*", "upstream-*-retry*", "mixed-*-retry*", "relay-upstream-html")
    def as_many_retries(_story, exchange):
        admin.retries(int((re.findall(r"retry(\d)", exchange.id) or "0")[0]))

    @story.before("mixed-*-retry*")
    def a_bad_host_comes_first(_story, exchange):
        admin.remove("mixed-bad", "mixed-good")  # new ones each time: the error rate of the last ones would count
        admin.channel("mixed-bad", STUB + "/s/" + exchange.id.split("-")[1], ["mixed"], priority=1000000)
        admin.channel("mixed-good", CAPPED, ["mixed"], model_mapping={"mixed": "tiny:latest"}, priority=1)

    @story.after("real-channel-create*")
    def know_the_id(story, exchange, _answer):
        recorded = {"ollama-lab": 56, "ollama-openai": 57}[exchange.body["name"]]
        story.values["/channel/%d" % recorded] = "/channel/%d" % admin.id(exchange.body["name"])

    @story.before("real-relay-chat-pinned-channel")
    def pin_the_same(_story, exchange):
        exchange.headers["Aiproxy-Channel"] = str(admin.id("ollama-lab"))

    @story.before("sets-channel-get")
    def other_set(story, _exchange):
        admin.remove("fo-dead", "fo-good", "mixed-bad", "mixed-good", "html", *("e%d" % code for code in CODES))
        story.values["/channel/58"] = "/channel/%d" % admin.channel(
            "gpu-set", CAPPED, ["setmodel"], model_mapping={"setmodel": "tiny:latest"}, sets=["gpu"])

    @story.before("race-four-creates")
    def four_at_once(_story, _exchange):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _n: admin.channel("race", STUB, ["tiny:latest"], status=2), range(4)))

    @story.before("channel-get-after-use")
    def used(story, _exchange):
        id = admin.channel("w2", CAPPED, ["wmodel"], model_mapping={"wmodel": "tiny:latest"}, priority=30)
        story.values["/channel/66"] = "/channel/%d" % id
        admin("POST", "/v1/chat/completions", {"model": "wmodel", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4})
        wait_until(lambda: admin("GET", "/api/channel/%d" % id).get("accessed_at"))

    @story.before("fastgpt-env-failover-only-dead")
    def a_dead_host(_story, _exchange):
        admin.channel("fo-dead", DEAD, ["tiny:latest"], priority=1000000)
        admin.channel("only-dead", DEAD, ["only-dead"])

    @story.before("fastgpt-env-failover-dead-host-retry")
    def retries_are_in_force(story, _exchange):
        time.sleep(6 if story.real else 0)  # a brand-new database takes over RETRY_TIMES after five seconds

    @story.before("fastgpt-env-models-sets-three-hosts")
    def three_hosts(_story, _exchange):
        admin.remove("fo-dead", "only-dead", "ollama")
        for i in range(3):
            admin.channel("w%d" % i, CAPPED, ["wmodel"], priority=10 * (i + 1))

    @story.before("fastgpt-env-pin-disabled-only-channel")
    def a_disabled_channel(_story, _exchange):
        assert admin.channel("pin-off", CAPPED, ["pinm"], model_mapping={"pinm": "tiny:latest"}, status=2) == 10

    @story.before("fastgpt-env-pin-disabled-other-enabled")
    def another_one_serves(_story, _exchange):
        admin.channel("pin-on", CAPPED, ["pinm"], model_mapping={"pinm": "tiny:latest"})


def unpack_responses(thing):
    """A channel test keeps the upstream's answer as text: look into it."""
    if isinstance(thing, dict):
        if thing.get("response"):
            thing["response"] = json.loads(thing["response"])
        for below in thing.values():
            unpack_responses(below)
    elif isinstance(thing, list):
        for below in thing:
            unpack_responses(below)


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

    base_url, headers, secrets = "http://aiproxy:3000", {}, (ADMIN_KEY,)
    refused = _http.Client.refused
    hop = _aiproxy.HOP

    def __init__(self, exchange):
        status, headers, body = exchange.raw()
        self.answer = _http.Answer(status, headers, body)

    def request(self, method, path, body=None, headers=None, timeout=None):
        return self.answer


def reader(exchange):
    """The client's way to ask what a recorded line asks: function(AIProxy)."""
    path = exchange.path.partition("?")[0]
    calls = {("GET", "/api/status"): lambda aiproxy: aiproxy.health(), ("GET", "/api/channels/all"): lambda aiproxy: aiproxy.channels(),
             ("GET", "/api/channels/type_metas"): lambda aiproxy: aiproxy.type_ids(), ("GET", "/v1/models"): lambda aiproxy: aiproxy.models(),
             ("POST", "/api/model_configs/contains"): lambda aiproxy: aiproxy.declared(["m"]),
             ("POST", "/api/model_configs/"): lambda aiproxy: aiproxy.declare({"m": 1}),
             ("POST", "/v1/chat/completions"): lambda aiproxy: aiproxy.chat("m"), ("POST", "/v1/embeddings"): lambda aiproxy: aiproxy.embedding("m")}
    one = re.fullmatch(r"/api/channel/(\d+)(/status|/test/.*)?", path)
    if one and one.group(2) is None:
        return {"PUT": lambda aiproxy: aiproxy.update({"id": 1}, {}), "DELETE": lambda aiproxy: aiproxy.delete(1)}.get(exchange.method)
    if one:
        return (lambda aiproxy: aiproxy.set_status(1, 2)) if one.group(2) == "/status" else (lambda aiproxy: aiproxy.test(1, "m"))
    if path == "/api/models/sets":
        return lambda aiproxy: aiproxy.serving()
    return calls.get((exchange.method, path))


ALL = [pytest.param(exchange, id=exchange.name) for exchange in replay.load(FILE)]


@pytest.mark.parametrize("exchange", [case for case in ALL if "events" not in case.values[0].response])
def test_the_client_understands_each_recorded_answer(exchange):
    """Also those that no test replays. Streams are left out: the client never asks for one."""
    aiproxy = _aiproxy.AIProxy(Recorded(exchange))
    read = reader(exchange) or (lambda aiproxy: aiproxy.ask(exchange.method, exchange.path))
    body = exchange.response.get("body")
    fine = exchange.response["status"] == 200 and isinstance(body, dict) and (body.get("success") is True or "object" in body)
    words = None
    if isinstance(body, dict) and not fine:
        words = body["message"] if "message" in body else body["error"]["message"]
    if words == "channel record not found" and exchange.method == "DELETE":
        assert read(aiproxy) is False
    elif words is not None and "/test/" in exchange.path:
        assert read(aiproxy) == words
    elif "/test/" in exchange.path and fine:
        assert (read(aiproxy) is None) is body["data"]["success"]
    elif fine and exchange.id == "relay-chat-no-messages":
        with pytest.raises(HopError, match="empty text"):
            read(aiproxy)
    elif fine:
        agrees(exchange, read(aiproxy))
    elif exchange.path == "/api/models/sets" and words is None:
        assert read(aiproxy) is None
    else:
        with pytest.raises(Refused) as caught:
            read(aiproxy)
        assert words is None or " ".join(words.split())[:200] in str(caught.value)
        assert caught.value.status == exchange.response["status"]


def agrees(exchange, result):
    """What the client made of a success, for the calls whose result people rely on."""
    body = exchange.response["body"]
    path = exchange.path.partition("?")[0]
    if path == "/api/channels/all":
        assert result == body["data"]
    elif path == "/api/channels/type_metas":
        assert result["ollama"] == 30
    elif path == "/api/models/sets":
        assert set(result) == set(body["data"]) and all(ids for ids in result.values())
    elif path == "/api/model_configs/contains":
        assert result == {config["model"]: config["type"] for config in body["data"]}
    elif path == "/v1/chat/completions":
        assert result == body["choices"][0]["message"]["content"]
    elif path == "/v1/embeddings":
        assert result == body["data"][0]["embedding"]
    elif path == "/v1/models":
        assert result == [entry["id"] for entry in body["data"]]
