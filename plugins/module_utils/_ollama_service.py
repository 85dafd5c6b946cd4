# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ollama as a systemd service: what is wanted, what differs, and the way there and back. Internal to this collection."""

from __future__ import annotations

import os

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _release, _systemd
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import fingerprint, masked

SERVICE = "ollama.service"
HOME = "/usr/share/ollama"
MARK = "LOCALMODELS_SETTINGS"


class Wanted:
    """What shall be. version, install_dir, bin_dir, user, group: str; listen: Listen; store_path: str, "" for the usual place;
    environment: {name: str}; timeout: seconds; unit_dir: where systemd looks for units."""

    def __init__(self, version, install_dir, bin_dir, user, group, listen, store_path, environment, timeout,
                 unit_dir="/etc/systemd/system"):
        self.version = version
        self.install_dir = install_dir
        self.user = user
        self.group = group
        self.listen = listen
        self.store_path = store_path
        self.declared = environment
        self.timeout = timeout
        self.program = _release.program(install_dir, version)
        self.link = os.path.join(bin_dir, "ollama")
        self.unit_path = os.path.join(unit_dir, SERVICE)
        self.drop_in_path = os.path.join(unit_dir, SERVICE + ".d", _systemd.DROP_IN_NAME)
        self.unit_text = _systemd.unit_text(self.link, user, group)

    def store(self, home):
        """The model store for a service user with that home."""
        return self.store_path or os.path.join(home, ".ollama", "models")

    def environment(self, home):
        """All variables of the service. The mark tells a process that was started with exactly these from any other."""
        settings = dict(self.declared, OLLAMA_HOST=self.listen.text, OLLAMA_MODELS=self.store(home))
        return dict(settings, **{MARK: fingerprint(settings)})


class Found:
    """What is. home: of the service user, or the one it will get; device_groups: {name: gid}, those that may use a GPU here;
    missing_groups: list of str, those of them to which the user does not belong;
    unit_text, drop_in_text: "" where absent; link: target, "" where absent, None for a program in its place;
    unit: systemd's properties; process: Process or None; version: what the API says, or None; interrupted: whether an earlier play ended in mid-change."""

    def __init__(self, user_exists, home, device_groups, missing_groups, release_present, has_zstd, unit_text, drop_in_text, link, unit,
                 process, version, interrupted=False):
        self.user_exists = user_exists
        self.home = home
        self.device_groups = device_groups
        self.missing_groups = missing_groups
        self.release_present = release_present
        self.has_zstd = has_zstd
        self.unit_text = unit_text
        self.drop_in_text = drop_in_text
        self.link = link
        self.unit = unit
        self.process = process
        self.version = version
        self.interrupted = interrupted


def differences(wanted, found):
    """{what: sentence} of all that is not as wanted, in the order in which it is put right. Pure but for reading the process."""
    drop_in = _systemd.drop_in_text(wanted.environment(found.home))
    checks = (
        ("interrupted", found.interrupted and "An earlier play was interrupted before the server had answered"),
        ("user", not found.user_exists and "There is no user %s" % wanted.user),
        ("groups", found.user_exists and found.missing_groups
         and "User %s is not in %s" % (wanted.user, " and ".join(found.missing_groups))),
        ("zstd", not found.release_present and not found.has_zstd and _release.packed_with_zstd(wanted.version)
         and "zstd, which unpacks the release, is not installed"),
        ("release", not found.release_present
         and "Release %s is not installed in %s" % (wanted.version, wanted.install_dir)),
        ("unit", _text_difference(wanted.unit_path, found.unit_text, wanted.unit_text)),
        ("drop_in", _text_difference(wanted.drop_in_path, found.drop_in_text, drop_in)),
        ("link", _link_difference(wanted, found)),
        ("definitions", found.unit["NeedDaemonReload"] == "yes" and "systemd has not read the changed unit yet"),
        ("enabled", found.unit["UnitFileState"] != "enabled" and "The service does not start with the system"),
        ("process", process_difference(wanted, found)),
    )
    return {what: sentence for what, sentence in checks if sentence}


def process_difference(wanted, found):
    """Why the running server is not the wanted one, as a sentence; "" where it is."""
    if found.unit["ActiveState"] != "active" or found.process is None:
        return "The service does not run (it is %s)" % (found.unit["ActiveState"] or "unknown to systemd")
    environment = found.process.environment() or {}
    other = [name for name, value in sorted(wanted.environment(found.home).items()) if environment.get(name) != value]
    if other:
        return "The running server was started with other settings (%s)" % ", ".join(
            [name for name in other if name != MARK] or ["one that is no longer declared"])
    running = found.process.executable()
    # Under another name it is an interpreter or a wrapper, whose path says nothing; then the version below decides.
    if os.path.basename(running).startswith("ollama") and running != os.path.realpath(wanted.program):
        return "The running server is %s" % running
    if not found.process.groups().issuperset(found.device_groups.values()):
        return "The running server does not belong to %s yet" % " and ".join(sorted(found.device_groups))
    if found.version != wanted.version:
        return ("The running server does not answer at %s" % wanted.listen.url if found.version is None
                else "The running server has version %s instead of %s" % (found.version, wanted.version))
    return ""


def file_diffs(wanted, found):
    """Ansible's diffs of the texts and the link, secrets masked: list of dict, one for each that differs."""
    texts = (
        (wanted.unit_path, found.unit_text, wanted.unit_text),
        (wanted.drop_in_path, found.drop_in_text, _systemd.drop_in_text(wanted.environment(found.home))),
        (wanted.link, _link_line(found.link), _link_line(wanted.program)),
    )
    return [{"before_header": path, "after_header": path,
             "before": masked(before), "after": masked(after)}
            for path, before, after in texts if before != after]


def _text_difference(path, found, wanted):
    if found == wanted:
        return ""
    return "%s %s" % (path, "differs" if found else "does not exist")


def _link_difference(wanted, found):
    if found.link == wanted.program:
        return ""
    if found.link is None:
        return "%s is a program of its own, not a link to release %s" % (wanted.link, wanted.version)
    return "%s %s" % (wanted.link, "leads to %s" % found.link if found.link else "does not exist")


def _link_line(target):
    if target is None:
        return "a program of its own\n"
    return "link to %s\n" % target if target else ""
