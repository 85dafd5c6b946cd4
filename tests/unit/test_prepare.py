# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F811  # a fixture that comes from another file
"""The look before anything is done, with the server of test_apply and a store on the disk: what is read of whom, and what it decides."""

from __future__ import annotations

import json

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _memory, _notes, _prepare, _registry, _store
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import read_wanted
from ansible_collections.localmodels.fastgpt.tests.unit.test_apply import NEW, OLD, Manifest, Server, registry  # noqa: F401

WEIGHTS, CONFIG = "sha256:" + "a" * 64, "sha256:" + "c" * 64


def manifest(weights=WEIGHTS, config=CONFIG):
    return json.dumps({"config": {"digest": config, "size": 5}, "layers": [{"digest": weights, "size": 95}]}).encode()


def install(folder, raw, name="x"):
    """A manifest (bytes) as it lies in the store of a server."""
    place = folder / "manifests" / "registry.ollama.ai" / "library" / name
    place.mkdir(parents=True)
    (place / "latest").write_bytes(raw)


def prepare(server, models, store=None, **more):
    return _prepare.prepare(server, read_wanted(models), store and str(store), **more)


@pytest.mark.parametrize("weights, config, verb", [
    (WEIGHTS, CONFIG, "none"), ("sha256:" + "b" * 64, CONFIG, "update"), (WEIGHTS, "sha256:" + "d" * 64, "update")])
def test_latest_compares_config_and_layers_and_not_how_the_manifest_is_written(registry, tmp_path, weights, config, verb):
    """A server before 0.19 has written the manifest anew, with spaces or another order: another digest, and the same model."""
    registry["x:latest"] = _registry.Manifest(manifest())
    install(tmp_path, manifest(weights, config))
    prepared = prepare(Server({"x:latest": OLD}), [{"name": "x", "state": "latest"}], tmp_path)
    assert [action.verb for action in prepared.actions] == [verb]


def test_a_pin_compares_the_same(registry, tmp_path):
    registry["x:latest"] = _registry.Manifest(manifest())
    install(tmp_path, manifest())
    prepared = prepare(Server({"x:latest": OLD}), [{"name": "x", "digest": registry["x:latest"].digest}], tmp_path)
    assert [action.verb for action in prepared.actions] == ["none"]


def test_what_lies_on_the_disk_may_be_shared_by_pulls_at_the_same_time(registry, tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "sha256-a").write_bytes(b"")
    registry["x:latest"] = type("Manifest", (Manifest,), {"blobs": {"sha256:a": 1, "sha256:b": 2}})()
    assert prepare(Server(), ["x"], tmp_path).on_disk == {"sha256:a"}
    assert prepare(Server(), ["x"], None, capacity="ignore").on_disk == set()


def test_names_that_are_probably_not_meant_are_warnings(registry, tmp_path):
    said = prepare(Server({"x:7b": OLD}), [{"name": "x", "state": "absent"}]).warnings
    assert len(said) == 1 and "the server holds x:7b, which a name without a tag does not mean" in said[0]


def test_a_model_in_the_store_of_another_server_of_this_host_is_a_warning(registry, tmp_path, monkeypatch):
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    install(other, manifest())
    monkeypatch.setattr(_store.elsewhere, "__defaults__", ((str(mine), str(other)),))
    said = prepare(Server(), ["x"], mine).warnings
    assert said == ["x:latest is in the model store %s as well, which this server does not use; its own is %s." % (other, mine)]
    assert prepare(Server({"x:latest": OLD}), ["x"], mine).warnings == []


def test_the_store_is_looked_for_only_when_something_comes_or_goes(registry, tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(_store, "find", lambda host, found: looked.append(host))
    monkeypatch.setattr(_store, "of_process", lambda url, found: looked.append(url) or _store.Store(str(tmp_path)))
    assert prepare(Server({"x:latest": OLD}), ["x"]).store is None and looked == []
    assert prepare(Server(), ["x"], tmp_path / "named").store.path == str(tmp_path / "named") and looked == []
    assert prepare(Server(), ["x"]).store.path == str(tmp_path)
    assert looked == ["ollama.lan", "http://ollama.lan:11434"]
    assert prepare(Server({"x:latest": OLD}), ["x"], exclusive=_prepare.Exclusive()).store.path == str(tmp_path)


def test_memory_is_decided_before_anything_is_done(registry, monkeypatch):
    calls = []
    for name in ("refuse_loaded_and_not", "load_again"):
        monkeypatch.setattr(_memory, name, lambda actions, name=name: calls.append((name, [one.verb for one in actions])))
    prepare(Server({"stray:latest": OLD}), [{"name": "x", "state": "loaded"}], capacity="ignore", exclusive=_prepare.Exclusive())
    assert calls == [("refuse_loaded_and_not", ["pull", "prune"]), ("load_again", ["pull", "prune"])], "also of what is not declared"


@pytest.mark.parametrize("said, verb", [("refuses the connection", "pull"), ("did not answer in time", None)])
def test_only_a_server_that_is_not_there_yet_counts_as_empty_in_check_mode(registry, said, verb):
    from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import Unreachable

    class Away(Server):
        def found(self):
            cause = ConnectionRefusedError() if "refuses" in said else TimeoutError()
            raise Unreachable("Ollama", "http://h", said) from cause

    if verb:
        prepared = prepare(Away(), [{"name": "x", "state": "loaded"}], assume_empty=True, capacity="ignore")
        assert [action.verb for action in prepared.actions] == [verb] and not prepared.reachable
        assert prepared.actions[0].memory == "load" and "Check mode goes on as if it ran and held no models" in prepared.warnings[0]
    for assume in (False, True)[:1 if verb else 2]:
        with pytest.raises(LocalModelsError, match=said):
            prepare(Away(), ["x"], assume_empty=assume)


def test_the_registry_is_told_the_version_of_the_server_that_would_pull(registry, monkeypatch):
    """It refuses new models to old servers."""
    asked = []
    monkeypatch.setattr(_registry, "read_all", lambda wanted, version, timeout: asked.append((version, timeout)) or ({}, {}))
    prepare(Server(), ["x"], registry_timeout=3, capacity="ignore")
    prepare(Server({"x:latest": NEW}), ["x"])
    assert asked == [("0.32.15", 3)]


def test_what_exclusive_frees_is_exact_where_the_manifests_can_be_read(registry, tmp_path):
    other = "sha256:" + "b" * 64
    for name, weights in (("x", WEIGHTS), ("twin", WEIGHTS), ("stray", other)):
        install(tmp_path, manifest(weights), name)
    held = {name + ":latest": OLD for name in ("x", "twin", "stray")}
    prepared = prepare(Server(held), ["x"], tmp_path, exclusive=_prepare.Exclusive())
    assert prepared.freed_exact and [(one.shown, one.size) for one in prepared.actions[1:]] == [("twin:latest", 0), ("stray:latest", 95)]
    prepared = prepare(Server(dict(held, **{"unseen:latest": OLD})), ["x", "unseen"], tmp_path, exclusive=_prepare.Exclusive())
    assert not prepared.freed_exact and [one.size for one in prepared.actions[2:]] == [100, 100], "the most that it can be"


def test_offline_leaves_out_in_check_mode_what_an_import_would_have_brought_and_what_is_made_of_it(registry):
    registry["x:latest"] = AssertionError("asked")
    models = ["x", {"name": "mine", "from": "x"}, {"name": "yours", "from": "held"}]
    prepared = prepare(Server({"held:latest": OLD}), models, offline=True, assume_empty=True)
    assert [(one.verb, one.shown) for one in prepared.actions] == [("none", "held:latest"), ("create", "yours:latest")]
    with pytest.raises(LocalModelsError, match="x:latest: not on this server, and no registry may be asked. Import a bundle"):
        prepare(Server({"held:latest": OLD}), models, offline=True)


def test_what_is_made_from_files_is_announced_with_their_size_and_only_then(registry, tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\0" * 16 + b"y" * 976)
    mine = {"name": "mine", "from": str(tmp_path / "x.gguf")}
    server = Server()
    server.has_blob = lambda digest: False
    prepared = prepare(server, [mine], tmp_path, notes=_notes.Notes(str(tmp_path)))
    assert [(one.verb, one.size) for one in prepared.actions] == [("create", 1000)] and prepared.to_make == list(prepared.made.values())
    assert prepared.actions[0].sentence() == "Create mine:latest from %s (1.0 kB)" % (tmp_path / "x.gguf")
