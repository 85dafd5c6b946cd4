# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From -vvv on Ansible shows with which options a module was called: no secret is among them, whatever the module ends with."""

from __future__ import annotations

import importlib
import pathlib

import pytest
from ansible.module_utils import basic

from ansible_collections.localmodels.fastgpt.tests.unit.run_module import printed

# Since ansible-core 2.21 they are shown to those who ask for them only.
MODULES = [path.stem for path in (pathlib.Path(__file__).parents[2] / "plugins" / "modules").glob("*.py")]
SHOWN = {"_ansible_inject_invocation": True} if "inject_invocation" in basic.PASS_VARS else {}
NOBODY = "http://127.0.0.1:9"
PROXY = {"HTTPS_PROXY": "http://me:hidden-1@proxy.example.org:3128", "EXAMPLE_API_KEY": "hidden-2", "OLLAMA_KEEP_ALIVE": "shown"}
CALLS = [
    ("ollama_service", {"version": "0.32.15", "environment": PROXY}),
    ("ollama_container", {"image": "ollama/ollama:0.32.15", "environment": PROXY}),
    ("one_api_container", {"image": "shown", "fastgpt_project_dir": "/nowhere", "environment": {
        "SQL_DSN": "root:hidden-1@tcp(mysql:3306)/oneapi", "LOG_SQL_DSN": "postgres://one:hidden-2@pg:5432/logs",
        "REDIS_CONN_STRING": "redis://:hidden-3@redis:6379"}}),
    ("ollama_release", {"version": "shown", "url": "https://me:hidden-1@mirror.example.org/ollama"}),
    ("ollama_info", {"url": NOBODY, "headers": {"Authorization": "hidden-1"}, "models": ["shown"]}),
    ("ollama_models", {"url": NOBODY, "headers": {"Authorization": "hidden-1"}, "models": ["shown"]}),
    ("ollama_bundle_export", {"bundle": "shown", "release_url": "https://me:hidden-1@mirror.example.org/ollama"}),
    ("ollama_bundle_import", {"bundle": "shown", "url": NOBODY, "headers": {"Authorization": "hidden-1"}, "url_password": "hidden-2"}),
    ("one_api_channel", {"url": NOBODY, "access_token": "hidden-1", "channels": [
        {"name": "shown", "base_url": "http://ollama:11434", "models": ["a"], "key": "hidden-2"}]}),
    ("one_api_token", {"url": NOBODY, "access_token": "hidden-1", "tokens": [{"name": "shown"}]}),
    ("fastgpt_compose", {"project_dir": "/shown", "ollama": [], "one_api_key": "hidden-1"}),
    ("aiproxy_channel", {"aiproxy_url": NOBODY, "admin_key": "hidden-1", "root_password": "hidden-2", "channels": [
        {"name": "shown", "base_url": "http://ollama:11434", "models": ["a"], "key": "hidden-3"}]}),
    ("fastgpt_models", {"fastgpt_url": NOBODY, "root_password": "hidden-1", "admin_key": "hidden-2", "models": [
        {"name": "shown", "metadata": {"requestAuth": "hidden-3"}, "initial": {"requestAuth": "hidden-4"}}]}),
    ("fastgpt_app", {"fastgpt_url": NOBODY, "root_password": "hidden-1", "admin_key": "hidden-2", "apps": [{"name": "shown", "model": "a"}]}),
    ("fastgpt_verify", {"fastgpt_url": NOBODY, "root_password": "hidden-1", "aiproxy_url": NOBODY, "admin_key": "hidden-2",
                        "ollamas": [{"name": "a", "url": "http://me:hidden-3@ollama:11434", "models": []}], "app": "shown"}),
]


@pytest.mark.parametrize("name, options", CALLS, ids=[name for name, _ in CALLS])
def test_no_secret_among_the_options(capsys, name, options):
    module = importlib.import_module("ansible_collections.localmodels.fastgpt.plugins.modules." + name)
    out = printed(module, capsys, True, **dict(options, **SHOWN))
    assert "shown" in out and "module_args" in out
    assert "hidden-" not in out


def test_every_module_that_may_hold_a_secret_is_called():
    assert {name for name, _ in CALLS} == set(MODULES) - {"fastgpt_info"}  # its one option is a folder
