# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison itself: each difference that matters is told, and what may differ is not."""

from __future__ import annotations

import re

import pytest

from ansible_collections.localmodels.fastgpt.tests.contract.compare import Rules, differences, learn

RULES = Rules(said=("error", "status"), progress=lambda line: isinstance(line, dict) and "digest" in line)
DIGESTS = ["a" * 64, "b" * 64]


def answer(body=None, status=200, headers=None, **more):
    return {"status": status, "headers": headers or {}, **({"body": body} if not more else more)}


@pytest.mark.parametrize("recorded, got, word", [
    (answer({}), answer({}, status=404), "status 200 became 404"),
    (answer({"a": 1}), answer({"a": 1, "b": 2}), "b: is new"),
    (answer({"a": {"b": 1}}), answer({"a": {}}), "a.b: is gone"),
    (answer({"a": 1}), answer({"a": True}), "1 became true"),
    (answer({"a": None}), answer({"a": "x"}), "became x"),
    (answer({"error": "not here"}, 404), answer({"error": "not there"}, 404), "'not here' became 'not there'"),
    (answer([{"a": 1}]), answer([]), "1 elements became 0"),
    (answer([{"a": 1}]), answer([{"a": 1}, {"b": 1}]), "like nothing recorded"),
    (answer([{"a": 1}, {"b": 1}]), answer([{"a": 1}]), "no longer there"),
    (answer("404 page not found", 404), answer("nothing", 404), "text: "),
    (answer({}, headers={"content-type": "text/plain"}), answer({}), "header content-type"),
    (answer({}, headers={"set-cookie": "token=1; Path=/"}), answer({}), "header set-cookie"),
    (answer(lines=[{"status": "x"}]), answer({"status": "x"}), "lines became body"),
    (answer(lines=[{"status": "x"}, {"status": "y"}]), answer(lines=[{"status": "x"}]), "stream: "),
    (answer(lines=[{"status": "x"}]), answer(lines=[{"error": "x"}]), "stream: "),
    (answer(events=['data: {"a":1}', "data: [DONE]"]), answer(events=['data: {"a":1}']), "stream: "),
])
def test_tells_a_difference(recorded, got, word):
    assert any(word in found for found in differences(recorded, got, RULES))


@pytest.mark.parametrize("recorded, got", [
    (answer({"n": 1, "name": "x"}), answer({"n": 2.5, "name": "y"})),
    (answer({"error": "want sha256:%s" % DIGESTS[0]}, 500), answer({"error": "want sha256:%s" % DIGESTS[1]}, 500)),
    (answer({"error": "dial tcp 127.0.0.1:5001: refused"}, 500), answer({"error": "dial tcp 127.0.0.1:40123: refused"}, 500)),
    (answer([{"a": 1}]), answer([{"a": 2}, {"a": 3}])),
    (answer(lines=[{"t": "a"}, {"t": "b"}, {"status": "end"}]), answer(lines=[{"t": "c"}, {"status": "end"}])),
    (answer(lines=[{"status": "x", "digest": "y"}, {"status": "end"}]), answer(lines=[{"status": "end"}])),
])
def test_lets_pass_what_may_differ(recorded, got):
    assert not differences(recorded, got, RULES)


@pytest.mark.parametrize("rules, recorded, got", [
    (Rules(open=("data",)), {"data": {"a": {"n": 1}}}, {"data": {"b": {"n": 2}, "c": {"n": 3}}}),
    (Rules(free=("data[].config",)), {"data": [{"config": 1}]}, {"data": [{"config": "x"}]}),
    (Rules(optional=("data.note",)), {"data": {"note": "x"}}, {"data": {}}),
    (Rules(free=("tags-*: size",)), {"size": 1}, {"size": "1"}),
])
def test_rules_widen_what_may_differ(rules, recorded, got):
    assert differences(answer(recorded), answer(got), Rules(), "tags-one")
    assert not differences(answer(recorded), answer(got), rules, "tags-one")


def test_rule_for_some_lines_holds_for_no_other():
    assert differences(answer({"size": 1}), answer({"size": "1"}), Rules(free=("tags-*: size",)), "show-one")


def test_learns_the_ids_that_a_server_made_up():
    rules = Rules(learn=re.compile("[0-9a-f]{24}"))
    recorded, got = answer({"data": [{"_id": "0" * 24, "name": "x"}]}), answer({"data": [{"_id": "1" * 24, "name": "y"}]})
    assert learn(recorded, got, rules) == {"0" * 24: "1" * 24}
