# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One play at a time changes a folder of this host: a host that has two names in the inventory gets two plays at once. Internal to this collection."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils._bundle_disk import nearest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

PATIENCE = 2 * 3600  # seconds; a release over a slow line takes one hour
_LONGEST_PAUSE = 2


@contextlib.contextmanager
def alone(folder, unless=False, clock=time):
    """Wait until no other play is in here with this folder (str). Who is killed lets go, and programs that are called hold nothing.

    unless: whoever only looks, as in check mode, waits for nobody (bool). clock: module `time` or what stands for it.
    Raises LocalModelsError after PATIENCE, OSError for a folder that cannot be opened.
    """
    if unless:
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        end, pause = clock.monotonic() + PATIENCE, 0.05
        while not _taken(place):
            # Whoever may read the folder may hold it, so the wait has an end.
            if clock.monotonic() >= end:
                raise LocalModelsError("Something else has been at work in %s for %d minutes" % (folder, PATIENCE // 60),
                                       "Wait until the other play has ended. If there is none, fuser %s tells which process holds that folder" % folder)
            clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        yield
    finally:
        os.close(place)


def in_reach(path):
    """The folder (str) to be alone with before `path` is made: the first above it that is there."""
    return nearest(os.path.dirname(os.path.abspath(path)))


def _taken(place):
    """Whether the folder (a file descriptor) is ours now. A file system that locks no folders, as NFS, gives it to everybody."""
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        return problem.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
