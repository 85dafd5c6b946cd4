# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A FastGPT project that nobody has started yet: an error in a run, and in check mode what role fastgpt_compose would have mended."""

from __future__ import annotations

import json

import pytest
from ansible_collections.localmodels.fastgpt.plugins.modules import aiproxy_channel, fastgpt_app, fastgpt_models
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import printed
from test_docker import Fake
from test_project import LIST_STYLE, load

ITEMS = {
    aiproxy_channel: {"channels": [{"name": "ollama", "base_url": "http://ollama:11434", "models": ["a"]}]},
    fastgpt_models: {"models": [{"name": "a"}]},
    fastgpt_app: {"apps": [{"name": "Local models", "model": "a"}]},
}


def nothing_runs(module):
    """docker, in a place of a project without any container."""
    config = load(LIST_STYLE)
    config["services"]["fastgpt"]["ports"] = [{"target": 3000, "published": "1"}]  # nothing listens there
    return Fake(("ps", (0, "", "")), ("config", (0, json.dumps(config), "")), ("context", (0, "", "")))


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("module", list(ITEMS))
def test_what_does_not_run_is_no_failure_of_check_mode(monkeypatch, capsys, tmp_path, module, check):
    monkeypatch.setattr(module, "runner", nothing_runs)
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    result = json.loads(printed(module, capsys, check, diff=False, project_dir=str(tmp_path), **ITEMS[module]))
    assert bool(result.get("failed")) != check and not result.get("changed")
    said = json.dumps(result["warnings"]) if check else result["msg"]
    if module is aiproxy_channel:  # AI Proxy has no address at all then; FastGPT's published port is known from the file
        assert "does not run: its container is missing. Start it with `docker compose up -d`" in said
    else:
        assert "FastGPT at http://127.0.0.1:1 refuses the connection. Service fastgpt has no container. Make and start it with `docker compose" in said
    assert ("Check mode goes on without it" in said) == check
