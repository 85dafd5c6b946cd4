# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No recorded line is forgotten: each is replayed, or left out by exactly one rule that says why."""

from __future__ import annotations

import fnmatch
import importlib

import pytest

from ansible_collections.localmodels.fastgpt.tests.contract import replay

FILES = sorted(path.name for path in replay.TRANSCRIPTS.glob("*.jsonl"))
PACKAGE = "ansible_collections.localmodels.fastgpt.tests.contract."


@pytest.mark.parametrize("file", FILES)
def test_each_line_is_replayed_or_left_out_once(file):
    for path in replay.HERE.glob("test_*.py"):
        importlib.import_module(PACKAGE + path.stem)
    for id in replay.ids(file):
        rules = replay.rules_for(file, id)
        assert len(rules) <= 1, "%s::%s is left out twice: %s" % (file, id, [rule["reason"] for rule in rules])
        assert rules or file in replay.REPLAYED, "%s::%s is neither replayed nor left out" % (file, id)


@pytest.mark.parametrize("rule", replay.left_out(), ids=lambda rule: "%s %s" % (rule["file"], ",".join(rule["ids"]))[:60])
def test_each_rule_has_a_reason_and_matches(rule):
    assert len(rule["reason"]) > 10
    for glob in rule["ids"]:
        assert any(fnmatch.fnmatchcase(id, glob) for file in FILES if fnmatch.fnmatchcase(file, rule["file"])
                   for id in replay.ids(file)), "%s %s matches nothing" % (rule["file"], glob)


def test_the_replay_is_counted_and_nothing_else():
    said = replay.told(["a/test_one_api.py::test_answers_as_recorded[one-api-0.6.jsonl::status]", "a/test_ollama.py::test_asks_the_registry_as_recorded[x[0]]",
                        "a/test_one_api.py::test_the_client_understands_each_recorded_answer[y]", "a/test_left_out.py::test_answers_as_recorded_not"])
    left = sum(1 for file in FILES for id in replay.ids(file) if replay.rules_for(file, id))
    assert said == "2 recorded exchanges replayed (%d are left out, each with its reason: left_out.yml)" % left and left > 50
    assert replay.told(["a/test_left_out.py::test_x"]) == ""
