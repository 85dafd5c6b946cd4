# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which models are loaded, and which should be. Pure. Internal to this collection.

What Ollama loads are weights, not names: two models with the same weights share what is loaded, and GET /api/ps shows the name that
came first.
"""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName

STATES = ("loaded", "unloaded")
FOREVER = -1
_DURATION = re.compile(r"-?(\d+(\.\d*)?(ns|us|ms|s|m|h))+\Z")
_NEVER = 2200  # the year from which on "until then" means forever; Ollama writes one about 2319


class Running:
    """What GET /api/ps lists. `entries` (list of dict), `weights` ({ModelName.key: "sha256:hex"} of the models whose weights were
    asked for, which is needed only where names and digests do not decide)."""

    def __init__(self, entries, weights=None):
        self.entries = entries
        self.weights = weights or {}

    def entry(self, name, digests, weights=""):
        """The entry (dict) by which a model is loaded, or None. name: ModelName or None. digests: set of str. weights: "sha256:hex" or ""."""
        # After a pull the old content of a model may run beside the new one, both under its name.
        ways = (lambda one: one.get("digest") in digests, lambda one: ModelName.parse(one["name"]) == name,
                lambda one: weights and self.weights.get(ModelName.parse(one["name"]).key) == weights)
        return next((one for fits in ways for one in self.entries if fits(one)), None)


def keep_alive(name, state, item):
    """How long an item (dict) of the list of models stays loaded, as Ollama takes it: int (seconds) or str such as 10m.
    Raises LocalModelsError."""
    value = item.get("keep_alive")
    if value is None:
        return FOREVER
    if state != "loaded":
        raise LocalModelsError("%s has keep_alive and the state %s" % (name.short, state), "It belongs to the state loaded")
    if re.match(r"-?\d+\Z", str(value)) and not isinstance(value, bool):
        value = int(value)
    elif not (isinstance(value, str) and _DURATION.match(value)):
        raise LocalModelsError("%s has keep_alive %r, which is no time" % (name.short, value),
                               "Write seconds, or a number with a unit such as 10m or 24h; -1 is forever")
    if re.match(r"[0.]+\D*\Z", str(value)):
        raise LocalModelsError("%s is to be loaded for no time at all" % name.short, "Declare it unloaded, or give it some time")
    return str(value) if isinstance(value, str) else value


def is_forever(value):
    return str(value).startswith("-")


def decide(wanted, entry, anew=False):
    """load, unload or None for a declared model (_plan.Wanted) that is loaded by `entry` (see Running.entry), or not (None). anew: its
    content changes."""
    if wanted.state == "unloaded":
        return "unload" if entry else None
    if entry and not anew and (not is_forever(wanted.keep_alive) or _until(entry) >= _NEVER):
        return None
    return "load"


def refuse_loaded_and_not(actions):
    """Raises LocalModelsError where of two models with the same weights one has to be loaded and the other one not, as far as the
    weights are known. actions: list of _plan.Action."""
    first = {}
    for action in actions:
        if action.wanted.state in STATES:
            other = first.setdefault(action.weights, action)
            if other.wanted.state != action.wanted.state:
                raise LocalModelsError("%s is declared %s and %s %s, and both have the same weights"
                                       % (other.shown, other.wanted.state, action.shown, action.wanted.state),
                                       "Declare both alike, or one of them present; nothing was changed")


def load_again(actions):
    """What has to stay loaded is loaded again where something else changes that: a model by whose name it is loaded goes, or gets
    another content, after which nobody could tell what runs by that name; a model is unloaded that has the same weights now and others
    later; or the same weights are loaded for a shorter time.
    actions: list of _plan.Action, of which `memory` is set."""
    moving = {action.name for action in actions if action.deletes or action.changes}
    unloaded = [action.entry for action in actions if action.memory == "unload"]
    for action in actions:
        if action.wanted.state == "loaded" and action.entry:
            name = ModelName.parse(action.entry["name"])
            if name in moving and name != action.name:
                action.memory, action.unload_first = "load", True
            elif action.entry in unloaded:
                action.memory = "load"
    shortened = {action.weights for action in actions if action.memory == "load" and not is_forever(action.wanted.keep_alive)}
    for action in actions:
        if action.wanted.state == "loaded" and is_forever(action.wanted.keep_alive) and action.weights in shortened:
            action.memory = "load"


def _until(entry):
    """The year until which a model stays loaded."""
    match = re.match(r"\d{4}", str(entry.get("expires_at") or ""))
    return int(match.group()) if match else 0
