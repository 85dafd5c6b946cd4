# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of this host to Ollama, each as a blob under its digest, in pieces. Internal to this collection.

Ollama keeps a blob when it is complete and its digest is right (server/routes.go, CreateBlobHandler, 0.32 and 0.34). It keeps no part of one,
so a broken upload goes on file by file.
"""

from __future__ import annotations

import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _files
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned

_PIECE = 1 << 20


class Steps:
    """How far one model is. `completed`, `total`, `fetched` (bytes), as _progress.Track.moved takes them."""

    def __init__(self, track, abandoned, total):
        self._track, self._abandoned = track, abandoned
        self.completed, self.total, self.fetched = 0, total, 0
        self._status, self._looked = "", float("-inf")

    def status(self, text):
        """Another step begins, or goes on; `text` says which."""
        self._status = text
        self._track.moved(self, text)

    def there(self, size):
        """A file of `size` bytes is at its place already."""
        self.completed += size
        self._track.moved(self, self._status)

    def moved(self, count):
        """`count` bytes more were sent. Raises Abandoned where nobody waits any more."""
        self.completed += count
        self.fetched += count
        self.look()

    def look(self, dummy=0):
        """Called for each piece that is read or sent, so it looks at the clock first. Raises Abandoned."""
        now = time.monotonic()
        if now - self._looked < 0.2:
            return
        self._looked = now
        self._track.moved(self, self._status)
        if self._abandoned():
            raise Abandoned("The upload was cancelled, for nobody waits for it any more", "Run again: what has arrived is not sent again")


class Body:
    """A file as the body of a request: read(any number) gives the next piece, never more than `file.size` bytes together."""

    def __init__(self, file, content, on_bytes):
        self._file, self._content, self._on_bytes = file, content, on_bytes
        self._left = file.size

    def read(self, dummy=-1):
        piece = self._content.read(min(_PIECE, self._left))
        if len(piece) < min(_PIECE, self._left):
            raise _files.changed(self._file)
        self._left -= len(piece)
        if piece:
            self._on_bytes(len(piece))
        return piece


def send(ollama, file, digest, steps, stall_timeout):
    """Have a file (_files.LocalFile) at the server (_ollama.Ollama) under its digest ("sha256:hex"). What is there is not sent.

    steps: Steps. stall_timeout: seconds that a piece may take. Raises LocalModelsError, Abandoned.
    """
    steps.status("uploading %s" % file.name)
    if ollama.has_blob(digest):
        steps.there(file.size)
        return
    try:
        with open(file.path, "rb") as content:
            ollama.put_blob(digest, Body(file, content, steps.moved), file.size, stall_timeout)
    except OSError as problem:
        raise LocalModelsError("%s cannot be read: %s" % (file.path, problem.strerror or problem), "Look at the disk it is on") from problem
