# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress of pulls: a file that the module writes, lines that the action plugin makes of it. Internal to this collection.

The file is one JSON object, replaced at once: {"current": name or null, "done": how many models, "of": how many,
"models": {name: {"completed", "total", "rate", "status", "tries"}}, "ended": [sentences]}. Beside it the watcher touches FILE.watched;
if that stops for GONE_AFTER seconds, or the file goes away, nobody watches any more. FILE.ended appears when the module has ended.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text, time_text

GONE_AFTER = 60
_WRITE_EVERY = 1.0
_RATE_OVER = 15.0


class Progress:
    """Writes the file at `path` (str, or None: writes nothing). `of`: how many models will be pulled."""

    def __init__(self, path, of, clock=time.monotonic):
        self.path = path
        self._clock = clock
        self._state = {"current": None, "done": 0, "of": of, "models": {}, "ended": []}
        self._written = float("-inf")
        self._seen = collections.deque()
        self._touched = (None, clock())

    def start(self, name, total):
        """A try to pull `name` begins; `total`: bytes, or 0 where unknown."""
        tries = self._state["models"].get(name, {}).get("tries", 0) + 1
        self._state["current"] = name
        self._state["models"][name] = {"completed": 0, "total": total, "rate": 0, "status": "starting", "tries": tries}
        self._seen.clear()
        self._write()

    def moved(self, layers, status):
        """Take over what _pull.Layers and the status text say; called for every line of the answer."""
        now = self._clock()
        model = self._state["models"][self._state["current"]]
        model.update(completed=layers.completed, total=max(model["total"], layers.total), status=status)
        self._seen.append((now, layers.fetched))
        while now - self._seen[0][0] > _RATE_OVER:
            self._seen.popleft()
        began, had = self._seen[0]
        if now > began:
            model["rate"] = int((layers.fetched - had) / (now - began))
        if now - self._written >= _WRITE_EVERY:
            self._write()

    def end(self, sentence):
        """The current model is done, for better or worse; `sentence` says how."""
        self._state["models"].pop(self._state["current"], None)
        self._state["current"] = None
        self._state["done"] += 1
        self._state["ended"].append(sentence)
        self._write()

    def close(self):
        """The module has done what it can; the watcher may fetch the result. If it is gone, nothing is left behind."""
        if not self.path or not os.path.isdir(os.path.dirname(self.path)):
            return
        if self.abandoned():
            self._clear()
            return
        with open(self.path + ".ended", "w", encoding="utf-8"):
            pass

    def _clear(self):
        for rest in ("", ".watched", ".new"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.path + rest)
        with contextlib.suppress(OSError):  # a folder that holds something else is not ours
            os.rmdir(os.path.dirname(self.path))

    def abandoned(self):
        """Whether the watcher has gone: it no longer touches its file, or has taken it away. Without a watcher: never."""
        if not self.path:
            return False
        try:
            touched = os.stat(self.path + ".watched").st_mtime
        except OSError:
            touched = "gone"
        last, since = self._touched
        if touched != last:
            self._touched = (touched, self._clock())
            return False
        return self._clock() - since > GONE_AFTER

    def _write(self):
        self._written = self._clock()
        if not self.path or not os.path.isdir(os.path.dirname(self.path)):
            return
        fresh = self.path + ".new"
        with open(fresh, "w", encoding="utf-8") as out:
            json.dump(self._state, out)
        os.replace(fresh, self.path)


def line(host, state):
    """One line about what runs now, or "" where nothing runs. `state`: the object in the file (dict)."""
    name = state.get("current")
    model = state.get("models", {}).get(name)
    if not model:
        return ""
    words = ["%s: %s" % (host, name)]
    total, completed = model["total"], min(model["completed"], model["total"] or model["completed"])
    if total:
        words.append("%d %%" % (100 * completed // total))
        words.append("%s of %s" % (size_text(completed), size_text(total)))
    elif completed:
        words.append(size_text(completed))
    if model["rate"] > 0:
        words.append("%s/s" % size_text(model["rate"]))
        if total > completed:
            words.append("%s left" % time_text((total - completed) / float(model["rate"])))
    elif completed < total:
        words.append("waiting for the registry")
    if not model["status"].startswith("pulling ") or not completed:
        words.append(model["status"])
    if model["tries"] > 1:
        words.append("try %d" % model["tries"])
    if state["of"] > 1:
        words.append("model %d of %d" % (state["done"] + 1, state["of"]))
    return ", ".join(words)


def new_lines(host, state, shown):
    """The lines (list of str) about models that ended since `shown` (int) of them had been reported."""
    return ["%s: %s" % (host, sentence) for sentence in state.get("ended", [])[shown:]]


def read(text):
    """The state (dict) in what a host printed (str), or None: the file is not there yet, or a login message came first."""
    for candidate in reversed(text.splitlines()):
        try:
            state = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(state, dict) and "models" in state:
            return state
    return None
