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

    def entry(self, found):
        """The entry (dict) by which a model (_plan.Found) is loaded, or None."""
        for one in self.entries:
            if one.get("digest") == found.digest or ModelName.parse(one["name"]) == found.name:
                return one
        mine = self.weights.get(found.name.key)
        for one in self.entries:
            if mine and self.weights.get(ModelName.parse(one["name"]).key) == mine:
                return one
        return None


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


def decide(wanted, found, running):
    """load, unload or None for a declared model (_plan.Wanted), found (_plan.Found, or None if it is not there yet)."""
    entry = running.entry(found) if found else None
    if wanted.state == "unloaded":
        return "unload" if entry else None
    if entry and (not is_forever(wanted.keep_alive) or _until(entry) >= _NEVER):
        return None
    return "load"


def _until(entry):
    """The year until which a model stays loaded."""
    match = re.match(r"\d{4}", str(entry.get("expires_at") or ""))
    return int(match.group()) if match else 0
