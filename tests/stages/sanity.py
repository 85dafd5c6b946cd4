# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-test sanity on a machine without containers, on what the collection ships."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile

from .common import BIN, CACHE, CHECKOUT, call

# ansible-test installs its tests' requirements from PyPI, but fetches pip itself from a site of its own. It looks here first.
GET_PIP = '''"""The pip that ansible-test asks for, by way of the one that comes with Python and from PyPI."""
import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip"])
subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "pip==24.2"])
'''
NOT_SHIPPED = ("tests/", "extensions/", ".ci/", ".github/")  # as in galaxy.yml's build_ignore: ruff and yamllint look at these
LEFT_OUT = {
    "pslint": "needs PowerShell; no PowerShell in the collection",
    "shellcheck": "needs a program of its own; no shell script in the collection",
}


def sanity() -> None:
    """ansible-test sanity, with the Python that runs it"""
    home = CACHE / "sanity-home"
    bootstrap = home / ".ansible" / "test" / "cache" / "get_pip_24_2.py"
    bootstrap.parent.mkdir(parents=True, exist_ok=True)
    bootstrap.write_text(GET_PIP)
    for test, reason in LEFT_OUT.items():
        print(f"left out: {test}: {reason}")
    skips = [part for test in LEFT_OUT for part in ("--skip-test", test)]
    with tempfile.TemporaryDirectory() as root:  # outside of the checkout: its .gitignore would hide the copy
        place = pathlib.Path(root, "ansible_collections", "localmodels", "fastgpt")
        _copy(place)
        version = ".".join(map(str, sys.version_info[:2]))
        call(BIN / "ansible-test", "sanity", "--color", "no", "--python", version, *skips, cwd=place, HOME=str(home))


def _copy(place: pathlib.Path) -> None:
    listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(listing, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if not name.startswith(NOT_SHIPPED) and (CHECKOUT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, place / name)
