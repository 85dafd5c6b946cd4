# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels of AI Proxy: declared + found -> steps, sentences and a diff. Internal to this collection.

Everything but carry_out() is pure.
"""

from __future__ import annotations

import urllib.parse

from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import is_any, is_loopback
from ansible_collections.localmodels.fastgpt.plugins.module_utils._aiproxy import CHAT, DISABLED, EMBEDDING, ENABLED, HOP, one_named
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub

KINDS = {"chat": CHAT, "embedding": EMBEDDING}
KIND_NAMES = {number: name for name, number in KINDS.items()}
# The same in every release (reference, A4), so that a run that changes nothing need not ask. Others are asked for.
KNOWN_TYPES = {"ollama": 30, "openai": 1}
DEFAULT_SETS = ["default"]  # an empty list of sets means this one
# What FastGPT's own page sends for an Ollama, which needs no key; the page wants something in the field.
PLACEHOLDER_KEY = "ollama"
# Column sizes on PostgreSQL (reference, A4).
LONGEST = {"name": 64, "base_url": 128, "model": 128}
VERSION_PATHS = ("/v1", "/api")


class Wanted:
    """One declared channel. kinds: {model name: "chat" or "embedding"}, and what else the module's options say.

    `given`: settings (dict, the API's names) that were declared, without type and models.
    """

    def __init__(self, name, state="present", type="ollama", kinds=None, given=None, enabled=True):
        self.name = name
        self.state = state
        self.type = type
        self.kinds = dict(kinds or {})
        self.given = dict(given or {})
        self.status = ENABLED if enabled else DISABLED

    @property
    def present(self):
        return self.state == "present"

    def settings(self, type_id):
        """Everything declared, in the API's names."""
        return dict(self.given, type=type_id, models=sorted(self.kinds))


def read_wanted(items):
    """list of Wanted from the option `channels` (list of dict). Raises LocalModelsError for what cannot work."""
    wanted = [_read_item(item) for item in items]
    names = [one.name for one in wanted]
    for name in names:
        if names.count(name) > 1:
            raise LocalModelsError("The channel %s is declared twice" % name, "Keep one of the two: a name means one channel")
    return wanted


def _read_item(item):
    name = item["name"]
    if not name.strip():
        raise LocalModelsError("A channel has an empty name", "Give it one, such as ollama")
    _refuse_long("name", name, "The channel")
    if item["state"] == "absent":
        return Wanted(name, "absent")
    base_url = (item["base_url"] or "").rstrip("/")
    _check_address(name, item["type"], base_url)
    if "\n" in (item["key"] or ""):
        raise LocalModelsError("The key of channel %s has a line break, and AI Proxy makes one channel of each line" % name,
                               "Give one key in one line")
    given = {key: item[key] for key in ("key", "model_mapping", "priority", "sets") if item[key] is not None}
    return Wanted(name, "present", item["type"], _read_models(name, item["models"]), dict(given, base_url=base_url), item["enabled"])


def check_address(hop, channel, base_url):
    """The parts of a channel's base_url (str), as urllib splits it. Raises LocalModelsError where it cannot lead from the
    gateway's container to a server. hop: name of the gateway for people."""
    parts = urllib.parse.urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LocalModelsError("Channel %s has the base_url %r, which is no http URL" % (channel, base_url),
                               "Give the address by which %s's container reaches the server, such as http://ollama:11434" % hop)
    if is_loopback(parts.hostname) or is_any(parts.hostname):
        raise LocalModelsError(
            "Channel %s has the base_url %s, and inside %s's container that is the container itself" % (channel, base_url, hop),
            "Give the name of Ollama's container in a common Docker network (http://ollama:11434), "
            "http://host.docker.internal:11434 with extra_hosts, or the address of the machine")
    return parts


def _check_address(name, type_name, base_url):
    parts = check_address(HOP, name, base_url)
    if type_name == "ollama" and parts.path.endswith(VERSION_PATHS):
        raise LocalModelsError(
            "Channel %s of type ollama has the base_url %s, and AI Proxy adds /api/chat itself: Ollama would answer 404" % (name, base_url),
            "Leave %s away, or use the type openai for an address that ends with /v1" % parts.path[parts.path.rindex("/"):])
    _refuse_long("base_url", base_url, "Channel %s: base_url" % name)


def _read_models(channel, items):
    if not items:
        raise LocalModelsError("Channel %s has no models, and AI Proxy would serve nothing through it" % channel,
                               "Declare its models, or give it state absent")
    kinds = {}
    for item in items:
        item = {"name": item} if isinstance(item, str) else item
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"].strip() or set(item) - {"name", "type"}:
            raise LocalModelsError("Channel %s: %r is no model" % (channel, item),
                                   "Write its name, or a map with name and type (chat or embedding)")
        kind = item.get("type") or "chat"
        if kind not in KINDS:
            raise LocalModelsError("Channel %s: model %s has the type %r" % (channel, item["name"], kind), "Choose chat or embedding")
        if kinds.setdefault(item["name"], kind) != kind:
            raise LocalModelsError("Channel %s: model %s is declared as chat and as embedding" % (channel, item["name"]), "Keep one")
        _refuse_long("model", item["name"], "Model")
    return kinds


def _refuse_long(what, text, subject):
    if len(text) > LONGEST[what]:
        raise LocalModelsError("%s %s has %d characters, and AI Proxy keeps %d" % (subject, text, len(text), LONGEST[what]), "Shorten it")


class Step:
    """What happens to one channel.

    row: the channel (dict) as found, or None. verb: none, create, update or delete. changes: settings (dict, the API's
    names) that get another value. new_status: bool, it is enabled or disabled. missing: {model: type id} without a model config.
    """

    def __init__(self, wanted, row, type_id, declared):
        self.wanted = wanted
        self.row = row
        self.changes, self.new_status, self.missing = {}, False, {}
        if not wanted.present:
            self.verb = "delete" if row else "none"
            return
        settings = wanted.settings(type_id)
        if row is None:
            self.changes = dict({"key": PLACEHOLDER_KEY, "model_mapping": {}}, **settings)
        else:
            self.changes = {name: value for name, value in settings.items() if differs(name, row, value)}
            self.new_status = row["status"] != wanted.status
        self.missing = {model: KINDS[kind] for model, kind in wanted.kinds.items() if model not in declared}
        self.verb = "create" if row is None else "update" if self.changes or self.new_status else "none"

    @property
    def changed(self):
        return self.verb != "none" or bool(self.missing)

    def sentences(self):
        """What is done, for people; in the order in which it is done."""
        name, found = self.wanted.name, ["Declare %s as a model of type %s" % (model, KIND_NAMES[self.missing[model]])
                                         for model in sorted(self.missing)]
        if self.verb == "create":
            found.append("Create channel %s to %s with %s" % (name, scrub(self.changes["base_url"]), ", ".join(self.changes["models"])))
        if self.verb == "delete":
            found.append("Delete channel %s" % name)
        if self.new_status:
            found.append("%s channel %s" % ("Enable" if self.wanted.status == ENABLED else "Disable", name))
        if self.verb == "update" and self.changes:
            found.append("Change channel %s: %s" % (name, "; ".join(_change(field, self.row, self.changes[field])
                                                                    for field in sorted(self.changes))))
        return found

    def before(self):
        """The channel as found, for people (dict without its key), or None."""
        return None if self.row is None else shown(self.row)

    def after(self):
        """The channel as it will be, likewise."""
        if not self.wanted.present:
            return None
        row = dict(self.row or {"priority": 0, "sets": []}, **self.changes)
        row["status"] = self.wanted.status
        after = shown(row)
        if self.row and "key" in self.changes:
            after["key"] = "(another one)"
        if self.missing:
            after["new_model_configs"] = {model: KIND_NAMES[kind] for model, kind in self.missing.items()}
        return after

    def result(self, id):
        """The module's result for this channel. id: int or None."""
        return {"name": self.wanted.name, "id": id, "state": self.wanted.state, "action": self.verb, "models": sorted(self.wanted.kinds)}

    def serves(self):
        """The models (set of str) that this channel relays in the end."""
        return set(self.wanted.kinds) if self.wanted.present and self.wanted.status == ENABLED else set()


def diff(steps):
    """Ansible's diff dictionary: the declared channels before and after, by name."""
    return {"before": {step.wanted.name: step.before() for step in steps}, "after": {step.wanted.name: step.after() for step in steps},
            "before_header": "AI Proxy's channels", "after_header": "AI Proxy's channels"}


def plan(rows, wanted, declared, type_ids):
    """list of Step, deletions last: what takes over is there before.

    rows: channels as found. wanted: list of Wanted. declared: {model: type id} of model configs that exist.
    type_ids: {name: id} of channel types.
    """
    steps, declared = [], set(declared)
    for one in wanted:
        steps.append(Step(one, one_named(one.name, rows), type_ids.get(one.type), declared))
        declared.update(steps[-1].missing)  # two channels may share a model
    return [step for step in steps if step.wanted.present] + [step for step in steps if not step.wanted.present]


def differs(name, row, value):
    """Whether a setting has another value in a channel's row. null, [] and {} are the same; models and sets have no order.

    A setting that the answer does not hold is one that an old server does not know, except those that are left out when empty.
    """
    if name not in row and name not in ("sets", "configs"):
        return False
    return _normal(name, row.get(name)) != _normal(name, value)


def _normal(name, value):
    if name == "models":
        return sorted(value or [])  # AI Proxy keeps duplicates: they are a difference
    if name == "sets":
        return sorted(set(value or DEFAULT_SETS))
    if name == "base_url":
        return (value or "").rstrip("/")
    return value or None


def _change(name, row, value):
    found = row.get(name)
    if name == "key":
        return "key"
    if name in ("models", "sets"):
        before, after = set(found or []), set(value)
        words = ["+ " + each for each in sorted(after - before)] + ["- " + each for each in sorted(before - after)]
        return "%s %s" % (name, ", ".join(words) or "each once")
    return scrub("%s %s -> %s" % (name, _text(found), _text(value)))


def _text(value):
    return str(value) if value or value == 0 else "none"


def shown(row):
    """What may be shown of a channel's row (dict, the API's names): dict with the module's names."""
    names = {number: name for name, number in KNOWN_TYPES.items()}
    return {"type": names.get(row["type"], row["type"]), "base_url": scrub(row.get("base_url") or ""), "models": sorted(row.get("models") or []),
            "model_mapping": row.get("model_mapping") or {}, "priority": row.get("priority", 0),
            "sets": sorted(row.get("sets") or DEFAULT_SETS), "enabled": row.get("status") == ENABLED,
            "key": "(hidden)" if row.get("key") else "(none)"}


def conflicts(wanted, declared):
    """Sentences about models whose model config says another type than was declared; they are kept: people made them."""
    return ["%s has a model config of type %s in AI Proxy and is declared as %s, so AI Proxy refuses it on that endpoint. "
            "Correct or delete its model config" % (model, KIND_NAMES.get(declared[model], declared[model]), kind)
            for one in wanted for model, kind in sorted(one.kinds.items())
            if declared.get(model) and (declared[model] == EMBEDDING) != (kind == "embedding")]


def prepare(aiproxy, wanted):
    """(list of Step, list of warnings) after asking an AIProxy what is there: two requests when all is as declared."""
    rows = aiproxy.channels()
    models = {model for one in wanted for model in one.kinds}
    declared = aiproxy.declared(models) if models else {}
    type_ids = dict(KNOWN_TYPES)
    steps = plan(rows, wanted, declared, type_ids) if all(one.type in type_ids for one in wanted) else None
    if steps is None or any(step.verb in ("create", "update") for step in steps):
        type_ids = aiproxy.type_ids()
        _refuse_unknown_types(wanted, type_ids)
        steps = plan(rows, wanted, declared, type_ids)
    return steps, conflicts(wanted, declared)


def _refuse_unknown_types(wanted, type_ids):
    for one in wanted:
        if one.present and one.type not in type_ids:
            raise LocalModelsError("AI Proxy has no channel type %s (channel %s)" % (one.type, one.name),
                                   "Choose one of %s" % ", ".join(sorted(type_ids)))


def carry_out(aiproxy, step):
    """Take one step that changes something. Returns (the channel's id, None where it is gone; the id whose relay changes)."""
    aiproxy.declare(step.missing)  # before the channel: a strict AI Proxy refuses channels with undeclared models
    row = step.row
    if step.verb == "create":
        row = aiproxy.create(dict(step.changes, name=step.wanted.name, status=step.wanted.status))
    if step.verb == "delete":
        aiproxy.delete(row["id"])
        return None, row["id"]
    if step.new_status:
        aiproxy.set_status(row["id"], step.wanted.status)
    if step.verb == "update" and step.changes:
        aiproxy.update(row, step.changes)
    return row["id"], row["id"]
