# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files go back to what they were, byte for byte, wherever a play was cut off."""

from __future__ import annotations

import os

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _backup
from ansible_collections.localmodels.fastgpt.plugins.module_utils._backup import Backup


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".env").write_bytes(b"PASSWORD=\xff\r\nno newline at the end")
    (tmp_path / ".env").chmod(0o600)
    return tmp_path


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


CHANGES = [("override.yml", b"ours\n"), (".env", b"other")]


def test_restore(folder):
    before = content(folder)
    backup = Backup(str(folder))
    backup.begin(CHANGES)
    backup.write(CHANGES)
    assert content(folder) == {"override.yml": b"ours\n", ".env": b"other"}
    assert os.stat(folder / ".env").st_mode & 0o777 == 0o600
    backup.restore()
    backup.forget()
    assert content(folder) == before and not backup.unfinished()
    assert os.stat(folder / ".env").st_mode & 0o777 == 0o600


def test_a_change_is_newer_than_what_was_there_and_what_comes_back_is_as_old_as_before(folder):
    """rsync, and backups that look at times, would leave a changed file out."""
    os.utime(folder / ".env", (1, 1))
    backup = Backup(str(folder))
    backup.begin(CHANGES)
    backup.write(CHANGES)
    assert os.stat(folder / ".env").st_mtime > 10 ** 9
    backup.restore()
    assert os.stat(folder / ".env").st_mtime == 1


def test_a_file_with_a_key_is_at_no_moment_open_to_others(folder, monkeypatch):
    (folder / "override.yml").write_bytes(b"without a key")
    (folder / "override.yml").chmod(0o644)
    modes = []
    for name in ("utime", "chmod", "chown", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(_backup.os, name, lambda path, *rest, real=real, **more: (real(path, *rest, **more), modes.extend(
            os.stat(one).st_mode & 0o777 for one in [path] if _backup._BESIDE in str(one) and os.path.exists(one)))[0])
    backup = Backup(str(folder))
    backup.begin(CHANGES[:1])
    modes.clear()
    backup.write(CHANGES[:1], private=("override.yml",))
    assert modes and set(modes) == {0o600} and os.stat(folder / "override.yml").st_mode & 0o777 == 0o600


def test_secrets_in_copies_are_private(folder):
    Backup(str(folder)).begin(CHANGES)
    assert os.stat(folder / ".localmodels").st_mode & 0o777 == 0o700


@pytest.mark.parametrize("cut", range(3))
def test_a_play_cut_off_anywhere_leads_back_to_what_ran_before_it(folder, cut):
    before = content(folder)
    Backup(str(folder)).begin(CHANGES)
    Backup(str(folder)).write(CHANGES[:cut])
    again = Backup(str(folder))
    assert again.unfinished()
    later = [("override.yml", b"ours, newer\n"), (".env", b"other"), ("third.yml", b"3")]
    again.begin(later)
    again.write(later)
    again.restore()
    assert content(folder) == before


def test_killed_while_copying_changes_nothing(folder, monkeypatch):
    def killed(*dummy):
        raise KeyboardInterrupt
    before = content(folder)
    monkeypatch.setattr(_backup.os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        Backup(str(folder)).begin(CHANGES)
    assert content(folder) == before and not Backup(str(folder)).unfinished()


def test_what_somebody_else_changed_meanwhile_stays(folder):
    backup = Backup(str(folder))
    backup.begin(CHANGES)
    backup.write(CHANGES)
    (folder / ".env").write_bytes(b"somebody else was here")
    backup.restore()
    assert content(folder) == {".env": b"somebody else was here"}


def test_only_the_newest_backups_stay(folder):
    for number in range(12):
        backup = Backup(str(folder))
        changes = [("override.yml", b"%d" % number)]
        backup.begin(changes)
        backup.write(changes)
        backup.finish(3)
    kept = folder / ".localmodels" / "backups"
    assert sorted(os.listdir(kept)) == ["10", "11", "12"]
    assert (kept / "12" / "override.yml").read_bytes() == b"10"


def test_no_backups_wanted(folder):
    backup = Backup(str(folder))
    backup.begin(CHANGES)
    backup.write(CHANGES)
    backup.finish(0)
    assert os.listdir(folder / ".localmodels" / "backups") == []


def test_a_link_stays_a_link(folder):
    (folder / "real.env").write_bytes(b"A=1\n")
    (folder / "link.env").symlink_to("real.env")
    backup = Backup(str(folder))
    changes = [("link.env", b"A=2\n")]
    backup.begin(changes)
    backup.write(changes)
    assert (folder / "link.env").is_symlink() and (folder / "real.env").read_bytes() == b"A=2\n"
    backup.restore()
    assert (folder / "real.env").read_bytes() == b"A=1\n"


def test_a_file_that_goes_comes_back(folder):
    backup = Backup(str(folder))
    backup.begin([(".env", None)])
    backup.write([(".env", None)])
    assert content(folder) == {}
    backup.restore()
    assert ".env" in content(folder)
