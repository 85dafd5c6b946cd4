# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacks zstd by the library that dpkg, rpm and systemd bring along. Internal to this collection.

A host without internet cannot install the command zstd; libzstd.so.1 is there all the same.
"""

from __future__ import annotations

import ctypes

_LIBRARY = "libzstd.so.1"


class Damaged(Exception):
    """The data is no zstd, or ends too early."""


class _Buffer(ctypes.Structure):
    # ZSTD_inBuffer and ZSTD_outBuffer of zstd.h: the same three fields.
    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t)]


def available():
    """Whether this host has the library."""
    return _load() is not None


def unpack(source, target):
    """Read packed bytes from `source` and write what they hold to `target`, both open binary files. Raises Damaged, OSError."""
    zstd = _load()
    if zstd is None:
        raise OSError("There is no %s on this host" % _LIBRARY)
    out = ctypes.create_string_buffer(zstd.ZSTD_DStreamOutSize())
    stream = zstd.ZSTD_createDStream()
    left = 0
    try:
        for packed in iter(lambda: source.read(zstd.ZSTD_DStreamInSize() * 8), b""):
            inside = _Buffer(ctypes.cast(ctypes.c_char_p(packed), ctypes.c_void_p), len(packed), 0)
            full = False
            while inside.pos < inside.size or full:
                outside = _Buffer(ctypes.cast(out, ctypes.c_void_p), len(out), 0)
                left = zstd.ZSTD_decompressStream(stream, ctypes.byref(outside), ctypes.byref(inside))
                if zstd.ZSTD_isError(left):
                    raise Damaged(zstd.ZSTD_getErrorName(left).decode())
                target.write(out.raw[:outside.pos])
                # A full buffer may leave something behind even when all input is taken; 0 is the end of a frame.
                full = outside.pos == outside.size and left > 0
    finally:
        zstd.ZSTD_freeDStream(ctypes.c_void_p(stream))
    if left:
        raise Damaged("the data ends too early")


def _load():
    try:
        zstd = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    for name, result, arguments in (
            ("ZSTD_DStreamInSize", size, []), ("ZSTD_DStreamOutSize", size, []), ("ZSTD_createDStream", pointer, []),
            ("ZSTD_freeDStream", size, [pointer]), ("ZSTD_decompressStream", size, [pointer, pointer, pointer]),
            ("ZSTD_isError", ctypes.c_uint, [size]), ("ZSTD_getErrorName", ctypes.c_char_p, [size])):
        function = getattr(zstd, name)
        function.restype, function.argtypes = result, arguments
    return zstd
