# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the module of the same name what the host lacks, sends just that, and lets the module put it in place."""

from __future__ import annotations

import os

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import merge_hash
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _bundle
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._bundle_send import Sender

display = Display()

MODULE = "localmodels.fastgpt.ollama_bundle_import"


class ActionModule(ActionBase):
    """One call when the host has everything; else one to ask, the sending, one to put in place."""

    TRANSFERS_FILES = False  # a folder for pieces is made when there is one to send
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        try:
            return merge_hash(result, self._imported(task_vars))
        except LocalModelsError as problem:
            return dict(result, failed=True, msg=str(problem))

    def _imported(self, task_vars):
        arguments = self._task.args
        if "bundle" not in arguments or self._remote_src():
            return _shown(self._module(task_vars))
        folder = os.path.expanduser(str(arguments["bundle"]))
        _bundle.refuse_relative(folder)
        bundle = _bundle.read(folder)
        contents = bundle.carried()
        planned = self._planned(task_vars, contents)
        if self._task.check_mode or planned.get("failed") or not planned.get("changed"):
            return _shown(planned)
        needed = planned.get("needed", [])
        _bundle.refuse_incomplete(folder, [bundle.files[one["path"]] for one in needed])
        self._send(folder, [one for one in needed if one["there"] < one["size"]], task_vars)
        return _shown(self._module(task_vars, contents=contents))

    def _remote_src(self):
        try:
            return boolean(self._task.args.get("remote_src", False))
        except TypeError as problem:
            raise LocalModelsError("remote_src is neither true nor false (%s)" % problem) from problem

    def _send(self, folder, files, task_vars):
        if not files:
            return
        host = self._task.delegate_to or task_vars.get("inventory_hostname", "")
        sender = Sender(self, host, sum(one["size"] - one["there"] for one in files), self._show)
        try:
            for one in files:
                sender.send(os.path.join(folder, one["path"]), one["place"], one["size"], one["there"])
            sender.end(len(files))
        except OSError as problem:
            raise LocalModelsError("The bundle cannot be read: %s" % problem, _bundle.MEND_READING) from problem
        finally:
            try:
                sender.forget()
            except AnsibleError as problem:
                display.vvv("What was sent last stays in the login user's folder: %s" % problem)

    def _show(self, line):
        if not self._task.no_log:
            display.display(line)

    def _planned(self, task_vars, contents):
        """What the module says in check mode: what would be done, and which files it lacks for that."""
        asked = self._task.check_mode
        self._task.check_mode = True
        try:
            return self._module(task_vars, contents=contents)
        finally:
            self._task.check_mode = asked

    def _module(self, task_vars, **more):
        return self._execute_module(module_name=MODULE, module_args=dict(self._task.args, **more), task_vars=task_vars)


def _shown(result):
    """The result without what only this plugin needs to know."""
    result.pop("needed", None)
    return result
