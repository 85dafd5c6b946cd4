# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels of one-api: declared + found -> steps, sentences and a diff. Internal to this collection.

Everything but carry_out() is pure. Facts about the server: see _one_api.
"""

from __future__ import annotations

import json

from ansible_collections.localmodels.fastgpt.plugins.module_utils._aiproxy_plan import PLACEHOLDER_KEY, VERSION_PATHS, check_address
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api import AUTO_DISABLED, DISABLED, ENABLED, HOP, one_named

TYPES = {"ollama": 30, "openai": 1}
DEFAULT_GROUPS = ["default"]
STATES = {ENABLED: "enabled", DISABLED: "disabled", AUTO_DISABLED: "disabled by one-api itself"}
# Column sizes on PostgreSQL; SQLite takes longer ones.
LONGEST_GROUPS, LONGEST_MAPPING = 32, 1024


class Wanted:
    """One declared channel. settings: what was declared, in the words of view(). key: str or None. update_key: on_create or always."""

    def __init__(self, name, state="present", settings=None, key=None, update_key="on_create"):
        self.name = name
        self.state = state
        self.settings = dict(settings or {})
        self.key = key
        self.update_key = update_key

    @property
    def present(self):
        return self.state == "present"


def read_wanted(items):
    """list of Wanted from the option `channels` (list of dict). Raises LocalModelsError for what cannot work."""
    wanted = [_read_item(item) for item in items]
    refuse_twice("channel", [one.name for one in wanted])
    return wanted


def refuse_twice(kind, names):
    """Raise LocalModelsError where a name (list of str) is there twice. kind: what it is a name of."""
    for name in names:
        if names.count(name) > 1:
            raise LocalModelsError("The %s %s is declared twice" % (kind, name), "Keep one of the two: a name means one %s" % kind)


def _read_item(item):
    name = item["name"]
    if not name.strip():
        raise LocalModelsError("A channel has an empty name", "Give it one, such as ollama")
    if item["state"] == "absent":
        return Wanted(name, "absent")
    if "\n" in (item["key"] or ""):
        raise LocalModelsError("The key of channel %s has a line break, and one-api makes one channel of each line" % name,
                               "Give one key in one line")
    if item["update_key"] == "always" and not item["key"]:
        raise LocalModelsError("Channel %s has update_key: always and no key" % name, "Give the key, or leave update_key away")
    settings = {"type": item["type"], "base_url": _read_address(name, item["base_url"]), "models": _read_models(name, item["models"]),
                "status": STATES[ENABLED if item["enabled"] else DISABLED]}
    if item["model_mapping"] is not None:
        settings["model_mapping"] = {str(alias): str(model) for alias, model in item["model_mapping"].items()}
    if item["priority"] is not None:
        settings["priority"] = item["priority"]
    if item["groups"] is not None:
        settings["groups"] = sorted(set(item["groups"])) or DEFAULT_GROUPS
    wanted = Wanted(name, "present", settings, item["key"] or None, item["update_key"])
    _refuse_long(name, stored(settings))
    return wanted


def _read_address(channel, base_url):
    # one-api only puts texts together: with a slash at the end it would ask //api/chat, and Ollama redirects that.
    base_url = (base_url or "").rstrip("/")
    parts = check_address(HOP, channel, base_url)
    if parts.path.endswith(VERSION_PATHS):
        raise LocalModelsError("Channel %s has the base_url %s, and one-api adds /api or /v1 itself: the server would answer 404" % (
            channel, base_url), "Leave %s away" % parts.path[parts.path.rindex("/"):])
    return base_url


def _read_models(channel, items):
    if not items:
        raise LocalModelsError("Channel %s has no models, and one-api would serve nothing through it" % channel,
                               "Declare its models, or give it state absent")
    names = set()
    for item in items:
        name = item.get("name") if isinstance(item, dict) and not set(item) - {"name", "type"} else item
        if not isinstance(name, str) or not name.strip():
            raise LocalModelsError("Channel %s: %r is no model" % (channel, item), "Write its name, or a map with its name")
        names.add(name)
    refuse_commas("Channel %s" % channel, names)
    return sorted(names)


def refuse_commas(where, names):
    """Raise LocalModelsError for names of models (str) that one-api would not keep as they are. where: for the message."""
    for name in sorted(names):
        if "," in name or name != name.strip():
            raise LocalModelsError("%s: %r is no name of a model for one-api, which keeps names as one text with commas" % (where, name),
                                   "Leave commas, and blanks at its ends, away")


def _refuse_long(channel, sent):
    for field, most in (("group", LONGEST_GROUPS), ("model_mapping", LONGEST_MAPPING)):
        if len(sent.get(field, "")) > most:
            raise LocalModelsError("The %s of channel %s have %d characters together, and one-api keeps %d" % (
                {"group": "groups"}.get(field, field + " entries"), channel, len(sent[field]), most), "Shorten them")


def view(row):
    """A channel's row (dict, the API's names) in the module's words, for comparing and for people (dict)."""
    names = {number: name for name, number in TYPES.items()}
    return {"type": names.get(row["type"], row["type"]), "base_url": row.get("base_url") or "",
            "models": sorted(set((row.get("models") or "").split(","))), "model_mapping": _mapping(row.get("model_mapping")),
            "priority": row.get("priority") or 0, "groups": sorted(set((row.get("group") or "default").split(","))),
            "status": STATES.get(row.get("status"), "status %s" % row.get("status"))}


def _mapping(text):
    """The mapping (dict) that a text holds; a text that holds none as it is."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return text
    return found if isinstance(found, dict) else text


def stored(settings):
    """Settings (dict, view()'s words) as the API wants them: dict."""
    states = {name: number for number, name in STATES.items()}
    ways = {"type": lambda value: ("type", TYPES[value]), "models": lambda value: ("models", ",".join(value)),
            "groups": lambda value: ("group", ",".join(value)), "status": lambda value: ("status", states[value]),
            "model_mapping": lambda value: ("model_mapping", json.dumps(value, ensure_ascii=False, sort_keys=True) if value else "")}
    return dict(ways.get(name, lambda value, name=name: (name, value))(value) for name, value in settings.items())


class Step:
    """What happens to one channel.

    row: the channel (dict) as found, or None. verb: none, create, update or delete. changes: settings (dict, view()'s words) that
    get another value. key: the key that is written (str), or None.
    """

    def __init__(self, wanted, row):
        self.wanted = wanted
        self.row = row
        self.changes, self.key = {}, None
        if not wanted.present:
            self.verb = "delete" if row else "none"
            return
        if row is None:
            self.verb, self.changes, self.key = "create", wanted.settings, wanted.key or PLACEHOLDER_KEY
            return
        found = view(row)
        self.changes = {name: value for name, value in wanted.settings.items() if found[name] != value}
        self.key = wanted.key if wanted.update_key == "always" else None
        self.verb = "update" if self.changes or self.key else "none"

    @property
    def changed(self):
        return self.verb != "none"

    def sent(self):
        """The body (dict) for the API: everything of a new channel, only what changes of another one."""
        return dict(stored(self.changes), **({"key": self.key} if self.key else {}))

    def sentences(self):
        """What is done, for people."""
        name = self.wanted.name
        if self.verb == "create":
            return ["Create channel %s to %s with %s" % (name, scrub(self.changes["base_url"]), ", ".join(self.changes["models"]))]
        if self.verb == "delete":
            return ["Delete channel %s" % name]
        if self.verb == "none":
            return []
        found = view(self.row)
        words = [_change(field, found[field], self.changes[field]) for field in sorted(self.changes)] + (["key"] if self.key else [])
        return ["Change channel %s: %s" % (name, "; ".join(words))]

    def before(self):
        """The channel as found, for people (dict), or None. Its key is not there: one-api does not tell it."""
        return None if self.row is None else _shown(view(self.row))

    def after(self):
        """The channel as it will be, likewise."""
        if not self.wanted.present:
            return None
        after = dict({"model_mapping": {}, "priority": 0, "groups": DEFAULT_GROUPS} if self.row is None else view(self.row), **self.changes)
        if self.row and self.key:
            after["key"] = "(written)"
        return _shown(after)

    def result(self, id):
        """The module's result for this channel. id: int or None."""
        return {"name": self.wanted.name, "id": id, "state": self.wanted.state, "action": self.verb,
                "models": self.wanted.settings.get("models", [])}


def _change(field, found, value):
    if field in ("models", "groups"):
        words = ["+ " + each for each in value if each not in found] + ["- " + each for each in found if each not in value]
        return "%s %s" % (field, ", ".join(words))
    return scrub("%s %s -> %s" % (field, found if found or found == 0 else "none", value if value or value == 0 else "none"))


def _shown(channel):
    """A channel in view()'s words as people may see it: its address may hold a password."""
    return dict(channel, base_url=scrub(channel["base_url"]))


def diff(steps, what):
    """Ansible's diff dictionary: the declared things before and after, by name. what: such as "one-api's channels"."""
    return {"before": {step.wanted.name: step.before() for step in steps}, "after": {step.wanted.name: step.after() for step in steps},
            "before_header": what, "after_header": what}


def plan(rows, wanted):
    """list of Step, deletions last: what takes over is there before. rows: channels as found. wanted: list of Wanted."""
    steps = [Step(one, one_named("channel", one.name, rows)) for one in wanted]
    return [step for step in steps if step.wanted.present] + [step for step in steps if not step.wanted.present]


def carry_out(one_api, step):
    """Take one step that changes something. Returns the channel's id (int), None where it is gone."""
    if step.verb == "create":
        return one_api.create_channel(dict(step.sent(), name=step.wanted.name))["id"]
    if step.verb == "update":
        one_api.update_channel(step.row["id"], step.sent())
        return step.row["id"]
    one_api.delete_channel(step.row["id"])
    return None
