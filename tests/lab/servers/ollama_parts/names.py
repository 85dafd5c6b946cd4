# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Model names: [host/][namespace/]model[:tag], their defaults, their short form, :local and :cloud."""

from __future__ import annotations

import collections
import re

DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"
PARTS = {"host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"), "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
         "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"), "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")}


class Name(collections.namedtuple("Name", "host namespace model tag")):
    """A full name. valid: does each part follow the grammar?"""

    @property
    def valid(self):
        return all(PARTS[part].fullmatch(value) for part, value in zip(self._fields, self))

    @property
    def full(self):
        return "%s/%s/%s:%s" % self

    @property
    def short(self):
        """How /api/tags calls it."""
        if self.host != DEFAULT_HOST:
            return self.full
        if self.namespace != DEFAULT_NAMESPACE:
            return "%s/%s:%s" % self[1:]
        return "%s:%s" % self[2:]


def parse(text):
    """The Name that a text means; look at .valid."""
    _scheme, mark, rest = text.partition("://")
    rest = rest if mark else text
    before, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        before, tag = rest, DEFAULT_TAG
    parts = before.rsplit("/", 2)
    defaults = [DEFAULT_HOST, DEFAULT_NAMESPACE]
    return Name(*(defaults[:3 - len(parts)] + parts), tag)


def reference(text):
    """(Name, source) of what a request asks for; source is "", "local" or "cloud"."""
    text = text.strip()
    if text.endswith(":local"):
        return parse(text[:-len(":local")]), "local"
    name = parse(text)
    if name.tag == "cloud" or name.tag.endswith("-cloud"):
        return name, "cloud"
    return name, ""
