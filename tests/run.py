#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs stages of the tests and ends with a table. Called by the Makefile.

    run.py STAGE..             all stages named, one after the other, even after one has failed
    run.py STAGE.. + STAGE..   what stands on either side of a + runs at the same time
    run.py molecule SCENARIO.. only these scenarios
"""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import time

from stages import common, corpus, package, quick, sanity, scenarios

STAGES = {
    "lint": quick.lint,
    "unit": quick.unit,
    "thorough": quick.thorough,
    "contract": quick.contract,
    "faults": quick.faults,
    "sanity": sanity.sanity,
    "package": package.package,
    "corpus": corpus.corpus,
    "mutants": corpus.mutants,
    "images": scenarios.images,
    "molecule": scenarios.molecule,
    "install": package.install,
}


def main(arguments: list) -> int:
    common.link_checkout()
    if arguments[:1] == ["molecule"]:
        rows = [("molecule", *run("molecule", lambda: scenarios.molecule(arguments[1:])))]
    else:
        tracks = split(arguments)
        unknown = [name for names in tracks for name in names if name not in STAGES]
        if unknown or not all(tracks):
            print(f"run.py: no stage {unknown}; there are {', '.join(STAGES)}", file=sys.stderr)
            return 2
        rows = one_after_the_other(tracks[0]) if len(tracks) == 1 else side_by_side(tracks)
    if len(rows) > 1:
        table(rows)
    return 1 if any(error for _, _, error in rows) else 0


def split(arguments: list) -> list:
    """The lists of names between the "+"."""
    tracks = [[]]
    for name in arguments:
        if name == "+":
            tracks.append([])
        else:
            tracks[-1].append(name)
    return tracks


def one_after_the_other(names: list) -> list:
    return [(name, *run(name, STAGES[name])) for name in names]


def side_by_side(tracks: list) -> list:
    """Each track in a thread, each stage of it in a process whose lines are shown with its name before them."""
    with concurrent.futures.ThreadPoolExecutor(len(tracks)) as pool:
        found = pool.map(lambda names: [(name, *told(name)) for name in names], tracks)
        return [row for rows in found for row in rows]


def told(name: str) -> tuple:
    """As run(), in a process of its own."""
    begin, last = time.monotonic(), ""
    with subprocess.Popen([sys.executable, __file__, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace") as stage:
        for line in stage.stdout:
            print(f"{name:<9}| {line}", end="", flush=True)
            last = line if line.startswith(name + ": ") else last
    error = last[len(name) + 2:].strip() or f"ended with {stage.returncode}"
    return time.monotonic() - begin, error if stage.returncode else ""


def run(name: str, stage) -> tuple:
    """Seconds it took, and what went wrong ("" when nothing did)."""
    print(f"\n=== {name}: {STAGES[name].__doc__}", flush=True)
    begin = time.monotonic()
    error = ""
    try:
        stage()
    except common.StageFailed as failure:
        error = str(failure)
        print(f"{name}: {error}", flush=True)
    return time.monotonic() - begin, error


def table(rows: list) -> None:
    print("\nstage        seconds  result")
    for name, seconds, error in rows:
        print(f"{name:<12}{seconds:>8.0f}  {'FAILED: ' + error if error else 'ok'}")
    print(f"{'together':<12}{sum(seconds for _, seconds, _ in rows):>8.0f}", flush=True)


if __name__ == "__main__":
    os.chdir(common.CHECKOUT)
    sys.exit(main(sys.argv[1:]))
