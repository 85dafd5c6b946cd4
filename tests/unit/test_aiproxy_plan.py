# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels of AI Proxy: what is refused, what differs, what is done about it."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _aiproxy_plan as plan_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from hypothesis import given
from hypothesis import strategies as st

ITEM = {"name": "ollama", "state": "present", "type": "ollama", "base_url": "http://ollama:11434", "models": ["a", {"name": "e", "type": "embedding"}],
        "key": None, "model_mapping": None, "priority": None, "sets": None, "enabled": True}
ROW = {"id": 3, "name": "ollama", "type": 30, "key": "k", "base_url": "http://ollama:11434", "models": ["e", "a"], "model_mapping": None,
       "priority": 0, "status": 1}
DECLARED = {"a": 1, "e": 3}


def step(row=ROW, declared=None, **options):
    wanted = plan_of.read_wanted([dict(ITEM, **options)])
    return plan_of.plan([row] if row else [], wanted, DECLARED if declared is None else declared, plan_of.KNOWN_TYPES)[0]


@pytest.mark.parametrize("options, said", [
    ({"base_url": "http://localhost:11434"}, "inside AI Proxy's container that is the container itself"),
    ({"base_url": "http://127.0.0.1:11434"}, "the container itself"),
    ({"base_url": "http://127.8.0.1:11434"}, "the container itself"),
    ({"base_url": "http://[::1]:11434"}, "the container itself"),
    ({"base_url": "http://0.0.0.0:11434"}, "the container itself"),
    ({"base_url": "http://ollama:11434/v1"}, "AI Proxy adds /api/chat itself"),
    ({"base_url": "http://ollama:11434/v1/"}, "use the type openai"),
    ({"base_url": "ollama:11434"}, "is no http URL"),
    ({"base_url": None}, "is no http URL"),
    ({"base_url": "http://%s:11434" % ("h" * 120)}, "AI Proxy keeps 128"),
    ({"name": "n" * 65}, "AI Proxy keeps 64"),
    ({"name": " "}, "empty name"),
    ({"models": []}, "has no models"),
    ({"models": None}, "has no models"),
    ({"models": ["a", 7]}, "7 is no model"),
    ({"models": [{"name": "a", "kind": "chat"}]}, "is no model"),
    ({"models": [{"name": "a", "type": "speech"}]}, "has the type 'speech'"),
    ({"models": ["a", {"name": "a", "type": "embedding"}]}, "as chat and as embedding"),
    ({"models": ["m" * 129]}, "AI Proxy keeps 128"),
    ({"key": "one\ntwo"}, "one channel of each line"),
])
def test_what_cannot_work_is_refused_with_the_reason(options, said):
    with pytest.raises(LocalModelsError) as caught:
        plan_of.read_wanted([dict(ITEM, **options)])
    assert said in str(caught.value) and "one\ntwo" not in str(caught.value)


def test_an_address_with_v1_is_right_for_the_type_openai():
    assert plan_of.read_wanted([dict(ITEM, type="openai", base_url="http://ollama:11434/v1")])


def test_one_name_twice_is_refused_and_a_deletion_needs_nothing_else():
    with pytest.raises(LocalModelsError, match="declared twice"):
        plan_of.read_wanted([ITEM, ITEM])
    assert not plan_of.read_wanted([dict(ITEM, state="absent", base_url=None, models=None)])[0].present


@pytest.mark.parametrize("row", [
    dict(ROW, models=["a", "e"]), dict(ROW, base_url="http://ollama:11434/"), dict(ROW, model_mapping={}), dict(ROW, key="another"),
    dict(ROW, priority=7), dict(ROW, sets=["gpu"]), dict(ROW, request_count=99, accessed_at=5, balance_threshold=3),
])
def test_what_was_not_declared_and_what_the_server_makes_up_is_no_difference(row):
    assert step(row).verb == "none" and not step(row).changed and step(row).sentences() == []
    assert step(row).before() == step(row).after()


@pytest.mark.parametrize("options, row", [
    ({"sets": ["default"]}, ROW), ({"sets": []}, ROW), ({"sets": ["b", "a"]}, dict(ROW, sets=["a", "b"])), ({"model_mapping": {}}, ROW),
    ({"priority": 0}, ROW), ({"key": ""}, dict(ROW, key="")), ({"priority": 5}, {k: v for k, v in ROW.items() if k != "priority"}),
])
def test_empty_and_null_and_missing_are_the_same(options, row):
    assert step(row, **options).verb == "none"


@pytest.mark.parametrize("options, row, sentence", [
    ({"models": ["a", "x"]}, ROW, "Change channel ollama: models + x, - e"),
    ({}, dict(ROW, models=["a", "e", "e"]), "Change channel ollama: models each once"),
    ({"base_url": "http://gpu:11434"}, ROW, "Change channel ollama: base_url http://ollama:11434 -> http://gpu:11434"),
    ({"key": "s3cret"}, ROW, "Change channel ollama: key"),
    ({"priority": 5}, ROW, "Change channel ollama: priority 0 -> 5"),
    ({"sets": ["gpu"]}, ROW, "Change channel ollama: sets + gpu"),
    ({"model_mapping": {"a": "b"}}, ROW, "Change channel ollama: model_mapping none -> {'a': 'b'}"),
    ({}, dict(ROW, type=1), "Change channel ollama: type 1 -> 30"),
    ({}, dict(ROW, status=2), "Enable channel ollama"),
    ({}, dict(ROW, status=3), "Enable channel ollama"),  # switched off by the server
    ({"enabled": False}, ROW, "Disable channel ollama"),
    ({"state": "absent"}, ROW, "Delete channel ollama"),
    ({}, None, "Create channel ollama to http://ollama:11434 with a, e"),
])
def test_each_difference_has_its_sentence(options, row, sentence):
    found = step(row, declared={"a": 1, "e": 3, "x": 1}, **options)
    assert found.changed and found.sentences() == [sentence]
    assert "s3cret" not in str(found.before()) + str(found.after())
    assert found.before() != found.after()


def test_a_channel_that_is_not_there_is_not_deleted():
    assert not step(None, state="absent").changed


def test_only_missing_model_configs_are_made_and_before_the_channel():
    found = step(None, declared={"a": 0})
    assert found.missing == {"e": 3}
    assert found.sentences()[0] == "Declare e as a model of type embedding" and found.sentences()[1].startswith("Create")


def test_a_model_of_two_channels_is_declared_once():
    wanted = plan_of.read_wanted([ITEM, dict(ITEM, name="second")])
    assert [one.missing for one in plan_of.plan([], wanted, {}, plan_of.KNOWN_TYPES)] == [{"a": 1, "e": 3}, {}]


def test_deletions_come_last():
    wanted = plan_of.read_wanted([dict(ITEM, name="old", state="absent"), ITEM])
    steps = plan_of.plan([dict(ROW, name="old", id=2)], wanted, DECLARED, plan_of.KNOWN_TYPES)
    assert [one.verb for one in steps] == ["create", "delete"]


def test_a_model_config_of_another_type_is_kept_and_told():
    wanted = plan_of.read_wanted([ITEM])
    assert plan_of.conflicts(wanted, {"a": 1, "e": 3}) == [] == plan_of.conflicts(wanted, {"a": 0, "e": 0})
    assert ["e has a model config of type chat" in one for one in plan_of.conflicts(wanted, {"a": 1, "e": 1})] == [True]


NAMES = st.lists(st.sampled_from(["a", "b", "c:1", "hf.co/x/y"]), min_size=1)
OPTIONS = st.fixed_dictionaries({}, optional={
    "models": NAMES, "priority": st.integers(-1, 20), "sets": st.lists(st.sampled_from(["default", "gpu"])), "enabled": st.booleans(),
    "key": st.sampled_from(["", "k1", "k2"]), "model_mapping": st.dictionaries(st.sampled_from("ab"), st.sampled_from("cd")),
    "base_url": st.sampled_from(["http://ollama:11434", "http://gpu:11434/"])})
ROWS = st.none() | st.builds(lambda models, status, more: dict(ROW, models=models, status=status, **more), st.none() | NAMES,
                             st.integers(0, 3), st.fixed_dictionaries({}, optional={"sets": st.just(["gpu"]), "model_mapping": st.just({"a": "c"})}))


@given(OPTIONS, ROWS)
def test_what_was_done_is_found_done(options, row):
    first = step(row, **options)
    if not first.changed:
        return
    stored = dict(row or {"id": 9, "name": "ollama", "priority": 0}, **first.changes)
    stored["status"] = first.wanted.status
    stored = {name: value for name, value in stored.items() if value or name not in ("sets", "configs")}  # left out when empty
    second = step(stored, declared=dict(DECLARED, **first.missing), **options)
    assert not second.changed, second.sentences()
    after = {key: value for key, value in first.after().items() if key not in ("new_model_configs", "key")}
    assert after == {key: value for key, value in second.before().items() if key != "key"}
