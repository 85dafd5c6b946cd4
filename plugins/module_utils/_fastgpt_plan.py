# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models FastGPT has + models wanted -> what to do there, in sentences and as a diff. Internal to this collection.

Pure, but for keep_models, which asks FastGPT and carries the plan out.
"""

from __future__ import annotations

import json

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt import models_of

SECRET_KEYS = ("requestAuth",)


def keep_models(fastgpt, records, chosen, fallback):
    """Make FastGPT hold `records`, with these defaults (see plan_models, plan_defaults); result (dict) of module fastgpt_models.

    fastgpt: _fastgpt.FastGPT; where it is read-only the result says what would be done.
    """
    chosen, fallback = ({key: name for key, name in named.items() if name} for named in (chosen, fallback))
    models, stored = models_of(fastgpt)
    steps = _all_steps(models, stored, records, chosen, fallback)
    if steps and not fastgpt.read_only:
        _carry_out(models, steps)
        left = _all_steps(models, models.stored(), records, chosen, fallback)
        if left:
            raise LocalModelsError("FastGPT at %s took every change and did not keep them all: %s is still to be done"
                                   % (fastgpt.client.base_url, "; ".join(step.sentence() for step in left)),
                                   "Look at FastGPT's log; is somebody else changing its models right now?")
    after = steps[-1].after if steps and steps[-1].verb == "defaults" else current_defaults(apply(stored, steps), models.DEFAULTS)
    return {"changed": bool(steps), "actions": [step.sentence() for step in steps], "defaults": after, "diff": diff(steps)}


class Step:
    """One change. verb: create, update, delete, deactivate or defaults. name: str. sent: what goes to FastGPT (dict).
    before, after: the part that is looked after, None where there is nothing."""

    def __init__(self, verb, name, sent=None, before=None, after=None):
        self.verb = verb
        self.name = name
        self.sent = sent or {}
        self.before = before
        self.after = after

    def sentence(self):
        if self.verb == "create":
            return "Add model %s (%s)" % (self.name, self.after.get("type", "type unknown"))
        if self.verb == "update":
            return "Change %s of model %s" % (", ".join(sorted(self.sent)), self.name)
        if self.verb == "delete":
            return "Delete model %s" % self.name
        if self.verb == "deactivate":
            return "Deactivate model %s, which FastGPT brings itself and does not delete" % self.name
        changed = [key for key in sorted(set(self.before) | set(self.after)) if self.before.get(key) != self.after.get(key)]
        return "Set default " + ", ".join("%s to %s" % (key, self.after.get(key, "none")) for key in changed)


def _all_steps(models, stored, records, chosen, fallback):
    steps = plan_models(stored, records, models.is_preset)
    defaults = plan_defaults(apply(stored, steps), models.DEFAULTS, chosen, fallback)
    return steps + [defaults] if defaults else steps


def _carry_out(models, steps):
    for step in steps:
        if step.verb == "delete":
            models.delete(step.name)
        elif step.verb == "defaults":
            models.set_defaults(step.sent)
        else:
            models.write(step.name, step.sent)


def refuse_twins(records):
    """Refuse records (list) of which two share a name, or a name that is shown: FastGPT finds a model by either."""
    owners = {}
    for one in records:
        shown = one["metadata"].get("name") if one["state"] != "absent" else None
        for word in sorted({one["name"], shown or one["name"]}):
            if word in owners:
                raise LocalModelsError("Two of the models are called %s: %s and %s" % (word, owners[word], one["name"]),
                                       "FastGPT finds a model by its name and by its display_name: give each its own")
            owners[word] = one["name"]


def plan_models(stored, records, is_preset):
    """Steps (list) that make `stored` ({name: metadata}) hold `records` (list of {name, state, metadata, initial}).

    is_preset: callable(name) -> bool, asked only about stored models that have to go.
    """
    refuse_twins(records)
    steps = []
    for one in records:
        found = stored.get(one["name"])
        step = _leave(one["name"], found, is_preset) if one["state"] == "absent" else _keep(one, found)
        if step:
            steps.append(step)
    # What goes first makes room for a display name that another model takes over.
    return sorted(steps, key=lambda step: step.verb not in ("delete", "deactivate"))


def apply(stored, steps):
    """What FastGPT stores ({name: metadata}) once the steps are taken."""
    models = {name: dict(metadata) for name, metadata in stored.items()}
    for step in steps:
        if step.verb == "delete":
            models.pop(step.name, None)
        elif step.verb in ("create", "update", "deactivate"):
            models[step.name] = _merged(models.get(step.name) or {}, step.sent)
    return models


def plan_defaults(models, flags, chosen, fallback):
    """The Step that makes the defaults right, or None.

    models: {name: metadata} as it will be. flags: FlavourA.DEFAULTS. chosen: {key: name}, what must be the default. fallback:
    {key: name}, what becomes the default where there is none. FastGPT forgets every default that is not sent again.
    """
    current = current_defaults(models, flags)
    after = dict(fallback)
    after.update(current)
    after.update(chosen)
    for key in set(chosen) | (set(fallback) - set(current)):
        _refuse_useless(key, after[key], models, flags)
    if after == current:
        return None
    return Step("defaults", "defaults", after, current, after)


def current_defaults(models, flags):
    """{key: name} of the defaults that FastGPT has stored. What its pages show may only be the first active model."""
    found = {}
    for key, (kind, flag) in flags.items():
        for name in sorted(models):
            model = models[name]
            if model.get(flag) is True and model.get("type") == kind and model.get("isActive"):
                found.setdefault(key, name)
    return found


def diff(steps):
    """Ansible's diff dictionary of the steps: only what is looked after, secrets masked."""
    before = {step.name: _masked(step.before) for step in steps if step.before is not None}
    after = {step.name: _masked(step.after) for step in steps if step.after is not None}
    return {"before": _text(before), "after": _text(after),
            "before_header": "models in FastGPT", "after_header": "models in FastGPT"}


def _keep(one, found):
    wanted = one["metadata"]
    if found is None:
        sent = _merged({}, dict(one["initial"], **wanted))
        return Step("create", one["name"], sent, None, sent)
    changed = {key: value for key, value in wanted.items() if not _holds(found.get(key), value)}
    if not changed:
        return None
    sent = {key: _sent(found.get(key), value) for key, value in changed.items()}
    before = {key: found[key] for key in changed if key in found}
    return Step("update", one["name"], sent, before, {key: value for key, value in sent.items() if value is not None})


def _leave(name, found, is_preset):
    if found is None:
        return None
    if not is_preset(name):
        return Step("delete", name, None, found, None)
    if not found.get("isActive"):
        return None
    return Step("deactivate", name, {"isActive": False}, {"isActive": True}, {"isActive": False})


def _holds(found, wanted):
    """Whether a stored value is as wanted. None: absent. In an object only the wanted keys count."""
    if isinstance(wanted, dict):
        return all(_holds((found or {}).get(key) if isinstance(found, dict) else None, value) for key, value in wanted.items())
    # FastGPT knows one kind of number, so 1.0 comes back as 1; only to Python true is a 1 as well.
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


def _sent(found, wanted):
    """What to send for one key: FastGPT replaces an object as a whole, so what others keep in it goes with it."""
    return _merged(found if isinstance(found, dict) else {}, wanted) if isinstance(wanted, dict) else wanted


def _merged(found, wanted):
    result = dict(found)
    for key, value in wanted.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged({}, value) if isinstance(value, dict) and not isinstance(found.get(key), dict) else (
                _merged(found[key], value) if isinstance(value, dict) else value)
    return result


def _refuse_useless(key, name, models, flags):
    """FastGPT takes any name as default and then has none (reference, 3.1, model-default-unknown)."""
    kind = flags[key][0]
    model = models.get(name)
    if model is None:
        fits = sorted(other for other, metadata in models.items() if metadata.get("type") == kind and metadata.get("isActive"))
        raise LocalModelsError("%s cannot be FastGPT's default %s: FastGPT has no such model" % (name, key),
                               "Declare it among the models, or choose one of %s" % (", ".join(fits) or "none"))
    if model.get("type") != kind or not model.get("isActive"):
        raise LocalModelsError("%s cannot be FastGPT's default %s: it is %s of type %s, and an active one of type %s is needed"
                               % (name, key, "an active model" if model.get("isActive") else "an inactive model", model.get("type"), kind),
                               "Choose another model for it (default_for), or declare this one with type and isActive as needed")


def secret_values(models):
    """What must not be shown of the models (list of dict) that somebody declared: list of str."""
    parts = [part for model in models for part in (model.get("metadata"), model.get("initial")) if part]
    return [str(part[key]) for part in parts for key in SECRET_KEYS if part.get(key)]


def _masked(part):
    return {key: "***" if key in SECRET_KEYS and value else value for key, value in part.items()}


def _text(part):
    return json.dumps(part, indent=2, sort_keys=True, ensure_ascii=False) + "\n" if part else ""
