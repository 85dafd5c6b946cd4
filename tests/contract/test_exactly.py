# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules ollama_models and ollama_info against a server and a registry: the stand-in, or the real program in LAB_OLLAMA.

Pins, `latest`, names, what is loaded, and what is asked of whom. One story, in the order of the tests.
"""

from __future__ import annotations

import os

import pytest
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_info, ollama_models
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_world import World
from ansible_collections.localmodels.fastgpt.tests.contract.test_ollama import OLD, REAL, real_version, start_ollama
from ansible_collections.localmodels.fastgpt.tests.contract.wire import send
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import call


class Lab:
    """A server and a registry with tiny:latest, tiny:v2 and lab/tiny:latest of which the first and the last are the same."""

    def __init__(self, folder):
        (folder / "world").mkdir()
        self.world = World(folder / "world").start()
        self.host = self.world.values["127.0.0.1:5001"]
        self.server = start_ollama(folder / "ollama", "0.32.15")
        self.known = {}

    def __enter__(self):
        return self

    def __exit__(self, *dummy):
        self.server.stop()
        self.world.stop()

    def tiny(self, **more):
        return dict({"name": self.host + "/library/tiny"}, **more)

    def post(self, path, **body):
        return send(self.server.url, "POST", path, {}, dict(body, stream=False))


@pytest.fixture(name="lab", scope="module")
def _lab(tmp_path_factory):
    with Lab(tmp_path_factory.mktemp("exactly")) as lab:
        yield lab


@pytest.fixture(name="run")
def _run(lab, capsys):
    def run(*models, check=False, **options):
        return call(ollama_models, capsys, check=check, url=lab.server.url, models=list(models), insecure=True, **options)
    return run


def test_a_model_is_pulled_and_pinned(lab, run):
    result = run(lab.tiny())
    assert result["changed"] and not [one for one in result.get("warnings", ()) if "was not checked" in str(one)], "its store was found"
    assert result["pulled"]["bytes"] == result["models"][0]["bytes"] > 0, "also of layers that Ollama tells nothing of"
    lab.known["first"] = result["models"][0]["digest_after"]
    again = run(lab.tiny(name=(lab.host + "/library/TINY:Latest"), digest="sha256:" + lab.known["first"]))
    assert not again.get("failed") and not again["changed"]


def test_another_pin_is_refused_before_anything_changes(lab, run):
    refused = run(lab.tiny(digest="a" * 64), {"name": "nosuch", "state": "absent"})
    assert "now has %s under this name" % lab.known["first"][:12] in refused["msg"] and not refused["changed"]
    assert "To pin a model write a map" in run(lab.host + "/library/tiny@sha256:" + lab.known["first"])["msg"]
    assert lab.post("/api/pull", model=lab.host + "/library/tiny@sha256:" + lab.known["first"])["body"] == {"error": "invalid model name"}


def test_latest_is_seen_without_pulling_and_pulled_once(lab, run):
    assert not run(lab.tiny(state="latest"))["changed"]
    written = send(lab.world.registry.url, "GET", "/v2/library/tiny/manifests/latest", {}, None)["body"]
    lab.world.faults({"path": "/v2/library/tiny/manifests/*", "status": 200, "body": dict(written, annotations={"written": "another day"})})
    assert run(lab.tiny(state="latest"), check=True)["actions"] == [], "the same config and layers, however the manifest is written"
    lab.world.faults()
    lab.world.publish("tiny:latest", list(lab.world.blobs.values())[1])
    lab.world.requests()
    seen = run(lab.tiny(state="latest"), check=True)
    assert seen["changed"] and seen["actions"][0].startswith("Pull the newer ")
    assert [one["path"].rpartition("/")[0] for one in lab.world.requests()] == ["/v2/library/tiny/manifests"]
    assert not run(lab.tiny(digest=lab.known["first"]))["changed"], "what is pinned and there needs no registry"
    assert lab.world.requests() == []
    pulled = run(lab.tiny(state="latest"))
    assert pulled["models"][0]["digest_after"] == seen["models"][0]["digest_after"]
    assert run(lab.tiny(state="latest"), store_path="/nonexistent")["actions"] == [], "also where manifests cannot be read"
    assert "the old one can no longer be pulled" in run(lab.tiny(digest=lab.known["first"]))["msg"]


def test_a_typo_and_a_tag_that_was_not_meant(lab, run):
    assert "Probably %s/library/tiny:latest is meant" % lab.host in run(lab.host + "/library/tinny")["msg"]
    said = run({"name": lab.host + "/library/tiny:v9"})["msg"]
    assert "has no model tiny:v9" in said
    mixed = lab.host + "/library/mixed"
    lab.post("/api/copy", source=lab.tiny()["name"], destination=mixed + ":v1")
    assert "A name without a tag means latest; probably %s:v1 is meant" % mixed in run(mixed)["msg"]
    assert "which a name without a tag does not mean" in str(run({"name": mixed, "state": "absent"})["warnings"])
    assert run({"name": mixed + ":v1", "state": "absent"})["changed"]


def test_names_of_hugging_face(lab, run):
    lab.post("/api/copy", source=lab.tiny()["name"], destination="hf.co/lab/tiny-GGUF:F16")
    assert not run("hf.co/Lab/tiny-gguf:f16", "https://hf.co/lab/tiny-GGUF:F16")["changed"]
    said = run("huggingface.co/lab/tiny-GGUF:F16", check=True, offline=True)["warnings"]
    assert "are the same model at Hugging Face, and two models to Ollama: the server holds the second one" in str(said)
    assert run({"name": "hf.co/lab/tiny-GGUF:F16", "state": "absent"})["actions"] == ["Deleted hf.co/lab/tiny-GGUF:F16"]


@pytest.mark.skipif(bool(REAL), reason="a real server cannot be made to know no architecture by a switch")
def test_a_model_that_is_newer_than_the_server(lab, run):
    send(lab.server.url, "PUT", "/_lab/faults", {}, {"load_error": "error loading model: unknown model architecture: 'qwen9'"})
    said = run(lab.tiny(state="loaded"))["msg"]
    send(lab.server.url, "PUT", "/_lab/faults", {}, {})
    assert "this Ollama is older than the model" in said and "(ollama_version)" in said


def test_what_shares_weights_is_loaded_and_unloaded_together(lab, run):
    lab.post("/api/create", model="mine", **{"from": lab.tiny()["name"], "system": "x"})
    lab.post("/api/copy", source="mine", destination="stray")
    assert run({"name": "mine", "state": "loaded"})["actions"] == ["Loaded mine:latest"]
    assert not run({"name": "mine", "state": "loaded"})["changed"]
    run({"name": "mine", "state": "unloaded"})
    lab.post("/api/generate", model="stray", keep_alive=-1)
    models = [{"name": "mine", "state": "loaded"}, {"name": "stray", "state": "absent"}]
    assert run(*models, check=True)["actions"] == ["Delete stray:latest", "Load mine:latest"]
    assert run(*models)["actions"] == ["Deleted stray:latest", "Loaded mine:latest"]
    assert not run(*models)["changed"]
    assert "both have the same weights" in run({"name": "mine", "state": "loaded"}, lab.tiny(state="unloaded"))["msg"]
    assert run({"name": "mine", "state": "unloaded"})["actions"] == ["Unloaded mine:latest"]


def test_a_model_is_loaded_for_as_long_as_it_is_declared_to_be(lab, run, capsys):
    def until():
        return int(call(ollama_info, capsys, url=lab.server.url)["running"][0]["expires_at"][:4])

    for_a_while = lab.tiny(state="loaded", keep_alive="10m")
    assert run(for_a_while)["actions"] == ["Loaded %s:latest" % lab.tiny()["name"]] and until() < 2200
    assert not run(for_a_while)["changed"]
    assert run(lab.tiny(state="loaded"))["changed"] and until() > 2200
    assert not run(lab.tiny(state="loaded"))["changed"]
    run(lab.tiny(state="unloaded"))


def test_what_the_server_and_its_machine_say(lab, run, capsys):
    info = call(ollama_info, capsys, url=lab.server.url)
    assert info["version"] == (real_version(OLD) if REAL else "0.32.15")
    assert info["memory"]["ram"] > 10 ** 8 and info["limits"]["num_parallel"] == 1
    assert os.path.isdir(lab.server.state + "/models/manifests")
    adopted = run(*info["local_models"], exclusive=True)
    assert not adopted["changed"] and adopted["freed"] == {"bytes": 0, "exact": True}
