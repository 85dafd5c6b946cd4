# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models exactly as declared, before anything is done: look, ask the registries, see whether it fits. Reads only. Internal to this
collection."""

from __future__ import annotations

import copy

from ansible_collections.localmodels.fastgpt.plugins.module_utils import (
    _capacity,
    _look,
    _made,
    _memory,
    _mixups,
    _ollama_facts,
    _pin,
    _plan,
    _prune,
    _registry,
    _store,
)
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Unreachable


class Prepared:
    """What is there and what has to be done: `found` (list of _plan.Found), `actions` (list of _plan.Action), `warnings` (list of
    str), `manifests` ({ModelName.key: _registry.Manifest}), `on_disk` (set of digests of their layers), `reachable` (bool), `freed_exact`
    (bool: the sizes of what is deleted because nobody declared it are exact, and not the most that can get free), `made`
    ({ModelName.key: _made.Made} of what is made from files), `notes` (_notes.Notes, or None where nothing is), `store` (_store.Store, or None
    where it was not found, or nothing has to be known of it)."""

    def __init__(self, found, wanted, reachable=True):
        self.found, self.wanted, self.reachable = found, wanted, reachable
        self.manifests, self.warnings, self.on_disk = {}, [], set()
        self.differences, self.running = {}, ()
        self.freed_exact = True
        self.made, self.notes, self.store = {}, None, None
        self.decide()

    def decide(self):
        self.actions = _plan.plan(self.found, self.wanted, self.manifests, self.differences, self.running)
        for action in self.actions:
            if action.creates and action.name.key in self.made:
                action.size = self.made[action.name.key].size

    @property
    def to_make(self):
        """What has to be made from files: list of _made.Made."""
        return [self.made[action.name.key] for action in self.actions if action.creates and action.name.key in self.made]


class Exclusive:
    """Whatever is not declared has to go. `protect`: list of str, see _prune.protection. `allow_empty`: bool."""

    def __init__(self, protect=(), allow_empty=False):
        self.protect, self.allow_empty = list(protect), allow_empty


def prepare(ollama, wanted, store_path=None, assume_empty=False, registry_timeout=10, offline=False, exclusive=None, notes=None,
            capacity="enforce", look=lambda: (None, {})):
    """Prepared for a server (_ollama.Ollama) and the declared models (list of _plan.Wanted). Reads only.

    Where nothing has to be asked of a registry, and no model is made from another or has to be loaded, this costs exactly one
    request. store_path: the model store as this host sees it, or None to look for it. assume_empty: a server where nothing listens
    yet counts as one without models (check mode on a fresh host). offline: no registry is asked, by nobody. exclusive: Exclusive,
    or None where undeclared models stay. notes: _notes.Notes, needed where models are made from files of this host. capacity: one of
    _capacity.MODES. look: see _capacity.Host. Raises LocalModelsError for a model that does not exist or cannot be had, for files that are
    no good, and for a disk or a memory that is too small.
    """
    if exclusive:
        _prune.refuse_empty(wanted, exclusive.allow_empty)
    made = _made.look(wanted)
    if offline:
        wanted = [_as_it_is(one) for one in wanted]
    try:
        prepared = Prepared(ollama.found(), wanted)
    except Unreachable as problem:
        if not (assume_empty and _nothing_listens(problem)):
            raise
        prepared = Prepared([], wanted, reachable=False)
        prepared.warnings.append(_ollama_facts.not_yet(problem))
    if prepared.reachable and (any(one.recipe for one in wanted) or _look.memory_matters(wanted)):
        prepared.differences, prepared.running = _look.closer(ollama, prepared.found, wanted)
    elif _look.memory_matters(wanted):
        prepared.running = _look.nothing_runs()
    prepared.made, prepared.notes = made, notes
    prepared.differences.update(_made.differences(ollama, prepared.found, made, notes))
    prepared.decide()
    prepared.warnings += _mixups.told(wanted, prepared.found)
    store = _store.Store(store_path) if store_path else None
    to_ask = _plan.to_ask_for(prepared.found, wanted)
    if (to_ask or exclusive or prepared.to_make) and not store:
        store = _store.of_server(ollama.client.base_url, prepared.found)
    prepared.store = store
    version = ollama.version() if prepared.reachable and (prepared.to_make or (to_ask and not offline)) else ""
    problems = {}
    if offline:
        _refuse_what_is_not_here(prepared, only_asked=assume_empty)
    elif to_ask:
        problems = _ask_registries(prepared, to_ask, version, store, registry_timeout)
    for one in prepared.to_make if version else ():
        _made.refuse_unfit(version, one)
    if exclusive:
        prepared.actions += _prune.undeclared(prepared.found, wanted, exclusive.protect)
        prepared.freed_exact = _prune.count_freed(prepared.actions, prepared.found, store.sizes_of if store else lambda name: None)
    _memory.refuse_loaded_and_not(prepared.actions)
    _memory.load_again(prepared.actions)
    prepared.warnings += _capacity.judge(prepared, problems, _capacity.Host(store, look, version, lambda name: _look.show(ollama, name)), capacity)
    return prepared


def _ask_registries(prepared, to_ask, version, store, registry_timeout):
    """Returns what could not be asked: {ModelName.key: LocalModelsError}."""
    prepared.manifests, problems = _registry.read_all(to_ask, version, registry_timeout)
    _refuse_what_cannot_be_had(prepared, problems)
    _note_local_layers(prepared, store)
    prepared.decide()
    if store:
        prepared.on_disk = store.whole([prepared.manifests[a.name.key] for a in prepared.actions if a.pulls and a.name.key in prepared.manifests])
    _capacity.note_other_stores(prepared, store)
    return problems


def _as_it_is(wanted):
    """Without a registry the latest model is the one that is here."""
    wanted = copy.copy(wanted)
    wanted.state = "present" if wanted.state == "latest" else wanted.state
    return wanted


def _refuse_what_is_not_here(prepared, only_asked):
    """Offline nothing is pulled. only_asked: in check mode what an import before this would have brought is not here yet, and is left out."""
    lacking = [action for action in prepared.actions if action.pulls]
    gone = {action.name for action in lacking}
    if lacking and not only_asked:
        pinned = " with the declared digest" if any(action.wanted.digest for action in lacking) else ""
        raise LocalModelsError("%s: not on this server%s, and no registry may be asked" % (", ".join(action.shown for action in lacking), pinned),
                               "Import a bundle that holds it (localmodels.fastgpt.ollama_bundle_import); nothing was changed")
    prepared.actions = [action for action in prepared.actions
                        if not action.pulls and not (action.creates and action.wanted.recipe.base in gone)]


def _nothing_listens(problem):
    cause = problem.__cause__
    return isinstance(getattr(cause, "reason", cause), ConnectionRefusedError)


def _refuse_what_cannot_be_had(prepared, problems):
    sure = []
    for one in prepared.wanted:
        problem = problems.get(one.name.key)
        if isinstance(problem, _registry.Unknown):
            sure.append(_mixups.unknown_model(one.name, prepared.found, prepared.wanted))
        elif isinstance(problem, _registry.Unfit):
            sure.append(problem)
        elif one.name.key in prepared.manifests:
            sure += [other for other in [_pin.elsewhere(one, prepared.manifests[one.name.key])] if other]
    if len(sure) == 1:
        raise LocalModelsError(sure[0].what, (sure[0].mend + "; " if sure[0].mend else "") + "nothing was changed")
    if sure:
        raise LocalModelsError("%d of the declared models cannot be had: %s" % (len(sure), " ".join(str(one) for one in sure)),
                               "Nothing was changed")


def _note_local_layers(prepared, store):
    """Lets `latest` compare layers where the local manifest can be read: its own digest may differ for one and the same model."""
    if store:
        for one in prepared.found:
            if one.name.key in prepared.manifests:
                one.blobs = store.blobs_of(one.name)
