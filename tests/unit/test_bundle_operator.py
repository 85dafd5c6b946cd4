# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One stick and the documentation, where a bundle is made: pins, disks that do not fit, other machines; each works or says what to do."""

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
    _bundle_export,
    _bundle_plan,
    _bundle_programs,
)
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_bundle_export
from bundle_world import Docker, call, digest, export, files_of, in_order, manifest_digest, pinned, serving_two_models


@pytest.fixture
def registry():
    with serving_two_models() as one:
        yield one


# --- pins -----------------------------------------------------------------------------------------------------------------------------


def test_a_pinned_model_is_exported_with_that_digest_and_stays_when_its_registry_moves_on(registry, tmp_path):
    first = manifest_digest(registry, "tiny")
    assert [one.digest for one in export(registry, tmp_path, pinned(registry, "tiny", "sha256:" + first))[1].models.values()] == [first]
    registry.serve("tiny", [b"newer weights", b"licence"])
    registry.asked()
    job, bundle = export(registry, tmp_path, pinned(registry, "tiny", first), dict(registry.name("tiny"), state="latest"))
    assert registry.asked() == [] and job.parts == [] and [one.digest for one in bundle.models.values()] == [first]


def test_a_pin_replaces_what_the_bundle_has(registry, tmp_path):
    export(registry, tmp_path, "tiny")
    registry.serve("tiny", [b"newer weights", b"licence"])
    job, bundle = export(registry, tmp_path, pinned(registry, "tiny", manifest_digest(registry, "tiny")))
    assert job.parts[0].sentence.startswith("Replace ") and [one.digest for one in bundle.models.values()] == [manifest_digest(registry, "tiny")]


@pytest.mark.parametrize("check", [True, False])
def test_a_pin_that_the_registry_has_no_more_is_refused_before_anything_is_written(registry, tmp_path, capsys, check):
    first = manifest_digest(registry, "tiny")
    export(registry, tmp_path / "bundle", "tiny")
    before = files_of(tmp_path)
    registry.serve("tiny", [b"newer weights", b"licence"])
    result = call(ollama_bundle_export, capsys, check, bundle=str(tmp_path / "bundle"), models=[registry.name("other"), pinned(registry, "tiny", "e" * 64)])
    now = manifest_digest(registry, "tiny")
    assert result["failed"] and not result["changed"] and result["msg"] == (
        "%s/library/tiny:latest is declared with the digest %s, and %s now has %s under this name; the bundle holds %s."
        " Look at what changed, then declare digest: %s; the old one can no longer be pulled." % (
            registry.host, "e" * 12, registry.host, now[:12], first[:12], now))
    assert files_of(tmp_path) == before


def test_a_digest_by_which_an_old_server_showed_the_model_is_not_exactly_it(registry, tmp_path):
    model = export(registry, tmp_path / "bundle", "tiny")[1].models.popitem()[1]
    other, = model.manifest.digests - {model.digest, *sorted(model.manifest.digests - {model.digest})[:-1]}
    with pytest.raises(LocalModelsError, match="then declare digest: %s" % model.digest):
        export(registry, tmp_path / "another", pinned(registry, "tiny", other))


def test_a_model_in_the_cloud_is_refused(registry, tmp_path):
    registry.serve("big-cloud", [])
    with pytest.raises(LocalModelsError, match="big-cloud:latest runs in Ollama's cloud and has no weights"):
        export(registry, tmp_path / "new", "tiny", "big-cloud")
    assert not (tmp_path / "new").exists()


# --- the disk of the bundle -----------------------------------------------------------------------------------------------------------


def job_for(registry, folder, *models, **more):
    """An Export that was asked and did nothing yet."""
    job = _bundle_export.Export(str(folder), more.get("docker"), retries=0)
    job.want_models(_bundle_plan.read_models([registry.name(one) for one in models])[0])
    job.want_releases(more.get("versions", []), ["amd64"], "http://%s/ollama" % registry.host)
    job.want_images(more.get("images", []))
    return job


def test_release_and_image_count_before_the_first_byte(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(_bundle_disk.shutil, "disk_usage", lambda place: SimpleNamespace(free=20_000))
    docker = Docker({"a/b:1": "sha256:1"}, size=5_000)
    job_for(registry, tmp_path / "new", "tiny", versions=["0.32.15"]).refuse_unfit_disk()
    job = job_for(registry, tmp_path / "new", "tiny", versions=["0.32.15"], images=["a/b:1"], docker=docker)
    with pytest.raises(LocalModelsError, match=r"needs 22\.3 kB more in .*/new, and 20\.0 kB are free: 2\.3 kB are missing\. Make room there, .*nothing was"):
        job.refuse_unfit_disk()
    assert not (tmp_path / "new").exists() and docker.calls == ["image"]


def test_what_has_come_already_needs_no_room(registry, tmp_path, monkeypatch):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / ("sha256-%s.part" % digest(b"weights" * 1000))).write_bytes(b"weights" * 900)
    monkeypatch.setattr(_bundle_disk.shutil, "disk_usage", lambda place: SimpleNamespace(free=713))
    job_for(registry, tmp_path, "tiny").refuse_unfit_disk()
    monkeypatch.setattr(_bundle_disk.shutil, "disk_usage", lambda place: SimpleNamespace(free=712))
    with pytest.raises(LocalModelsError, match="713 B more"):
        job_for(registry, tmp_path, "tiny").refuse_unfit_disk()


def mounted(tmp_path, kind):
    """A mountinfo file in which tmp_path is on a file system of this kind."""
    device = os.stat(tmp_path).st_dev
    (tmp_path / "mountinfo").write_text(
        "22 1 0:999 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
        "30 22 %d:%d / /media/my\\040stick rw,nosuid master:2 shared:9 - %s /dev/sdb1 rw,fmask=0022\n" % (os.major(device), os.minor(device), kind))
    return str(tmp_path / "mountinfo")


@pytest.mark.parametrize(("kind", "size", "refused"), [
    ("vfat", 4294967296, True), ("msdos", 4294967296, True), ("vfat", 4294967295, False), ("exfat", 4294967296, False), ("ext4", 5_000_000_000, False)])
def test_a_file_too_large_for_fat_is_told_before_the_first_byte(tmp_path, monkeypatch, kind, size, refused):
    monkeypatch.setattr(_bundle_disk.shutil, "disk_usage", lambda place: SimpleNamespace(free=10 ** 12))
    monkeypatch.setattr(_bundle_disk.file_system, "__defaults__", (mounted(tmp_path, kind),))
    files = [("blobs/sha256-a", 10, 10), ("blobs/sha256-b", size, 1), ("images/c.tar", 0, 0)]
    with pytest.raises(LocalModelsError) if refused else contextlib.nullcontext() as told:
        _bundle_disk.refuse_unfit(str(tmp_path / "bundle"), files, "Make room")
    if refused:
        assert "is on a FAT file system, which takes no file of 4 GB or more, and blobs/sha256-b has 4.3 GB. Format it as exFAT" in str(told.value)


def test_a_system_that_does_not_tell_its_mounts_is_no_reason_to_refuse(tmp_path):
    assert _bundle_disk.file_system(str(tmp_path), str(tmp_path / "none")) == ""
    assert _bundle_disk.file_system(str(tmp_path))


@pytest.mark.parametrize(("number", "mend"), [
    (errno.ENOSPC, "Make room there"), (errno.EFBIG, "Format it as exFAT or ext4"), (errno.EROFS, "Mount it for writing"),
    (errno.EACCES, "Run as the user whose folder it is"), (errno.EIO, "The disk is broken or was drawn out"), (errno.ENAMETOOLONG, "Look at the folder")])
@pytest.mark.parametrize("moment", ["_bring", "_write"])
def test_what_the_disk_says_while_it_is_written_is_told_with_what_to_do(registry, tmp_path, monkeypatch, number, mend, moment):
    def fails(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_bundle_export.Export, moment, fails)
    if moment == "_bring":
        said = str(export(registry, tmp_path, "tiny")[0].parts[0].problem)
    else:
        with pytest.raises(LocalModelsError) as told:
            export(registry, tmp_path, "tiny")
        said = str(told.value)
    assert "cannot be written into %s (%s). %s" % (tmp_path, os.strerror(number), mend) in said


@pytest.mark.parametrize(("flag", "says"), [(os.ST_RDONLY, "Read-only file system"), (0, "Permission denied")])
def test_a_stick_that_may_not_be_written_is_told_in_check_mode_too(registry, tmp_path, monkeypatch, capsys, flag, says):
    monkeypatch.setattr(_bundle_disk.os, "access", lambda place, how: False)
    monkeypatch.setattr(_bundle_disk.os, "statvfs", lambda place: SimpleNamespace(f_flag=flag))
    result = call(ollama_bundle_export, capsys, True, bundle=str(tmp_path / "a" / "b"), models=[registry.name("tiny")])
    assert result["failed"] and "The bundle cannot be written into %s/a/b (%s)" % (tmp_path, says) in result["msg"]


def test_a_bundle_in_which_nothing_is_missing_may_be_on_a_disk_that_is_only_read(registry, tmp_path, monkeypatch, capsys):
    export(registry, tmp_path, "tiny")
    monkeypatch.setattr(_bundle_disk.os, "access", lambda place, how: False)
    assert call(ollama_bundle_export, capsys, False, bundle=str(tmp_path), models=[registry.name("tiny")])["changed"] is False


def test_a_file_in_the_place_of_the_folder_is_told(registry, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    result = call(ollama_bundle_export, capsys, True, bundle=str(tmp_path / "file"), models=[registry.name("tiny")])
    assert "%s/file is no folder" % tmp_path in result["msg"]


def test_an_exclusive_bundle_keeps_nothing_of_an_export_that_was_killed(registry, tmp_path):
    export(registry, tmp_path, "tiny")
    for left in ("blobs/sha256-%s.part" % ("a" * 64), "blobs/sha256-" + "b" * 64, "images/x.tar.part", "releases/v0.1.0/sha256sum.txt"):
        (tmp_path / left).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / left).write_text("left")
    export(registry, tmp_path, "tiny")
    assert (tmp_path / "images/x.tar.part").exists()
    bundle = export(registry, tmp_path, "tiny", exclusive=True)[1]
    assert files_of(tmp_path) == sorted(list(bundle.files) + ["bundle.json"])


def test_the_content_is_on_the_disk_before_it_has_its_name(registry, tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(_bundle_export.os, "fsync", lambda number: events.append("sync"))
    replace = os.replace
    monkeypatch.setattr(_bundle_export.os, "replace", lambda *names: (events.append("name"), replace(*names)))
    export(registry, tmp_path, "tiny", docker=Docker({"a/b:1": "sha256:1"}), images=["a/b:1"])
    assert events.count("name") == 3 + 1 + 1 + 1 and in_order(events)  # layers, manifest, image, index


# --- images ---------------------------------------------------------------------------------------------------------------------------


def test_an_image_by_digest_is_refused_for_the_digest_would_not_come_along(registry, tmp_path):
    with pytest.raises(LocalModelsError, match="docker save does not keep. Name it by a tag"):
        export(registry, tmp_path / "new", docker=Docker(), images=["ollama/ollama@sha256:" + "a" * 64])


def test_two_spellings_of_one_image_are_saved_once(registry, tmp_path):
    docker = Docker()
    assert len(export(registry, tmp_path, docker=docker, images=["a/b:1", "docker.io/a/b:1", "a/b:1"])[1].images) == 1
    assert docker.calls.count("save") == 1


def test_who_may_read_the_other_files_may_read_the_images_too(registry, tmp_path):
    mask = os.umask(0o022)
    try:
        bundle = export(registry, tmp_path, "tiny", docker=Docker(), images=["a/b:1"])[1]
    finally:
        os.umask(mask)
    assert {stat.S_IMODE(os.stat(str(tmp_path / path)).st_mode) for path in [*bundle.files, "bundle.json"]} == {0o644}


def test_an_image_for_another_machine_is_refused_with_the_way_to_the_right_one(registry, tmp_path):
    bundle = export(registry, tmp_path / "bundle", docker=Docker(arch="amd64"), images=["a/b:1"])[1]
    again = _bundle.read(str(tmp_path / "bundle"))
    assert again.images["a/b:1"].architecture == "amd64" and again.document() == bundle.document()
    with pytest.raises(LocalModelsError) as told:
        _bundle_programs.Images(Docker(arch="arm64"), again, ["a/b:1"], str(tmp_path))
    assert "holds a/b:1 for amd64, and Docker on this host runs arm64. Where the bundle is made run docker pull --platform linux/arm64 a/b:1" in str(told.value)
    assert _bundle_programs.Images(Docker({"a/b:1": "x"}, arch="arm64"), again, ["a/b:1"], str(tmp_path)).todo == {}


def test_a_bundle_from_before_the_architecture_was_told_is_read(registry, tmp_path):
    bundle = export(registry, tmp_path, docker=Docker(), images=["a/b:1"])[1]
    document = json.loads(bundle.document())
    del document["images"][0]["architecture"]
    (tmp_path / "bundle.json").write_text(json.dumps(document))
    assert len(_bundle_programs.Images(Docker(arch="arm64"), _bundle.read(str(tmp_path)), ["a/b:1"], str(tmp_path)).todo) == 1
    assert export(registry, tmp_path, docker=Docker(), images=["a/b:1"])[0].parts == []
    assert json.loads((tmp_path / "bundle.json").read_text()) == document, "nothing changed, so nothing is written"
