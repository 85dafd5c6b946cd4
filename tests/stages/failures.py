# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What went wrong, out of the log of a scenario: a log may be lost, its table and its end are what remains."""

from __future__ import annotations

import json
import re

SENTENCE = 600  # characters of the line about a failed task
BLOCK = 8_000  # and of its whole text
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Molecule names the step that it begins; a rescued failure of an earlier step has no say.
STEP = re.compile(r"(?m)^INFO +\[(?P<step>[^\]]+)\] Executing$")
TASK = re.compile(r"(?m)^(?:TASK|RUNNING HANDLER) \[(?P<name>.*)\] \*+$")
FAILED = re.compile(r"(?m)^(?:fatal|failed): \[(?P<host>[^\]]+)\]:? ?(?:\(item=.*?\) )?(?:\w+! )?(?:=> )?(?P<rest>.*)$")
MOLECULE = re.compile(r"(?m)^(?:CRITICAL|ERROR) +(?P<text>.*(?:\n\*.*)*)")  # where no task failed, as when a second run changed something
RECAP = re.compile(r"(?m)^PLAY RECAP \*+$")
BAD_HOST = re.compile(r"(?m)^(\S+) +: .*(?:unreachable|failed)=[1-9]")


def sentence(log: str) -> str:
    """One line: the step, the task, the host and the message of the last failure ("" where the log tells of none)."""
    found = _last(log)
    if not found:
        said = MOLECULE.search(COLOUR.sub("", log))
        return _short(said["text"], SENTENCE) if said else ""
    step, task, failure, _ = found
    return _short(f"{step}: {task} [{failure['host']}]: {_message(failure['rest'])}", SENTENCE)


def block(log: str) -> str:
    """The text of the task that failed last, up to the recap ("" where the log tells of none)."""
    found = _last(log)
    return found[3][:BLOCK] if found else ""


def _last(log: str):
    """(step, task's name, match of the failed line, text from the task on) or None."""
    log = COLOUR.sub("", log)
    steps = list(STEP.finditer(log))
    part = log[steps[-1].end():] if steps else log
    step = steps[-1]["step"] if steps else "?"
    recap = RECAP.search(part)
    bad = set(BAD_HOST.findall(part[recap.end():])) if recap else set()
    part = part[:recap.start()] if recap else part
    failures = [one for one in FAILED.finditer(part) if not bad or one["host"].split(" ")[0] in bad]
    if not failures:
        return None
    failure = failures[-1]
    tasks = [one for one in TASK.finditer(part) if one.start() < failure.start()]
    begin = tasks[-1].start() if tasks else failure.start()
    return step, tasks[-1]["name"] if tasks else "?", failure, part[begin:].strip()


def _message(rest: str) -> str:
    """What a failed line says: of its JSON the message, and what a command wrote last."""
    begin = rest.find("{")
    try:
        result = json.loads(rest[begin:]) if begin >= 0 else {}
    except ValueError:
        result = {}
    parts = [str(result[key]) for key in ("msg", "assertion") if result.get(key)]
    parts += [str(result["stderr"])[-SENTENCE // 2:]] if result.get("stderr") else []
    return " | ".join(parts) or rest


def _short(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
