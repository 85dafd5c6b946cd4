# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One stick and the documentation, on the closed host: other users, full disks, spoilt sticks; each works or says what to do."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from types import SimpleNamespace

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import (
    _bundle,
    _bundle_disk,
    _bundle_import,
    _bundle_programs,
)
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._store import Store
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_bundle_export, ollama_bundle_import
from bundle_world import ARCHIVE, Docker, call, digest, export, files_of, in_order, listed, manifest_digest, pinned, serving_two_models
from small_server import serving


@pytest.fixture
def registry():
    with serving_two_models() as one:
        yield one


@pytest.fixture
def closed(registry, tmp_path):
    """What a module is told on a closed host: a bundle with tiny and other on a stick, an Ollama that reads its store at each request."""
    export(registry, tmp_path / "bundle", "tiny", "other")
    (tmp_path / "models").mkdir()
    store = Store(str(tmp_path / "models"))

    def tags(handler):
        body = json.dumps({"models": [{"name": one.name.short, "model": one.name.short, "digest": one.digest, "size": 1, "details": {}}
                                      for one in listed(store)]}).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with serving({("GET", "/api/tags"): tags}) as server:
        yield {"bundle": str(tmp_path / "bundle"), "remote_src": True, "store_path": store.path, "url": server.url}


@pytest.mark.parametrize("check", [True, False])
def test_a_pin_that_the_bundle_does_not_keep_is_refused_on_the_closed_host(registry, closed, capsys, check):
    result = call(ollama_bundle_import, capsys, check, models=[registry.name("other"), pinned(registry, "tiny", "d" * 64)], **closed)
    assert result["failed"] and "tiny:latest is declared with the digest dddddddddddd; the bundle holds" in result["msg"]
    assert files_of(closed["store_path"]) == []


def test_a_pinned_model_comes_and_a_second_time_nothing_is_touched(registry, closed, capsys, monkeypatch):
    models = [pinned(registry, "tiny", manifest_digest(registry, "tiny")), dict(registry.name("other"), state="loaded")]
    asked = call(ollama_bundle_import, capsys, True, models=models, **closed)
    assert asked["changed"] and files_of(closed["store_path"]) == []
    first = call(ollama_bundle_import, capsys, False, models=models, **closed)
    assert [one["action"] for one in first["models"]] == [one["action"] for one in asked["models"]] == ["import", "import"]
    before = {path: os.stat(os.path.join(closed["store_path"], path)) for path in files_of(closed["store_path"])}
    monkeypatch.setattr(_bundle_import, "digest_of", lambda path: pytest.fail("%s is hashed although nothing is to be done" % path))
    monkeypatch.setattr(_bundle_import.os, "utime", lambda *arguments: pytest.fail("something is touched"))
    assert call(ollama_bundle_import, capsys, False, models=models, **closed)["changed"] is False
    assert {path: os.stat(os.path.join(closed["store_path"], path)).st_mtime_ns for path in before} == {
        path: one.st_mtime_ns for path, one in before.items()}


def test_a_bundle_is_only_read_and_need_not_be_complete_in_what_nobody_asks_for(registry, closed, capsys):
    for path in files_of(closed["bundle"]):
        if digest(b"weights" * 1000) in path:
            os.unlink(os.path.join(closed["bundle"], path))
    left = files_of(closed["bundle"])
    assert call(ollama_bundle_import, capsys, False, models=[registry.name("other")], **closed)["changed"]
    assert files_of(closed["bundle"]) == left
    refused = call(ollama_bundle_import, capsys, True, models=[registry.name("tiny")], **closed)
    assert "blobs/sha256-%s is missing" % digest(b"weights" * 1000) in refused["msg"]


def test_files_get_the_owner_of_the_store_and_their_content_before_their_name(registry, closed, capsys, monkeypatch):
    events, owned, modes, replace = [], [], set(), os.replace
    os.chown(closed["store_path"], 4711, 4712)
    mask = os.umask(0o077)
    monkeypatch.setattr(_bundle_import.os, "fsync", lambda number: events.append("sync"))
    monkeypatch.setattr(_bundle_import.os, "replace", lambda *names: (
        events.append("name"), modes.add(stat.S_IMODE(os.stat(os.path.dirname(names[0])).st_mode)), replace(*names)))
    monkeypatch.setattr(_bundle_import.os, "geteuid", lambda: 0)
    monkeypatch.setattr(_bundle_import.os, "chown", lambda path, *ids: owned.append((os.path.basename(path), ids)))
    call(ollama_bundle_import, capsys, False, models=[registry.name("tiny")], **closed)
    os.umask(mask)
    assert {stat.S_IMODE(os.stat(os.path.join(closed["store_path"], path)).st_mode) for path in files_of(closed["store_path"])} == {0o644}
    assert {stat.S_IMODE(os.stat(base).st_mode) for base, folders, names in os.walk(closed["store_path"]) if base != closed["store_path"]} == {0o755}
    assert len([name for name, ids in owned if name.startswith("sha256-")]) == 4
    assert events.count("name") == 4 and in_order(events) and modes == {0o700}, "what is not whole yet is nobody else's business"
    assert {ids for dummy, ids in owned} == {(4711, 4712)} and {"manifests", "blobs", "library", "tiny"} <= {name for name, dummy in owned}


def test_who_is_not_root_gives_nothing_away(registry, closed, capsys, monkeypatch):
    monkeypatch.setattr(_bundle_import.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(_bundle_import.os, "chown", lambda *given: pytest.fail("only root may do that"))
    assert call(ollama_bundle_import, capsys, False, models=[registry.name("tiny")], **closed)["changed"]


def unreadable(monkeypatch, path):
    """Opening and looking at `path` is forbidden, also to root, who runs the tests."""
    real_open, real_stat = open, os.stat

    def refuse(given):
        if str(given) == path:
            raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("builtins.open", lambda name, *more, **named: (refuse(name), real_open(name, *more, **named))[1])
    monkeypatch.setattr(_bundle.os, "stat", lambda name, *more, **named: (refuse(name), real_stat(name, *more, **named))[1])


@pytest.mark.parametrize("which", ["bundle.json", "manifests/", "blobs/"])
def test_a_bundle_of_another_user_is_told_as_such_and_not_as_the_store(registry, closed, capsys, monkeypatch, which):
    path = next(one for one in files_of(closed["bundle"]) if one.startswith(which))
    unreadable(monkeypatch, os.path.join(closed["bundle"], path))
    result = call(ollama_bundle_import, capsys, False, models=[registry.name("tiny"), registry.name("other")], **closed)
    assert result["failed"] and "%s of the bundle in %s cannot be read by this user" % (path, closed["bundle"]) in result["msg"]
    assert "chmod -R a+rX" in result["msg"] and "damaged" not in result["msg"]


def test_a_stick_that_breaks_in_the_middle_is_told_as_the_sticks_fault(registry, closed, capsys, monkeypatch):
    source = _bundle_import.OnThisHost(closed["bundle"])
    needed = _bundle_import.Needed(_bundle.File("blobs/sha256-" + digest(b"licence"), 7, digest(b"licence")), "tiny:latest", closed["store_path"])

    class Broken:
        def __enter__(self):
            return self

        def __exit__(self, *problem):
            return False

        def read(self, count):
            raise OSError(errno.EIO, "Input/output error")

    real = open
    monkeypatch.setattr("builtins.open", lambda name, *more, **named: Broken() if "bundle" in str(name) else real(name, *more, **named))
    for way in (source.take, source.look):
        with pytest.raises(LocalModelsError, match=r"of the bundle in .*, which belongs to tiny:latest, cannot be read \(Input/output error\)"):
            way(needed)
    assert files_of(closed["store_path"]) == []


def test_a_store_that_this_user_may_not_look_into_is_told(registry, closed, capsys, monkeypatch):
    def forbidden(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(_bundle_import.os, "scandir", forbidden)
    result = call(ollama_bundle_import, capsys, True, models=[registry.name("tiny")], **closed)
    assert "%s may not be read and written by this user (Permission denied). Use become: true" % closed["store_path"] in result["msg"]


class Release:
    version, asset = "0.32.15", "ollama-linux-amd64.tar.zst"

    def __init__(self, folder):
        self.install_dir, self.path = str(folder / "opt"), str(folder / "opt" / "0.32.15")

    def present(self):
        return False

    def put_in_place(self, archive):
        os.makedirs(self.path)


@pytest.mark.parametrize(("sent", "free", "fits"), [(True, 20_000, True), (True, 19_999, False), (False, 10_000, True), (False, 9_999, False)])
def test_release_and_images_need_room_before_they_are_sent(registry, tmp_path, monkeypatch, sent, free, fits):
    assert len(ARCHIVE) == 10_000
    bundle = export(registry, tmp_path / "bundle", versions=["0.32.15"], docker=Docker(), images=["a/b:1"])[1]
    release = _bundle_programs.ReleaseOf(Release(tmp_path), bundle)
    images = _bundle_programs.Images(Docker(), bundle, ["a/b:1"], str(tmp_path / "scratch"))
    monkeypatch.setattr(_bundle_disk.shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    with contextlib.nullcontext() if fits else pytest.raises(LocalModelsError, match="Ollama 0.32.15 and what is in it need .* are missing"):
        release.refuse_if_too_small(sent)
    images.refuse_if_too_small(sent)
    monkeypatch.setattr(_bundle_disk.shutil, "disk_usage", lambda place: SimpleNamespace(free=1))
    with pytest.raises(LocalModelsError, match="The archives of the images need") if sent else contextlib.nullcontext():
        images.refuse_if_too_small(sent)


def test_a_version_of_containers_is_told_to_the_registries(registry, tmp_path, capsys):
    call(ollama_bundle_export, capsys, True, bundle=str(tmp_path / "x"), models=[registry.name("tiny")], server_versions=["0.34.4", "0.9.10"])
    assert [one["User-Agent"].split()[0] for one in registry.small.headers] == ["ollama/0.34.4"]


@pytest.mark.parametrize("asked_again", [True, False])
def test_a_lost_manifest_costs_its_own_model_only(registry, tmp_path, capsys, asked_again):
    bundle = export(registry, tmp_path, "tiny", "other")[1]
    tiny = next(one for one in bundle.models.values() if one.name.model == "tiny")
    (tmp_path / tiny.path).unlink()
    options = dict(bundle=str(tmp_path), models=[registry.name("tiny" if asked_again else "other")])
    asked = call(ollama_bundle_export, capsys, True, **options)
    result = call(ollama_bundle_export, capsys, **options)
    assert asked["changed"] and result["changed"] and result["received"] == 0
    assert "%s cannot be read" % tiny.path in str(result["warnings"])
    assert sorted(one.name.model for one in _bundle.read(str(tmp_path)).models.values()) == ["other"] + ["tiny"] * asked_again
    assert call(ollama_bundle_export, capsys, **options)["changed"] is False


def test_a_server_that_does_not_run_yet_is_a_warning_in_check_mode_and_an_error_else(registry, closed, capsys):
    closed["url"] = "http://127.0.0.1:9"
    asked = call(ollama_bundle_import, capsys, True, models=[registry.name("tiny")], **closed)
    assert asked["changed"] and "Check mode goes on as if it ran and held no models." in str(asked["warnings"])
    assert "127.0.0.1:9" in call(ollama_bundle_import, capsys, False, models=[registry.name("tiny")], **closed)["msg"]
    assert files_of(closed["store_path"]) == []


def test_a_store_that_is_not_on_this_host_is_told(registry, closed, capsys, monkeypatch):
    missing = dict(closed, store_path=closed["store_path"] + "/none")
    assert "There is no folder %s on this host" % missing["store_path"] in call(ollama_bundle_import, capsys, models=["x"], **missing)["msg"]
    monkeypatch.setattr(ollama_bundle_import._store, "find", lambda host, found: None)
    del closed["store_path"]
    said = call(ollama_bundle_import, capsys, models=["x"], **closed)["msg"]
    assert "The model store of the Ollama at %s was not found on this host. Name the folder" % closed["url"] in said


@pytest.mark.parametrize(("broken", "says"), [("load", "The image a/b:1 cannot be loaded: no space left"),
                                              ("name", "was loaded, and Docker has no image a/b:1 all the same. Make the bundle again")])
def test_an_image_that_does_not_come_is_told_and_its_archive_leaves_the_scratch_folder(registry, tmp_path, broken, says):
    bundle = export(registry, tmp_path / "bundle", docker=Docker(), images=["a/b:1"])[1]
    docker = Docker()
    images = _bundle_programs.Images(docker, bundle, ["a/b:1"], str(tmp_path / "scratch"))
    one, = images.needed()
    os.makedirs(os.path.dirname(one.place))
    with open(os.path.join(str(tmp_path / "bundle"), one.file.path), "rb") as archive, open(one.place, "wb") as sent:
        sent.write(archive.read())
    real = docker.call
    docker.call = lambda *given: ((1, "", "no space left") if broken == "load" else (0, "", "")) if given[0] == "load" else real(*given)
    with pytest.raises(LocalModelsError, match=says):
        images.carry_out(_bundle_import.Sent())
    assert os.listdir(str(tmp_path / "scratch")) == []


def test_models_that_failed_are_an_error_after_the_others_came(registry, closed, capsys):
    path = os.path.join(closed["bundle"], "blobs", "sha256-" + digest(b"weights" * 1000))
    with open(path, "wb") as spoilt:
        spoilt.write(b"WEIGHTS" * 1000)
    result = call(ollama_bundle_import, capsys, models=[registry.name("tiny"), registry.name("other")], **closed)
    assert result["failed"] and result["changed"] and [one["action"] for one in result["models"]] == ["failed", "import"]
    assert "has the SHA-256" in result["msg"] and "/other:latest" in result["actions"][0] and len(result["actions"]) == 1
    assert [one.name.model for one in listed(Store(closed["store_path"]))] == ["other"]


def test_a_store_of_another_server_is_told(registry, closed, capsys, tmp_path):
    (tmp_path / "other").mkdir()
    result = call(ollama_bundle_import, capsys, models=[registry.name("tiny")], **dict(closed, store_path=str(tmp_path / "other")))
    assert result["failed"] and "was put into %s, and Ollama does not show it" % (tmp_path / "other") in result["msg"]


def test_a_spoilt_layer_is_seen_by_whoever_verifies_and_a_full_disk_by_everybody(registry, closed, capsys, monkeypatch):
    options = dict(closed, models=[registry.name("tiny")])
    call(ollama_bundle_import, capsys, **options)
    with open(os.path.join(closed["store_path"], "blobs", "sha256-" + digest(b"licence")), "wb") as spoilt:
        spoilt.write(b"LICENCE")
    assert call(ollama_bundle_import, capsys, True, **options)["changed"] is False
    assert call(ollama_bundle_import, capsys, True, verify=True, **options)["actions"][0].startswith("Bring back layers of ")
    monkeypatch.setattr(_bundle_disk.shutil, "disk_usage", lambda place: SimpleNamespace(free=6))
    assert "need 7 B more on the disk of" in call(ollama_bundle_import, capsys, True, verify=True, **options)["msg"]


def test_a_relative_folder_and_a_bundle_that_nobody_sent_are_refused(capsys):
    assert "is no absolute path" in call(ollama_bundle_import, capsys, bundle="stick", remote_src=True)["msg"]
    assert "can only be sent by the action plugin" in call(ollama_bundle_import, capsys, bundle="/media/usb/bundle")["msg"]


def test_files_that_somebody_else_keeps_in_the_folder_of_arrivals_stay(registry, closed, capsys):
    arrivals = os.path.join(closed["store_path"], _bundle_import.INCOMING)
    os.mkdir(arrivals)
    for name in ("sha256-" + "a" * 64, "notes.txt"):
        with open(os.path.join(arrivals, name), "w"):
            pass
    call(ollama_bundle_import, capsys, models=[registry.name("tiny")], **closed)
    assert os.listdir(arrivals) == ["notes.txt"], "what an earlier play began and nobody declares is gone"


def test_what_was_done_before_something_failed_is_told(registry, closed, capsys, monkeypatch):
    export(registry, closed["bundle"], docker=Docker(), images=["a/b:1"])
    docker = Docker()
    monkeypatch.setattr(ollama_bundle_import, "Docker", lambda run: docker)
    with open(os.path.join(closed["bundle"], "blobs", "sha256-" + digest(b"licence")), "wb") as spoilt:
        spoilt.write(b"LICENCE")
    options = dict(closed, images=["a/b:1"], models=[registry.name("tiny")])
    asked = call(ollama_bundle_import, capsys, True, **options)
    assert [one.split()[0] for one in asked["actions"]] == ["Load", "Import"]
    result = call(ollama_bundle_import, capsys, **options)
    assert result["failed"] and result["changed"] and len(result["actions"]) == 1 and result["actions"][0].startswith("Loaded the image a/b:1 (")


def test_images_that_have_no_room_are_told_before_they_are_sent(registry, tmp_path, capsys, monkeypatch):
    bundle = export(registry, tmp_path / "bundle", docker=Docker(), images=["a/b:1"])[1]
    monkeypatch.setattr(ollama_bundle_import, "Docker", lambda run: Docker())
    monkeypatch.setattr(_bundle_disk.shutil, "disk_usage", lambda place: SimpleNamespace(free=1))
    result = call(ollama_bundle_import, capsys, True, bundle=str(tmp_path / "bundle"), contents=json.loads(json.dumps(bundle.carried())),
                  images=["a/b:1"], scratch_dir=str(tmp_path / "scratch"))
    assert result["failed"] and "The archives of the images need" in result["msg"]


@pytest.mark.parametrize("part", ["release", "image"])
def test_an_archive_that_is_spoilt_in_the_bundle_is_not_used(registry, tmp_path, part):
    bundle = export(registry, tmp_path / "bundle", versions=["0.32.15"], docker=Docker(), images=["a/b:1"])[1]
    docker = Docker()
    one = _bundle_programs.ReleaseOf(Release(tmp_path), bundle) if part == "release" else _bundle_programs.Images(docker, bundle, ["a/b:1"], str(tmp_path))
    path = tmp_path / "bundle" / one.needed()[0].file.path
    path.write_bytes(b"X" + path.read_bytes()[1:])
    with pytest.raises(LocalModelsError, match="%s, which belongs to .*, has the SHA-256 .* instead of" % one.needed()[0].file.path):
        one.carry_out(_bundle_import.OnThisHost(str(tmp_path / "bundle")))
    assert "load" not in docker.calls and not (tmp_path / "opt" / "0.32.15").exists()
