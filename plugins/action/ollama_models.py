# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of the same name, and shows long pulls while they run."""

from __future__ import annotations

import os
import shlex
import time

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import merge_hash

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _progress

display = Display()

# The host is asked with one command that waits there until the module has ended, so nothing polls: one command every
# 8 seconds while a pull runs, and an end is seen at once. With the way there and back that makes a line every 10 seconds.
WAIT_ON_HOST = 8
SILENT_ROUNDS = 3  # as many rounds without any news mean that the module was killed
LOST_LINES = 5
# Pulls end by themselves when nobody watches, so this only has to be longer than any of them.
ASYNC_LIMIT = 7 * 24 * 3600


class ActionModule(ActionBase):
    """Two calls at most: what would be done (which is all when nothing is to do), then the doing, watched if it pulls or sends."""

    MODULE = "localmodels.fastgpt.ollama_models"
    # Digests that the look had to read are noted for the run, unless the user himself asked for check mode.
    PLANNING = {"remember": True}
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        if self._task.async_val:
            # Whoever says `async` looks after the job himself.
            return merge_hash(result, self._module(task_vars, wrap_async=not self._connection.has_native_async))
        planned = self._planned(task_vars)
        if self._task.check_mode or planned.get("failed"):
            return merge_hash(result, planned)
        models = planned.get("models", [])
        verbs = {model.get("action") for model in models}
        if planned.get("reachable", True) and verbs <= {"none"}:
            return merge_hash(result, planned)
        sends = any(model.get("action") in ("create", "recreate") and model.get("bytes") for model in models)
        if (sends or verbs & {"pull", "update", "ask", "recheck"}) and planned.get("reachable") and not self._windows():
            return merge_hash(result, self._watched(task_vars))
        return merge_hash(result, self._module(task_vars))

    def _module(self, task_vars, wrap_async=False, **more):
        return self._execute_module(module_name=self.MODULE, module_args=dict(self._task.args, **more), task_vars=task_vars,
                                    wrap_async=wrap_async)

    def _planned(self, task_vars):
        """What the module says in check mode. It reads everything and changes nothing."""
        asked = self._task.check_mode
        self._task.check_mode = True
        try:
            return self._module(task_vars, **({} if asked else self.PLANNING))
        finally:
            self._task.check_mode = asked

    def _windows(self):
        return getattr(self._connection._shell, "_IS_WINDOWS", False)

    def _watched(self, task_vars):
        """Run the module as a job on the host, show how far it is, return its result."""
        folder = self._command('umask 77; mktemp -d "${TMPDIR:-/tmp}/ollama-models.XXXXXXXX"').strip().rpartition("\n")[2]
        if not folder.startswith("/"):
            return self._module(task_vars)
        progress = folder + "/progress"
        job = {}
        try:
            self._command("touch %s.watched" % shlex.quote(progress))
            job = self._started(task_vars, progress)
            if "ansible_job_id" not in job:
                return job
            self._watch(progress, job, task_vars)
            return self._result(job, task_vars)
        finally:
            self._forget(folder, job)

    def _started(self, task_vars, progress):
        self._task.async_val = ASYNC_LIMIT
        try:
            return self._module(task_vars, wrap_async=True, progress_path=progress)
        finally:
            self._task.async_val = 0

    def _watch(self, progress, job, task_vars):
        """Show lines until the job has ended, or the play has."""
        host, play = self._host(task_vars), os.getppid()
        wait = ("touch {0}.watched; n=0; while [ $n -lt {1} ] && ! [ -e {0}.ended ]; do sleep 0.5; n=$((n+1)); done; "
                "cat {0} 2>/dev/null; if [ -e {0}.ended ]; then echo; echo ended; fi").format(shlex.quote(progress), 2 * WAIT_ON_HOST)
        shown, silent, before, lost = 0, 0, None, 0
        while True:
            # Since ansible-core 2.19 what works for a host has a session of its own, and would outlive a play whose terminal has gone.
            if os.getppid() != play:
                raise AnsibleError("The play is gone, so the pull for %s is cancelled; the next run resumes it." % host)
            try:
                said = self._command(wait)
            except AnsibleConnectionFailure:
                lost += 1
                if lost > LOST_LINES:
                    display.warning("%s: the connection is lost; the pull there ends by itself within %d s, the next run resumes it"
                                    % (host, _progress.GONE_AFTER))
                    raise
                time.sleep(lost)
                continue
            lost = 0
            state = _progress.read(said)
            if state:
                self._show(_progress.new_lines(host, state, shown))
                shown = len(state["ended"])
            if said.strip().endswith("ended"):
                return
            if state:
                self._show([_progress.line(host, state)])
            silent = silent + 1 if said == before else 0
            before = said
            if silent >= SILENT_ROUNDS and self._status(job, task_vars).get("finished"):
                return

    def _host(self, task_vars):
        """For whom the lines are, as Ansible itself writes it where one host works for another."""
        host = task_vars.get("inventory_hostname", "")
        return "%s -> %s" % (host, self._task.delegate_to) if self._task.delegate_to else host

    def _show(self, lines):
        for line in lines:
            if line and not self._task.no_log:
                display.display(line)

    def _status(self, job, task_vars):
        arguments = {"jid": job["ansible_job_id"], "_async_dir": os.path.dirname(job["results_file"])}
        return self._execute_module(module_name="ansible.legacy.async_status", module_args=arguments, task_vars=task_vars)

    def _result(self, job, task_vars):
        """What the module returned. It writes that a moment after it has ended."""
        for dummy in range(20):
            result = self._status(job, task_vars)
            if result.get("finished"):
                break
            time.sleep(0.5)
        else:
            return {"failed": True, "msg": "The job that pulls the models ended without a result. Look for its end in the log of the host."}
        for internal in ("ansible_job_id", "started", "finished", "results_file", "stdout", "stdout_lines", "stderr", "stderr_lines"):
            result.pop(internal, None)
        return result

    def _forget(self, folder, job):
        """Take away the folder, which also ends the module if it still runs, and the job's result."""
        try:
            self._command("rm -rf %s %s" % (shlex.quote(folder), shlex.quote(job.get("results_file", ""))))
        except AnsibleConnectionFailure:
            pass  # the module notices that nobody watches any more

    def _command(self, command):
        """Output (str) of a command on the host, run as the user who runs the module."""
        return self._low_level_execute_command(command, sudoable=True).get("stdout", "")
