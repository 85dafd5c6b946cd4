# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tiny GGUF models with the metadata of those the transcripts were recorded with; random weights, standard library only."""

from __future__ import annotations

import random
import struct

WIDTH, HEADS, BLOCKS, FEED_FORWARD = 64, 4, 2, 128
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5
F32, F16 = 0, 1
ALIGNMENT = 32
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def llama(seed, kind="F16"):
    """A chat model of about 123,000 parameters: bytes of a GGUF file. kind: F16 or F32."""
    tokens = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % byte for byte in range(256)] + ["▁", "▁the", "▁a", "e", "t", "▁hello", "▁world"]
    tokens += ["▁w%d" % number for number in range(len(tokens), 320)]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * (320 - 259)
    values = _common("llama", "tiny", 2048, kind) + [
        ("llama.attention.head_count_kv", UINT32, HEADS), ("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
        ("llama.rope.dimension_count", UINT32, WIDTH // HEADS), ("llama.vocab_size", UINT32, 320),
        ("tokenizer.ggml.model", STRING, "llama"), ("tokenizer.ggml.tokens", STRING, tokens),
        ("tokenizer.ggml.scores", FLOAT32, [0.0] * 259 + [-float(number) for number in range(1, 62)]),
        ("tokenizer.ggml.token_type", INT32, types), ("tokenizer.ggml.bos_token_id", UINT32, 1),
        ("tokenizer.ggml.eos_token_id", UINT32, 2), ("tokenizer.ggml.unknown_token_id", UINT32, 0),
        ("tokenizer.ggml.add_bos_token", BOOL, True), ("tokenizer.ggml.add_eos_token", BOOL, False)]
    tensors = [("token_embd.weight", (WIDTH, 320)), ("output_norm.weight", (WIDTH,)), ("output.weight", (WIDTH, 320))]
    for block in range(BLOCKS):
        tensors += _block(block, ("attn_norm", "ffn_norm"), ("attn_q", "attn_k", "attn_v", "attn_output"), ("ffn_gate", "ffn_up", "ffn_down"))
    return file(values, tensors, seed, kind)


def bert(seed):
    """An embedding model of about 106,000 parameters: bytes of a GGUF file."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + ["▁" + letter for letter in letters + ".,!?"] + list(letters)
    tokens += ["▁the", "▁sky", "▁is", "▁blue", "▁hello", "▁world"]
    values = _common("bert", "tiny-embed", 512, "F16") + [
        ("bert.attention.layer_norm_epsilon", FLOAT32, 1e-12), ("bert.attention.causal", BOOL, False), ("bert.pooling_type", UINT32, 1),
        ("tokenizer.ggml.token_type_count", UINT32, 2), ("tokenizer.ggml.model", STRING, "bert"),
        ("tokenizer.ggml.tokens", STRING, tokens), ("tokenizer.ggml.token_type", INT32, [CONTROL] * 5 + [NORMAL] * (len(tokens) - 5)),
        ("tokenizer.ggml.scores", FLOAT32, [0.0] * len(tokens))]
    values += [("tokenizer.ggml.%s_token_id" % word, UINT32, number)
               for word, number in (("bos", 2), ("eos", 3), ("unknown", 1), ("seperator", 3), ("padding", 0), ("mask", 4), ("cls", 2))]
    tensors = [("token_embd.weight", (WIDTH, len(tokens))), ("position_embd.weight", (WIDTH, 512)), ("token_types.weight", (WIDTH, 2)),
               ("token_embd_norm.weight", (WIDTH,)), ("token_embd_norm.bias", (WIDTH,))]
    for block in range(BLOCKS):
        tensors += _block(block, ("attn_output_norm", "layer_output_norm"), ("attn_q", "attn_k", "attn_v", "attn_output"),
                          ("ffn_up", "ffn_down"), biases=True)
    return file(values, tensors, seed, "F16")


def _common(architecture, name, context, kind):
    numbers = (("context_length", context), ("embedding_length", WIDTH), ("block_count", BLOCKS), ("feed_forward_length", FEED_FORWARD),
               ("attention.head_count", HEADS))
    return [("general.architecture", STRING, architecture), ("general.name", STRING, name),
            ("general.file_type", UINT32, 1 if kind == "F16" else 0)] \
        + [("%s.%s" % (architecture, key), UINT32, number) for key, number in numbers]


def _block(number, norms, attention, feed_forward, biases=False):
    prefix = "blk.%d." % number
    found = [(prefix + name + ".weight", (WIDTH,)) for name in norms] + [(prefix + name + ".weight", (WIDTH, WIDTH)) for name in attention]
    found += [(prefix + name + ".weight", (FEED_FORWARD, WIDTH) if name == "ffn_down" else (WIDTH, FEED_FORWARD)) for name in feed_forward]
    if biases:
        found += [(prefix + name + ".bias", (FEED_FORWARD if name == "ffn_up" else WIDTH,)) for name in (*norms, *attention, *feed_forward)]
    return found


def file(values, tensors, seed, kind):
    chance = random.Random(seed)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(_pair(*value) for value in values)
    data = b""
    for name, shape in tensors:
        full = kind == "F32" or len(shape) == 1 or name == "token_types.weight"
        head += _text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", size) for size in shape)
        head += struct.pack("<IQ", F32 if full else F16, len(data))
        data += _padded(_numbers(chance, name, shape, "f" if full else "e"))
    return _padded(head) + data


def _numbers(chance, name, shape, form):
    if len(shape) == 1:
        return struct.pack("<%d%s" % (shape[0], form), *[0.0 if name.endswith("bias") else 1.0] * shape[0])
    count = shape[0] * shape[1]
    return struct.pack("<%d%s" % (count, form), *[chance.gauss(0, 0.125) for _ in range(count)])


def _pair(key, kind, value):
    if isinstance(value, list):
        return _text(key) + struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(_value(kind, one) for one in value)
    return _text(key) + struct.pack("<I", kind) + _value(kind, value)


def _value(kind, value):
    if kind == STRING:
        return _text(value)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], value)


def _text(text):
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _padded(content):
    return content + bytes(-len(content) % ALIGNMENT)
