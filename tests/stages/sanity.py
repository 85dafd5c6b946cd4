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

# ansible-test makes an environment for each test, and fetches its pip from a site of its own; a script of this name comes first. The wheel
# is from PyPI, and what is in it need only lie there: ensurepip and pip would take 8 seconds each of ten times.
PIP = "24.2"
GET_PIP = '''"""The pip that ansible-test asks for."""
import sysconfig
import zipfile

zipfile.ZipFile(%r).extractall(sysconfig.get_path("purelib"))
'''
NOT_SHIPPED = ("tests/", "extensions/", ".ci/", ".github/")  # as in galaxy.yml's build_ignore: ruff and yamllint look at these
LEFT_OUT = {
    "pslint": "needs PowerShell; no PowerShell in the collection",
    "shellcheck": "needs a program of its own; no shell script in the collection",
}


def sanity() -> None:
    """ansible-test sanity, with the Python that runs it"""
    home = CACHE / "sanity-home"
    fetched = home / ".ansible" / "test" / "cache"
    fetched.mkdir(parents=True, exist_ok=True)
    wheel = fetched / f"pip-{PIP}-py3-none-any.whl"
    if not wheel.exists():
        call(BIN / "python", "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--dest", fetched, "pip==" + PIP)
    (fetched / f"get_pip_{PIP.replace('.', '_')}.py").write_text(GET_PIP % str(wheel))
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
