# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uploaded safetensors as the GGUF file that Ollama until 0.34.0 makes of them: the metadata that show tells about, and the data."""

from __future__ import annotations

import json
import struct

from ollama_parts import gguf, go

ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2"}
NUMBERS = {"max_position_embeddings": "context_length", "hidden_size": "embedding_length", "num_hidden_layers": "block_count",
           "intermediate_size": "feed_forward_length", "num_attention_heads": "attention.head_count",
           "num_key_value_heads": "attention.head_count_kv", "vocab_size": "vocab_size"}
KINDS = {"F32": 0, "F16": 1, "BF16": 30}
F16 = 1


def model(store, files):
    """The bytes made of a folder. files: {name: digest}. Raises go.Refusal."""
    config = _json(store, files, "config.json")
    names = config.get("architectures") or []
    if not names:
        raise go.Refusal(500, "unknown architecture")
    if names[0] not in ARCHITECTURES:
        raise go.Refusal(500, "unsupported architecture %s" % go.quoted(names[0]))
    if not {"tokenizer.json", "tokenizer.model"} & set(files):
        raise go.Refusal(500, "unknown tokenizer format")
    architecture = ARCHITECTURES[names[0]]
    numbers = [("%s.%s" % (architecture, key), config[name]) for name, key in NUMBERS.items() if name in config]
    return _written([("general.architecture", architecture), ("general.file_type", F16), *numbers], _tensors(store, files))


def adapter(store, files, architecture):
    """The bytes made of the folder of an adapter. architecture: of its base. Raises go.Refusal."""
    _json(store, files, "adapter_config.json")
    if architecture not in ("llama", "gemma2"):
        raise go.Refusal(400, "unsupported architecture")
    return _written([("general.architecture", architecture), ("general.type", "adapter"), ("general.file_type", F16)], _tensors(store, files))


def _json(store, files, name):
    if name not in files:
        raise go.Refusal(500, "open %s: no such file or directory" % name)
    return json.loads(store.blob(files[name]).read_text("utf-8"))


def _tensors(store, files):
    """list of (name, shape, kind, bytes)."""
    found = []
    for name in sorted(files):
        if not name.endswith(".safetensors"):
            continue
        content = store.blob(files[name]).read_bytes()
        begin = 8 + struct.unpack("<Q", content[:8])[0]
        for key, entry in json.loads(content[8:begin]).items():
            if key != "__metadata__":
                data = slice(*[begin + offset for offset in entry["data_offsets"]])
                found.append((key, list(reversed(entry["shape"])), KINDS[entry["dtype"]], content[data]))
    return found


def _written(values, tensors):
    head = gguf.MAGIC + struct.pack("<IQQ", 3, len(tensors), len(values))
    for key, value in values:
        head += gguf.text(key) + (struct.pack("<I", gguf.STRING) + gguf.text(value) if isinstance(value, str)
                                  else struct.pack("<II", gguf.UINT32, value))
    data = b""
    for name, shape, kind, raw in tensors:
        head += gguf.text(name) + struct.pack("<I%dQIQ" % len(shape), len(shape), *shape, kind, len(data))
        data += raw.ljust(gguf.aligned(len(raw), 32), b"\0")
    return head.ljust(gguf.aligned(len(head), 32), b"\0") + data
