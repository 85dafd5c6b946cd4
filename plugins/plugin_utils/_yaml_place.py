# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in a compose file is what `docker compose config` stumbled over: line and column. Internal to this collection. Pure."""

from __future__ import annotations

import re

import yaml

_LINE = re.compile(r"\bline (\d+)")
_ENV_FILE = re.compile(r"\benv file \S+ not found")
_SERVICE = re.compile(r"\bservice \"([^\"]+)\"")
_PATH = re.compile(r"\b((?:services|networks|volumes|configs|secrets)(?:\.\[?[\w-]+\]?)+"
                   r"|(?:version|name|include|services|networks|volumes|configs|secrets)(?= must| has))")


def place(text, said):
    """(line, column), both from 1, or None.

    text: the file, or its outline. said: the error text of compose.
    A text that is no YAML has its own place; otherwise the sentence names a line, a path of keys, or a service.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        return (mark.line + 1, mark.column + 1) if mark else None
    except yaml.YAMLError:
        return None
    line = _LINE.search(said)
    if line:
        return int(line.group(1)), _first_column(text, int(line.group(1)))
    path = _PATH.search(said)
    if path:
        return _walk(root, re.split(r"\.", path.group(1)))
    if _ENV_FILE.search(said):
        named = _with_env_file(root)  # which of several is meant, compose does not say
        return _walk(root, ["services", named[0], "env_file"]) if len(named) == 1 else None
    service = _SERVICE.search(said)
    return _walk(root, ["services", service.group(1)]) if service else _bad_merge(root)


def _with_env_file(root):
    """Names (list of str) of the services that have an env_file of their own."""
    services = next((value for key, value in root.value if key.value == "services"), None) if isinstance(root, yaml.MappingNode) else None
    if not isinstance(services, yaml.MappingNode):
        return []
    return [key.value for key, body in services.value if isinstance(body, yaml.MappingNode) and any(own.value == "env_file" for own, dummy in body.value)]


def _first_column(text, number):
    lines = text.splitlines()
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    return len(line) - len(line.lstrip()) + 1


def _walk(node, path):
    """The place of the last part of a path that exists."""
    found = None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == part), None)
            if pair is None:
                return found
            found, node = pair[0].start_mark, pair[1]
        elif isinstance(node, yaml.SequenceNode) and part.strip("[]").isdigit() and int(part.strip("[]")) < len(node.value):
            node = node.value[int(part.strip("[]"))]
            found = node.start_mark
        else:
            break
        found = (found.line + 1, found.column + 1)
    return found


def _bad_merge(node):
    """The place of a merge key (`<<`) that merges something else than maps."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "<<":
                merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
                if not all(isinstance(one, yaml.MappingNode) for one in merged):
                    return key.start_mark.line + 1, key.start_mark.column + 1
    children = []
    if isinstance(node, yaml.MappingNode):
        children = [value for dummy, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    return next((found for found in map(_bad_merge, children) if found), None)
