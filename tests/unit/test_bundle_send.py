# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a bundle on their way to a host: real commands in real folders, and a line that breaks where it may."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.localmodels.fastgpt.plugins.action import ollama_bundle_import as action_plugin
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _bundle
from ansible_collections.localmodels.fastgpt.plugins.module_utils._bundle_import import INCOMING
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils import _bundle_send
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._bundle_send import Sender

DATA = random.Random(3).randbytes(100_000)
MB = 1 << 20


class Host:
    """What a Sender needs of an action plugin; commands run here. `breaks`: names of moments at which the line breaks, one after the other."""

    def __init__(self, folder, breaks=()):
        self.folder, self.breaks = str(folder), list(breaks)
        self.pieces, self.temporary, self.given = [], 0, 0
        self._connection = SimpleNamespace(_shell=SimpleNamespace(join_path=os.path.join, tmpdir="the action's own"))

    def _broken(self, moment):
        if self.breaks[:1] == [moment]:
            self.breaks.pop(0)
            raise AnsibleConnectionFailure("the line is broken")

    def _make_tmp_path(self):
        self._broken("before")
        self.temporary += 1
        path = os.path.join(self.folder, "ansible-tmp-%d" % self.temporary)
        os.mkdir(path)
        self._connection._shell.tmpdir = path
        return path

    def _remove_tmp_path(self, path):
        shutil.rmtree(path)
        self._connection._shell.tmpdir = None

    def _transfer_file(self, local, remote):
        self._broken("in the piece")
        self.pieces.append(os.path.getsize(local))
        shutil.copy(local, remote)

    def _fixup_perms2(self, paths, execute):
        assert all(os.path.exists(path) for path in paths) and not execute
        self.given += 1

    def _low_level_execute_command(self, command, sudoable):
        assert sudoable, "runs as the user who runs the module"
        if self.breaks[:1] == ["half appended"] and " cat " in command:
            command = command.replace("cat ", "head -c 1000 ", 1).replace("|| exit 3", "; kill -9 $$")
        done = subprocess.run(["/bin/sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if " cat " in command or "head -c" in command:
            self._broken("after the piece")
            self._broken("half appended")
        return {"rc": done.returncode, "stdout": "Welcome to this host\n" + done.stdout, "stderr": done.stderr}


@pytest.fixture
def sizes(monkeypatch):
    """Pieces of 30 kB, whatever the line carries."""
    monkeypatch.setattr(_bundle_send, "FIRST", 30_000)
    monkeypatch.setattr(_bundle_send, "SMALLEST", 30_000)
    monkeypatch.setattr(_bundle_send, "LARGEST", 30_000)


def send(tmp_path, host, there=0, lines=None):
    source = tmp_path / "source"
    source.write_bytes(DATA)
    place = tmp_path / "new" / "store" / INCOMING / "sha256-x"
    sender = Sender(host, "gpu1", len(DATA) - there, [].append if lines is None else lines.append, sleep=lambda seconds: None)
    try:
        sender.send(str(source), str(place), len(DATA), there)
        sender.end(1)
    finally:
        sender.forget()
    return place


def test_a_file_comes_in_pieces_and_nothing_else_is_left(tmp_path, sizes):
    host, lines = Host(tmp_path), []
    place = send(tmp_path, host, lines=lines)
    assert place.read_bytes() == DATA and host.pieces == [30_000, 30_000, 30_000, 10_000]
    assert host.given == 4, "whoever one becomes may read each piece"
    assert host._connection._shell.tmpdir == "the action's own", "else nobody takes that away"
    assert sorted(os.listdir(tmp_path)) == ["new", "source"] and lines[-1].startswith("gpu1: Sent 1 file of the bundle, 100.0 kB in ")
    assert (place.stat().st_mode & 0o777, place.parent.stat().st_mode & 0o777, place.parent.parent.stat().st_mode & 0o777) == (0o600, 0o700, 0o755)


def test_it_goes_on_where_it_was(tmp_path, sizes):
    place = tmp_path / "new" / "store" / INCOMING / "sha256-x"
    place.parent.mkdir(parents=True)
    place.write_bytes(DATA[:70_001])
    host = Host(tmp_path)
    assert send(tmp_path, host, there=70_001).read_bytes() == DATA and host.pieces == [29_999]


@pytest.mark.parametrize("breaks", [["before"], ["in the piece"], ["after the piece"], ["half appended"],
                                    ["in the piece", "before", "after the piece", "half appended"]], ids=" ".join)
def test_a_line_that_breaks_is_taken_up_again(tmp_path, sizes, breaks):
    host = Host(tmp_path, breaks)
    assert send(tmp_path, host).read_bytes() == DATA and host.breaks == []


def test_a_line_that_stays_broken_is_given_up_and_what_came_stays(tmp_path, sizes):
    host = Host(tmp_path, ["after the piece"] + ["in the piece"] * _bundle_send.TRIES)
    with pytest.raises(AnsibleConnectionFailure):
        send(tmp_path, host)
    assert (tmp_path / "new" / "store" / INCOMING / "sha256-x").read_bytes() == DATA[:30_000]


def test_two_plays_at_once_do_not_spoil_the_file(tmp_path, sizes):
    place = tmp_path / "new" / "store" / INCOMING / "sha256-x"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"somebody else's")
    with pytest.raises(LocalModelsError, match="changed while it was being sent: probably another play"):
        send(tmp_path, Host(tmp_path))
    assert place.read_bytes() == b"somebody else's"


def test_a_full_disk_is_told_and_left_empty(tmp_path, sizes, monkeypatch):
    host = Host(tmp_path)
    run = host._low_level_execute_command
    monkeypatch.setattr(host, "_low_level_execute_command", lambda command, sudoable: run(
        command.replace("cat ", "sh -c 'echo No space left on device >&2; exit 1' ", 1), sudoable))
    with pytest.raises(LocalModelsError, match="The disk of the host became full while"):
        send(tmp_path, host)
    assert os.listdir(tmp_path / "new" / "store" / INCOMING) == []


def test_a_play_that_is_gone_sends_nothing_more(tmp_path, sizes, monkeypatch):
    parents = [100, 100, 100, 1]
    monkeypatch.setattr(_bundle_send.os, "getppid", lambda: parents.pop(0))
    with pytest.raises(LocalModelsError, match="The play is gone, so nothing more of the bundle is sent"):
        send(tmp_path, Host(tmp_path))
    assert (tmp_path / "new" / "store" / INCOMING / "sha256-x").read_bytes() == DATA[:60_000]


def test_a_file_that_shrinks_is_told(tmp_path, sizes):
    host = Host(tmp_path)
    transfer = host._transfer_file

    def shrink(local, remote):
        transfer(local, remote)
        (tmp_path / "source").write_bytes(DATA[:30_000])

    host._transfer_file = shrink
    with pytest.raises(LocalModelsError, match="became shorter while it was being sent"):
        send(tmp_path, host)


@pytest.mark.parametrize(("seconds", "piece"), [(0.01, 256 * MB), (8, 8 * MB), (80, MB), (4, 16 * MB)])
def test_a_piece_is_what_the_line_carries_in_eight_seconds(seconds, piece):
    sender = Sender(None, "gpu1", 100 * MB, lambda line: None)
    sender._account(8 * MB, seconds)
    assert sender.piece == pytest.approx(piece, rel=0.01)


# --- the action plugin ----------------------------------------------------------------------------------------------------------------


class Action(action_plugin.ActionModule):
    """Answers of the host instead of a host. planned: result of the module in check mode."""

    def __init__(self, planned, check=False, **arguments):
        self._task = SimpleNamespace(check_mode=check, async_val=0, args=arguments, delegate_to=None, no_log=False)
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
        self.planned, self.calls, self.sent = planned, [], []

    def _early_needs_tmp_path(self):
        return False

    def _execute_module(self, module_name=None, module_args=None, task_vars=None):
        self.calls.append(("check" if self._task.check_mode else "real", sorted(module_args)))
        return json.loads(json.dumps(self.planned if self._task.check_mode else {"changed": True, "needed": []}))

    def _send(self, folder, files, task_vars):
        self.sent.append([one["path"] for one in files])


@pytest.fixture
def bundle(tmp_path):
    raw = json.dumps({"config": {"digest": "sha256:" + "a" * 64, "size": 6}, "layers": []}).encode()
    made = _bundle.Bundle([_bundle.Model(ModelName.parse("tiny"), raw)])
    for path, content in [("bundle.json", made.document()), *made.manifests().items(), ("blobs/sha256-" + "a" * 64, "config")]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content.encode())
    return tmp_path


def need(size=6, there=0):
    return {"path": "blobs/sha256-" + "a" * 64, "size": size, "place": "/x", "there": there}


def test_nothing_to_do_is_one_call(bundle):
    action = Action({"changed": False, "needed": []}, bundle=str(bundle), models=["tiny"])
    assert action.run(task_vars={}) == {"changed": False}
    assert action.calls == [("check", ["bundle", "contents", "models"])] and action.sent == []


def test_check_mode_sends_nothing(bundle):
    action = Action({"changed": True, "needed": [need()]}, check=True, bundle=str(bundle))
    assert action.run(task_vars={})["changed"] and len(action.calls) == 1 and action.sent == []


def test_what_the_host_lacks_is_sent_between_two_calls(bundle):
    action = Action({"changed": True, "needed": [need(), need(there=6)]}, bundle=str(bundle))
    assert action.run(task_vars={}) == {"changed": True}
    assert [call[0] for call in action.calls] == ["check", "real"] and action.sent == [[need()["path"]]]


def test_a_bundle_on_the_host_is_left_to_the_module(tmp_path):
    action = Action({}, bundle="/nowhere", remote_src="yes")
    action.run(task_vars={})
    assert action.calls == [("real", ["bundle", "remote_src"])] and action.sent == []


@pytest.mark.parametrize(("arguments", "says"), [
    ({"bundle": "relative/path"}, "is no absolute path"),
    ({"bundle": "/nowhere/at/all"}, "There is no bundle in /nowhere/at/all: bundle.json is missing"),
    ({"bundle": "/nowhere", "remote_src": "perhaps"}, "remote_src is neither true nor false"),
])
def test_bad_input_is_told_without_a_call(arguments, says):
    action = Action({}, **arguments)
    result = action.run(task_vars={})
    assert result["failed"] and says in result["msg"] and action.calls == []


def test_an_incomplete_bundle_is_told_before_anything_is_sent(bundle):
    (bundle / need()["path"]).write_bytes(b"conf")
    action = Action({"changed": True, "needed": [need()]}, bundle=str(bundle))
    result = action.run(task_vars={})
    assert "has 4 bytes instead of 6" in result["msg"] and len(action.calls) == 1 and action.sent == []


def test_a_home_is_found_and_a_module_that_breaks_leaves_no_check_mode_behind(bundle, monkeypatch):
    monkeypatch.setenv("HOME", str(bundle.parent))
    action = Action({"changed": False, "needed": []}, bundle="~/" + bundle.name)
    assert action.run(task_vars={}) == {"changed": False}

    def breaks(**arguments):
        raise AnsibleConnectionFailure("the line is broken")

    action._execute_module = breaks
    with pytest.raises(AnsibleConnectionFailure):
        action.run(task_vars={})
    assert action._task.check_mode is False


class Quick:
    """Instead of a Sender: what it was given."""

    def __init__(self, action, host, total, show):
        self.given, self.show = (host, total), show
        Quick.last, self.forgotten = self, False

    def send(self, source, place, size, there):
        open(source, "rb").close()
        self.show("sending")

    def end(self, files):
        self.show("sent %d" % files)

    def forget(self):
        self.forgotten = True


@pytest.mark.parametrize(("delegate", "no_log", "lines"), [(None, False, ["sending", "sent 1"]), ("other", True, [])])
def test_it_shows_itself_by_the_name_of_its_host_unless_it_may_not(bundle, monkeypatch, delegate, no_log, lines):
    shown = []
    monkeypatch.setattr(action_plugin, "Sender", Quick)
    monkeypatch.setattr(action_plugin.display, "display", shown.append)
    action = Action({"changed": True, "needed": [need(there=2)]}, bundle=str(bundle))
    action._task.delegate_to, action._task.no_log = delegate, no_log
    action_plugin.ActionModule._send(action, str(bundle), [need(there=2)], {"inventory_hostname": "gpu1"})
    assert Quick.last.given == (delegate or "gpu1", 4) and Quick.last.forgotten and shown == lines


def test_a_stick_that_is_drawn_out_while_it_is_sent_is_told(bundle, monkeypatch):
    monkeypatch.setattr(action_plugin, "Sender", Quick)
    monkeypatch.setattr(action_plugin.display, "display", lambda line: None)
    action = Action({"changed": True, "needed": [need()]}, bundle=str(bundle))
    (bundle / need()["path"]).unlink()
    with pytest.raises(LocalModelsError, match="The bundle cannot be read: .*No such file.* Look whether its disk is still there"):
        action_plugin.ActionModule._send(action, str(bundle), [need()], {})
    assert Quick.last.forgotten


def test_a_place_that_may_not_be_written_is_told(tmp_path, sizes):
    (tmp_path / "new").write_text("in the way")
    with pytest.raises(LocalModelsError, match="cannot be written on the host: .*. Use become: true"):
        send(tmp_path, Host(tmp_path))


def test_a_line_that_breaks_often_and_goes_on_in_between_is_not_given_up(tmp_path, sizes):
    host, tries = Host(tmp_path), []
    transfer = host._transfer_file

    def mostly_broken(local, remote):
        tries.append(local)
        if len(tries) % _bundle_send.TRIES:
            raise AnsibleConnectionFailure("the line is broken")
        transfer(local, remote)

    host._transfer_file = mostly_broken
    assert send(tmp_path, host).read_bytes() == DATA and len(tries) == 4 * _bundle_send.TRIES
