# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which models are in memory, and which should be."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _memory
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Action, Found, Wanted, read_wanted

TINY = Found(ModelName.parse("tiny"), "1" * 64)
FOR_EVER, FOR_NOW = "2319-03-05T18:26:09Z", "2026-11-23T19:44:22Z"


def running(name="tiny:latest", digest="1" * 64, until=FOR_EVER, weights=None):
    return _memory.Running([{"name": name, "digest": digest, "expires_at": until}], weights)


def wanted(state, keep_alive=-1):
    return Wanted(TINY.name, state, keep_alive=keep_alive)


SHARED = {ModelName.parse("tiny").key: "sha256:w", ModelName.parse("custom").key: "sha256:w"}
OTHER = {ModelName.parse("tiny").key: "sha256:w", ModelName.parse("custom").key: "sha256:v"}


def decide(wanted, found, now):
    return _memory.decide(wanted, now.entry(found.name, {found.digest}, now.weights.get(found.name.key)) if found else None)


@pytest.mark.parametrize("now, loaded", [
    (_memory.Running([]), False), (running(), True), (running("TINY:Latest", "2" * 64), True), (running("copy:latest"), True),
    (running("custom:latest", "3" * 64, weights=SHARED), True), (running("custom:latest", "3" * 64, weights=OTHER), False),
    (running("custom:latest", "3" * 64), False),
])
def test_a_model_is_loaded_under_its_name_its_digest_or_by_its_weights(now, loaded):
    assert decide(wanted("loaded"), TINY, now) == (None if loaded else "load")
    assert decide(wanted("unloaded"), TINY, now) == ("unload" if loaded else None)


@pytest.mark.parametrize("keep_alive, until, what", [(-1, FOR_NOW, "load"), ("-1m", FOR_NOW, "load"), (-1, FOR_EVER, None), ("10m", FOR_NOW, None),
                                                     (600, FOR_EVER, None)])
def test_who_wants_for_ever_gets_it(keep_alive, until, what):
    assert decide(wanted("loaded", keep_alive), TINY, running(until=until)) == what


def test_what_is_not_there_yet_is_loaded_after_it_came_and_never_unloaded():
    assert decide(wanted("loaded"), None, running()) == "load"
    assert decide(wanted("unloaded"), None, running()) is None


def acting(name, state, verb="none", keep_alive=-1, memory=None, entry=None, weights="w"):
    action = Action(Wanted(ModelName.parse(name), state, keep_alive=keep_alive), verb)
    action.memory, action.entry, action.weights = memory, entry, weights
    return action


ENTRY = {"name": "stray:latest", "digest": "1" * 64, "expires_at": FOR_EVER}


@pytest.mark.parametrize("others, memory, unload_first", [
    ([], None, False), ([acting("stray", "absent", "delete")], "load", True), ([acting("stray", "absent", "prune")], "load", True),
    ([acting("stray", "present", "update")], "load", True), ([acting("stray", "present", "none")], None, False),
    ([acting("else", "absent", "delete")], None, False), ([acting("else", "unloaded", memory="unload", entry=ENTRY)], "load", False)])
def test_what_stays_loaded_is_loaded_again_when_the_name_goes_by_which_it_is_loaded(others, memory, unload_first):
    mine = acting("mine", "loaded", entry=ENTRY)
    _memory.load_again(others + [mine])
    assert (mine.memory, mine.unload_first) == (memory, unload_first)


def test_what_is_loaded_by_its_own_name_needs_no_unloading_before():
    mine = acting("stray", "loaded", "update", entry=ENTRY, memory="load")
    _memory.load_again([mine])
    assert (mine.memory, mine.unload_first) == ("load", False)


@pytest.mark.parametrize("other, again", [
    (acting("a", "loaded", keep_alive="10m", memory="load"), True), (acting("a", "loaded", keep_alive="10m"), False),
    (acting("a", "loaded", memory="load"), False), (acting("a", "loaded", keep_alive="10m", memory="load", weights="v"), False)])
def test_who_stays_for_ever_is_loaded_again_when_the_same_weights_are_loaded_for_a_while(other, again):
    mine, briefly, idle = acting("mine", "loaded", entry=ENTRY), acting("b", "loaded", keep_alive="5m", entry=ENTRY), acting("c", "present")
    _memory.load_again([other, mine, briefly, idle])
    assert (mine.memory, briefly.memory, idle.memory) == ("load" if again else None, None, None)


@pytest.mark.parametrize("first, second, refused", [("loaded", "unloaded", True), ("unloaded", "loaded", True), ("loaded", "loaded", False),
                                                    ("loaded", "present", False)])
def test_the_same_weights_are_not_loaded_and_unloaded(first, second, refused):
    actions = [acting("a", first), acting("b", second), acting("c", "unloaded", weights="v")]
    if refused:
        with pytest.raises(LocalModelsError, match="a:latest is declared %s and b:latest %s, and both have the same weights" % (first, second)):
            _memory.refuse_loaded_and_not(actions)
    else:
        _memory.refuse_loaded_and_not(actions)


@pytest.mark.parametrize("value, read", [(None, -1), (-1, -1), ("-1", -1), ("300", 300), ("10m", "10m"), ("1h30m", "1h30m"), ("1.5h", "1.5h"), ("-1m", "-1m")])
def test_times_as_ollama_takes_them(value, read):
    assert read_wanted([{"name": "x", "state": "loaded", "keep_alive": value}])[0].keep_alive == read


@pytest.mark.parametrize("state, value, said", [
    ("loaded", "soon", "which is no time"), ("loaded", True, "which is no time"), ("loaded", "5 m", "which is no time"),
    ("loaded", [5], "which is no time"), ("loaded", 0, "for no time at all"), ("loaded", "0s", "for no time at all"),
    ("present", "5m", "It belongs to the state loaded"),
])
def test_times_that_are_none(state, value, said):
    with pytest.raises(LocalModelsError) as caught:
        read_wanted([{"name": "x", "state": state, "keep_alive": value}])
    assert said in str(caught.value)
