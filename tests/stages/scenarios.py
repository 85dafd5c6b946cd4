# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule: every scenario, each on fresh hosts of one lab; a scenario that did not run to its end is a failure."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import time

from .common import BIN, CACHE, CHECKOUT, StageFailed, call

FOLDER = CHECKOUT / "extensions" / "molecule"
LAB = CHECKOUT / "tests" / "lab" / "lab.py"
REPORTS = CACHE / "molecule" / "reports"


def known() -> list:
    """Names of all scenarios: the folders with a converge.yml."""
    return sorted(path.parent.name for path in FOLDER.glob("*/converge.yml"))


def molecule(wanted: list | None = None) -> None:
    """each role and the whole site on fresh hosts: check, converge, verify, again, check, verify"""
    names = wanted or known()
    unknown = sorted(set(names) - set(known()))
    if unknown or not names:
        raise StageFailed(f"no scenario {', '.join(unknown) or 'at all'}; there are: {', '.join(known())}")
    lab = os.environ.get("LAB_NAME", "molecule")
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    results = {}
    try:
        for name in names:
            results[name] = _run(name, lab)
    finally:
        if os.environ.get("LAB_KEEP") != "1":
            call(sys.executable, LAB, "down", LAB_NAME=lab)
    reported = {path.name for path in REPORTS.iterdir()}
    print("\nscenarios:")
    for name, (seconds, error) in results.items():
        outcome = error or ("ok" if name in reported else "FAILED: it did not run to its end")
        print(f"  {name:<24}{seconds:>6.0f} s  {outcome}")
    bad = [name for name in names if results[name][1] or name not in reported]
    if bad:
        raise StageFailed("scenarios that failed: " + ", ".join(bad))


def _run(name: str, lab: str) -> tuple:
    """Seconds it took, and what went wrong ("" when nothing did)."""
    print(f"\n--- scenario {name}")
    state = CACHE / "molecule" / name  # Molecule's memory of earlier runs: they count for nothing
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    begin = time.monotonic()
    error = ""
    try:
        call(
            BIN / "molecule", "test", "--scenario-name", name, "--destroy", "never", "--report",
            LAB_NAME=lab, LAB_INVENTORY=str(_inventory(lab)), LAB_REPORTS=str(REPORTS), MOLECULE_EPHEMERAL_DIRECTORY=str(state),
        )
    except StageFailed as failure:
        error = f"FAILED: {failure}"
    return time.monotonic() - begin, error


def _inventory(lab: str) -> pathlib.Path:
    return CACHE / "lab" / lab / "inventory.yml"
