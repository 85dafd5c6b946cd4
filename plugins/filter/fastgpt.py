# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for the roles that configure FastGPT: doors to pure functions of module_utils."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _fastgpt_model, _items, _plan, _verify_table
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError


def fastgpt_records(items, shown_models, server_context=None, path="aiproxy"):
    """See fastgpt_records.yml."""
    return _told(_fastgpt_model.records, items, shown_models, server_context, path)


def fastgpt_setup(places, shown_models, server_context=None, channel="ollama", path="aiproxy"):
    """See fastgpt_setup.yml."""
    return _told(_fastgpt_model.setup, places, shown_models, server_context, channel, path)


def model_names(items):
    """See model_names.yml."""
    return _told(lambda: [_plan.read_item(item).name.short for item in _items.listed(items)])


def hop_table(hops):
    """See hop_table.yml."""
    return _verify_table.table(hops)


def _told(function, *arguments):
    try:
        return function(*arguments)
    except LocalModelsError as problem:
        raise AnsibleFilterError(str(problem)) from problem


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """{name: callable}."""
        return {"fastgpt_records": fastgpt_records, "fastgpt_setup": fastgpt_setup, "hop_table": hop_table, "model_names": model_names}
