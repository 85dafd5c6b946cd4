# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a disk takes what shall be written on it, known before the first byte. Internal to this collection."""

from __future__ import annotations

import errno
import os
import shutil

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text

MOUNTS = "/proc/self/mountinfo"
_FAT = ("vfat", "msdos")
_LARGEST_ON_FAT = (1 << 32) - 1
_FORMAT = "Format it as exFAT or ext4 (FAT32 ends at 4 GB a file)"


def refuse_unfit(folder, files, room):
    """Raise LocalModelsError where `folder` (str, perhaps not there yet) cannot take the files.

    files: list of (path, bytes of it, bytes that have still to come) that will be written; 0 where the size is not known.
    room: what to do where they do not fit (str).
    """
    if not files:
        return
    place = nearest(folder)
    if not os.path.isdir(place):
        raise LocalModelsError("%s is no folder" % place, "Name another one; nothing was downloaded")
    if not os.access(place, os.W_OK | os.X_OK):
        raise unwritable("The bundle", folder, errno.EROFS if os.statvfs(place).f_flag & os.ST_RDONLY else errno.EACCES)
    path, size, dummy = max(files, key=lambda one: one[1])
    if size > _LARGEST_ON_FAT and file_system(place) in _FAT:
        raise LocalModelsError("%s is on a FAT file system, which takes no file of 4 GB or more, and %s has %s" % (folder, path, size_text(size)),
                               _FORMAT + "; nothing was downloaded")
    needed, free = sum(more for dummy, dummy, more in files), shutil.disk_usage(place).free
    if needed > free:
        raise LocalModelsError("The bundle needs %s more in %s, and %s are free: %s are missing"
                               % (size_text(needed), folder, size_text(free), size_text(needed - free)), room + "; nothing was downloaded")


def nearest(folder):
    """The folder itself (str), or that of its parents which is there."""
    place = os.path.abspath(folder)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    return place


def refuse_too_small(what, more, folder, mend):
    """Raise LocalModelsError where `more` bytes (int), which `what` (str, plural) need, do not fit the disk of `folder`."""
    free = shutil.disk_usage(nearest(folder)).free
    if more > free:
        raise LocalModelsError("%s need %s more on the disk of %s, and %s are free: %s are missing"
                               % (what, size_text(more), folder, size_text(free), size_text(more - free)), mend + "; nothing was changed")


def unwritable(what, folder, number, said=""):
    """The LocalModelsError for `what` (str) that could not be written into a folder. number: errno. said: the system's words, if there are."""
    mend = {errno.ENOSPC: "Make room there, or name another folder; run again: what came stays",
            errno.EFBIG: _FORMAT, errno.EROFS: "Mount it for writing (remount,rw), or look for the lock of the stick",
            errno.EACCES: "Run as the user whose folder it is, or give it to this one",
            errno.EIO: "The disk is broken or was drawn out: put it in again, check it, and run again; what is whole stays"}
    return LocalModelsError("%s cannot be written into %s (%s)" % (what, folder, said or os.strerror(number)),
                            mend.get(number, "Look at the folder and its disk"))


def file_system(place, mounts=MOUNTS):
    """The type of the file system (str, such as "vfat") that holds `place` (str), "" where the system does not tell."""
    device = os.stat(place).st_dev
    wanted = "%d:%d" % (os.major(device), os.minor(device))
    try:
        with open(mounts, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                fields, dummy, rest = line.partition(" - ")
                if fields.split()[2:3] == [wanted]:
                    return rest.split()[0]
    except OSError:
        pass
    return ""
