# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the head of a file says about weights: is it GGUF or safetensors, and what for. Reads a few kilobytes. Internal to this collection.

GGUF (ggml's docs/gguf.md): "GGUF", version, number of tensors, number of pairs, then the pairs. safetensors: the length of a JSON object,
then the object.
"""

from __future__ import annotations

import json
import os
import struct

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UINT32, _STRING, _ARRAY = 4, 8, 9
_LONGEST = 1 << 16  # of a key, or of the word that says what for: more is no text
_LARGEST_HEADER = 100 * 1000 * 1000  # of safetensors, as its own library has it
_LFS = b"version https://git-lfs"


def refuse_pointer(path, head):
    """Raises LocalModelsError where a file (its first bytes: head) only stands for the real one."""
    if head.startswith(_LFS):
        raise LocalModelsError("%s is no model but a pointer of Git LFS to one" % path, "Fetch the file itself: git lfs pull, in its folder")


def gguf_facts(path):
    """What a GGUF file is for, in its own word (general.type, str: model, adapter, mmproj; "model" where it does not say), and its
    general.file_type (int, or None where the head does not say).

    Raises LocalModelsError for a file that is no GGUF, OSError.
    """
    with open(path, "rb") as file:
        head = file.read(24)
        refuse_pointer(path, head)
        if head[:4] != b"GGUF":
            raise LocalModelsError("%s is no GGUF file: it begins with %r" % (path, head[:4]),
                                   "Name a GGUF file, or a folder of safetensors; llama.cpp's convert_hf_to_gguf.py makes GGUF of other formats")
        try:
            version, dummy, pairs = struct.unpack("<IQQ", head[4:])
            facts = _general(file, pairs) if version in (2, 3) else None
        except (struct.error, KeyError, ValueError, RecursionError) as problem:
            raise LocalModelsError("%s ends in its head, or is damaged" % path, "Copy it again; it begins as GGUF does") from problem
    if facts is None:
        raise LocalModelsError("%s is GGUF of version %d, and Ollama reads 2 and 3" % (path, version), "Convert the model again with a current llama.cpp")
    return facts.get(b"general.type") or "model", facts.get(b"general.file_type")


def _general(file, pairs):
    found = {}
    for dummy in range(pairs):
        key = _text(file)
        kind, = struct.unpack("<I", file.read(4))
        if key.startswith(b"tokenizer."):
            break  # what is general stands before, and the words of a tokenizer are long
        if key == b"general.type" and kind == _STRING:
            found[key] = _text(file).decode("utf-8")
        elif key == b"general.file_type" and kind == _UINT32:
            found[key], = struct.unpack("<I", file.read(4))
        else:
            _skip(file, kind)
    return found


def _text(file):
    length, = struct.unpack("<Q", file.read(8))
    if length > _LONGEST:
        raise ValueError(length)
    text = file.read(length)
    if len(text) < length:
        raise ValueError("cut")
    return text


def _skip(file, kind):
    if kind == _STRING:
        length, = struct.unpack("<Q", file.read(8))
        _leap(file, length)
    elif kind == _ARRAY:
        of, length = struct.unpack("<IQ", file.read(12))
        if of in (_STRING, _ARRAY):
            for dummy in range(length):
                _skip(file, of)
        else:
            _leap(file, _SCALARS[of] * length)
    else:
        _leap(file, _SCALARS[kind])


def _leap(file, length):
    """Passes over so many bytes. A length may be damaged, and seek() itself goes beyond the end of a file without a word."""
    if length > os.fstat(file.fileno()).st_size - file.tell():
        raise ValueError("cut")
    file.seek(length, 1)


def refuse_no_safetensors(path, size):
    """Raises LocalModelsError for a file of `size` bytes that is no safetensors, or is cut in its head; OSError."""
    with open(path, "rb") as file:
        head = file.read(64)
        refuse_pointer(path, head)
        length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
        if not 2 <= length <= min(_LARGEST_HEADER, size - 8) or head[8:9] != b"{":
            raise LocalModelsError("%s is no safetensors file, or not a whole one" % path, "Copy or convert it again")


def refuse_no_json(path):
    """Raises LocalModelsError for a file that holds no JSON object; OSError."""
    with open(path, "rb") as file:
        raw = file.read()
    refuse_pointer(path, raw)
    try:
        parsed = json.loads(raw.decode("utf-8"))
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise LocalModelsError("%s holds no JSON object" % path, "Copy it again from where the model comes from")
