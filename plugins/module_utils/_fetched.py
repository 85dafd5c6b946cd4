# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many bytes come over the wire for a pull. Internal to this collection.

Ollama tells of a layer every 60 ms, so of a small one it tells nothing, or one line when it is complete, which is the line that it gives of
a layer that was there before as well (server/download.go, 0.32). What was there is therefore asked before the pull.
"""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError


class Fetched:
    """One model on its way, over all its tries. manifest: _registry.Manifest, or None where the registry could not be asked; then only what
    Ollama tells is counted. store: _store.Store, or None where it was not found. ollama: _ollama.Ollama, asked for each layer then."""

    def __init__(self, manifest, store, ollama):
        self._first, self._last = {}, {}
        self._lacking, self._exact = {}, False
        if not manifest:
            return
        try:
            self._lacking = {digest: size - store.there(digest, size) for digest, size in manifest.blobs.items()} if store else {}
            self._exact = store is not None
        except PermissionError:
            pass
        if not self._exact:
            self._lacking = _asked_for(manifest.blobs, ollama)

    def note(self, layers):
        """Take over what _pull.Layers say; called for every line of each try."""
        for digest, completed in layers.now.items():
            self._first.setdefault(digest, layers.first[digest])
            self._last[digest] = max(completed, self._last.get(digest, 0))

    def bytes(self, done):
        """Bytes (int) that came until now. done: whether the model is there."""
        told = {digest: last - self._first[digest] for digest, last in self._last.items()}
        if not done:
            return sum(told.values())
        return sum(self._lacking.get(digest, 0) if self._whole(digest) else told[digest] for digest in set(told) | set(self._lacking))

    def _whole(self, digest):
        """Whether all that was lacking of a layer came now. Who could only ask the server does not know of the part that a broken
        pull has left: the first line of the layer tells of that."""
        if self._exact or digest not in self._first:
            return True
        return digest in self._lacking and self._first[digest] in (0, self._lacking[digest])


def _asked_for(blobs, ollama):
    """{"sha256:hex": bytes} of those of the layers (blobs, likewise) that a server does not have; nothing where it does not say."""
    try:
        return {digest: size for digest, size in blobs.items() if not ollama.has_blob(digest)}
    except LocalModelsError:
        return {}  # a proxy before it that lets no HEAD through
