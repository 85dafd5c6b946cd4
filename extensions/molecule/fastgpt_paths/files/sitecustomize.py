# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python reads this at its start. The module that changes files in DEADLY_FOLDER is killed before its change number DEADLY_STEP."""

import os
import signal

left = [int(os.environ.get("DEADLY_STEP", "0"))]


def deadly(function):
    def call(path, *arguments, **options):
        if os.environ["DEADLY_FOLDER"] in " ".join(map(str, (path,) + arguments)):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return function(path, *arguments, **options)
    return call


if left[0]:
    for name in ("rename", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))
