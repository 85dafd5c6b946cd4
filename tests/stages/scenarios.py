# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule: every scenario, each on fresh hosts of one lab; a scenario that did not run to its end is a failure."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import time

import yaml

from . import failures
from .common import BIN, CACHE, CHECKOUT, StageFailed, call, environment

FOLDER = CHECKOUT / "extensions" / "molecule"
LAB = CHECKOUT / "tests" / "lab" / "lab.py"
STEPS = ("side_effect ../shared/fresh.yml", "check_fresh.yml", "converge", "verify", "idempotence",
         "side_effect ../shared/check_converged.yml", "side_effect ../shared/report.yml")
LANES = 3  # scenarios wait more than they work: with two of them up to a third of two cores is idle
LONGEST = ("fastgpt_paths", "ollama_models", "airgapped", "fastgpt_compose", "one_api", "other_paths")  # 15 to 5 minutes
LOG_SHOWN = 20_000  # characters of the end of the log of a scenario that failed


def known() -> list:
    """Names of all scenarios: the folders with a converge.yml. Those that take longest come first, so that no lane is left alone with one."""
    names = sorted(path.parent.name for path in FOLDER.glob("*/converge.yml"))
    return [name for name in LONGEST if name in names] + [name for name in names if name not in LONGEST]


def incomplete(sequence: list) -> str:
    """The first step that every scenario must have and this sequence has not at its place ("" when all are there)."""
    rest = iter(sequence)
    for step in STEPS:
        if not any(found == step or found.endswith("/" + step) or found == "side_effect " + step for found in rest):
            return step
    return "" if sequence[-1] == STEPS[-1] else STEPS[-1]


def idle(folder: pathlib.Path, sequence: list) -> list:
    """Names of files of a scenario that no step of the sequence runs, and steps that run another file than it seems."""
    # Without a file this step is the one that config.yml gives to all scenarios, and not side_effect.yml of this one.
    wrong = [step for step in sequence if step == "side_effect"]
    todo = {path.name for path in folder.glob("*.yml")} - {"molecule.yml", "inventory.yml"}
    reached = {name for name in todo if any(name in (step.partition(" ")[2], step + ".yml") for step in sequence)}
    for name in list(reached):
        text = (folder / name).read_text()
        reached |= {other for other in todo if other in text}
    return wrong + sorted(todo - reached)


def _sequences_are_complete(names: list) -> None:
    shared = yaml.safe_load((FOLDER / "config.yml").read_text())["scenario"]["test_sequence"]
    for name in names:
        own = yaml.safe_load((FOLDER / name / "molecule.yml").read_text())
        sequence = own.get("scenario", {}).get("test_sequence", shared)
        step = incomplete(sequence)
        if step:
            raise StageFailed(f"scenario {name}: its test_sequence lacks '{step}', or has it too late")
        unused = idle(FOLDER / name, sequence)
        if unused:
            raise StageFailed(f"scenario {name}: nothing runs {', '.join(unused)}; a side effect is named with its file")


def images() -> None:
    """the images of the lab's hosts and servers"""
    call(sys.executable, LAB, "images")


def molecule(wanted: list | None = None) -> None:
    """each role and the whole site on fresh hosts: check, converge, verify, again, check, verify"""
    names = wanted or known()
    unknown = sorted(set(names) - set(known()))
    if unknown or not names:
        raise StageFailed(f"no scenario {', '.join(unknown) or 'at all'}; there are: {', '.join(known())}")
    _sequences_are_complete(names)
    lab = os.environ.get("LAB_NAME", "molecule")
    with tempfile.TemporaryDirectory() as reports:
        results = {name: outcome for name, *outcome in _in_lanes(names, lab, pathlib.Path(reports))}
    print("\nscenarios:")
    for name in names:
        seconds, error = results[name]
        print(f"  {name:<24}{seconds:>6.0f} s  {error or 'ok'}")
    bad = [name for name in names if results[name][1]]
    if bad:
        # The table at the very end repeats this: it is what is left where everything above is cut off.
        raise StageFailed("scenarios that failed: " + "; ".join(f"{name} ({results[name][1]})" for name in bad))


def _in_lanes(names: list, lab: str, reports: pathlib.Path):
    """Each scenario's name, seconds and error. Several at a time, each lane with a lab of its own."""
    lanes = queue.SimpleQueue()
    labs = [lab] if len(names) == 1 else [f"{lab}-{number + 1}" for number in range(min(LANES, len(names)))]
    for one in labs:
        lanes.put(one)

    def in_a_lane(name: str) -> tuple:
        mine = lanes.get()
        try:
            return (name, *_run(name, mine, reports))
        finally:
            lanes.put(mine)

    try:
        with concurrent.futures.ThreadPoolExecutor(len(labs)) as pool:
            yield from pool.map(in_a_lane, names)
    finally:
        if os.environ.get("LAB_KEEP") != "1":
            for one in labs:
                call(sys.executable, LAB, "down", LAB_NAME=one)


def _run(name: str, lab: str, reports: pathlib.Path) -> tuple:
    """Seconds it took, and what went wrong ("" when nothing did). What it printed is in .cache/molecule/NAME.log."""
    print(f"scenario {name}: begins", flush=True)
    state = CACHE / "molecule" / name  # Molecule's memory of earlier runs: they count for nothing
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    begin = time.monotonic()
    log = state.with_suffix(".log")
    with open(log, "w") as output:
        done = subprocess.run(
            [BIN / "molecule", "test", "--scenario-name", name, "--destroy", "never", "--report"],
            cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=environment(LAB_NAME=lab, LAB_INVENTORY=str(CACHE / "lab" / lab / "inventory.yml"), LAB_REPORTS=str(reports),
                            MOLECULE_EPHEMERAL_DIRECTORY=str(state)),
        )
    seconds = time.monotonic() - begin
    error, text = "", log.read_text(errors="replace")
    if done.returncode:
        error = f"FAILED: molecule ended with {done.returncode}: {failures.sentence(text) or 'its log names no failed task'}"
    elif not (reports / name).exists():
        error = "FAILED: it did not run to its end"
    print(f"scenario {name}: {error or 'ok'} after {seconds:.0f} s, log in {log.relative_to(CHECKOUT)}", flush=True)
    if error:
        print(f"--- {name}: what failed\n{failures.block(text)}\n--- {name}: the end of its log\n{text[-LOG_SHOWN:]}\n--- {name}: end", flush=True)
    return seconds, error
