# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host remembers of the files that models are made from, so that a run in which nothing changes reads none. Internal to this collection.

Ollama does not tell what a model was made from: up to 0.34.0 it writes GGUF anew, and what it converts or quantizes has other digests
than what was sent. So two things are noted in a file of the user who runs the module: the digest of each file, with the stamp under which it
was read, and of each model that was made (by its digest, which stands for all that is in it) the recipe. Both are true for ever; where
the notes are lost files are read and models made again, which gives the same digests, so nothing is reported as changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

_MOST = 1000  # entries of a kind; the oldest go
_RECIPES = 4  # of one digest: other words can make the same model
# A file may change twice within one tick of its clock (git calls such an entry racy), so what changed just now is not noted.
_TICK = 2.0


def usual_folder():
    """XDG_CACHE_HOME, else the user's own folder whatever HOME says: `become` may leave that of somebody else. A user who is a number only, as in
    a container, has no other one than HOME."""
    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        home = os.environ.get("HOME") or "/"
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "localmodels.fastgpt")


class Notes:
    """The notes in a folder (str). Nothing is written before save(). Notes that another user may write are not believed."""

    def __init__(self, folder=None):
        self.path = os.path.join(folder or usual_folder(), "models_from_files.json")
        self._held = self._read()
        self._fresh = {"files": {}, "models": {}}

    def digest(self, file):
        """The digest of a _files.LocalFile, or "" where it is not known, or the file has changed since it was read."""
        known = self._get("files", os.path.realpath(file.path)) or {}
        return known.get("digest", "") if known.get("stamp") == file.stamp else ""

    def note_digest(self, file, digest, read_at):
        """read_at: when the reading began (seconds since 1970)."""
        if read_at - file.quiet_since > _TICK:
            self._put("files", os.path.realpath(file.path), {"stamp": file.stamp, "digest": digest})

    def recipes(self, digest):
        """What the model of this digest (hex) was made from: list of dict, the last one noted first."""
        return list(reversed(self._get("models", digest) or []))

    def note_recipe(self, digest, recipe):
        others = [one for one in self._get("models", digest) or [] if one != recipe]
        self._put("models", digest, (others + [recipe])[-_RECIPES:])

    def save(self):
        """Writes what is new. Raises LocalModelsError where that cannot be."""
        if not any(self._fresh.values()):
            return
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            with open(self.path + ".lock", "w", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._held = self._merged(self._read())
                fresh = os.open(self.path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with open(fresh, "w", encoding="utf-8") as out:
                    json.dump(self._held, out)
                os.replace(self.path + ".new", self.path)
        except OSError as problem:
            raise LocalModelsError("What was read of files could not be remembered in %s: %s" % (self.path, problem.strerror or problem),
                                   "Until it can be, each run reads them anew, and has Ollama make their models anew") from problem
        self._fresh = {"files": {}, "models": {}}

    def _get(self, kind, key):
        return self._fresh[kind].get(key) or self._held[kind].get(key)

    def _put(self, kind, key, value):
        if self._get(kind, key) != value:
            self._fresh[kind][key] = value

    def _merged(self, held):
        merged = {}
        for kind, news in self._fresh.items():
            entries = {key: value for key, value in held[kind].items() if key not in news}
            entries.update(news)
            merged[kind] = dict(list(entries.items())[-_MOST:])
        return merged

    def _read(self):
        """{"files": {path: {"stamp", "digest"}}, "models": {digest: [recipe]}}; empty where there is none that can be believed."""
        empty = {"files": {}, "models": {}}
        with contextlib.suppress(OSError, ValueError):
            with open(self.path, "rb") as held:
                found = os.fstat(held.fileno())
                if found.st_uid != os.geteuid() or found.st_mode & 0o022:
                    return empty
                parsed = json.loads(held.read().decode("utf-8"))
            if isinstance(parsed, dict) and all(isinstance(parsed.get(kind), dict) for kind in empty):
                return {kind: {key: value for key, value in parsed[kind].items() if isinstance(value, type_)}
                        for kind, type_ in (("files", dict), ("models", list))}
        return empty
