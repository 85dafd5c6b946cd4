# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible needs to reach the lab's hosts: an inventory and an ssh configuration, written to the lab's folder."""

from __future__ import annotations

from . import secrets


def write(lab, hosts: dict, project_dir: str) -> None:
    """``hosts``: name -> Host. ``project_dir``: where FastGPT lies on those that have it."""
    control = lab.control_path()
    control.mkdir(mode=0o700, exist_ok=True)
    lab.place.mkdir(parents=True, exist_ok=True)
    (lab.place / "inventory.yml").write_text(_inventory(lab, hosts, project_dir))
    (lab.place / "ssh_config").write_text(_ssh_config(lab, hosts))


def _inventory(lab, hosts: dict, project_dir: str) -> str:
    ssh = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ControlMaster=auto -o ControlPersist=600s"
    lines = [
        "# Written by tests/lab/lab.py",
        "all:",
        "  vars:",
        "    ansible_user: root",
        f"    ansible_ssh_private_key_file: {secrets.SSH_KEY}",
        f"    ansible_ssh_args: {ssh}",
        f'    ansible_control_path: "{lab.control_path()}/%%h-%%p-%%r"',
        "    ansible_pipelining: true",
        "    ansible_python_interpreter: /usr/bin/python3",
        "  hosts:",
    ]
    for name in hosts:
        lines += [f"    {name}:", f"      ansible_host: {lab.address(name)}"]
    lines += ["  children:", "    fastgpt:", "      hosts:"]
    for name, host in hosts.items():
        if host.compose:
            lines += [f"        {name}:", f"          fastgpt_project_dir: {project_dir}"]
    return "\n".join(lines) + "\n"


def _ssh_config(lab, hosts: dict) -> str:
    lines = ["# Written by tests/lab/lab.py: ssh -F THIS-FILE box"]
    for name in hosts:
        lines += [f"Host {name}", f"  HostName {lab.address(name)}"]
    lines += [
        "Host *", "  User root", f"  IdentityFile {secrets.SSH_KEY}", "  IdentitiesOnly yes", "  StrictHostKeyChecking no",
        "  UserKnownHostsFile /dev/null", "  LogLevel ERROR", "  ControlMaster auto", "  ControlPersist 600s",
        f"  ControlPath {lab.control_path()}/%h-%p-%r",
    ]
    return "\n".join(lines) + "\n"
