#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes every compose file of the given folders in random ways, always the same ones: right or refused, never wrong. Exit status 1 on any wrong one."""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import functools
import os
import pathlib
import random
import re
import sys
import tempfile

import engine
import mutations
import run
import trial


def tried(command, seed, number_and_path):
    """(what was done, [Outcome], [what is wrong besides], text) of one mutant; None where nothing changed."""
    number, path = number_and_path
    rng = random.Random("%d %s %d" % (seed, path.name, number))
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    new, done = mutations.mutant(text, rng)
    if new == text:
        return None
    raw = new.encode("utf-8", "surrogateescape")
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        subject = trial.Project(engine.Compose(command), folder, {"docker-compose.yml": raw})
        where, ollama = rng.choice(trial.PATHS), rng.choice(sorted(trial.OLLAMAS))
        strategies = rng.choice((["in_place"], ["in_place"], ["override"], ["in_place", "override"]))
        outcomes = [subject.tried(where, strategy, ollama) for strategy in strategies]
        try:
            wrong = subject.switched(ollama) if not subject.problem and rng.random() < 0.3 else []
        except Exception as problem:  # a crash is what this looks for
            wrong = ["%s: %s" % (type(problem).__name__, problem)]
    return done, outcomes, wrong, raw


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=20260915)
    parser.add_argument("--mutants", type=int, default=1200, help="how many at least, over all files (default: %(default)s)")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="write every wrong mutant there")
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 2) + 1, help="how many at once")
    given = parser.parse_args()
    command = engine.find()
    paths = [folder / names[0] for root in given.folders for folder, names in run.found_in(root)]
    each = -(-given.mutants // max(len(paths), 1))
    verdicts, kinds, reasons, seen, mutants = collections.Counter(), collections.defaultdict(collections.Counter), collections.Counter(), set(), 0
    # Some mutations find nothing to change in a file: a few more are made than asked for.
    jobs = [(number, path) for path in paths for number in range(each + each // 4 + 1)]
    with concurrent.futures.ProcessPoolExecutor(given.jobs) as pool:
        for (number, path), result in zip(jobs, pool.map(functools.partial(tried, command, given.seed), jobs, chunksize=4)):
            if result is None or result[3] in seen:
                continue
            done, outcomes, wrong, raw = result
            seen.add(raw)
            mutants += 1
            failures = ["%s %s %s: %s" % (one.path, one.strategy, one.ollama, one.reason) for one in outcomes if one.verdict == "WRONG"] + wrong
            for one in outcomes:
                verdicts[one.verdict] += 1
                reasons[re.sub(r" in /\S+|\bline \d+", "", one.reason.partition(": ")[2].partition(". ")[0])[:100]] += one.verdict == "refused"
            for name in set(done):
                kinds[name]["WRONG" if failures else outcomes[0].verdict] += 1
            for failure in failures:
                print("WRONG  %s, mutant %d (%s): %s" % (path.name, number, ", ".join(done), failure))
            if failures and given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                (given.keep / ("%s--%d.yml" % (path.stem, number))).write_bytes(raw)
            verdicts["WRONG"] += len(wrong)
            sys.stdout.flush()
    print("\n%-18s %6s %8s %6s" % ("mutation", "right", "refused", "wrong"))
    for name, counts in sorted(kinds.items()):
        print("%-18s %6d %8d %6d" % (name, counts["right"], counts["refused"], counts["WRONG"]))
    print("\nmost frequent reasons")
    for reason, count in reasons.most_common(12):
        print("%6d  %s" % (count, reason)) if count else None
    print("\nseed %d: %d mutants of %d files, %d results: %d right, %d refused, %d wrong" % (
        given.seed, mutants, len(paths), sum(verdicts.values()), verdicts["right"], verdicts["refused"], verdicts["WRONG"]))
    return 1 if verdicts["WRONG"] or mutants < given.mutants else 0


if __name__ == "__main__":
    sys.exit(main())
