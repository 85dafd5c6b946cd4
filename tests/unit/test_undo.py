# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _undo

BINARY = b"\x7fELF\xff\xfe\x00"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "text").write_text("old\n")
    os.chmod(tmp_path / "text", 0o640)
    (tmp_path / "link").symlink_to("/old/target")
    (tmp_path / "program").write_bytes(BINARY)
    return tmp_path


def make(place):
    return _undo.Undo(str(place / "undo.json"), [str(place / name) for name in ("text", "link", "program", "absent")],
                      str(place / "replaced"))


def change(place, undo):
    _undo.write(str(place / "text"), "new\n", 0o644)
    _undo.link("/new/target", str(place / "link"))
    undo.set_aside(str(place / "program"))
    _undo.link("/new/program", str(place / "program"))
    _undo.write(str(place / "absent"), "new\n", 0o644)


def snapshot(place):
    return {name: (os.readlink(place / name) if (place / name).is_symlink()
                   else (place / name).read_bytes() if (place / name).exists() else None)
            for name in ("text", "link", "program", "absent")}


def test_everything_comes_back(place):
    before = snapshot(place)
    undo = make(place)
    undo.begin({"active": "active"})
    change(place, undo)
    assert snapshot(place) != before
    undo.restore()
    assert snapshot(place) == before
    assert stat.S_IMODE(os.stat(place / "text").st_mode) == 0o640


def test_a_second_play_keeps_the_record_of_the_one_that_was_killed(place):
    before = snapshot(place)
    first = make(place)
    first.begin({"active": "active"})
    change(place, first)
    second = make(place)
    assert second.unfinished() == {"active": "active"}
    second.begin({"active": "failed"})
    assert second.unfinished() == {"active": "active"}
    second.restore()
    assert snapshot(place) == before


@pytest.mark.parametrize("steps", range(5))
def test_a_play_killed_between_any_two_steps_can_be_undone(place, steps):
    before = snapshot(place)
    undo = make(place)
    undo.begin({})
    for step in (lambda: _undo.write(str(place / "text"), "new\n", 0o644),
                 lambda: _undo.link("/new/target", str(place / "link")),
                 lambda: undo.set_aside(str(place / "program")),
                 lambda: _undo.link("/new/program", str(place / "program")),
                 lambda: _undo.write(str(place / "absent"), "new\n", 0o644))[:steps]:
        step()
    make(place).restore()
    assert snapshot(place) == before


def test_a_finished_change_leaves_no_record(place):
    undo = make(place)
    undo.begin({})
    undo.forget()
    assert undo.unfinished() is None
    undo.forget()


def test_the_record_is_for_root_alone(place):
    make(place).begin({})
    assert stat.S_IMODE(os.stat(place / "undo.json").st_mode) == 0o600


def test_a_failed_write_leaves_the_old_text_and_no_litter(place, monkeypatch):
    monkeypatch.setattr(os, "rename", lambda *names: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError):
        _undo.write(str(place / "text"), "new\n", 0o644)
    assert (place / "text").read_text() == "old\n"
    assert sorted(os.listdir(place)) == ["link", "program", "text"]


@pytest.mark.parametrize("name, expected", [("text", "old\n"), ("absent", ""), ("program", None)])
def test_read(place, name, expected):
    assert _undo.read(str(place / name)) == expected
