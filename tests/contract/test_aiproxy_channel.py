# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module aiproxy_channel against a whole server: the stand-in, or a real one by LAB_AIPROXY=/path/to/aiproxy.

Each step is run as check, for real, as check again and for real again.
"""

from __future__ import annotations

import json
import sys

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _aiproxy, _aiproxy_plan, _session
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import Secret
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project_options import BRIDGE_PATH, Endpoint
from ansible_collections.localmodels.fastgpt.plugins.modules import aiproxy_channel
from ansible_collections.localmodels.fastgpt.tests.contract import wire
from ansible_collections.localmodels.fastgpt.tests.contract.test_aiproxy import ADMIN_KEY, REAL, STAND_IN
from ansible_collections.localmodels.fastgpt.tests.contract.upstream import Upstream
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import printed

CHANNEL_KEY = "contract-channel-key"


@pytest.fixture(scope="module")
def upstream():
    server = Upstream().start()
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["model configs required", "as in FastGPT's compose file"])
def url(request, tmp_path_factory):
    env = {"ADMIN_KEY": ADMIN_KEY, "LISTEN": "127.0.0.1:{port}"}
    if "compose" in request.param:
        env.update(DISABLE_MODEL_CONFIG="true", RETRY_TIMES="3", BILLING_ENABLED="false")
    server = wire.Server([REAL] if REAL else [sys.executable, str(STAND_IN)], tmp_path_factory.mktemp("aiproxy"), env=env,
                         ready="/api/status").start()
    yield server.url
    server.stop()


def call(capsys, url, check, **channel):
    out = printed(aiproxy_channel, capsys, check, aiproxy_url=url, admin_key=ADMIN_KEY, channels=[channel])
    assert ADMIN_KEY not in out and CHANNEL_KEY not in out
    return json.loads(out)


def run(capsys, url, check, **channel):
    result = call(capsys, url, check, **channel)
    assert not result.get("failed"), result["msg"]
    return result


def stored(url):
    """Everything that check mode must leave alone."""
    aiproxy = _aiproxy.direct(url, ADMIN_KEY)
    return aiproxy.channels(), aiproxy.ask("GET", "/api/model_configs/all"), aiproxy.serving()


def four_times(capsys, url, **channel):
    """check, real, check, real; the result of the first real run."""
    before = stored(url)
    expected = run(capsys, url, True, **channel)
    assert stored(url) == before
    done = run(capsys, url, False, **channel)
    assert expected["changed"] and done["changed"] and expected["actions"] == done["actions"] and expected["diff"] == done["diff"]
    for check in (True, False):
        again = run(capsys, url, check, **channel)
        assert not again["changed"] and again["actions"] == [] and again["diff"]["before"] == again["diff"]["after"]
    return done


def test_a_channel_from_its_making_to_its_end(capsys, monkeypatch, url, upstream):
    # Here everything is on loopback; that the module refuses such an address is another test's business.
    monkeypatch.setattr(_aiproxy_plan, "is_loopback", lambda host: False)
    aiproxy = _aiproxy.direct(url, ADMIN_KEY)
    aiproxy.ask("POST", "/api/model_configs/", [{"model": "house", "type": 1, "rpm": 60, "owner": "people"}])
    channel = {"name": "ollama", "base_url": "http://" + upstream.address,
               "models": ["tiny:latest", "house", {"name": "tiny-embed:latest", "type": "embedding"}]}

    made = four_times(capsys, url, model_mapping={"house": "tiny:latest"}, key=CHANNEL_KEY, **channel)
    assert made["actions"][0] == "Declare tiny-embed:latest as a model of type embedding" and len(made["actions"]) == 3
    id = made["channels"][0]["id"]
    assert aiproxy.channel("ollama")["id"] == id
    assert aiproxy.chat("house", channel=id) and len(aiproxy.embedding("tiny-embed:latest", channel=id)) > 2
    assert [aiproxy.test(id, model) for model in ("tiny:latest", "house", "tiny-embed:latest")] == [None, None, None]
    assert sorted(aiproxy.models()) == ["house", "tiny-embed:latest", "tiny:latest"]

    four_times(capsys, url, name="ollama", base_url=channel["base_url"], models=["tiny:latest"], priority=7)
    row = aiproxy.channel("ollama")
    assert (row["key"], row["model_mapping"], row["priority"]) == (CHANNEL_KEY, {"house": "tiny:latest"}, 7)  # not declared, so kept
    assert aiproxy.models() == ["tiny:latest"]

    four_times(capsys, url, name="ollama", base_url=channel["base_url"], models=["tiny:latest"], enabled=False)
    assert aiproxy.models() == []
    four_times(capsys, url, name="ollama", base_url=channel["base_url"] + "/q", models=["tiny:latest"])
    assert aiproxy.models() == ["tiny:latest"]

    curated = [config for config in aiproxy.ask("GET", "/api/model_configs/all") if config["model"] == "house"]
    assert (curated[0]["rpm"], curated[0]["owner"]) == (60, "people")
    four_times(capsys, url, name="ollama", state="absent")
    assert aiproxy.channels() == [] and aiproxy.models() == []


def test_a_restart_forgets_nothing(capsys, tmp_path):
    server = wire.Server([REAL] if REAL else [sys.executable, str(STAND_IN)], tmp_path, env={"ADMIN_KEY": ADMIN_KEY, "LISTEN": "127.0.0.1:{port}"},
                         ready="/api/status").start()
    try:
        channel = {"name": "ollama", "base_url": "http://ollama:11434", "models": ["tiny:latest"], "key": CHANNEL_KEY}
        assert run(capsys, server.url, False, **channel)["changed"]
        before = stored(server.url)
        server.restart()
        assert len(before[0]) == 1 and stored(server.url) == before
        assert not run(capsys, server.url, False, **channel)["changed"]
    finally:
        server.stop()


@pytest.mark.parametrize("version", ["4.16.0", "4.11.1"])
def test_over_fastgpt_where_ai_proxy_has_no_address(capsys, monkeypatch, url, upstream, tmp_path, version):
    environment = {"PORT": "{port}", "HOSTNAME": "127.0.0.1", "DEFAULT_ROOT_PSW": "contract-root", "AIPROXY_API_ENDPOINT": url,
                   "AIPROXY_API_TOKEN": ADMIN_KEY, "FASTGPT_LAB_VERSION": version}
    server = wire.Server([sys.executable, str(STAND_IN.parent / "fastgpt.py")], tmp_path, env=environment,
                         ready="/api/common/system/getInitData").start()
    monkeypatch.setattr(_aiproxy_plan, "is_loopback", lambda host: False)
    monkeypatch.setattr(_session, "runtime_folder", lambda: str(tmp_path / "run"))
    endpoint = Endpoint(server.url + BRIDGE_PATH, Secret("contract-root", "a test"), "a test", bridged=True)
    monkeypatch.setattr(aiproxy_channel, "gateway", lambda params, run: endpoint)
    try:
        four_times(capsys, url, name="bridged", base_url="http://" + upstream.address, key=CHANNEL_KEY,
                   models=["tiny:latest", {"name": "hf.co/x/%s:latest" % version, "type": "embedding"}])
        four_times(capsys, url, name="bridged", base_url="http://" + upstream.address, models=["tiny:latest"], priority=3)
        row = _aiproxy.direct(url, ADMIN_KEY).channel("bridged")
        assert (row["key"], row["priority"], row["models"]) == (CHANNEL_KEY, 3, ["tiny:latest"])
        four_times(capsys, url, name="bridged", state="absent")
    finally:
        server.stop()


def test_two_channels_of_one_name_are_left_alone(capsys, url):
    aiproxy = _aiproxy.direct(url, ADMIN_KEY)
    for _time in range(2):
        aiproxy.ask("POST", "/api/channel/", {"type": 30, "name": "twice", "base_url": "http://ollama:11434", "models": []})
    before = stored(url)
    result = call(capsys, url, False, name="twice", state="absent")
    assert result["failed"] and "2 channels with the name twice" in result["msg"]
    assert stored(url) == before
