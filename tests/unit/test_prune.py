# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nobody declared goes; what is shared is counted once."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _plan, _prune
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found, read_wanted
from hypothesis import given
from hypothesis import strategies as st

LAYERS = {"l1": 1, "l2": 10, "l3": 100, "l4": 1000}
POOL = ["a", "b", "me/c:v1", "registry.lab/lab/d:F16", "house-1", "house-2"]
held = st.dictionaries(st.sampled_from(POOL), st.sets(st.sampled_from(sorted(LAYERS)), min_size=1))
declared = st.lists(st.sampled_from(POOL), unique=True)


def found_of(held):
    return [Found(ModelName.parse(name), "1" * 64, sum(LAYERS[one] for one in layers)) for name, layers in sorted(held.items())]


def reader(held):
    by_name = {ModelName.parse(name): {one: LAYERS[one] for one in layers} for name, layers in held.items()}
    return by_name.get


@given(held, declared, st.lists(st.sampled_from(["A", "house-*", "*/c:*", "registry.lab/*"])))
def test_what_is_left_is_declared_or_protected_and_each_byte_is_counted_once(held, declared, protect):
    found, wanted = found_of(held), read_wanted(declared)
    prunes = _prune.undeclared(found, wanted, protect)
    assert _prune.count_freed(prunes, found, reader(held))
    left = {one.name.short for one in _plan.apply(found, prunes)}
    protected = _prune.protection(protect)
    assert left == {one.name.short for one in found if one.name in [w.name for w in wanted] or protected(one.name)}
    before = set().union(*held.values())
    after = set().union(*[layers for name, layers in held.items() if ModelName.parse(name).short in left])
    assert sum(action.size for action in prunes) == sum(LAYERS[one] for one in before - after)
    assert _prune.undeclared(_plan.apply(found, prunes), wanted, protect) == []


def test_a_layer_that_two_of_them_share_is_counted_with_the_last_one_and_one_that_stays_not_at_all():
    found = found_of({"a": {"l1", "l4"}, "b": {"l1", "l2"}, "house-1": {"l2"}})
    actions = _plan.plan(found, read_wanted(["house-1"])) + _prune.undeclared(found, read_wanted(["house-1"]), [])
    assert _prune.count_freed(actions, found, reader({"a": {"l1", "l4"}, "b": {"l1", "l2"}, "house-1": {"l2"}}))
    assert [(one.shown, one.size) for one in actions[1:]] == [("a:latest", 1000), ("b:latest", 1)]


def test_without_the_store_the_most_that_can_get_free_is_told():
    found = found_of({"a": {"l1", "l4"}, "b": {"l1"}})
    prunes = _prune.undeclared(found, read_wanted(["b"]), [])
    assert not _prune.count_freed(prunes, found, lambda name: None)
    assert [(one.shown, one.size, one.sentence()) for one in prunes] == [("a:latest", 1001, "Delete a:latest, which is not declared (1.0 kB)")]


def test_a_diff_names_what_goes_and_what_that_frees():
    held = {"a": {"l1", "l4"}, "b": {"l1"}, "house-1": {"l1"}}
    found, wanted = found_of(held), read_wanted(["house-1"])
    actions = _plan.plan(found, wanted) + _prune.undeclared(found, wanted, [])
    exact = _prune.count_freed(actions, found, reader(held))
    shown = _plan.diff(found, _plan.apply(found, actions), actions, "x", exact)
    assert shown["before"].splitlines() == ["a:latest 111111111111 1.0 kB frees 1.0 kB", "b:latest 111111111111 1 B frees 0 B",
                                            "house-1:latest 111111111111 1 B"]
    assert shown["after"] == "house-1:latest 111111111111 1 B\n"
    exact = _prune.count_freed(actions, found, lambda name: None)
    assert "frees at most " in _plan.diff(found, _plan.apply(found, actions), actions, "x", exact)["before"]
    assert "frees" not in str(_plan.diff(found, found, actions, "x")), "what could not be deleted stays"


def test_bytes_that_a_declared_deletion_frees_are_not_counted_again():
    held = {"a": {"l1", "l4"}, "b": {"l1"}, "house-1": {"l3"}}
    found, wanted = found_of(held), read_wanted([{"name": "a", "state": "absent"}, "house-1"])
    actions = _plan.plan(found, wanted) + _prune.undeclared(found, wanted, [])
    assert _prune.count_freed(actions, found, reader(held))
    assert [(one.verb, one.size) for one in actions] == [("delete", None), ("none", 100), ("prune", 1)]


def test_what_declared_models_are_made_from_stays():
    found = found_of({"a": {"l1"}, "b": {"l1"}})
    assert _prune.undeclared(found, read_wanted([{"name": "b", "from": "a"}]), []) == []


@pytest.mark.parametrize("models", [[], [{"name": "x", "state": "absent"}]])
def test_an_empty_list_needs_a_yes(models):
    with pytest.raises(LocalModelsError) as caught:
        _prune.refuse_empty(read_wanted(models), False)
    assert "allow_empty: true" in str(caught.value)
    _prune.refuse_empty(read_wanted(models), True)


@pytest.mark.parametrize("protect, name, kept", [("House-1:latest", "house-1", True), ("HOUSE-*", "house-1", True), ("house-?", "house-12", False),
                                                 ("registry.ollama.ai/library/*", "x", True), ("x", "x:v1", False)])
def test_protection_knows_spellings_and_patterns(protect, name, kept):
    assert _prune.protection([protect])(ModelName.parse(name)) is kept


def test_a_protection_that_is_no_name_is_refused():
    with pytest.raises(LocalModelsError):
        _prune.protection(["!bad"])
