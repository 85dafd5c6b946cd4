# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened to the models, or would happen, as results of a module. Pure. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _plan
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text, time_text


class Outcome:
    """What happened to one model: `action` (_plan.Action), `done` (bool; `memory_done`: so is what concerns memory),
    `problem` (LocalModelsError or None), `seconds`, `fetched` (bytes that came over the wire for it)."""

    def __init__(self, action):
        self.action = action
        self.done = False
        self.memory_done = False
        self.problem = None
        self.seconds = 0.0
        self.fetched = 0


def planned(prepared):
    """(list of Outcome, list of _plan.Found) as if everything had been done: what check mode reports."""
    outcomes = [Outcome(action) for action in prepared.actions]
    for outcome in outcomes:
        outcome.done = outcome.action.changes
        outcome.memory_done = bool(outcome.action.memory)
        outcome.fetched = outcome.action.size or 0 if outcome.action.creates else 0
    return outcomes, _plan.apply(prepared.found, prepared.actions)


def report(outcomes, found, check=False):
    """The module's results: {"changed", "models", "actions"} from what happened (check: from what would)."""
    held = {one.name.key: one for one in found}
    models, sentences, changed = [], [], False
    for outcome in outcomes:
        action = outcome.action
        one = held.get(action.name.key)
        after = one.digest if one else None
        name = _action_name(outcome, after)
        entry = {"name": action.shown, "state": action.wanted.state, "action": name,
                 "digest_before": action.before, "digest_after": after,
                 "bytes": _bytes(outcome, one, after), "seconds": round(outcome.seconds, 1)}
        if outcome.problem:
            entry["msg"] = str(outcome.problem)
        elif name not in ("none", "load", "unload"):
            sentences.append(_sentence(entry, action, check))
        if outcome.memory_done:
            sentences.append(action.memory_sentence() if check else {"load": "Loaded %s", "unload": "Unloaded %s"}[action.memory] % action.shown)
        changed = changed or action.before != after or outcome.memory_done
        models.append(entry)
    return {"changed": changed, "models": models, "actions": sentences}


def _bytes(outcome, one, after):
    action = outcome.action
    if not outcome.done or after == action.before:
        return 0
    if action.verb == "prune":
        return action.size
    if action.creates:
        return outcome.fetched
    return one.size if one and action.pulls else 0


def _action_name(outcome, after):
    if outcome.problem:
        return "failed"
    action, name = outcome.action, outcome.action.verb
    same = outcome.done and after == action.before
    if name == "ask":
        name = "none" if same else "update" if outcome.done else "ask"
    elif name in ("recreate", "recheck"):
        name = "none" if same else "recreate" if outcome.done else name
    return action.memory if name == "none" and outcome.memory_done else name


def _sentence(entry, action, check):
    if check or entry["action"] in ("ask", "recheck"):
        return action.sentence()
    done = {"delete": "Deleted %s", "prune": "Deleted %s, which is not declared", "pull": "Pulled %s",
            "update": "Pulled %s with the declared digest" if action.wanted.digest else "Pulled the newer %s",
            "create": "Created %s", "recreate": "Created %s anew"}[entry["action"]] % entry["name"]
    if entry["bytes"]:
        done += ", %s" % size_text(entry["bytes"])
        done += "" if action.deletes else " in %s" % time_text(entry["seconds"])
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
