# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model store on the disk: what is there is not counted again, what does not fit is refused with the number."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _store
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found

MB = 1000 * 1000
A, B, C = ("sha256:" + letter * 64 for letter in "abc")


class Manifest:
    def __init__(self, **blobs):
        self.blobs = {"sha256:" + name * 64: size for name, size in blobs.items()}


@pytest.fixture()
def store(tmp_path):
    (tmp_path / "blobs").mkdir()
    return _store.Store(str(tmp_path))


def put(store, digest, content):
    with open(os.path.join(store.path, "blobs", digest.replace(":", "-")), "wb") as blob:
        blob.write(content)


def test_what_is_there_and_what_models_share_counts_once(store):
    put(store, A, b"x")
    assert store.missing([Manifest(a=10 * MB, b=5 * MB), Manifest(b=5 * MB, c=MB)]) == 6 * MB


def test_the_part_of_a_broken_pull_that_came_counts_and_the_hole_in_it_does_not(store):
    path = os.path.join(store.path, "blobs", A.replace(":", "-") + "-partial")
    with open(path, "wb") as partial:
        partial.write(b"x" * 2 * 1024 * 1024)
        partial.truncate(10 * 1024 * 1024)
    left = store.missing([Manifest(a=10 * 1024 * 1024)])
    assert 7 * 1024 * 1024 < left <= 8 * 1024 * 1024


def test_only_a_layer_that_is_there_as_a_whole_need_not_be_fetched(store):
    put(store, A, b"x" * MB)
    put(store, B + "-partial", b"x" * MB)
    assert store.whole([Manifest(a=MB, b=MB), Manifest(b=MB, c=MB)]) == {A}


@pytest.mark.parametrize("half", [b"", b'{"N":1,"Off', b"\0\0\0", b"[]", b"\xff"])
def test_a_note_that_ollama_cannot_read_goes_with_the_others_of_its_layer_and_no_byte_of_a_model(store, half):
    whole = b'{"N":0,"Offset":0,"Size":5,"Completed":3}\n'
    for name, content in ((A, b"x"), (A + "-partial", b"y"), (A + "-partial-0", whole), (A + "-partial-1", half),
                          (B + "-partial-0", whole), (C + "-partial-0", half)):
        put(store, name, content)
    assert store.drop_unreadable_notes([A, B]) is True
    assert sorted(os.listdir(os.path.join(store.path, "blobs"))) == sorted(
        name.replace(":", "-") for name in (A, A + "-partial", B + "-partial-0", C + "-partial-0"))
    assert store.drop_unreadable_notes([A, B]) is False


def test_free_space_of_a_store_that_is_not_there_yet_is_that_of_its_disk(tmp_path):
    assert _store.Store(str(tmp_path / "later" / "models")).free() > 0


def test_only_a_place_that_knows_every_model_is_the_store_of_a_server(tmp_path):
    name = ModelName.parse("tiny:v1")
    for place in ("service", "login"):
        (tmp_path / place).mkdir()
    folder = tmp_path / "service" / "manifests" / "registry.ollama.ai" / "library" / "tiny"
    folder.mkdir(parents=True)
    (folder / "v1").write_text(json.dumps({"config": {"digest": A}, "layers": [{"digest": B}]}))
    places = [str(tmp_path / place) for place in ("service", "login", "nowhere")]
    assert _store.find("127.0.0.1", [Found(name, "0")], places).path == places[0]
    assert _store.find("127.0.0.1", [Found(name, "0")], places).blobs_of(name) == {A, B}
    assert _store.find("127.0.0.1", [], places) is None, "two places are possible: none is taken"
    assert _store.find("127.0.0.1", [], places[:1]).path == places[0]
    assert _store.find("127.0.0.1", [], places[2:]) is None, "a place that is not there holds no models of anybody"
    assert _store.find(None, [], places[:1]) is None
    assert _store.find("192.0.2.10", [Found(name, "0")], places) is None, "another machine's disk is not ours"


def test_a_model_in_the_store_of_somebody_else_is_found(tmp_path):
    name = ModelName.parse("tiny:v1")
    folder = tmp_path / "login" / "manifests" / "registry.ollama.ai" / "library" / "tiny"
    folder.mkdir(parents=True)
    (folder / "v1").write_text(json.dumps({"config": {"digest": A}, "layers": []}))
    own, other = _store.Store(str(tmp_path / "service")), str(tmp_path / "login")
    assert _store.elsewhere(name, own, [own.path, other]) == other
    assert _store.elsewhere(ModelName.parse("tiny:v2"), own, [own.path, other]) == ""
    assert _store.elsewhere(name, _store.Store(other), [own.path, other]) == ""


def test_the_store_that_the_process_names_is_one_that_knows_its_models(tmp_path, monkeypatch):
    monkeypatch.setattr(_store._machine, "store_path", lambda url: str(tmp_path) if url == "http://127.0.0.1:1" else "")
    assert _store.of_process("http://127.0.0.1:1", []).path == str(tmp_path)
    assert _store.of_process("http://127.0.0.1:1", [Found(ModelName.parse("tiny"), "0")]) is None, "it names another place than it uses"
    assert _store.of_process("http://127.0.0.1:2", []) is None
    tmp_path.rmdir()
    assert _store.of_process("http://127.0.0.1:1", []) is None


def test_the_process_tells_the_store_of_a_server_without_models(tmp_path, monkeypatch):
    usual, own = tmp_path / "usual", tmp_path / "own"
    usual.mkdir()
    own.mkdir()
    named = []
    monkeypatch.setattr(_store.find, "__defaults__", ((str(usual),),))
    monkeypatch.setattr(_store._machine, "store_path", lambda url: named.append(url) or str(own))
    url, held = "http://127.0.0.1:1", [Found(ModelName.parse("tiny"), "0")]
    assert _store.of_server(url, []).path == str(own), "any place knows all models of a server that has none"
    own.rmdir()
    assert _store.of_server(url, []).path == str(usual), "nothing is known of the process"
    own.symlink_to(usual)
    assert _store.of_server(url, []).path == str(usual), "by the path that people know"
    monkeypatch.setattr(_store.Store, "blobs_of", lambda store, name: set())
    del named[:]
    assert _store.of_server(url, held).path == str(usual) and named == [], "it knows the models, so nobody has to be asked"
