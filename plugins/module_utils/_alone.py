# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One play at a time changes a folder of this host: a host that has two names in the inventory gets two plays at once. Internal to this collection."""

from __future__ import annotations

import contextlib
import fcntl
import os


@contextlib.contextmanager
def alone(folder):
    """Wait until no other play is in here with this folder (str). Who is killed lets go, and programs that are called hold nothing. Raises OSError."""
    place = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # NFS locks no folders
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)
