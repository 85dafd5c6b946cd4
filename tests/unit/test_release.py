# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _download, _release
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving

VERSION = "0.13.5"  # the last that is packed with gzip, which every machine has
ASSET = "ollama-linux-amd64.tgz"
FOLDER = "/v" + VERSION


def archive(program="bin/ollama"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in (program, "lib/ollama/llama-server"):
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            member.size = 200000
            tar.addfile(member, io.BytesIO(os.urandom(member.size)))
    return packed.getvalue()


PACKED = archive()
SHA256 = hashlib.sha256(PACKED).hexdigest()
LIST = "%s  ./install.sh\n%s  ./%s\n" % ("0" * 64, SHA256, ASSET)


def run(arguments):
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, check=False)
    return done.returncode, done.stdout, done.stderr


def answers(**other):
    return {("GET", FOLDER + "/sha256sum.txt"): (200, other.get("list", LIST)),
            ("GET", "%s/%s" % (FOLDER, ASSET)): other.get("archive", (200, PACKED))}


def release(server, tmp_path, checksum="", version=VERSION):
    return _release.Release(run, version, str(tmp_path / "ollama"), server.url, checksum, "x86_64")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(_download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(_download.Download.__init__, "__defaults__", (lambda seconds: None,))
    monkeypatch.setattr(_download.fetch_text, "__defaults__", (lambda seconds: None,))


@pytest.mark.parametrize("version, machine, name", [
    ("0.32.15", "x86_64", "ollama-linux-amd64.tar.zst"),
    ("0.14.0", "aarch64", "ollama-linux-arm64.tar.zst"),
    ("0.14.0-rc0", "aarch64", "ollama-linux-arm64.tar.zst"),
    ("0.13.5", "x86_64", "ollama-linux-amd64.tgz"),
    ("1.0.0", "x86_64", "ollama-linux-amd64.tar.zst"),
])
def test_asset(version, machine, name):
    assert _release.asset(version, machine) == name


def test_no_release_for_the_architecture():
    with pytest.raises(LocalModelsError, match="riscv64.*amd64 and arm64"):
        _release.asset("0.32.15", "riscv64")


@pytest.mark.parametrize("line", ["%s  ./x.tgz", "%s  x.tgz", "%s *x.tgz\r"])
def test_checksum_list(line):
    text = "%s  ./other-x.tgz\n" % ("1" * 64) + line % ("A" * 64) + "\n"
    assert _release.parse_checksums(text, "x.tgz") == "a" * 64
    assert _release.parse_checksums(text, "y.tgz") is None


@pytest.mark.parametrize("text", ["a" * 64, "sha256:" + "A" * 64, " %s " % ("a" * 64)])
def test_given_checksum(text):
    assert _release.read_checksum(text) == "a" * 64


@pytest.mark.parametrize("text", ["abc", "md5:" + "a" * 32, "a" * 63])
def test_no_checksum(text):
    with pytest.raises(LocalModelsError, match="no SHA-256"):
        _release.read_checksum(text)


def test_install(tmp_path):
    with serving(answers()) as server:
        one = release(server, tmp_path)
        assert not one.present()
        assert one.install() == len(PACKED)
    assert one.present()
    assert os.listdir(tmp_path / "ollama") == [VERSION]


def test_two_plays_at_once_install_once(tmp_path):
    """A host with two names in the inventory: both see that the release is missing, and write at the same places."""
    both, loads = threading.Barrier(2, timeout=10), []

    def slowly(handler):
        loads.append(1)
        time.sleep(0.1)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(PACKED)))
        handler.end_headers()
        handler.wfile.write(PACKED)

    def install():
        one = release(server, tmp_path)
        assert not one.present()
        both.wait()
        return one.install()

    with serving(answers(archive=slowly)) as server, ThreadPoolExecutor(2) as pool:
        received = [one.result() for one in [pool.submit(install), pool.submit(install)]]
    assert sorted(received) == [0, len(PACKED)] and len(loads) == 1 and release(server, tmp_path).present()
    assert os.listdir(tmp_path / "ollama") == [VERSION]


def test_a_release_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """What has the name counts as whole, so a power cut must not leave the name alone."""
    seen = []
    monkeypatch.setattr(os, "sync", lambda: seen.append(os.listdir(tmp_path / "ollama")))
    with serving(answers()) as server:
        release(server, tmp_path).install()
    assert len(seen) == 1 and ".%s.unpacked" % VERSION in seen[0] and VERSION not in seen[0]


@pytest.mark.parametrize("url", ["mirror.example/ollama", "me:s3cret@mirror.example/ollama", "http://mirror:port/ollama", "http://[mirror/ollama", "ollama"])
def test_a_mirror_that_is_no_address(tmp_path, url):
    slept = []
    with pytest.raises(LocalModelsError, match="is no address to download from. Begin it with https://") as caught:
        _download.fetch_text(url + "/sha256sum.txt", "missing", slept.append)
    assert "s3cret" not in str(caught.value) and slept == []


def test_a_given_checksum_needs_no_list(tmp_path):
    with serving(answers()) as server:
        release(server, tmp_path, checksum="sha256:" + SHA256).install()
    assert server.paths() == ["GET %s/%s" % (FOLDER, ASSET)]


def test_checksum_mismatch_leaves_nothing(tmp_path):
    with serving(answers()) as server:
        with pytest.raises(LocalModelsError, match="Checksum mismatch.*%s.*ollama_checksum says %s" % (SHA256, "b" * 64)):
            release(server, tmp_path, checksum="b" * 64).install()
    assert os.listdir(tmp_path / "ollama") == []


def test_a_version_that_does_not_exist(tmp_path):
    with serving({}) as server:
        with pytest.raises(LocalModelsError, match="does not exist .404.*no Ollama release 0.13.5"):
            release(server, tmp_path).install()
    assert len(server.asked) == 1


def test_a_list_without_the_asset(tmp_path):
    with serving(answers(list="")) as server:
        with pytest.raises(LocalModelsError, match="no line for " + ASSET):
            release(server, tmp_path).install()


def test_an_archive_without_a_program(tmp_path):
    packed = archive("bin/other")
    with serving(answers(archive=(200, packed))) as server:
        with pytest.raises(LocalModelsError, match="holds no bin/ollama"):
            release(server, tmp_path, checksum=hashlib.sha256(packed).hexdigest()).install()
    assert os.listdir(tmp_path / "ollama") == []


def test_an_archive_that_is_none(tmp_path):
    with serving(answers(archive=(200, b"no archive"))) as server:
        with pytest.raises(LocalModelsError, match="cannot be unpacked"):
            release(server, tmp_path, checksum=hashlib.sha256(b"no archive").hexdigest()).install()
    assert os.listdir(tmp_path / "ollama") == []


def test_what_a_killed_play_left_is_no_release(tmp_path):
    (tmp_path / "ollama" / (".%s.unpacked" % VERSION) / "bin").mkdir(parents=True)
    (tmp_path / "ollama" / VERSION).mkdir()
    with serving(answers()) as server:
        one = release(server, tmp_path)
        assert not one.present()
        one.install()
        assert one.present()
    assert os.listdir(tmp_path / "ollama") == [VERSION]


def ranged(cut_after, times, ranges):
    """A server that knows ranges and cuts the first `times` connections after `cut_after` bytes."""
    left = [times]

    def answer(handler):
        asked = handler.headers.get("Range")
        ranges.append(asked)
        start = int(asked[len("bytes="):-1]) if asked else 0
        body = PACKED[start:]
        handler.send_response(206 if asked else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if left[0]:
            left[0] -= 1
            body = body[:cut_after]
        handler.wfile.write(body)
    return answer


def test_a_broken_line_is_taken_up_where_it_broke(tmp_path):
    ranges = []
    with serving(answers(archive=ranged(1000, 7, ranges))) as server:
        assert release(server, tmp_path).install() == len(PACKED)
    assert ranges == [None] + ["bytes=%d-" % (1000 * n) for n in range(1, 8)]


def test_a_server_that_gives_nothing_is_given_up_and_the_rest_stays(tmp_path):
    ranges = []
    with serving(answers(archive=ranged(0, 99, ranges))) as server:
        with pytest.raises(LocalModelsError, match="cannot be downloaded.*ended the connection"):
            release(server, tmp_path).install()
    assert len(ranges) == _download.TRIES


def test_a_later_play_goes_on(tmp_path):
    ranges = []
    part = tmp_path / "ollama" / (".%s-%s.part" % (VERSION, ASSET))
    part.parent.mkdir()
    part.write_bytes(PACKED[:5000])
    with serving(answers(archive=ranged(0, 0, ranges))) as server:
        assert release(server, tmp_path).install() == len(PACKED) - 5000
    assert ranges == ["bytes=5000-"]


def test_a_spoilt_beginning_is_thrown_away(tmp_path):
    ranges = []
    part = tmp_path / "ollama" / (".%s-%s.part" % (VERSION, ASSET))
    part.parent.mkdir()
    part.write_bytes(b"x" * 5000)
    with serving(answers(archive=ranged(0, 0, ranges))) as server:
        one = release(server, tmp_path)
        one.install()
    assert one.present()
    assert ranges == ["bytes=5000-", None]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(tmp_path, status):
    said = [(status, ""), (200, PACKED)]

    def answer(handler):
        code, body = said.pop(0)
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body or b"")
    with serving(answers(archive=answer)) as server:
        release(server, tmp_path).install()


def test_a_refusal_is_final(tmp_path):
    with serving(answers(archive=(403, "no"))) as server:
        with pytest.raises(LocalModelsError, match="403"):
            release(server, tmp_path).install()
    assert len(server.asked) == 2


def test_a_server_without_ranges(tmp_path):
    part = tmp_path / "ollama" / (".%s-%s.part" % (VERSION, ASSET))
    part.parent.mkdir()
    part.write_bytes(PACKED[:5000])
    with serving(answers()) as server:
        assert release(server, tmp_path).install() == len(PACKED)


def test_disk_too_small(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(_download.shutil, "disk_usage", lambda path: usage)
    with serving(answers()) as server:
        with pytest.raises(LocalModelsError, match="only 1.0 kB are free"):
            release(server, tmp_path).install()


def test_installed_versions(tmp_path):
    for name in ("0.32.15", "0.33.0-rc1", ".0.32.14.unpacked", "replaced", "models"):
        (tmp_path / name).mkdir()
    assert _release.installed(str(tmp_path)) == ["0.32.15", "0.33.0-rc1"]
    assert _release.installed(str(tmp_path / "none")) == []


def test_a_mirror_with_a_password_gets_it_and_nobody_else_does(tmp_path):
    with serving({}) as other, serving({}) as mirror:
        other.answers["GET", "/file"] = (200, b"content")
        mirror.answers["GET", "/file"] = mirror.answers["HEAD", "/file"] = (302, "", {"Location": other.url + "/file"})
        url = mirror.url.replace("http://", "http://me:s3%40cret@") + "/file"
        assert _download.fetch_text(url, "") == "content" and _download.length(url) in (0, 7)
        _download.Download(url, str(tmp_path / "file")).run(hashlib.sha256(b"content").hexdigest(), "somebody")
        assert {one.get("Authorization") for one in mirror.headers} == {"Basic bWU6czNAY3JldA=="}
        assert {one.get("Authorization") for one in other.headers} == {None}


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere.invalid", "127.0.0.1:port"])
def test_a_password_in_an_address_is_never_shown(address):
    with pytest.raises(LocalModelsError) as told:
        _download.fetch_text("http://me:s3cret@%s/file" % address, "", sleep=lambda seconds: None)
    assert "s3cret" not in str(told.value) and "http://***@%s/file" % address in str(told.value)


def test_a_password_in_an_address_is_not_shown_where_the_list_lacks_the_archive(tmp_path):
    with serving({("GET", FOLDER + "/sha256sum.txt"): (200, "")}) as mirror:
        release = _release.Release(run, VERSION, str(tmp_path), mirror.url.replace("//", "//me:s3cret@"), "", "x86_64")
        with pytest.raises(LocalModelsError, match=r"http://\*\*\*@.* has no line for"):
            release.checksum()
