# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that nobody declared: which they are, and what their removal frees. Pure. Internal to this collection."""

from __future__ import annotations

import fnmatch

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Action, Wanted


def protection(protect):
    """A function that says of a ModelName whether one of `protect` (list of str: names in any spelling, or patterns such as house-*)
    is about it. Raises LocalModelsError."""
    patterns = [one.lower() for one in protect if isinstance(one, str) and any(sign in one for sign in "*?[")]
    names = {ModelName.parse(one) for one in protect if not (isinstance(one, str) and one.lower() in patterns)}

    def protected(name):
        return name in names or any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns
                                    for text in (name.key, name.short.lower()))

    return protected


def refuse_empty(wanted, allow_empty):
    """Raises LocalModelsError if nothing would be left of a server's models and nobody said that this is meant."""
    if not allow_empty and all(one.state == "absent" for one in wanted):
        raise LocalModelsError("The list of models keeps none, and exclusive would delete every model of the server",
                               "If this is meant set allow_empty: true; nothing was changed")


def undeclared(found, wanted, protect):
    """The Actions (list) that delete what is found (list of _plan.Found) and neither declared (list of _plan.Wanted) nor protected."""
    declared, protected = {one.name for one in wanted}, protection(protect)
    return [Action(Wanted(one.name, "absent"), "prune", one, None, one.size)
            for one in found if one.name not in declared and not protected(one.name)]


def count_freed(actions, found, blobs_of):
    """Sets the size of each prune to the bytes that it frees; returns whether these are exact.

    actions: list of _plan.Action. found: list of _plan.Found. blobs_of: function from ModelName to {"sha256:hex": bytes}, or to None
    where the manifest cannot be read; then the sizes stay those of whole models, which is the most that can get free. A layer
    that several models share is counted once, with the last of them that goes; one that a model keeps is not counted.
    """
    going = {action.name for action in actions if action.deletes}
    blobs = {one.name: blobs_of(one.name) for one in found}
    if any(listed is None for listed in blobs.values()):
        return False
    needed = {digest for name, listed in blobs.items() if name not in going for digest in listed}
    for action in reversed([action for action in actions if action.deletes]):
        free = {digest: size for digest, size in blobs.get(action.name, {}).items() if digest not in needed}
        needed.update(free)
        if action.verb == "prune":
            action.size = sum(free.values())
    return True
