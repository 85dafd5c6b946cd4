# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models and defaults in FastGPT: the plan leads to what is wanted, a second one is empty, check mode shows the same."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_plan import keep_models
from ansible_collections.localmodels.fastgpt.tests.unit.fastgpt_fake import FakeFastGPT

READ = "GET /api/core/ai/model/getConfigJson"


def wanted(model, kind="llm", **more):
    metadata = {"type": kind, "model": model, "name": model, "isActive": True, "maxContext": 4096, "requestUrl": None}
    metadata.update(more)
    return {"name": model, "state": "present", "metadata": metadata, "initial": {"maxTemperature": 1.2}}


def gone(name):
    return {"name": name, "state": "absent", "metadata": {}, "initial": {}}


def keep(server, records, defaults=None, fallback=None, check=False):
    return keep_models(server.fastgpt(read_only=check), copy.deepcopy(records), defaults or {}, fallback or {})


def test_a_new_model_then_nothing_to_do_in_one_request():
    server = FakeFastGPT()
    first = keep(server, [wanted("a:1")], {"llm": "a:1"})
    assert first["actions"] == ["Add model a:1 (llm)", "Set default llm to a:1"] and first["defaults"] == {"llm": "a:1"}
    assert server.models["a:1"] == {"type": "llm", "model": "a:1", "name": "a:1", "isActive": True, "maxContext": 4096,
                                    "maxTemperature": 1.2, "isDefault": True}
    server.asked.clear()
    second = keep(server, [wanted("a:1")], {"llm": "a:1"})
    assert second["changed"] is False and second["actions"] == [] and second["diff"]["before"] == second["diff"]["after"]
    assert [line for line in server.asked if "account" not in line] == [READ]


@pytest.mark.parametrize("value", [1.0, 0.0, 0.7, 1, [1.0], {"topP": 1.0}])
def test_a_number_is_as_declared_however_javascript_writes_it(value):
    server = FakeFastGPT()
    assert keep(server, [wanted("a:1", charsPointsPrice=value)])["changed"]
    assert keep(server, [wanted("a:1", charsPointsPrice=value)])["actions"] == []


@pytest.mark.parametrize("there, declared", [(1, True), (0, False), (True, 1), ("1", 1)])
def test_a_number_is_no_truth_and_no_text(there, declared):
    server = FakeFastGPT({"a:1": dict(wanted("a:1")["metadata"], vision=there)})
    assert keep(server, [wanted("a:1", vision=declared)], check=True)["actions"] == ["Change vision of model a:1"]


def test_what_people_tuned_and_others_made_stays():
    server = FakeFastGPT({"a:1": {"type": "llm", "model": "a:1", "name": "a:1", "isActive": False, "maxContext": 4096,
                                  "maxTemperature": 0.3, "defaultConfig": {"think": False, "num_ctx": 99}},
                          "gpt": {"type": "llm", "model": "gpt", "isActive": True, "isDefault": True}})
    keep(server, [wanted("a:1", defaultConfig={"num_ctx": None})])
    assert server.models["a:1"]["maxTemperature"] == 0.3 and server.models["a:1"]["isActive"] is True
    assert server.models["a:1"]["defaultConfig"] == {"think": False}
    assert server.models["gpt"]["isDefault"] is True


def test_an_address_of_its_own_is_taken_away_and_its_key_not_shown():
    server = FakeFastGPT({"a:1": dict(wanted("a:1")["metadata"], requestUrl="http://x/v1", requestAuth="hush-hush")})
    result = keep(server, [wanted("a:1", requestAuth=None)])
    assert "requestUrl" not in server.models["a:1"] and "requestAuth" not in server.models["a:1"]
    assert "hush-hush" not in str(result) and "http://x/v1" in result["diff"]["before"]


def test_absent_deletes_ours_and_deactivates_presets():
    preset = {"type": "embedding", "model": "bge-m3", "isActive": True}
    server = FakeFastGPT({"a:1": wanted("a:1")["metadata"], "bge-m3": preset}, presets=["bge-m3"])
    result = keep(server, [gone("a:1"), gone("bge-m3"), gone("never:1")])
    assert result["actions"] == ["Delete model a:1", "Deactivate model bge-m3, which FastGPT brings itself and does not delete"]
    assert server.models == {"bge-m3": dict(preset, isActive=False)}
    assert keep(server, [gone("a:1"), gone("bge-m3"), gone("never:1")])["changed"] is False


def test_defaults_that_are_not_named_are_sent_again():
    server = FakeFastGPT({"a:1": dict(wanted("a:1")["metadata"], isDefault=True, isDefaultDatasetTextModel=True),
                          "b:1": wanted("b:1")["metadata"]})
    result = keep(server, [wanted("a:1"), wanted("b:1")], {"llm": "b:1"})
    assert result["defaults"] == {"llm": "b:1", "datasetTextLLM": "a:1"} and result["actions"] == ["Set default llm to b:1"]
    assert server.models["a:1"]["isDefaultDatasetTextModel"] is True


def test_a_fallback_yields_to_a_default_that_somebody_chose():
    server = FakeFastGPT({"gpt": {"type": "llm", "model": "gpt", "isActive": True, "isDefault": True}})
    result = keep(server, [wanted("a:1")], fallback={"llm": "a:1", "datasetTextLLM": "a:1"})
    assert result["defaults"] == {"llm": "gpt", "datasetTextLLM": "a:1"}


def test_a_fallback_replaces_a_default_that_goes():
    server = FakeFastGPT({"old": dict(wanted("old")["metadata"], isDefault=True)})
    assert keep(server, [gone("old"), wanted("a:1")], fallback={"llm": "a:1"})["defaults"] == {"llm": "a:1"}


@pytest.mark.parametrize("defaults, words", [
    ({"llm": "nobody"}, "FastGPT has no such model. Declare it among the models, or choose one of a:1.$"),
    ({"embedding": "a:1"}, "one of type embedding is needed"),
    ({"llm": "off"}, "an inactive model .* Choose another model for it")])
def test_useless_defaults_are_refused_before_anything_is_written(defaults, words):
    server = FakeFastGPT({"off": {"type": "llm", "isActive": False}, "vectors": {"type": "embedding", "isActive": True}})
    with pytest.raises(LocalModelsError, match=words):
        keep(server, [wanted("a:1")], defaults)
    assert server.written == []


@pytest.mark.parametrize("records", [
    [wanted("a:1"), wanted("a:1")], [wanted("a:1", name="same"), wanted("b:1", name="same")], [wanted("a:1", name="b:1"), wanted("b:1")]])
def test_two_models_under_one_name_are_refused(records):
    with pytest.raises(LocalModelsError, match="Two of the models are called"):
        keep(FakeFastGPT(), records)


def test_a_change_that_fastgpt_does_not_keep_is_told(monkeypatch):
    server = FakeFastGPT({"b:1": {"type": "llm"}})
    monkeypatch.setattr(server, "ai_model_update", lambda query, body: server.ai_model_getConfigJson(query, body))
    with pytest.raises(LocalModelsError, match="did not keep them all: Add model a:1"):
        keep(server, [wanted("a:1")])


names = some.sampled_from(["a:1", "b:1", "c:1", "bge-m3"])
kinds = some.sampled_from(["llm", "embedding"])
stored = some.dictionaries(names, some.fixed_dictionaries(
    {"type": kinds}, optional={"isActive": some.booleans(), "maxContext": some.integers(1, 3), "name": some.sampled_from(["x", "a:1"]),
                               "isDefault": some.booleans(), "requestUrl": some.just("http://x"),
                               "defaultConfig": some.dictionaries(some.sampled_from(["num_ctx", "think"]), some.integers(1, 2))}))
records = some.lists(some.builds(
    lambda name, kind, context, absent, ctx: gone(name) if absent else wanted(name, kind, maxContext=context, defaultConfig={"num_ctx": ctx}),
    names, kinds, some.integers(1, 3), some.booleans(), some.sampled_from([None, 1, 2])), unique_by=lambda one: one["name"])


@given(stored=stored, wanted_models=records, presets=some.sets(some.just("bge-m3")))
def test_any_plan_leads_to_what_is_wanted_and_check_mode_says_the_same(stored, wanted_models, presets):
    fallback = {one["metadata"]["type"]: one["name"] for one in wanted_models if one["state"] == "present"}
    server = FakeFastGPT(copy.deepcopy(stored), presets)
    told = keep(server, wanted_models, fallback=fallback, check=True)
    assert server.written == [] and server.models == stored
    done = keep(server, wanted_models, fallback=fallback)
    assert told == done
    for one in wanted_models:
        found = server.models.get(one["name"])
        if one["state"] == "present":
            assert found["type"] == one["metadata"]["type"] and found["isActive"] is True and "requestUrl" not in found
            assert found["maxContext"] == one["metadata"]["maxContext"]
            assert (found.get("defaultConfig") or {}).get("num_ctx") == one["metadata"]["defaultConfig"]["num_ctx"]
        else:
            assert found is None or (one["name"] in presets and not found.get("isActive"))
    for name in set(stored) - {one["name"] for one in wanted_models}:
        assert {key: value for key, value in server.models[name].items() if key != "isDefault"} == {
            key: value for key, value in stored[name].items() if key != "isDefault"}
    assert keep(server, wanted_models, fallback=fallback)["changed"] is False
