# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what FastGPT's compose project lacks; the module of the same name reads it and carries the decision out."""

from __future__ import annotations

import os

import yaml

from ansible.plugins.action import ActionBase
from ansible.utils.vars import merge_hash

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._yaml_place import place

MODULE = "localmodels.fastgpt.fastgpt_compose"


class ActionModule(ActionBase):
    """One remote read, which is all when nothing differs; then one remote call that applies the whole change."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        read = self._module(task_vars)
        if read.get("failed"):
            return merge_hash(result, located(read))
        try:
            decided = decide(read["found"], read["ollama"], task_vars["inventory_hostname"])
        except LocalModelsError as problem:
            return merge_hash(result, {"failed": True, "msg": str(problem)})
        plan = decided.pop("plan")
        result = merge_hash(result, decided)
        if not result["changed"] or self._task.check_mode:
            return result
        applied = self._module(task_vars, plan=plan)
        # A change that failed was taken back: the decision is no result then.
        return located(applied) if applied.get("failed") else result

    def _module(self, task_vars, **more):
        arguments = {key: value for key, value in self._task.args.items() if key != "plan"}
        return self._execute_module(module_name=MODULE, module_args=dict(arguments, **more), task_vars=task_vars)


def decide(found, ollamas, host):
    """The task's result (dict) with the key `plan` for the module. found: Site.found(). host: inventory name of FastGPT's host."""
    caller = found["caller"]
    wanted = _compose.needs(ollamas, host, caller["network_mode"])
    document = _compose.document(caller, found["networks"], wanted)
    text = None
    if document:
        text = _compose.with_header(yaml.safe_dump(document, sort_keys=False, default_flow_style=False))
    former = found["text"] or None
    path = os.path.join(found["folder"], found["place"])
    actions = []
    if text is None and former:
        actions.append("Remove %s, for nothing in it is needed any more" % path)
    elif text != former:
        actions.append("Write %s" % path)
    if text is not None and not found["joined"]:
        actions.append("List %s in COMPOSE_FILE in %s" % (found["place"], os.path.join(found["folder"], ".env")))
    actions += ["Remove %s, which compose no longer reads" % os.path.join(found["folder"], name) for name in found["left_over"]]
    if found["unfinished"]:
        actions.append("Finish a change that was cut off")
    actions += _compose.lacking(found["container"], wanted)
    return {
        "changed": bool(actions),
        "actions": actions,
        "file": path if text is not None else None,
        "service": caller["name"],
        "version": found["version"],
        "ollama_urls": wanted.urls,
        "diff": {"before": former or "", "after": text or "", "before_header": path, "after_header": path},
        "plan": {
            "text": text,
            "networks": wanted.networks,
            "extra_hosts": sorted(wanted.extra_hosts),
            "external": [one["name"] for one in document.get("networks", {}).values()],
        },
    }


def located(failure):
    """The module's failure, told with file, line and column where compose could not read the project."""
    outlines = failure.pop("outlines", None) or []
    for one in outlines:
        found = place(one["text"], one["said"])
        if found:
            failure["msg"] = "%s:%d:%d: %s" % (one["path"], found[0], found[1], failure["msg"])
            break
    return failure
