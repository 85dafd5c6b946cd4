# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin between what the host reads and what it carries out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.plugins.action import fastgpt_compose as action_plugin
from test_compose import DOCKER, found, task
from test_project import LIST_STYLE, load


class Marked(str):
    """As the texts that a module returns are under ansible-core 2.17 and 2.18."""


def marked(value):
    if isinstance(value, dict):
        return {marked(key): marked(one) for key, one in value.items()}
    if isinstance(value, list):
        return [marked(one) for one in value]
    return Marked(value) if isinstance(value, str) else value


class Action(action_plugin.ActionModule):
    """`said`: what the module returns when it reads, and when it applies a plan. `plans`: those that it got."""

    def __init__(self, read, applied, check=False):
        self._task = SimpleNamespace(check_mode=check, async_val=0, args={"project_dir": "/opt/fastgpt"})
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
        self.said, self.plans = [read, applied], []

    def _early_needs_tmp_path(self):
        return False

    def _execute_module(self, module_name=None, module_args=None, task_vars=None):
        self.plans += [module_args["plan"]] if "plan" in module_args else []
        return marked(self.said.pop(0))


READ = {"found": found(load(LIST_STYLE)), "task": task([DOCKER])}


@pytest.mark.parametrize("check", [True, False])
def test_a_plan_is_made_of_what_the_host_said_and_sent_there(check):
    action = Action(READ, {"changed": True}, check)
    result = action.run(task_vars={"inventory_hostname": "box"})
    assert result["changed"] and result["service"] == "aiproxy" and len(action.plans) == (0 if check else 1)
    for plan in action.plans:
        assert yaml_load(plan["text"])["networks"] == {"ollama": {"name": "ollama", "external": True}}


def test_what_the_host_takes_back_is_no_result_of_the_decision():
    result = Action(READ, {"failed": True, "changed": False, "msg": "taken back"}).run(task_vars={"inventory_hostname": "box"})
    assert result["failed"] and not result["changed"] and "service" not in result


def test_a_file_that_is_the_same_after_all_is_no_change():
    result = Action(READ, {"changed": False}).run(task_vars={"inventory_hostname": "box"})
    assert not result["changed"] and result["actions"] == []


def test_what_cannot_be_read_is_no_traceback():
    result = Action({"failed": True, "msg": "There is no compose file"}, None).run(task_vars={"inventory_hostname": "box"})
    assert result["failed"] and "There is no compose file" in result["msg"]
