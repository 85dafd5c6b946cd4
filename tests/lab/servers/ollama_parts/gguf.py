# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading GGUF files as far as /api/show and /api/tags tell about them, and adding a key as llama-quantize does."""

from __future__ import annotations

import functools
import os
import struct

MAGIC = b"GGUF"
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY, UINT32 = 8, 9, 4
FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
              12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16"}
TENSOR_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K",
                12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 30: "BF16"}


class NoGGUF(Exception):
    """The file is no GGUF; the text is Ollama's."""


class GGUF:
    """values: dict of metadata. tensors: list of {name, type, shape}. Offsets: where values, tensors and data begin."""

    def __init__(self, path):
        with open(path, "rb") as self._file:
            if self._file.read(4) != MAGIC:
                raise NoGGUF("invalid file magic")
            try:
                self._read()
            except (struct.error, KeyError, UnicodeDecodeError, MemoryError) as problem:
                raise NoGGUF("unexpected EOF") from problem

    def _read(self):
        self.version, tensors, pairs = self._one("<I"), self._one("<Q"), self._one("<Q")
        self.values = {}
        for _ in range(pairs):
            key = self._text()
            self.values[key] = self._value(self._one("<I"))
        self.tensors_at = self._file.tell()
        self.tensors = [self._tensor() for _ in range(tensors)]
        self.end = self._file.tell()
        self.count = sum(_product(tensor["shape"]) for tensor in self.tensors)

    def _one(self, form):
        return struct.unpack(form, self._file.read(struct.calcsize(form)))[0]

    def _text(self):
        length = self._one("<Q")
        if length > 1 << 24:
            raise KeyError(length)
        return self._file.read(length).decode("utf-8", "replace")

    def _value(self, kind):
        if kind == STRING:
            return self._text()
        if kind != ARRAY:
            return self._one(SCALARS[kind])
        of, length = self._one("<I"), self._one("<Q")
        if of in (STRING, ARRAY):
            return [self._value(of) for _ in range(length)]
        form = "<%d%s" % (length, SCALARS[of][1])
        return list(struct.unpack(form, self._file.read(struct.calcsize(form))))

    def _tensor(self):
        name = self._text()
        shape = [self._one("<Q") for _ in range(self._one("<I"))]
        kind = self._one("<I")
        self._one("<Q")
        return {"name": name, "type": TENSOR_TYPES.get(kind, "unknown"), "shape": shape}

    @property
    def architecture(self):
        return self.values.get("general.architecture", "unknown")

    def of_architecture(self, key, default=0):
        """The value of a key below the architecture's name, such as context_length."""
        return self.values.get("%s.%s" % (self.architecture, key), default)

    @property
    def file_type(self):
        return FILE_TYPES.get(self.values.get("general.file_type"), "unknown")

    @property
    def embeds(self):
        """Is it an embedding model? Ollama's test is the pooling type."""
        return self.of_architecture("pooling_type", None) is not None


def _product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result


def read(path):
    """The GGUF at a path, kept in memory while the file does not change. Raises NoGGUF, OSError."""
    found = os.stat(path)
    return _read(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=64)
def _read(path, _mtime, _size):
    return GGUF(path)


def rewritten(path, file_type=None):
    """The file's bytes with general.quantization_version added and, where given, another general.file_type (int)."""
    model = read(path)
    with open(path, "rb") as file:
        content = bytearray(file.read())
    alignment = model.values.get("general.alignment", 32)
    values, infos, data = content[24:model.tensors_at], content[model.tensors_at:model.end], content[aligned(model.end, alignment):]
    pairs = len(model.values)
    if "general.quantization_version" not in model.values:
        values += _pair("general.quantization_version", 2)
        pairs += 1
    if file_type is not None:
        at = values.find(_pair("general.file_type", 0)[:-4])
        values[at:at + len(_pair("general.file_type", 0))] = _pair("general.file_type", file_type)
    head = bytes(content[:8]) + struct.pack("<QQ", len(model.tensors), pairs) + bytes(values) + bytes(infos)
    return head.ljust(aligned(len(head), alignment), b"\0") + bytes(data)


def text(value):
    """A str as GGUF holds it."""
    raw = value.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _pair(key, number):
    return text(key) + struct.pack("<II", UINT32, number)


def aligned(size, alignment):
    return size + -size % alignment
