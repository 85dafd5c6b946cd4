# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule: every scenario, each on fresh hosts of one lab; a scenario that did not run to its end is a failure."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import time

import yaml

from .common import BIN, CACHE, CHECKOUT, StageFailed, call

FOLDER = CHECKOUT / "extensions" / "molecule"
LAB = CHECKOUT / "tests" / "lab" / "lab.py"
STEPS = ("side_effect ../shared/fresh.yml", "check_fresh.yml", "converge", "verify", "idempotence",
         "side_effect ../shared/check_converged.yml", "side_effect ../shared/report.yml")
REPORTS = CACHE / "molecule" / "reports"


def known() -> list:
    """Names of all scenarios: the folders with a converge.yml."""
    return sorted(path.parent.name for path in FOLDER.glob("*/converge.yml"))


def incomplete(sequence: list) -> str:
    """The first step that every scenario must have and this sequence has not at its place ("" when all are there)."""
    rest = iter(sequence)
    for step in STEPS:
        if not any(found == step or found.endswith("/" + step) or found == "side_effect " + step for found in rest):
            return step
    return "" if sequence[-1] == STEPS[-1] else STEPS[-1]


def _sequences_are_complete(names: list) -> None:
    shared = yaml.safe_load((FOLDER / "config.yml").read_text())["scenario"]["test_sequence"]
    for name in names:
        own = yaml.safe_load((FOLDER / name / "molecule.yml").read_text())
        step = incomplete(own.get("scenario", {}).get("test_sequence", shared))
        if step:
            raise StageFailed(f"scenario {name}: its test_sequence lacks '{step}', or has it too late")


def molecule(wanted: list | None = None) -> None:
    """each role and the whole site on fresh hosts: check, converge, verify, again, check, verify"""
    names = wanted or known()
    unknown = sorted(set(names) - set(known()))
    if unknown or not names:
        raise StageFailed(f"no scenario {', '.join(unknown) or 'at all'}; there are: {', '.join(known())}")
    _sequences_are_complete(names)
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
