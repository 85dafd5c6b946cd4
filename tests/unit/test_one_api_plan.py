# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels and tokens of one-api: what is refused, what differs, what is sent and told."""

from __future__ import annotations

import json

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _one_api_plan as channels
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _one_api_token_plan as tokens
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from hypothesis import given
from hypothesis import strategies as st

CHANNEL = {"name": "ollama", "state": "present", "type": "ollama", "base_url": "http://ollama:11434/", "models": ["b", {"name": "a"}], "key": None,
           "update_key": "on_create", "model_mapping": None, "priority": None, "groups": None, "enabled": True}
ROW = {"id": 3, "name": "ollama", "type": 30, "key": "", "base_url": "http://ollama:11434", "models": "b,a", "group": "default",
       "model_mapping": '{"x": "a"}', "priority": 4, "status": 1}
TOKEN = {"name": "app", "state": "present", "models": None, "key_file": None, "enabled": True}
TOKEN_ROW = {"id": 2, "name": "app", "key": "k" * 48, "status": 1, "expired_time": -1, "unlimited_quota": True, "models": None}


def channel_step(row=ROW, **more):
    (step,) = channels.plan([row] if row else [], channels.read_wanted([dict(CHANNEL, **more)]))
    return step


def token_step(row=TOKEN_ROW, held="", **more):
    (step,) = tokens.plan([row] if row else [], tokens.read_wanted([dict(TOKEN, **more)]), lambda path: held)
    return step


@pytest.mark.parametrize("more, says", [
    ({"name": " "}, "empty name"), ({"base_url": None}, "no http URL"), ({"base_url": "http://localhost:11434"}, "one-api's container that is"),
    ({"base_url": "http://0.0.0.0:1"}, "container itself"), ({"base_url": "http://ollama:11434/v1"}, "adds /api or /v1 itself.*Leave /v1 away"),
    ({"base_url": "http://o:1/v1/", "type": "openai"}, "Leave /v1 away"), ({"models": []}, "has no models"), ({"models": [7]}, "7 is no model"),
    ({"models": ["a,b"]}, "text with commas"), ({"models": [" a"]}, "blanks at its ends"), ({"models": [{"nmae": "a"}]}, "is no model"),
    ({"key": "a\nb"}, "one channel of each line"), ({"update_key": "always"}, "always and no key"),
    ({"groups": ["g" * 20, "h" * 20]}, "keeps 32"), ({"model_mapping": {"a": "b" * 1100}}, "keeps 1024"),
])
def test_what_cannot_work_is_refused(more, says):
    with pytest.raises(LocalModelsError, match=says):
        channels.read_wanted([dict(CHANNEL, **more)])


def test_two_of_one_name_are_refused():
    with pytest.raises(LocalModelsError, match="The channel ollama is declared twice"):
        channels.read_wanted([CHANNEL, CHANNEL])
    with pytest.raises(LocalModelsError, match="The token app is declared twice"):
        tokens.read_wanted([TOKEN, TOKEN])


def test_a_new_channel_gets_all_of_it_and_a_key():
    step = channel_step(None, groups=["vip", "default", "vip"], model_mapping={"x": "a"}, priority=1)
    assert step.sent() == {"type": 30, "base_url": "http://ollama:11434", "models": "a,b", "status": 1, "group": "default,vip",
                           "model_mapping": '{"x": "a"}', "priority": 1, "key": "ollama"}
    assert step.sentences() == ["Create channel ollama to http://ollama:11434 with a, b"]
    assert step.before() is None and step.after()["models"] == ["a", "b"] and "key" not in step.after()


@pytest.mark.parametrize("row, more", [
    (ROW, {}), (dict(ROW, models="a,b,a"), {}), (ROW, {"model_mapping": {"x": "a"}}), (ROW, {"groups": []}), (ROW, {"key": "other"}),
    (dict(ROW, model_mapping='{ "x":"a" }'), {"model_mapping": {"x": "a"}}), (dict(ROW, priority=None), {"priority": 0}),
    (dict(ROW, model_mapping=""), {"model_mapping": {}}), (dict(ROW, model_mapping=None), {"model_mapping": {}}),
    (dict(ROW, group="b,a"), {"groups": ["a", "b"]}), (dict(ROW, status=2), {"enabled": False}),
])
def test_what_is_as_declared_is_left_alone(row, more):
    step = channel_step(row, **more)
    assert step.verb == "none" and not step.changed and step.sentences() == [] and step.before() == step.after()


@pytest.mark.parametrize("row, more, sent, words", [
    (dict(ROW, models="a,c"), {}, {"models": "a,b"}, "models + b, - c"), (dict(ROW, models="a, b"), {}, {"models": "a,b"}, "models + b, -  b"),
    (dict(ROW, status=3), {}, {"status": 1}, "status disabled by one-api itself -> enabled"), (ROW, {"enabled": False}, {"status": 2}, "disabled"),
    (dict(ROW, status=3), {"enabled": False}, {"status": 2}, "status disabled by one-api itself -> disabled"),
    (dict(ROW, base_url="http://ollama:11434/"), {}, {"base_url": "http://ollama:11434"}, "base_url"),
    (dict(ROW, base_url=None), {}, {"base_url": "http://ollama:11434"}, "base_url none -> http"), (ROW, {"priority": 0}, {"priority": 0}, "4 -> 0"),
    (ROW, {"model_mapping": {}}, {"model_mapping": ""}, "-> none"), (dict(ROW, model_mapping="?"), {"model_mapping": {}}, {"model_mapping": ""}, "?"),
    (dict(ROW, model_mapping="[]"), {"model_mapping": {}}, {"model_mapping": ""}, "model_mapping"), (ROW, {"type": "openai"}, {"type": 1}, "openai"),
    (dict(ROW, group="vip"), {"groups": []}, {"group": "default"}, "groups + default, - vip"), (dict(ROW, type=50), {}, {"type": 30}, "50 -> ollama"),
    (ROW, {"key": "new", "update_key": "always"}, {"key": "new"}, "Change channel ollama: key"), (dict(ROW, status=9), {}, {"status": 1}, "status 9"),
])
def test_only_what_differs_is_sent(row, more, sent, words):
    step = channel_step(row, **more)
    assert step.verb == "update" and step.sent() == sent and words in step.sentences()[0]
    assert step.before() != step.after()


def test_what_one_api_cannot_clear_is_never_asked_for():
    """An empty text or 0 for models, group, status or type changes nothing there."""
    for name, value in channel_step(dict(ROW, models="", group="x", status=3, type=1), groups=[]).sent().items():
        assert name in ("priority", "model_mapping", "base_url") or value


def test_deletions_come_last_and_those_that_are_done_are_nothing():
    wanted = channels.read_wanted([dict(CHANNEL, name="old", state="absent"), CHANNEL, dict(CHANNEL, name="gone", state="absent")])
    steps = channels.plan([dict(ROW, name="old", id=1)], wanted)
    assert [(step.wanted.name, step.verb) for step in steps] == [("ollama", "create"), ("old", "delete"), ("gone", "none")]
    assert steps[1].sentences() == ["Delete channel old"] and steps[1].after() is None


NAMES = st.text(st.characters(blacklist_characters=",", blacklist_categories=("Cs",)), min_size=1, max_size=8).filter(lambda name: name.strip() == name)


@given(st.sets(NAMES, min_size=1), st.sets(NAMES, min_size=1), st.sampled_from([1, 2, 3, 9]), st.booleans(),
       st.dictionaries(NAMES, NAMES, max_size=3) | st.none(), st.integers(-5, 5) | st.none())
def test_after_any_change_nothing_differs(found, declared, status, enabled, mapping, priority):
    row = dict(ROW, models=",".join(found), status=status)
    more = {"models": sorted(declared), "enabled": enabled, "model_mapping": mapping, "priority": priority}
    row.update(channel_step(row, **more).sent())
    assert channel_step(row, **more).verb == "none"
    assert set(row["models"].split(",")) == declared and json.loads(row["model_mapping"] or "{}") == ({"x": "a"} if mapping is None else mapping)


@pytest.mark.parametrize("more, says", [({"name": ""}, "empty name"), ({"name": "n" * 31}, "31 bytes"), ({"name": "模" * 11}, "33 bytes"),
                                        ({"models": ["a,b"]}, "commas")])
def test_tokens_that_cannot_be(more, says):
    with pytest.raises(LocalModelsError, match=says):
        tokens.read_wanted([dict(TOKEN, **more)])


@pytest.mark.parametrize("row, more", [
    (TOKEN_ROW, {}), (dict(TOKEN_ROW, models="a,b"), {"models": ["b", "a"]}), (dict(TOKEN_ROW, models=""), {"models": []}),
    (dict(TOKEN_ROW, models="a"), {}), (TOKEN_ROW, {"models": []}), (dict(TOKEN_ROW, status=2), {"enabled": False}),
])
def test_a_token_that_is_as_declared(row, more):
    step = token_step(row, **more)
    assert not step.changed and step.sentences() == [] and step.before() == step.after()


@pytest.mark.parametrize("row, more, changes, new_status, words", [
    (dict(TOKEN_ROW, unlimited_quota=False), {}, {"unlimited_quota": True}, False, "Change token app: unlimited_quota"),
    (dict(TOKEN_ROW, expired_time=0, status=3), {}, {"expired_time": -1}, True, "Enable token app"),
    (dict(TOKEN_ROW, status=4), {}, {}, True, "Enable token app"), (TOKEN_ROW, {"enabled": False}, {}, True, "Disable token app"),
    (TOKEN_ROW, {"models": ["b", "a"]}, {"models": "a,b"}, False, "models"), (dict(TOKEN_ROW, models="a"), {"models": []}, {"models": ""}, False, "models"),
])
def test_a_token_that_is_not(row, more, changes, new_status, words):
    step = token_step(row, **more)
    assert (step.verb, step.changes, step.new_status) == ("update", changes, new_status) and words in " ".join(step.sentences())
    assert step.before() != step.after()


def test_the_key_goes_into_its_file_and_nowhere_else():
    key = "sk-" + TOKEN_ROW["key"]
    assert not token_step(held=key, key_file="/k").changed
    step = token_step(held="something else", key_file="/k")
    assert step.verb == "none" and step.changed and step.sentences() == ["Write the key of token app into /k"]
    assert key not in str([step.before(), step.after(), step.sentences(), step.result(2)]) and TOKEN_ROW["key"] not in str(step.after())
    new = token_step(None, key_file="/k", enabled=False)
    assert new.sentences() == ["Create token app", "Disable token app", "Write the key of token app into /k"]
    assert new.after() == {"status": "disabled", "unlimited_quota": True, "expires": "never", "models": "all", "key_file": "/k (written)"}
    assert token_step(state="absent").after() is None
