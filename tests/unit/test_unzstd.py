# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""zstd by its library against the zstd command, and a release unpacked where that command is not installed."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _release, _unzstd
from ansible_collections.localmodels.fastgpt.plugins.module_utils._download import digest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

pytestmark = pytest.mark.skipif(not shutil.which("zstd"), reason="the tests pack with the zstd command")


def packed(data, *options):
    return subprocess.run(["zstd", "-q", "-c"] + list(options), input=data, stdout=subprocess.PIPE, check=True).stdout


def unpacked(data):
    target = io.BytesIO()
    _unzstd.unpack(io.BytesIO(data), target)
    return target.getvalue()


@pytest.mark.parametrize("data", [b"", b"a", bytes(5_000_000), random.Random(1).randbytes(3_000_001), b"abc" * 1_000_000],
                         ids=["empty", "one", "zeros", "noise", "text"])
@pytest.mark.parametrize("options", [["-1"], pytest.param(["-19"], marks=pytest.mark.thorough)], ids=" ".join)
def test_it_unpacks_what_the_command_packed(data, options):
    assert unpacked(packed(data, *options)) == data


def test_two_frames_are_one_stream():
    assert unpacked(packed(b"one ") + packed(b"two")) == b"one two"


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"no zstd at all" + data, lambda data: data[:40] + b"\0" * 40 + data[80:]])
def test_damage_is_told(damage):
    with pytest.raises(_unzstd.Damaged):
        unpacked(damage(packed(random.Random(2).randbytes(200_000) + bytes(100))))


@pytest.fixture
def release(tmp_path, monkeypatch):
    """(Release at a file:// address, its folder with the archive): a host where which("zstd") finds nothing."""
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "ollama").write_text("#!/bin/sh\n")
    (tree / "bin" / "ollama").chmod(0o755)
    (tree / "lib.so").symlink_to("lib.so.1")
    folder = tmp_path / "releases" / "v0.32.15"
    folder.mkdir(parents=True)
    tar = subprocess.run(["tar", "-C", str(tree), "-c", "bin", "lib.so"], stdout=subprocess.PIPE, check=True).stdout
    (folder / "ollama-linux-amd64.tar.zst").write_bytes(packed(tar))
    found = digest(str(folder / "ollama-linux-amd64.tar.zst"))
    (folder / "sha256sum.txt").write_text("%s  ./ollama-linux-amd64.tar.zst\n" % found)
    monkeypatch.setattr(_release.shutil, "which", lambda name: None)
    return _release.Release(None, "0.32.15", str(tmp_path / "opt"), str(tmp_path / "releases"), "", "x86_64"), folder


def test_a_release_comes_from_a_folder_without_the_zstd_command(release):
    one, folder = release
    one.install()
    assert one.present() and os.readlink(one.path + "/lib.so") == "lib.so.1"
    assert sorted(os.listdir(one.install_dir)) == ["0.32.15"] and sorted(os.listdir(folder)) == ["ollama-linux-amd64.tar.zst", "sha256sum.txt"]


def test_a_folder_without_the_release_is_told_at_once(release):
    one, folder = release
    (folder / "ollama-linux-amd64.tar.zst").unlink()
    with pytest.raises(LocalModelsError, match="cannot be read .*Check ollama_version and ollama_release_url"):
        one.install()


def test_an_archive_that_is_none_leaves_nothing_in_place(release):
    one, folder = release
    (folder / "ollama-linux-amd64.tar.zst").write_bytes(packed(b"no tar"))
    (folder / "sha256sum.txt").write_text("%s  ./ollama-linux-amd64.tar.zst\n" % digest(str(folder / "ollama-linux-amd64.tar.zst")))
    with pytest.raises(LocalModelsError, match="cannot be unpacked into"):
        one.install()
    assert os.listdir(one.install_dir) == []
