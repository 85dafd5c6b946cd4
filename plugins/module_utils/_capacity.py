# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is prepared fits the disk, and what of that could not be seen. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _made, _store
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text


def check(prepared, store, problems, version):
    """Raises LocalModelsError where the disk of the store (_store.Store, or None where it was not found) is too small for all that comes.

    problems: {ModelName.key: LocalModelsError} of models whose registry could not be asked. version: of the server (str), "" where none answers.
    """
    coming = [a for a in prepared.actions if a.pulls]
    for action in coming:
        problem = problems.get(action.name.key)
        if problem:
            prepared.warnings.append(
                "The size of %s is unknown before it is pulled, and whether it fits the disk: this host could not ask the registry. %s"
                % (action.shown, problem))
    manifests = [prepared.manifests[a.name.key] for a in coming if a.name.key in prepared.manifests]
    made = prepared.to_make
    if not manifests and not made:
        return
    if not store:
        if prepared.reachable:
            prepared.warnings.append("Whether %s more fit the disk was not checked, for the model store of this server was not found"
                                     " on this host. Name it by store_path." % size_text(sum(one.size for one in manifests + made)))
        return
    try:
        # Files are read for their digests only if it matters how much of them is there already.
        more = _made.room(version, made, lambda one: 0)
        if made and not store.fits(manifests, more):
            for one in made:
                one.read(prepared.notes)
            more = _made.room(version, made, lambda one: sum(store.there(one.digest(file), file.size) for file in one.files))
        store.refuse_if_too_small(manifests, more)
        prepared.on_disk = store.whole(manifests)
    except PermissionError as problem:
        prepared.warnings.append("Whether the models fit the disk was not checked: %s" % problem)


def note_other_stores(prepared, store):
    """A service and a login user have stores of their own; models seem to vanish when the other one's server runs."""
    for action in prepared.actions:
        other = _store.elsewhere(action.name, store) if store and action.verb == "pull" else ""
        if other:
            prepared.warnings.append("%s is in the model store %s as well, which this server does not use; its own is %s."
                                     % (action.shown, other, store.path))
