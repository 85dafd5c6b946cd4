# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two plays at once on one host, as a host with two names in the inventory gets them: one works in a folder, the other one waits."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _alone
from ansible_collections.localmodels.fastgpt.plugins.module_utils._alone import alone


def is_held(folder):
    """Whether somebody is alone in a folder now."""
    place = os.open(str(folder), os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(place)
    return False


def test_who_comes_second_waits(tmp_path):
    told, waits = [], threading.Event()

    def second():
        waits.set()
        with alone(str(tmp_path)):
            told.append("second")

    with alone(str(tmp_path)):
        assert is_held(tmp_path)
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        waits.wait(10)
        thread.join(0.05)
        told.append("first")
    thread.join(10)
    assert told == ["first", "second"] and not is_held(tmp_path)


def test_who_is_killed_lets_go_although_a_program_that_he_called_goes_on(tmp_path):
    code = ("import sys, subprocess; sys.path.insert(0, %r); from _alone import alone\n"
            "with alone(%r):\n    print(subprocess.Popen(['sleep', '30'], stdout=subprocess.DEVNULL).pid, flush=True); sys.stdin.read()"
            % (os.path.dirname(_alone.__file__), str(tmp_path)))
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        called = int(holder.stdout.readline())
        held = is_held(tmp_path)
        holder.kill()
        holder.wait(10)
        let_go = not is_held(tmp_path)
        os.kill(called, 9)
    assert held and let_go


def test_a_file_system_that_locks_nothing_is_no_error(tmp_path, monkeypatch):
    def refused(place, how):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refused)
    with alone(str(tmp_path)):
        pass
    with pytest.raises(FileNotFoundError), alone(str(tmp_path / "none")):
        pass
