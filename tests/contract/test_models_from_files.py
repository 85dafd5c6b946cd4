# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ollama_models makes models from files: on the stand-in as 0.32.15 and as 0.34.4, or on the real program in LAB_OLLAMA."""

from __future__ import annotations

import json
import os
import time

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _files, _http, _made
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama import Ollama
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_info, ollama_models
from ansible_collections.localmodels.fastgpt.tests.contract import weights, weights_files
from ansible_collections.localmodels.fastgpt.tests.contract.test_ollama import REAL, start_ollama
from ansible_collections.localmodels.fastgpt.tests.contract.wire import send
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import printed

READS = ("GET", "HEAD")


class Host:
    """An Ollama, files beside it, and the module. `asked`: requests of the last run, such as "HEAD /api/blobs"."""

    def __init__(self, server, folder, capsys):
        self.server, self.folder, self.capsys = server, folder, capsys
        self.asked = []
        version = send(server.url, "GET", "/api/version", {}, None)["body"]["version"]
        self.by_mlx = _made.parsed_version(version) >= (0, 34, 1)
        self.started = 0

    def run(self, *models, module=ollama_models, **options):
        self.asked.clear()
        if module is ollama_models:
            options.update(models=list(models), retries=options.get("retries", 0))
        return json.loads(printed(module, self.capsys, url=self.server.url, **options))

    def gguf(self, name="tiny.gguf", seed=1, kind="F16"):
        path = self.folder / name
        path.write_bytes(weights.llama(seed, kind))
        return self.aged(path)

    @staticmethod
    def aged(path):
        """Files that changed just now are not remembered; what an operator copied before the play is older. Returns the path (str)."""
        for one in [path] if path.is_file() else list(path.iterdir()):
            os.utime(one, (1, 1))
        return str(path)

    def actions(self, *models, **options):
        result = self.run(*models, **options)
        assert not result.get("failed"), result["msg"]
        return {one["name"].partition(":")[0]: one["action"] for one in result["models"]}

    def writes(self):
        return [one for one in self.asked if one.partition(" ")[0] not in READS and not one.startswith("POST /api/show")]


@pytest.fixture(scope="module", params=["0.32.15", "0.34.4"])
def server(request, tmp_path_factory):
    if REAL and "{version}" not in REAL and request.param != "0.32.15":
        pytest.skip("one real program has one version")
    found = start_ollama(tmp_path_factory.mktemp("files"), request.param)
    yield found
    found.stop()


@pytest.fixture
def host(server, tmp_path, capsys, monkeypatch):
    """Without models, and without anything remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # The clock that tells files that changed just now from others stands ahead: the inodes of these files are new.
    monkeypatch.setattr(_made.time, "time", lambda: time.monotonic() + 1e10)
    found, real_open = Host(server, tmp_path, capsys), _http.Client.open

    def counted(self, method, path, *rest, **more):
        found.asked.append("%s %s" % (method, path.partition("sha256")[0].rstrip("/")))
        return real_open(self, method, path, *rest, **more)

    monkeypatch.setattr(_http.Client, "open", counted)
    for model in send(server.url, "GET", "/api/tags", {}, None)["body"]["models"]:
        send(server.url, "DELETE", "/api/delete", {}, {"model": model["name"]})
    return found


def test_a_gguf_file_is_sent_once_and_a_second_run_only_asks_what_is_there(host):
    model = {"name": "house", "from": host.gguf(), "system": "Be kind", "parameters": {"num_ctx": 512, "stop": ["x"]}, "license": "MIT",
             "messages": [{"role": "user", "content": "hi"}]}
    planned = host.run(model, check=True)
    assert planned["models"][0]["action"] == "create" and not host.writes()
    result = host.run(model)
    assert result["models"][0]["action"] == "create" and result["changed"], result
    assert [one for one in host.asked if "blobs" in one or "create" in one] == ["HEAD /api/blobs", "POST /api/blobs", "POST /api/create"]
    assert result["models"][0]["bytes"] == planned["models"][0]["bytes"] == os.path.getsize(model["from"])
    for check in (True, False):
        again = host.run(model, check=check)
        assert host.asked == ["GET /api/tags"] and not again["changed"] and again["actions"] == []


def test_each_difference_is_shown_and_made_and_what_is_the_same_in_other_words_is_none(host):
    path = host.gguf()
    model = {"name": "house", "from": path, "parameters": {"num_ctx": 512, "temperature": 0.5}}
    host.actions(model)
    same = dict(model, parameters={"temperature": "0.50", "num_ctx": "512"})
    assert host.actions(same) == {"house": "none"} and host.asked == ["GET /api/tags"]
    for key, value in (("system", "Be kind"), ("license", "MIT"), ("parameters", {"num_ctx": 256}), ("messages", [{"role": "user", "content": "hi"}]),
                       ("template", "{{ .Prompt }}!")):
        changed = dict(model, **{key: value})
        planned = host.run(changed, check=True)
        assert planned["models"][0]["action"] == "recreate" and not host.writes()
        assert "not as declared: %s" % key in planned["actions"][0] and "%s: " % key in planned["diff"]["after"]
        assert host.actions(changed) == {"house": "recreate"}, key
        assert host.actions(changed) == {"house": "none"} and host.asked == ["GET /api/tags"]
        assert host.actions(model) == {"house": "recreate"}


def test_another_content_is_noticed_even_if_size_and_time_are_the_same_and_another_name_is_not_minded(host):
    path = host.gguf()
    model = {"name": "house", "from": path}
    host.actions(model)
    os.rename(path, path + "2")
    assert host.actions(dict(model, **{"from": path + "2"})) == {"house": "none"} and host.asked == ["GET /api/tags"]
    assert host.gguf(seed=2) == path and os.path.getsize(path) == os.path.getsize(path + "2")
    planned = host.run(model, check=True)
    assert planned["models"][0]["action"] == "recreate" and planned["changed"] and "from: [\"sha256:" in planned["diff"]["before"] and not host.writes()
    assert host.actions(model) == {"house": "recreate"}


def test_two_models_of_one_file_send_it_once_and_both_are_kept_by_exclusive(host):
    path = host.gguf(seed=3)
    models = [{"name": "one", "from": path}, {"name": "two", "from": path, "system": "Be kind"}, {"name": "three", "from": "two", "system": "Be brief"}]
    assert set(host.actions(*models, exclusive=True).values()) == {"create"}
    assert host.asked.count("POST /api/blobs") == 1
    assert set(host.actions(*models, exclusive=True).values()) == {"none"} and "POST /api/create" not in host.asked
    assert host.actions("one", exclusive=True)["two"] == "prune"


def test_without_notes_the_model_is_made_again_and_is_the_same(host):
    model = {"name": "house", "from": host.gguf()}
    host.actions(model)
    notes = host.folder / "cache/localmodels.fastgpt/models_from_files.json"
    notes.unlink()
    planned = host.run(model, check=True)
    assert planned["models"][0]["action"] == "recheck" and not planned["changed"] and not host.writes() and not notes.exists()
    result = host.run(model)
    assert not result["changed"] and result["models"][0]["action"] == "none" and "POST /api/create" in host.asked
    host.run(model)
    assert host.asked == ["GET /api/tags"]
    # What somebody changed by hand is seen without notes as well.
    send(host.server.url, "POST", "/api/create", {}, {"model": "house", "from": "house", "system": "Mine"})
    planned = host.run(model, check=True)
    assert planned["models"][0]["action"] == "recreate" and "not as declared: system" in planned["actions"][0]
    assert host.actions(model) == {"house": "recreate"} and host.actions(model) == {"house": "none"}


def test_an_upload_that_was_cut_before_the_creation_goes_on(host, monkeypatch):
    folder = host.aged(weights_files.model_folder(host.folder / "house", seed=4))
    real, sent = _http.Client.request, []

    def cut(self, method, path, body=None, *rest, **more):
        if method == "POST" and "blobs" in path:
            sent.append(path)
            if len(sent) == 2:
                body.read()
                raise self.unreachable(ConnectionResetError("cut"))
        return real(self, method, path, body, *rest, **more)

    monkeypatch.setattr(_http.Client, "request", cut)
    model = {"name": "house", "from": folder}
    result = host.run(model)
    assert result["failed"] and "closed the connection" in result["msg"] and len(sent) == 2
    host.run(model)
    # Of five files the first one is there; the second one is sent again, and no other twice.
    assert len(sent) == 2 + 4 and sent.count(sent[1]) == 2 and len(set(sent)) == 5
    host.run(model)
    assert len(sent) == 6


def test_a_broken_upload_is_tried_again_in_the_same_run(host, monkeypatch):
    real, tries = _http.Client.request, []

    def cut_once(self, method, path, *rest, **more):
        if method == "POST" and "blobs" in path:
            tries.append(path)
            if len(tries) == 1:
                raise self.unreachable(ConnectionResetError("cut"))
        return real(self, method, path, *rest, **more)

    monkeypatch.setattr(_http.Client, "request", cut_once)
    assert host.actions({"name": "house", "from": host.gguf(seed=5)}, retries=1) == {"house": "create"} and len(tries) == 2


def test_a_folder_of_safetensors(host):
    model = {"name": "house", "from": host.aged(weights_files.model_folder(host.folder / "house")), "system": "Be kind"}
    result = host.run(model)
    if host.by_mlx:
        # No machine of the lab has MLX.
        assert result["failed"] and "MLX" in result["msg"] and "convert_hf_to_gguf" in result["msg"]
        return
    assert result["models"][0]["action"] == "create", result
    assert host.asked.count("HEAD /api/blobs") == 5 and "README.md" not in str(result)
    assert host.actions(model) == {"house": "none"} and host.asked == ["GET /api/tags"]
    (host.folder / "house/README.md").write_text("Nobody minds")
    assert host.actions(model) == {"house": "none"}
    (host.folder / "house/config.json").write_text(json.dumps(dict(weights_files.CONFIG, max_position_embeddings=1024)))
    assert host.actions(model) == {"house": "recreate"}
    shown = send(host.server.url, "POST", "/api/show", {}, {"model": "house"})["body"]
    assert shown["model_info"]["llama.context_length"] == 1024 and shown["system"] == "Be kind"


@pytest.mark.parametrize("source", ["gguf", "safetensors"])
def test_quantize(host, source):
    path = host.gguf(seed=6) if source == "gguf" else host.aged(weights_files.model_folder(host.folder / "house", seed=6))
    model = {"name": "house", "from": path, "quantize": "q8_0"}
    result = host.run(model)
    if host.by_mlx:
        assert result["failed"] and not host.writes() and "nothing was changed" in result["msg"]
        assert ("quantizes no GGUF" if source == "gguf" else "Choose from int4") in result["msg"]
        return
    assert result["models"][0]["action"] == "create", result
    assert send(host.server.url, "POST", "/api/show", {}, {"model": "house"})["body"]["details"]["quantization_level"] == "Q8_0"
    assert host.actions(dict(model, quantize="Q8_0")) == {"house": "none"} and host.asked == ["GET /api/tags"]
    planned = host.run({"name": "house", "from": path}, check=True)
    assert "not as declared: quantize" in planned["actions"][0]
    assert host.actions({"name": "house", "from": path}) == {"house": "recreate"}


@pytest.mark.parametrize("form", ["file", "folder"])
def test_an_adapter_on_a_model(host, form):
    base = {"name": "base", "from": host.gguf(seed=7)}
    adapter = weights_files.adapter_file(host.folder / "lora.gguf") if form == "file" else weights_files.adapter_folder(host.folder / "lora")
    model = {"name": "house", "from": "base", "adapter": host.aged(adapter)}
    result = host.run(base, model)
    if host.by_mlx:
        assert result["failed"] and "takes no adapters" in result["msg"] and not host.writes()
        return
    assert [one["action"] for one in result["models"]] == ["create", "create"], result
    assert host.actions(base, model) == {"base": "none", "house": "none"} and host.asked == ["GET /api/tags"]
    # What ollama_info prints declares what is there: the adapter cannot be named, so the model is not said to be its bare base.
    assert host.run(module=ollama_info)["local_models"] == ["base:latest", "house:latest"]
    bare = host.run(base, {"name": "house", "from": "base"}, check=True)
    assert "not as declared: adapter" in str(bare["actions"])
    assert host.actions(base, {"name": "house", "from": "base"})["house"] == "recreate"


def test_what_ollama_info_prints_of_such_models_changes_nothing(host):
    path = host.gguf("tiny.gguf", seed=8)
    host.actions({"name": "house", "from": path}, {"name": "clerk", "from": "house", "system": "Be kind"})
    declared = host.run(module=ollama_info)["local_models"]
    assert declared == [{"name": "clerk:latest", "from": "house:latest", "system": "Be kind"}, "house:latest"]
    assert set(host.actions(*declared).values()) == {"none"} and not host.writes()


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    weights_files.adapter_file(folder / "lora.gguf")
    (folder / "text.gguf").write_text("this is no GGUF file")
    (folder / "cut.gguf").write_bytes(weights.llama(1)[:100])
    (folder / "old.gguf").write_bytes(b"GGUF\1\0\0\0" + bytes(100))
    (folder / "lfs.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    (folder / "part-00001-of-00002.gguf").write_bytes(weights.llama(1))
    (folder / "fine.gguf").write_bytes(weights.llama(1))
    (folder / "empty").mkdir()
    weights_files.model_folder(folder / "no_config")
    (folder / "no_config/config.json").unlink()
    weights_files.model_folder(folder / "pointers")
    (folder / "pointers/model-00002-of-00002.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n" + "x" * 100)
    weights_files.model_folder(folder / "bad_config")
    (folder / "bad_config/config.json").write_text("{")
    return folder


@pytest.mark.parametrize("item, said", [
    ({"from": "{}/missing.gguf"}, "missing.gguf, which from names, cannot be read: No such file or directory"),
    ({"from": "{}/text.gguf"}, "is no GGUF file"),
    ({"from": "{}/cut.gguf"}, "ends in its head"),
    ({"from": "{}/old.gguf"}, "GGUF of version 1"),
    ({"from": "{}/lfs.gguf"}, "a pointer of Git LFS"),
    ({"from": "{}/part-00001-of-00002.gguf"}, "part-00002-of-00002.gguf is not beside it"),
    ({"from": "{}/lora.gguf"}, "holds an adapter, and no model"),
    ({"from": "{}/empty"}, "holds neither model*.safetensors nor *.gguf"),
    ({"from": "{}/no_config"}, "no config.json"),
    ({"from": "{}/bad_config"}, "holds no JSON object"),
    ({"from": "{}/pointers"}, "a pointer of Git LFS"),
    ({"from": "./fine.gguf"}, "which is no absolute path"),
    ({"from": "{}/fine.gguf", "adapter": "lora.gguf"}, "which is no absolute path"),
    ({"from": "{}/fine.gguf", "adapter": "{}/fine.gguf"}, "holds no adapter but a model"),
    ({"from": "{}/fine.gguf", "quantize": "q4_k_n"}, "Probably q4_k_"),
    ({"adapter": "{}/lora.gguf"}, "no model that it is made from"),
    ({"from": "{}/fine.gguf", "adapters": ["{}/lora.gguf"]}, "Probably adapter is meant"),
])
@pytest.mark.parametrize("check", [True, False])
def test_what_cannot_be_is_said_before_anything_is_written(host, bad_files, item, said, check):
    item = {key: value.replace("{}", str(bad_files)) if isinstance(value, str) else value for key, value in item.items()}
    result = host.run(dict(item, name="house"), {"name": "other", "from": str(bad_files / "fine.gguf")}, check=check)
    assert result["failed"] and said in result["msg"], result
    assert not host.writes() and result["changed"] is False


def test_quantized_weights_are_not_quantized(host):
    path = host.folder / "q.gguf"
    path.write_bytes(weights.llama(9).replace(b"general.file_type\4\0\0\0\1", b"general.file_type\4\0\0\0\7"))
    result = host.run({"name": "house", "from": str(path), "quantize": "q4_k_m"})
    assert result["failed"] and not host.writes()
    assert ("quantizes no GGUF" if host.by_mlx else "quantizes only F16 and BF16") in result["msg"]


def test_what_is_sent_counts_against_the_disk(host, monkeypatch):
    path = host.gguf(seed=10)
    size = os.path.getsize(path)
    store = os.path.join(host.server.state, "models")
    monkeypatch.setattr(ollama_models._prepare._store.Store, "free", lambda self: size - 1)
    result = host.run({"name": "house", "from": path}, store_path=store)
    need = 1 if host.by_mlx else 3
    assert result["failed"] and not host.writes() and "need %.1f kB more" % (size * need / 1000) in result["msg"], result["msg"]
    # What is there already needs no room.
    monkeypatch.setattr(ollama_models._prepare._store.Store, "free", lambda self: size * 2)
    send(host.server.url, "DELETE", "/api/delete", {}, {"model": "house"})
    if not host.by_mlx:
        file = _files.LocalFile("tiny.gguf", path)
        with open(path, "rb") as content:
            Ollama(_http.Client(host.server.url, "Ollama")).put_blob(_files.digest(file), content, size, 30)
    assert host.actions({"name": "house", "from": path}, store_path=store) == {"house": "create"}



@pytest.mark.skipif(bool(REAL), reason="a real disk cannot be filled, nor a real server cut, by a switch")
@pytest.mark.parametrize("fault, said", [({"disk_full": 100000}, "no space left on device"), ({"cut_upload": 100000}, "closed the connection")])
def test_a_disk_that_fills_and_a_line_that_breaks_in_mid_upload(host, fault, said):
    model = {"name": "house", "from": host.gguf(seed=11 + len(said))}
    send(host.server.url, "PUT", "/_lab/faults", {}, fault)
    try:
        result = host.run(model)
    finally:
        send(host.server.url, "PUT", "/_lab/faults", {}, {})
    assert result["failed"] and said in result["msg"] and not result["changed"]
    assert host.actions(model) == {"house": "create"} and host.asked.count("POST /api/blobs") == 1
