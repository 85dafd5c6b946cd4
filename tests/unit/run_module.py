# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module in this process, as every ansible-core from 2.17 on hands it its options."""

from __future__ import annotations

import json
from contextlib import contextmanager

import yaml
from ansible.module_utils import basic
from ansible.module_utils.common import warnings

try:
    from ansible.module_utils import _internal  # ansible-core 2.19
    from ansible.module_utils.testing import patch_module_args as _patch

    @contextmanager
    def patch_module_args(options):
        """As on a managed host: once a test has loaded a part of the controller, warnings would go to its display."""
        warnings._global_warnings.clear()  # of modules that ran in this process before
        before, _internal.is_controller = _internal.is_controller, False
        try:
            with _patch(options):
                yield
        finally:
            _internal.is_controller = before

except ImportError:

    @contextmanager
    def patch_module_args(options):
        warnings._global_warnings.clear()
        before = basic._ANSIBLE_ARGS
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode()
        try:
            yield
        finally:
            basic._ANSIBLE_ARGS = before


def untold(module, result):
    """What of a module's result (dict) is not as its RETURN tells it: sorted list of str. Keys that are not told, at any depth, and values of
    another type than is told."""
    own = ("changed", "diff", "failed", "invocation", "msg", "warnings", "exception")
    return sorted(set(_unlike("", yaml.safe_load(module.RETURN), {key: value for key, value in result.items() if key not in own})))


TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict}


def _unlike(place, told, found):
    """told: {key: entry of RETURN}. found: dict."""
    for key, value in found.items():
        entry = told.get(key)
        if entry is None or value is not None and not isinstance(value, TYPES.get(entry["type"], object)):
            yield place + key
        elif "contains" in entry:
            for one in value if isinstance(value, list) else [value or {}]:
                yield from _unlike("%s%s%s." % (place, key, "[]" * isinstance(value, list)), entry["contains"], one)
