# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps FastGPT's login token between the tasks of a play. Internal to this collection.

FastGPT counts logins (the 11th within two minutes is refused, the 11th session throws out the oldest), so one login has to do
for a play and for the next ones. The token is as good as root's password: it lies in a folder that only this user can read,
on a file system that a reboot empties, and it never leaves the host.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile

FOLDER = "localmodels-fastgpt"
SECRET_DIR = 0o700


def runtime_folder(environ=None, uid=None):
    """The folder (str) for tokens: below /run for root, below $XDG_RUNTIME_DIR for others, else one in the temporary folder
    that carries the user's number."""
    environ = os.environ if environ is None else environ
    uid = os.geteuid() if uid is None else uid
    if uid == 0 and os.path.isdir("/run"):
        return os.path.join("/run", FOLDER)
    if uid != 0 and environ.get("XDG_RUNTIME_DIR"):
        return os.path.join(environ["XDG_RUNTIME_DIR"], FOLDER)
    return os.path.join(tempfile.gettempdir(), "%s-%d" % (FOLDER, uid))


class Session:
    """One login token on disk.

    url: FastGPT's base URL. project: folder of its compose project, or "". password: root's password, so that another
    password than the one that logged in finds no token and is tried for itself. folder: str, see runtime_folder.
    `unsafe` (str) says why the folder cannot be used; then nothing is read or written, and each task logs in for itself.
    """

    def __init__(self, url, project, password, folder=None):
        self.folder = folder or runtime_folder()
        key = "\0".join((url.rstrip("/"), project or "", password))
        self._path = os.path.join(self.folder, hashlib.sha256(key.encode("utf-8")).hexdigest()[:32])
        self.unsafe = ""

    def load(self):
        """The kept token (str), or None."""
        self.unsafe = _why_unsafe(self.folder)
        if self.unsafe:
            return None
        try:
            number = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return None
        with os.fdopen(number, encoding="utf-8") as kept:
            return (kept.read().strip() or None) if _is_private(os.fstat(kept.fileno()), stat.S_ISREG) else None

    def save(self, token):
        """Keep `token` (str) in place of what was kept."""
        self.unsafe = _why_unsafe(self.folder)
        if self.unsafe:
            return
        try:
            os.makedirs(self.folder, mode=SECRET_DIR, exist_ok=True)
            number, name = tempfile.mkstemp(dir=self.folder)  # mode 0600 by its contract
            with os.fdopen(number, "w", encoding="utf-8") as new:
                new.write(token)
            os.rename(name, self._path)
        except OSError as problem:
            self.unsafe = "%s cannot be written (%s)" % (self.folder, problem.strerror)

    def forget(self):
        """Drop the kept token: the server does not know it any more."""
        try:
            os.unlink(self._path)
        except OSError:
            pass


def _why_unsafe(folder):
    """Why tokens must not lie in `folder`, or "". One that is not there yet is fine: it is made private."""
    try:
        found = os.lstat(folder)
    except OSError:
        return ""
    return "" if _is_private(found, stat.S_ISDIR) else "%s is no folder that only this user can read" % folder


def _is_private(found, is_kind):
    return is_kind(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
