# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kept backups come back, and files are written for a pipeline. The engine is a small model of one."""

from __future__ import annotations

import json
import os
import pathlib

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._backup import Backup
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_apply import Site
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_restore import Restoring
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.modules import fastgpt_compose
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_decide import decide
from run_module import call
from test_compose import task
from test_compose_apply import HERE, OVERRIDE, Clock, files
from test_compose_strategies import FEW_WAYS, KEY, MAIN, WAYS, connect, engine_in, variables


@pytest.fixture
def engine(tmp_path, monkeypatch):
    return engine_in(tmp_path, monkeypatch)


def restoring(engine, number="newest"):
    return Restoring(Docker(engine, engine.folder), number)


def restored(engine, number="newest", keep=5):
    found = restoring(engine, number)
    if found.changed():
        found.apply(10, keep, Clock())
        return True
    return False


def runs(engine):
    return {name: one["wanted"] for name, one in engine.made.items()}


def write(engine, path="direct", strategy="override", check=False):
    """As the module does it with apply: false, with an engine that does not run."""
    def without_engine(arguments, cwd=None, env=None):
        assert "config" in arguments, "the engine is asked: %s" % arguments
        return engine(arguments, cwd, env)
    one_api = os.path.join(os.path.dirname(engine.folder), "one-api") if path == "one_api" else None
    site = Site(Docker(without_engine, engine.folder), None, one_api, engine=False)
    decided = decide(json.loads(json.dumps(site.found(["ollama"]))), task(HERE, path=path, strategy=strategy, apply=False), "box")
    changed = bool(site.pending(decided["plan"]) or decided["plan"]["lacking"])
    if changed and not check:
        site.write(decided["plan"], 5)
    return changed, decided


def test_the_newest_backup_comes_back_and_then_there_is_nothing_to_do(engine):
    fresh, fresh_runs = files(engine), runs(engine)
    connect(engine, "direct", "in_place")
    assert restoring(engine).told()["actions"] == ["Bring %s back as it was before change 1" % os.path.join(engine.folder, MAIN)]
    assert restored(engine)
    assert (files(engine), runs(engine)) == (fresh, fresh_runs)
    assert not restored(engine)
    assert Backup(engine.folder).numbers() == [1, 2] and not Backup(engine.folder).unfinished()


def test_any_backup_comes_back_by_its_number_with_all_that_changed_since(engine):
    states = [files(engine)]
    for path, strategy in (("aiproxy", "override"), ("direct", "in_place"), ("one_api", "override")):
        connect(engine, path, strategy)
        states.append(files(engine))
    for number in (2, 1, 3, 1):
        restored(engine, str(number), keep=9)
        assert files(engine) == states[number - 1]
        assert not restored(engine, str(number), keep=9)
    restored(engine, "5", keep=9)  # what was there before 1 came back: the state before change 2
    assert files(engine) == states[1]


def test_a_private_file_comes_back_private(engine):
    connect(engine, "one_api")
    connect(engine, "aiproxy", "in_place")
    assert OVERRIDE not in files(engine)
    told = json.dumps(restoring(engine).told())
    assert KEY not in told and "mypassword" not in told and "CHAT_API_KEY: (set)" in told
    restored(engine)
    assert os.stat(os.path.join(engine.folder, OVERRIDE)).st_mode & 0o777 == 0o600
    assert variables(engine)["CHAT_API_KEY"] == KEY


def test_one_backup_is_enough_to_come_back_twice(engine):
    for path in ("aiproxy", "direct", "one_api"):
        connect(engine, path)
    for number in Backup(engine.folder).numbers()[:-1]:
        Backup(engine.folder)._discard(Backup(engine.folder)._backup(number))
    assert restored(engine, keep=1)
    assert not restored(engine, keep=1)
    assert len(Backup(engine.folder).numbers()) == 2


@pytest.mark.parametrize(("path", "strategy"), FEW_WAYS)
def test_a_backup_that_does_not_come_up_is_taken_back(engine, path, strategy):
    connect(engine, path, strategy)
    connect(engine, "aiproxy", "override", ollamas=[dict(HERE[0], host="gpu1", provider="host", address="192.0.2.20")])
    before, running = files(engine), runs(engine)
    engine.sick_in = "ollama"
    if path == "one_api":
        engine.refuses = "Error response from daemon: manifest unknown\n"
    with pytest.raises(LocalModelsError, match="as before"):
        restored(engine)
    engine.refuses = ""
    assert (files(engine), runs(engine)) == (before, running)
    assert not Backup(engine.folder).unfinished()


def test_a_project_that_somebody_broke_comes_back(engine):
    connect(engine, "direct", "in_place")
    good, path = files(engine), pathlib.Path(engine.folder, MAIN)
    connect(engine, "one_api", "in_place")
    path.write_bytes(b"services: [\n")
    found = restoring(engine)
    assert found.edited == [MAIN]
    broken = engine.effective
    engine.effective = lambda named=None: broken(named) if b"[\n" != path.read_bytes()[-2:] else 1 / 0

    def run(arguments, cwd=None, env=None):
        try:
            return engine(arguments, cwd, env)
        except ZeroDivisionError:
            return 1, "", "yaml: line 1: did not find expected node content\n"
    found = Restoring(Docker(run, engine.folder))
    found.apply(10, 5, Clock())
    assert files(engine) == good and variables(engine)["OPENAI_BASE_URL"] == "http://ollama:11434/v1"


def test_what_is_not_there_is_refused_with_what_is(engine):
    with pytest.raises(LocalModelsError, match=r"There is no backup in .*/backups.*fastgpt_compose_backups"):
        restoring(engine)
    connect(engine, "direct")
    for wanted in ("7", "latest", "-1"):
        with pytest.raises(LocalModelsError, match="There is no backup %s in .* newest or one of 1" % wanted):
            restoring(engine, wanted)


def test_files_of_a_backup_alone(engine):
    fresh = files(engine)
    connect(engine, "direct", "in_place")
    running = runs(engine)
    found = restoring(engine)
    found.write(5)
    assert files(engine) == fresh and runs(engine) == running
    assert not restoring(engine).changed(apply=False) and not Backup(engine.folder).unfinished()


@pytest.mark.parametrize(("path", "strategy"), FEW_WAYS)
def test_files_only_and_the_pipeline_brings_them_up(engine, path, strategy):
    running = runs(engine)
    before = files(engine)
    assert write(engine, path, strategy, check=True)[0] and files(engine) == before
    assert write(engine, path, strategy)[0]
    assert runs(engine) == running and not Backup(engine.folder).unfinished()
    assert not write(engine, path, strategy)[0]
    engine.up("fastgpt", "aiproxy")  # the pipeline
    assert not connect(engine, path, strategy)


@pytest.mark.parametrize(("first", "second"), [
    pytest.param(one, two, marks=[] if WAYS[WAYS.index(one) - 1] == two else pytest.mark.thorough)  # each way once, or all pairs
    for one in WAYS for two in WAYS if one != two])
def test_files_only_and_we_bring_them_up_ourselves(engine, first, second):
    """Also what a container has to lose is seen, without any note that survives a git clone."""
    connect(engine, *first)
    write(engine, *second)
    written, wanted = files(engine), engine.effective()["services"]["fastgpt"]["environment"]
    changed = connect(engine, *second)
    assert files(engine) == written
    assert {name: value for name, value in variables(engine).items() if name in wanted} == wanted
    assert changed == (first[0] != second[0])


def test_files_only_leave_the_record_of_a_cut_off_change(engine):
    engine.dies_at_up = True
    with pytest.raises(KeyboardInterrupt):
        connect(engine, "direct", "in_place")
    engine.dies_at_up = False
    assert write(engine, "aiproxy", "override")[0]
    assert not write(engine, "aiproxy", "override")[0]
    assert Backup(engine.folder).unfinished()
    assert connect(engine, "aiproxy", "override") and not Backup(engine.folder).unfinished()


def test_git_takes_no_copies_up(engine):
    write(engine)
    assert pathlib.Path(engine.folder, ".localmodels", ".gitignore").read_text() == "*\n"


def test_an_edit_of_the_operators_between_a_cut_off_change_and_a_failing_one_is_not_lost(engine):
    engine.dies_at_up = True
    with pytest.raises(KeyboardInterrupt):
        connect(engine, "direct", "in_place")
    engine.dies_at_up = False
    path = pathlib.Path(engine.folder, MAIN)
    edited = path.read_bytes() + b"# mine\r\n"
    path.write_bytes(edited)
    engine.refuses = "Error response from daemon: manifest unknown\n"
    with pytest.raises(LocalModelsError, match="manifest unknown"):
        connect(engine, "one_api", "in_place")
    assert path.read_bytes() == edited


def test_a_full_disk_changes_nothing(engine, monkeypatch):
    before = files(engine)
    rename = os.rename

    def full(source, target):
        if target.endswith(OVERRIDE):
            raise OSError(28, "No space left on device")
        rename(source, target)
    monkeypatch.setattr(os, "rename", full)
    for play in (connect, write):
        with pytest.raises(LocalModelsError, match="cannot be written: .*No space left on device.*Make room.*files are as before"):
            play(engine, "direct")
        assert files(engine) == before
    assert [name for name in os.listdir(engine.folder) if name.startswith(".localmodels-")] == []


def test_what_happens_to_dotenv_is_shown_without_its_secrets(engine):
    pathlib.Path(engine.folder, OVERRIDE).write_text("services: {}\n")
    pathlib.Path(engine.folder, ".env").write_text("PASSWORD=topsecret\n")
    dummy, decided = write(engine)
    dotenv = decided["diff"][1]
    assert dotenv["before"] == "PASSWORD=xxxxxxxxx\n"
    assert dotenv["after"].endswith("COMPOSE_FILE=docker-compose.yml:docker-compose.override.yml:docker-compose.localmodels.yml\n")
    connect(engine)
    decided = write(engine, "direct", "in_place", check=True)[1]
    assert [one["after"] for one in decided["diff"] if one["before_header"].endswith(".env (values masked)")] == ["PASSWORD=xxxxxxxxx\n"]


def test_the_module_shows_what_would_come_back(tmp_path, capsys):
    (tmp_path / MAIN).write_text("services: {}\n")
    backup = Backup(str(tmp_path))
    backup.begin([(MAIN, b"services: {a: {}}\n")])
    backup.write([(MAIN, b"services: {a: {}}\n")])
    backup.finish(5)
    (tmp_path / MAIN).write_text("services: {b: {}}\n")
    result = call(fastgpt_compose, capsys, check=True, diff=False, project_dir=str(tmp_path), ollama=[], state="restored")
    assert result["changed"] and result["restored"] == 1 and result["backups"] == [1]
    assert result["diff"][0]["after"] == "services: {}\n" and (tmp_path / MAIN).read_text() == "services: {b: {}}\n"
    assert ["docker-compose.yml was edited since" in str(one) for one in result["warnings"]] == [True]


@pytest.mark.parametrize("dotenv", [None, "A=1\n"])
def test_an_operator_who_takes_his_override_away_does_not_need_to_know_of_our_line(engine, dotenv):
    alone = (connect(engine), files(engine))[1]
    connect(engine, ollamas=[dict(HERE[0], host="gpu1", provider="host", address="192.0.2.20")])
    if dotenv:
        pathlib.Path(engine.folder, ".env").write_text(dotenv)
    pathlib.Path(engine.folder, OVERRIDE).write_text("services: {}\n")
    connect(engine)
    os.unlink(os.path.join(engine.folder, OVERRIDE))
    connect(engine)
    assert files(engine) == (dict(alone, **{".env": b"A=1\n"}) if dotenv else alone)
    assert not connect(engine)
