# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How one entry is written in each style of YAML: in a block or in brackets, as an item or with a key. Internal to this collection. Pure."""

from __future__ import annotations

import json
import re

# Texts that every reader of YAML takes for that text, without quotes, outside of brackets.
_PLAIN = re.compile(r"^(?!(?:true|false|yes|no|on|off|null|y|n)\Z)[A-Za-z/_][\w./:@,=+*-]*(?<!:)\Z", re.IGNORECASE | re.ASCII)
_UNPRINTABLE = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def scalar(value, style=None, flow=False):
    """A text as YAML. style: the quotes (str) that stood there before, or None; flow: whether it stands in brackets."""
    if style == "'" and value.isprintable():
        return "'%s'" % value.replace("'", "''")
    if style is None and not flow and _PLAIN.match(value):
        return value
    return _UNPRINTABLE.sub(lambda found: "\\u%04x" % ord(found.group()), json.dumps(value, ensure_ascii=False))


class _Entry:
    """name: str. item(): the entry as one text."""

    separators = ""

    def __init__(self, name, value=""):
        self.name = name
        self.value = value

    def item(self):
        return self.name

    def block_item(self):
        return scalar(self.item())

    def flow_item(self):
        return scalar(self.item(), flow=True)


class Variable(_Entry):
    """An environment variable."""

    separators = "="

    def item(self):
        return "%s=%s" % (self.name, self.value)

    def block_map(self):
        return "%s: %s" % (self.name, scalar(self.value))

    def flow_map(self):
        return '"%s": %s' % (self.name, scalar(self.value, flow=True))


class Network(_Entry):
    """A network that a service is in."""

    def block_map(self):
        return "%s:" % scalar(self.name)

    def flow_map(self):
        return "%s: null" % scalar(self.name, flow=True)


class Host(_Entry):
    """A name that a service's container knows."""

    separators = "=:"

    def item(self):
        return "%s:%s" % (self.name, self.value)

    def block_item(self):
        return scalar(self.item(), style='"')

    def block_map(self):
        return "%s: %s" % (scalar(self.name), scalar(self.value))

    def flow_map(self):
        return "%s: %s" % (scalar(self.name, flow=True), scalar(self.value, flow=True))


class Declared(_Entry):
    """A network that somebody else makes."""

    def block_map(self):
        return "%s: {name: %s, external: true}" % (scalar(self.name), scalar(self.value, flow=True))

    def flow_map(self):
        return '%s: {"name": %s, "external": true}' % (scalar(self.name, flow=True), scalar(self.value, flow=True))
