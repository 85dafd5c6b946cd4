# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of the same name, and shows long downloads while they run."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible.utils.vars import merge_hash
from ansible_collections.localmodels.fastgpt.plugins.action import ollama_models


class ActionModule(ollama_models.ActionModule):
    """Two calls at most: what would be done, which is all when nothing is to do, then the doing, watched."""

    MODULE = "localmodels.fastgpt.ollama_bundle_export"
    PLANNING = {}

    def run(self, tmp=None, task_vars=None):
        result = ActionBase.run(self, tmp, task_vars)
        if self._task.async_val:
            return merge_hash(result, self._module(task_vars, wrap_async=not self._connection.has_native_async))
        planned = self._planned(task_vars)
        if self._task.check_mode or planned.get("failed") or not planned.get("changed"):
            return merge_hash(result, planned)
        return merge_hash(result, self._watched(task_vars))
