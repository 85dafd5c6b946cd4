# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared models + what a server holds + what a bundle holds -> what to import. Pure. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName, suggest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Wanted
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text


class Step:
    """What happens to one model of the bundle (`model`: _bundle.Model).

    `verb`: none, import (it is missing), update (`latest`, and the bundle has another one), repair (the server lists it, but layers are
    missing or damaged). `before`, `after`: digest (str) or None. `missing`: {"sha256:hex": bytes} of the layers to bring; `amount`: bytes
    of those that no step before brings.
    """

    def __init__(self, wanted, model, found, held):
        self.wanted, self.model = wanted, model
        # The server finds a model under the spelling under which it was first stored.
        self.name = found.name if found else model.name
        self.shown = self.name.short
        self.before = found.digest if found else None
        same = found is not None and model.manifest.is_the_same(found)
        kept = found is not None and not same and wanted.state != "latest"
        self.missing = {} if kept else {digest: size for digest, size in model.blobs.items() if held.get(digest) != size}
        self.amount = sum(self.missing.values())
        self.after = self.before if kept or same else model.digest
        self.size = model.size
        if not found:
            self.verb = "import"
        elif self.before != self.after:
            self.verb = "update"
        else:
            self.verb = "repair" if self.missing else "none"

    @property
    def changes(self):
        return self.verb != "none"

    def sentence(self, done=False):
        """What would be done, or was done, for people."""
        words = {"import": ("Import", "Imported"), "update": ("Import the newer", "Imported the newer"),
                 "repair": ("Bring back layers of", "Brought back layers of")}
        amount = size_text(self.amount) if self.amount else "all layers are there"
        return "%s %s (%s)" % (words[self.verb][done], self.shown, amount)


def read_models(items, insecure=False):
    """(list of Wanted, list of sentences about what is left out) of a list of names and maps, as local_models holds it.

    Of a model that is made from another one (`from`) the other one is meant. Where two items name one model, `latest` and `insecure` win:
    the list may come from several hosts. Raises LocalModelsError for what is no name.
    """
    wanted, left_out = {}, []
    made_here = {ModelName.parse(item["name"]).key for item in items if isinstance(item, dict) and item.get("from") and "name" in item}
    for item in items:
        if not isinstance(item, (str, dict)) or isinstance(item, dict) and "name" not in item:
            raise LocalModelsError("%r in the list of models is neither a name nor a map with a name" % (item,),
                                   "Write a name such as qwen2.5:0.5b")
        item = {"name": item} if isinstance(item, str) else item
        name = ModelName.parse(item["name"])
        state = item.get("state", "present")
        if state == "absent":
            left_out.append("%s is declared absent" % name.short)
            continue
        base = item.get("from")
        if base is not None:
            if not _is_a_name(base):
                left_out.append("%s is made from files, which lie beside the playbook and not in a registry" % name.short)
                continue
            left_out.append("%s is made on its host, from %s" % (name.short, ModelName.parse(base).short))
            name = ModelName.parse(base)
            if name.key in made_here:
                continue
        one = wanted.setdefault(name.key, Wanted(name, "present"))
        one.state = "latest" if state == "latest" else one.state
        one.insecure = one.insecure or bool(item.get("insecure", insecure))
    return list(wanted.values()), left_out


def plan(found, wanted, bundle, held):
    """list of Step, in the declared order.

    found: list of _plan.Found of the server. wanted: list of Wanted. bundle: _bundle.Bundle. held: {"sha256:hex": bytes} of the blobs in the
    server's store. A model that the server holds need not be in the bundle. Raises LocalModelsError for one that is in neither.
    """
    there = {one.name.key: one for one in found}
    lacking = [one for one in wanted if one.name.key not in bundle.models and one.name.key not in there]
    if lacking:
        raise _not_there(lacking, bundle)
    steps = [Step(one, bundle.models[one.name.key], there.get(one.name.key), held) for one in wanted if one.name.key in bundle.models]
    counted = set()
    for step in steps:
        step.amount = sum(size for digest, size in step.missing.items() if digest not in counted)
        counted.update(step.missing)
    return steps


def missing(steps):
    """{"sha256:hex": bytes} of the layers to bring for all steps; one that several models share is in it once."""
    return {digest: size for step in steps for digest, size in step.missing.items()}


def _not_there(lacking, bundle):
    names = [one.name.short for one in lacking]
    meant = [suggest(name, [model.name.short for model in bundle.models.values()]) for name in names]
    mend = "Probably %s is meant" % meant[0] if len(names) == 1 and meant[0] and ModelName.parse(meant[0]).key in bundle.models else \
        "Declare the same models where the bundle is made, and run playbook bundle again; it brings only what is missing"
    return LocalModelsError("The bundle does not hold %s" % ", ".join(names), mend + "; nothing was changed here")


def _is_a_name(base):
    return isinstance(base, str) and not base.startswith(("/", ".", "~")) and not base.lower().endswith((".gguf", ".safetensors"))
