# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files make up a compose project, where our own belongs, and how compose is led to it. Internal to this collection. Pure.

Compose merges one override file by itself, as long as the operator names no files. That place is ours where it is free.
Where the operator has an override of his own, or a COMPOSE_FILE, ours has another name and is listed in COMPOSE_FILE in
the project's .env, so that a plain `docker compose up -d` finds it too.
"""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import DEFAULT_FILES

# In compose's own order; the first that exists is merged, whatever the main file is called (tried with 2.26.1).
OVERRIDE_FILES = ("compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml")
FREE_PLACE = "docker-compose.override.yml"
OWN_PLACE = "docker-compose.localmodels.yml"

MARK = "# Added by Ansible (localmodels.fastgpt) so that docker compose merges %s too" % OWN_PLACE
# A file whose last line has no end is to have none again.
NO_END = " (the line above had no end)"
_LINE = re.compile(r"(?m)^([ \t]*(?:export[ \t]+)?COMPOSE_FILE[ \t]*=[ \t]*)([\"']?)([^\"'\r\n#]*?)(\2[ \t]*(?:#[^\r\n]*)?\r?)$")


class Layout:
    """The files of a project.

    base: list of str, the operator's files. place: name (str) of our file in the project's folder. joined: whether
    compose merges our file once it is there. left_over: list of str, files of ours that compose no longer reads.
    """

    def __init__(self, base, place, joined, left_over=()):
        self.base = list(base)
        self.place = place
        self.joined = joined
        self.left_over = list(left_over)


def layout(names, listed, ours):
    """Layout of a project.

    names: collection of the file names in the folder. listed: list of str from COMPOSE_FILE, empty where it is not set.
    ours: those of `names` that we wrote and nobody edited since.
    """
    if listed:
        base = [name for name in listed if name != OWN_PLACE and not (name == FREE_PLACE and name in ours)]
        place = FREE_PLACE if FREE_PLACE in listed and FREE_PLACE not in base else OWN_PLACE
        return Layout(base, place, place in listed, [name for name in ours if name != place])
    main = next((name for name in DEFAULT_FILES if name in names), DEFAULT_FILES[0])
    override = next((name for name in OVERRIDE_FILES if name in names), None)
    if override is None or (override == FREE_PLACE and override in ours):
        return Layout([main], FREE_PLACE, True, [name for name in ours if name != FREE_PLACE])
    return Layout([main, override], OWN_PLACE, False, [name for name in ours if name != OWN_PLACE])


def joined_dotenv(text, base, separator=":"):
    """The text (str) of .env with our file in COMPOSE_FILE; every other character stays. base: Layout.base."""
    lines = list(_LINE.finditer(text))
    if lines:
        last = lines[-1]
        value = separator.join([last.group(3).rstrip(separator), OWN_PLACE]) if last.group(3) else separator.join(base + [OWN_PLACE])
        return text[:last.start(3)] + value + text[last.end(3):]
    newline = "\r\n" if text.endswith("\r\n") else "\n"
    gap, mark = ("", MARK) if not text or text.endswith("\n") else (newline, MARK + NO_END)
    return text + gap + mark + newline + "COMPOSE_FILE=" + separator.join(list(base) + [OWN_PLACE]) + newline


def parted_dotenv(text, separator=":"):
    """The text (str) of .env without our file in COMPOSE_FILE, and without the line where we added it."""
    text = re.sub(r"\r?\n%s\r?\nCOMPOSE_FILE=[^\r\n]*\r?\n?\Z" % re.escape(MARK + NO_END), "", text)
    text = re.sub(r"(?m)^%s(?:%s)?\r?\nCOMPOSE_FILE=[^\r\n]*\r?\n?" % (re.escape(MARK), re.escape(NO_END)), "", text)
    lines = list(_LINE.finditer(text))
    if not lines:
        return text
    last = lines[-1]
    kept = [name for name in last.group(3).split(separator) if name.strip() != OWN_PLACE]
    return text[:last.start(3)] + separator.join(kept) + text[last.end(3):]


def masked_dotenv(text):
    """The text (str) of .env without what it keeps secret: names, our own lines and what steers compose itself stay.

    A value may go over several lines, whose beginnings look like names.
    """
    lines, quote = [], ""
    for line in text.split("\n"):
        head = re.match(r"[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=[ \t]*", line) if not quote else None
        value = line[head.end():] if head else line
        if not quote and (line.startswith(MARK) or head and head.group(1).startswith("COMPOSE_")):
            lines.append(line)
            continue
        lines.append((head.group() if head else "") + re.sub(r"\w", "x", value))
        if quote:
            quote = "" if quote in value else quote
        elif head and value[:1] in ("'", '"') and value[:1] not in value[1:]:
            quote = value[:1]
    return "\n".join(lines)
