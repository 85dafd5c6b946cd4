# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes lines of an operator's compose file so that they can be taken back to the byte. Internal to this collection. Pure.

A line that changes is kept above the new one, as a comment; every line of ours ends in a mark with a checksum:

    #localmodels.fastgpt was:      - AIPROXY_API_TOKEN=aiproxy
      - AIPROXY_API_TOKEN=  # localmodels.fastgpt:1b2c3d

reverted() needs nothing but the text. An edited line of ours no longer fits its checksum and is nobody's to take back.

Edits are lists, so that they can travel as JSON:
    ["replace", line, [[start, end, text], ...]]   columns [start, end) of a line become text; ascending, no overlap
    ["insert", line, [text, ...]]                  whole lines after a line; -1: before the first
Lines and columns count from 0 and in characters.
"""

from __future__ import annotations

import hashlib
import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

BOM = "\ufeff"
WAS = "#localmodels.fastgpt was:"
_WAS = re.compile(r"^[ \t]*%s(.*)$" % re.escape(WAS))
_OURS = re.compile(r"^(.*?)  # localmodels\.fastgpt:([0-9a-f]{6})$")
_MENTION = re.compile(r"#\s?localmodels\.fastgpt(?::| was:)")

_KEEPER = r"(?:puppet|chef|salt|saltstack|terraform|portainer|ansible|helm|coolify|dokploy|1panel|nixos|cloud-init|kubernetes)"
# What generators write above their files, in the languages seen.
_MANAGED = re.compile(
    r"ansible managed|\bmanaged by\b|do(?:es)? not (?:edit|modify|change)|don'?t (?:edit|modify|change)"
    r"|\b(?:auto-?|automatically )generated|\b(?:generated|created|rendered|written) (?:by|from|with) (?:%s|\S*template)"
    r"|changes (?:will|would) be (?:lost|overwritten)|will be overwritten"
    r"|自动生成|请勿(?:手动)?(?:修改|编辑|改动)|不要(?:手动)?(?:修改|编辑)(?:此|本|该)文件|(?:此|本|该)文件由" % _KEEPER, re.IGNORECASE)


class CannotEdit(LocalModelsError):
    """A file is not safe to edit. line, column: int from 1, where in the file; None where there is no one place.

    `path` (str or None) is the file's; str() starts with path:line:column as far as they are known.
    """

    def __init__(self, what, mend="", line=None, column=None, path=None):
        self.line, self.column, self.path = line, column, path
        super().__init__(what, mend)

    def __str__(self):
        place = [str(part) for part in (self.path, self.line, self.column) if part is not None]
        return "%s: %s" % (":".join(place), super().__str__()) if place else super().__str__()


def reverted(text):
    """The operator's own text (str): without our lines, with those that we replaced. Raises CannotEdit."""
    if not _MENTION.search(text):
        return text
    lines, kept, open_since = split(text), [], None
    for number, (line, end) in enumerate(lines):
        was, ours = _WAS.match(line), _OURS.match(line)
        if was:
            _refuse_lone(open_since)
            kept.append((was.group(1), end))
            open_since = number
        elif ours:
            if _checksum(ours.group(1)) != ours.group(2):
                raise CannotEdit("This line was written by this role and edited since",
                                 "Take it back by hand: delete it, and keep the line that stands in the comment above it, if any",
                                 number + 1, 1)
            open_since = None
        else:
            _refuse_lone(open_since)
            open_since = None
            kept.append((line, end))
    _refuse_lone(open_since)
    return _joined(kept, text)


def carried_out(text, edits):
    """The text (str) with edits, each of its lines marked. reverted() of it is `text`."""
    lines = split(text)
    replaced = {edit[1]: edit[2] for edit in edits if edit[0] == "replace"}
    inserted = {}
    for edit in edits:
        if edit[0] == "insert":
            inserted.setdefault(edit[1], []).extend(edit[2])
    newline = next((end for dummy, end in lines if end), "\n")
    result = [(_marked(new), newline) for new in inserted.get(-1, ())]
    for number, (line, end) in enumerate(lines):
        if number in replaced:
            indent = line[:len(line) - len(line.lstrip(" \t"))]
            result += [(indent + WAS + line, end), (_marked(_spliced(line, replaced[number])), end)]
        else:
            result.append((line, end))
        result += [(_marked(new), end) for new in inserted.get(number, ())]
    return _joined(result, text, newline)


def managed_by(text):
    """(line from 1, what it says) of the comment that names another keeper of this file, or None.

    Only the comments above the first key count: further down people quote all sorts of things.
    """
    for number, (line, dummy) in enumerate(split(text)):
        bare = line.strip()
        if bare and not bare.startswith(("#", "---", "%")):
            return None
        if _MANAGED.search(bare):
            return number + 1, " ".join(bare.lstrip("# ").split())[:120]
    return None


def _refuse_lone(number):
    if number is not None:
        raise CannotEdit("The line that belongs below this comment of this role is gone",
                         "Take the change back by hand: put the line that stands in this comment in its place", number + 1, 1)


def _spliced(line, spans):
    for start, end, new in sorted(spans, reverse=True):
        line = line[:start] + new + line[end:]
    return line


def _marked(line):
    line = line.rstrip(" \t")
    return "%s  # localmodels.fastgpt:%s" % (line, _checksum(line))


def _checksum(line):
    return hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()[:6]


def split(text):
    """[(line, its end)] of a text without its byte order mark. Only \\n and \\r\\n end a line here."""
    parts = text[1:].split("\n") if text.startswith(BOM) else text.split("\n")
    lines = [(part[:-1], "\r\n") if part.endswith("\r") else (part, "\n") for part in parts[:-1]]
    return lines + [(parts[-1], "")] if parts[-1] else lines


def _joined(lines, text, newline="\n"):
    """The lines as a text that begins and ends like the former one: with or without a byte order mark, a last newline.

    Where the former text ended without a newline, its last line was ours or is kept: nobody else's newline is lost.
    """
    inner = [line + (end or newline) for line, end in lines]
    if inner and not text.endswith("\n"):
        inner[-1] = lines[-1][0]
    return (BOM if text.startswith(BOM) else "") + "".join(inner)
