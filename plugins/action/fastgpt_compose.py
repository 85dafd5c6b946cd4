# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads FastGPT's compose project, lets the controller decide, and carries the decision out where something differs."""

from __future__ import annotations

import json

from ansible.plugins.action import ActionBase
from ansible.utils.vars import merge_hash

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_decide import decide, located

MODULE = "localmodels.fastgpt.fastgpt_compose"


class ActionModule(ActionBase):
    """One remote read, which is all when nothing differs; then one remote call that applies the whole change.

    The operator's own files never leave their host in clear, so with edits in them the host has to tell whether they differ: a
    second call, in check mode too.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        read = self._module(task_vars)
        if read.get("failed"):
            return merge_hash(result, located(read))
        if "found" not in read:  # a backup came back: there is nothing to decide
            return merge_hash(result, read)
        # ansible-core before 2.19 marks what a host said as unsafe, by a kind of str that YAML does not write.
        found, task = (json.loads(json.dumps(read[key])) for key in ("found", "task"))
        try:
            decided = decide(found, task, task_vars["inventory_hostname"], self._task.check_mode)
        except LocalModelsError as problem:
            return merge_hash(result, {"failed": True, "msg": str(problem)})
        plan = decided.pop("plan")
        result = merge_hash(result, decided)
        if not plan["edits"] and (not result["changed"] or self._task.check_mode):
            return result
        applied = self._module(task_vars, plan=plan)
        if applied.get("failed"):
            # A change that failed was taken back: the decision is no result then.
            return located(applied)
        if not applied["changed"]:
            result.update(changed=False, actions=[], diff={"before": "", "after": ""})
        return result

    def _module(self, task_vars, **more):
        arguments = {key: value for key, value in self._task.args.items() if key != "plan"}
        return self._execute_module(module_name=MODULE, module_args=dict(arguments, **more), task_vars=task_vars)
