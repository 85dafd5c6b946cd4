# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be equal between a recorded answer and a live one: status, shape and the server's own words."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import json
import re

DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
SHORT_DIGEST = re.compile(r"\b[0-9a-f]{12}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(?:Z|[+-]\d\d:?\d\d)?")
PORT = re.compile(r"(127\.0\.0\.1|localhost|\[::1\]):\d+")


@dataclasses.dataclass
class Rules:
    """What one server's answers may differ in.

    said: keys whose values are the server's words (texts and codes) and must be equal.
    volatile: (regex, replacement) applied to every such word on both sides.
    open: globs of paths ("data.items[].config") of objects that are maps: keys are free, values must share shapes.
    free: globs of paths that are not looked at. Reasons belong beside the rule.
    optional: globs of paths of keys that may be absent on either side.
    progress: is a stream's line only progress? Such lines come as often as they like.
    headers: names (lower case) of headers that must be equal.
    learn: recorded texts that fully match this are ids: what stands in their place here is sent in later requests.
    """

    said: tuple = ("error", "message", "msg", "statusText", "code", "success")
    volatile: tuple = ((DIGEST, "<digest>"), (SHORT_DIGEST, "<digest>"), (TIME, "<time>"), (PORT, r"\1:<port>"))
    open: tuple = ()
    free: tuple = ()
    optional: tuple = ()
    progress: object = None
    headers: tuple = ("content-type", "location", "access-control-allow-origin", "www-authenticate", "retry-after")
    learn: object = None

    def plain(self, text):
        for pattern, replacement in self.volatile:
            text = pattern.sub(replacement, text)
        return text


def differences(recorded, got, rules, id=""):
    """Sentences on what differs between two answers (dicts as wire.send returns them); empty when they agree.

    Globs of rules may be written "id-glob: path-glob" to hold for some lines only.
    """
    look = _Look(rules, id)
    if recorded["status"] != got["status"]:
        look.say("", "status %s became %s: %s" % (recorded["status"], got["status"], _short(_content(got))))
        return look.found
    look.headers(recorded["headers"], got["headers"])
    kinds = [next((kind for kind in ("lines", "events") if kind in side), "body") for side in (recorded, got)]
    if kinds[0] != kinds[1]:
        look.say("", "%s became %s: %s" % (kinds[0], kinds[1], _short(_content(got))))
    elif kinds[0] == "body":
        look.values(recorded.get("body", ""), got.get("body", ""), "")
        look.text(recorded.get("body"), got.get("body"))
    else:
        look.stream([_event(item) for item in recorded[kinds[0]]], [_event(item) for item in got[kinds[0]]])
    return look.found


class _Look:
    """Collects the differences of one exchange."""

    def __init__(self, rules, id):
        self.rules, self.id, self.found = rules, id, []

    def say(self, path, sentence):
        self.found.append("%s: %s" % (path or "answer", sentence))

    def headers(self, recorded, got):
        for name in self.rules.headers:
            before, now = (self.rules.plain(side.get(name, "")) for side in (recorded, got))
            if before != now and not self._in(self.rules.free, "headers." + name):
                self.say("header " + name, "%r became %r" % (before, now))
        before, now = (_cookie_names(side) for side in (recorded, got))
        if before != now:
            self.say("header set-cookie", "%s became %s" % (before, now))

    def text(self, recorded, got):
        if isinstance(recorded, str) and isinstance(got, str) and not self._in(self.rules.free, ""):
            before, now = self.rules.plain(recorded), self.rules.plain(got)
            if before != now:
                self.say("text", "%r became %r" % (_short(before), _short(now)))

    def values(self, recorded, got, path):
        if self._in(self.rules.free, path):
            return
        if _kind(recorded) != _kind(got):
            self.say(path, "%s became %s" % (_short(recorded), _short(got)))
        elif isinstance(recorded, dict):
            self._dicts(recorded, got, path)
        elif isinstance(recorded, list):
            self._lists(recorded, got, path)
        elif path.rsplit(".", 1)[-1] in self.rules.said:
            before, now = (self.rules.plain(side) if isinstance(side, str) else side for side in (recorded, got))
            if before != now:
                self.say(path, "%r became %r" % (_short(before), _short(now)))

    def _dicts(self, recorded, got, path):
        if path and self._in(self.rules.open, path):
            self._lists(list(recorded.values()), list(got.values()), path + ".*")
            return
        for key in sorted(set(recorded) | set(got)):
            below = "%s.%s" % (path, key) if path else key
            if key in recorded and key in got:
                self.values(recorded[key], got[key], below)
            elif not self._in(self.rules.optional, below) and not self._in(self.rules.free, below):
                self.say(below, "is gone" if key in recorded else "is new: %s" % _short(got[key]))

    def _lists(self, recorded, got, path):
        """Each element must agree with one on the other side: order and number are free, kinds of elements are not."""
        below = path + "[]"
        if bool(recorded) != bool(got):
            self.say(path, "%d elements became %d" % (len(recorded), len(got)))
            return
        recorded, got = _distinct(recorded), _distinct(got)
        for theirs, ours, word in ((got, recorded, "like nothing recorded"), (recorded, got, "no longer there")):
            for number, element in enumerate(theirs):
                near = number % len(ours)  # lists mostly have the same order
                tries = self._tries(element, ours[near:] + ours[:near], below)
                if tries:
                    self.say(below, "%s (%s): %s" % (word, min(tries, key=len)[0], _short(element)))
                    break

    def _tries(self, element, others, path):
        """What differs (list of lists) from each of the others; [] when it agrees with one of them."""
        tries = []
        for other in others:
            tries.append(self._alone(element, other, path))
            if not tries[-1]:
                return []
        return tries

    def _alone(self, element, other, path):
        look = _Look(self.rules, self.id)
        look.values(other, element, path)
        return look.found

    def stream(self, recorded, got):
        """The sequence of lines, neighbours of one shape and one word counted once, progress left out."""
        before, now = self._collapsed(recorded), self._collapsed(got)
        if [word for word, _line in before] != [word for word, _line in now]:
            self.say("stream", "%s became %s" % ([word for word, _line in before], [word for word, _line in now]))
            return
        for (_word, theirs), (_same, ours) in zip(before, now):
            self.values(theirs, ours, "line")

    def _collapsed(self, items):
        kept = []
        for item in items:
            if self.rules.progress and self.rules.progress(item):
                continue
            word = self._word(item)
            if not kept or kept[-1][0] != word:
                kept.append((word, item))
        return kept

    def _word(self, item):
        if not isinstance(item, dict):
            return self.rules.plain(str(item))
        said = {key: self.rules.plain(item[key]) for key in ("status",) + self.rules.said if isinstance(item.get(key), str)}
        return "%s %s" % (",".join(sorted(item)), json.dumps(said, ensure_ascii=False, sort_keys=True))

    def _in(self, globs, path):
        return _matches(globs, self.id, path)


def learn(recorded, got, rules):
    """{recorded id: id in its place here} for texts at the same place of both answers that match rules.learn."""
    found = {}
    if rules.learn is not None and recorded["status"] == got["status"]:
        _learn(recorded.get("body"), got.get("body"), rules.learn, found)
    return found


def _learn(recorded, got, pattern, found):
    if isinstance(recorded, dict) and isinstance(got, dict):
        for key in recorded:
            _learn(recorded[key], got.get(key), pattern, found)
    elif isinstance(recorded, list) and isinstance(got, list):
        for before, now in zip(recorded, got):
            _learn(before, now, pattern, found)
    elif isinstance(recorded, str) and isinstance(got, str) and recorded != got and pattern.fullmatch(recorded):
        found[recorded] = got


@functools.lru_cache(maxsize=None)
def _matches(globs, id, path):
    for glob in globs:
        ids, _colon, paths = glob.rpartition(": ")
        if fnmatch.fnmatchcase(id, ids or "*") and _path_matches(path, paths):
            return True
    return False


def _path_matches(path, glob):
    """fnmatch, but "[]" means itself, not a set of characters."""
    return fnmatch.fnmatchcase(path.replace("[]", "<>"), glob.replace("[]", "<>"))


def _distinct(elements):
    """The elements, of plain values one of each kind: long lists of numbers need no second look."""
    return list({json.dumps(element) if isinstance(element, (dict, list)) else _kind(element): element for element in elements}.values())


def _kind(value):
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return type(value).__name__


def _event(item):
    """A server-sent event as its parsed data; other lines and texts as they are."""
    if isinstance(item, str) and item.startswith("data: "):
        try:
            return json.loads(item[len("data: "):])
        except ValueError:
            return item
    return item


def _content(answer):
    return answer.get("body", answer.get("lines", answer.get("events")))


def _short(value):
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else text[:400] + "..."


def _cookie_names(headers):
    return sorted(re.findall(r"(?:^|, )([\w-]+)=", headers.get("set-cookie", "")))
