# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An export that is killed at any moment, a registry that stumbles, a disk that says no: the bundle is what it says, and the next run ends it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _bundle, _bundle_export, _bundle_plan, _download, _progress, _release
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_bundle_export
from bundle_world import ARCHIVE, Docker, digest, export, files_of, serving_two_models
from run_module import call


@pytest.fixture
def registry():
    with serving_two_models() as one:
        yield one


class Killed(BaseException):
    pass


def true_to_its_word(folder):
    """Whether the bundle in a folder has all that its index names, with the right content. What has no index says nothing."""
    if not os.path.exists(os.path.join(str(folder), _bundle.INDEX)):
        return True
    bundle = _bundle.read(str(folder))
    assert bundle.broken == {}
    return all(_download.digest(os.path.join(str(folder), path)) == file.sha256 for path, file in bundle.files.items())


# Renames of the second export: two layers, the manifest, sha256sum.txt, the archive, the image, the index; then what is old is removed.
@pytest.mark.parametrize("call_of", ["replace", "unlink"])
@pytest.mark.parametrize("moment", [pytest.param(moment, marks=[] if moment in (1, 5) else pytest.mark.thorough) for moment in range(8)])
def test_killed_at_any_moment_then_run_again(registry, tmp_path, monkeypatch, moment, call_of):
    docker = Docker()
    wanted = [dict(registry.name("tiny"), state="latest"), registry.name("other")]
    more = dict(versions=["0.32.15"], docker=docker, images=["a/b:1"], exclusive=True)
    export(registry, tmp_path, registry.name("tiny"))
    registry.serve("tiny", [b"newer weights", b"licence"])
    real, left = getattr(os, call_of), [moment]

    def kill(*names):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return real(*names)

    monkeypatch.setattr(_bundle_export.os, call_of, kill)
    with contextlib.suppress(Killed):
        export(registry, tmp_path, *wanted, **more)
    monkeypatch.setattr(_bundle_export.os, call_of, real)
    assert true_to_its_word(tmp_path)
    bundle = export(registry, tmp_path, *wanted, **more)[1]
    assert true_to_its_word(tmp_path) and files_of(tmp_path) == sorted(list(bundle.files) + ["bundle.json"])
    assert len(bundle.models) == 2 and export(registry, tmp_path, *wanted, **more)[0].parts == []


def test_a_layer_that_is_not_as_large_as_its_manifest_says_is_refused(registry, tmp_path):
    path = ("GET", "/v2/library/tiny/manifests/latest")
    said = json.loads(registry.small.answers[path][1])
    said["layers"][0]["size"] += 1
    registry.small.answers[path] = (200, json.dumps(said))
    job, bundle = export(registry, tmp_path, "tiny")
    assert "is not as large as its manifest says" in str(job.parts[0].problem) and bundle.models == {}
    assert [one for one in files_of(tmp_path) if digest(b"weights" * 1000) in one] == []


def test_a_registry_that_stumbles_is_asked_again_after_growing_pauses_and_one_that_has_no_such_model_is_not(registry, tmp_path):
    pauses, path = [], ("GET", "/v2/library/tiny/manifests/latest")
    good = registry.small.answers[path]
    registry.small.answers[path] = (500, "later")

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            registry.small.answers[path] = good

    job = _bundle_export.Export(str(tmp_path), retries=3, sleep=sleep)
    job.want_models(_bundle_plan.read_models([registry.name("tiny"), registry.name("other")])[0])
    assert pauses == [2, 4] and len(job.parts) == 2
    assert sorted(registry.asked()) == ["other/manifests/latest"] + ["tiny/manifests/latest"] * 3
    with pytest.raises(LocalModelsError, match=r"2 models cannot be had: .* has no model tinyy:latest.* has no model othr:latest.* Nothing was changed"):
        job.want_models(_bundle_plan.read_models([registry.name("tinyy"), registry.name("othr")])[0])
    assert pauses == [2, 4] and len(registry.asked()) == 2


def test_what_came_is_told_and_in_the_bundle_although_the_rest_failed(registry, tmp_path, capsys):
    for model, layer in (("tiny", b"weights" * 1000), ("third", b"third weights")):
        registry.serve("third", [b"third weights"])
        registry.small.answers["GET", "/v2/library/%s/blobs/sha256:%s" % (model, digest(layer))] = (403, "no")
    options = dict(bundle=str(tmp_path), models=[registry.name(one) for one in ("tiny", "third", "other")], retries=0)
    asked = call(ollama_bundle_export, capsys, check=True, **options)
    assert [one.rpartition("/")[2] for one in asked["actions"]] == [
        "tiny:latest (7.0 kB to download)", "third:latest (13 B to download)", "other:latest (13 B to download)"]
    assert files_of(tmp_path) == []
    result = call(ollama_bundle_export, capsys, **options)
    assert result["failed"] and result["changed"] and len(result["actions"]) == 1 and "/other:latest (13 B to download)" in result["actions"][0]
    assert result["msg"].startswith("2 things could not be brought into the bundle: %s/library/tiny:latest: http://" % registry.host)
    assert result["msg"].count("was answered with 403") == 2 and result["received"] == 7 + 6 + 13
    assert result["diff"]["before"] == "" and result["diff"]["after"].startswith("model %s/library/other:latest " % registry.host)
    assert [one.name.model for one in _bundle.read(str(tmp_path)).models.values()] == ["other"]
    failed = call(ollama_bundle_export, capsys, **dict(options, models=[registry.name("tiny")]))
    assert "was answered with 403" in failed["msg"] and "things" not in failed["msg"] and not failed["changed"]


def test_check_mode_shows_what_the_run_does(registry, tmp_path, capsys):
    export(registry, tmp_path, "other")
    registry.serve("tiny", [b"weights" * 1000, b"licence"])
    for models, exclusive in (([registry.name("tiny")], False), ([registry.name("tiny")], True), ([], True)):
        options = dict(bundle=str(tmp_path), models=models, exclusive=exclusive)
        before = files_of(tmp_path)
        asked = call(ollama_bundle_export, capsys, check=True, **options)
        assert files_of(tmp_path) == before
        done = call(ollama_bundle_export, capsys, **options)
        assert [asked[key] for key in ("changed", "actions", "diff", "size", "left_out")] == [
            done[key] for key in ("changed", "actions", "diff", "size", "left_out")] and done["changed"]
        assert call(ollama_bundle_export, capsys, **options)["changed"] is False


def test_an_export_that_nobody_waits_for_ends(tmp_path):
    progress = _progress.Progress(None, 1)
    meter = ollama_bundle_export.Meter(progress, 100)
    meter.count(10)
    assert (meter.completed, meter.total) == (10, 100)
    progress.abandoned = lambda: True
    with pytest.raises(Abandoned, match="Run again: it goes on"):
        meter.count(10)


def test_less_than_no_further_try_is_refused(capsys, tmp_path):
    told = call(ollama_bundle_export, capsys, bundle=str(tmp_path), models=["x"], retries=-1)["msg"]
    assert told == "retries is -1, which is too little. Set it to 0 or more."


def test_a_relative_folder_is_refused(capsys):
    assert "is no absolute path" in call(ollama_bundle_export, capsys, bundle="stick/bundle")["msg"]


@contextlib.contextmanager
def file_limit():
    """No file of this process may have more than 5,000 bytes, as none on FAT32 may have 4 GB: the kernel says EFBIG for both. Kept short, for
    the file that pytest itself writes its report to may have more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_file_system_that_takes_no_file_of_that_size_is_named(registry, tmp_path):
    with file_limit():
        job, bundle = export(registry, tmp_path, "tiny", "other")
    assert "tiny:latest cannot be written into %s (File too large). Format it as exFAT or ext4 (FAT32 ends at 4 GB a file)." % tmp_path in str(
        job.parts[0].problem)
    assert [one.name.model for one in bundle.models.values()] == ["other"] and true_to_its_word(tmp_path)


def test_the_folder_of_releases_is_an_address_for_releases(registry, tmp_path):
    export(registry, tmp_path, versions=["0.32.15"])
    release = _release.Release(None, "0.32.15", str(tmp_path / "opt"), str(tmp_path / "releases"), "", "x86_64")
    sha256, source = release.checksum()
    assert sha256 == digest(ARCHIVE) and source.endswith("/releases/v0.32.15/sha256sum.txt")
    (tmp_path / "opt").mkdir()
    assert _download.Download(release.url, str(tmp_path / "opt" / "archive")).run(sha256, source) is None
    assert (tmp_path / "opt" / "archive").read_bytes() == ARCHIVE


def test_an_archive_that_is_short_comes_again_and_one_that_is_whole_does_not_even_without_an_index(registry, tmp_path):
    archive = tmp_path / "releases" / "v0.32.15" / "ollama-linux-amd64.tar.zst"
    got = "GET /ollama/v0.32.15/ollama-linux-amd64.tar.zst"
    export(registry, tmp_path, versions=["0.32.15"])
    for spoilt, index, fetched in ((ARCHIVE[:-1], True, True), (ARCHIVE, False, False), (b"X" + ARCHIVE[1:], False, True)):
        archive.write_bytes(spoilt)
        if not index:
            (tmp_path / "bundle.json").unlink()
        registry.asked()
        export(registry, tmp_path, versions=["0.32.15"])
        assert (got in registry.asked()) is fetched and true_to_its_word(tmp_path)


def test_an_image_is_saved_again_if_docker_has_another_one_or_its_file_is_lost_and_else_not(registry, tmp_path):
    def saves(docker):
        docker.calls.clear()
        job, bundle = export(registry, tmp_path, docker=docker, images=["a/b:1"])
        assert true_to_its_word(tmp_path) and files_of(tmp_path) == sorted(list(bundle.files) + ["bundle.json"])
        return docker.calls.count("pull"), docker.calls.count("save"), bundle.images["a/b:1"].id

    assert saves(Docker({"a/b:1": "sha256:one"})) == (0, 1, "sha256:one")
    assert saves(Docker({"a/b:1": "sha256:one"})) == (0, 0, "sha256:one")
    assert saves(Docker()) == (0, 0, "sha256:one"), "what is in the bundle needs no Docker"
    assert saves(Docker({"a/b:1": "sha256:two"})) == (0, 1, "sha256:two")
    os.unlink(os.path.join(str(tmp_path), _bundle.read(str(tmp_path)).images["a/b:1"].file.path))
    assert saves(Docker({"a/b:1": "sha256:two"})) == (0, 1, "sha256:two")


def test_an_exclusive_export_that_fails_takes_nothing_away(registry, tmp_path):
    before = export(registry, tmp_path, "tiny")[1]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.tar.part").write_text("left")
    registry.small.answers["GET", "/v2/library/other/blobs/sha256:" + digest(b"other weights")] = (403, "no")
    job, bundle = export(registry, tmp_path, "other", exclusive=True)
    assert job.parts[0].problem and bundle.document() == before.document() and true_to_its_word(tmp_path)
    assert (tmp_path / "images" / "x.tar.part").exists()


def test_what_is_brought_back_is_a_change_although_the_bundle_is_the_same(registry, tmp_path, capsys):
    bundle = export(registry, tmp_path, "tiny")[1]
    (tmp_path / "blobs" / ("sha256-" + digest(b"licence"))).unlink()
    options = dict(bundle=str(tmp_path), models=[registry.name("tiny")])
    asked, done = call(ollama_bundle_export, capsys, check=True, **options), call(ollama_bundle_export, capsys, **options)
    assert asked["changed"] and done["changed"] and asked["actions"] == done["actions"] and done["received"] == 7
    assert _bundle.read(str(tmp_path)).document() == bundle.document() and call(ollama_bundle_export, capsys, **options)["changed"] is False
