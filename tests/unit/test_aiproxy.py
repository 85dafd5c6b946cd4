# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AI Proxy's client: what answers mean, what is sent, what is never shown."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _aiproxy
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import HopError, LocalModelsError, Refused, Unreachable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import understand as understood_by_fastgpt
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving

ADMIN_KEY = "s3cret-admin-key"
ROW = {"id": 3, "name": "ollama", "type": 30, "key": "s3cret-channel-key", "base_url": "http://ollama:11434", "proxy_url": "http://p:1",
       "models": ["b", "a"], "model_mapping": None, "priority": 5, "status": 1, "balance": 0, "used_amount": 7, "request_count": 9,
       "created_at": 1, "last_test_error_at": 2, "balance_updated_at": 3, "balance_threshold": 4, "retry_count": 5, "max_error_rate": 0.5}
OK = (200, {"success": True})


def data(value):
    return 200, {"success": True, "data": value}


def failure(message, status=500):
    return status, {"success": False, "message": message}


def client(server, read_only=False):
    return _aiproxy.direct(server.url, ADMIN_KEY, 5, read_only)


@pytest.mark.parametrize("status, parsed, ok, message", [
    (200, {"success": True}, True, None),
    (200, {"success": False, "message": "channel record not found"}, False, "channel record not found"),  # v0.1.8 and older
    (500, {"success": False, "message": "channel record not found"}, False, "channel record not found"),
    (200, {"success": False, "message": "x", "data": {"config": {"headers": "Bearer key"}}}, False, "x"),
    (502, {"success": True}, False, "no reason given"),
    (404, {"error": {"message": "no such model", "type": "aiproxy_error"}}, False, "no such model"),
    (200, {"object": "list", "data": []}, True, None),
    (404, None, False, None),
    (200, [], False, None),
    (200, {"errno": -111, "code": "ECONNREFUSED"}, False, None),
])
def test_what_an_answer_means(status, parsed, ok, message):
    said = _aiproxy.understand(status, parsed)
    assert (said.ok, said.message) == (ok, message)
    assert ok or said.data is None


def test_a_wrong_admin_key_is_named_with_both_its_names_and_not_shown():
    with serving({("GET", "/api/channels/all"): failure("unauthorized, no access token provided", 401)}) as server:
        with pytest.raises(Refused, match=r"ADMIN_KEY.*AIPROXY_API_TOKEN.*fastgpt_models_admin_key \(admin_key\)") as caught:
            client(server).channels()
        assert server.headers[0]["Authorization"] == "Bearer " + ADMIN_KEY
    assert caught.value.status == 401 and ADMIN_KEY not in str(caught.value)


def test_an_admin_key_that_begins_with_sk_cannot_fit():
    with serving({("GET", "/api/channels/all"): failure("unauthorized", 401)}) as server:
        with pytest.raises(Refused, match="begins with sk- never fits"):
            _aiproxy.direct(server.url, "sk-1234567890").channels()


def test_something_else_listens_there():
    with serving({("GET", "/api/status"): (200, "<html>welcome</html>")}) as server:
        with pytest.raises(Refused, match="Does AI Proxy listen at this address"):
            client(server).health()


def test_nobody_listens_there():
    with pytest.raises(Unreachable, match="AI Proxy at http://127.0.0.1:9 refuses"):
        _aiproxy.direct("http://127.0.0.1:9", ADMIN_KEY).channels()


def test_two_channels_of_one_name_are_an_error_and_other_names_do_not_match():
    with serving({("GET", "/api/channels/all"): data([dict(ROW, id=4), ROW, dict(ROW, id=5, name="Ollama")])}) as server:
        with pytest.raises(LocalModelsError, match=r"2 channels with the name ollama \(ids 3, 4\)"):
            client(server).channel("ollama")
        assert client(server).channel("Ollama")["id"] == 5
        assert client(server).channel("ollam") is None


def test_a_server_before_0_5_says_null_for_no_channels():
    with serving({("GET", "/api/channels/all"): data(None)}) as server:
        assert client(server).channels() == []


def test_creating_looks_the_id_up_because_the_answer_has_none():
    with serving({("POST", "/api/channel/"): OK, ("GET", "/api/channels/all"): data([ROW])}) as server:
        assert client(server).create({"name": "ollama", "type": 30})["id"] == 3


def test_a_channel_that_is_taken_and_not_listed_is_an_error():
    with serving({("POST", "/api/channel/"): OK, ("GET", "/api/channels/all"): data([])}) as server:
        with pytest.raises(HopError, match="took the channel ollama and does not list it. Look at AI Proxy's log"):
            client(server).create({"name": "ollama", "type": 30})


def test_a_change_sends_back_what_it_does_not_change_and_no_counters():
    with serving({("PUT", "/api/channel/3"): data(dict(ROW, models=["c"]))}) as server:
        assert client(server).update(ROW, {"models": ["c"]})["models"] == ["c"]
        sent = server.asked[0][2]
    assert sent == {"name": "ollama", "type": 30, "key": "s3cret-channel-key", "base_url": "http://ollama:11434", "proxy_url": "http://p:1",
                    "models": ["c"], "model_mapping": None, "priority": 5, "max_error_rate": 0.5}


@pytest.mark.parametrize("answer, was_there", [(OK, True), (failure("channel record not found"), False),
                                               (failure("channel record not found", 200), False)])
def test_deleting_twice_is_fine(answer, was_there):
    with serving({("DELETE", "/api/channel/3"): answer}) as server:
        assert client(server).delete(3) is was_there


def test_a_delete_that_fails_otherwise_is_an_error():
    with serving({("DELETE", "/api/channel/3"): failure("database is locked")}) as server:
        with pytest.raises(Refused, match="answered 500: database is locked"):
            client(server).delete(3)


def test_no_channel_key_gets_into_an_error():
    answers = {("GET", "/api/channels/all"): data([ROW, dict(ROW, id=4, key="ollama")]),
               ("PUT", "/api/channel/3"): failure("row s3cret-channel-key of ollama, new s3cret-other-key, for " + ADMIN_KEY)}
    with serving(answers) as server:
        aiproxy = client(server)
        aiproxy.channels()
        with pytest.raises(Refused) as caught:
            aiproxy.update(ROW, {"key": "s3cret-other-key"})
    assert "row *** of ollama, new ***, for ***" in str(caught.value)


def test_check_mode_cannot_write_by_accident():
    with serving({}) as server:
        aiproxy = client(server, read_only=True)
        for write in (lambda: aiproxy.create(ROW), lambda: aiproxy.update(ROW, {}), lambda: aiproxy.delete(3),
                      lambda: aiproxy.set_status(3, 1), lambda: aiproxy.declare({"a": 1})):
            with pytest.raises(LocalModelsError, match="this run only looks"):
                write()
        assert server.asked == []


def test_nothing_to_declare_asks_nobody():
    with serving({}) as server:
        client(server).declare({})
        assert server.asked == []


def test_an_undeclared_model_tells_which_variable_helps():
    with serving({("POST", "/api/channel/"): failure("model config not found: [a b]")}) as server:
        with pytest.raises(Refused, match=r"\[a b\]. Set DISABLE_MODEL_CONFIG=true"):
            client(server).create({"name": "x"})


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def sets(**serving_ids):
    return data({model: {"default": [{"id": id} for id in ids]} for model, ids in serving_ids.items()})


def test_waits_until_the_relay_serves_exactly_what_is_expected():
    answers = {("GET", "/api/models/sets"): sets(a=[3], old=[3])}
    coming = [sets(a=[3, 9]), sets(a=[3, 9], b=[3])]

    def sleep(_seconds):
        answers["GET", "/api/models/sets"] = coming.pop(0)

    with serving(answers) as server:
        client(server).wait_until_live({3: {"a", "b"}, 4: set()}, clock=Clock(), sleep=sleep)
    assert coming == []


def test_a_change_that_never_gets_live_is_an_error():
    with serving({("GET", "/api/models/sets"): sets(a=[3])}) as server:
        clock = Clock()
        with pytest.raises(HopError, match="stored channel 3 and does not relay accordingly after 30 s"):
            client(server).wait_until_live({3: set()}, clock=clock, sleep=clock.sleep)


def test_a_server_that_cannot_tell_what_is_live_is_not_waited_for():
    with serving({("GET", "/api/models/sets"): (404, "404 page not found\n")}) as server:
        client(server).wait_until_live({3: {"a"}})
        assert server.paths() == ["GET /api/models/sets"]


@pytest.mark.parametrize("answer, said", [
    (data({"success": True, "code": 200, "response": ""}), None),
    (data({"success": False, "code": 404, "response": '{"error":{"message":"model \'x\' not found","type":"aiproxy_error"}}'}),
     "model 'x' not found"),
    (data({"success": False, "code": 500, "response": "plain words"}), "plain words"),
    (failure("model not supported by channel", 200), "model not supported by channel"),
])
def test_the_verdict_of_a_channel_test_is_the_inner_one(answer, said):
    with serving({("GET", "/api/channel/3/test/hf.co%2Fx%2Fy%3Az"): answer}) as server:
        assert client(server).test(3, "hf.co/x/y:z") == said


def test_an_empty_completion_is_a_failure():
    whole = {"object": "chat.completion", "choices": [{"message": {"content": "", "role": "assistant"}}]}
    with serving({("POST", "/v1/chat/completions"): (200, whole)}) as server:
        with pytest.raises(HopError, match="empty text"):
            client(server).chat("m", channel=3)
        assert server.headers[0]["Aiproxy-Channel"] == "3"


class FastGPT:
    """FastGPT's bridge: answers (status, content type, body) by method and path."""

    read_only = False

    class client:
        base_url, headers = "http://fastgpt:3000", {}

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def try_to_ask(self, method, path, body=None, writes=False, timeout=None):
        self.asked.append((method, path, body))
        status, kind, body = self.answers[method, path]
        return understood_by_fastgpt(status, {"content-type": kind}, body.encode())


JSON, TEXT = "application/json; charset=utf-8", "text/plain; charset=utf-8"
LEAK = ('{"success":false,"message":"unauthorized, no access token provided","data":{"config":{"headers":'
        '{"Authorization":"Bearer s3cret-admin-key"}}}}')


def test_over_fastgpt_creating_has_another_path():
    fastgpt = FastGPT({("POST", "/api/aiproxy/api/createChannel"): (200, JSON, '{"success":true}'),
                       ("GET", "/api/aiproxy/api/channels/all"): (200, JSON, '{"success":true,"data":[{"id":7,"name":"ollama"}]}')})
    assert _aiproxy.BridgedAIProxy(fastgpt).create({"name": "ollama"})["id"] == 7


def test_over_fastgpt_model_configs_go_one_by_one_and_an_old_server_may_not_take_them():
    fastgpt = FastGPT({("POST", "/api/aiproxy/api/model_config/a%3Ab"): (200, JSON, '{"success":true}'),
                       ("POST", "/api/aiproxy/api/model_config/c"): (404, TEXT, "404 page not found\n")})
    _aiproxy.BridgedAIProxy(fastgpt).declare({"a:b": 1, "c": 3})
    assert [body for dummy, path, body in fastgpt.asked] == [{"type": 1}, {"type": 3}]


@pytest.mark.parametrize("answer, said", [
    ((200, JSON, LEAK), "unauthorized"),
    ((401, JSON, '{"success":false,"message":"unauthorized, no access token provided"}'), "AIPROXY_API_TOKEN"),
    ((200, JSON, '{"errno":-111,"code":"ECONNREFUSED","syscall":"connect","address":"127.0.0.1","port":9}'), "AIPROXY_API_ENDPOINT"),
    ((500, JSON, '{"code":500,"statusText":"error","message":"fetch failed","data":null}'), "AIPROXY_API_ENDPOINT"),
    ((500, JSON, '{"code":500,"statusText":"","message":"AI Proxy endpoint or token is not set","data":null}'), "endpoint or token is not set"),
])
def test_over_fastgpt_failures_are_told_and_the_admin_key_is_not(answer, said):
    aiproxy = _aiproxy.BridgedAIProxy(FastGPT({("GET", "/api/aiproxy/api/channels/all"): answer}))
    with pytest.raises(Refused, match=said) as caught:
        aiproxy.channels()
    assert "s3cret" not in str(caught.value) and "AI Proxy at http://fastgpt:3000/api/aiproxy" in str(caught.value)
