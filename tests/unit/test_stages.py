# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scenario that did not run to its end is a failure, whatever Molecule said."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import threading

import pytest
import run
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.localmodels.fastgpt.tests.stages import common, scenarios

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "extensions" / "molecule"
SHARED = yaml_load((FOLDER / "config.yml").read_text())["scenario"]["test_sequence"]


def test_every_folder_but_the_one_that_makes_the_lab_is_a_scenario():
    folders = {path.parent.name for path in FOLDER.glob("*/molecule.yml")}
    assert set(scenarios.known()) == folders - {"default"}


def test_the_shared_sequence_is_complete():
    assert scenarios.incomplete(SHARED) == ""


@pytest.mark.parametrize("step", ["side_effect ../shared/fresh.yml", "side_effect ../shared/check_fresh.yml", "converge", "idempotence",
                                  "side_effect ../shared/check_converged.yml", "side_effect ../shared/report.yml"])
def test_a_step_that_is_left_out_is_missed(step):
    assert scenarios.incomplete([one for one in SHARED if one != step]) != ""


def test_a_report_before_the_end_is_no_report():
    assert scenarios.incomplete(SHARED + ["verify"]) != ""


def test_a_playbook_that_no_step_runs_is_missed(tmp_path):
    for name in ("molecule.yml", "converge.yml", "cases.yml", "imported.yml"):
        (tmp_path / name).write_text("- import_playbook: imported.yml" if name == "cases.yml" else "")
    assert scenarios.idle(tmp_path, ["converge", "side_effect cases.yml"]) == []
    assert scenarios.idle(tmp_path, ["converge"]) == ["cases.yml", "imported.yml"]


def test_a_side_effect_without_its_file_is_not_what_it_seems(tmp_path):
    (tmp_path / "side_effect.yml").write_text("")
    assert scenarios.idle(tmp_path, ["converge", "side_effect"])


@pytest.mark.parametrize("name", scenarios.known())
def test_all_of_a_scenario_runs(name):
    own = yaml_load((FOLDER / name / "molecule.yml").read_text()).get("scenario", {})
    assert scenarios.idle(FOLDER / name, own.get("test_sequence", SHARED)) == []


@pytest.fixture
def lab(monkeypatch):
    """Stands for Molecule and the lab; `ends` says of a scenario how it ends: "reports", "silently" or "fails"."""
    ends = {}

    def molecule(command, env, **_others):
        name = command[command.index("--scenario-name") + 1]
        if ends[name] == "reports":
            (pathlib.Path(env["LAB_REPORTS"]) / name).write_text(name)
        return subprocess.CompletedProcess(command, 1 if ends[name] == "fails" else 0)

    monkeypatch.setattr(scenarios.subprocess, "run", molecule)
    monkeypatch.setattr(scenarios, "call", lambda *command, **environment: None)
    monkeypatch.setattr(scenarios, "CACHE", scenarios.CHECKOUT / ".cache" / "test-stages")
    ends.update(dict.fromkeys(scenarios.known(), "reports"))
    yield ends
    shutil.rmtree(scenarios.CACHE, ignore_errors=True)  # not there where nothing was started


def test_all_that_report_are_well(lab):
    scenarios.molecule()


@pytest.mark.parametrize("end", ["silently", "fails"])
def test_one_that_does_not_report_is_a_failure_by_name(lab, end):
    lab["ollama_host"] = end
    with pytest.raises(common.StageFailed, match=r"scenarios that failed: ollama_host \(FAILED: (it did not run to its end|molecule ended with 1.*)\)$"):
        scenarios.molecule()


def test_a_scenario_that_is_not_there_is_a_failure(lab):
    with pytest.raises(common.StageFailed, match="no scenario nobody"):
        scenarios.molecule(["nobody"])


def test_what_stands_on_either_side_of_a_plus_runs_at_the_same_time(monkeypatch):
    meet = threading.Barrier(2, timeout=10)
    monkeypatch.setattr(run, "told", lambda name: (meet.wait() * 0, f"{name} failed" if name == "unit" else ""))
    rows = run.side_by_side(run.split(["lint", "unit", "+", "images", "molecule"]))
    assert [(name, error) for name, _, error in rows] == [("lint", ""), ("unit", "unit failed"), ("images", ""), ("molecule", "")]


def test_a_stage_of_its_own_process_that_does_not_end_well_is_a_failure(capfd):
    assert run.told("no-such")[1] == "ended with 2"
    assert "no-such  | run.py: no stage ['no-such']" in capfd.readouterr().out


@pytest.mark.parametrize("names", [["unit", "+"], ["+", "unit"], ["unit", "+", "nobody"], []])
def test_stages_that_are_not_there_are_refused(names, capsys):
    assert run.main(names) == 2
