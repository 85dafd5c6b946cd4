# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened to the models, or would happen, as results of a module. Pure. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _plan
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text, time_text


class Outcome:
    """What happened to one model: `action` (_plan.Action), `done` (bool), `problem` (LocalModelsError or None), `seconds`."""

    def __init__(self, action):
        self.action = action
        self.done = False
        self.problem = None
        self.seconds = 0.0


def planned(prepared):
    """(list of Outcome, list of _plan.Found) as if everything had been done: what check mode reports."""
    outcomes = [Outcome(action) for action in prepared.actions]
    for outcome in outcomes:
        outcome.done = outcome.action.changes
    return outcomes, _plan.apply(prepared.found, prepared.actions)


def report(outcomes, found, check=False):
    """The module's results: {"changed", "models", "actions"} from what happened (check: from what would)."""
    held = {one.name.key: one for one in found}
    models, sentences = [], []
    for outcome in outcomes:
        action = outcome.action
        one = held.get(action.name.key)
        after = one.digest if one else None
        entry = {"name": action.shown, "state": action.wanted.state, "action": _action_name(outcome, after),
                 "digest_before": action.before, "digest_after": after,
                 "bytes": (one.size if one else 0) if outcome.done and action.pulls and after != action.before else 0,
                 "seconds": round(outcome.seconds, 1)}
        if outcome.problem:
            entry["msg"] = str(outcome.problem)
        elif entry["action"] != "none":
            sentences.append(_sentence(entry, action, check))
        models.append(entry)
    changed = any(entry["digest_before"] != entry["digest_after"] for entry in models)
    return {"changed": changed, "models": models, "actions": sentences}


def _action_name(outcome, after):
    if outcome.problem:
        return "failed"
    action = outcome.action
    if action.verb == "ask":
        return "none" if after == action.before and outcome.done else "update" if outcome.done else "ask"
    return action.verb


def _sentence(entry, action, check):
    if check or entry["action"] == "ask":
        return action.sentence()
    done = {"delete": "Deleted %s", "pull": "Pulled %s", "update": "Pulled the newer %s"}[entry["action"]] % entry["name"]
    if entry["bytes"]:
        done += ", %s in %s" % (size_text(entry["bytes"]), time_text(entry["seconds"]))
    return done


def failure(outcomes):
    """One LocalModelsError for all models that failed, or None."""
    failed = [outcome for outcome in outcomes if outcome.problem]
    if not failed:
        return None
    if len(failed) == 1 and len(outcomes) == 1:
        return failed[0].problem
    others = len(outcomes) - len(failed)
    return LocalModelsError(
        "%d of %d models failed: %s" % (len(failed), len(outcomes), " ".join(str(outcome.problem) for outcome in failed)),
        "The other %d %s as declared" % (others, "is" if others == 1 else "are") if others else "")
