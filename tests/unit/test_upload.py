# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an upload tells how far it is, and what ends it."""

from __future__ import annotations

import os

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _files, _upload
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned

MB = 1 << 20


class Track:
    def __init__(self):
        self.told = []

    def moved(self, steps, status):
        self.told.append((status, steps.completed, steps.total, steps.fetched))


class Server:
    """Takes a blob in one go. held: digests that are there."""

    def __init__(self, *held):
        self.held, self.taken = held, []

    def has_blob(self, digest):
        return digest in self.held

    def put_blob(self, digest, body, size, timeout):
        while True:
            piece = body.read()
            if not piece:
                break
            self.taken.append((digest, len(piece), timeout))


@pytest.fixture()
def clock(monkeypatch):
    """Each look at it is a second later."""
    now = [0.0]

    def tick():
        now[0] += 1
        return now[0]

    monkeypatch.setattr(_upload.time, "monotonic", tick)
    return now


def files(tmp_path, *sizes):
    for number, size in enumerate(sizes):
        (tmp_path / str(number)).write_bytes(b"x" * size)
    return [_files.LocalFile(str(number), str(tmp_path / str(number))) for number in range(len(sizes))]


def test_what_is_there_and_what_is_sent_are_told_apart(tmp_path, clock):
    track, server = Track(), Server("sha256:0")
    steps = _upload.Steps(track, lambda: False, 3 * MB + 5)
    for number, file in enumerate(files(tmp_path, MB, 2 * MB + 5)):
        _upload.send(server, file, "sha256:%d" % number, steps, 7)
    assert track.told == [
        ("uploading 0", 0, 3 * MB + 5, 0), ("uploading 0", MB, 3 * MB + 5, 0), ("uploading 1", MB, 3 * MB + 5, 0), ("uploading 1", 2 * MB, 3 * MB + 5, MB),
        ("uploading 1", 3 * MB, 3 * MB + 5, 2 * MB), ("uploading 1", 3 * MB + 5, 3 * MB + 5, 2 * MB + 5)]
    assert server.taken == [("sha256:1", MB, 7), ("sha256:1", MB, 7), ("sha256:1", 5, 7)]


def test_many_pieces_are_told_of_now_and_then(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(_upload.time, "monotonic", lambda: 5.0)
    track, looked = Track(), []
    steps = _upload.Steps(track, lambda: looked.append(1), 4 * MB)
    for dummy in range(4):
        steps.moved(MB)
    assert track.told == [("", MB, 4 * MB, MB)] and len(looked) == 1 and (steps.completed, steps.fetched) == (4 * MB, 4 * MB)


def test_an_upload_ends_with_the_piece_after_which_nobody_listens(tmp_path, clock):
    steps, server = _upload.Steps(Track(), lambda: True, MB), Server()
    with pytest.raises(Abandoned, match="what has arrived is not sent again"):
        _upload.send(server, files(tmp_path, 2 * MB)[0], "sha256:0", steps, 7)
    assert server.taken == []


def test_a_file_that_is_gone_is_named(tmp_path, clock):
    file, = files(tmp_path, 5)
    os.remove(file.path)
    with pytest.raises(LocalModelsError, match="0 cannot be read: No such file or directory. Look at the disk it is on"):
        _upload.send(Server(), file, "sha256:0", _upload.Steps(Track(), lambda: False, 5), 7)
