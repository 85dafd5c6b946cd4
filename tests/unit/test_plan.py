# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner: any found models, any declared ones - applying the plan gives what was declared, and a second plan is empty."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _memory, _plan
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found, plan, read_wanted
from hypothesis import given
from hypothesis import strategies as st

POOL = ["qwen2.5:0.5b", "Qwen2.5:0.5B", "tiny", "tiny:latest", "registry.ollama.ai/library/tiny", "hf.co/u/r:Q4", "me/x:v1", "z"]
DIGESTS = ["a" * 64, "b" * 64, "c" * 64]


class Manifest:
    def __init__(self, digest, size=100):
        self.digest, self.size = digest, size
        self.digests, self.weights = {digest}, ""

    def is_the_same(self, found):
        return found.digest == self.digest


def found(*pairs):
    return [Found(ModelName.parse(name), digest, 100) for name, digest in pairs]


def one_of_each(pairs):
    return list({ModelName.parse(name): (name, digest) for name, digest in pairs}.values())


founds = st.lists(st.tuples(st.sampled_from(POOL), st.sampled_from(DIGESTS))).map(one_of_each).map(lambda pairs: found(*pairs))
MADE = {"made": "tiny", "made-of-made": "made", "other": "qwen2.5:0.5b"}


def item(name, state):
    # A model that is not declared present would make a base of its own absent, which is refused.
    return {"name": name, "state": state} if name not in MADE else {"name": name, "state": "present", "from": MADE[name]}


def without_absent_bases(items):
    bases = {ModelName.parse(one["from"]) for one in items if "from" in one}
    return [one for one in items if one["state"] != "absent" or ModelName.parse(one["name"]) not in bases]  # refused, see below


items = st.lists(st.builds(item, st.sampled_from(POOL + sorted(MADE)), st.sampled_from(_plan.STATES)),
                 unique_by=lambda item: ModelName.parse(item["name"])).map(without_absent_bases)
wanteds = items.map(read_wanted)
manifests = st.dictionaries(st.sampled_from([ModelName.parse(name).key for name in POOL]), st.sampled_from(DIGESTS).map(Manifest))


@given(founds, wanteds, manifests)
def test_applying_the_plan_gives_what_was_declared_and_a_second_plan_is_empty(held, wanted, known):
    after = _plan.apply(held, plan(held, wanted, known))
    digests = {one.name.key: one.digest for one in after}
    for one in wanted:
        assert (one.name.key in digests) == (one.state != "absent")
        if one.state == "latest" and one.name.key in known:
            assert digests[one.name.key] == known[one.name.key].digest
    again = plan(after, wanted, known)
    assert not any(action.changes for action in again)
    assert {a.name.key for a in again if a.verb not in ("none", "recheck")} <= {
        w.name.key for w in wanted if w.state == "latest" and w.name.key not in known}


@given(founds, wanteds, manifests)
def test_what_was_not_declared_is_left_alone(held, wanted, known):
    declared = {one.name.key for one in wanted}
    after = {one.name.key: one.digest for one in _plan.apply(held, plan(held, wanted, known))}
    for one in held:
        if one.name.key not in declared:
            assert after[one.name.key] == one.digest


@given(founds, wanteds, manifests)
def test_the_diff_is_empty_exactly_if_nothing_changes(held, wanted, known):
    actions = plan(held, wanted, known)
    diff = _plan.diff(held, _plan.apply(held, actions), actions, "http://here")
    assert (diff["before"] == diff["after"]) == (not any(action.changes for action in actions))


@given(founds, wanteds)
def test_a_base_comes_before_what_is_made_from_it(held, wanted):
    order = [action.name for action in plan(held, wanted)]
    for action in plan(held, wanted):
        if action.wanted.recipe:
            assert order.index(action.wanted.recipe.base) < order.index(action.name)


@given(founds, wanteds, manifests, st.sets(st.sampled_from(sorted(MADE))))
def test_a_model_is_made_if_it_is_missing_or_differs_or_its_base_changes(held, wanted, known, differing):
    differences = {ModelName.parse(name).key: [("system", "x", "y")] for name in differing}
    there = {one.name for one in held}
    actions = {action.name: action for action in plan(held, wanted, known, differences)}
    for one in actions.values():
        if one.wanted.recipe:
            base = actions[one.wanted.recipe.base]
            sure = one.name not in there or base.changes or one.name.key in differences
            assert one.verb == (("recreate" if one.name in there else "create") if sure else
                                "recheck" if base.verb in ("ask", "recheck") else "none")


@given(founds, wanteds)
def test_the_registry_is_asked_only_about_what_may_be_pulled(held, wanted):
    asked = {one.name.key for one in _plan.to_ask_for(held, wanted)}
    pulled = {action.name.key for action in plan(held, wanted) if action.pulls}
    assert asked == pulled


def test_deletions_come_first_and_each_action_has_its_sentence():
    held = found(("old", "a" * 64), ("same", "b" * 64), ("moved", "c" * 64), ("unclear", "d" * 64))
    wanted = read_wanted([{"name": "new"}, "same", {"name": "moved", "state": "latest"}, {"name": "unclear", "state": "latest"},
                          {"name": "old", "state": "absent"}, {"name": "never", "state": "absent"}])
    known = {ModelName.parse("new").key: Manifest("e" * 64, 397821319), ModelName.parse("moved").key: Manifest("f" * 64, 5000)}
    assert [(a.verb, a.sentence()) for a in plan(held, wanted, known)] == [
        ("delete", "Delete old:latest"),
        ("pull", "Pull new:latest (397.8 MB)"),
        ("none", "Leave same:latest as it is"),
        ("update", "Pull the newer moved:latest (5.0 kB)"),
        ("ask", "Ask the registry for a newer unclear:latest"),
        ("none", "Leave never:latest as it is"),
    ]


def test_what_is_made_has_its_sentences_and_its_lines():
    held = found(("base", "a" * 64), ("differs", "b" * 64))
    wanted = read_wanted([{"name": "new", "from": "base", "state": "loaded"}, {"name": "differs", "from": "base"}])
    actions = plan(held, wanted, {}, {ModelName.parse("differs").key: [("system", "Be kind", "Be\nterse")]}, _memory.Running([]))
    assert [(one.sentence(), one.memory_sentence()) for one in actions] == [
        ("Leave base:latest as it is", ""), ("Create new:latest from base:latest", "Load new:latest"),
        ("Create differs:latest anew from base:latest, not as declared: system", "")]
    assert _plan.diff(held, _plan.apply(held, actions), actions, "x")["after"] == (
        "base:latest aaaaaaaaaaaa 100 B\ndiffers:latest unknown\ndiffers:latest system: \"Be\\nterse\"\nnew:latest unknown loaded\n")
    assert "differs:latest system: Be kind\n" in _plan.diff(held, held, actions, "x")["before"]


def test_the_latest_of_what_is_made_is_made_from_the_latest():
    assert [(one.name.short, one.state) for one in read_wanted([{"name": "mine", "from": "base", "state": "latest", "insecure": True}])] == [
        ("base:latest", "latest"), ("mine:latest", "latest")]
    assert [one.name.short for one in _plan.to_ask_for([], read_wanted([{"name": "mine", "from": "base"}]))] == ["base:latest"]


def test_a_model_that_is_made_anew_is_loaded_anew():
    held, running = found(("base", "a" * 64), ("mine", "b" * 64)), _memory.Running([{"name": "mine:latest", "digest": "b" * 64, "expires_at": "2319"}])
    wanted = read_wanted([{"name": "mine", "from": "base", "state": "loaded"}])
    assert plan(held, wanted, {}, {}, running)[1].memory is None
    assert plan(held, wanted, {}, {wanted[1].name.key: [("system", "", "x")]}, running)[1].memory == "load"


def test_the_spelling_of_the_server_is_kept():
    held = found(("Tiny-Upper:V1", "a" * 64))
    delete = plan(held, read_wanted([{"name": "tiny-upper:v1", "state": "absent"}]))[0]
    assert (delete.verb, delete.shown) == ("delete", "Tiny-Upper:V1")
    assert [one.name.short for one in _plan.to_ask_for(held, read_wanted([{"name": "tiny-upper:v1", "state": "latest"}]))] == ["Tiny-Upper:V1"]


def test_two_spellings_in_one_list_are_one_model():
    wanted = read_wanted(["x", "x:latest", {"name": "registry.ollama.ai/library/X", "default_for": ["llm"]}])
    assert [one.name.short for one in wanted] == ["x:latest"]


def test_keys_of_other_roles_are_left_alone():
    item = {"name": "x", "default_for": ["llm"], "display_name": "X", "context": 8192, "max_response": 1024, "vision": True,
            "tools": False, "reasoning": True, "type": "llm", "house_rule": 1}
    assert len(read_wanted([item])) == 1


@pytest.mark.parametrize("models, said", [
    (["x", {"name": "x:latest", "state": "absent"}], "x:latest is declared twice, with state present and with state absent"),
    ([{"name": "x", "insecure": True}, {"name": "X", "insecure": False}], "with insecure True and with insecure False"),
    ([{"name": "x", "state": "gone"}], "the state 'gone', which is unknown. Choose one of present, absent, latest, loaded, unloaded"),
    ([{"name": "x", "sate": "absent"}], "the key 'sate', which is unknown. Probably state is meant"),
    ([{"nmae": "x"}], "Probably name is meant"),
    ([{"name": "x", "contxt": 8192}], "the key 'contxt', which is unknown. Probably context is meant"),
    ([{"name": "x", "display_nam": "X"}], "Probably display_name is meant"),
    ([{"name": "x", "defaultfor": ["llm"]}], "Probably default_for is meant"),
    ([{"name": "x", "max_respons": 1}], "Probably max_response is meant"),
    ([{"name": "x", "num_ctx": 8192}], "Write it under parameters, for a model that is made from another one; or write context"),
    ([{"name": "x", "temperature": 0.2}], "Write it under parameters, for a model that is made from another one"),
    # What FastGPT's roles would refuse is refused before a model is pulled.
    ([{"name": "x", "default_for": "llm"}], "x:latest has default_for 'llm', which is no list. Write default_for: [llm]"),
    ([{"name": "x", "default_for": ["chat"]}], "default_for 'chat', which is unknown. Choose from llm, embedding, dataset_text, dataset_image"),
    ([{"name": "x", "default_for": [{}]}], "default_for {}, which is unknown"),
    ([{"name": "x", "context": "8k"}], "x:latest has context '8k', which is no number of tokens. Write a whole number above 0, such as 8192"),
    ([{"name": "x", "max_response": 0}], "x:latest has max_response 0, which is no number of tokens"),
    ([{"name": "x", "tools": "maybe"}], "x:latest has tools 'maybe', which is neither true nor false"),
    ([{"name": "x", "type": "rerank"}], "x:latest has the type 'rerank', which FastGPT cannot get from Ollama. Choose llm or embedding"),
    ([{"state": "absent"}], "has no name"),
    ([{"name": "x", "insecure": "maybe"}], "neither true nor false"),
    ([["x"]], "neither a name nor a map"),
    ([None], "neither a name nor a map"),
    (["x", "!bad"], "'!bad' is no model name"),
    ([{"name": "x", "from": "y"}, {"name": "y", "from": "x"}], "x:latest is made from itself, by way of others"),
    ([{"name": "x", "from": "y"}, {"name": "y", "state": "absent"}], "y:latest is declared absent, and x:latest is made from it"),
    ([{"name": "x", "from": "y", "state": "loaded"}, {"name": "y", "state": "unloaded"}],
     "y:latest is declared unloaded and x:latest loaded, and both have the same weights"),
    ([{"name": "x", "from": "y"}, "x"], "with recipe from y:latest and with recipe None"),
])
def test_lists_that_cannot_be_meant_so(models, said):
    with pytest.raises(LocalModelsError) as caught:
        read_wanted(models)
    assert said in str(caught.value)


@pytest.mark.parametrize("value, read", [(True, True), (False, False)] + [
    (word, number % 2 == 0) for number, word in enumerate(["true", "False", "YES", "no", "on", "off", "1", "0", 1, 0])])
def test_what_is_true_and_what_is_false(value, read):
    assert read_wanted([{"name": "x", "insecure": value}])[0].insecure is read


@pytest.mark.parametrize("first, second, used, context", [
    ({}, {"default_for": ["llm"], "context": 5}, True, 5), ({"default_for": ["llm"], "context": "5"}, {}, True, 5),
    ({}, {"context": None}, False, 0)])
def test_two_spellings_of_a_model_say_together_how_it_is_used(first, second, used, context):
    one, = read_wanted([dict(first, name="x"), dict(second, name="X:latest")])
    assert (one.used, one.context) == (used, context)


def test_nobody_knows_whether_what_is_made_fits_until_it_is_made_again():
    held, wanted = found(("base", "a" * 64), ("mine", "b" * 64)), read_wanted([{"name": "mine", "from": "base"}])
    assert [one.verb for one in plan(held, wanted, {}, {wanted[1].name.key: None})] == ["none", "recheck"]


def test_check_mode_shows_a_model_as_the_server_spells_it():
    held = found(("Tiny:V1", "a" * 64))
    wanted = read_wanted([{"name": "tiny:v1", "state": "latest"}])
    actions = plan(held, wanted, {wanted[0].name.key: Manifest("b" * 64)})
    assert [one.name.short for one in _plan.apply(held, actions)] == ["Tiny:V1"]
    assert _plan.diff(held, _plan.apply(held, actions), actions, "x")["after"] == "Tiny:V1 bbbbbbbbbbbb 100 B\n"


def test_a_diff_shows_what_is_in_memory_before_and_after():
    held = found(("on", "a" * 64), ("off", "b" * 64))
    wanted = read_wanted([{"name": "on", "state": "loaded"}, {"name": "off", "state": "unloaded"}])
    actions = plan(held, wanted, {}, {}, _memory.Running([{"name": "off:latest", "digest": "b" * 64, "expires_at": "2026"}]))
    shown = _plan.diff(held, held, actions, "x")
    assert shown["before"] == "off:latest bbbbbbbbbbbb 100 B loaded\non:latest aaaaaaaaaaaa 100 B\n"
    assert shown["after"] == "off:latest bbbbbbbbbbbb 100 B\non:latest aaaaaaaaaaaa 100 B loaded\n"


@pytest.mark.parametrize("insecure, item, read", [(True, "x", True), (True, {"name": "x", "insecure": False}, False),
                                                  (False, {"name": "x", "insecure": "yes"}, True)])
def test_insecure_is_the_items_own_or_else_the_lists(insecure, item, read):
    assert read_wanted([item], insecure)[0].insecure is read


def test_a_diff_that_a_person_can_read():
    held = found(("old", "a" * 64), ("elsewhere", "9" * 64))
    wanted = read_wanted([{"name": "old", "state": "absent"}, "new"])
    actions = plan(held, wanted, {ModelName.parse("new").key: Manifest("e" * 64, 397821319)})
    assert _plan.diff(held, _plan.apply(held, actions), actions, "http://here") == {
        "before": "old:latest aaaaaaaaaaaa 100 B\n", "after": "new:latest eeeeeeeeeeee 397.8 MB\n",
        "before_header": "models at http://here", "after_header": "models at http://here"}
