#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs stages of the tests, one after the other, and ends with a table. Called by the Makefile.

    run.py STAGE..             all stages named, even after one has failed
    run.py molecule SCENARIO.. only these scenarios
"""

from __future__ import annotations

import os
import sys
import time

from stages import common, corpus, package, quick, sanity, scenarios

STAGES = {
    "lint": quick.lint,
    "unit": quick.unit,
    "thorough": quick.thorough,
    "contract": quick.contract,
    "faults": quick.faults,
    "campaign": quick.campaign,
    "sanity": sanity.sanity,
    "package": package.package,
    "corpus": corpus.corpus,
    "mutants": corpus.mutants,
    "molecule": scenarios.molecule,
    "install": package.install,
}


def main(arguments: list) -> int:
    common.link_checkout()
    if arguments[:1] == ["molecule"]:
        todo = {"molecule": lambda: scenarios.molecule(arguments[1:])}
    else:
        unknown = [name for name in arguments if name not in STAGES]
        if unknown or not arguments:
            print(f"run.py: no stage {unknown}; there are {', '.join(STAGES)}", file=sys.stderr)
            return 2
        todo = {name: STAGES[name] for name in arguments}
    rows = [(name, *run(name, stage)) for name, stage in todo.items()]
    if len(rows) > 1:
        table(rows)
    return 1 if any(error for _, _, error in rows) else 0


def run(name: str, stage) -> tuple:
    """Seconds it took, and what went wrong ("" when nothing did)."""
    print(f"\n=== {name}: {STAGES[name].__doc__}", flush=True)
    begin = time.monotonic()
    error = ""
    try:
        stage()
    except common.StageFailed as failure:
        error = str(failure)
        print(f"{name}: {error}", file=sys.stderr)
    return time.monotonic() - begin, error


def table(rows: list) -> None:
    print("\nstage        seconds  result")
    for name, seconds, error in rows:
        print(f"{name:<12}{seconds:>8.0f}  {'FAILED: ' + error if error else 'ok'}")
    print(f"{'together':<12}{sum(seconds for _, seconds, _ in rows):>8.0f}", flush=True)


if __name__ == "__main__":
    os.chdir(common.CHECKOUT)
    sys.exit(main(sys.argv[1:]))
