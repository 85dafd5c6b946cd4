# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes YAML of a compose file without a YAML library: managed hosts need none. Internal to this collection."""

from __future__ import annotations

import json
import re

# Words that YAML 1.1 reads as something else than text are quoted, and so is all that is not plainly a word.
_PLAIN = re.compile(r"(?!(?:true|false|yes|no|on|off|null|y|n)\Z)[A-Za-z/][A-Za-z0-9_./-]*\Z", re.IGNORECASE)
# JSON leaves these as they are, YAML readers refuse or fold them.
_UNPRINTABLE = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def emit(node, indent=0):
    """Maps, lists, texts, numbers and booleans as YAML in block style, in the order given."""
    pad = "  " * indent
    lines = []
    if isinstance(node, dict):
        for key, value in node.items():
            lines += _entry("%s%s:" % (pad, _scalar(key)), value, indent)
    else:
        for value in node:
            if isinstance(value, dict) and value:
                inner = emit(value, indent + 1)
                lines.append("%s- %s" % (pad, inner[len(pad) + 2:].rstrip("\n")))
            else:
                lines.append("%s- %s" % (pad, _scalar(value)))
    return "\n".join(lines) + "\n"


def doubled(text):
    """A text that compose shall not take for a variable reference."""
    return text.replace("$", "$$")


def _entry(head, value, indent):
    if isinstance(value, (dict, list)) and value:
        return [head, emit(value, indent + 1).rstrip("\n")]
    return ["%s %s" % (head, _scalar(value))]


def _scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (dict, list)):
        return "{}" if isinstance(value, dict) else "[]"
    if _PLAIN.match(value):
        return value
    return _UNPRINTABLE.sub(lambda found: "\\u%04x" % ord(found.group()), json.dumps(value, ensure_ascii=False))
