#!/usr/bin/env python3
# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault at each moment of a pull, for each shape of a list; see README.md. Its last line: how many cases passed.

    run.py [--at-once N] [--sample] [WORD..]   only the cases whose name contains each word; --sample: some of them, see cases.sample;
                                               LAB_OLLAMA=/path/to/ollama: against that one
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import pathlib
import queue
import signal
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from stages import common

AT_ONCE = 10  # cases: they wait far more than they work
LONGEST = 300  # seconds in which some case must end


def worker(World, todo, done):
    """Play cases in a world of its own until there are no more. World: world.World, imported once for all workers."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # its servers end with it
    world = None
    try:
        world = World(pathlib.Path(tempfile.mkdtemp(prefix="faults-"))).start()
        for number, case in iter(todo.get, None):
            began = time.monotonic()
            try:
                wrong = world.play(case, number)
            except Exception:  # a world that breaks is a case that failed, and the next one gets a new world
                wrong = [traceback.format_exc()]
                world.stop()
                world = World(pathlib.Path(tempfile.mkdtemp(prefix="faults-"))).start()
            done.put((case, wrong, time.monotonic() - began))
    finally:
        if world:
            world.stop()
        done.put(None)


def campaign(World, found, at_once):
    """Names of cases that failed (list of str)."""
    todo, done = multiprocessing.Queue(), multiprocessing.Queue()
    for entry in enumerate(found):
        todo.put(entry)
    workers = [multiprocessing.Process(target=worker, args=(World, todo, done)) for dummy in range(min(at_once, len(found)))]
    for one in workers:
        todo.put(None)
        one.start()
    failed, faults, ended = [], collections.Counter(), 0
    while ended < len(workers):
        try:
            answer = done.get(timeout=LONGEST)
        except queue.Empty:
            print("FAILED no case ended for %d s" % LONGEST)
            for one in workers:
                one.terminate()
            break
        if answer is None:
            ended += 1
            continue
        case, wrong, seconds = answer
        faults[case.where, case.fault] += 1
        if sum(faults.values()) % 100 == 0:
            print("%d of %d cases" % (sum(faults.values()), len(found)), flush=True)
        if wrong:
            failed.append(case.name)
            print("FAILED %s (%.0f s)\n    %s" % (case.name, seconds, "\n    ".join(wrong)), flush=True)
    for one in workers:
        one.join()
    played = sum(faults.values())
    print("%d kinds of faults in %d cases" % (len(faults), played))
    return failed + ["a case that was not played"] * (len(found) - played)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--at-once", type=int, default=int(os.environ.get("FAULTS_AT_ONCE", AT_ONCE)))
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--module", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    common.find_collection()
    if asked.module:
        from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_models
        from ansible_collections.localmodels.fastgpt.tests.unit.run_module import patch_module_args
        with patch_module_args(json.loads(asked.module)):
            ollama_models.main()
    from ansible_collections.localmodels.fastgpt.tests.faults import cases
    from ansible_collections.localmodels.fastgpt.tests.faults.world import World
    found = [case for case in cases.all_cases() if all(word in case.name for word in asked.words)]
    if asked.sample:
        found = cases.sample(found)
    real = bool(os.environ.get("LAB_OLLAMA"))
    left_out = [case for case in found if real and case.where == "disk"]
    found = [case for case in found if case not in left_out]
    if left_out:
        print("left out: %d cases of a full disk, which is a switch of the stand-in" % len(left_out))
    began = time.monotonic()
    failed = campaign(World, found, asked.at_once)
    print("%.0f s%s" % (time.monotonic() - began, ", against %s" % os.path.basename(os.environ["LAB_OLLAMA"]) if real else ""))
    print("%d passed" % (len(found) - len(failed)) + (", %d FAILED" % len(failed) if failed else ""))
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main())
