# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends large files from the controller to a host in pieces, through Ansible's own connection. Internal to this collection.

A piece is what is lost when the line breaks, how much of the login user's disk is needed, and after how long a line is shown. It is as
large as the line carries in about SECONDS.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
import time

from ansible import constants
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _progress
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text, time_text

SECONDS = 8
FIRST, SMALLEST, LARGEST = 8 << 20, 1 << 20, 256 << 20
TRIES = 5


class Sender:
    """action: the ActionBase for whose host this is. host: its name. total: bytes that will be sent. show: callable(line)."""

    def __init__(self, action, host, total, show, clock=time.monotonic, sleep=time.sleep):
        self.action, self.host, self.total, self.show = action, host, total, show
        self.clock, self.sleep = clock, sleep
        self.sent, self.began, self.piece = 0, clock(), FIRST
        self.play = os.getppid()
        self._folder = None

    def send(self, source, place, size, there):
        """Bring the file `source` to `place` on the host, where `there` of its `size` bytes are already. Raises LocalModelsError."""
        failures = 0
        with open(source, "rb") as content:
            while there < size:
                if os.getppid() != self.play:  # what works for a host would go on, and get in the way of the next play
                    raise LocalModelsError("The play is gone, so nothing more of the bundle is sent", "The next run goes on from here")
                content.seek(there)
                data = content.read(min(self.piece, size - there))
                if not data:
                    raise LocalModelsError("%s became shorter while it was being sent" % source, "Look whether its disk is still there")
                began = self.clock()
                try:
                    there = self._append(place, data, there)
                    failures = 0
                except AnsibleConnectionFailure:
                    failures += 1
                    if failures >= TRIES:
                        raise
                    self._folder = None
                    self.sleep(2 ** failures)
                    there = self._there(place)
                    continue
                self._account(len(data), self.clock() - began)

    def end(self, files):
        """Take away what is left on the host, and say how it went. files: how many were sent (int)."""
        self.forget()
        seconds = self.clock() - self.began
        rate = ", %s/s" % size_text(self.sent / seconds) if seconds >= 1 else ""
        count = "1 file" if files == 1 else "%d files" % files
        self.show("%s: Sent %s of the bundle, %s in %s%s" % (self.host, count, size_text(self.sent), time_text(seconds), rate))

    def forget(self):
        """Take away what is left on the host."""
        if self._folder:
            with self._own_folder():
                self.action._remove_tmp_path(self._folder)
            self._folder = None

    def _append(self, place, data, there):
        """Append a piece to the file at `place`, which has `there` bytes. Returns how many it has now."""
        remote = self._put(data)
        folder = os.path.dirname(place)
        # The size is compared first: nothing is appended twice, and not by two plays at once.
        said = self.action._low_level_execute_command(
            "umask 022; mkdir -p {top}; umask 077; mkdir -p {folder} && touch {place} && "
            "if [ $(wc -c < {place}) -eq {there} ]; then cat {piece} >> {place} || exit 3; else exit 4; fi; wc -c < {place}".format(
                top=shlex.quote(os.path.dirname(folder)), folder=shlex.quote(folder), place=shlex.quote(place), there=there,
                piece=shlex.quote(remote)), sudoable=True)
        now = said.get("stdout", "").strip().rpartition("\n")[2].strip()
        if said.get("rc") == 0 and now == str(there + len(data)):
            return there + len(data)
        if said.get("rc") == 4:
            raise LocalModelsError("%s on the host changed while it was being sent: probably another play sends it too" % place, "Run one at a time")
        text = " ".join((said.get("stderr") or said.get("stdout") or "").split())[-300:]
        if "No space left" in text:
            self.action._low_level_execute_command("rm -f %s" % shlex.quote(place), sudoable=True)
            raise LocalModelsError("The disk of the host became full while %s was being sent" % place, "Free space there and run again")
        raise LocalModelsError("%s cannot be written on the host: %s" % (place, text), "Use become: true")

    @contextlib.contextmanager
    def _own_folder(self):
        """The action itself may have a folder, which it takes away at its end if the connection still knows it."""
        shell = self.action._connection._shell
        others = shell.tmpdir
        try:
            yield
        finally:
            shell.tmpdir = others

    def _put(self, data):
        """A piece as a file on the host: its path."""
        if self._folder is None:
            with self._own_folder():
                self._folder = self.action._make_tmp_path()
        remote = self.action._connection._shell.join_path(self._folder, "piece")
        with tempfile.NamedTemporaryFile(dir=constants.DEFAULT_LOCAL_TMP) as local:
            local.write(data)
            local.flush()
            self.action._transfer_file(local.name, remote)
        self.action._fixup_perms2([self._folder, remote], execute=False)
        return remote

    def _there(self, place):
        said = self.action._low_level_execute_command("wc -c < %s" % shlex.quote(place), sudoable=True).get("stdout", "").split()
        return int(said[-1]) if said and said[-1].isdigit() else 0

    def _account(self, count, seconds):
        self.sent += count
        self.piece = int(min(LARGEST, max(SMALLEST, SECONDS * count / max(seconds, 0.001))))
        passed = self.clock() - self.began
        if self.sent < self.total and passed >= 1:
            model = {"completed": self.sent, "total": self.total, "rate": self.sent / passed, "status": "pulling ", "tries": 1}
            self.show(_progress.line(self.host, {"models": {"bundle": model}, "done": 0, "of": 1}))
