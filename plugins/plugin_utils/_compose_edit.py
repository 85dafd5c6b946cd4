# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intents -> edits of the operator's own compose file: only the lines that must change. Internal to this collection. Pure.

What cannot be proved right is refused: after planning, the text is read again, and its meaning must differ in the intents
and in nothing else.
"""

from __future__ import annotations

import re

import yaml

from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_intents import differences
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import CannotEdit, carried_out, managed_by, reverted
from ansible_collections.localmodels.fastgpt.plugins.module_utils._yaml_text import doubled
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit_entries import Declared, Host, Network, Variable, scalar
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit_read import (
    NULL,
    Alias,
    Source,
    direct,
    entry_name,
    pairs,
    plain,
    target,
)

USE_OVERRIDE = "Use the strategy override (fastgpt_compose_strategy), which leaves this file as it is"


def edited(text, intents, path=None):
    """The text (str) of a compose file as intents want it, whatever this role did to it before. Raises CannotEdit.

    path: str, the file's name for messages.
    """
    try:
        own = reverted(text)
        if intents:
            refuse_kept(managed_by(own))
        return carried_out(own, edits(own, intents))
    except CannotEdit as problem:
        problem.path = path
        raise


def refuse_kept(keeper):
    """Raise CannotEdit for a file that something else keeps. keeper: what managed_by() says, or None."""
    if keeper:
        raise CannotEdit("This file is kept by something else, which will write over any change here: %s" % keeper[1],
                         "Change it at its source, or use the strategy override", keeper[0], 1)


def edits(text, intents):
    """Edits (see _compose_edit_text) of an operator's own text that fulfil the intents and nothing else. Raises CannotEdit.

    Lines and columns are all that is taken from values, so that a text whose secrets are masked gives the same edits.
    """
    if not intents:
        return []
    source = Source(text)
    plan = _Plan(source)
    for one in intents:
        plan.add(one)
    found = plan.edits()
    _prove(source, intents, carried_out(text, found), text)
    return found


def _prove(source, intents, new, text):
    if reverted(new) != text:
        raise CannotEdit("The change could not be taken back to the byte", USE_OVERRIDE)
    try:
        after = Source(new).meaning()
    except CannotEdit as problem:
        raise CannotEdit("With the change this would be no valid file: %s" % problem.what, USE_OVERRIDE, problem.line, problem.column) from problem
    wrong = differences(_expected(source.meaning(), intents), after)
    if wrong:
        line, column = source.place_of(*next(iter(wrong)).split("."))
        raise CannotEdit("The change cannot be made here alone; it would also differ: %s" % ", ".join(sorted(wrong)[:4]), USE_OVERRIDE, line, column)


def _expected(meaning, intents):
    for one in intents:
        service = meaning["services"][one.service] if one.service else None
        if one.kind == "variable":
            service["environment"][one.name] = doubled(one.value)
        elif one.kind == "listed":
            service["environment"][one.name] = _completed(service["environment"], one)
        elif one.kind == "network":
            service["networks"].setdefault(one.name, None)
        elif one.kind == "host":
            service["extra_hosts"][one.name] = one.value
        else:
            meaning["networks"][one.name] = {"name": one.value, "external": "true"}
    return meaning


def _completed(said, intent):
    """The value of a list variable as the file must say it: as it stands there, `${VAR}` included, and longer."""
    if intent.name not in said:
        return doubled(intent.value)
    value = said[intent.name]
    return ("${%s}" % intent.name if value is None else value) + intent.added


class _Plan:
    """Collects spans to replace and lines to insert."""

    def __init__(self, source):
        self.source = source
        self._spans = {}
        self._lines = {}
        self._pending = {}
        services = direct(source.root).get("services")
        if services is None or not isinstance(target(services[1]), yaml.MappingNode):
            raise CannotEdit("No services are written in this file", USE_OVERRIDE, *source.place_of("services"))
        self._services = direct(services[1])
        self._services_key = services[0]

    def add(self, intent):
        if intent.kind == "declared":
            self._declare(intent)
            return
        key, body = self._service(intent.service)
        section = {"network": "networks", "host": "extra_hosts"}.get(intent.kind, "environment")
        found = pairs(body).get(section)
        if intent.kind in ("variable", "listed"):
            said = self._said(found)
            value = doubled(intent.value) if intent.kind == "variable" else _completed(said, intent)
            entry = Variable(intent.name, value)
            if found is not None and self._replace(found[1], entry):
                return
        else:
            entry = Network(intent.name) if intent.kind == "network" else Host(intent.name, intent.value)
            if found is not None and self._stands(found[1], entry):
                return
        if found is None:
            self._new_section(key, body, section, entry)
        else:
            self._new_entry(found[0], found[1], entry)

    def edits(self):
        """All edits, those of one place put together."""
        for write, entries in self._pending.values():
            write(entries)
        found = []
        for line in sorted(set(self._spans) | set(self._lines)):
            if line in self._spans:
                found.append(["replace", line, [list(span) for span in sorted(self._spans[line])]])
            if line in self._lines:
                found.append(["insert", line, self._lines[line]])
        return found

    # ---- where

    def _service(self, name):
        pair = self._services.get(name)
        if pair is None:
            raise CannotEdit("Service %s is not written in this file as a key of its own" % name, USE_OVERRIDE, *self.source.place_of("services"))
        node = target(pair[1])
        if not isinstance(node, yaml.MappingNode):
            raise self._refusal(pair[0], "Service %s is no mapping of keys" % name)
        if isinstance(pair[1], Alias):
            # The same mapping under another name: what is written there counts here, and the proof tells whether it may.
            pair = next((other for other in self._services.values() if other[1] is node), None)
            if pair is None:
                raise self._refusal(self._services[name][0], "Service %s stands in an anchor" % name)
        return pair[0], node

    def _said(self, found):
        value = plain(found[1]) if found else None
        if isinstance(value, list):
            items = [(entry_name(item), item) for item in value if isinstance(item, str)]
            return {name: item[len(name) + 1:] if name != item else None for name, item in items}
        return value if isinstance(value, dict) else {}

    def _stands(self, value, entry):
        said = plain(value)
        return entry.name in ([entry_name(one, entry.separators) for one in said if isinstance(one, str)] if isinstance(said, list) else said or {})

    # ---- what

    def _replace(self, value, entry):
        """Put a variable's value in the place of the former; False where it does not stand in the service's own list or map."""
        node = target(value)
        flow = getattr(node, "flow_style", False)
        if isinstance(value, Alias) or not isinstance(node, yaml.CollectionNode):
            return False
        if isinstance(node, yaml.MappingNode):
            pair = direct(node).get(entry.name)
            if pair is None:
                return False
            start, end, style = self._span(pair[1])
            self._put(start, end, (" " if start == end else "") + scalar(entry.value, style, flow))
            return True
        standing = [item for item in node.value
                    if isinstance(target(item), yaml.ScalarNode) and entry_name(target(item).value) == entry.name]
        if len(standing) > 1:
            raise self._refusal(standing[1], "The variable %s stands in this list a second time" % entry.name,
                                "Keep the one that is meant and delete the other")
        if not standing:
            return False
        start, end, style = self._span(standing[0])
        self._put(start, end, scalar(entry.item(), style, flow))
        return True

    def _span(self, node):
        """(start, end, style) of a value that is one text on one line."""
        if isinstance(node, Alias):
            return node.start, node.end, None
        if not isinstance(node, yaml.ScalarNode):
            raise self._refusal(node, "A text is expected here, and there is a list or a map")
        start, end = node.start_mark.index, node.end_mark.index
        if node.style in ("|", ">") or self.source.at(start)[0] != self.source.at(end)[0]:
            raise self._refusal(node, "This text goes over several lines", "Write it on one line, or use the strategy override")
        anchor = re.match(r"&([^\s,\[\]{}]+)", self.source.text[start:end])
        if anchor and re.search(r"\*%s(?![\w-])" % re.escape(anchor.group(1)), self.source.text):
            raise self._refusal(node, "Other lines take this value by its anchor &%s" % anchor.group(1),
                                "Give them the value of their own, or use the strategy override")
        return start, end, node.style

    def _new_section(self, key, body, section, entry):
        def write(entries):
            if body.flow_style:
                style = "{%s}" if isinstance(entries[0], Variable) else "[%s]"
                inner = ", ".join(one.flow_map() if isinstance(one, Variable) else one.flow_item() for one in entries)
                self._open(body, '"%s": %s' % (section, style % inner))
                return
            indent = self._indent_of_map(key, body)
            step = indent[len(self._own_indent(key)):] or "  "
            lines = [indent + step + ("" if isinstance(one, Variable) else "- ") + (
                one.block_map() if isinstance(one, Variable) else one.block_item()) for one in entries]
            self._insert(self._line(key), ["%s%s:" % (indent, section)] + lines)
        self._later((body.start_mark.index, section), write, entry)

    def _new_entry(self, key, value, entry):
        node = target(value)

        def write(entries):
            if isinstance(value, Alias) and isinstance(node, yaml.MappingNode):
                self._unfold(key, value, entries)
            elif node.tag == NULL and isinstance(node, yaml.ScalarNode):
                self._fill(key, node, entries)
            elif not isinstance(node, yaml.CollectionNode):
                raise self._refusal(node, "A list or a map is expected here")
            elif node.flow_style:
                keyed = isinstance(node, yaml.MappingNode)
                self._open(node, ", ".join(one.flow_map() if keyed else one.flow_item() for one in entries))
            elif isinstance(node, yaml.MappingNode):
                indent = self._indent_of_map(self._key_of(key, value), node)
                self._insert(self._line(self._key_of(key, value)), [indent + one.block_map() for one in entries])
            else:
                dash = self._dash(self._key_of(key, value), node)
                self._insert(self._line(self._key_of(key, value)), [dash + one.block_item() for one in entries])
        self._later((key.start_mark.index, "entry"), write, entry)

    def _unfold(self, key, alias, entries):
        """`environment: *common` becomes a map that merges it and has entries of its own."""
        if key.start_mark.line != self.source.at(alias.start)[0] or self.source.line_text(self._line(key))[:key.start_mark.column].strip():
            raise self._refusal(key, "This key and what it stands for are written together with others on a line")
        indent = self._own_indent(key) + "  "
        self._put(alias.start, alias.end, "")
        self._insert(self._line(key), ["%s<<: *%s" % (indent, alias.name)] + [indent + one.block_map() for one in entries])

    def _fill(self, key, node, entries):
        """A key without a value gets some."""
        start, end = node.start_mark.index, node.end_mark.index
        if self.source.at(end)[0] != self._line(key) or self._own_indent(key) is None:
            raise self._refusal(key, "This key and its empty value are written in an unusual way")
        if self.source.text[start:end].lower() in ("~", "null"):
            self._put(start, end, "")
        keyed = isinstance(entries[0], (Variable, Declared))
        indent = self._own_indent(key) + "  "
        self._insert(self._line(key), [indent + (one.block_map() if keyed else "- " + one.block_item()) for one in entries])

    def _declare(self, intent):
        entry = Declared(intent.name, intent.value)
        pair = direct(self.source.root).get("networks")
        said = plain(pair[1]) if pair else None
        if isinstance(said, dict) and intent.name in said:
            if said[intent.name] != {"name": intent.value, "external": "true"}:
                raise CannotEdit("A network %s is declared here, and it is another one" % intent.name, "Rename it, or use the strategy override",
                                 *self.source.place_of("networks", intent.name))
        elif pair is not None:
            if isinstance(pair[1], Alias):
                raise self._refusal(pair[0], "The networks stand in an anchor")
            self._new_entry(pair[0], pair[1], entry)
        elif self.source.root.flow_style:
            self._later(("networks",), lambda entries: self._open(
                self.source.root, '"networks": {%s}' % ", ".join(one.flow_map() for one in entries)), entry)
        else:
            line = self._line(self._services_key)
            self._later(("networks",), lambda entries: self._insert(line - 1, ["networks:"] + ["  " + one.block_map() for one in entries]), entry)

    # ---- how

    def _later(self, place, write, entry):
        """Entries for one place are written together, in the order wanted; the same entry for a shared mapping once."""
        entries = self._pending.setdefault(place, (write, []))[1]
        if all(one.name != entry.name for one in entries):
            entries.append(entry)

    def _put(self, start, end, new):
        line, column = self.source.at(start)
        spans = self._spans.setdefault(line, [])
        span = (column, column + end - start, new)
        if span not in spans:
            spans.append(span)

    def _insert(self, line, lines):
        self._lines.setdefault(line, []).extend(lines)

    def _open(self, node, inner):
        """Put entries first into a list or map in brackets."""
        start = self.source.text.index("{" if isinstance(node, yaml.MappingNode) else "[", node.start_mark.index) + 1
        self._put(start, start, inner + (", " if node.value else ""))

    def _line(self, key):
        return self.source.at(key.start_mark.index)[0]

    def _own_indent(self, key):
        line, column = self.source.at(key.start_mark.index)
        before = self.source.line_text(line)[:column]
        if before.strip():
            raise self._refusal(key, "Something else stands on this line before the key")
        return before

    def _key_of(self, key, value):
        """The key below which a block is written: where the block has an anchor and is taken up elsewhere, the anchor's key."""
        if not isinstance(value, Alias):
            return key
        raise self._refusal(key, "What is needed here stands in the anchor &%s, which others may take up too" % value.name)

    def _indent_of_map(self, key, node):
        first = node.value[0][0]
        line, column = self.source.at(first.start if isinstance(first, Alias) else first.start_mark.index)
        indent = self.source.line_text(line)[:column]
        if line <= self._line(key) or indent.strip():
            raise self._refusal(key, "This map is written in an unusual way")
        return indent

    def _dash(self, key, node):
        first = node.value[0]
        line = self.source.at(first.start if isinstance(first, Alias) else first.start_mark.index)[0]
        dash = re.match(r"[ \t]*-[ \t]+", self.source.line_text(line))
        if line <= self._line(key) or not dash:
            raise self._refusal(key, "This list is written in an unusual way")
        return dash.group(0)

    def _refusal(self, node, what, mend=USE_OVERRIDE):
        return self.source.refusal(node.start if isinstance(node, Alias) else node.start_mark.index, what, mend)
