# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _process


@pytest.mark.parametrize("text, address", [
    ("0100007F", "127.0.0.1"),
    ("00000000", "0.0.0.0"),
    ("00000000000000000000000001000000", "::1"),
    ("0000000000000000FFFF00000100007F", "127.0.0.1"),
])
def test_addresses_of_the_kernel(text, address):
    assert _process._unpacked(text, "little") == address


@pytest.mark.parametrize("one, other, expected", [
    ("127.0.0.1", "127.0.0.1", True),
    ("0.0.0.0", "127.0.0.1", True),
    ("192.0.2.1", "::", True),
    ("127.0.0.1", "192.0.2.1", False),
    ("gpu1.lan", "192.0.2.1", True),
])
def test_collision(one, other, expected):
    assert _process.collide(one, other) is expected


def test_a_listening_socket_has_its_process():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert [process.pid for process in _process.holders(port, "127.0.0.1")] == [os.getpid()]
        assert _process.holders(port, "127.0.0.2") == []
    assert _process.holders(port, "127.0.0.1") == []


def test_a_listener_that_cannot_be_looked_at_is_still_one(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n"
        "   1: 0100007F:2CAA 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n")
    hidden = _process.holders(11434, "0.0.0.0", str(tmp_path))
    assert [(process.pid, process.uid) for process in hidden] == [(0, 0)]
    assert _process.describe(hidden[0]) == "a process of user root"


def test_what_a_process_tells(tmp_path):
    folder = tmp_path / "42"
    folder.mkdir()
    (folder / "environ").write_bytes(b"A=1\0B=x=y\0C=\0")
    (folder / "status").write_text("Name:\tollama\nUid:\t999\t999\t999\t999\nGroups:\t44 106 \nNStgid:\t1\n")
    (folder / "comm").write_text("ollama\n")
    (folder / "cgroup").write_text("12:pids:/system.slice/ollama.service\n0::/system.slice/ollama.service\n")
    (folder / "exe").symlink_to("/opt/ollama/0.32.15/bin/ollama")
    process = _process.Process(42, str(tmp_path))
    assert process.environment() == {"A": "1", "B": "x=y", "C": ""}
    assert process.groups() == {44, 106}
    assert process.owner() == 999
    assert _process.describe(process) == "ollama (process 42, ollama.service)"
    assert (process.name(), process.unit()) == ("ollama", "ollama.service")
    assert process.executable() == "/opt/ollama/0.32.15/bin/ollama"


def test_a_process_that_is_gone(tmp_path):
    process = _process.Process(42, str(tmp_path))
    assert (process.environment(), process.executable(), process.groups(), process.sockets()) == (None, "", set(), set())
    assert (process.name(), process.unit()) == ("", "")
