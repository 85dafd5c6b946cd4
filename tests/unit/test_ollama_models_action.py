# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin: how many calls it makes, what it shows, and what it does when the host or the job goes away."""

from __future__ import annotations

import importlib
import json
import re
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.plugins.action import ollama_bundle_export
from ansible_collections.localmodels.fastgpt.plugins.action import ollama_models as action_plugin

FOLDER = "/tmp/ollama-models.Xyz"
JOB = {"ansible_job_id": "j1", "results_file": "/root/.ansible_async/j1", "started": 1, "finished": 0, "changed": True}


def answer(*actions, **more):
    return dict({"changed": any(a not in ("none", "ask") for a in actions), "reachable": True,
                 "models": [{"name": "x:latest", "action": a} for a in actions]}, **more)


def state(completed=40, ended=()):
    model = {"completed": completed, "total": 100, "rate": 10, "status": "pulling aaa", "tries": 1}
    return json.dumps({"done": len(ended), "of": 1, "models": {"x:latest": model}, "ended": list(ended)})


class Action(action_plugin.ActionModule):
    """Answers of the host instead of a host. `planned`, `real`: results of the module; `polls`: outputs of the waiting command."""

    def __init__(self, planned, real=None, polls=("\nended\n",), check=False, **task):
        self._task = SimpleNamespace(**dict(dict(check_mode=check, async_val=0, args={"models": ["x"]}, delegate_to=None, no_log=False), **task))
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"), has_native_async=False)
        self.planned, self.real, self.polls = planned, real, list(polls)
        self.calls, self.commands, self.remembered = [], [], []
        self.finished = True

    def _early_needs_tmp_path(self):
        return False

    def _execute_module(self, module_name=None, module_args=None, task_vars=None, wrap_async=False):
        assert task_vars
        if module_name.endswith("async_status"):
            assert module_args == {"jid": "j1", "_async_dir": "/root/.ansible_async"}
            self.calls.append("status")
            return dict(self.real, finished=1, started=1, ansible_job_id="j1", results_file="f") if self.finished else {"finished": 0}
        self.calls.append(("check" if self._task.check_mode else "real") + (" job" if wrap_async else ""))
        if wrap_async:
            assert self._task.async_val > 3600
            self.progress_path = module_args.get("progress_path")
            return dict(JOB)
        assert "progress_path" not in module_args
        if self._task.check_mode:
            self.remembered.append(module_args.get("remember", False))
        return dict(self.planned if self._task.check_mode else self.real)

    def _low_level_execute_command(self, cmd, sudoable=True):
        assert sudoable, "runs as the user who runs the module"
        self.commands.append(cmd)
        if "mktemp" in cmd:
            return {"stdout": "Welcome\n%s\n" % FOLDER}
        if "sleep" not in cmd:
            return {"stdout": ""}
        said = self.polls.pop(0)
        if isinstance(said, Exception):
            raise said
        return {"stdout": said}


@pytest.fixture()
def shown(monkeypatch):
    lines = []
    monkeypatch.setattr(action_plugin.display, "display", lines.append)
    monkeypatch.setattr(action_plugin.display, "warning", lambda text: lines.append("WARNING " + text))
    monkeypatch.setattr(action_plugin.time, "sleep", lambda seconds: None)
    return lines


def run(action):
    return action.run(task_vars={"inventory_hostname": "gpu1"})


@pytest.mark.parametrize("plugin", [action_plugin, ollama_bundle_export])
def test_what_an_action_adds_is_an_option_of_its_module(plugin):
    name = plugin.ActionModule.MODULE.rpartition(".")[2]
    module = importlib.import_module("ansible_collections.localmodels.fastgpt.plugins.modules." + name)
    assert set(plugin.ActionModule.PLANNING) | {"progress_path"} <= set(yaml_load(module.DOCUMENTATION)["options"])


def test_nothing_to_do_is_one_call(shown):
    action = Action(answer("none", "none"))
    assert run(action)["changed"] is False
    assert (action.calls, action.commands, shown) == (["check"], [], [])


def test_check_mode_is_one_call_and_shows_nothing(shown):
    action = Action(answer("pull"), check=True)
    assert run(action)["changed"] is True
    assert (action.calls, action.commands, shown) == (["check"], [], [])


def test_what_cannot_be_is_one_call(shown):
    action = Action({"failed": True, "msg": "no such model", "changed": False})
    assert run(action)["msg"] == "no such model"
    assert action.calls == ["check"]


def test_an_upload_is_watched_and_a_creation_that_sends_nothing_is_not(shown):
    sends = {"changed": True, "reachable": True, "models": [{"action": "create", "bytes": 5}], "actions": []}
    action = Action(sends, sends, ["\nended\n"])
    run(action)
    assert action.calls == ["check", "real job", "status"]
    plain = dict(sends, models=[{"action": "create", "bytes": 0}])
    action = Action(plain, plain)
    run(action)
    assert action.calls == ["check", "real"]


def test_digests_that_the_first_look_read_are_noted_unless_the_user_asked_for_check_mode(shown):
    for check in (True, False):
        action = Action(answer("none"), check=check)
        run(action)
        assert action.remembered == [not check]


def test_deletions_need_no_watching(shown):
    action = Action(answer("delete", "none"), answer("delete", "none"))
    assert run(action)["changed"] is True
    assert (action.calls, action.commands) == (["check", "real"], [])


def test_a_server_that_is_away_is_an_error_in_a_real_run(shown):
    action = Action(answer("pull", reachable=False), {"failed": True, "msg": "refuses the connection"})
    assert run(action)["failed"] is True and action.calls == ["check", "real"]


@pytest.mark.parametrize("verb", ["pull", "update", "ask"])
def test_a_pull_is_watched(shown, verb):
    polls = [state(40), state(80), state(100, ["Pulled x:latest"]) + "\nended\n"]
    action = Action(answer(verb), answer(verb, actions=["Pulled x:latest"]), polls)
    result = run(action)
    assert shown == ["gpu1: x:latest, 40 %, 40 B of 100 B, 10 B/s, 6 s left", "gpu1: x:latest, 80 %, 80 B of 100 B, 10 B/s, 2 s left",
                     "gpu1: Pulled x:latest"]
    assert action.calls == ["check", "real job", "status"]
    assert action.progress_path == FOLDER + "/progress"
    assert result == answer(verb, actions=["Pulled x:latest"]), "nothing of the job is left in the result"
    assert FOLDER in action.commands[-1] and "rm -rf" in action.commands[-1] and JOB["results_file"] in action.commands[-1]
    assert action._task.async_val == 0 and action._task.check_mode is False


def test_delegated_pulls_name_both_hosts(shown):
    """A fleet of servers that are reached from localhost is told apart by the hosts it is done for."""
    run(Action(answer("pull"), answer("pull"), [state(), "\nended\n"], delegate_to="gpu7"))
    assert shown[0].startswith("gpu1 -> gpu7: ")


def test_no_log_shows_nothing(shown):
    run(Action(answer("pull"), answer("pull"), [state(), "\nended\n"], no_log=True))
    assert shown == []


def test_a_connection_that_comes_back_is_no_failure(shown):
    action = Action(answer("pull"), answer("pull"), [state(), AnsibleConnectionFailure("gone"), state(80), "\nended\n"])
    assert run(action)["changed"] is True


def test_a_connection_that_stays_away_says_what_becomes_of_the_pull(shown):
    action = Action(answer("pull"), answer("pull"), [AnsibleConnectionFailure("gone")] * 20)
    with pytest.raises(AnsibleConnectionFailure):
        run(action)
    assert "ends by itself within 60 s" in shown[-1]


def test_a_line_comes_at_least_every_ten_seconds_and_the_end_is_seen_at_once(shown):
    """The host waits for the end of the module, and two seconds are left for the way there and back."""
    action = Action(answer("pull"), answer("pull"), [state(40)] * 2 + ["\nended\n"])
    run(action)
    touched, *asked = [command for command in action.commands if "progress" in command and not command.startswith("rm ")]
    assert touched == "touch %s/progress.watched" % FOLDER, "before the job starts, for it looks whether somebody watches"
    for command in asked:
        rounds, each = re.search(r"-lt (\d+) .*sleep ([0-9.]+);", command).groups()
        assert 4 <= int(rounds) * float(each) <= 8 and "! [ -e %s/progress.ended ]" % FOLDER in command
        assert command.startswith("touch %s/progress.watched;" % FOLDER), "each look tells the module that somebody watches"
    assert len(shown) == 2


def test_before_the_module_has_written_anything_and_between_two_models_nothing_is_shown(shown):
    between = json.dumps({"done": 1, "of": 2, "models": {}, "ended": []})
    run(Action(answer("pull"), answer("pull"), ["", "Welcome\n", between, "\nended\n"]))
    assert shown == []


def test_a_play_that_is_gone_takes_its_pull_along(shown, monkeypatch):
    """Whoever works for a host lives on when the play is killed, and would tell the host that somebody watches."""
    parents = [100, 100, 100, 1, 1]
    monkeypatch.setattr(action_plugin.os, "getppid", lambda: parents.pop(0))
    action = Action(answer("pull"), answer("pull"), [state(40), state(50), state(60), "\nended\n"])
    with pytest.raises(AnsibleError, match="The play is gone, so the pull for gpu1 is cancelled; the next run resumes it"):
        run(action)
    assert len(action.polls) == 2 and action.commands[-1].startswith("rm -rf " + FOLDER), "without its folder the module ends at once"



def test_lines_that_were_lost_now_and_then_are_forgotten(shown):
    gone = AnsibleConnectionFailure("gone")
    polls = ([gone] * action_plugin.LOST_LINES + [state(40)]) * 2 + ["\nended\n"]
    assert run(Action(answer("pull"), answer("pull"), polls))["changed"] is True
    with pytest.raises(AnsibleConnectionFailure):
        run(Action(answer("pull"), answer("pull"), [gone] * (action_plugin.LOST_LINES + 1) + ["\nended\n"]))


def test_the_folder_goes_also_when_the_watching_breaks(shown):
    action = Action(answer("pull"), answer("pull"), [RuntimeError("ctrl-c")])
    with pytest.raises(RuntimeError):
        run(action)
    assert action.commands[-1].startswith("rm -rf %s " % FOLDER), "the module sees it, and ends the pull"


def test_where_no_folder_can_be_made_the_module_runs_without_being_watched(shown):
    action = Action(answer("pull"), answer("pull"))
    action._low_level_execute_command = lambda cmd, sudoable=True: {"stdout": "mktemp: No space left on device\n"}
    assert run(action)["changed"] is True and action.calls == ["check", "real"]


def test_on_windows_there_is_no_shell_to_watch_with(shown):
    action = Action(answer("pull"), answer("pull"))
    action._connection._shell._IS_WINDOWS = True
    assert run(action)["changed"] is True and (action.calls, action.commands) == (["check", "real"], [])


@pytest.mark.parametrize("verb, size, calls", [
    ("prune", 5, ["check", "real"]), ("load", 0, ["check", "real"]), ("recheck", 0, ["check", "real job", "status"])])
def test_only_what_takes_long_is_watched(shown, verb, size, calls):
    planned = dict(answer(verb), models=[{"name": "x:latest", "action": verb, "bytes": size}])
    action = Action(planned, planned)
    run(action)
    assert action.calls == calls


def test_nothing_to_do_on_a_server_that_is_away_is_an_error_in_a_real_run(shown):
    action = Action(answer("none", reachable=False), {"failed": True, "msg": "refuses the connection"})
    assert run(action)["failed"] is True and action.calls == ["check", "real"]


def test_a_job_that_was_killed_is_noticed(shown):
    action = Action(answer("pull"), {"failed": True, "msg": "killed"}, [state()] * 20)
    assert run(action)["failed"] is True
    assert 3 <= len([c for c in action.commands if "sleep" in c]) <= 6


def test_a_standstill_of_a_living_job_goes_on(shown):
    action = Action(answer("pull"), answer("pull"), [state()] * 7 + ["\nended\n"])
    action.finished = False
    original = action._low_level_execute_command

    def command(cmd, sudoable=True):
        result = original(cmd, sudoable)
        action.finished = result["stdout"].strip() == "ended"
        return result

    action._low_level_execute_command = command
    assert run(action)["changed"] is True


def test_whoever_says_async_watches_the_job_himself(shown):
    action = Action(answer("pull"), answer("pull"), async_val=7200)
    assert run(action)["ansible_job_id"] == "j1" and action.calls == ["real job"]


def test_a_module_that_does_not_start_says_why(shown):
    class Broken(Action):
        def _execute_module(self, wrap_async=False, **more):
            return {"failed": True, "msg": "no Python"} if wrap_async else super()._execute_module(wrap_async=wrap_async, **more)

    assert run(Broken(answer("pull"), answer("pull")))["msg"] == "no Python"


def test_a_job_without_a_result_is_a_failure(shown):
    action = Action(answer("pull"), answer("pull"))
    action.finished = False
    assert run(action)["failed"] is True
