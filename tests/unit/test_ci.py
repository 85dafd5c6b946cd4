# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CI cannot lie: it runs everything there is, and a part that did not end well is a failure of the whole."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest
import run
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.localmodels.fastgpt.tests.stages import common, package, quick, scenarios

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Stages that `make test` does not name, and what it runs in their place.
ELSEWHERE = {"unit": "thorough", "campaign": "faults", "mutants": "corpus", "install": "package"}
SHIPPED = ("plugins", "roles", "playbooks", "meta", "extensions", "galaxy.yml")


def recipe(target):
    """The lines (list of str) of a target of the Makefile."""
    text = re.search(r"(?m)^%s:.*\n((?:\t.*\n)+)" % target, (ROOT / "Makefile").read_text()).group(1)
    return [line.strip().lstrip("@") for line in text.splitlines()]


def test_make_test_runs_every_stage():
    (line,) = [line for line in recipe("test") if line.startswith("$(RUN) ")]
    named = set(line.split()[1:]) - {"+"}
    assert named == set(run.STAGES) - set(ELSEWHERE) and set(ELSEWHERE.values()) <= named


@pytest.mark.parametrize("ended", [0, 2])
def test_ci_runs_make_test_and_ends_as_that_ended(tmp_path, ended):
    called = tmp_path / "called"
    for name, status in (("make", ended), ("python3", 0)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text('#!/bin/sh\necho "%s $*" >> %s\nexit %d\n' % (name, called, status))
        program.chmod(0o755)
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    done = subprocess.run(["bash", str(tmp_path / ".ci" / "run")], env={**os.environ, "PATH": "%s:%s" % (tmp_path / "bin", os.environ["PATH"])}, check=False)
    assert done.returncode == ended and called.read_text().splitlines() == ["make test", "python3 tests/lab/lab.py stop-engine"]


def test_a_stage_that_fails_makes_the_whole_fail_and_the_next_one_runs_all_the_same(monkeypatch, capsys):
    ran = []

    def stage(name, error=""):
        def go():
            ran.append(name)
            if error:
                raise run.common.StageFailed(error)
        go.__doc__ = name
        return go
    monkeypatch.setattr(run, "STAGES", {"good": stage("good"), "bad": stage("bad", "it broke"), "last": stage("last")})
    assert run.main(["good", "last"]) == 0 and run.main(["bad"]) == 1
    ran.clear()
    assert run.main(["good", "bad", "last"]) == 1 and ran == ["good", "bad", "last"]
    assert re.search(r"(?m)^bad +\d+  FAILED: it broke$", capsys.readouterr().out)


def test_a_program_that_does_not_end_with_0_is_a_failure():
    common.call(sys.executable, "-c", "")
    with pytest.raises(common.StageFailed, match="ended with 3"):
        common.call(sys.executable, "-c", "raise SystemExit(3)")


def test_lint_is_all_three_and_as_strict_as_can_be(monkeypatch):
    called = []
    monkeypatch.setattr(quick, "call", lambda program, *words, **env: called.append((program.name, *words)))
    quick.lint()
    assert {name for name, *dummy in called} == {"ruff", "yamllint", "ansible-lint"}
    assert all("--strict" in words for name, *words in called if name != "ruff")
    lint = yaml_load((ROOT / ".ansible-lint").read_text())
    assert lint["profile"] == "production" and not {"skip_list", "warn_list"} & set(lint)
    assert [path for path in lint["exclude_paths"] if path.startswith(SHIPPED)] == []


def test_a_scenario_that_leaves_out_a_step_does_not_begin(monkeypatch, tmp_path):
    (tmp_path / "config.yml").write_bytes((scenarios.FOLDER / "config.yml").read_bytes())
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "converge.yml").write_text("[]\n")
    (tmp_path / "one" / "molecule.yml").write_text("scenario: {test_sequence: [%s]}\n" % ", ".join(one for one in scenarios.STEPS if one != "idempotence"))
    monkeypatch.setattr(scenarios, "FOLDER", tmp_path)
    monkeypatch.setattr(scenarios, "_in_lanes", lambda *dummy: pytest.fail("it began"))
    with pytest.raises(common.StageFailed, match="scenario one: its test_sequence lacks 'idempotence'"):
        scenarios.molecule()


def test_each_role_has_a_scenario_that_applies_it():
    applied = {name for path in scenarios.FOLDER.glob("*/converge.yml") for name in re.findall(r"(?<!group/)\blocalmodels\.fastgpt\.(\w+)", path.read_text())}
    assert sorted({path.name for path in (ROOT / "roles").iterdir()} - applied) == []
    assert "site" in applied  # and all of them together, by their playbooks
    providers = yaml_load((ROOT / "roles" / "ollama" / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]["ollama_provider"]
    assert providers["choices"] == ["docker", "host"] and {"ollama_docker", "ollama_host"} <= set(scenarios.known())


def test_a_file_that_the_tarball_lacks_is_named(tmp_path):
    for name in package.CONTENT:
        (tmp_path / name).symlink_to(ROOT / name)
    package._holds_all(tmp_path)
    (tmp_path / "playbooks").unlink()
    (tmp_path / "playbooks").mkdir()
    with pytest.raises(common.StageFailed, match="not in the tarball .*playbooks/connect.yml.*playbooks/verify.yml"):
        package._holds_all(tmp_path)
