# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ollama_models and a whole list: what is asked of whom, what is pulled side by side, what exclusive takes and frees, what does not fit.

Against a server and a registry: the stand-in, or the real program in LAB_OLLAMA. One story, in the order of the tests.
"""

from __future__ import annotations

import json
import os
import pathlib
import time
from types import SimpleNamespace

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _http, _ollama, _store
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_info, ollama_models
from ansible_collections.localmodels.fastgpt.tests.contract import weights
from ansible_collections.localmodels.fastgpt.tests.contract.test_exactly import Lab
from ansible_collections.localmodels.fastgpt.tests.contract.test_ollama import start_ollama
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import call

EACH = {"name", "state", "action", "digest_before", "digest_after", "bytes", "seconds"}
RATE = 250_000  # bytes a second, so that a pull takes one


@pytest.fixture(name="lab", scope="module")
def _lab(tmp_path_factory):
    """kin-a and kin-b have the same weights, other has weights of its own."""
    with Lab(tmp_path_factory.mktemp("whole")) as lab:
        for name, seed in (("kin-a", 11), ("kin-b", 11), ("other", 12), ("late", 13), ("fourth", 14)):
            lab.world.publish(name + ":latest", weights.llama(seed), {"template": "{{ .Prompt }} " + name}, {"model_type": name})
        yield lab


@pytest.fixture(name="asked")
def _asked(monkeypatch):
    """What Ollama is asked, such as "GET /api/tags"."""
    asked, real = [], _http.Client.open

    def noted(self, method, path, *rest, **more):
        if self.hop == "Ollama":
            asked.append("%s %s" % (method, path))
        return real(self, method, path, *rest, **more)

    monkeypatch.setattr(_http.Client, "open", noted)
    return asked


@pytest.fixture(name="run")
def _run(lab, capsys, asked):
    def run(*models, check=False, **options):
        asked.clear()
        result = call(ollama_models, capsys, check=check, url=lab.server.url, models=list(models), insecure=True, **options)
        assert {frozenset(one) - {"msg"} for one in result.get("models", ())} <= {frozenset(EACH)}
        return result
    return run


def named(lab, name, **more):
    full = "%s/library/%s:latest" % (lab.host, name)
    return dict(more, name=full) if more else full


def on_disk(lab):
    """{digest: bytes} of the layers in the server's store."""
    return {blob.name: blob.stat().st_size for blob in pathlib.Path(lab.server.state, "models", "blobs").iterdir()}


def manifests_asked_for(lab):
    """(path, when), since this was called last. An answer that nobody reads to its end is noted late, which those about layers can be."""
    return sorted((one["path"], one["at"]) for one in lab.world.requests() if "/manifests/" in one["path"])


def held(lab, capsys):
    return [one["name"].rpartition("/")[2] for one in call(ollama_info, capsys, url=lab.server.url, details=False)["models"]]


def test_pulls_run_side_by_side_unless_they_share_a_layer_that_comes_once(lab, run, monkeypatch):
    spans, real = {}, _ollama.Ollama.pull

    def timed(self, name, *rest):
        began = time.monotonic()
        layers = real(self, name, *rest)
        spans[name.rpartition("/")[2]] = (began, time.monotonic())
        return layers

    monkeypatch.setattr(_ollama.Ollama, "pull", timed)
    lab.world.faults({"path": "*/blobs/*", "rate": RATE})
    result = run(*[named(lab, name) for name in ("kin-a", "kin-b", "other", "fourth")], parallel=2)
    lab.world.faults()
    assert [one["action"] for one in result["models"]] == ["pull"] * 4
    assert max(sum(began <= at < ended for began, ended in spans.values()) for at, dummy in spans.values()) == 2, "no more at a time than is declared"
    first, second = sorted((spans["kin-a:latest"], spans["kin-b:latest"]))
    assert first[1] <= second[0], "a layer is never fetched twice at the same time"
    assert spans["other:latest"][0] < first[1] and first[0] < spans["other:latest"][1], "the others do not wait for it"
    assert result["pulled"]["bytes"] == sum(on_disk(lab).values()) < sum(one["bytes"] for one in result["models"])
    assert run(named(lab, "fourth", state="absent"))["changed"]


def test_what_is_there_costs_one_request_and_the_latest_of_it_one_more(lab, run, asked):
    names = ("kin-a", "kin-b", "other")
    manifests_asked_for(lab)
    lab.world.faults({"path": "*/manifests/*", "delay": 2})
    assert not run(*[named(lab, name) for name in names])["changed"]
    assert asked == ["GET /api/tags"] and manifests_asked_for(lab) == []
    assert not run(*[named(lab, name, state="latest") for name in names])["changed"]
    assert asked == ["GET /api/tags", "GET /api/version"]
    lab.world.faults()
    seen = manifests_asked_for(lab)
    assert max(at for dummy, at in seen) - min(at for dummy, at in seen) < 2, "all of them at the same time"
    assert [path for path, dummy in seen] == ["/v2/library/%s/manifests/latest" % name for name in names]


def test_an_empty_list_deletes_nothing_unless_that_is_meant(lab, run, asked):
    for models in ([], [named(lab, "other", state="absent")]):
        refused = run(*models, exclusive=True)
        assert refused["failed"] and "allow_empty: true" in refused["msg"] and asked == []
    meant = run(exclusive=True, allow_empty=True, check=True)
    assert [one["action"] for one in meant["models"]] == ["prune"] * 3 and meant["freed"] == {"bytes": sum(on_disk(lab).values()), "exact": True}


def test_what_nobody_declared_is_kept_when_another_model_failed(lab, run, capsys):
    lab.world.faults({"path": "*/library/late/blobs/*", "status": 404, "body": "404 page not found"})
    result = run(named(lab, "late"), exclusive=True, retries=0)
    lab.world.faults()
    assert result["failed"] and "which is not declared, was kept" in result["msg"] and result["freed"]["bytes"] == 0
    assert result["diff"]["before"] == result["diff"]["after"] and len(held(lab, capsys)) == 3


def test_what_nobody_declared_goes_from_memory_too_and_frees_what_the_disk_gets_back(lab, run, capsys):
    lab.post("/api/create", model="Stray:V1", **{"from": named(lab, "other"), "system": "x"})
    lab.post("/api/copy", source=named(lab, "kin-b"), destination="house-1")
    lab.post("/api/generate", model="Stray:V1", keep_alive=-1)
    before = on_disk(lab)
    wanted = {"exclusive": True, "protect": ["House-*"]}
    asked, done = run(named(lab, "other"), check=True, **wanted), run(named(lab, "other"), **wanted)
    freed = sum(before.values()) - sum(on_disk(lab).values())
    assert 0 < freed < 10_000, "weights are kept, for another model needs them"
    assert asked["diff"] == done["diff"] and asked["freed"] == done["freed"] == {"bytes": freed, "exact": True}
    assert held(lab, capsys) == ["other:latest", "house-1:latest"]
    lines = [line for line in done["diff"]["before"].splitlines() if line not in done["diff"]["after"].splitlines()]
    assert [line.split()[0].rpartition("/")[2] for line in lines] == ["kin-a:latest", "kin-b:latest", "Stray:V1"]
    assert [line.partition(" frees ")[2] for line in lines][1] == "0 B" and all(" frees " in line for line in lines)
    assert call(ollama_info, capsys, url=lab.server.url)["running"] == []
    assert not run(named(lab, "other"), **wanted)["changed"]


def test_what_is_there_needs_no_room(lab, run, monkeypatch):
    monkeypatch.setattr(_store.Store, "free", lambda self: 1000)
    assert run(named(lab, "kin-b"), check=True)["changed"], "house-1 has its layers"
    refused = run(named(lab, "late"), named(lab, "kin-b"), check=True)["msg"]
    assert "need 256.4 kB more" in refused and "and 1.0 kB are free: 255.4 kB are missing" in refused, refused


def test_a_large_file_is_sent_without_being_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).resolve().parents[1] / "bench")
    import upload
    file = tmp_path / "bulky.gguf"
    file.write_bytes(weights.llama(1))
    os.truncate(file, 3 * upload.MOST_MEMORY * 10 ** 6)  # what follows the last tensor is read by nobody but us
    server = start_ollama(tmp_path / "ollama", "0.34.4")
    try:
        peak = upload.by_module(SimpleNamespace(server=server), file, tmp_path)[1]
    finally:
        server.stop()
    assert peak < upload.MOST_MEMORY * 10 ** 6


HUGE = 9 * 10 ** 15


@pytest.mark.parametrize("kind, said", [
    ("model", "can never be loaded here: its weights alone are 9000.0 TB, and this host has "),
    ("license", "The declared models need 9000.0 TB more on the disk of ")])
def test_what_does_not_fit_is_refused_before_the_first_byte_with_what_is_missing(lab, run, kind, said):
    layers = [{"mediaType": "application/vnd.ollama.image." + kind, "digest": "sha256:" + "a" * 64, "size": HUGE}]
    manifest = {"config": {"digest": "sha256:" + "c" * 64, "size": 1}, "layers": layers}
    lab.world.faults({"path": "/v2/library/huge-*/manifests/*", "status": 200, "body": manifest})
    models = [named(lab, "huge-a"), named(lab, "huge-b"), named(lab, "other", state="absent")]
    refused, warned = run(*models), run(*models, check=True, capacity="warn")
    lab.world.faults()
    assert refused["failed"] and said in refused["msg"] and "are missing" in refused["msg"] and not refused["changed"]
    assert said in str(warned["warnings"]) and warned["changed"]
    assert not [one for one in lab.world.requests() if "/library/huge-" in one["path"] and "/blobs/" in one["path"]]


def test_a_model_in_the_store_of_somebody_else_is_told_of_and_that_store_is_left_alone(lab, run, tmp_path, monkeypatch):
    theirs = tmp_path / ".ollama" / "models"
    manifest = theirs / "manifests" / lab.host / "library" / "late" / "latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"config": {"digest": "sha256:" + "c" * 64}, "layers": []}))
    monkeypatch.setenv("HOME", str(tmp_path))
    run(exclusive=True, allow_empty=True)
    said = str(run(named(lab, "late"), check=True)["warnings"])
    assert "is in the model store %s as well, which this server does not use; its own is %s" % (theirs, os.path.join(lab.server.state, "models")) in said
