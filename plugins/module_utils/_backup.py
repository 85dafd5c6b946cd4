# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a folder as they were, kept until the new ones have proved good, and some time longer. Internal to this collection.

FOLDER/.localmodels/undo       copies made before an unfinished change: who finds it knows what really ran before
FOLDER/.localmodels/backups/N  copies of earlier, finished changes; the highest N is the newest
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

    def begin(self, changes):
        """Keep copies of the files that will change, or remember that there is none.

        changes: list of (name, bytes or None for a file that goes). An unfinished change keeps its copies: they are what
        ran before. The folder appears in one step, so that a play killed in here has kept everything or changed nothing.
        """
        if self.unfinished():
            self._note(self._undo, changes)
            return
        os.makedirs(self._place, mode=0o700, exist_ok=True)
        for cut_off in glob.glob(os.path.join(self._place, "new-*")):
            shutil.rmtree(cut_off)
        beside = tempfile.mkdtemp(prefix="new-", dir=self._place)
        self._note(beside, changes)
        os.rename(beside, self._undo)

    def write(self, changes, private=()):
        """Write the files in the order of `changes`. private: names (collection) of those that only their owner may read."""
        for name, coming in changes:
            _put(os.path.join(self.folder, name), coming, name in private)

    def restore(self):
        """Put the files of the unfinished change back; one that somebody else has changed since stays as it is."""
        for name, entry in _manifest(self._undo).items():
            target = os.path.join(self.folder, name)
            if _digest(read(target)) in entry["coming"]:
                _put(target, read(os.path.join(self._undo, name)) if entry["existed"] else None)

    def forget(self):
        """The former files are back: their copies are not needed."""
        shutil.rmtree(self._undo)

    def finish(self, keep):
        """The new files are good: the copies become the newest backup, and only the `keep` (int) newest remain."""
        os.makedirs(self._backups, mode=0o700, exist_ok=True)
        numbers = sorted(int(name) for name in os.listdir(self._backups) if name.isdigit())
        newest = numbers[-1] + 1 if numbers else 1
        os.rename(self._undo, os.path.join(self._backups, str(newest)))
        numbers.append(newest)
        for number in numbers[:max(0, len(numbers) - keep)]:
            shutil.rmtree(os.path.join(self._backups, str(number)))

    def _note(self, place, changes):
        """Copy into `place` what is not kept there yet, and say what is to come in its stead."""
        manifest = _manifest(place)
        for name, coming in changes:
            source = os.path.join(self.folder, name)
            if name not in manifest:
                manifest[name] = {"existed": os.path.exists(source), "coming": []}
                if manifest[name]["existed"]:
                    shutil.copy2(source, os.path.join(place, name))
            manifest[name]["coming"].append(_digest(coming))
        _put(os.path.join(place, MANIFEST), json.dumps(manifest).encode("utf-8"))


def _manifest(place):
    return json.loads((read(os.path.join(place, MANIFEST)) or b"{}").decode("utf-8"))


def read(path):
    """The bytes of a file, or None where there is none."""
    try:
        with open(path, "rb") as source:
            return source.read()
    except FileNotFoundError:
        return None


def _digest(data):
    return None if data is None else hashlib.sha256(data).hexdigest()


def _put(path, data, private=False):
    """Give a file these bytes, or let it be gone (None), so that a reader, or a power cut, sees the old or the new one.

    Owner and mode of an existing file stay; a new one can be read by all, as compose files are. A private one belongs to whom
    its folder belongs to, and nobody else reads it. A link stays a link.
    """
    if data is None:
        if os.path.exists(path):
            os.unlink(path)
        return
    path = os.path.realpath(path)
    handle, beside = tempfile.mkstemp(prefix=".localmodels-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        if os.path.exists(path):
            shutil.copystat(path, beside)
            found = os.stat(path)
            os.chown(beside, found.st_uid, found.st_gid)
        else:
            os.chmod(beside, 0o644)
        if private:
            found = os.stat(path if os.path.exists(path) else os.path.dirname(path))
            os.chmod(beside, 0o600)
            os.chown(beside, found.st_uid, found.st_gid)
        os.rename(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
