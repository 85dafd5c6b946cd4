# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models exactly as declared: what was prepared is done, and looked at again. Internal to this collection."""

from __future__ import annotations

import math
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _fetched, _lanes, _look, _made, _memory, _pin, _pull_causes, _upload
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned
from ansible_collections.localmodels.fastgpt.plugins.module_utils._report import Outcome
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text, time_text

LONGEST_PAUSE = 30
LONGEST_WISH = 120  # seconds that a server may ask to wait
SETTLING = 2  # seconds


class Pull:
    """One model on its way: `outcome` (Outcome), `blobs` (set of digests, or None where the registry could not be asked for them), `shares`
    (bool: another one that is on its way needs one of them)."""

    def __init__(self, outcome, manifest):
        self.outcome = outcome
        self.blobs = set(manifest.blobs) if manifest else None
        self.shares = False


class Run:
    """Does what was prepared. `outcomes` (list of Outcome) and `found` (list of _plan.Found) tell the truth at any moment.

    retries: further tries after a failure that may pass, with growing pauses. stall_timeout: seconds, see _pull.follow.
    progress: _progress.Progress. at_once: how many pulls may run at the same time. `fetched`: bytes that the pulls brought;
    `seconds`: how long that took. warn: called with a text (str) that the operator should read.
    """

    def __init__(self, ollama, prepared, progress, retries=3, stall_timeout=300, at_once=4, sleep=time.sleep, clock=time.monotonic,
                 warn=lambda text: None):
        self.ollama, self.progress = ollama, progress
        self.retries, self.stall_timeout, self.at_once = retries, stall_timeout, at_once
        self.sleep, self.clock = sleep, clock
        self.found = prepared.found
        self.outcomes = [Outcome(action) for action in prepared.actions]
        self._by_key = {outcome.action.name.key: outcome for outcome in self.outcomes}
        self._manifests, self._on_disk, self._store = prepared.manifests, prepared.on_disk, prepared.store
        self._made, self._notes = prepared.made, prepared.notes
        self._loaded = None
        self._in_trouble = set()
        self.fetched, self.seconds, self.warn = 0, 0.0, warn

    def carry_out(self):
        """Do it. A model that fails does not keep the others from being pulled; look into `outcomes` for problems.

        Deletions come first, for they make room; then the pulls, several at a time; then what is made of them.
        Raises Abandoned if nobody waits any more.
        """
        todo = [outcome for outcome in self.outcomes if outcome.action.verb != "none"]
        unloads = [outcome for outcome in self.outcomes if outcome.action.memory == "unload"]
        try:
            # Unloading comes first, for it makes room, and because the server loses sight of weights whose model is pulled anew.
            self._memory([outcome for outcome in unloads if outcome.action.before])
            self._each([outcome for outcome in todo if outcome.action.verb == "delete"])
            self._pull_all([outcome for outcome in todo if outcome.action.pulls])
            self._each([outcome for outcome in todo if outcome.action.creates])
            if todo:
                self._look_again(todo)
            self._prune([outcome for outcome in todo if outcome.action.verb == "prune"])
            self._memory([outcome for outcome in unloads if outcome.action.changes])
            loads = [outcome for outcome in self.outcomes if outcome.action.memory == "load"]
            # Of two models with the same weights the last one says for how long they stay.
            self._memory(sorted(loads, key=lambda outcome: _memory.is_forever(outcome.action.wanted.keep_alive)))
        finally:
            self.progress.close()

    @property
    def pulled(self):
        """All pulls together: {"bytes", "seconds", "bytes_per_second"}."""
        return {"bytes": self.fetched, "seconds": round(self.seconds, 1), "bytes_per_second": int(self.fetched / self.seconds) if self.seconds else 0}

    def _each(self, outcomes):
        for outcome in outcomes:
            self._one(outcome)

    def _pull_all(self, outcomes):
        began = self.clock()
        pulls = [Pull(outcome, self._manifests.get(outcome.action.name.key)) for outcome in outcomes]
        for pull in pulls:
            pull.shares = any(not _lanes.may_start(pull.blobs, [other.blobs], self._on_disk) for other in pulls if other is not pull)
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
        if not pull.outcome.done and pull.shares:
            # A server ends a broken download a moment later, and the next pull of the same layer must not meet it (ollama#17370).
            self._wait(SETTLING)
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

    def _look_again(self, todo):
        """What the server holds now. A restart just now is waited for; where it stays away nobody knows what became of the models."""
        for this_try in range(self.retries + 1):
            try:
                self.found = self.ollama.found()
                break
            except LocalModelsError as problem:
                if problem.passing and this_try < self.retries:
                    self._pause(problem, this_try)
                    continue
                for outcome in todo:
                    if not outcome.problem:
                        outcome.done = False
                        outcome.problem = _of_model(outcome.action.shown, "may be as declared or not", problem)
                return
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
            self._look_again(outcomes)

    def _delete(self, outcome):
        """A deleted model would stay in memory, so it is unloaded first."""
        name = outcome.action.shown

        def delete():
            if self._loaded is None:
                self._loaded = {ModelName.parse(one["name"]) for one in self.ollama.running()}
            if outcome.action.name in self._loaded:
                self.ollama.unload(name)
            self.ollama.delete(name)

        self._patiently(outcome, delete)

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

        def create():
            if action.verb != "recheck" or _look.differs(self.ollama, action):
                # Ollama takes a base only in the spelling in which it holds it.
                self.ollama.create(action.shown, dict(action.wanted.recipe.own(), **{"from": base}))

        self._patiently(outcome, create)

    def _patiently(self, outcome, work):
        """Does what takes a moment. A server that restarts, or a proxy before it that is busy, is waited for."""
        for this_try in range(self.retries + 1):
            try:
                work()
            except LocalModelsError as problem:
                outcome.problem = _of_model(outcome.action.shown, "could not be %s" % ("made" if outcome.action.creates else "deleted"), problem)
                if not problem.passing or this_try == self.retries:
                    return
                self._pause(problem, this_try)
                continue
            outcome.problem, outcome.done = None, True
            return

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

    def _memory(self, outcomes):
        for outcome in outcomes:
            if not outcome.problem:
                self._load_or_not(outcome)

    def _load_or_not(self, outcome):
        action, began = outcome.action, self.clock()
        try:
            if action.memory == "unload" or action.unload_first:
                self.ollama.unload(action.shown)
            if action.memory == "load":
                self.ollama.load(action.shown, action.wanted.keep_alive)
            outcome.memory_done = True
        except LocalModelsError as problem:
            outcome.problem = _of_model(action.shown, "could not be %sed" % action.memory, problem)
        outcome.seconds += self.clock() - began

    def _pull(self, outcome):
        action, began = outcome.action, self.clock()
        fetched = _fetched.Fetched(self._manifests.get(action.name.key), self._store, self.ollama)

        def attempt(track):
            def moved(layers, status):
                fetched.note(layers)
                track.moved(layers, status)

            try:
                return self.ollama.pull(action.shown, action.wanted.insecure, moved, self.stall_timeout, self.progress.abandoned)
            except _pull_causes.PullFailed as problem:
                problem.passing = problem.passing or (problem.kind == _pull_causes.UNREADABLE and self._drop_unreadable_notes(action))
                raise

        # After one model has used up its tries on a registry that is down, the next ones get one try each.
        try:
            layers = self._tried(outcome, attempt, 0 if action.name.host in self._in_trouble else self.retries)
        finally:
            outcome.fetched = fetched.bytes(outcome.done)
        if not outcome.done:
            if outcome.problem.passing:
                self._in_trouble.add(action.name.host)
            self.progress.end(action.shown, str(outcome.problem))
            return
        size = action.size or (layers.total if outcome.fetched else 0)
        self.progress.end(action.shown, "Pulled %s%s" % (action.shown, _amount(size, outcome.fetched, self.clock() - began)))

    def _drop_unreadable_notes(self, action):
        """Whether what Ollama could not read of an earlier pull is out of its way now; an administrator would do no other thing."""
        manifest = self._manifests.get(action.name.key)
        try:
            dropped = bool(manifest and self._store) and self._store.drop_unreadable_notes(manifest.blobs)
        except OSError:
            return False  # the message says what to delete
        if dropped:
            self.warn("Ollama could not read what it had noted of an earlier pull of %s, for it was killed while it wrote that down."
                      " The note was deleted, so the layer was fetched anew." % action.shown)
        return dropped

    def _tried(self, outcome, attempt, retries):
        """What attempt(_progress.Track) returns when it succeeds, with pauses between the tries; else None, and the outcome has the problem.

        Where a pull is cut while Ollama waits before it asks the registry again, the download dies only when that pause (up to 32 s) is over, and the
        pull that comes next is cancelled with it. That says nothing of the registry: such a try is free, once in a row, and does not hide
        what was wrong before.
        """
        left, excused = retries, False
        while True:
            track = self.progress.start(outcome.action.shown, outcome.action.size or 0)
            try:
                result = attempt(track)
            except Abandoned:
                raise
            except LocalModelsError as problem:
                interrupted = getattr(problem, "kind", "") == _pull_causes.INTERRUPTED
                if not (interrupted and outcome.problem):
                    outcome.problem = _of_model(outcome.action.shown, "could not be pulled" if outcome.action.pulls else "could not be made", problem)
                excused = interrupted and not excused
                if not problem.passing or not (left or excused):
                    return None
                self._pause(problem, retries - left)
                left -= not excused
                continue
            outcome.problem, outcome.done = None, True
            return result

    def _pause(self, problem, this_try):
        """Wait after a failed try, longer each time, or as long as the server asks."""
        wish = problem.retry_after
        self._wait(min(LONGEST_PAUSE, 2 ** (this_try + 1)) if wish is None else min(LONGEST_WISH, math.ceil(wish)))

    def _wait(self, seconds):
        for dummy in range(seconds):
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
                self._refuse_another_content(outcome, one)
                continue
            outcome.done, outcome.problem = False, _pull_causes.PullFailed(outcome.action.shown, cause, "")

    def _refuse_another_content(self, outcome, one):
        """A pinned model whose registry could not be asked before may turn out to be another one; where there was none it goes again."""
        problem = _pin.broken(outcome.action.wanted, one, self._manifests.get(one.name.key))
        if problem:
            outcome.done, outcome.problem = False, problem
            if outcome.action.before is None:
                self.ollama.delete(one.name.short)
                self.found.remove(one)


def _of_model(name, what, problem):
    """A LocalModelsError that names the model (str): `problem` itself where it does; what is said of the server as a whole does not."""
    if name in problem.what:
        return problem
    named = LocalModelsError("%s %s: %s" % (name, what, problem.what), problem.mend)
    named.passing, named.retry_after = problem.passing, problem.retry_after
    return named


def _amount(size, fetched, seconds):
    words = ", %s in %s" % (size_text(size), time_text(seconds)) if size else ""
    return words + (", %s/s" % size_text(fetched / seconds) if seconds >= 1 and fetched else "")


def _together(count, fetched, seconds):
    words = "Pulled %d models%s in %s" % (count, ", %s" % size_text(fetched) if fetched else "", time_text(seconds))
    return words + (", %s/s" % size_text(fetched / seconds) if seconds >= 1 and fetched else "")
