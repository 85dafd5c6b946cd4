# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of which exactly one content will do: the key `digest`. Pure. Internal to this collection.

Ollama refuses a digest in a name, and its registry gives no manifest by digest (ollama#5298). So a model is pinned by looking: before the
first byte the registry's manifest has to have the digest, and after the pull the server's model has to.
"""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})\Z", re.IGNORECASE)


def read(name, state, item):
    """The digest (64 hex digits, "" for none) that an item (dict) of the list of models pins `name` (ModelName) to.
    Raises LocalModelsError."""
    value = item.get("digest")
    if value is None or value == "":
        return ""
    match = _DIGEST.match(str(value).strip())
    if not match:
        raise LocalModelsError("%s has the digest %r, which is none" % (name.short, value),
                               "Write all 64 hex digits, as ollama_info or GET /api/tags show them")
    if state in ("absent", "latest"):
        raise LocalModelsError("%s has a digest and the state %s" % (name.short, state),
                               "A digest pins a model that is to be there: declare it present, loaded or unloaded, or leave the digest out")
    if item.get("from") is not None:
        raise LocalModelsError("%s has a digest and is made here" % name.short,
                               "What a server makes has another digest with each version of Ollama: pin the model that it is made from")
    return match.group(1).lower()


def accepted(digest, manifest):
    """The digests (set of str) that a server may show for a model that is pinned to `digest` (str). Servers before 0.19 show another one
    than the registry for the same content. manifest: _registry.Manifest, or None where the registry could not be asked."""
    return manifest.digests | {digest} if manifest and digest in manifest.digests else {digest}


def holds(digest, found, manifest):
    """Whether the model on the server (_plan.Found) is the one that is pinned."""
    return found.digest in accepted(digest, manifest) or bool(
        manifest and digest in manifest.digests and manifest.is_the_same(found))


def elsewhere(wanted, manifest, exactly=False, also=""):
    """The LocalModelsError for a pinned model (_plan.Wanted) of which the registry's manifest is another one, else None.

    exactly: no digest by which older servers show the same model will do. also: what else is to be known (str)."""
    if not wanted.digest or wanted.digest in ({manifest.digest} if exactly else manifest.digests):
        return None
    return LocalModelsError("%s is declared with the digest %s, and %s now has %s under this name%s"
                            % (wanted.name.short, wanted.digest[:12], wanted.name.host, manifest.digest[:12], also),
                            "Look at what changed, then declare digest: %s; the old one can no longer be pulled" % manifest.digest)


def broken(wanted, found, manifest):
    """The LocalModelsError for a pinned model that was pulled and is another one, else None."""
    if not wanted.digest or holds(wanted.digest, found, manifest):
        return None
    return LocalModelsError("%s was pulled and has the digest %s, and %s is declared" % (wanted.name.short, found.digest[:12], wanted.digest[:12]),
                            "The registry has another model under this name: look at it, then declare its digest, or another tag")
