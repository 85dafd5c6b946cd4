# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that look after FastGPT, as a whole: what they return is what their documentation tells, and check mode writes nothing."""

from __future__ import annotations

import json

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _fastgpt
from ansible_collections.localmodels.fastgpt.plugins.modules import aiproxy_channel, fastgpt_app, fastgpt_info, fastgpt_models, fastgpt_verify
from ansible_collections.localmodels.fastgpt.tests.unit.fastgpt_fake import FakeFastGPT, Memory
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import as_documented, call, printed, unkept, untold
from test_docker import Fake
from test_project import LIST_STYLE, load
from test_project_down import ITEMS, nothing_runs

MODEL = {"type": "llm", "isActive": True}
CHANGES = [
    (fastgpt_models, {"models": [{"name": "a:1", "metadata": MODEL}], "defaults": {"llm": "a:1"}}, ["Add model a:1 (llm)", "Set default llm to a:1"]),
    (fastgpt_models, {"models": [{"name": "b:1", "state": "absent"}]}, ["Delete model b:1"]),
    (fastgpt_app, {"apps": [{"name": "New", "model": "b:1"}]}, ["Add app New with model b:1"]),
]


@pytest.fixture
def server(monkeypatch):
    """A FastGPT that the modules reach at the address they are given."""
    found = FakeFastGPT({"b:1": dict(MODEL)})
    monkeypatch.setattr(_fastgpt, "Client", lambda url, hop, timeout: found)
    monkeypatch.setattr(_fastgpt, "Session", lambda url, project, password: Memory())
    return found


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("module, options, actions", CHANGES, ids=lambda value: value.__name__.rpartition(".")[2] if hasattr(value, "main") else "")
def test_check_mode_says_what_the_run_does_and_writes_nothing(server, capsys, module, options, actions, check):
    result = call(module, capsys, check, fastgpt_url=server.base_url, root_password="1234", **options)
    assert result["changed"] is True and result["actions"] == actions and result["diff"]["before"] != result["diff"]["after"]
    assert bool(server.written) != check
    again = call(module, capsys, check, fastgpt_url=server.base_url, root_password="1234", **options)
    assert again["changed"] is check


@pytest.mark.parametrize("module", list(ITEMS), ids=lambda module: module.__name__.rpartition(".")[2])
def test_what_check_mode_returns_without_a_fastgpt(monkeypatch, capsys, tmp_path, module):
    monkeypatch.setattr(module, "runner", nothing_runs)
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    result = call(module, capsys, True, project_dir=str(tmp_path), **ITEMS[module])
    assert result["changed"] is False and result["actions"] == []


@pytest.mark.parametrize("check", [True, False])
def test_what_a_project_is_made_of(monkeypatch, capsys, tmp_path, check):
    config = json.dumps(load(LIST_STYLE))
    monkeypatch.setattr(fastgpt_info, "runner", lambda module: Fake(("ps", (0, "", "")), ("config", (0, config, "")), ("context", (0, "", ""))))
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    result = json.loads(printed(fastgpt_info, capsys, check, project_dir=str(tmp_path)))
    assert (result["version"], result["flavour"], result["gateway"]["service"], result["changed"]) == ("4.9.14", "A", "aiproxy", False)
    assert result["fastgpt"] == {"service": "fastgpt", "url": "http://127.0.0.1:3000", "copies": ["fastgpt"]}
    assert result["services"]["aiproxy"]["networks"] == ["fastgpt_fastgpt"] and result["services"]["fastgpt"]["ports"] == {"3000": "127.0.0.1:3000"}
    assert result["secrets"] == {"root_password": "DEFAULT_ROOT_PSW of service fastgpt in %s" % tmp_path,
                                 "admin_key": "ADMIN_KEY of service aiproxy in %s" % tmp_path}
    as_documented(fastgpt_info, dict(result, services=list(result["services"].values())))  # a map by name, of which RETURN tells what each holds


@pytest.mark.parametrize("check", [True, False])
def test_a_walk(server, capsys, check):
    server.absent += ("/api/aiproxy/",)
    result = call(fastgpt_verify, capsys, check, fastgpt_url=server.base_url, root_password="1234", aiproxy_url="http://127.0.0.1:9", admin_key="k" * 9,
                  ollamas=[{"name": "ollama", "url": "http://ollama:11434", "models": [{"name": "b:1"}]}], app="Local models")
    assert result["changed"] is False and "First broken hop: admin key of AI Proxy" in result["verdict"] and server.written == []


def test_what_is_not_told_and_what_is_not_kept_is_seen():
    result = {"changed": True, "actions": [], "channels": [{"name": "a", "id": 1, "other": 2}], "gateway": {"url": "x"}, "more": 1}
    assert untold(aiproxy_channel, result) == ["channels.other", "more"]
    assert unkept(aiproxy_channel, result) == ["channels.action", "channels.models", "channels.state", "gateway.secret_found_in", "gateway.url_found_in"]
    assert unkept(aiproxy_channel, {}) == ["actions", "channels", "gateway"] and unkept(aiproxy_channel, {"failed": True}) == []
