# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the answer to a pull while it comes, and noticing when it comes no more. Internal to this collection."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _pull_causes as causes
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import NETWORK_ERRORS

# Ollama hashes a layer at the speed of its disk and says nothing meanwhile; slower disks than this hold no models.
VERIFIED_PER_SECOND = 20 * 1000 * 1000


class Abandoned(LocalModelsError):
    """Whoever asked for the pull is gone, so it was cancelled."""


class Layers:
    """How far a pull is: the sum over its layers. `completed`, `total` (bytes), `fetched` (bytes that came in this pull, as far as its lines
    tell). `first`, `now`: {digest: bytes} in the first and in the last line about each layer."""

    def __init__(self):
        self.first, self.now, self._total = {}, {}, {}

    def take(self, line):
        """Note one status line (dict). Returns whether it shows progress.

        A waiter on a broken download gets the same line for ever (ollama#17370), so only growth of `completed` or
        another step counts, never the arrival of bytes.
        """
        digest, done = line.get("digest"), line.get("completed") or 0
        if not digest:
            return True
        if digest not in self.now:
            self.first[digest], self.now[digest] = done, done
            self._total[digest] = line.get("total") or 0
            return True
        grown = done > self.now[digest]
        self.now[digest] = done
        self._total[digest] = line.get("total") or self._total[digest]
        return grown

    @property
    def completed(self):
        return sum(self.now.values())

    @property
    def total(self):
        return sum(self._total.values())

    @property
    def fetched(self):
        return sum(max(0, self.now[digest] - self.first[digest]) for digest in self.now)


class _Watch(threading.Thread):
    """Cuts the connection when it has been quiet for too long, or when nobody waits for it any more.

    Cutting is the way to cancel: Ollama stops the download within a second and keeps what it has. A time-out of the
    socket would not do, for a stalled pull goes on sending lines.
    """

    def __init__(self, response, allowed, abandoned):
        super().__init__(daemon=True)
        self._socket = socket.socket(fileno=os.dup(response.fileno()))
        self._abandoned = abandoned
        self._done = threading.Event()
        self.reason = None
        self.alive_for(allowed)

    def alive_for(self, allowed):
        """The pull has moved just now; `allowed` seconds may pass until it moves again."""
        self.allowed = allowed
        self._deadline = time.monotonic() + allowed

    def run(self):
        while not self._done.wait(min(1.0, max(0.05, self.allowed / 10.0))):
            if self._abandoned():
                self.reason = "abandoned"
            elif time.monotonic() > self._deadline:
                self.reason = "stalled"
            if self.reason:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the server was faster and has closed it
                return

    def stop(self):
        self._done.set()
        self.join()
        self._socket.close()


def follow(response, name, on_progress=None, stall_timeout=300, abandoned=None, secrets=()):
    """Read the open answer to POST /api/pull to its end; returns the Layers.

    name: for messages. on_progress: called with (Layers, status text) for each line. stall_timeout: seconds without
    progress. abandoned: called now and then, says whether nobody waits any more. secrets: see PullFailed. Raises PullFailed, Abandoned.
    """
    layers = Layers()
    watch = _Watch(response, stall_timeout, abandoned or (lambda: False))
    watch.start()
    last = {}
    try:
        for raw in response:
            line = _parse(raw)
            if line is None:
                continue
            if "error" in line:
                raise causes.PullFailed(name, causes.cause_of(str(line["error"])), str(line["error"]), secrets)
            moved = layers.take(line) or line.get("status") != last.get("status")
            last = line
            if moved:
                hashing = layers.total / VERIFIED_PER_SECOND if "digest" not in line else 0
                watch.alive_for(stall_timeout + hashing)
            if on_progress:
                on_progress(layers, str(line.get("status", "")))
    except NETWORK_ERRORS:
        pass  # an answer cut short is judged below, like one that merely ends too early
    finally:
        watch.stop()
    if watch.reason == "abandoned":
        raise Abandoned("The pull of %s was cancelled, for nobody waits for it any more" % name, "Run again: it resumes")
    if watch.reason == "stalled":
        stalled = causes.STALLED
        raise causes.PullFailed(name, causes.Cause(stalled.kind, stalled.problem % watch.allowed, stalled.mend, True), "")
    if last.get("status") != "success":
        raise causes.PullFailed(name, causes.TRUNCATED, "")
    return layers


def _parse(raw):
    """One line as a dict; None for an empty one, a cut one, or one that is no JSON."""
    try:
        line = json.loads(raw.decode("utf-8", "replace"))
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
