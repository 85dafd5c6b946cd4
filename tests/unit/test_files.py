# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files a model or an adapter is made from, and what is wrong with them."""

from __future__ import annotations

import hashlib
import os
import struct

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _files
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

KEY, WORD = b"general.type", b"adapter"
GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
LORA = b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(KEY)) + KEY + struct.pack("<IQ", 8, len(WORD)) + WORD
TENSORS = struct.pack("<Q", 2) + b"{}"


def lay(folder, *names):
    """Files of these names, with what fits their ending; a name that ends in / is a folder. Returns the path of `folder` (str)."""
    for name in names:
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(LORA if "lora" in name else GGUF if name.endswith(".gguf") else TENSORS if name.endswith(".safetensors") else b"{}")
    return str(folder)


def names(source):
    return [file.name for file in source.files]


@pytest.mark.parametrize("there, taken", [
    (["model.safetensors", "config.json"], ["model.safetensors", "config.json"]),
    (["model-2.safetensors", "model-1.safetensors", "consolidated.safetensors", "x.safetensors", "config.json", "a.json", "tokenizer.model", "README.md",
      "chat_template.jinja", "x.gguf", "more.json/"],
     ["model-1.safetensors", "model-2.safetensors", "a.json", "config.json", "chat_template.jinja", "tokenizer.model"]),
    (["consolidated.safetensors", "config.json", "x.safetensors"], ["consolidated.safetensors", "config.json"]),
    (["b.gguf", "a.gguf", "config.json", "x.safetensors", "c.gguf/"], ["a.gguf", "b.gguf"])])
def test_of_a_folder_those_files_are_taken_that_ollama_takes(tmp_path, there, taken):
    found = _files.model(lay(tmp_path, *there))
    assert names(found) == taken and found.path == str(tmp_path) and found.kind == ("gguf" if taken[0].endswith("gguf") else "safetensors")
    assert [file.path for file in found.files] == [str(tmp_path / name) for name in taken]
    assert found.size == sum(os.path.getsize(file.path) for file in found.files)


@pytest.mark.parametrize("there, taken", [
    (["adapter_model.safetensors", "other.safetensors", "adapter_config.json"], ["adapter_model.safetensors", "adapter_config.json"]),
    (["other.safetensors", "adapter_config.json"], ["other.safetensors", "adapter_config.json"]), (["lora.gguf"], ["lora.gguf"])])
def test_of_the_folder_of_an_adapter_too(tmp_path, there, taken):
    assert names(_files.adapter(lay(tmp_path, *there))) == taken


@pytest.mark.parametrize("take, there, named, said", [
    ("model", ["model.safetensors"], "", "has safetensors and no config.json, which says what they are. Copy the whole folder"),
    ("model", ["x.safetensors", "config.json"], "", "holds neither model*.safetensors nor *.gguf. Name the folder that holds the weights"),
    ("adapter", ["x.safetensors", "config.json"], "", "has safetensors and no adapter_config.json"),
    ("adapter", [], "", "holds neither adapter*.safetensors nor *.gguf"),
    ("adapter", ["lora1.gguf", "lora2.gguf"], "", "holds 2 GGUF files, and Ollama takes one adapter. Name one of them"),
    ("model", ["a.gguf", "lora.gguf"], "", "lora.gguf holds an adapter, and no model. Name it by adapter"),
    ("adapter", ["a.gguf"], "a.gguf", "a.gguf holds no adapter but a model. Make a LoRA file"),
    ("model", [], "x.gguf", "x.gguf, which from names, cannot be read: No such file or directory. The path is that of the host"),
    ("adapter", [], "x.gguf", "x.gguf, which adapter names, cannot be read: No such file or directory"),
    ("model", ["m-00001-of-00003.gguf"], "m-00001-of-00003.gguf",
     "is one of 3 parts, and m-00002-of-00003.gguf and m-00003-of-00003.gguf are not beside it. Bring all parts into one folder"),
    ("model", ["m-00002-of-00002.gguf"], "m-00002-of-00002.gguf", "is one of 2 parts, and m-00001-of-00002.gguf is not beside it"),
    ("model", [], "m-00001-of-00002.gguf", "m-00001-of-00002.gguf, which from names, cannot be read")])
def test_what_cannot_be_made_of_is_told_with_what_to_do(tmp_path, take, there, named, said):
    with pytest.raises(LocalModelsError) as caught:
        getattr(_files, take)(os.path.join(lay(tmp_path, *there), named).rstrip("/"))
    assert said in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("problem, said", [
    (OSError(5, "Input/output error", "/srv/part"), "/srv/part, which from names, cannot be read: Input/output error. The path"),
    (OSError("odd"), "x.gguf, which from names, cannot be read: odd. The path")])
def test_the_file_that_cannot_be_read_is_named(tmp_path, monkeypatch, problem, said):
    def broken(path):
        raise problem

    lay(tmp_path, "x.gguf")
    monkeypatch.setattr(_files._gguf, "gguf_facts", broken)
    with pytest.raises(LocalModelsError, match=said):
        _files.model(str(tmp_path / "x.gguf"))


@pytest.mark.parametrize("damaged, said", [("config.json", "config.json holds no JSON object"),
                                           ("model-2.safetensors", "model-2.safetensors is no safetensors file")])
def test_each_file_of_a_folder_is_looked_at(tmp_path, damaged, said):
    lay(tmp_path, "model-1.safetensors", "model-2.safetensors", "config.json")
    (tmp_path / damaged).write_bytes(b"[]")
    with pytest.raises(LocalModelsError, match=said):
        _files.model(str(tmp_path))


@pytest.mark.parametrize("name, taken", [
    ("m-00002-of-00003.gguf", ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]),
    ("m-00001-of-00001.gguf", ["m-00001-of-00001.gguf"]),
    ("m-00004-of-00003.gguf", ["m-00004-of-00003.gguf"]), ("m-00001-of-00000.gguf", ["m-00001-of-00000.gguf"]), ("m-1-of-3.gguf", ["m-1-of-3.gguf"])])
def test_all_parts_are_taken_whichever_is_named_and_what_is_none_of_them_is_a_file_of_its_own(tmp_path, name, taken):
    lay(tmp_path, name, *["m-%05d-of-00003.gguf" % number for number in (1, 2, 3)])
    assert names(_files.model(str(tmp_path / name))) == taken


def test_a_file_is_told_to_ollama_by_a_name_that_it_takes(tmp_path):
    lay(tmp_path, "a:b\\c.gguf")
    file, = _files.model(str(tmp_path / "a:b\\c.gguf")).files
    assert file.name == "a_b_c.gguf" and file.path == str(tmp_path / "a:b\\c.gguf")


@pytest.mark.parametrize("number, said", [(1, 1), (0, 0), (32, 32)])
def test_the_type_of_the_weights_comes_along(tmp_path, number, said):
    key = b"general.file_type"
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(key)) + key + struct.pack("<II", 4, number))
    assert _files.model(str(tmp_path / "x.gguf")).files[0].file_type == said


def test_a_digest_is_read_in_pieces_that_are_counted(tmp_path):
    content, pieces = b"GGUF" * (1 << 18) + b"rest", []
    (tmp_path / "x").write_bytes(content)
    file = _files.LocalFile("x", str(tmp_path / "x"))
    assert _files.digest(file, pieces.append) == "sha256:" + hashlib.sha256(content).hexdigest() == _files.digest(file) and pieces == [1 << 20, 4]


def test_a_file_that_changes_or_goes_while_it_is_read_has_no_digest(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"before")
    with pytest.raises(LocalModelsError, match="x was changed while it was read. Something still writes it: run again when it is complete"):
        _files.digest(_files.LocalFile("x", str(path)), lambda count: path.write_bytes(b"another"))
    with pytest.raises(LocalModelsError, match="x cannot be read: No such file or directory. Look at the disk"):
        _files.digest(_files.LocalFile("x", str(path)), lambda count: path.unlink())


def test_the_last_change_is_of_the_content_or_of_the_inode_whichever_came_later(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    os.utime(tmp_path / "x", (1, 1))
    file, found = _files.LocalFile("x", str(tmp_path / "x")), os.stat(tmp_path / "x")
    assert file.stamp == [1, 10 ** 9, found.st_ctime_ns, found.st_ino] and file.quiet_since == found.st_ctime_ns / 1e9
    os.utime(tmp_path / "x", (1, 2 ** 32))
    assert _files.LocalFile("x", str(tmp_path / "x")).quiet_since == 2 ** 32
