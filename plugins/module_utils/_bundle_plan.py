# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared models + what a server holds + what a bundle holds -> what to import. Pure. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _plan
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName, suggest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text


class Step:
    """What happens to one model of the bundle (`model`: _bundle.Model).

    `verb`: none, import (it is missing), update (the bundle has another one, and `latest` or that one's digest is declared), repair (the
    server lists it, but layers are missing or damaged). `before`, `after`: digest (str) or None. `missing`: {"sha256:hex": bytes} of the
    layers to bring; `amount`: bytes of those that no step before brings.
    """

    def __init__(self, wanted, model, found, held):
        self.wanted, self.model = wanted, model
        # The server finds a model under the spelling under which it was first stored.
        self.name = found.name if found else model.name
        self.shown = self.name.short
        self.before = found.digest if found else None
        # A server before 0.19 shows another digest of the same layers; a pin is fulfilled by its own digest only.
        same = found is not None and (found.digest == model.digest if wanted.digest else model.manifest.is_the_same(found))
        kept = found is not None and not same and wanted.state != "latest" and not wanted.digest
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
        verb = "import" if self.wanted.digest and self.verb == "update" else self.verb
        pinned = " with the declared digest" if verb != self.verb else ""
        amount = size_text(self.amount) if self.amount else "all layers are there"
        return "%s %s%s (%s)" % (words[verb][done], self.shown, pinned, amount)


def read_models(items, insecure=False):
    """(list of Wanted, list of sentences about what is left out) of a list of names and maps, as local_models holds it.

    Of a model that is made from another one (`from`) the other one is meant. Where two items name one model, `latest`, `insecure` and
    `digest` win: the list may come from several hosts. Raises LocalModelsError for what is no item, and for two digests of one model.
    """
    wanted, left_out = {}, []
    declared = [_plan.read_item(item, insecure) for item in items]
    made_here = {one.name.key for one in declared if one.recipe}
    for item in declared:
        if item.state == "absent":
            left_out.append("%s is declared absent" % item.name.short)
            continue
        name = item.name
        if item.recipe:
            left_out.append(_made_there(item))
            name = item.recipe.base
            if name is None or name.key in made_here:
                continue
        one = wanted.setdefault(name.key, _plan.Wanted(name))
        one.state = "latest" if item.state == "latest" else one.state
        one.insecure = one.insecure or item.insecure
        if item.digest and one.digest and item.digest != one.digest:
            raise LocalModelsError("%s is declared with the digest %s and with the digest %s" % (name.short, one.digest[:12], item.digest[:12]),
                                   "A bundle holds one model of a name: declare one digest everywhere, or make two bundles")
        one.digest = one.digest or item.digest
    return list(wanted.values()), left_out


def _made_there(item):
    """What is said of a model (_plan.Wanted) that its server makes: from which files, where it needs any, for no registry has them."""
    recipe = item.recipe
    files = [path for path in (recipe.path, recipe.adapter) if path]
    bring = "; bring %s there, under the same path" % " and ".join(files) if files else ""
    return "%s is made on its host, %s%s" % (item.name.short, recipe, bring)


def plan(found, wanted, bundle, held):
    """list of Step, in the declared order.

    found: list of _plan.Found of the server. wanted: list of Wanted. bundle: _bundle.Bundle. held: {"sha256:hex": bytes} of the blobs in the
    server's store. A model that the server holds need not be in the bundle. Raises LocalModelsError for one that is in neither, or only with
    another digest than the declared one.
    """
    there = {one.name.key: one for one in found}
    for one in wanted:
        # What the server holds need not come from the bundle, unless the bundle's is wanted.
        if one.name.key in bundle.broken and (one.name.key not in there or one.state == "latest" or one.digest not in ("", there[one.name.key].digest)):
            raise bundle.broken[one.name.key]
    lacking = [one for one in wanted if one.name.key not in bundle.models and one.name.key not in there]
    if lacking:
        raise _not_there(lacking, bundle)
    other = [one for one in wanted if one.digest and not _pinned_in(bundle, one)]
    wrong = [one for one in other if one.name.key not in there or there[one.name.key].digest != one.digest]
    if wrong:
        raise _other_digest([(one, bundle.models.get(one.name.key), there.get(one.name.key)) for one in wrong])
    steps = [Step(one, bundle.models[one.name.key], there.get(one.name.key), held)
             for one in wanted if one.name.key in bundle.models and one not in other]
    counted = set()
    for step in steps:
        step.amount = sum(size for digest, size in step.missing.items() if digest not in counted)
        counted.update(step.missing)
    return steps


def _pinned_in(bundle, wanted):
    return wanted.name.key in bundle.models and bundle.models[wanted.name.key].digest == wanted.digest


def _other_digest(wrong):
    """wrong: list of (Wanted, _bundle.Model or None, _plan.Found or None)."""
    said = ["%s is declared with the digest %s; the bundle holds %s, and this server %s" % (
        wanted.name.short, wanted.digest[:12], model.digest[:12] if model else "no such model", found.digest[:12] if found else "none")
        for wanted, model, found in wrong]
    return LocalModelsError(". ".join(said), "Run playbook bundle with the same declaration, which brings this digest or says why it cannot be had, "
                            "or declare the digest that the bundle holds; nothing was changed here")


def missing(steps):
    """{"sha256:hex": bytes} of the layers to bring for all steps; one that several models share is in it once."""
    return {digest: size for step in steps for digest, size in step.missing.items()}


def _not_there(lacking, bundle):
    names = [one.name.short for one in lacking]
    meant = [suggest(name, [model.name.short for model in bundle.models.values()]) for name in names]
    mend = "Probably %s is meant" % meant[0] if len(names) == 1 and meant[0] and ModelName.parse(meant[0]).key in bundle.models else \
        "Declare the same models where the bundle is made, and run playbook bundle again; it brings only what is missing"
    return LocalModelsError("The bundle does not hold %s" % ", ".join(names), mend + "; nothing was changed here")
