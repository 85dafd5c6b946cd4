# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service manager systemd: texts of units, and what it says about one. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

# The last value of a variable counts, and drop-ins are read in the order of their names: what is declared wins over
# other drop-ins, which keep the variables that are not declared.
DROP_IN_NAME = "zz-localmodels.conf"

MANAGED = "# Written by Ansible (localmodels.fastgpt). Changes made here are replaced."

PROPERTIES = ("LoadState", "ActiveState", "SubState", "UnitFileState", "MainPID", "NeedDaemonReload", "FragmentPath",
              "DropInPaths", "EnvironmentFiles", "ExecMainStatus", "NRestarts")


def unit_text(program, user, group):
    """The unit that runs `program` serve. Settings live in the drop-in: Ollama's own installer rewrites the unit."""
    return "\n".join((
        MANAGED,
        "[Unit]",
        "Description=Ollama Service",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "ExecStart=%s serve" % program,
        "User=%s" % user,
        "Group=%s" % group,
        "Restart=always",
        "RestartSec=3",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ))


def drop_in_text(environment):
    """The drop-in that sets `environment` ({name: str})."""
    lines = ['Environment="%s=%s"' % (name, _escaped(environment[name])) for name in sorted(environment)]
    return "\n".join([MANAGED, "[Service]"] + lines + [""])


def _escaped(value):
    """Inside double quotes: backslash and quote are escaped, % begins a specifier (systemd.exec, systemd.unit)."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


class Service:
    """One unit. run: callable(list of str) -> (rc, stdout, stderr). name: such as ollama.service."""

    def __init__(self, run, name):
        self._run = run
        self.name = name

    def state(self):
        """What systemd knows of the unit: {property: str} for PROPERTIES."""
        out = self._call("show", "--property=" + ",".join(PROPERTIES), self.name)
        known = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return {name: known.get(name, "") for name in PROPERTIES}

    def reload_definitions(self):
        self._call("daemon-reload")

    def enable(self):
        self._call("enable", "--quiet", self.name)

    def disable(self):
        self._call("disable", "--quiet", self.name)

    def restart(self):
        """Stop and start. systemd says yes even where the program dies at once: ask the program itself."""
        self._call("restart", self.name)

    def stop(self):
        self._call("stop", self.name)

    def journal(self, lines, since):
        """The last `lines` (int) log lines of the unit since a time (seconds since 1970); empty where there is no journal."""
        rc, out, dummy = self._run(["journalctl", "--unit", self.name, "--since", "@%d" % since, "--lines", str(lines),
                                    "--no-pager", "--output", "cat"])
        return [line for line in out.splitlines() if line.strip()] if rc == 0 else []

    def _call(self, *arguments):
        rc, out, err = self._run(["systemctl"] + list(arguments))
        if rc:
            raise LocalModelsError("systemctl %s fails: %s" % (" ".join(arguments), " ".join((err or out).split())[:300]),
                                   "Look at `systemctl status %s` and `journalctl -u %s`" % (self.name, self.name))
        return out
