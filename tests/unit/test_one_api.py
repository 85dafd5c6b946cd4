# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""one-api's client: what is sent, what is waited for, what is never shown. What answers mean is in tests/contract."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _http, _one_api
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import HopError, LocalModelsError, Refused, Unreachable
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving

TOKEN = "s3cret-access-token"
ROW = {"id": 3, "name": "ollama", "type": 30, "key": "", "base_url": "http://ollama:11434", "models": "b,a", "status": 1}
TOKEN_ROW = {"id": 2, "name": "app", "key": "s3cret-client-key", "status": 1, "expired_time": -1, "remain_quota": 5, "unlimited_quota": True,
             "models": "a", "subnet": "", "used_quota": 7}
ALL_CHANNELS, ALL_TOKENS = ("GET", "/api/channel/search?keyword="), ("GET", "/api/token/search?keyword=")
PAGE = (200, "<html></html>")


def data(*value):
    return 200, dict({"success": True, "message": ""}, **({"data": value[0]} if value else {}))


def failure(message):
    return 200, {"success": False, "message": message}


def client(server, read_only=False):
    return _one_api.direct(server.url, TOKEN, 5, read_only)


def test_success_is_read_from_the_body_and_not_from_the_status():
    with serving({("GET", "/api/option/"): failure("无权进行此操作")}) as server:
        with pytest.raises(Refused, match="answered 200: 无权进行此操作") as caught:
            client(server).options()
    assert caught.value.status == 200


@pytest.mark.parametrize("answer", [PAGE, (301, "<a href='/x'>"), (404, "404 page not found"), (200, "[]")])
def test_a_web_page_is_no_answer(answer):
    with serving({("GET", "/api/status"): answer}) as server:
        with pytest.raises(Refused, match="Does one-api listen at this address"):
            client(server).status()


def test_nobody_listens_there():
    with pytest.raises(Unreachable, match="one-api at http://127.0.0.1:9 refuses"):
        _one_api.direct("http://127.0.0.1:9", TOKEN).channels()


def test_a_slash_at_the_end_of_the_address_does_not_lead_to_the_web_page():
    with serving({("GET", "/api/status"): data({"version": "v0.6.10"})}) as server:
        assert _one_api.direct(server.url + "/", TOKEN).status() == {"version": "v0.6.10"}
        assert server.headers[0]["Authorization"] == "Bearer " + TOKEN


def test_a_wrong_access_token_is_named_and_not_shown():
    answers = {ALL_CHANNELS: failure("access token 无效"), ("GET", "/api/user/self"): failure("access token 无效")}
    with serving(answers) as server:
        with pytest.raises(Refused, match="The access token is wrong.*ONE_API_ACCESS_TOKEN") as caught:
            client(server).channels()
    assert TOKEN not in str(caught.value)


def test_a_user_who_is_no_administrator_is_told_so():
    with serving({ALL_CHANNELS: failure("权限不足"), ("GET", "/api/user/self"): data({"role": 1})}) as server:
        with pytest.raises(Refused, match="is no administrator. Give the access token of root"):
            client(server).channels()


def test_a_failure_of_another_kind_is_told_as_it_is():
    with serving({ALL_CHANNELS: failure("database is locked"), ("GET", "/api/user/self"): data({"role": 100})}) as server:
        with pytest.raises(Refused, match="database is locked"):
            client(server).channels()


class Patience:
    """Answers 429 so often, then well; and a clock that moves when somebody sleeps."""

    base_url, hop, secrets, headers = "http://one-api", _one_api.HOP, (), {}
    refused = _http.Client.refused

    def __init__(self, limited):
        self.limited, self.time, self.asked = limited, 0, 0

    def request(self, method, path, body=None, headers=None, timeout=None):
        self.asked += 1
        if self.asked <= self.limited:
            return _http.Answer(429, {}, b"")
        return _http.Answer(200, {}, b'{"success": true, "data": []}')

    def client(self):
        return _one_api.OneAPI(self, clock=lambda: self.time, sleep=lambda seconds: setattr(self, "time", self.time + seconds))


@pytest.mark.parametrize("limited", [0, 1, 30])
def test_too_many_requests_are_waited_for(limited):
    patience = Patience(limited)
    assert patience.client().channels() == [] and patience.asked == limited + 1


def test_but_not_for_ever():
    patience = Patience(1000)
    with pytest.raises(Refused, match="too many requests. It allows 480 requests in 3 minutes"):
        patience.client().channels()
    assert patience.time == _one_api.LIMIT_SECONDS


def test_a_login_is_not_waited_for_at_all():
    patience = Patience(1)
    with pytest.raises(Refused, match="20 logins in 20 minutes"):
        patience.client().login("any")
    assert patience.time == 0


def test_an_upstreams_429_is_no_limit_of_one_api():
    with serving({("POST", "/v1/chat/completions"): (429, {"error": {"message": "busy", "type": "upstream_error"}})}) as server:
        with pytest.raises(Refused, match="busy"):
            client(server).ask("POST", "/v1/chat/completions", {})
        assert len(server.asked) == 1


def test_creating_looks_the_id_up_because_the_answer_has_none():
    with serving({("POST", "/api/channel/"): data(), ALL_CHANNELS: data([ROW])}) as server:
        assert client(server).create_channel({"name": "ollama"})["id"] == 3


def test_a_channel_that_is_taken_and_not_listed_is_an_error():
    with serving({("POST", "/api/channel/"): data(), ALL_CHANNELS: data([dict(ROW, name="Ollama")])}) as server:
        with pytest.raises(HopError, match="took the channel ollama and does not list it"):
            client(server).create_channel({"name": "ollama"})


def test_two_channels_of_one_name_are_an_error():
    with serving({ALL_CHANNELS: data([dict(ROW, id=4), ROW])}) as server:
        with pytest.raises(LocalModelsError, match=r"2 channels with the name ollama \(ids 3, 4\)"):
            client(server).channel("ollama")


def test_a_change_sends_only_itself_and_forgets_the_key_it_is_told():
    answers = {("GET", "/api/channel/3"): data(ROW), ("PUT", "/api/channel/"): data(dict(ROW, key="s3cret-channel-key"))}
    with serving(answers) as server:
        one_api = client(server)
        row = one_api.update_channel(3, {"models": "c"})
        assert server.paths() == ["GET /api/channel/3", "PUT /api/channel/"] and server.asked[1][2] == {"id": 3, "models": "c"}
        assert "key" not in row
        answers["PUT", "/api/channel/"] = failure("no s3cret-channel-key here")
        with pytest.raises(Refused, match=r"no \*\*\* here"):
            one_api.update_channel(3, {"models": "d"})


def test_a_channel_that_is_gone_is_not_changed_into_an_orphan():
    with serving({("GET", "/api/channel/3"): failure("record not found")}) as server:
        with pytest.raises(Refused, match="record not found"):
            client(server).update_channel(3, {"models": "c"})
        assert server.paths() == ["GET /api/channel/3"]


def test_a_tokens_change_sends_back_all_that_would_be_reset():
    with serving({("PUT", "/api/token/"): data(dict(TOKEN_ROW, name="new"))}) as server:
        assert client(server).update_token(TOKEN_ROW, {"name": "new"})["name"] == "new"
        assert server.asked[0][2] == {"id": 2, "name": "new", "expired_time": -1, "remain_quota": 5, "unlimited_quota": True, "models": "a",
                                      "subnet": ""}


def test_keys_of_tokens_lose_postgresqls_blanks_and_are_never_shown():
    answers = {ALL_TOKENS: data([dict(TOKEN_ROW, key="s3cret-client-key    ")]), ("DELETE", "/api/token/2"): failure("not s3cret-client-key")}
    with serving(answers) as server:
        one_api = client(server)
        assert one_api.tokens()[0]["key"] == "s3cret-client-key"
        with pytest.raises(Refused, match=r"not \*\*\*"):
            one_api.delete_token(2)


def test_the_first_token_may_fail_once_and_not_twice():
    tries = []

    def answer(handler):
        tries.append(1)
        body = b'{"success": false, "message": "duplicate key"}' if len(tries) < 2 else b'{"success": true, "data": {"id": 2, "key": "k"}}'
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    with serving({("POST", "/api/token/"): answer}) as server:
        assert client(server).create_token({"name": "x"})["id"] == 2
    with serving({("POST", "/api/token/"): failure("duplicate key")}) as server:
        with pytest.raises(Refused, match="duplicate key"):
            client(server).create_token({"name": "x"})
        assert len(server.asked) == 2


def test_a_login_leads_to_a_new_access_token_that_is_used_from_then_on():
    answers = {("POST", "/api/user/login"): data({"id": 1}) + ({"Set-Cookie": "session=abc; Path=/; Max-Age=1"},),
               ("GET", "/api/user/token"): data("s3cret-new-token"), ("GET", "/api/user/self"): data({"role": 100})}
    with serving(answers) as server:
        one_api = client(server)
        cookie = one_api.login("s3cret-password")
        assert cookie == "session=abc" and one_api.new_access_token(cookie) == "s3cret-new-token"
        one_api.user()
        assert server.headers[1]["Cookie"] == "session=abc"
        assert server.headers[2]["Authorization"] == "Bearer s3cret-new-token"


def test_check_mode_cannot_write_by_accident():
    with serving({}) as server:
        one_api = client(server, read_only=True)
        for write in (lambda: one_api.create_channel({"name": "x"}), lambda: one_api.update_token({}, {}), lambda: one_api.delete_channel(3),
                      lambda: one_api.create_token({}), lambda: one_api.set_token_status(1, 1), lambda: one_api.delete_token(1),
                      lambda: one_api.set_option("a", "b"), lambda: one_api.set_password("12345678"), lambda: one_api.new_access_token("c")):
            with pytest.raises(LocalModelsError, match="this run only looks"):
                write()
        assert server.asked == []
