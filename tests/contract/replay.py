# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded exchanges, replayed in their recorded order against one live server and compared.

A transcript tells a story: what one line creates, the next one lists. So one server lives through a whole file, and
asking for a single line (`pytest -k ollama-0.32.jsonl::tags-one`) first plays the lines before it.
How to write a test file with it: README.md beside this file.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import pathlib

import pytest
import yaml

from ansible_collections.localmodels.fastgpt.tests.contract.compare import Rules, differences, learn
from ansible_collections.localmodels.fastgpt.tests.contract.wire import send

HERE = pathlib.Path(__file__).resolve().parent
TRANSCRIPTS = HERE / "transcripts"
REPLAYED = set()  # names of the transcripts some test file asked cases() for


class Exchange:
    """One recorded line. `response` is the recorded dict: status, headers, and one of body, lines, events."""

    def __init__(self, file, line):
        request = line["request"]
        self.file, self.id, self.note, self.version = file, line["id"], line.get("note") or "", line.get("version")
        self.method, self.path = request["method"], request["path"]
        self.headers, self.body = dict(request["headers"]), request["body"]
        self.response = line["response"]

    @property
    def name(self):
        return "%s::%s" % (self.file, self.id)

    def raw(self):
        """The recorded answer as a client got it: (status, headers, body as bytes), rebuilt from its parsed form."""
        got = self.response
        if "lines" in got:
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in got["lines"])
        elif "events" in got:
            text = "".join(event + "\n\n" for event in got["events"])
        else:
            body = got.get("body", "")
            text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        return got["status"], dict(got["headers"]), text.encode("utf-8")


def ids(file):
    """The id of every line of a transcript, whatever its form: list of str."""
    with open(TRANSCRIPTS / file, encoding="utf-8") as lines:
        return [json.loads(line)["id"] for line in lines]


def load(file):
    """Every line of a transcript, in order: list of Exchange."""
    with open(TRANSCRIPTS / file, encoding="utf-8") as lines:
        return [Exchange(file, json.loads(line)) for line in lines]


@functools.cache
def left_out():
    """The rules of left_out.yml: list of {file, ids: list of globs, reason}."""
    return yaml.safe_load((HERE / "left_out.yml").read_text(encoding="utf-8"))


def rules_for(file, id, rules=None):
    """The left-out rules that match a line; a sound file has none or one."""
    return [rule for rule in (left_out() if rules is None else rules)
            if fnmatch.fnmatchcase(file, rule["file"]) and any(fnmatch.fnmatchcase(id, glob) for glob in rule["ids"])]


def cases(file):
    """pytest parameters for a transcript: one per line that is not left out."""
    REPLAYED.add(file)
    rules = left_out()
    return [pytest.param(exchange, id=exchange.name) for exchange in load(file)
            if not rules_for(file, exchange.id, rules)]


def told(passed):
    """One line about the replay, "" where nothing was replayed. passed: pytest's ids of all tests that passed (iterable of str)."""
    found = [id for id in passed if id.partition("[")[0].endswith(("::test_answers_as_recorded", "::test_asks_the_registry_as_recorded"))]
    left = sum(1 for file in TRANSCRIPTS.glob("*.jsonl") for id in ids(file.name) if rules_for(file.name, id))
    return "%d recorded exchanges replayed (%d are left out, each with its reason: left_out.yml)" % (len(found), left) if found else ""


class Story:
    """A transcript being replayed against `server` (a wire.Server, already started).

    rules: compare.Rules. values: recorded text -> what it is called here, such as {"<ADMIN_KEY>": "s3cret",
    "127.0.0.1:5001": "127.0.0.1:40123"}; applied to each request, and backwards to each answer before it is compared.
    real: the server is the real one, not a stand-in.
    """

    def __init__(self, file, server, rules=None, values=None, real=False):
        self.server, self.rules, self.values, self.real = server, rules or Rules(), dict(values or {}), real
        skipped = left_out()
        self._waiting = [exchange for exchange in load(file) if not rules_for(file, exchange.id, skipped)]
        self._results = {}
        self._hooks = {"before": [], "instead": [], "after": []}
        self._only_stand_in = []

    def before(self, *ids):
        """Decorator: call function(story, exchange) before the lines whose id matches one of the globs."""
        return self._hook("before", ids)

    def instead(self, *ids):
        """Decorator: function(story, exchange) sends the request in its own way and returns the answer as wire.send."""
        return self._hook("instead", ids)

    def after(self, *ids):
        """Decorator: call function(story, exchange, answer) once the answer is there."""
        return self._hook("after", ids)

    def only_stand_in(self, reason, *ids):
        """These lines need a switch that a real server does not have: there they are skipped, with this reason."""
        self._only_stand_in.append((ids, reason))

    def _hook(self, kind, ids):
        def keep(function):
            self._hooks[kind].append((ids, function))
            return function
        return keep

    def _matching(self, kind, id):
        return [function for ids, function in self._hooks[kind] if _matches(id, ids)]

    def check(self, exchange):
        """Play the story up to this line; fail with every difference between what was recorded and what came."""
        while exchange.id not in self._results:
            self._play(self._waiting.pop(0))
        result = self._results[exchange.id]
        if isinstance(result, Exception):
            raise result
        if isinstance(result, str):
            pytest.skip(result)
        assert not result, "%s (%s)\n  %s" % (exchange.name, exchange.note, "\n  ".join(result))

    def _play(self, exchange):
        reasons = [reason for ids, reason in self._only_stand_in if self.real and _matches(exchange.id, ids)]
        if reasons:
            self._results[exchange.id] = reasons[0]
            return
        try:
            self._results[exchange.id] = self._compare(exchange)
        except Exception as problem:  # pylint: disable=broad-except  # it belongs to this line, not to the one asked for
            self._results[exchange.id] = problem

    def _compare(self, exchange):
        for prepare in self._matching("before", exchange.id):
            prepare(self, exchange)
        senders = self._matching("instead", exchange.id)
        answer = senders[-1](self, exchange) if senders else self.send(exchange)
        for look in self._matching("after", exchange.id):
            look(self, exchange, answer)
        self.values.update(learn(exchange.response, answer, self.rules))
        return differences(exchange.response, self.recorded_words(answer), self.rules, exchange.id)

    def send(self, exchange):
        """Send the recorded request in this server's words; returns the answer in the recorded form."""
        return send(self.server.url, exchange.method, self.words(exchange.path), self.words(exchange.headers),
                    self.words(exchange.body))

    def words(self, thing):
        """`thing` with each recorded text replaced by what it is called here."""
        return _replaced(thing, self.values)

    def recorded_words(self, thing):
        """`thing` with what is called so here replaced by the recorded text."""
        return _replaced(thing, {here: recorded for recorded, here in self.values.items()})


def _matches(id, globs):
    return any(fnmatch.fnmatchcase(id, glob) for glob in globs)


def _replaced(thing, words):
    if isinstance(thing, str):
        for old in sorted(words, key=len, reverse=True):
            thing = thing.replace(old, words[old])
        return thing
    if isinstance(thing, dict):
        return {_replaced(key, words): _replaced(value, words) for key, value in thing.items()}
    if isinstance(thing, list):
        return [_replaced(item, words) for item in thing]
    return thing
