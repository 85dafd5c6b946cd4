# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a folder as they were, kept until the new ones have proved good, and some time longer. Internal to this collection.

FOLDER/.localmodels/undo       copies made before an unfinished change: who finds it knows what really ran before
FOLDER/.localmodels/backups/N  copies of earlier, finished changes; the highest N is the newest

Whoever is killed at any moment leaves each of these whole or not there at all: folders come and go by one rename.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile

PLACE = ".localmodels"
MANIFEST = "manifest.json"
_BESIDE = ".localmodels-"  # what a file is written as, until it takes its place
# Copies of .env are no part of what a pipeline commits.
_GIT = (".gitignore", b"*\n")


class Backup:
    """Copies of files that lie in `folder` (str), byte for byte."""

    def __init__(self, folder):
        self.folder = folder
        self._place = os.path.join(folder, PLACE)
        self._undo = os.path.join(self._place, "undo")
        self._backups = os.path.join(self._place, "backups")

    def unfinished(self):
        """Whether an earlier change was cut off."""
        return os.path.exists(self._undo)

    def brought_up(self):
        """Whether containers may have been touched by the unfinished change, so that writing files alone does not finish it."""
        return _manifest(self._undo)["up"]

    def begin(self, changes, up=True, restored=None):
        """Keep copies of the files that will change, or remember that there is none.

        changes: list of (name, bytes or None for a file that goes). up: whether containers follow. restored: number of the backup that
        is brought back, if any. An unfinished change keeps its copies: they are what ran before. The folder appears in one step,
        so that a play killed in here has kept everything or changed nothing.
        """
        self._sweep()
        if self.unfinished():
            self._note(self._undo, changes, up, restored)
            return
        os.makedirs(self._place, mode=0o700, exist_ok=True)
        if not os.path.exists(os.path.join(self._place, _GIT[0])):
            _put(os.path.join(self._place, _GIT[0]), _GIT[1])
        beside = tempfile.mkdtemp(prefix="new-", dir=self._place)
        self._note(beside, changes, up, restored)
        os.rename(beside, self._undo)

    def write(self, changes, private=(), restored=None):
        """Write the files in the order of `changes`. private: names (collection) of those that only their owner may read.

        restored: number of the backup whose files these are, if any; owner and mode come back too.
        """
        likes = {} if restored is None else self._copies(restored)
        for name, coming in changes:
            _put(os.path.join(self.folder, name), coming, name in private, likes.get(name))

    def restore(self):
        """Put the files of the unfinished change back; one that somebody else has changed since stays as it is."""
        for name, entry in _manifest(self._undo)["files"].items():
            target = os.path.join(self.folder, name)
            if _digest(read(target)) in entry["coming"]:
                copy = os.path.join(self._undo, name)
                _put(target, read(copy) if entry["existed"] else None, like=copy)

    def forget(self):
        """The former files are back: their copies are not needed."""
        self._sweep()
        self._discard(self._undo)

    def finish(self, keep):
        """The new files are good: the copies become the newest backup, and only the `keep` (int) newest remain.

        What was brought back stays beside them, so that bringing it back once more finds it.
        """
        self._sweep()
        os.makedirs(self._backups, mode=0o700, exist_ok=True)
        restored = _manifest(self._undo)["restored"]
        numbers = self.numbers()
        newest = numbers[-1] + 1 if numbers else 1
        os.rename(self._undo, self._backup(newest))
        numbers.append(newest)
        for number in numbers[:max(0, len(numbers) - keep)]:
            if restored is None or number < restored:
                self._discard(self._backup(number))

    def numbers(self):
        """The backups that there are: list of int, the newest last."""
        names = os.listdir(self._backups) if os.path.isdir(self._backups) else []
        return sorted(int(name) for name in names if name.isdigit())

    def newest(self):
        """Number of the newest backup of a change (int), None where there is none.

        One that was made when a backup was brought back does not count: bringing back twice must not lead forth again.
        """
        return next((number for number in reversed(self.numbers()) if _manifest(self._backup(number))["restored"] is None), None)

    def before(self, number):
        """The files as they were before change `number`: {name: bytes, or None for a file that was not there}."""
        return {name: read(path) if path else None for name, path in self._copies(number).items()}

    def foreign(self, names):
        """Which of these files (list of str) hold something that the newest change about them did not write: somebody's own edits."""
        found = []
        for name in names:
            entries = (_manifest(self._backup(number))["files"].get(name) for number in reversed(self.numbers()))
            entry = next((one for one in entries if one), None)
            if entry and _digest(read(os.path.join(self.folder, name))) not in entry["coming"]:
                found.append(name)
        return found

    def _copies(self, number):
        """{name: path of the copy that was made last before change `number`, or None}: each change kept what it changed, and no more."""
        found = {}
        for later in reversed([one for one in self.numbers() if one >= number]):
            for name, entry in _manifest(self._backup(later))["files"].items():
                found[name] = os.path.join(self._backup(later), name) if entry["existed"] else None
        return found

    def _backup(self, number):
        return os.path.join(self._backups, str(number))

    def _discard(self, folder):
        """Let a folder be gone in one step: half of it could be taken for the whole."""
        gone = tempfile.mkdtemp(prefix="new-", dir=self._place)
        os.rename(folder, gone)
        shutil.rmtree(gone)

    def _sweep(self):
        """Remove what a play that was killed did not get to its place, or not away."""
        for cut_off in glob.glob(os.path.join(glob.escape(self._place), "new-*")):
            shutil.rmtree(cut_off)
        for place in (self.folder, self._place, self._undo):
            for cut_off in glob.glob(os.path.join(glob.escape(place), _BESIDE + "*")):
                os.unlink(cut_off)

    def _note(self, place, changes, up, restored):
        """Copy into `place` what is not kept there yet, and say what is to come in its stead."""
        manifest = _manifest(place)
        manifest["up"] = manifest["up"] or up
        manifest["restored"] = restored
        for name, coming in changes:
            source = os.path.join(self.folder, name)
            entry = manifest["files"].get(name)
            if entry is None or self._edited_since(place, name, entry):
                entry = manifest["files"][name] = {"existed": os.path.exists(source), "coming": []}
                if entry["existed"]:
                    _put(os.path.join(place, name), read(source), like=source)
            entry["coming"].append(_digest(coming))
        _put(os.path.join(place, MANIFEST), json.dumps(manifest).encode("utf-8"))

    def _edited_since(self, place, name, entry):
        """Whether somebody else changed a file after the play that was cut off: what he made of it is what must come back."""
        now = _digest(read(os.path.join(self.folder, name)))
        kept = _digest(read(os.path.join(place, name))) if entry["existed"] else None
        return now != kept and now not in entry["coming"]


def _manifest(place):
    """{"files": {name: {"existed": bool, "coming": digests of what was written in its stead}}, "up": bool, "restored": int or None}."""
    found = read(os.path.join(place, MANIFEST))
    return json.loads(found.decode("utf-8")) if found else {"files": {}, "up": False, "restored": None}


def read(path):
    """The bytes of a file, or None where there is none."""
    try:
        with open(path, "rb") as source:
            return source.read()
    except FileNotFoundError:
        return None


def _digest(data):
    return None if data is None else hashlib.sha256(data).hexdigest()


def _put(path, data, private=False, like=None):
    """Give a file these bytes, or let it be gone (None), so that a reader, or a power cut, sees the old or the new one.

    like: path of the file whose owner and mode it takes. Otherwise those of an existing file stay, and a new one can be read by
    all, as compose files are. A private one belongs to whom its folder belongs to, and nobody else reads it. A link stays a link.
    """
    if data is None:
        if os.path.exists(path):
            os.unlink(path)
        return
    path = os.path.realpath(path)
    handle, beside = tempfile.mkstemp(prefix=_BESIDE, dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        model = like or path
        if private:  # its mode is that of a temporary file, and never another one
            _own(beside, path if os.path.exists(path) else os.path.dirname(path))
        elif os.path.exists(model):
            shutil.copystat(model, beside)
            _own(beside, model)
            if not like:
                os.utime(beside)  # who copies what is newer has to see that it is
        else:
            os.chmod(beside, 0o644)
        os.rename(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def _own(path, model):
    found = os.stat(model)
    os.chown(path, found.st_uid, found.st_gid)
