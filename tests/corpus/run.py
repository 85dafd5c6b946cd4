#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries every compose file of the given folders: 3 paths x 2 strategies x 2 kinds of Ollama. Exit status 1 on any wrong one."""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import functools
import os
import pathlib
import re
import sys

import engine
import trial
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose_files
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import DEFAULT_FILES

LIKELY_NAME = re.compile(r"^(docker-)?compose\b.*\.ya?ml$")
LIKELY_TEXT = re.compile(rb"""(?m)^[ \t{\xef\xbb\xbf]*["']?services["']?[ \t]*:""")


def found_in(folder):
    """[(folder, [file names])] of the projects in a folder and below; a file beside an override of compose's own name is one with it."""
    projects = []
    for place, folders, names in os.walk(str(folder)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in names if name.endswith((".yml", ".yaml")) and _likely(pathlib.Path(place) / name))
        main = next((name for name in DEFAULT_FILES if name in names), None)
        override = next((name for name in _compose_files.OVERRIDE_FILES if name in names), None)
        for name in names:
            if name == main and override:
                projects.append((pathlib.Path(place), [name, override]))
            elif not (main and name == override):
                projects.append((pathlib.Path(place), [name]))
    return projects


def _likely(path):
    return bool(LIKELY_NAME.match(path.name)) or bool(LIKELY_TEXT.search(path.read_bytes()))


def tried(command, project):
    """(project, version, style, [Outcome], [what is wrong with switching]) of one project."""
    folder, names = project
    subject = trial.Project(engine.Compose(command), folder, {name: (folder / name).read_bytes() for name in names})
    outcomes = [subject.tried(path, strategy, ollama) for path in trial.PATHS for strategy in trial.STRATEGIES for ollama in trial.OLLAMAS]
    switching = [] if subject.problem else ["switching, Ollama on %s: %s" % (kind, wrong) for kind in trial.OLLAMAS for wrong in subject.switched(kind)]
    return project, subject.version, subject.style, outcomes, switching


def write(out, title, folder, names, outcomes):
    """Every result as a folder that `docker compose config` can be called in, and the original beside them."""
    extras = {path.name: path.read_bytes() for path in folder.iterdir()
              if path.is_file() and (path.name.startswith(".env") or path.name.endswith(".env")) and path.stat().st_size < 65536}
    original = {name: (folder / name).read_bytes() for name in names}
    for place, files in [("original", original)] + [("%s-%s-%s" % one[:3], one.files) for one in outcomes if one.files]:
        target = out / title / place
        target.mkdir(parents=True, exist_ok=True)
        listed = []
        for number, (name, raw) in enumerate(files.items()):
            listed.append(name if number else "docker-compose.yml")
            (target / listed[-1]).write_bytes(raw)
        for name, raw in extras.items():
            (target / name).write_bytes(raw)
        if _compose_files.OWN_PLACE in listed:
            dotenv = extras.get(".env", b"").decode("utf-8", "surrogateescape")
            (target / ".env").write_bytes(_compose_files.joined_dotenv(dotenv, listed[:-1]).encode("utf-8", "surrogateescape"))
    for one in outcomes:
        if one.verdict == "refused":
            target = out / title / ("%s-%s-%s" % one[:3])
            target.mkdir(parents=True, exist_ok=True)
            (target / "refused.txt").write_text(one.reason + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="write every result as a folder there")
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 2) + 1, help="how many files at once")
    given = parser.parse_args()
    command = engine.find()
    projects = [(folder, names, root) for root in given.folders for folder, names in found_in(root)]
    if not projects:
        sys.exit("No compose file in %s" % ", ".join(map(str, given.folders)))
    counts = collections.Counter()
    with concurrent.futures.ProcessPoolExecutor(given.jobs) as pool:
        results = pool.map(functools.partial(tried, command), [(folder, names) for folder, names, dummy in projects])
        for (folder, names, root), (dummy, version, style, outcomes, switching) in zip(projects, results):
            title = str((folder / names[0]).relative_to(root))
            print("\n%s   FastGPT %s   style %s" % (" + ".join([title] + names[1:]), version or "?", style))
            said = ""
            for one in outcomes:
                counts[one.verdict] += 1
                rest = ": " + one.reason if one.reason else "  differs: " + one.difference
                print("  %-7s %-8s %-9s %2d lines  %s%s" % (
                    one.path, one.strategy, one.ollama, one.lines, one.verdict, ": as above" if one.reason and rest == said else rest))
                said = rest
            for wrong in switching:
                counts["WRONG"] += 1
                print("  WRONG: %s" % wrong)
            sys.stdout.flush()
            if given.out:
                write(given.out, title, folder, names, outcomes)
    print("\n%d projects, %d results: %d right, %d refused, %d wrong   (%s)" % (
        len(projects), sum(counts.values()), counts["right"], counts["refused"], counts["WRONG"], " ".join(command)))
    return 1 if counts["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
