# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module in this process, as every ansible-core from 2.17 on hands it its options."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager

from ansible.module_utils import basic
from ansible.module_utils.common import warnings
from ansible.module_utils.common.yaml import yaml_load


def forget_warnings():
    """Each module of a host is a process of its own, and knows nothing of what another one warned of."""
    warnings._global_warnings.clear()
    warnings._global_deprecations.clear()


try:
    from ansible.module_utils import _internal  # ansible-core 2.19
    from ansible.module_utils.testing import patch_module_args as _patch

    @contextmanager
    def patch_module_args(options):
        """As on a managed host: once a test has loaded a part of the controller, warnings would go to its display."""
        forget_warnings()
        before, _internal.is_controller = _internal.is_controller, False
        try:
            with _patch(options):
                yield
        finally:
            _internal.is_controller = before

except ImportError:

    @contextmanager
    def patch_module_args(options):
        forget_warnings()
        before = basic._ANSIBLE_ARGS
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode()
        try:
            yield
        finally:
            basic._ANSIBLE_ARGS = before


def printed(module, capsys, check=False, diff=True, **options):
    """What a module prints (str) when it is run with these options, in check mode or not, with diffs or not."""
    with patch_module_args(dict(options, _ansible_check_mode=check, _ansible_diff=diff)):
        try:
            module.main()
        except SystemExit:
            return capsys.readouterr().out
    raise AssertionError("a module ends its process")


def call(module, capsys, check=False, diff=True, **options):
    """The result (dict) of printed(), which is as the module's documentation tells it."""
    return as_documented(module, json.loads(printed(module, capsys, check, diff, **options)))


def as_documented(module, result):
    """The result, after its keys were held against the module's RETURN, both ways."""
    assert untold(module, result) == [] and unkept(module, result) == []
    return result


def untold(module, result):
    """Keys (sorted list of str) of a module's result, and of the maps in it, that its RETURN does not tell."""
    told = yaml_load(module.RETURN)
    found = [key for key in result if key not in told and key not in ("changed", "diff", "failed", "invocation", "msg", "warnings", "exception")]
    found += ["%s.%s" % (key, inner) for key, item in _maps(told, result) for inner in item if inner not in told[key]["contains"]]
    return sorted(set(found))


def unkept(module, result):
    """Keys (sorted list of str) that its RETURN tells of every success, and that this result, and the maps in it, have not."""
    told = yaml_load(module.RETURN)
    promised = [key for key, entry in told.items() if entry["returned"] == "always" or
                (not result.get("failed") and re.match("success(,|$)", entry["returned"]))]
    lacking = [key for key in promised if key not in result]
    lacking += ["%s.%s" % (key, inner) for key, item in _maps(told, result) for inner, entry in told[key]["contains"].items()
                if "returned" not in entry and inner not in item]
    return sorted(set(lacking))


def _maps(told, result):
    """(key, map) of each map in a result of which RETURN (`told`) tells the keys."""
    for key, entry in told.items():
        if "contains" in entry:
            items = result.get(key) if isinstance(result.get(key), list) else [result.get(key)]
            yield from ((key, item) for item in items if isinstance(item, dict))
