# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Go writes things that reach a client: JSON errors, durations, numbers, quoted texts, errors of the system."""

from __future__ import annotations

import errno
import json
import re

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
FOREVER = 9223372036.854775807  # seconds of the longest time.Duration, what a negative keep_alive means
WORDS = {"n": "null", "t": "true", "f": "false"}
ENDED = "unexpected EOF"


class Refusal(Exception):
    """An answer with an error: HTTP status and the text of its "error"."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status, self.text = status, text


def decode(text, ended=ENDED):
    """The first JSON value of a text. Raises ValueError with the message of encoding/json."""
    stripped = text.lstrip(" \t\r\n")
    try:
        return json.JSONDecoder().raw_decode(stripped)[0]
    except json.JSONDecodeError as problem:
        raise ValueError(_explain(stripped, problem, ended)) from problem


def _explain(text, problem, ended):
    position = problem.pos
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    if position >= len(text):
        return ended
    char = text[position]
    if problem.msg.startswith("Expecting property name"):
        return "invalid character %s looking for beginning of object key string" % _char(char)
    if problem.msg.startswith("Expecting ':'"):
        return "invalid character %s after object key" % _char(char)
    if problem.msg.startswith("Expecting ','"):
        inside = "array element" if text[:position].count("[") > text[:position].count("]") else "object key:value pair"
        return "invalid character %s after %s" % (_char(char), inside)
    for expected, wrong in zip(WORDS.get(char, ""), text[position:]):
        if expected != wrong:
            return "invalid character %s in literal %s (expecting %s)" % (_char(wrong), WORDS[char], _char(expected))
    return "invalid character %s looking for beginning of value" % _char(char)


def _char(char):
    return "'\\''" if char == "'" else "'%s'" % char


def bind(raw, struct, fields):
    """The object in a request body. fields: key -> Go type (string, bool, map, slice); raises Refusal(400)."""
    text = raw.decode("utf-8", "replace")
    if not text.strip():
        raise Refusal(400, "missing request body")
    try:
        found = decode(text)
    except ValueError as problem:
        raise Refusal(400, str(problem)) from problem
    if not isinstance(found, dict):
        raise Refusal(400, "json: cannot unmarshal %s into Go value of type api.%s" % (_json_kind(found), struct))
    for key, go_type in fields.items():
        if found.get(key) is not None and _json_kind(found[key]) != GO_TYPES[go_type]:
            raise Refusal(400, "json: cannot unmarshal %s into Go struct field %s.%s of type %s"
                          % (_json_kind(found[key]), struct, key, go_type))
    return found


GO_TYPES = {"string": "string", "bool": "bool", "map[string]interface {}": "object", "map[string]string": "object",
            "[]api.Message": "array"}


def _json_kind(value):
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return {str: "string", list: "array", dict: "object"}.get(type(value), "null")


def seconds(value):
    """A keep_alive, as number of seconds or Go duration, in seconds; raises Refusal(400)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Refusal(400, "Unsupported type: '%s'" % {bool: "bool", list: "[]interface {}"}.get(type(value), "map"))
    if isinstance(value, str):
        return _duration(value)
    return FOREVER if value < 0 else float(value)


def _duration(text):
    rest = text.lstrip("+-")
    if rest == "0":
        return 0.0
    total, matched = 0.0, ""
    for number, unit in re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)", rest):
        total, matched = total + float(number) * UNITS[unit], matched + number + unit
    if matched != rest or not rest:
        what = "missing unit in duration" if re.fullmatch(r"[\d.]+", rest) else "invalid duration"
        raise Refusal(400, "time: %s %s" % (what, quoted(text)))
    return FOREVER if text.startswith("-") else total


def quoted(text):
    """%q"""
    return json.dumps(text, ensure_ascii=False)


def plain(value):
    """%v of a decoded JSON value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _number(value, 21) if isinstance(value, (int, float)) else str(value)


def precise(value):
    """%#v of a decoded JSON value."""
    if isinstance(value, str):
        return quoted(value)
    return plain(value) if isinstance(value, bool) else _number(value, 6)


def _number(value, exponent_from):
    value = float(value)
    digits = repr(value)
    if value == int(value) and abs(value) < 10 ** exponent_from:
        return str(int(value))
    if value == int(value):
        mantissa, _e, power = ("%e" % value).partition("e")
        return "%se%s" % (mantissa.rstrip("0").rstrip("."), power)
    return digits


def marshal(value):
    """Compact JSON as encoding/json writes it: keys of maps are the caller's affair, HTML characters are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def human_number(count):
    """A number of parameters, such as 494.03M."""
    for size, letter, digits in ((10 ** 9, "B", 1), (10 ** 6, "M", 2)):
        if count >= size:
            return "%.*f%s" % (0 if count % size == 0 else digits, count / size, letter)
    return "%.0fK" % (count / 1000) if count >= 1000 else str(count)


def human_bytes(size):
    """A number of bytes, such as 398 MB."""
    for unit, name in ((10 ** 12, "TB"), (10 ** 9, "GB"), (10 ** 6, "MB"), (10 ** 3, "KB")):
        if size >= unit:
            value = size / unit
            return "%.1f %s" % (value, name) if value < 10 and value != int(value) else "%d %s" % (value, name)
    return "%d B" % size


SAID = {errno.ENOENT: "no such file or directory", errno.EACCES: "permission denied", errno.EPERM: "operation not permitted",
        errno.ENOTDIR: "not a directory", errno.ENOSPC: "no space left on device", errno.EEXIST: "file exists",
        errno.EROFS: "read-only file system", errno.EISDIR: "is a directory"}


def os_error(problem, verb="open"):
    """An OSError as Go tells it: verb path: reason."""
    if problem.errno == errno.ENOSPC:
        verb = "write"
    return "%s %s: %s" % (verb, problem.filename, SAID.get(problem.errno, (problem.strerror or "").lower()))
