# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of the log of a scenario that failed, the task that did it is shown, in one line and in whole."""

from __future__ import annotations

import json
import pathlib

from ansible_collections.localmodels.fastgpt.tests.stages import failures, scenarios


def run(step, *tasks, ok=True):
    """The log of one step: tasks are pairs of a name and what a failed host said (dict, or None)."""
    lines = [f"INFO     [{step}] Executing", "", "PLAY [Something] ****", ""]
    for name, said in tasks:
        lines += [f"TASK [{name}] *****************", f"fatal: [box]: FAILED! => {json.dumps(said)}" if said else "ok: [box]", ""]
    count = "failed=0    rescued=1" if ok else "failed=1    rescued=0"
    return "\n".join([*lines, "PLAY RECAP *****************", f"box                        : ok=4    changed=0    unreachable=0    {count}",
                      "", f"INFO     [{step}] Executed: Successful" if ok else "CRITICAL Ansible return code was 2, command was: x", ""])


def test_the_failed_task_is_named_and_not_one_that_was_rescued_before():
    log = run("s > side_effect", ("Refused", {"msg": "as it should"})) + run(
        "s > verify", ("Refused", {"msg": "as it should, too"}), ("Nothing is new", {"msg": "[] []", "assertion": "a == b"}), ok=False)
    assert failures.sentence(log) == "s > verify: Nothing is new [box]: [] [] | a == b"
    assert failures.block(log).startswith("TASK [Nothing is new]") and "a == b" in failures.block(log) and "RECAP" not in failures.block(log)


def test_of_a_command_its_last_words_are_told():
    log = run("default > create", ("The lab runs", {"msg": "non-zero return code", "stderr": "lab: pushing\nlab: 500 Internal Server Error"}), ok=False)
    assert failures.sentence(log).endswith("non-zero return code | lab: pushing lab: 500 Internal Server Error")


def test_a_host_that_is_not_reached_is_a_failure_with_its_message():
    log = "INFO     [s > converge] Executing\nTASK [Asked] *****\nfatal: [box]: UNREACHABLE! => " + json.dumps({"msg": "timed out", "unreachable": True})
    log += "\n\nPLAY RECAP ******\nbox    : ok=0    changed=0    unreachable=1    failed=0\n"
    assert failures.sentence(log) == "s > converge: Asked [box]: timed out"


def test_an_item_of_a_loop_is_found():
    log = "INFO     [s > converge] Executing\nTASK [Each] *****\nfailed: [box] (item=a) => " + json.dumps({"msg": "no a"}) + "\nPLAY RECAP ***\n"
    assert failures.sentence(log) == "s > converge: Each [box]: no a"


def test_where_no_task_failed_molecule_is_quoted():
    log = run("s > idempotence", ("Applied", None))
    log += "\x1b[31mCRITICAL Idempotence test failed because of the following tasks:\n*  => ollama : Applied\x1b[0m\n"
    assert failures.sentence(log) == "Idempotence test failed because of the following tasks: * => ollama : Applied"
    assert failures.block(log) == ""


def test_a_log_that_breaks_off_says_what_it_can():
    assert failures.sentence("") == "" and failures.block("") == ""
    assert failures.sentence("INFO     [s > converge] Executing\nTASK [A] ***\nfatal: [box]: FAILED! => {\"msg\": \"cut o") \
        == "s > converge: A [box]: {\"msg\": \"cut o"


def test_a_failed_scenario_shows_task_and_end_of_its_log(monkeypatch, tmp_path, capsys):
    log = run("one > verify", ("Long ago", {"msg": "the cause"}), ok=False) + "x" * (scenarios.LOG_SHOWN + 1)

    class Done:
        returncode = 2

    def molecule(_command, stdout, **_others):
        stdout.write(log)
        return Done()

    monkeypatch.setattr(scenarios.subprocess, "run", molecule)
    monkeypatch.setattr(scenarios, "CACHE", tmp_path)
    monkeypatch.setattr(scenarios, "CHECKOUT", tmp_path)
    _, error = scenarios._run("one", "lab", pathlib.Path(tmp_path))
    shown = capsys.readouterr().out
    assert error == "FAILED: molecule ended with 2: one > verify: Long ago [box]: the cause"
    assert "TASK [Long ago]" in shown and shown.count("the cause") >= 2
