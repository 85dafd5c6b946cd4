#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ratios, measured side by side in one run against hosts of the lab over SSH.

    bench.py [--rounds N] [NAME..]      NAME: models, models_play, role_host, role_docker, pull, and of local.py requests,
                                        requests_latest, models_local, slow_registry (default: all)

Each row times two ways of reaching the same end, in turn (A B A B ...), and prints the median of the ratios of the pairs:
a pair shares whatever else the machine was doing. The goals are the project's own; a missed one ends with status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

import local

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
INVENTORY = CHECKOUT / ".cache" / "lab" / os.environ.get("LAB_NAME", "lab") / "inventory.yml"


def play(name: str, host: str, **variables) -> float:
    """Run a playbook of this folder and return its wall time in seconds."""
    return _run(name, host, variables)[0]


def tasks(name: str, host: str, **variables) -> float:
    """Run a playbook of this folder and return the seconds that its tasks took, without Ansible's own start."""
    said = _run(name, host, variables, ANSIBLE_CALLBACKS_ENABLED="ansible.posix.profile_tasks", PROFILE_TASKS_TASK_OUTPUT_LIMIT="all")[1]
    return sum(float(seconds) for seconds in re.findall(r"(?m) -{3,} ([\d.]+)s$", said))


def _run(name: str, host: str, variables: dict, **more: str) -> tuple:
    """(wall time in seconds, what was printed) of a playbook of this folder."""
    command = [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), *(("-i", str(INVENTORY)) if host != "localhost" else ()), "-l", host,
               "-e", json.dumps(variables), str(HERE / f"{name}.yml")]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".cache" / "collections"),
                   "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "false", **more}
    start = time.monotonic()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    spent = time.monotonic() - start
    if done.returncode != 0:
        sys.exit(f"{name}.yml failed on {host}:\n{done.stdout[-3000:]}")
    if variables.get("expect_no_change") and "changed=0" not in done.stdout:
        sys.exit(f"{name}.yml changed something on {host}; a no-op was to be measured:\n{done.stdout[-3000:]}")
    return spent, done.stdout


class Row:
    """One comparison. `a` and `b` are callables that return seconds; `goal` is checked against a/b (`most`) or b/a (`least`)."""

    def __init__(self, title, a, b, least=None, most=None, warm=1, needs_lab=True):
        self.title, self.a, self.b, self.least, self.most, self.warm, self.needs_lab = title, a, b, least, most, warm, needs_lab

    def run(self, rounds: int) -> bool:
        for _ in range(self.warm):
            self.a(), self.b()
        pairs = [(self.a(), self.b()) for _ in range(rounds)]
        ratios = [b / a if self.least else a / b for a, b in pairs]
        ratio = statistics.median(ratios)
        met = ratio >= self.least if self.least else ratio <= self.most
        goal = f">= {self.least}x faster" if self.least else f"<= {self.most} times"
        a, b = (statistics.median(column) for column in zip(*pairs))
        print(f"{self.title:<66} {a:8.2f} s {b:8.2f} s {ratio:7.2f} ({min(ratios):.2f}..{max(ratios):.2f})  "
              f"goal {goal:<15} {'met' if met else 'MISSED'}", flush=True)
        return met


def rows() -> dict:
    host, docker = "gpu1", "box"
    models = [f"small-{number:02d}" for number in range(1, 21)]
    return {
        "models": Row(
            "20 models present: one ollama_models call / ollama list + pull a model",
            lambda: tasks("models_call", host, models=models, expect_no_change=True),
            lambda: tasks("models_loop", host, models=models), least=15),
        "models_play": Row(
            "the same as whole plays, with Ansible's own start on both sides",
            lambda: play("models_call", host, models=models, expect_no_change=True),
            lambda: play("models_loop", host, models=models), least=5),
        "role_host": Row(
            "nothing to do: role ollama, provider host / a bare ping",
            lambda: play("role", host, ollama_provider="host", expect_no_change=True),
            lambda: play("ping", host), most=3),
        "role_docker": Row(
            "nothing to do: role ollama, provider docker / a bare ping",
            lambda: play("role", docker, ollama_provider="docker", expect_no_change=True),
            lambda: play("ping", docker), most=4),
        "pull": Row(
            "pull of 200 MB: module's pull over the API / ollama pull",
            lambda: pulled(host, "pull_module"), lambda: pulled(host, "pull_cli"), most=1.05),
    }


def pulled(host: str, way: str) -> float:
    """Seconds of one pull of a model that is not there; measured on the host, so that both leave Ansible's own start out."""
    result = CHECKOUT / ".cache" / "bench-pull.json"
    play(way, host, result=str(result))
    return json.loads(result.read_text())["seconds"]


def main() -> int:
    of_loopback, stop = local.rows(Row, play)
    known = {**rows(), **of_loopback}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    wanted = [known[name] for name in arguments.names or known]
    if any(row.needs_lab for row in wanted):
        play("prepare", "gpu1,box")
    print(f"{'':<66} {'ours':>10} {'other':>10}   ratio (least..most)", flush=True)
    try:
        met = [row.run(arguments.rounds) for row in wanted]
    finally:
        stop()
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
