# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the head of a file says about weights, whatever stands in it and wherever it was cut."""

from __future__ import annotations

import struct

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _gguf
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

STRING, ARRAY = 8, 9
# Bytes of a value of each kind, as ggml's docs/gguf.md has them.
SIZES = {"uint8": (0, 1), "int8": (1, 1), "uint16": (2, 2), "int16": (3, 2), "uint32": (4, 4), "int32": (5, 4), "float32": (6, 4), "bool": (7, 1),
         "uint64": (10, 8), "int64": (11, 8), "float64": (12, 8)}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"


def text(word):
    raw = word if isinstance(word, bytes) else word.encode()
    return struct.pack("<Q", len(raw)) + raw


def pair(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def array(kind, *values):
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


def head(*pairs, version=3, count=None):
    return b"GGUF" + struct.pack("<IQQ", version, 7, len(pairs) if count is None else count) + b"".join(pairs)


TYPE = pair("general.type", STRING, text("adapter"))
FILE_TYPE = pair("general.file_type", 4, struct.pack("<I", 32))
OTHERS = {"a text": pair("a", STRING, text("of some words")), "an empty text": pair("a", STRING, text("")),
          "texts": pair("a", ARRAY, array(STRING, text("one"), text(""), text("three"))),
          "arrays": pair("a", ARRAY, array(ARRAY, array(2, b"12", b"34"), array(STRING, text("x")))), "nothing": pair("a", ARRAY, array(4)),
          "a text of other bytes": pair("a", STRING, text(b"\xff")), "a long text": pair("a", STRING, text("x" * 65537)),
          "a long key": pair("k" * 65536, 0, b"1"),
          **{name: pair("a", kind, b"\1" * size) for name, (kind, size) in SIZES.items()},
          **{name + "s": pair("a", ARRAY, array(kind, *[b"\1" * size] * 3)) for name, (kind, size) in SIZES.items()}}


def facts(tmp_path, raw):
    (tmp_path / "x").write_bytes(raw)
    return _gguf.gguf_facts(str(tmp_path / "x"))


@pytest.mark.parametrize("version", [2, 3])
def test_what_a_file_is_for_is_found_behind_anything_else(tmp_path, version):
    for what, before in OTHERS.items():
        assert facts(tmp_path, head(before, TYPE, before, FILE_TYPE, version=version) + b"tensors") == ("adapter", 32), what


def test_what_the_head_does_not_say_is_a_model_of_unknown_type(tmp_path):
    assert facts(tmp_path, head()) == ("model", None)
    assert facts(tmp_path, head(pair("general.type", 4, b"1234"), pair("general.file_type", 10, b"12345678"))) == ("model", None), "of another kind"
    assert facts(tmp_path, head(TYPE, pair("tokenizer.ggml.tokens", ARRAY, array(STRING, text("x")) + b"cut"), count=9)) == ("adapter", None)


@pytest.mark.parametrize("raw, said", [
    (b"", "is no GGUF file: it begins with b''. Name a GGUF file"), (b"PK\3\4abcdef" * 9, r"is no GGUF file: it begins with b'PK\x03\x04'."),
    (b"GGUF", "ends in its head, or is damaged. Copy it again"), (head(TYPE, count=2), "ends in its head"), (head(TYPE)[:-1], "ends in its head"),
    (head(FILE_TYPE)[:-1], "ends in its head"), (head(pair("general.type", STRING, text(b"\xff"))), "ends in its head"),
    (head(pair("a", 0, b"1"))[:-1], "ends in its head"), (head(pair("a", ARRAY, array(STRING, text("x"), text("y"))))[:-9], "ends in its head"),
    (head(pair("a", 77, b"")), "ends in its head"), (head(pair("a", ARRAY, array(77))), "ends in its head"),
    (head(pair("a", STRING, struct.pack("<Q", 1 << 63)), TYPE), "ends in its head"),
    (head(pair("a", STRING, struct.pack("<Q", (1 << 63) - 1)), TYPE), "ends in its head"),
    (head(pair("a", ARRAY, struct.pack("<IQ", 10, 1 << 60)), TYPE), "ends in its head"),
    (head(pair("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 5000)), "is damaged"),
    (head(TYPE, pair("a", STRING, text("cut off")))[:-1], "ends in its head"), (head(TYPE, pair("a", ARRAY, array(4, b"1234")))[:-1], "ends in its head"),
    (head(pair("k" * 65537, 0, b"1")), "ends in its head"), (head(version=1), "is GGUF of version 1, and Ollama reads 2 and 3. Convert the model again"),
    (head(version=4), "is GGUF of version 4"), (LFS, "is no model but a pointer of Git LFS to one. Fetch the file itself: git lfs pull")],
    ids=lambda value: value[:20] if isinstance(value, str) else "%d bytes" % len(value))
def test_a_file_that_is_no_whole_gguf_is_refused_in_words(tmp_path, raw, said):
    with pytest.raises(LocalModelsError) as caught:
        facts(tmp_path, raw)
    assert said in str(caught.value) and str(tmp_path / "x") in str(caught.value)


@pytest.mark.parametrize("raw, said", [
    (struct.pack("<Q", 2) + b"{}", ""), (struct.pack("<Q", 8) + b'{"a":1} ' + b"weights", ""), (struct.pack("<Q", 8) + b'{"a":1}', "or not a whole one"),
    (struct.pack("<Q", 1) + b"{}", "is no safetensors file"), (struct.pack("<Q", 2) + b"[]", "is no safetensors file"), (b"1234567", "not a whole one"),
    (b"", "not a whole one"), (LFS + b"x" * 99, "is no model but a pointer of Git LFS")])
def test_a_file_that_is_no_whole_safetensors_is_refused_in_words(tmp_path, raw, said):
    (tmp_path / "x").write_bytes(raw)
    if not said:
        return _gguf.refuse_no_safetensors(str(tmp_path / "x"), len(raw))
    with pytest.raises(LocalModelsError, match=said):
        _gguf.refuse_no_safetensors(str(tmp_path / "x"), len(raw))


def test_a_header_longer_than_the_library_takes_is_refused_without_being_read(tmp_path):
    for length, fine in ((10 ** 8, True), (10 ** 8 + 1, False)):
        (tmp_path / "x").write_bytes(struct.pack("<Q", length) + b"{")
        if fine:
            _gguf.refuse_no_safetensors(str(tmp_path / "x"), 10 ** 9)
        else:
            with pytest.raises(LocalModelsError, match="no safetensors file"):
                _gguf.refuse_no_safetensors(str(tmp_path / "x"), 10 ** 9)


@pytest.mark.parametrize("raw, said", [(b'{"a": 1}', ""), (b"[1]", "holds no JSON object. Copy it again"), (b"{", "holds no JSON object"),
                                       (b'{"\xff": 1}', "holds no JSON object"), (b"", "holds no JSON object"), (LFS, "a pointer of Git LFS")])
def test_a_description_that_is_none_is_refused_in_words(tmp_path, raw, said):
    (tmp_path / "x").write_bytes(raw)
    if not said:
        return _gguf.refuse_no_json(str(tmp_path / "x"))
    with pytest.raises(LocalModelsError, match=said):
        _gguf.refuse_no_json(str(tmp_path / "x"))
