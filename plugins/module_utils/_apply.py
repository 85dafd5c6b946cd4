# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models exactly as declared: look, ask the registry, see whether it fits, do it, look again. Internal to this collection."""

from __future__ import annotations

import copy
import math
import time
from urllib.parse import urlsplit

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _capacity, _lanes, _look, _made, _plan, _prune, _pull_causes, _registry, _store, _upload
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Unreachable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned
from ansible_collections.localmodels.fastgpt.plugins.module_utils._report import Outcome
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text, time_text

LONGEST_PAUSE = 30
LONGEST_WISH = 120  # seconds that a server may ask to wait


class Prepared:
    """What is there and what has to be done: `found` (list of _plan.Found), `actions` (list of _plan.Action), `warnings` (list of
    str), `manifests` ({ModelName.key: _registry.Manifest}), `on_disk` (set of digests of their layers), `reachable` (bool), `freed_exact`
    (bool: the sizes of what is deleted because nobody declared it are exact, and not the most that can get free), `made`
    ({ModelName.key: _made.Made} of what is made from files), `notes` (_notes.Notes, or None where nothing is)."""

    def __init__(self, found, wanted, reachable=True):
        self.found, self.wanted, self.reachable = found, wanted, reachable
        self.manifests, self.warnings, self.on_disk = {}, [], set()
        self.differences, self.running = {}, ()
        self.freed_exact = True
        self.made, self.notes = {}, None
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


def prepare(ollama, wanted, store_path=None, assume_empty=False, registry_timeout=10, offline=False, exclusive=None, notes=None):
    """Prepared for a server (_ollama.Ollama) and the declared models (list of _plan.Wanted). Reads only.

    Where nothing has to be asked of a registry, and no model is made from another or has to be loaded, this costs exactly one
    request. store_path: the model store as this host sees it, or None to look for it. assume_empty: a server where nothing listens
    yet counts as one without models (check mode on a fresh host). offline: no registry is asked, by nobody. exclusive: Exclusive,
    or None where undeclared models stay. notes: _notes.Notes, needed where models are made from files of this host. Raises
    LocalModelsError for a model that does not exist or cannot be had, for files that are no good, and for a disk that is too small.
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
        prepared.warnings.append("%s Check mode goes on as if it ran and held no models." % problem)
    if prepared.reachable and (any(one.recipe for one in wanted) or _look.memory_matters(wanted)):
        prepared.differences, prepared.running = _look.closer(ollama, prepared.found, wanted)
    elif _look.memory_matters(wanted):
        prepared.running = _look.nothing_runs()
    prepared.made, prepared.notes = made, notes
    prepared.differences.update(_made.differences(ollama, prepared.found, made, notes))
    prepared.decide()
    host = urlsplit(ollama.client.base_url).hostname
    store = _store.Store(store_path) if store_path else None
    to_ask = _plan.to_ask_for(prepared.found, wanted)
    if (to_ask or exclusive or prepared.to_make) and not store:
        store = _store.find(host, prepared.found)
    version = ollama.version() if prepared.reachable and (prepared.to_make or (to_ask and not offline)) else ""
    problems = {}
    if offline:
        _refuse_what_is_not_here(prepared, only_asked=assume_empty)
    elif to_ask:
        problems = _ask_registries(prepared, to_ask, version, store, registry_timeout)
    for one in prepared.to_make if version else ():
        _made.refuse_unfit(version, one)
    _capacity.check(prepared, store, problems, version)
    if exclusive:
        prepared.actions += _prune.undeclared(prepared.found, wanted, exclusive.protect)
        prepared.freed_exact = _prune.count_freed(prepared.actions, prepared.found, store.sizes_of if store else lambda name: None)
    return prepared


def _ask_registries(prepared, to_ask, version, store, registry_timeout):
    """Returns what could not be asked: {ModelName.key: LocalModelsError}."""
    prepared.manifests, problems = _registry.read_all(to_ask, version, registry_timeout)
    _refuse_what_cannot_be_had(prepared, problems)
    _note_local_layers(prepared, store)
    prepared.decide()
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
        raise LocalModelsError("%s: not on this server, and no registry may be asked" % ", ".join(action.shown for action in lacking),
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
            sure.append(_plan.unknown_model(one.name, prepared.found, prepared.wanted))
        elif isinstance(problem, _registry.Unfit):
            sure.append(problem)
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


class Pull:
    """One model on its way: `outcome` (Outcome), `blobs` (set of digests, or None where the registry could not be asked for them)."""

    def __init__(self, outcome, manifest):
        self.outcome = outcome
        self.blobs = set(manifest.blobs) if manifest else None


class Run:
    """Does what was prepared. `outcomes` (list of Outcome) and `found` (list of _plan.Found) tell the truth at any moment.

    retries: further tries after a failure that may pass, with growing pauses. stall_timeout: seconds, see _pull.follow.
    progress: _progress.Progress. at_once: how many pulls may run at the same time. `fetched`: bytes that the pulls brought;
    `seconds`: how long that took.
    """

    def __init__(self, ollama, prepared, progress, retries=3, stall_timeout=300, at_once=4, sleep=time.sleep, clock=time.monotonic):
        self.ollama, self.progress = ollama, progress
        self.retries, self.stall_timeout, self.at_once = retries, stall_timeout, at_once
        self.sleep, self.clock = sleep, clock
        self.found = prepared.found
        self.outcomes = [Outcome(action) for action in prepared.actions]
        self._by_key = {outcome.action.name.key: outcome for outcome in self.outcomes}
        self._manifests, self._on_disk = prepared.manifests, prepared.on_disk
        self._made, self._notes = prepared.made, prepared.notes
        self._loaded = None
        self._in_trouble = set()
        self.fetched, self.seconds = 0, 0.0

    def carry_out(self):
        """Do it. A model that fails does not keep the others from being pulled; look into `outcomes` for problems.

        Deletions come first, for they make room; then the pulls, several at a time; then what is made of them.
        Raises LocalModelsError if nobody waits any more, or the server does not say afterwards what it holds.
        """
        todo = [outcome for outcome in self.outcomes if outcome.action.verb != "none"]
        try:
            self._each([outcome for outcome in todo if outcome.action.verb == "delete"])
            self._pull_all([outcome for outcome in todo if outcome.action.pulls])
            self._each([outcome for outcome in todo if outcome.action.creates])
            if todo:
                self._look_again()
            self._prune([outcome for outcome in todo if outcome.action.verb == "prune"])
            # Unloading comes first, for it makes room in memory.
            for memory in ("unload", "load"):
                for outcome in self.outcomes:
                    if outcome.action.memory == memory and not outcome.problem:
                        self._memory(outcome)
        finally:
            self.progress.close()

    def _each(self, outcomes):
        for outcome in outcomes:
            self._one(outcome)

    def _pull_all(self, outcomes):
        began = self.clock()
        pulls = [Pull(outcome, self._manifests.get(outcome.action.name.key)) for outcome in outcomes]
        try:
            _lanes.carry_out(pulls, self._pull_one, self.at_once, self._on_disk)
        finally:
            self.seconds = self.clock() - began
            self.fetched = sum(outcome.fetched for outcome in outcomes)
        done = [outcome for outcome in outcomes if outcome.done]
        if len(done) > 1:
            self.progress.say(_together(len(done), self.fetched, self.seconds))

    def _pull_one(self, pull):
        self._one(pull.outcome)
        return pull.outcome.done

    def _one(self, outcome):
        began = self.clock()
        if outcome.action.pulls:
            self._pull(outcome)
        elif outcome.action.creates:
            self._create(outcome)
        else:
            self._delete(outcome)
        outcome.seconds += self.clock() - began

    def _look_again(self):
        """What was done is not lost from sight because the server restarts just now."""
        for this_try in range(self.retries + 1):
            try:
                self.found = self.ollama.found()
                break
            except LocalModelsError as problem:
                if not problem.passing or this_try == self.retries:
                    raise
                self._pause(problem, this_try)
        self._drop_what_is_no_model()

    def _prune(self, outcomes):
        """What nobody declared goes only when all that was declared is there."""
        failed = any(outcome.problem for outcome in self.outcomes)
        for outcome in outcomes:
            if failed:
                outcome.problem = LocalModelsError("%s, which is not declared, was kept: another model failed before" % outcome.action.shown)
            else:
                self._one(outcome)
        if outcomes and not failed:
            self.found = self.ollama.found()

    def _delete(self, outcome):
        """A deleted model would stay in memory, so it is unloaded first."""
        name = outcome.action.shown
        try:
            if self._loaded is None:
                self._loaded = {ModelName.parse(one["name"]) for one in self.ollama.running()}
            if outcome.action.name in self._loaded:
                self.ollama.unload(name)
            self.ollama.delete(name)
            outcome.done = True
        except LocalModelsError as problem:
            outcome.problem = problem

    def _create(self, outcome):
        action = outcome.action
        recipe = action.wanted.recipe
        base = self._by_key[recipe.base.key] if recipe.base else None
        if base and base.problem:
            outcome.problem = LocalModelsError("%s was not created, for it is made from %s, which failed" % (action.shown, base.action.shown))
        elif recipe.of_files:
            self._make(outcome, base and base.action.shown)
        else:
            self._derive(outcome, base.action.shown)

    def _derive(self, outcome, base):
        action = outcome.action
        try:
            if action.verb == "recheck" and not _look.differs(self.ollama, action):
                outcome.done = True
                return
            # Ollama takes a base only in the spelling in which it holds it.
            self.ollama.create(action.shown, dict(action.wanted.recipe.own(), **{"from": base}))
            outcome.done = True
        except LocalModelsError as problem:
            outcome.problem = problem

    def _make(self, outcome, base):
        action, began = outcome.action, self.clock()
        made = self._made[action.name.key]

        def attempt(track):
            steps = _upload.Steps(track, self.progress.abandoned, made.size)
            try:
                _made.carry_out(self.ollama, action, made, base, self._notes, steps, self.stall_timeout)
            finally:
                outcome.fetched += steps.fetched
            return True

        self._tried(outcome, attempt, self.retries)
        said = "Created %s%s" % (action.shown, _amount(outcome.fetched, outcome.fetched, self.clock() - began))
        self.progress.end(action.shown, said if outcome.done else str(outcome.problem))

    def _memory(self, outcome):
        action, began = outcome.action, self.clock()
        try:
            if action.memory == "load":
                self.ollama.load(action.shown, action.wanted.keep_alive)
            else:
                self.ollama.unload(action.shown)
            outcome.memory_done = True
        except LocalModelsError as problem:
            outcome.problem = problem
        outcome.seconds += self.clock() - began

    def _pull(self, outcome):
        action, began = outcome.action, self.clock()

        def attempt(track):
            return self.ollama.pull(action.shown, action.wanted.insecure, track.moved, self.stall_timeout, self.progress.abandoned)

        # After one model has used up its tries on a registry that is down, the next ones get one try each.
        layers = self._tried(outcome, attempt, 0 if action.name.host in self._in_trouble else self.retries)
        if not outcome.done:
            if outcome.problem.passing:
                self._in_trouble.add(action.name.host)
            self.progress.end(action.shown, str(outcome.problem))
            return
        outcome.fetched = layers.fetched
        size = action.size or (layers.total if layers.fetched else 0)  # a small layer may come without a line
        self.progress.end(action.shown, "Pulled %s%s" % (action.shown, _amount(size, layers.fetched, self.clock() - began)))

    def _tried(self, outcome, attempt, retries):
        """What attempt(_progress.Track) returns when it succeeds, with pauses between the tries; else None, and the outcome has the problem."""
        for this_try in range(retries + 1):
            track = self.progress.start(outcome.action.shown, outcome.action.size or 0)
            try:
                result = attempt(track)
            except Abandoned:
                raise
            except LocalModelsError as problem:
                outcome.problem = problem
                if not problem.passing:
                    break
                if this_try < retries:
                    self._pause(problem, this_try)
                continue
            outcome.problem, outcome.done = None, True
            return result
        return None

    def _pause(self, problem, this_try):
        """Wait after a failed try, longer each time, or as long as the server asks."""
        wish = problem.retry_after
        for dummy in range(min(LONGEST_PAUSE, 2 ** (this_try + 1)) if wish is None else min(LONGEST_WISH, math.ceil(wish))):
            if self.progress.abandoned():
                raise Abandoned("The rest was cancelled, for nobody waits for it any more", "Run again: it resumes")
            self.sleep(1)

    def _drop_what_is_no_model(self):
        """Ollama installs any JSON object as a model and reports success (a login page before the registry); such a one has no bytes."""
        held = {one.name.key: one for one in self.found}
        for outcome in self.outcomes:
            if not (outcome.action.pulls and outcome.done):
                continue
            one = held.get(outcome.action.name.key)
            if one is None:
                cause = _pull_causes.TRUNCATED
            elif not one.size:
                cause = _pull_causes.BOGUS
                self.ollama.delete(one.name.short)
                self.found.remove(one)
            else:
                continue
            outcome.done, outcome.problem = False, _pull_causes.PullFailed(outcome.action.shown, cause, "")


def _amount(size, fetched, seconds):
    words = ", %s in %s" % (size_text(size), time_text(seconds)) if size else ""
    return words + (", %s/s" % size_text(fetched / seconds) if seconds >= 1 and fetched else "")


def _together(count, fetched, seconds):
    words = "Pulled %d models%s in %s" % (count, ", %s" % size_text(fetched) if fetched else "", time_text(seconds))
    return words + (", %s/s" % size_text(fetched / seconds) if seconds >= 1 and fetched else "")
