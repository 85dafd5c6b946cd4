#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole projects as people lay them out: several files, COMPOSE_FILE, include, .env, profiles, links. Each is read and written by the
module's own code, and docker compose tells before and after whether it is right. Exit status 1 on any wrong one."""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import engine
import judge
import shape_files
import trial
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_apply import Site
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker_engine import Surroundings
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_decide import decide


class Host:
    """A host on which nothing runs yet: the docker command with its compose, and no engine behind it."""

    def __init__(self, command):
        self.command = command

    def __call__(self, arguments, cwd=None, env=None):
        if arguments[1] == "ps":
            return 0, "", ""
        assert arguments[1] == "compose", arguments
        return self.compose(arguments[2:], cwd, env)

    def compose(self, words, cwd, env=None):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
        said = subprocess.run(self.command + words, cwd=cwd, env=dict(clean, **(env or {})), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, check=False)
        return said.returncode, said.stdout.decode(), said.stderr.decode("utf-8", "replace")

    def effective(self, folder):
        """What a plain `docker compose config` by hand, in that folder, tells."""
        rc, out, err = self.compose(["--profile", "*", "config", "--format", "json"], folder)
        if rc:
            raise engine.Rejected(err)
        return engine.undoubled(json.loads(out))


def tried(host, shape, path, strategy, kind):
    """What came out (str): `right`, `refused: ...` or `WRONG: ...`."""
    with tempfile.TemporaryDirectory(prefix="shape-") as top:
        folder = shape_files.lay_out(shape, pathlib.Path(top))
        laid = contents(top)
        try:
            site = Site(Docker(host, folder, Surroundings({"HOME": top}, {}.get, list)), None, None)
            before = host.effective(folder)
            task = {"ollama": [trial.OLLAMAS[kind]], "path": path, "strategy": strategy, "one_api_url": "", "one_api_network": "", "apply": True}
            plan = decide(json.loads(json.dumps(site.found(["ollama"]))), task, "box")["plan"]
            site._refuse_bad_result(plan)
            changes = site.pending(plan)
        except LocalModelsError as problem:
            return ("WRONG: it wrote something and refused: " if contents(top) != laid else "refused: ") + str(problem).replace(folder, "PROJECT")
        write(folder, changes)
        wrong = judge.complaints(before, host.effective(folder), path, kind)
        again = Site(Docker(host, folder, Surroundings({"HOME": top}, {}.get, list)), None, None)
        if again.pending(decide(json.loads(json.dumps(again.found(["ollama"]))), task, "box")["plan"]):
            wrong.append("a second run changes something")
        nothing = dict(plan, intents=[], text=None, edits={}, external=[])
        write(folder, again.pending(nothing))
        if contents(top) != laid:
            wrong.append("it is not taken back to the byte: %s" % ", ".join(
                sorted(name for name in set(contents(top)) | set(laid) if contents(top).get(name) != laid.get(name))))
        return "WRONG: " + "; ".join(wrong) if wrong else "right"


def write(folder, changes):
    for name, raw in changes:
        path = os.path.join(folder, name)
        if raw is None:
            pathlib.Path(path).unlink(missing_ok=True)
        else:
            pathlib.Path(path).write_bytes(raw)


def contents(top):
    return {str(path.relative_to(top)): (os.readlink(path) if path.is_symlink() else path.read_bytes())
            for path in sorted(pathlib.Path(top).rglob("*")) if path.is_file() or path.is_symlink()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 2) + 1, help="how many at once")
    given = parser.parse_args()
    names = given.names or list(shape_files.SHAPES)
    jobs = [(name, strategy, kind) for name in names for strategy in trial.STRATEGIES for kind in trial.OLLAMAS]
    wrong = 0
    with concurrent.futures.ProcessPoolExecutor(given.jobs) as pool:
        for (name, strategy, kind), said in zip(jobs, pool.map(functools.partial(outcome, engine.find()), jobs)):
            shape = shape_files.SHAPES[name]
            wanted = "^" + shape.get(strategy, shape.get("both", "right"))
            bad = said.startswith("WRONG") or not re.search(wanted, said)
            wrong += bad
            print("%-28s %-9s %-9s  %s%s" % (name, strategy, kind, said, "   (expected: %s)" % wanted if bad else ""), flush=True)
    print("\n%d shapes, %d results, %d wrong" % (len(names), len(jobs), wrong))
    return 1 if wrong else 0


def outcome(command, job):
    name, strategy, kind = job
    shape = shape_files.SHAPES[name]
    try:
        return tried(Host(command), shape, shape.get("path", "aiproxy"), strategy, kind)
    except Exception as problem:  # a crash on a shape never seen is what this looks for
        return "WRONG: %s: %s" % (type(problem).__name__, problem)


if __name__ == "__main__":
    sys.exit(main())
