# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tiny models as people publish them, written to disk: folders of safetensors, and adapters; standard library only."""

from __future__ import annotations

import json
import random
import struct

from ansible_collections.localmodels.fastgpt.tests.contract import weights

VOCABULARY, WIDTH, HEADS, FEED_FORWARD = 320, 64, 4, 128
RANK = 4
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 2,
          "intermediate_size": FEED_FORWARD, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "max_position_embeddings": 2048,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "torch_dtype": "float16", "bos_token_id": 1, "eos_token_id": 2}


def safetensors(tensors):
    """The bytes of a safetensors file. tensors: {name: (shape, list of float)}, written as F16."""
    head, data = {}, b""
    for name, (shape, numbers) in tensors.items():
        raw = struct.pack("<%de" % len(numbers), *numbers)
        head[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def model_folder(folder, seed=1, padding=0):
    """Write a chat model of about 123,000 parameters, as safetensors in two files. padding: numbers more in a tensor that nobody needs."""
    chance = random.Random(seed)

    def matrix(*shape):
        return shape, [chance.gauss(0, 0.125) for dummy in range(shape[0] * shape[1])]

    ones = ((WIDTH,), [1.0] * WIDTH)
    first = {"model.embed_tokens.weight": matrix(VOCABULARY, WIDTH), "model.norm.weight": ones, "lm_head.weight": matrix(VOCABULARY, WIDTH)}
    second = {}
    for block in range(2):
        name = "model.layers.%d." % block
        for part in "qkvo":
            second[name + "self_attn.%s_proj.weight" % part] = matrix(WIDTH, WIDTH)
        second[name + "mlp.gate_proj.weight"] = matrix(FEED_FORWARD, WIDTH)
        second[name + "mlp.up_proj.weight"] = matrix(FEED_FORWARD, WIDTH)
        second[name + "mlp.down_proj.weight"] = matrix(WIDTH, FEED_FORWARD)
        second[name + "input_layernorm.weight"] = second[name + "post_attention_layernorm.weight"] = ones
    if padding:
        second["model.layers.0.self_attn.rotary_emb.inv_freq"] = ((padding,), [0.5] * padding)
    words = ["<unk>", "<s>", "</s>"] + ["w%d" % number for number in range(3, VOCABULARY)]
    tokenizer = {"version": "1.0", "added_tokens": [{"id": number, "content": words[number], "special": True} for number in range(3)],
                 "pre_tokenizer": {"type": "Sequence", "pretokenizers": []},
                 "model": {"type": "BPE", "vocab": {word: number for number, word in enumerate(words)}, "merges": []}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model-00001-of-00002.safetensors").write_bytes(safetensors(first))
    (folder / "model-00002-of-00002.safetensors").write_bytes(safetensors(second))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}))
    (folder / "README.md").write_text("What nobody sends.")
    return folder


def _lora(seed, a, b):
    chance = random.Random(seed)
    return {a: ((RANK, WIDTH), [chance.gauss(0, 0.1) for dummy in range(RANK * WIDTH)]),
            b: ((WIDTH, RANK), [chance.gauss(0, 0.1) for dummy in range(RANK * WIDTH)])}


def adapter_folder(folder, seed=1):
    """Write a LoRA adapter for that model, as the PEFT library writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "base_model.model.model.layers.0.self_attn.v_proj.lora_%s.weight"
    (folder / "adapter_model.safetensors").write_bytes(safetensors(_lora(seed, name % "A", name % "B")))
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["v_proj"]}))
    return folder


def adapter_file(path, seed=1):
    """Write a LoRA adapter for weights.llama, as llama.cpp's convert_lora_to_gguf.py writes it."""
    values = [("general.architecture", weights.STRING, "llama"), ("general.type", weights.STRING, "adapter"), ("adapter.type", weights.STRING, "lora"),
              ("adapter.lora.alpha", weights.FLOAT32, 8.0), ("general.file_type", weights.UINT32, 1)]
    tensors = [("blk.0.attn_v.weight.lora_a", (WIDTH, RANK)), ("blk.0.attn_v.weight.lora_b", (RANK, WIDTH))]
    path.write_bytes(weights.file(values, tensors, seed, "F16"))
    return path
