# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host remembers of the files that models are made from: where, for how long, and when it is not believed."""

from __future__ import annotations

import json
import os
import pwd

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _files, _notes
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

X, Y = {"from": ["x"]}, {"from": ["y"]}


def noted(folder, **recipes):
    """Notes in `folder`, saved. recipes: {digest: recipe}."""
    notes = _notes.Notes(str(folder))
    for digest, recipe in recipes.items():
        notes.note_recipe(digest, recipe)
    notes.save()
    return notes


def held(folder):
    return json.loads((folder / "models_from_files.json").read_text())


def test_they_lie_in_the_cache_of_the_user_who_runs_whatever_home_says(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/srv/cache")
    monkeypatch.setenv("HOME", "/home/somebody-else")
    assert _notes.usual_folder() == "/srv/cache/localmodels.fastgpt"
    assert _notes.Notes().path == "/srv/cache/localmodels.fastgpt/models_from_files.json"
    for unset in ("", None):
        monkeypatch.setenv("XDG_CACHE_HOME", unset) if unset is not None else monkeypatch.delenv("XDG_CACHE_HOME")
        assert _notes.usual_folder() == pwd.getpwuid(os.geteuid()).pw_dir + "/.cache/localmodels.fastgpt"


@pytest.mark.parametrize("home, folder", [("/srv/home", "/srv/home/.cache/localmodels.fastgpt"), ("", "/.cache/localmodels.fastgpt")])
def test_a_user_who_is_only_a_number_has_the_folder_of_home(monkeypatch, home, folder):
    def nobody(uid):
        raise KeyError("getpwuid(): uid not found: %d" % uid)

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(_notes.pwd, "getpwuid", nobody)
    assert _notes.usual_folder() == folder


@pytest.mark.parametrize("mode, believed", [(0o600, True), (0o644, True), (0o620, False), (0o602, False)])
def test_what_another_one_may_write_is_not_believed(tmp_path, mode, believed):
    os.chmod(noted(tmp_path, d=X).path, mode)
    assert _notes.Notes(str(tmp_path)).recipes("d") == ([X] if believed else [])


def test_what_another_user_wrote_is_not_believed(tmp_path, monkeypatch):
    noted(tmp_path, d=X)
    me = os.geteuid()
    monkeypatch.setattr(_notes.os, "geteuid", lambda: me + 1)
    assert _notes.Notes(str(tmp_path)).recipes("d") == []


@pytest.mark.parametrize("damaged", ['{"files": {}}', '{"models": {}}', '{"files": {"x": []}, "models": {"d": {}}}', "\xff", "{"])
def test_what_is_damaged_is_as_if_it_were_not_there(tmp_path, damaged):
    (tmp_path / "models_from_files.json").write_bytes(damaged.encode("latin-1"))
    notes = _notes.Notes(str(tmp_path))
    assert notes.recipes("d") == []
    notes.note_recipe("d", Y)
    notes.save()
    assert held(tmp_path) == {"files": {}, "models": {"d": [Y]}}


def test_of_a_model_the_last_four_recipes_are_kept_and_one_that_comes_again_is_the_last(tmp_path):
    notes = noted(tmp_path)
    for number in (1, 2, 3, 4, 1, 5):
        notes.note_recipe("d", {"from": [str(number)]})
    assert [one["from"] for one in notes.recipes("d")] == [["5"], ["1"], ["4"], ["3"]]
    notes.save()
    assert _notes.Notes(str(tmp_path)).recipes("d") == notes.recipes("d")


def test_the_oldest_notes_go_and_what_was_noted_again_is_young(tmp_path, monkeypatch):
    monkeypatch.setattr(_notes, "_MOST", 3)
    noted(tmp_path, a=X, b=X, c=X)
    noted(tmp_path, a=Y)
    noted(tmp_path, d=X)
    assert list(held(tmp_path)["models"]) == ["c", "a", "d"]


def test_what_another_module_notes_while_this_one_waits_is_kept(tmp_path, monkeypatch):
    real, mine = _notes.fcntl.flock, noted(tmp_path, a=X)
    mine.note_recipe("b", X)

    def wait(lock, how):
        monkeypatch.setattr(_notes.fcntl, "flock", real)
        assert how == _notes.fcntl.LOCK_EX
        noted(tmp_path, c=X)
        real(lock, how)

    monkeypatch.setattr(_notes.fcntl, "flock", wait)
    mine.save()
    assert sorted(held(tmp_path)["models"]) == ["a", "b", "c"] and mine.recipes("c") == [X]


def test_what_is_saved_is_not_put_back_over_what_came_later(tmp_path):
    first = noted(tmp_path, a=X)
    noted(tmp_path, a=Y)
    before = os.stat(first.path)
    first.save()
    assert os.stat(first.path) == before and _notes.Notes(str(tmp_path)).recipes("a") == [Y, X]
    first.note_recipe("b", X)
    first.save()
    assert _notes.Notes(str(tmp_path)).recipes("a") == [Y, X]


def test_nothing_is_written_where_nothing_is_new(tmp_path):
    folder = tmp_path / "none"
    noted(folder)
    assert not folder.exists()
    before = os.stat(noted(folder, a=X).path)
    again = noted(folder, a=X)
    assert os.stat(again.path) == before


def test_where_they_cannot_be_written_the_reason_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalModelsError, match=r"remembered in %s/file/x/models_from_files.json: Not a directory\. Until" % tmp_path):
        noted(tmp_path / "file" / "x", a=X)


def test_a_file_is_known_by_whatever_way_it_is_named_and_until_it_changes(tmp_path):
    (tmp_path / "x").write_text("x")
    os.symlink(tmp_path / "x", tmp_path / "link")
    file, notes = _files.LocalFile("x", str(tmp_path / "x")), _notes.Notes(str(tmp_path))
    for wait, known in ((2.0, ""), (2.5, "sha256:1")):
        notes.note_digest(file, "sha256:1", file.quiet_since + wait)
        assert notes.digest(file) == known
    assert notes.digest(_files.LocalFile("y", str(tmp_path / "link"))) == "sha256:1"
    (tmp_path / "x").write_text("longer")
    assert notes.digest(_files.LocalFile("x", str(tmp_path / "x"))) == ""
