# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module aiproxy_channel against a server that counts requests: what it asks, what it writes, what it shows."""

from __future__ import annotations

import json

import pytest
from ansible_collections.localmodels.fastgpt.plugins.modules import aiproxy_channel
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import as_documented, printed
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving

ADMIN_KEY, CHANNEL_KEY = "s3cret-admin-key", "s3cret-channel-key"
ROW = {"id": 3, "name": "ollama", "type": 30, "key": CHANNEL_KEY, "base_url": "http://ollama:11434", "models": ["e", "a"],
       "model_mapping": {}, "priority": 0, "status": 1}
CHANNEL = {"name": "ollama", "base_url": "http://ollama:11434", "models": ["a", {"name": "e", "type": "embedding"}]}
READING = ("GET /api/channels/all", "POST /api/model_configs/contains", "GET /api/channels/type_metas", "GET /api/models/sets")
CONFIGS = [{"model": "a", "type": 1}, {"model": "e", "type": 3}]
OK = (200, {"success": True})


def data(value):
    return 200, {"success": True, "data": value}


def gateway(rows, configs=CONFIGS, sets=None):
    return {("GET", "/api/channels/all"): data(rows), ("POST", "/api/model_configs/contains"): data(configs),
            ("GET", "/api/channels/type_metas"): data({"30": {"name": "ollama"}, "1": {"name": "openai"}}),
            ("GET", "/api/models/sets"): data(sets or {})}


def call(server, capsys, channels, check=False):
    out = printed(aiproxy_channel, capsys, check, aiproxy_url=server.url, admin_key=ADMIN_KEY, channels=channels)
    assert ADMIN_KEY not in out and CHANNEL_KEY not in out
    return as_documented(aiproxy_channel, json.loads(out))


def test_twenty_channels_that_are_as_declared_cost_two_requests(capsys):
    rows = [dict(ROW, id=number, name="ollama-%d" % number) for number in range(20)]
    with serving(gateway(rows)) as server:
        result = call(server, capsys, [dict(CHANNEL, name=row["name"]) for row in rows])
        assert server.paths() == ["GET /api/channels/all", "POST /api/model_configs/contains"]
    assert result["changed"] is False and result["actions"] == [] and len(result["channels"]) == 20
    assert result["diff"]["before"] == result["diff"]["after"]


def test_a_deletion_that_is_done_costs_one_request(capsys):
    with serving(gateway([])) as server:
        assert call(server, capsys, [{"name": "ollama", "state": "absent"}])["changed"] is False
        assert server.paths() == ["GET /api/channels/all"]


@pytest.mark.parametrize("rows, configs, channel", [
    ([], [], CHANNEL), ([dict(ROW, models=["old"], status=2)], CONFIGS, dict(CHANNEL, key=CHANNEL_KEY)), ([ROW], CONFIGS[:1], CHANNEL),
    ([ROW], CONFIGS, {"name": "ollama", "state": "absent"}), ([ROW], CONFIGS, dict(CHANNEL, enabled=False)),
])
def test_check_mode_says_what_would_be_done_and_writes_nothing(capsys, rows, configs, channel):
    with serving(gateway(rows, configs)) as server:
        result = call(server, capsys, [channel], check=True)
        assert [path for path in server.paths() if path not in READING] == []
    assert result["changed"] is True and result["actions"] and not result.get("failed")
    assert result["diff"]["before"] != result["diff"]["after"]


def test_a_new_channel_gets_its_model_configs_first_and_is_live_in_the_end(capsys):
    answers = gateway([], [], {"a": {"default": [{"id": 3}]}, "e": {"default": [{"id": 3}]}})
    answers["POST", "/api/model_configs/"] = OK

    def created(handler):
        answers["GET", "/api/channels/all"] = data([ROW])
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b'{"success":true}')

    answers["POST", "/api/channel/"] = created
    with serving(answers) as server:
        result = call(server, capsys, [CHANNEL])
        writes = [(path, body) for method, path, body in server.asked if "%s %s" % (method, path) not in READING]
        assert server.paths()[-1] == "GET /api/models/sets"
    assert writes == [
        ("/api/model_configs/", [{"model": "a", "type": 1}, {"model": "e", "type": 3}]),
        ("/api/channel/", {"type": 30, "name": "ollama", "base_url": "http://ollama:11434", "models": ["a", "e"], "model_mapping": {},
                           "key": "ollama", "status": 1})]
    assert result["changed"] is True
    assert result["channels"] == [{"name": "ollama", "id": 3, "state": "present", "action": "create", "models": ["a", "e"]}]
    assert result["actions"] == ["Declare a as a model of type chat", "Declare e as a model of type embedding",
                                 "Create channel ollama to http://ollama:11434 with a, e"]
    assert result["gateway"] == {"url": server.url, "url_found_in": "option aiproxy_url", "secret_found_in": "option admin_key"}


def test_a_change_keeps_the_channel_key_and_is_shown_without_it(capsys):
    answers = gateway([ROW], CONFIGS, {"a": {"default": [{"id": 3}]}})
    answers["PUT", "/api/channel/3"] = data(dict(ROW, models=["a"]))
    with serving(answers) as server:
        result = call(server, capsys, [dict(CHANNEL, models=["a"])])
        sent = [body for method, dummy, body in server.asked if method == "PUT"]
    assert sent[0]["key"] == CHANNEL_KEY and sent[0]["models"] == ["a"]
    assert result["actions"] == ["Change channel ollama: models - e"]
    assert result["diff"]["before"]["ollama"]["key"] == "(hidden)" and result["diff"]["after"]["ollama"]["models"] == ["a"]


def test_a_failure_tells_what_was_done_before_it(capsys):
    answers = gateway([ROW, dict(ROW, id=4, name="second")], CONFIGS)
    answers["DELETE", "/api/channel/3"] = OK
    answers["DELETE", "/api/channel/4"] = (500, {"success": False, "message": "database is locked by " + CHANNEL_KEY})
    with serving(answers) as server:
        result = call(server, capsys, [{"name": name, "state": "absent"} for name in ("ollama", "second")])
    assert result["failed"] is True and "database is locked by ***" in result["msg"]
    assert result["changed"] is True and result["actions"] == ["Delete channel ollama"]


@pytest.mark.parametrize("channel, said", [
    (dict(CHANNEL, base_url="http://localhost:11434"), "inside AI Proxy's container that is the container itself"),
    (dict(CHANNEL, models=[]), "has no models"), (dict(CHANNEL, base_url="http://ollama:11434/v1"), "AI Proxy adds /api/chat itself"),
])
def test_bad_input_is_refused_before_anybody_is_asked(capsys, channel, said):
    with serving({}) as server:
        result = call(server, capsys, [channel])
        assert server.asked == []
    assert result["failed"] is True and said in result["msg"] and result["changed"] is False


def test_a_wrong_admin_key_ends_it_with_one_request(capsys):
    with serving({("GET", "/api/channels/all"): (401, {"success": False, "message": "unauthorized"})}) as server:
        result = call(server, capsys, [CHANNEL])
        assert server.paths() == ["GET /api/channels/all"]
    assert "ADMIN_KEY" in result["msg"] and "AIPROXY_API_TOKEN" in result["msg"] and result["changed"] is False


def test_an_unknown_type_is_refused_with_the_known_ones(capsys):
    with serving(gateway([])) as server:
        result = call(server, capsys, [dict(CHANNEL, type="olama")])
    assert "no channel type olama" in result["msg"] and "ollama, openai" in result["msg"]


def test_a_model_config_of_another_type_is_kept_with_a_warning(capsys):
    with serving(gateway([ROW], [{"model": "a", "type": 1}, {"model": "e", "type": 1}])) as server:
        result = call(server, capsys, [CHANNEL])
    assert result["changed"] is False and "e has a model config of type chat" in str(result["warnings"])


@pytest.mark.parametrize("rows", [[], [dict(ROW, base_url="http://me:0ld-hush@ollama:11434")]])
def test_passwords_in_addresses_are_shown_nowhere(capsys, rows):
    """Neither in the result, nor among the options that Ansible shows from -vvv on."""
    with serving(gateway(rows)) as server:
        out = printed(aiproxy_channel, capsys, True, aiproxy_url=server.url.replace("//", "//us:gate-hush@"), admin_key=ADMIN_KEY,
                      channels=[dict(CHANNEL, base_url="http://me:new-hush@ollama:11434")])
    told = json.loads(out)
    assert "hush" not in out and "http://***@ollama:11434" in str(told["actions"]) and "aiproxy_url" in told["invocation"]["module_args"]
