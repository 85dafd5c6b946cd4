# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Found models + wanted models -> what to do, in which order, in sentences and as a diff. Pure. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _items, _memory, _pin, _recipe
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text

STATES = ("present", "absent", "latest", "loaded", "unloaded")


class Wanted:
    """One declared model: `name` (ModelName), `state` (one of STATES), `insecure` (bool: its registry speaks plain HTTP), `recipe`
    (_recipe.Recipe, or None for a model that is pulled), `keep_alive` (as Ollama takes it; for the state loaded), `digest` (64 hex digits
    of the one content that will do, or ""), `used` (bool: FastGPT asks it as one of its defaults), `context` (tokens that FastGPT asks for
    with every request, 0 where that is left to the server)."""

    def __init__(self, name, state="present", insecure=False, recipe=None, keep_alive=_memory.FOREVER, digest="", used=False, context=0):
        self.name = name
        self.state = state
        self.insecure = insecure
        self.recipe = recipe if state != "absent" else None
        self.keep_alive = keep_alive
        self.digest = digest
        self.used = used
        self.context = context


class Found:
    """One model on the server: `name` (ModelName), `digest` (64 hex digits), `size` (bytes)."""

    def __init__(self, name, digest, size=0):
        self.name = name
        self.digest = digest
        self.size = size


class Action:
    """What happens to one model.

    `verb`: none, delete, prune (it is not declared), pull (it is missing), update (the registry has another one), ask (whether
    the registry has another one is only known after a pull), create (it is missing and made from another one), recreate (it is not
    as declared), or recheck (whether it is as declared is only known after its base was asked for, or when it is made again). `before`, `after`:
    digest (str) or None where there is no model; `after` is "unknown" where nobody knows before. `size`: bytes of the model
    where known, else None; of a prune: bytes that get free. `differs`: list of (key, is, should be) of a recreate.
    `memory`: None, load, or unload, after the rest; `unload_first` (bool): it is loaded by a name that goes. `entry`: by which it is
    loaded now (see _memory.Running), or None. `weights`: what models that are loaded together have in common: the digest of the weights
    when all is done, or a name where nobody asked for that.
    """

    def __init__(self, wanted, verb, found=None, after=None, size=None):
        self.wanted = wanted
        self.name = wanted.name
        self.verb = verb
        # The server keeps the spelling under which a model was first pulled, and shows that.
        self.shown = found.name.short if found else wanted.name.short
        self.before = found.digest if found else None
        self.after = after
        self.size = size
        self.differs = []
        self.memory, self.entry, self.weights = None, None, ""
        self.unload_first = False

    @property
    def pulls(self):
        return self.verb in ("pull", "update", "ask")

    @property
    def creates(self):
        return self.verb in ("create", "recreate", "recheck")

    @property
    def deletes(self):
        return self.verb in ("delete", "prune")

    @property
    def changes(self):
        """Whether this is sure to change what the server holds. An `ask` that finds nothing new changes nothing."""
        return self.verb in ("pull", "update", "delete", "prune", "create", "recreate")

    def sentence(self):
        """What would be done to the model on the disk, for people."""
        amount = " (%s)" % size_text(self.size) if self.size else ""
        base = " %s" % self.wanted.recipe if self.wanted.recipe else ""
        return {
            "none": "Leave %s as it is",
            "delete": "Delete %s",
            "prune": "Delete %s, which is not declared" + amount,
            "pull": "Pull %s" + amount,
            "update": ("Pull %s with the declared digest" if self.wanted.digest else "Pull the newer %s") + amount,
            "ask": "Ask the registry for a newer %s",
            "create": "Create %s" + base + amount,
            "recreate": "Create %s anew" + base + amount + (", not as declared: %s" % ", ".join(one[0] for one in self.differs) if self.differs else ""),
            "recheck": "Look whether %s still fits what it is made" + base,
        }[self.verb] % self.shown

    def memory_sentence(self):
        """What would be done in memory, for people; "" if nothing."""
        return {None: "", "load": "Load %s", "unload": "Unload %s"}[self.memory] % (() if not self.memory else self.shown)


def read_wanted(items, insecure=False):
    """The declared models (list of Wanted) from names and maps. Two spellings of one model are one.

    insecure: for items that do not say so themselves.
    Raises LocalModelsError for names that are none, unknown states, misspelt keys, and items that contradict each other.
    """
    wanted = {}
    for item in items:
        one = read_item(item, insecure)
        other = wanted.setdefault(one.name.key, one)
        other.used, other.context = other.used or one.used, other.context or one.context
        for what in ("state", "insecure", "recipe", "keep_alive", "digest"):
            if getattr(one, what) != getattr(other, what):
                raise LocalModelsError(
                    "%s is declared twice, with %s %s and with %s %s"
                    % (other.name.short, what, getattr(other, what), what, getattr(one, what)),
                    "Keep one of the two: %s and %s are the same model" % (other.name.full, one.name.full))
    return _with_bases(wanted)


def _with_bases(wanted):
    """A model that others are made from is declared with them. Bases come before what is made from them."""
    ordered, on_the_way = {}, []

    def add(one):
        if one.name.key in ordered:
            return
        if one.name.key in on_the_way:
            raise LocalModelsError("%s is made from itself, by way of others" % one.name.short, "Let one of them be made from a model that is pulled")
        if one.recipe and one.recipe.base:
            on_the_way.append(one.name.key)
            state = "latest" if one.state == "latest" else "present"
            base = wanted.get(one.recipe.base.key) or Wanted(one.recipe.base, state, one.insecure)
            if base.state == "absent":
                raise LocalModelsError("%s is declared absent, and %s is made from it" % (base.name.short, one.name.short),
                                       "Declare both absent, or none of them")
            add(base)
            on_the_way.pop()
        ordered[one.name.key] = one

    for one in list(wanted.values()):
        add(one)
    _refuse_loaded_and_not(ordered)
    return list(ordered.values())


def _refuse_loaded_and_not(wanted):
    """What is made from a model has its weights unless they are quantized, and weights are in memory or not. wanted: {ModelName.key: Wanted}."""
    first = {}
    for one in wanted.values():
        root = one
        while root.recipe and root.recipe.shares_weights:
            root = wanted[root.recipe.base.key]
        other = first.setdefault(root.name.key, one) if one.state in _memory.STATES else one
        if other.state != one.state:
            raise LocalModelsError("%s is declared %s and %s %s, and both have the same weights"
                                   % (other.name.short, other.state, one.name.short, one.state), "Declare both alike, or one of them present")


def read_item(item, insecure=False):
    """One declared model (Wanted) from a name or a map. Raises LocalModelsError as read_wanted does."""
    if isinstance(item, str):
        return Wanted(ModelName.parse(item), insecure=insecure)
    if not isinstance(item, dict):
        raise LocalModelsError("%r in the list of models is neither a name nor a map" % (item,),
                               "Write a name such as qwen2.5:0.5b, or a map with the key name")
    _items.refuse_misspelt_keys(item)
    if "name" not in item:
        raise LocalModelsError("An item of the list of models has no name: %s" % sorted(item), "Add the key name")
    name = ModelName.parse(item["name"])
    state = item.get("state", "present")
    if state not in STATES:
        raise LocalModelsError("%s has the state %r, which is unknown" % (name.short, state), "Choose one of %s" % ", ".join(STATES))
    _items.refuse_bad_values(name.short, item)
    return Wanted(name, state, _items.boolean(name.short, "insecure", item.get("insecure", insecure)), _recipe.read(name, item),
                  _memory.keep_alive(name, state, item), _pin.read(name, state, item), bool(item.get("default_for")),
                  _items.number(name.short, item, "context") or 0)


def plan(found, wanted, manifests=None, differences=None, running=()):
    """What to do (list of Action, one per wanted model, in the declared order but deletions first: they make room).

    found: list of Found. wanted: list of Wanted. manifests: {ModelName.key: _registry.Manifest} of what the registry was
    asked for; a model that is not in there could not be asked for. differences: {ModelName.key: list of (key, is, should be)} of
    models that are there and made from others that are there, or from files; None instead where nobody knows. running: _memory.Running,
    or () where nobody has to be loaded or not.
    """
    held = {one.name.key: one for one in found}
    manifests = manifests or {}
    actions = {}
    for one in wanted:
        there = held.get(one.name.key)
        if one.recipe:
            base = actions[one.recipe.base.key] if one.recipe.base else None
            action = _decide_made(one, there, base, (differences or {}).get(one.name.key, ()))
        else:
            action = _decide(one, there, manifests.get(one.name.key))
        if running != ():
            _decide_memory(action, there, manifests.get(one.name.key), actions, running)
        actions[one.name.key] = action
    actions = list(actions.values())
    return [a for a in actions if a.verb == "delete"] + [a for a in actions if a.verb != "delete"]


def _decide_memory(action, found, manifest, before, running):
    """Sets memory, entry and weights of an Action. before: {ModelName.key: Action} of its base. What comes anew has to be loaded anew; what
    has to be unloaded may run by its old content, or, before it is here, by another name of its new one."""
    wanted, now = action.wanted, running.weights.get(action.name.key, "")
    if wanted.recipe and wanted.recipe.shares_weights:
        action.weights = before[wanted.recipe.base.key].weights
    else:
        action.weights = (manifest.weights if action.pulls and manifest else now) or action.name.key
    if wanted.state not in _memory.STATES:
        return
    action.entry = running.entry(found.name, {found.digest}, now) if found else None
    if action.changes and (wanted.state == "loaded" or not action.entry):
        action.entry = running.entry(None, manifest.digests if manifest else (), action.weights)
    action.memory = _memory.decide(wanted, action.entry, action.changes)


def _decide(wanted, found, manifest):
    if wanted.state == "absent":
        return Action(wanted, "delete", found) if found else Action(wanted, "none")
    size = manifest.size if manifest else None
    coming = manifest.digest if manifest else "unknown"
    if not found:
        return Action(wanted, "pull", None, coming, size)
    if wanted.digest:
        right = _pin.holds(wanted.digest, found, manifest)
    else:
        right = wanted.state != "latest" or (manifest and manifest.is_the_same(found))
    if right:
        return Action(wanted, "none", found, found.digest, found.size)
    return Action(wanted, "update" if manifest else "ask", found, coming, size)


def _decide_made(wanted, found, base, differs):
    if not found:
        return Action(wanted, "create", None, "unknown")
    if differs or (base and base.changes):
        action = Action(wanted, "recreate", found, "unknown")
        action.differs = list(differs or ())
        return action
    if differs is None or (base and base.verb in ("ask", "recheck")):
        return Action(wanted, "recheck", found, "unknown")
    return Action(wanted, "none", found, found.digest, found.size)


def to_ask_for(found, wanted):
    """The declared models (list of Wanted) about which the registry has to be asked, in the spelling in which the server will ask."""
    held = {one.name.key: one for one in found}
    asked = []
    for one in wanted:
        there = held.get(one.name.key)
        if one.recipe or one.state == "absent":
            continue
        if there and (one.state == "latest" or one.digest and one.digest != there.digest):
            asked.append(Wanted(there.name, one.state, one.insecure, digest=one.digest))
        elif not there:
            asked.append(one)
    return asked


def apply(found, actions):
    """The models (list of Found) that the server holds when the actions have been taken; an `ask` is taken to find nothing new."""
    held = {one.name.key: one for one in found}
    for action in actions:
        if action.verb in ("delete", "prune"):
            held.pop(action.name.key, None)
        elif action.changes:
            name = held[action.name.key].name if action.name.key in held else action.name
            held[action.name.key] = Found(name, action.after, action.size or 0)
    return list(held.values())


def diff(before, after, declared, url, freed_exact=True):
    """Ansible's diff dictionary of models, one line a model, and one a difference of a model that is made anew.

    before, after: lists of Found. declared: list of Action, or of Wanted where nothing is made and nothing concerns memory. freed_exact: whether
    the bytes that go with what nobody declared are exact, and not the most that can get free.
    """
    by_key = {one.name.key: one for one in declared}
    header = "models at %s" % url
    kept = {one.name.key for one in after}
    frees = {one.name.key: "frees %s%s" % ("" if freed_exact else "at most ", size_text(one.size))
             for one in declared if getattr(one, "verb", "") == "prune" and one.name.key not in kept}
    return {"before": _lines(before, by_key, 1, frees), "after": _lines(after, by_key, 2),
            "before_header": header, "after_header": header}


def _lines(found, declared, side, remarks=()):
    """side: 1 before, 2 after. remarks: {ModelName.key: str} for the ends of lines."""
    lines = []
    for one in sorted(found, key=lambda one: one.name.key):
        if one.name.key not in declared:
            continue
        memory, differs = (getattr(declared[one.name.key], what, None) for what in ("memory", "differs"))
        words = [one.name.short, one.digest[:12], size_text(one.size) if one.size else ""]
        if memory:
            words.append("loaded" if (memory == "load") == (side == 2) else "")
        words += [remarks[one.name.key]] if one.name.key in remarks else []
        lines.append(" ".join(word for word in words if word))
        lines += ["%s %s: %s" % (one.name.short, difference[0], _recipe.as_text(difference[side])) for difference in differs or ()]
    return "".join(line + "\n" for line in lines)
