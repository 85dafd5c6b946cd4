# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running commands, saying what happens, and the few places where the lab keeps things."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import time

LAB = pathlib.Path(__file__).resolve().parent.parent
CHECKOUT = LAB.parent.parent
CACHE = CHECKOUT / ".cache" / "lab"
LABEL = "localmodels.lab"


class LabError(Exception):
    """Something the lab needs is missing or failed; the text says what to do."""


def say(text: str) -> None:
    """One line about what is being done, for the person who waits."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def run(*command: str, input: str | None = None, timeout: float | None = None, env: dict | None = None) -> str:
    """Run a command and return its output. LabError with the end of its output when it fails."""
    try:
        done = subprocess.run(
            command, input=input, timeout=timeout, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})}, stdin=None if input is not None else subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)[:200]}: no end after {timeout} s") from error
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed") from error
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise LabError(f"{' '.join(command)[:200]} failed with {done.returncode}:\n{tail}")
    return done.stdout


def succeeds(*command: str, timeout: float | None = None) -> bool:
    """Whether a command ends with 0. Its output is of no interest."""
    try:
        run(*command, timeout=timeout)
    except LabError:
        return False
    return True


def docker(*arguments: str, **options) -> str:
    return run("docker", *arguments, **options)


def wait_for(what: str, question, seconds: float = 60, pause: float = 0.2):
    """Ask until the answer is true. LabError naming ``what`` when it never is."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise LabError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(pause)


@contextlib.contextmanager
def lock(name: str):
    """One lab at a time does what this guards: several may share a checkout and an engine."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def need(*programs: tuple[str, str]) -> None:
    """Install Debian packages for programs that are missing: pairs of program and package."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [(program, package) for program, package in programs if not shutil.which(program, path=path)]
    if not missing:
        return
    packages = sorted({package for _, package in missing})
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        names = ", ".join(program for program, _ in missing)
        raise LabError(f"{names} not found. On Debian, as root: apt-get install {' '.join(packages)}")
    say(f"installing from Debian: {' '.join(packages)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with lock("apt"):
        run("apt-get", "update", "-qq", env=quiet)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *packages, env=quiet)
