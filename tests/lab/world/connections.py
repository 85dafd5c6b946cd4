# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH connections to managed hosts that Ansible keeps open."""

from __future__ import annotations

import os
import pathlib
import tempfile

from .shell import succeeds


def folder(lab: str) -> pathlib.Path:
    """Where a lab's connections have their sockets: short, because the path of a socket may have 108 bytes only."""
    return pathlib.Path(tempfile.gettempdir()) / f"lab-{os.getuid()}-{lab}"


def forget(sockets: pathlib.Path, address: str = "") -> None:
    """End the connections to this address, or all: those to a container that is gone lead nowhere."""
    for socket in sockets.glob(f"{address}-*" if address else "*"):
        succeeds("ssh", "-O", "exit", "-o", f"ControlPath={socket}", "any", timeout=10)
        socket.unlink(missing_ok=True)
    if not address and sockets.is_dir():
        sockets.rmdir()
