# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a registry into a bundle, from the bundle into a store: on real files, with what goes wrong on the way."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from types import SimpleNamespace

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _bundle, _bundle_disk, _bundle_export, _bundle_import, _bundle_plan, _bundle_programs
from ansible_collections.localmodels.fastgpt.plugins.module_utils._bundle_import import OnThisHost, Sent
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned
from ansible_collections.localmodels.fastgpt.plugins.module_utils._store import Store
from test_alone import is_held
from bundle_world import ARCHIVE, Docker, digest, export, files_of, listed, name_of, serving_two_models


@pytest.fixture
def registry():
    with serving_two_models() as one:
        yield one


def test_everything_is_there_once_and_a_second_export_asks_for_nothing(registry, tmp_path):
    docker = Docker()
    arguments = dict(versions=["0.32.15"], docker=docker, images=["ollama/ollama:0.32.15"])
    job, bundle = export(registry, tmp_path, "tiny", "other", **arguments)
    assert [part.problem for part in job.parts] == [None] * 4
    asked = registry.asked()
    assert len(asked) == len(set(asked)) == 2 + 4 + 3  # manifests, distinct layers, release with checksums and its size
    assert files_of(tmp_path) == sorted(list(bundle.files) + ["bundle.json"])
    for path, file in bundle.files.items():
        assert (os.path.getsize(str(tmp_path / path)), _bundle_export.digest(str(tmp_path / path))) == (file.size, file.sha256)
    raw = registry.small.answers["GET", "/v2/library/tiny/manifests/latest"][1].encode()
    assert (tmp_path / "manifests" / ("sha256-" + digest(raw))).read_bytes() == raw
    before = {path: os.stat(str(tmp_path / path)).st_mtime_ns for path in files_of(tmp_path)}
    again, same = export(registry, tmp_path, "tiny", "other", **arguments)
    assert registry.asked() == [] and again.parts == [] and again.received == 0
    assert same.document() == bundle.document() and docker.calls.count("save") == 1
    assert {path: os.stat(str(tmp_path / path)).st_mtime_ns for path in files_of(tmp_path)} == before


def test_latest_asks_for_the_manifest_and_brings_only_what_is_new(registry, tmp_path):
    latest = dict(registry.name("tiny"), state="latest")
    export(registry, tmp_path, latest)
    registry.asked()
    export(registry, tmp_path, latest)
    assert registry.asked() == ["tiny/manifests/latest"]
    registry.serve("tiny", [b"newer weights", b"licence"])
    job, bundle = export(registry, tmp_path, "tiny")
    assert registry.asked() == [] and job.parts == []
    job, bundle = export(registry, tmp_path, latest)
    assert registry.asked() == ["tiny/manifests/latest", "tiny/blobs/sha256:" + digest(b"newer weights")]
    assert files_of(tmp_path) == sorted(list(bundle.files) + ["bundle.json"]), "what no model needs any more is gone"


def test_a_bundle_grows_unless_it_is_exclusive(registry, tmp_path):
    export(registry, tmp_path, "tiny", versions=["0.32.15"])
    assert len(export(registry, tmp_path, "other")[1].models) == 2
    job, bundle = export(registry, tmp_path, "other", exclusive=True)
    assert [one.name.model for one in bundle.models.values()] == ["other"] and not bundle.releases
    assert files_of(tmp_path) == sorted(list(bundle.files) + ["bundle.json"])


def test_a_broken_download_goes_on_in_the_next_export(registry, tmp_path):
    weights = b"weights" * 1000
    path = ("GET", "/v2/library/tiny/blobs/sha256:" + digest(weights))

    def half(handler):
        begin = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Length", str(len(weights) - begin))
        handler.end_headers()
        handler.wfile.write(weights[begin:] if served else b"" if begin else weights[:3000])

    served = False
    registry.small.answers[path] = half
    job, bundle = export(registry, tmp_path, "tiny", "other")
    assert [bool(part.problem) for part in job.parts] == [True, False]
    assert "cannot be downloaded: the server ended the connection" in str(job.parts[0].problem)
    assert [one.name.model for one in bundle.models.values()] == ["other"]
    assert os.path.getsize(str(tmp_path / "blobs" / ("sha256-%s.part" % digest(weights)))) == 3000
    served = True
    job, bundle = export(registry, tmp_path, "tiny", "other")
    assert job.received == len(weights) - 3000 and job.parts[0].problem is None
    assert files_of(tmp_path) == sorted(list(bundle.files) + ["bundle.json"])


def test_a_wrong_layer_is_refused_and_named(registry, tmp_path):
    registry.small.answers["GET", "/v2/library/tiny/blobs/sha256:" + digest(b"licence")] = (200, b"LICENCE")
    job, bundle = export(registry, tmp_path, "tiny")
    assert "Checksum mismatch: http://%s/v2/library/tiny/blobs/sha256:%s has" % (registry.host, digest(b"licence")) in str(job.parts[0].problem)
    assert not bundle.models and not [path for path in files_of(tmp_path) if digest(b"licence") in path]


def test_an_unknown_model_and_an_unknown_release_are_told_before_anything_is_written(registry, tmp_path):
    with pytest.raises(LocalModelsError, match="has no model tinyy:latest"):
        export(registry, tmp_path / "new", "tiny", "tinyy")
    with pytest.raises(LocalModelsError, match=r"There is probably no Ollama release 9\.9\.9"):
        export(registry, tmp_path / "new", "tiny", versions=["9.9.9"])
    assert not (tmp_path / "new").exists()


def test_an_image_that_cannot_be_had_leaves_the_rest(registry, tmp_path):
    job, bundle = export(registry, tmp_path, "tiny", docker=Docker(can_pull=False), images=["nobody/nothing:1"])
    assert "The image nobody/nothing:1 cannot be pulled: manifest unknown" in str(job.parts[1].problem)
    assert len(bundle.models) == 1 and not bundle.images


def test_lost_files_and_a_lost_manifest_are_brought_back(registry, tmp_path):
    bundle = export(registry, tmp_path, "tiny", "other", versions=["0.32.15"])[1]
    tiny = bundle.models[ModelName.parse(registry.name("tiny")["name"]).key]
    registry.asked()
    (tmp_path / tiny.files[0].path).write_bytes(b"short")
    assert export(registry, tmp_path, "tiny", "other", versions=["0.32.15"])[1].document() == bundle.document()
    assert len(registry.asked()) == 1
    (tmp_path / tiny.path).unlink()
    job, again = export(registry, tmp_path, "tiny", "other", versions=["0.32.15"])
    assert "cannot be read" in str(job.damage) and again.document() == bundle.document() and job.received == 0


def test_nobody_watches_any_more(registry, tmp_path):
    def gone(count):
        raise Abandoned("The export was cancelled")

    with pytest.raises(Abandoned):
        export(registry, tmp_path, "tiny", on_bytes=gone)
    assert not (tmp_path / "bundle.json").exists()


def test_check_mode_says_what_the_bundle_would_be(registry, tmp_path):
    job = _bundle_export.Export(str(tmp_path / "new"), Docker(), retries=0)
    job.want_models(_bundle_plan.read_models([registry.name("tiny")])[0])
    job.want_releases(["0.32.15"], ["amd64", "arm64"], "http://%s/ollama" % registry.host)
    job.want_images(["ollama/ollama:0.32.15"])
    assert job.planned().lines().split("\n")[0].startswith("model %s/library/tiny:latest" % registry.host)
    assert [part.sentence for part in job.parts][1:] == [
        "Add ollama-linux-amd64.tar.zst of Ollama 0.32.15", "Add ollama-linux-arm64.tar.zst of Ollama 0.32.15",
        "Pull and save the image ollama/ollama:0.32.15"]
    assert not (tmp_path / "new").exists()


# --- import ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def carried(registry, tmp_path):
    """(folder of a bundle with tiny and other, _bundle.Bundle, items)."""
    bundle = export(registry, tmp_path / "bundle", "tiny", "other")[1]
    return tmp_path / "bundle", bundle, [registry.name("tiny"), registry.name("other")]


@pytest.fixture
def store(tmp_path):
    (tmp_path / "models").mkdir()
    return Store(str(tmp_path / "models"))


def run_import(carried, store, source=None, verify=False, items=None):
    folder, bundle, declared = carried
    models = _bundle_import.plan_models(items or declared, bundle, listed(store), store, verify)
    models.refuse_if_too_small()
    return models, models.carry_out(source or OnThisHost(str(folder)))


def test_import_and_once_more(carried, store):
    models, said = run_import(carried, store)
    assert len(said) == 2 and said[1].endswith("other:latest (13 B)"), "the shared layers count once"
    found = listed(store)
    assert {one.name.key: one.digest for one in found} == {key: one.digest for key, one in carried[1].models.items()}
    assert len(files_of(store.path)) == 2 + 4, "nothing but manifests and blobs is left"
    for base, folders, names in os.walk(store.path):
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(base, name)).st_mode) == 0o644
        for name in folders:
            assert stat.S_IMODE(os.stat(os.path.join(base, name)).st_mode) == 0o755
    again, said = run_import(carried, store)
    assert again.todo == [] and said == [] and again.needed() == []
    models.refuse_other_store(found)
    with pytest.raises(LocalModelsError, match="Ollama does not show it"):
        models.refuse_other_store([])


def test_one_play_at_a_time_writes_into_a_store(carried, store):
    """Two would let one file grow twice, and what the one has verified be cut by the other."""
    class Noting(OnThisHost):
        def take(self, needed):
            held.append(is_held(store.path))
            return super().take(needed)

    held = []
    run_import(carried, store, Noting(str(carried[0])))
    assert held and all(held) and not is_held(store.path)


def test_a_damaged_layer_is_refused_and_named_and_the_other_model_comes(carried, store):
    weights = digest(b"weights" * 1000)
    (carried[0] / "blobs" / ("sha256-" + weights)).write_bytes(b"WEIGHTS" * 1000)
    models, said = run_import(carried, store)
    assert [one.name.model for one in listed(store)] == ["other"] and len(said) == 1
    with pytest.raises(LocalModelsError) as refused:
        models.refuse_problems()
    assert "blobs/sha256-%s, which belongs to %s, has the SHA-256 %s instead of %s" % (
        weights, models.steps[0].shown, digest(b"WEIGHTS" * 1000), weights) in str(refused.value)
    assert not [path for path in files_of(store.path) if weights in path]
    assert [entry["action"] for entry in models.report()] == ["failed", "import"]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_no_layer_of_a_model_is_in_place_before_all_of_them_are_here(carried, store, which):
    """Else the store would hold layers of a model that never came."""
    tiny = carried[1].models[ModelName.parse(carried[2][0]["name"]).key]
    path = carried[0] / tiny.files[which].path
    path.write_bytes(b"X" + path.read_bytes()[1:])
    assert len(run_import(carried, store, items=carried[2][:1])[0].problems) == 1
    assert [one for one in files_of(store.path) if not one.startswith(".incoming/")] == []


def test_a_manifest_as_an_old_server_wrote_it_stays_when_a_layer_is_brought_back(carried, store):
    run_import(carried, store)
    top = os.path.join(store.path, "manifests")
    path = os.path.join(top, next(one for one in files_of(top) if "/tiny/" in one))
    with open(path, "ab") as manifest:
        manifest.write(b" ")
    with open(path, "rb") as manifest:
        said = manifest.read()
    os.unlink(os.path.join(store.path, "blobs", "sha256-" + digest(b"weights" * 1000)))
    models = _bundle_import.plan_models(carried[2], carried[1], [Found(name_of(os.path.relpath(path, top)), digest(said), 1)], store)
    models.carry_out(OnThisHost(str(carried[0])))
    assert models.steps[0].verb == "repair" and models.report()[0]["digest_after"] == digest(said)
    with open(path, "rb") as manifest:
        assert manifest.read() == said


def test_a_shared_damaged_layer_keeps_both_out_with_one_reason(carried, store):
    (carried[0] / "blobs" / ("sha256-" + digest(b"licence"))).write_bytes(b"LICENCE")
    models, said = run_import(carried, store)
    assert said == [] and listed(store) == []
    with pytest.raises(LocalModelsError, match="2 models could not be imported: "):
        models.refuse_problems()


def test_what_is_there_is_trusted_unless_it_shall_be_verified(carried, store):
    run_import(carried, store)
    place = os.path.join(store.path, "blobs", "sha256-" + digest(b"licence"))
    with open(place, "wb") as spoilt:
        spoilt.write(b"LICENCE")
    assert run_import(carried, store)[1] == []
    models, said = run_import(carried, store, verify=True)
    assert len(said) == 2 and said[0].startswith("Brought back layers of ")
    with open(place, "rb") as mended:
        assert mended.read() == b"licence"
    with open(place, "wb") as spoilt:
        spoilt.write(b"short")
    assert len(run_import(carried, store)[1]) == 2, "a wrong size is seen without hashing"


@pytest.mark.parametrize("moment", range(6))
def test_killed_at_any_moment_then_run_again(carried, store, moment, monkeypatch):
    """The kill comes before the nth rename: at any moment what is listed is whole, and the next run completes it."""
    class Killed(BaseException):
        pass

    renames, left = os.replace, [moment]

    def replace(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        renames(source, target)

    monkeypatch.setattr(_bundle_import.os, "replace", replace)
    with pytest.raises(Killed):
        run_import(carried, store)
    monkeypatch.setattr(_bundle_import.os, "replace", renames)
    assert len(listed(store)) == (1 if moment >= 4 else 0)  # three layers and a manifest, then a layer and a manifest
    run_import(carried, store)
    assert len(listed(store)) == 2 and len(files_of(store.path)) == 6


def test_layers_that_an_earlier_run_left_are_as_fresh_as_the_manifest(carried, store):
    run_import(carried, store)
    os.unlink(os.path.join(store.path, "manifests", files_of(os.path.join(store.path, "manifests"))[1]))
    for path in files_of(os.path.join(store.path, "blobs")):
        os.utime(os.path.join(store.path, "blobs", path), (1, 1))
    run_import(carried, store)
    young = [path for path in files_of(os.path.join(store.path, "blobs")) if time.time() - os.stat(os.path.join(store.path, "blobs", path)).st_mtime < 600]
    assert len(young) == 3, "a start of the server would delete older layers without a manifest"


def test_a_full_disk_is_named_and_leaves_nothing_half_installed(carried, store, monkeypatch):
    monkeypatch.setattr(_bundle_disk.shutil, "disk_usage", lambda place: SimpleNamespace(free=100))
    with pytest.raises(LocalModelsError, match=r"need 7\.0 kB more on the disk of .* and 100 B are free: 6\.9 kB are missing"):
        run_import(carried, store)
    monkeypatch.undo()
    source = OnThisHost(str(carried[0]))
    monkeypatch.setattr(source, "take", lambda needed: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    models, said = run_import(carried, store, source)
    with pytest.raises(LocalModelsError, match="The disk of .* became full while "):
        models.refuse_problems()
    assert files_of(store.path) == []


def test_latest_replaces_what_is_older_under_the_spelling_that_is_there(registry, carried, store):
    folder, bundle, items = carried
    run_import(carried, store)
    top = os.path.join(store.path, "manifests")
    old = files_of(top)[1]
    place = os.path.join(os.path.dirname(os.path.dirname(old)), "Tiny", "Latest")
    os.renames(os.path.join(top, old), os.path.join(top, place))
    registry.serve("tiny", [b"newer weights", b"licence"])
    newer = export(registry, folder, dict(registry.name("tiny"), state="latest"))[1]
    assert run_import((folder, newer, items), store)[1] == []
    models, said = run_import((folder, newer, [dict(item, state="latest") for item in items]), store)
    assert said == ["Imported the newer %s/library/Tiny:Latest (13 B)" % registry.host]
    assert files_of(top) == sorted([files_of(top)[1], place]) and listed(store)[0].digest == newer.models[name_of(old).key].digest


def test_files_that_were_sent_are_compared_too(carried, store):
    folder, bundle, items = carried
    models = _bundle_import.plan_models(items, bundle, [], store)
    needed = models.needed()
    assert len(needed) == 4 and sum(one.file.size for one in needed) == 7000 + 7 + 6 + 13
    os.mkdir(os.path.dirname(needed[0].place))
    for one in needed:
        with open(one.place, "wb") as place:
            place.write((folder / one.file.path).read_bytes())
    with open(needed[0].place, "r+b") as place:
        place.truncate(3)
    assert needed[0].there() == 3
    models.carry_out(Sent())
    assert "did not arrive as a whole" in str(list(models.problems.values())[0])
    assert len(models.problems) < 2 or needed[0].file.sha256 in (digest(b"licence"), digest(b"config"))
    assert [one for one in files_of(store.path) if one.startswith(".incoming")], "what has come stays for the next run"


def test_what_was_sent_and_is_damaged_is_sent_anew_next_time_and_keeps_out_all_that_need_it_for_one_reason(carried, store):
    models = _bundle_import.plan_models(carried[2], carried[1], [], store)
    os.mkdir(os.path.join(store.path, _bundle_import.INCOMING))
    for one in models.needed():
        with open(one.place, "wb") as place:
            place.write(b"LICENCE" if one.file.sha256 == digest(b"licence") else (carried[0] / one.file.path).read_bytes())
    assert models.carry_out(Sent()) == [] and len(models.problems) == 2
    assert all("blobs/sha256-%s, which belongs to" % digest(b"licence") in str(problem) and "has the SHA-256" in str(problem)
               for problem in models.problems.values())
    assert [one.file.path for one in models.needed() if one.there() == 0] == ["blobs/sha256-" + digest(b"licence")]


def test_what_was_sent_before_needs_no_room_again(carried, store, monkeypatch):
    models = _bundle_import.plan_models(carried[2], carried[1], [], store)
    os.mkdir(os.path.join(store.path, _bundle_import.INCOMING))
    with open(next(one.place for one in models.needed() if one.file.size == 7000), "wb") as place:
        place.write(b"w" * 6900)
    for free, fits in ((126, True), (125, False)):  # 100 of the weights, 7 of the licence, 6 of the config, 13 of the other weights
        monkeypatch.setattr(_bundle_disk.shutil, "disk_usage", lambda place, free=free: SimpleNamespace(free=free))
        with contextlib.nullcontext() if fits else pytest.raises(LocalModelsError, match="need 126 B more on the disk of .*: 1 B are missing"):
            models.refuse_if_too_small()


def test_images_are_loaded_where_they_are_missing(registry, tmp_path):
    bundle = export(registry, tmp_path / "bundle", docker=Docker(), images=["a/b:1", "c:2"])[1]
    docker = Docker({"c:2": "sha256:mine"})
    images = _bundle_programs.Images(docker, bundle, ["docker.io/a/b:1", "c:2"], str(tmp_path))
    assert [one.file.path for one in images.needed()] == [bundle.images["a/b:1"].file.path]
    docker.images["docker.io/a/b:1"] = "as docker finds it"
    assert images.carry_out(OnThisHost(str(tmp_path / "bundle")))[0].startswith("Loaded the image docker.io/a/b:1 (")
    assert "a/b:1" in docker.images and docker.images["c:2"] == "sha256:mine"
    with pytest.raises(LocalModelsError, match="has no image x:3, and the bundle does not hold it"):
        _bundle_programs.Images(docker, bundle, ["x:3"], str(tmp_path))


class Release:
    version, asset = "0.32.15", "ollama-linux-amd64.tar.zst"

    def __init__(self, folder):
        self.install_dir, self.path, self.archive = str(folder / "opt"), str(folder / "opt" / "0.32.15"), None

    def present(self):
        return self.archive is not None

    def put_in_place(self, archive):
        with open(archive, "rb") as content:
            self.archive = content.read()


def test_a_release_is_unpacked_from_the_bundle(registry, tmp_path):
    bundle = export(registry, tmp_path / "bundle", versions=["0.32.15"])[1]
    release = Release(tmp_path)
    with pytest.raises(LocalModelsError, match="Checksum mismatch: .*ollama_checksum says aaaa"):
        _bundle_programs.ReleaseOf(release, bundle, "a" * 64)
    part = _bundle_programs.ReleaseOf(release, bundle, digest(ARCHIVE))
    part.carry_out(OnThisHost(str(tmp_path / "bundle")))
    assert release.archive == ARCHIVE and _bundle_programs.ReleaseOf(release, bundle).todo == []
    assert files_of(tmp_path / "bundle") == sorted(list(bundle.files) + ["bundle.json"]), "the bundle is only read"
    release.archive = None
    sent = _bundle_programs.ReleaseOf(release, bundle)
    os.makedirs(os.path.dirname(sent.needed()[0].place))
    with open(sent.needed()[0].place, "wb") as place:
        place.write(ARCHIVE)
    sent.carry_out(Sent())
    assert release.archive == ARCHIVE and files_of(release.install_dir) == [], "an archive that was sent does not stay"
    assert _bundle_programs.ReleaseOf(release, _bundle.Bundle()).todo == [], "what is there need not be in the bundle"
    release.archive, release.version = None, "0.33.0"
    with pytest.raises(LocalModelsError, match=r"does not hold .* of Ollama 0\.33\.0; of releases it holds 0\.32\.15 \(ollama-linux-amd64"):
        _bundle_programs.ReleaseOf(release, bundle)
