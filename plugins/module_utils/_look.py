# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking closer at some models of a server: how they are made, what is in memory. Reads only. Internal to this collection."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _memory, _recipe
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import Refused
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName

AT_ONCE = 4


def memory_matters(wanted):
    """Whether the state of one of the models (list of _plan.Wanted) is about memory."""
    return any(one.state in _memory.STATES for one in wanted)


def nothing_runs():
    """What a server where nothing listens yet has in memory."""
    return _memory.Running([])


def closer(ollama, found, wanted):
    """(differences, running) for _plan.plan: one request for each model that is made from another one and for its base, and one for what
    runs if that matters."""
    held = {one.name: one for one in found}
    made = [one for one in wanted if one.recipe and not one.recipe.of_files and one.name in held and one.recipe.base in held]
    running = ollama.running() if memory_matters(wanted) else []
    names = {one.name for one in made} | {one.recipe.base for one in made}
    # Names and digests decide for most; weights only for a model that is not listed itself, and where
    # one is to be loaded and another not, or not for ever.
    plain = _memory.Running(running)
    touched = [one for one in wanted if one.state in _memory.STATES]
    mixed = len({(one.state, _memory.is_forever(one.keep_alive)) for one in touched}) > 1
    unclear = [one for one in touched if running and (one.recipe or not (
        one.name in held and one.digest in ("", held[one.name].digest) and plain.entry(one.name, {held[one.name].digest})))]
    names |= {root for root in (_root(one, wanted) for one in (touched if mixed else unclear)) if root in held}
    if unclear:
        # A model that was pulled anew runs with its old weights until it is loaded again; one that was made anew has the same ones.
        made_here = {one.name for one in wanted if one.recipe}
        runs = [(ModelName.parse(one["name"]), one.get("digest")) for one in running]
        names |= {name for name, digest in runs if name in held and (held[name].digest == digest or name in made_here)}
    shown = _shown(ollama, {name: held[name].name.short if name in held else name.short for name in names})
    differences = {one.name.key: _recipe.differences(one.recipe, shown[one.name], shown[one.recipe.base]) for one in made}
    weights = {name.key: _recipe.weights(said) for name, said in shown.items()}
    return differences, _memory.Running(running, weights) if memory_matters(wanted) else ()


def _root(one, wanted):
    """The ModelName of the model whose weights a declared one has."""
    declared = {other.name: other for other in wanted}
    while one.recipe and one.recipe.shares_weights:
        one = declared[one.recipe.base]
    return one.name


def differs(ollama, action):
    """Whether the model of an action (_plan.Action) is not as its recipe makes it now."""
    shown = _shown(ollama, {"it": action.shown, "base": action.wanted.recipe.base.short})
    return bool(_recipe.differences(action.wanted.recipe, shown["it"], shown["base"]))


def show(ollama, name):
    """What POST /api/show says (dict) of a model (str); nothing where it cannot."""
    try:
        return ollama.show(name)
    except Refused:
        # A model that was deleted while loaded, or one that is no GGUF: creating or loading it will say what is wrong.
        return {}


def _shown(ollama, names):
    """{key: what POST /api/show says (dict)} for {key: name (str)}."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(names, pool.map(lambda name: show(ollama, name), names.values())))
