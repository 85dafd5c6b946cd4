# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fastgpt_compose as a task runs it, action plugin and module: check mode says what the run does and touches neither file nor container."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from ansible_collections.localmodels.fastgpt.plugins.action import fastgpt_compose as action_plugin
from ansible_collections.localmodels.fastgpt.plugins.modules import fastgpt_compose
from run_module import as_documented, printed
from test_alone import is_held
from test_compose_apply import HERE, files
from test_compose_strategies import engine_in


@pytest.fixture
def engine(tmp_path, monkeypatch):
    found = engine_in(tmp_path, monkeypatch)
    monkeypatch.setattr(fastgpt_compose, "runner", lambda module: found)
    return found


class Action(action_plugin.ActionModule):
    """The plugin without a connection: it runs the module here."""

    def __init__(self, capsys, check, arguments):
        self._task = SimpleNamespace(check_mode=check, async_val=0, args=arguments)
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
        self._capsys = capsys

    def _early_needs_tmp_path(self):
        return False

    def _execute_module(self, module_name=None, module_args=None, task_vars=None):
        return json.loads(printed(fastgpt_compose, self._capsys, self._task.check_mode, **module_args))


def play(engine, capsys, check=False, **options):
    """(the task's result, what it called of docker)."""
    engine.calls.clear()
    result = Action(capsys, check, dict(options, project_dir=engine.folder, ollama=HERE)).run(task_vars={"inventory_hostname": "box"})
    result.pop("invocation", None)
    return as_documented(fastgpt_compose, result), [call for call in engine.calls if " up " in call]


@pytest.mark.parametrize("strategy, apply", [("override", True), ("in_place", True), pytest.param("override", False, marks=pytest.mark.thorough),
                                              pytest.param("in_place", False, marks=pytest.mark.thorough)])
def test_the_project_in_check_mode_and_then_in_truth(engine, capsys, strategy, apply):
    options, before, running = {"strategy": strategy, "apply": apply, "path": "direct"}, files(engine), json.dumps(engine.made)
    told, ups = play(engine, capsys, True, **options)
    assert told["changed"] is True and (files(engine), json.dumps(engine.made), ups) == (before, running, [])
    assert not os.path.exists(os.path.join(engine.folder, ".localmodels"))
    done, ups = play(engine, capsys, **options)
    assert told == done and files(engine) != before and len(ups) == int(apply)
    for check in (True, False):
        assert play(engine, capsys, check, **options)[0]["changed"] is False


@pytest.mark.parametrize("apply", [True, False])
def test_a_backup_in_check_mode_and_then_in_truth(engine, capsys, apply):
    fresh = files(engine)
    play(engine, capsys, strategy="in_place", path="direct")
    before, running = files(engine), json.dumps(engine.made)
    told, ups = play(engine, capsys, True, state="restored", apply=apply)
    assert told["changed"] is True and told["restored"] == 1 and (files(engine), json.dumps(engine.made), ups) == (before, running, [])
    done, ups = play(engine, capsys, state="restored", apply=apply)
    assert done["actions"] == told["actions"] and files(engine) == fresh and len(ups) == int(apply)


def test_what_changes_the_project_is_alone_there_and_what_reads_it_is_not(engine, capsys, monkeypatch):
    seen = []

    def noting(arguments, cwd=None, env=None):
        seen.append(("up" in arguments, is_held(engine.folder)))
        return engine(arguments, cwd, env)

    monkeypatch.setattr(fastgpt_compose, "runner", lambda module: noting)
    play(engine, capsys, True, path="direct")
    assert seen and not any(held for dummy, held in seen)
    seen.clear()
    assert play(engine, capsys, path="direct")[0]["changed"] and (True, True) in seen and (True, False) not in seen
    seen.clear()
    assert json.loads(printed(fastgpt_compose, capsys, project_dir=engine.folder, ollama=HERE, state="restored"))["changed"]
    assert (True, True) in seen and not is_held(engine.folder)


@pytest.mark.parametrize("state", ["present", "restored"])
def test_a_file_that_cannot_be_read_is_named(engine, capsys, monkeypatch, state):
    """Ours is for its owner only where it holds a key, and somebody forgot become."""
    os.mkdir(os.path.join(engine.folder, ".env"))  # root may read all files
    os.makedirs(os.path.join(engine.folder, ".localmodels", "backups", "1"))
    with open(os.path.join(engine.folder, ".localmodels", "backups", "1", "manifest.json"), "w", encoding="utf-8") as manifest:
        json.dump({"files": {".env": {"existed": False, "coming": []}}, "up": True, "restored": None}, manifest)
    result = json.loads(printed(fastgpt_compose, capsys, project_dir=engine.folder, ollama=HERE, state=state))
    assert result["failed"] and "%s/.env, of the project in %s, cannot be used: Is a directory" % (engine.folder, engine.folder) in result["msg"]
