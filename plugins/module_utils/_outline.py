# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A YAML file's outline: its lines and keys, every value made unreadable. Internal to this collection. Pure.

Compose files hold passwords, and their text must not leave the host. Where a file is broken, the controller, which has a
YAML parser, needs its shape to tell line and column.
"""

from __future__ import annotations

import re

_KEY = re.compile(r"([ \t]*(?:-[ \t]+)*[\w./<-]+[ \t]*:)(?=[ \t\r\n]|$)")
# Names of anchors and aliases are part of the shape: at the start of a value, alone on a line, or in a list of nothing else.
_NAMES = re.compile(r"[ \t]*(?:&[\w-]+(?=[ \t\r\n]|$)|\[?[ \t]*\*[\w-]+(?:[ \t]*,[ \t]*\*[\w-]+)*[ \t]*\]?,?[ \t]*(?=#|\r?\n?$))")
_WORD = re.compile(r"(?<!\\)\w")


def outline(text):
    """The text (str) with each letter and digit of a value as `x`; as many lines and columns as before."""
    return "".join(_line(line) for line in text.splitlines(True))


def _line(line):
    key = _KEY.match(line)
    start = key.end() if key else 0
    names = _NAMES.match(line, start)
    start = names.end() if names else start
    return line[:start] + _WORD.sub("x", line[start:])
