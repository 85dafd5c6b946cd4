# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are, and how a stage runs a program."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = CHECKOUT / ".cache"
BIN = CACHE / os.environ.get("TEST_VENV", "venv") / "bin"  # TEST_VENV: see tests/prepare
COLLECTIONS = CACHE / "collections"  # the checkout itself under the collection's name


class StageFailed(Exception):
    """A stage did not end well; its output says why, the text says which part."""


def environment(**more: str) -> dict:
    """The environment of every stage: our own programs first, the checkout as the collection."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,
        "PYTHONPYCACHEPREFIX": str(CACHE / "bytecode"),  # compiled once, and nothing of it between the sources
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_HOME": str(CACHE / "ansible"),
        "PY_COLORS": "0",
        **more,
    }


def call(*command, cwd=CHECKOUT, **more: str) -> None:
    """Run a program with its output shown. StageFailed when it does not end with 0."""
    command = [str(part) for part in command]
    sys.stdout.flush()
    done = subprocess.run(command, cwd=cwd, env=environment(**more), stdin=subprocess.DEVNULL)
    if done.returncode:
        raise StageFailed(f"{pathlib.Path(command[0]).name} ended with {done.returncode}")


def link_checkout() -> None:
    """The checkout is found as the collection localmodels.fastgpt."""
    link = COLLECTIONS / "ansible_collections" / "localmodels" / "fastgpt"
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and link.resolve() == CHECKOUT:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(CHECKOUT)


def find_collection() -> None:
    """This process imports the checkout by the collection's name."""
    from ansible.utils.collection_loader import _collection_finder
    link_checkout()
    _collection_finder._AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()
