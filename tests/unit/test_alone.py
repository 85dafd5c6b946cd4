# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two plays at once on one host, as a host with two names in the inventory gets them: one works in a folder, the other one waits."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _alone
from ansible_collections.localmodels.fastgpt.plugins.module_utils._alone import alone, in_reach
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_container, ollama_service, one_api_container
from run_module import printed


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
    code = ("import sys, subprocess; sys.path.insert(0, %r); from ansible_collections.localmodels.fastgpt.plugins.module_utils._alone import alone\n"
            "with alone(%r):\n    print(subprocess.Popen(['sleep', '30'], stdout=subprocess.DEVNULL).pid, flush=True); sys.stdin.read()"
            % (_alone.__file__.partition("/ansible_collections/")[0], str(tmp_path)))
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        called = int(holder.stdout.readline())
        held = is_held(tmp_path)
        holder.kill()
        holder.wait(10)
        let_go = not is_held(tmp_path)
        os.kill(called, 9)
    assert held and let_go


class Clock:
    now = 0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert 0 < seconds <= 2
        self.now += seconds


def test_the_wait_has_an_end(tmp_path):
    """Whoever may read a folder may hold it."""
    clock = Clock()
    with alone(str(tmp_path)), pytest.raises(LocalModelsError, match="Something else has been at work in %s for 120 minutes.*fuser" % tmp_path), \
            alone(str(tmp_path), clock=clock):
        pass
    assert 7200 <= clock.now <= 7202 and not is_held(tmp_path)


def test_before_something_is_made_the_folder_above_it_is_held(tmp_path):
    assert in_reach(str(tmp_path / "a" / "b")) == str(tmp_path) == in_reach(str(tmp_path / "a")) and in_reach("/nowhere/at/all") == "/"
    (tmp_path / "a").mkdir()
    assert in_reach(str(tmp_path / "a")) == str(tmp_path), "it is the same before and after"


def test_a_file_system_that_locks_nothing_is_no_error(tmp_path, monkeypatch):
    def refused(place, how):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refused)
    with alone(str(tmp_path)):
        pass
    with pytest.raises(FileNotFoundError), alone(str(tmp_path / "none")):
        pass


@pytest.mark.parametrize("module, options, folder", [
    (ollama_container, {"image": "x"}, "project_dir"), (one_api_container, {"image": "x"}, "project_dir"),
    (ollama_service, {"version": "0.32.15"}, "install_dir")])
def test_what_makes_a_server_is_alone_from_its_first_look_on_and_in_check_mode_it_is_not(tmp_path, capsys, monkeypatch, module, options, folder):
    """The one that fails puts back what ran before, and would take the container of the other one away."""
    monkeypatch.setattr(module, "converge", lambda one: {"held": is_held(tmp_path)})
    for check in (False, True):
        told = printed(module, capsys, check, **dict(options, **{folder: str(tmp_path / "new" / "")}))
        assert json.loads(told)["held"] is not check
    assert not is_held(tmp_path) and os.listdir(tmp_path) == []
