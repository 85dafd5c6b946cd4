# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a compose file so that each part of it has a place in the text and a meaning. Internal to this collection. Pure.

PyYAML's nodes know their places; its loaders forget them, and comments and anchors too.
"""

from __future__ import annotations

import bisect

import yaml

from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import BOM, CannotEdit

MERGE = "tag:yaml.org,2002:merge"
NULL = "tag:yaml.org,2002:null"
MEND_YAML = "Put it right until `docker compose config -q` says nothing"
_DEEP = 60  # nothing in a compose file is nested that deep; an anchor inside of itself is


class Alias:
    """`*name` where it stands: start, end are offsets into the text; target is the node meant."""

    def __init__(self, name, target, start, end):
        self.name, self.target, self.start, self.end = name, target, start, end


class _Loader(yaml.SafeLoader):
    """Keeps an alias apart from what it stands for."""

    def compose_node(self, parent, index):
        if not self.check_event(yaml.AliasEvent):
            return super().compose_node(parent, index)
        event = self.peek_event()
        target = super().compose_node(parent, index)
        return Alias(event.anchor, target, event.start_mark.index, event.end_mark.index)


class Source:
    """One compose file: text (str, without byte order mark), its root node, and where its lines begin. Raises CannotEdit."""

    def __init__(self, text):
        self.text = text[1:] if text.startswith(BOM) else text
        self._starts = [0] + [place + 1 for place, letter in enumerate(self.text) if letter == "\n"]
        self._refuse_odd_breaks()
        self.root = self._parse()
        self._refuse_twins(self.root, set())
        if not isinstance(self.root, yaml.MappingNode):
            raise CannotEdit("This file is no compose file: it is %s" % ("empty" if self.root is None else "no mapping of keys"),
                             "Name the folder of FastGPT's compose file", 1, 1)

    def at(self, offset):
        """(line, column) of an offset, both from 0."""
        line = bisect.bisect_right(self._starts, offset) - 1
        return line, offset - self._starts[line]

    def line_text(self, number):
        """The text of a line without its end."""
        end = self._starts[number + 1] - 1 if number + 1 < len(self._starts) else len(self.text)
        return self.text[self._starts[number]:end].rstrip("\r")

    def refusal(self, offset, what, mend):
        """CannotEdit at an offset."""
        line, column = self.at(offset)
        return CannotEdit(what, mend, line + 1, column + 1)

    def place_of(self, *keys):
        """(line, column), both from 1, of the last of nested keys that exists."""
        node, offset = self.root, 0
        for key in keys:
            pair = direct(node).get(key) if isinstance(target(node), yaml.MappingNode) else None
            if pair is None:
                break
            offset, node = pair[0].start_mark.index, pair[1]
        line, column = self.at(offset)
        return line + 1, column + 1

    def meaning(self):
        """What the file says, merge keys applied, in one spelling."""
        whole = plain(self.root)
        services = whole.get("services")
        for spec in services.values() if isinstance(services, dict) else ():
            if isinstance(spec, dict):
                spec["environment"] = _as_map(spec.get("environment"), "=")
                spec["extra_hosts"] = _as_map(spec.get("extra_hosts"), "=:")
                spec["networks"] = _as_map(spec.get("networks"), "")
        whole["networks"] = _as_map(whole.get("networks"), "")
        return whole

    def _parse(self):
        # PyYAML takes no tab between a value and a comment where other readers do; a space is as wide.
        try:
            return _Loader(self.text.replace("\t", " ")).get_single_node()
        except yaml.composer.ComposerError as problem:
            mark = problem.problem_mark or problem.context_mark
            what = "This is no YAML that can be read: %s" % problem.problem
            mend = MEND_YAML
            if "single document" in str(problem.context):
                what, mend = "This file holds more than one document", "Put each into a file of its own, or use the strategy override"
            raise self.refusal(mark.index, what, mend) from problem
        except yaml.MarkedYAMLError as problem:
            mark = problem.problem_mark or problem.context_mark
            raise self.refusal(mark.index, "This is no YAML that can be read: %s" % problem.problem, MEND_YAML) from problem
        except yaml.reader.ReaderError as problem:
            raise self.refusal(problem.position, "A character that YAML does not allow (U+%04X)" % problem.character, MEND_YAML) from problem
        except (yaml.YAMLError, RecursionError, ValueError) as problem:
            said = str(problem).split("\n", maxsplit=1)[0] or "nested too deep"
            raise CannotEdit("This is no YAML that can be read: %s" % said, MEND_YAML, 1, 1) from problem

    def _refuse_odd_breaks(self):
        """Readers of YAML do not agree on where a line ends at these."""
        for letter in ("\x85", "\u2028", "\u2029", "\x00"):
            if letter in self.text:
                raise self.refusal(self.text.index(letter), "A line break (U+%04X) that not every reader of YAML takes for one" % ord(letter),
                                   "Replace it, or use the strategy override")
        place = self.text.replace("\r\n", "  ").find("\r")
        if place >= 0:
            raise self.refusal(place, "A carriage return that ends no line", "Replace it, or use the strategy override")

    def _refuse_twins(self, node, seen):
        if isinstance(node, Alias) or id(node) in seen or not isinstance(node, yaml.CollectionNode):
            return
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for one in node.value:
                self._refuse_twins(one, seen)
            return
        names = {}
        for key, value in node.value:
            if isinstance(key, yaml.CollectionNode):
                raise self.refusal(key.start_mark.index, "A key that is no text", MEND_YAML)
            name = target(key).value
            if name in names:
                raise self.refusal(key.start if isinstance(key, Alias) else key.start_mark.index,
                                   "The key %s stands here a second time (first in line %d)" % (name, names[name]),
                                   "Keep the one that is meant and delete the other")
            names[name] = self.at(key.start if isinstance(key, Alias) else key.start_mark.index)[0] + 1
            if target(key).tag == MERGE:
                self._refuse_bad_merge(key, value)
            self._refuse_twins(value, seen)

    def _refuse_bad_merge(self, key, value):
        merged = target(value)
        parts = merged.value if isinstance(merged, yaml.SequenceNode) else [merged]
        if not all(isinstance(target(part), yaml.MappingNode) for part in parts):
            raise self.refusal(key.start_mark.index, "The merge key << takes up something that is no mapping",
                               "Let it name anchors of mappings only")


def target(node):
    """The node itself, or the one that an alias means."""
    return node.target if isinstance(node, Alias) else node


def direct(node):
    """{key: (key node, value)} of a mapping's own entries; value is a node or an Alias. No merge keys, no merged entries."""
    return {target(key).value: (key, value) for key, value in target(node).value if target(key).tag != MERGE}


def pairs(node, depth=0):
    """{key: (key node, value)} of a mapping, merged entries included: its own go first, then those merged earlier."""
    if depth > _DEEP:
        raise CannotEdit("An anchor stands for something that holds itself", "Write it without that anchor", 1, 1)
    found = direct(node)
    for key, value in target(node).value:
        if target(key).tag == MERGE:
            merged = target(value)
            for part in merged.value if isinstance(merged, yaml.SequenceNode) else [merged]:
                for name, pair in pairs(part, depth + 1).items():
                    found.setdefault(name, pair)
    return found


def plain(node, depth=0):
    """What a node says: dict, list, text or None."""
    if depth > _DEEP:
        raise CannotEdit("An anchor stands for something that holds itself", "Write it without that anchor", 1, 1)
    node = target(node)
    if isinstance(node, yaml.MappingNode):
        return {key: plain(value, depth + 1) for key, (dummy, value) in pairs(node, depth).items()}
    if isinstance(node, yaml.SequenceNode):
        return [plain(one, depth + 1) for one in node.value]
    return None if node.tag == NULL else node.value


def entry_name(item, separators="="):
    """The name in an item `NAME=value` of a list."""
    places = [item.index(letter) for letter in separators if letter in item]
    return item[:min(places)] if places else item


def _as_map(value, separators):
    """A list in the spelling of a map, as compose reads it; the last of twins counts."""
    if value is None:
        return {}
    if not isinstance(value, list):
        return value
    found = {}
    for item in value:
        name = entry_name(item, separators) if isinstance(item, str) else str(item)
        found[name] = item[len(name) + 1:] if isinstance(item, str) and name != item else None
    return found
