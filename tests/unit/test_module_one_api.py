# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules one_api_channel and one_api_token against a server that counts requests: what they ask, write, and show."""

from __future__ import annotations

import json

import pytest
from ansible_collections.localmodels.fastgpt.plugins.modules import one_api_channel, one_api_token
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import as_documented, printed
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving

ACCESS_TOKEN, CHANNEL_KEY, CLIENT_KEY = "s3cret-access-token", "s3cret-channel-key", "s3cret-client-key"
ROW = {"id": 3, "name": "ollama", "type": 30, "key": "", "base_url": "http://ollama:11434", "models": "e,a", "group": "default",
       "model_mapping": "", "priority": 0, "status": 1}
CHANNEL = {"name": "ollama", "base_url": "http://ollama:11434", "models": ["a", {"name": "e", "type": "embedding"}]}
TOKEN_ROW = {"id": 2, "name": "app", "key": CLIENT_KEY, "status": 1, "expired_time": -1, "remain_quota": 0, "unlimited_quota": True,
             "models": None, "subnet": ""}
CHANNELS, TOKENS = ("GET", "/api/channel/search?keyword="), ("GET", "/api/token/search?keyword=")


def data(*value):
    return 200, dict({"success": True, "message": ""}, **({"data": value[0]} if value else {}))


def call(server, capsys, module, check=False, **options):
    out = printed(module, capsys, check, **dict({"url": server.url, "access_token": ACCESS_TOKEN}, **options))
    assert ACCESS_TOKEN not in out and CHANNEL_KEY not in out and CLIENT_KEY not in out
    return as_documented(module, json.loads(out))


def test_twenty_channels_that_are_as_declared_cost_one_request(capsys):
    rows = [dict(ROW, id=number, name="ollama-%d" % number) for number in range(20)]
    with serving({CHANNELS: data(rows)}) as server:
        result = call(server, capsys, one_api_channel, channels=[dict(CHANNEL, name=row["name"]) for row in rows])
        assert server.paths() == ["GET /api/channel/search?keyword="]
    assert result["changed"] is False and result["actions"] == [] and len(result["channels"]) == 20
    assert result["diff"]["before"] == result["diff"]["after"]


@pytest.mark.parametrize("rows, channel", [([], CHANNEL), ([dict(ROW, models="old", status=3)], dict(CHANNEL, key=CHANNEL_KEY, update_key="always")),
                                           ([ROW], {"name": "ollama", "state": "absent"}), ([ROW], dict(CHANNEL, enabled=False))])
def test_check_mode_says_what_would_be_done_and_writes_nothing(capsys, rows, channel):
    with serving({CHANNELS: data(rows)}) as server:
        result = call(server, capsys, one_api_channel, True, channels=[channel])
        assert server.paths() == ["GET /api/channel/search?keyword="]
    assert result["changed"] is True and result["actions"] and not result.get("failed")
    assert result["diff"]["before"] != result["diff"]["after"]


def test_a_failure_tells_what_was_done_before_it(capsys):
    answers = {CHANNELS: data([ROW, dict(ROW, id=4, name="second")]), ("DELETE", "/api/channel/3"): data(),
               ("DELETE", "/api/channel/4"): (200, {"success": False, "message": "database is locked by " + ACCESS_TOKEN})}
    with serving(answers) as server:
        result = call(server, capsys, one_api_channel, channels=[{"name": name, "state": "absent"} for name in ("ollama", "second")])
    assert result["failed"] is True and "database is locked by ***" in result["msg"]
    assert result["changed"] is True and result["actions"] == ["Delete channel ollama"]


@pytest.mark.parametrize("module, options, said", [
    (one_api_channel, {"channels": [dict(CHANNEL, base_url="http://localhost:11434")]}, "inside one-api's container that is the container itself"),
    (one_api_channel, {"channels": [dict(CHANNEL, models=[])]}, "has no models"), (one_api_token, {"tokens": [{"name": "n" * 31}]}, "31 bytes"),
])
def test_bad_input_is_refused_before_anybody_is_asked(capsys, module, options, said):
    with serving({}) as server:
        result = call(server, capsys, module, **options)
        assert server.asked == []
    assert result["failed"] is True and said in result["msg"] and result["changed"] is False


def test_a_wrong_access_token_ends_it(capsys):
    wrong = (200, {"success": False, "message": "access token 无效"})
    with serving({TOKENS: wrong, ("GET", "/api/user/self"): wrong}) as server:
        result = call(server, capsys, one_api_token, tokens=[{"name": "app"}])
    assert "The access token is wrong" in result["msg"] and result["changed"] is False


def test_a_token_that_is_as_declared_costs_one_request(capsys, tmp_path):
    (tmp_path / "key").write_text("sk-%s\n" % CLIENT_KEY)
    with serving({TOKENS: data([TOKEN_ROW])}) as server:
        result = call(server, capsys, one_api_token, tokens=[{"name": "app", "key_file": str(tmp_path / "key")}])
        assert server.paths() == ["GET /api/token/search?keyword="]
    assert result["changed"] is False and result["tokens"] == [{"name": "app", "id": 2, "state": "present", "action": "none"}]


def test_a_new_token_has_no_limits_and_its_key_goes_into_the_file(capsys, tmp_path):
    with serving({TOKENS: data([]), ("POST", "/api/token/"): data(dict(TOKEN_ROW))}) as server:
        result = call(server, capsys, one_api_token, tokens=[{"name": "app", "models": ["b", "a"], "key_file": str(tmp_path / "key")}])
        assert server.asked[1][2] == {"name": "app", "unlimited_quota": True, "expired_time": -1, "remain_quota": 0, "models": "a,b", "subnet": ""}
    assert (tmp_path / "key").read_text() == "sk-%s\n" % CLIENT_KEY and (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert result["changed"] is True and result["tokens"][0]["action"] == "create"


def test_check_mode_writes_no_key(capsys, tmp_path):
    with serving({TOKENS: data([TOKEN_ROW])}) as server:
        result = call(server, capsys, one_api_token, True, tokens=[{"name": "app", "key_file": str(tmp_path / "key")}])
    assert result["changed"] is True and not (tmp_path / "key").exists()


def test_a_file_that_cannot_be_written_is_no_traceback(capsys, tmp_path):
    with serving({TOKENS: data([TOKEN_ROW])}) as server:
        result = call(server, capsys, one_api_token, tokens=[{"name": "app", "key_file": str(tmp_path / "nowhere" / "key")}])
    assert result["failed"] is True and "No such file or directory" in result["msg"]


@pytest.mark.parametrize("rows", [[], [dict(ROW, base_url="http://me:0ld-hush@ollama:11434")]])
def test_passwords_in_addresses_are_shown_nowhere(capsys, rows):
    with serving({("GET", "/api/channel/search?keyword="): data(rows)}) as server:
        out = printed(one_api_channel, capsys, True, url=server.url.replace("//", "//us:gate-hush@"), access_token=ACCESS_TOKEN,
                      channels=[dict(CHANNEL, base_url="http://me:new-hush@ollama:11434")])
    assert "hush" not in out and "http://***@ollama:11434" in str(json.loads(out)["actions"])
