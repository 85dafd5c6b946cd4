# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress of pulls: a file that the module writes, lines that the action plugin makes of it. Internal to this collection.

The file is one JSON object, replaced at once: {"done": how many models, "of": how many, "models": {name: {"completed", "total", "rate",
"status", "tries"}} of those that are on their way, "ended": [sentences]}. Beside it the watcher touches FILE.watched; if that stops
for GONE_AFTER seconds, or the file goes away, nobody watches any more. FILE.ended appears when the module has ended.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import threading
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text, time_text

GONE_AFTER = 60
_WRITE_EVERY = 1.0
_RATE_OVER = 15.0
_NAMED = 4  # in one line, when several models are on their way


class Progress:
    """Writes the file at `path` (str, or None: writes nothing). `of`: how many models will be pulled. Threads may share it."""

    def __init__(self, path, of, clock=time.monotonic):
        self.path = path
        self.clock = clock
        self._state = {"done": 0, "of": of, "models": {}, "ended": []}
        self._written = float("-inf")
        self._touched = (None, clock())
        self._lock = threading.RLock()

    def start(self, name, total):
        """A try to pull `name` begins; `total`: bytes, or 0 where unknown. Returns the Track that tells how far it is."""
        with self._lock:
            tries = self._state["models"].get(name, {}).get("tries", 0) + 1
            model = {"completed": 0, "total": total, "rate": 0, "status": "starting", "tries": tries}
            self._state["models"][name] = model
            self._write()
        return Track(self, model)

    def tell(self, model, **news):
        """Take over what has changed of a model (an entry of the file); the file is written at most once a second."""
        with self._lock:
            model.update(news)
            if self.clock() - self._written >= _WRITE_EVERY:
                self._write()

    def end(self, name, sentence):
        """A model is done, for better or worse; `sentence` says how."""
        with self._lock:
            self._state["models"].pop(name, None)
            self._state["done"] += 1
            self.say(sentence)

    def say(self, sentence):
        """One more sentence for the watcher."""
        with self._lock:
            self._state["ended"].append(sentence)
            self._write()

    def close(self):
        """The module has done what it can; the watcher may fetch the result. If it is gone, nothing is left behind."""
        if not self.path or not os.path.isdir(os.path.dirname(self.path)):
            return
        if self.abandoned():
            self._clear()
            return
        with contextlib.suppress(OSError), open(self.path + ".ended", "w", encoding="utf-8"):
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
        with self._lock:
            last, since = self._touched
            if touched != last:
                self._touched = (touched, self.clock())
                return False
            return self.clock() - since > GONE_AFTER

    def _write(self):
        """Who shows how far a pull is must not end it: where the disk of the file is full, or its folder goes just now, nothing is shown."""
        self._written = self.clock()
        if not self.path:
            return
        fresh = self.path + ".new"
        with contextlib.suppress(OSError):
            with open(fresh, "w", encoding="utf-8") as out:
                json.dump(self._state, out)
            os.replace(fresh, self.path)


class Track:
    """One try to pull one model. model: its entry in the file of `progress` (Progress)."""

    def __init__(self, progress, model):
        self._progress, self._model = progress, model
        self._seen = collections.deque()

    def moved(self, layers, status):
        """Take over what _pull.Layers and the status text say; called for every line of the answer."""
        now = self._progress.clock()
        self._seen.append((now, layers.fetched))
        while now - self._seen[0][0] > _RATE_OVER:
            self._seen.popleft()
        began, had = self._seen[0]
        rate = int((layers.fetched - had) / (now - began)) if now > began else self._model["rate"]
        self._progress.tell(self._model, completed=layers.completed, total=max(self._model["total"], layers.total), status=status, rate=rate)


def line(host, state):
    """One line about what is on its way, or "" where nothing is. `state`: the object in the file (dict)."""
    models = state.get("models") or {}
    if not models:
        return ""
    if len(models) == 1:
        (name, model), = models.items()
        words = ["%s: %s" % (host, name)] + _amounts([model])
        if not model["status"].startswith("pulling ") or not model["completed"]:
            words.append(model["status"])
        if model["tries"] > 1:
            words.append("try %d" % model["tries"])
        if state["of"] > 1:
            words.append("model %d of %d" % (state["done"] + 1, state["of"]))
        return _plain(", ".join(words))
    words = ["%s: %d of %d models" % (host, len(models), state["of"])] + _amounts(list(models.values()))
    each = ["%s %s" % (name, _one_word(model)) for name, model in list(models.items())[:_NAMED]] + ["..."][:len(models) > _NAMED]
    done = "; %d done" % state["done"] if state["done"] else ""
    return _plain("%s: %s%s" % (", ".join(words), ", ".join(each), done))


def _amounts(models):
    """How far models are together (list of str): percent, bytes, rate, time left."""
    total, rate = sum(model["total"] for model in models), sum(model["rate"] for model in models)
    completed = sum(min(model["completed"], model["total"] or model["completed"]) for model in models)
    words = []
    if total:
        words.append("%d %%" % (100 * completed // total))
        words.append("%s of %s" % (size_text(completed), size_text(total)))
    elif completed:
        words.append(size_text(completed))
    if rate > 0:
        words.append("%s/s" % size_text(rate))
        if total > completed:
            words.append("%s left" % time_text((total - completed) / float(rate)))
    elif completed < total and all(model["status"].startswith(("pulling ", "starting")) for model in models):
        words.append("waiting for the registry")
    return words


def _one_word(model):
    """How far a model is, where there are several: its percent, else what it does."""
    if model["total"] and model["completed"] < model["total"]:
        return "%d %%" % (100 * model["completed"] // model["total"])
    return model["status"]


def new_lines(host, state, shown):
    """The lines (list of str) about models that ended since `shown` (int) of them had been reported."""
    return [_plain("%s: %s" % (host, sentence)) for sentence in state.get("ended", [])[shown:]]


def _plain(text):
    """One line without anything that moves a terminal's cursor, whatever a server or the name of a file brought in."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


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
