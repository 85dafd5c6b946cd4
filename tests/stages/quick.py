# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages that need neither containers nor hosts."""

from __future__ import annotations

from .common import BIN, CACHE, call


def lint() -> None:
    """ansible-lint (profile production), yamllint, ruff"""
    call(BIN / "ruff", "check", ".")
    call(BIN / "yamllint", "--strict", ".")
    call(BIN / "ansible-lint", "--offline", "--strict", "-q")


PYTEST = (BIN / "pytest", "-q")
# What a test that passed has written goes with it: nothing of ours stays in /tmp.
TIDY = ("-o", "tmp_path_retention_policy=failed")
# Seconds count here: what tests write goes before the next run, in one go, and after lost exceptions of threads looks `thorough`.
HASTY = ("-o", "tmp_path_retention_policy=all", "--basetemp", CACHE / "unit", "-p", "no:unraisableexception", "-p", "no:threadexception")


def unit() -> None:
    """pure logic, without network; of each property a few examples"""
    call(*PYTEST, *HASTY, "-n", "auto", "--dist", "worksteal", "-m", "not thorough", "tests/unit", EXAMPLES="few")


def thorough() -> None:
    """the same with very many cases: all examples of each property, death at every single step, any state to any other"""
    call(*PYTEST, *TIDY, "-n", "auto", "tests/unit")


def contract() -> None:
    """every recorded exchange with a real server, against our stand-ins and our clients"""
    call(*PYTEST, *TIDY, "-n", "auto", "--dist", "loadfile", "tests/contract")  # the lines of a transcript in their order


def faults() -> None:
    """each fault in each shape of a list, at one moment of a pull, ends with the declared state or with its message"""
    call(BIN / "python", "tests/faults/run.py", "--sample")


def campaign() -> None:
    """each fault at each moment of a pull, in each shape of a list"""
    call(BIN / "python", "tests/faults/run.py")
