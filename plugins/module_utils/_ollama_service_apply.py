# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a host's Ollama service and makes it what is wanted, or puts back what ran before. Internal to this collection."""

from __future__ import annotations

import grp
import os
import platform
import pwd
import shutil
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _answer, _process, _release, _systemd, _undo
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_service import (
    HOME,
    SERVICE,
    Found,
    process_difference,
)

DEVICE_GROUPS = ("render", "video")
JOURNAL_LINES = 15


def refuse_unfit_host(system=None, booted="/run/systemd/system", euid=None):
    """Raise LocalModelsError where a service cannot be set up at all. The arguments are for tests."""
    system = system or platform.system()
    if system != "Linux":
        raise LocalModelsError("The provider host needs Linux with systemd so far, and this is %s" % system,
                               "Use ollama_provider: docker where Docker runs")
    if not os.path.isdir(booted):
        raise LocalModelsError("This host was not started by systemd (there is no %s), so there is no service manager "
                               "that could keep Ollama running" % booted,
                               "Use ollama_provider: docker, or run Ollama under the init system at hand")
    if (os.geteuid() if euid is None else euid) != 0:
        raise LocalModelsError("Setting up a service needs root", "Set become: true")


class ServiceHost:
    """This host. run: callable(list of str) -> (rc, stdout, stderr). wanted: _ollama_service.Wanted. proc: where procfs is."""

    def __init__(self, run, wanted, proc="/proc"):
        self._run = run
        self._proc = proc
        self.wanted = wanted
        self._begun = 0
        self.service = _systemd.Service(run, SERVICE)
        self.undo = _undo.Undo(os.path.join(wanted.install_dir, "undo.json"),
                               [wanted.unit_path, wanted.drop_in_path, wanted.link],
                               os.path.join(wanted.install_dir, "replaced"))

    def read(self):
        """Everything in one go -> Found."""
        wanted = self.wanted
        try:
            user = pwd.getpwnam(wanted.user)
        except KeyError:
            user = None
        devices = _device_groups()
        unit = self.service.state()
        pid = int(unit["MainPID"] or 0)
        return Found(
            user_exists=user is not None,
            home=user.pw_dir if user else HOME,
            device_groups={name: group.gr_gid for name, group in devices.items()},
            missing_groups=[name for name, group in sorted(devices.items())
                            if user and wanted.user not in group.gr_mem and user.pw_gid != group.gr_gid],
            release_present=os.access(wanted.program, os.X_OK),
            has_zstd=_release.can_unpack_zstd(),
            unit_text=_undo.read(wanted.unit_path) or "",
            drop_in_text=_undo.read(wanted.drop_in_path) or "",
            link=_link_target(wanted.link),
            unit=unit,
            process=_process.Process(pid, self._proc) if pid else None,
            version=_answer.version_at(wanted.listen.url) if pid else None,
            interrupted=self.undo.unfinished() is not None,
        )

    def refuse(self, found):
        """Raise LocalModelsError for what would make the change fail, before anything is changed."""
        if found.unit["LoadState"] == "masked" or found.unit["UnitFileState"] == "masked":
            raise LocalModelsError("The service ollama is masked on this host: someone forbade its start",
                                   "If that is over, run: systemctl unmask ollama")
        self._refuse_taken_port(found)
        if found.user_exists:
            self._refuse_closed_store(self.wanted.store(found.home))

    def apply(self, found):
        """Make it so. Returns whether the server was restarted. Raises LocalModelsError after putting things back."""
        wanted = self.wanted
        self._begun = time.time()
        self.undo.begin({"active": found.unit["ActiveState"], "enabled": found.unit["UnitFileState"]})
        try:
            self._make_store()
            self._write(found)
            restart = bool(process_difference(wanted, self.read()))
            if restart:
                self.service.restart()
                self._wait()
        except (LocalModelsError, OSError) as problem:
            raise self._back(problem) from problem
        self.undo.forget()
        if found.link != wanted.program:
            self._remove_old_releases(found)
        return restart

    def _write(self, found):
        wanted = self.wanted
        os.makedirs(os.path.dirname(wanted.drop_in_path), mode=0o755, exist_ok=True)
        texts = ((wanted.unit_path, found.unit_text, wanted.unit_text),
                 (wanted.drop_in_path, found.drop_in_text, _systemd.drop_in_text(wanted.environment(found.home))))
        changed = [(path, after) for path, before, after in texts if before != after]
        for path, text in changed:
            _undo.write(path, text, 0o644)
        if found.link != wanted.program:
            self.undo.set_aside(wanted.link)
            _undo.link(wanted.program, wanted.link)
        # Only when needed: it can detach the GPUs of running containers (NVIDIA container toolkit, issue 1730).
        if changed or found.unit["NeedDaemonReload"] == "yes":
            self.service.reload_definitions()
        if found.unit["UnitFileState"] != "enabled":
            self.service.enable()

    def _wait(self):
        wanted = self.wanted
        version = _answer.wait(wanted.listen.url, wanted.timeout, self._trouble)
        if version != wanted.version:
            raise LocalModelsError("%s answers with version %s instead of %s" % (wanted.listen.url, version, wanted.version),
                                   "Another server may answer there: look at `ss -ltnp` and `systemctl status ollama`")
        still = process_difference(wanted, self.read())
        if still:
            unit = self.service.state()
            raise LocalModelsError("%s even after a restart; look at %s" % (
                still, " ".join(filter(None, (unit["DropInPaths"], unit["EnvironmentFiles"])))))

    def _trouble(self):
        state = self.service.state()
        if state["ActiveState"] == "failed" or state["SubState"] == "auto-restart":
            return "it ends as soon as it starts (exit status %s)" % state["ExecMainStatus"]
        return ""

    def _back(self, problem):
        """Put back what was there before the first change; the LocalModelsError that tells the whole story."""
        lines = self.service.journal(JOURNAL_LINES, self._begun)
        said = "\n  ".join(scrub(line) for line in lines) or "(the journal holds none)"
        try:
            outcome = self._put_back()
        except (LocalModelsError, OSError) as second:
            outcome = "Putting back what ran before failed too: %s" % getattr(second, "what", second)
        what = ". ".join(filter(None, (getattr(problem, "what", str(problem)), outcome, getattr(problem, "mend", ""))))
        return LocalModelsError(what, "Its last log lines:\n  " + said)

    def _put_back(self):
        before = self.undo.unfinished()
        if before["enabled"] != "enabled":
            self.service.disable()
        ran = before["active"] in ("active", "activating")
        if not ran:
            self.service.stop()
        self.undo.restore()
        self.service.reload_definitions()
        if ran:
            self.service.restart()
        self.undo.forget()
        return ("The unit, its settings and the release that ran before were put back and started" if ran
                else "Nothing ran before, so the service was stopped and its files are as they were")

    def _refuse_taken_port(self, found):
        listen = self.wanted.listen
        own = found.process
        if own and (own.environment() or {}).get("OLLAMA_HOST") == listen.text:
            return
        for process in _process.holders(listen.port, listen.host, self._proc):
            if own and (process.pid == own.pid or process.unit() == SERVICE or process.uid == own.owner()):
                continue
            raise LocalModelsError("Port %d on %s is taken by %s" % (listen.port, listen.host, self._name_of(process)),
                                   "Stop it, or choose another ollama_listen")

    def _name_of(self, process):
        if process.name().startswith("docker-pr") and shutil.which("docker"):
            out = self._run(["docker", "ps", "--filter", "publish=%d" % self.wanted.listen.port, "--format", "{{.Names}}"])[1]
            if out.split():
                return "the Docker container %s" % ", ".join(out.split())
        return _process.describe(process)

    def _refuse_closed_store(self, store):
        """An existing store that the service user cannot use: Ollama starts all the same, and only pulls fail."""
        there = store
        while not os.path.isdir(there):
            there = os.path.dirname(there)
        parents = [there]
        while os.path.dirname(parents[-1]) != parents[-1]:
            parents.append(os.path.dirname(parents[-1]))
        checks = [("-x", path) for path in reversed(parents)] + ([("-w", store)] if there == store else [])
        for test, path in checks:
            if self._run(["runuser", "-u", self.wanted.user, "--", "test", test, path])[0]:
                raise LocalModelsError(
                    "User %s may not %s %s, so it cannot use the model store %s" % (
                        self.wanted.user, "enter" if test == "-x" else "write to", path, store),
                    "Open that folder to it, or set ollama_store_path to a folder outside of home directories")

    def _make_store(self):
        """Create a store that was asked for by path; the usual one is made by Ollama itself."""
        if not self.wanted.store_path:
            return
        user = pwd.getpwnam(self.wanted.user)
        missing = []
        path = self.wanted.store_path
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            os.mkdir(path, 0o755)
            os.chown(path, user.pw_uid, user.pw_gid)

    def _remove_old_releases(self, found):
        """A release takes gigabytes. The one that ran before stays, for a quick way back."""
        before = os.path.realpath(found.link) if found.link else ""
        for version in _release.installed(self.wanted.install_dir):
            if version != self.wanted.version and not before.startswith(
                    os.path.realpath(_release.folder(self.wanted.install_dir, version)) + os.sep):
                shutil.rmtree(_release.folder(self.wanted.install_dir, version), ignore_errors=True)


def _link_target(path):
    if not os.path.lexists(path):
        return ""
    return os.readlink(path) if os.path.islink(path) else None


def _device_groups():
    found = {}
    for name in DEVICE_GROUPS:
        try:
            found[name] = grp.getgrnam(name)
        except KeyError:
            pass
    return found
