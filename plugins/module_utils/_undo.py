# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as they were before the first change, kept on disk until the new state has answered. Internal to this collection.

A play that is killed half-way leaves the record; the next one finds it and knows what really ran before.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile

ABSENT = {"kind": "absent"}


class Undo:
    """The record at `path` (str) of the files `watched` (list of str): texts and symbolic links.

    keep: folder to which a program that lies in the place of a link is moved; it is never deleted.
    """

    def __init__(self, path, watched, keep):
        self.path = path
        self.watched = watched
        self.keep = keep

    def begin(self, notes):
        """Record how things are, unless an unfinished record says how they were. notes: {str: str}, given back by end."""
        if not os.path.exists(self.path):
            entries = {path: self._entry(path) for path in self.watched}
            write(self.path, json.dumps({"entries": entries, "notes": notes}, indent=1) + "\n", 0o600)

    def unfinished(self):
        """The notes of a record that an earlier play left, or None."""
        try:
            with open(self.path, encoding="utf-8") as record:
                return json.load(record)["notes"]
        except (OSError, ValueError, KeyError):
            return None

    def set_aside(self, path):
        """Move a program that lies where a link shall be into the folder `keep`, under its own name."""
        if os.path.lexists(path) and not os.path.islink(path):
            os.makedirs(self.keep, mode=0o755, exist_ok=True)
            move(path, os.path.join(self.keep, os.path.basename(path)))

    def restore(self):
        """Put every watched file back as recorded. The record stays until forget()."""
        with open(self.path, encoding="utf-8") as record:
            entries = json.load(record)["entries"]
        for path, entry in entries.items():
            # What was not changed is not written either: the disk may be full.
            if self._entry(path) == entry:
                continue
            if entry["kind"] == "text":
                write(path, entry["text"], entry["mode"])
            elif entry["kind"] == "link":
                link(entry["target"], path)
            elif entry["kind"] == "program" and os.path.exists(entry["kept"]):
                move(entry["kept"], path)
            elif entry["kind"] == "absent" and os.path.lexists(path):
                os.unlink(path)

    def forget(self):
        """The new state has answered, or the old one is back."""
        if os.path.exists(self.path):
            os.unlink(self.path)

    def _entry(self, path):
        if os.path.islink(path):
            return {"kind": "link", "target": os.readlink(path)}
        if not os.path.exists(path):
            return ABSENT
        text = read(path)
        if text is None:
            return {"kind": "program", "kept": os.path.join(self.keep, os.path.basename(path))}
        return {"kind": "text", "text": text, "mode": os.stat(path).st_mode & 0o777}


def read(path):
    """The text of a file, "" where there is none, None where it holds no text."""
    try:
        with open(path, encoding="utf-8") as text:
            return text.read()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        return None


def write(path, text, mode):
    """Write a text file so that a reader, or a power cut, sees the old or the new one, never half of it."""
    handle, beside = tempfile.mkstemp(prefix=".ansible-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as target:
            target.write(text)
            target.flush()
            os.fsync(target.fileno())
        os.chmod(beside, mode)
        os.rename(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def link(target, path):
    """Make `path` a symbolic link to `target`; one that is there is replaced in one step."""
    beside = "%s.ansible-%d" % (path, os.getpid())
    os.symlink(target, beside)
    os.rename(beside, path)


def move(source, target):
    """Move a file, across file systems too: the last step is a rename in any case."""
    try:
        os.rename(source, target)
    except OSError:
        beside = "%s.ansible-%d" % (target, os.getpid())
        shutil.copy2(source, beside)
        os.rename(beside, target)
        os.unlink(source)
