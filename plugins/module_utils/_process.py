# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Linux says about running processes and listening ports (proc(5)). Internal to this collection."""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import sys

_LISTEN = "0A"


class Process:
    """One process. pid: int, 0 for one that is only known by its socket. uid: of its user where known (int), else None.
    root: where procfs is mounted."""

    def __init__(self, pid, root="/proc", uid=None):
        self.pid = pid
        self.uid = uid
        self.root = root
        self._folder = os.path.join(root, str(pid))

    def environment(self):
        """Its variables at start {name: value}, or None where the process is gone or may not be looked at."""
        raw = self._read("environ")
        if raw is None:
            return None
        pairs = (one.partition("=") for one in raw.split("\0") if one)
        return {name: value for name, dummy, value in pairs}

    def executable(self):
        """The path of its program, or "". Linux adds " (deleted)" where the file was replaced."""
        try:
            return os.readlink(os.path.join(self._folder, "exe"))
        except OSError:
            return ""

    def groups(self):
        """Its supplementary group ids (set of int)."""
        match = re.search(r"(?m)^Groups:(.*)$", self._read("status") or "")
        return {int(gid) for gid in match.group(1).split()} if match else set()

    def owner(self):
        """The uid (int) it runs under, or None."""
        match = re.search(r"(?m)^Uid:\s+(\d+)", self._read("status") or "")
        return int(match.group(1)) if match else None

    def name(self):
        """Its short name; the command line is not shown to anybody, for it may hold passwords."""
        return (self._read("comm") or "").strip()

    def command(self):
        """Its command line (list of str), for us to recognize it; never for people."""
        return [word for word in (self._read("cmdline") or "").split("\0") if word]

    def cgroups(self):
        """The control groups it is in (cgroups(7)): {controllers (str), "" for version 2: path (str)}."""
        rows = [line.split(":", 2) for line in (self._read("cgroup") or "").splitlines()]
        return {row[1]: row[2] for row in rows if len(row) == 3}

    def other_network(self):
        """Whether it lives in another network namespace, as in a container; None where that may not be looked at."""
        return self._elsewhere("net")

    def other_files(self):
        """Whether it sees other file systems than we do, likewise."""
        return self._elsewhere("mnt")

    def _elsewhere(self, kind):
        try:
            return os.readlink(os.path.join(self._folder, "ns", kind)) != os.readlink(os.path.join(self.root, "self", "ns", kind))
        except OSError:
            return None

    def unit(self):
        """The systemd service it belongs to, such as nginx.service, or ""."""
        match = re.search(r"/([^/\n]+\.service)(?:/|$)", self._read("cgroup") or "", re.MULTILINE)
        return match.group(1) if match else ""

    def sockets(self):
        """Inodes (set of str) of the sockets it holds."""
        folder = os.path.join(self._folder, "fd")
        found = set()
        try:
            handles = os.listdir(folder)
        except OSError:
            return found
        for handle in handles:
            try:
                target = os.readlink(os.path.join(folder, handle))
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[len("socket:["):-1])
        return found

    def _read(self, name):
        try:
            with open(os.path.join(self._folder, name), encoding="utf-8", errors="replace") as text:
                return text.read()
        except OSError:
            return None


def listeners(port, root="/proc"):
    """Sockets that listen on TCP `port` (int): list of (address (str), inode (str), uid (int))."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            with open(os.path.join(root, "net", name), encoding="ascii") as table:
                rows = table.read().splitlines()[1:]
        except OSError:
            continue
        found += [row for row in (_listening(line.split(), port) for line in rows) if row]
    return found


def _listening(fields, port):
    if len(fields) < 10 or fields[3] != _LISTEN:
        return None
    address, dummy, number = fields[1].partition(":")
    return (_unpacked(address), fields[9], int(fields[7])) if int(number, 16) == port else None


def _unpacked(text, order=sys.byteorder):
    """The kernel prints addresses as 32-bit words in the machine's own byte order."""
    words = [bytes.fromhex(text[i:i + 8]) for i in range(0, len(text), 8)]
    packed = b"".join(word[::-1] if order == "little" else word for word in words)
    address = ipaddress.ip_address(packed)
    return str(getattr(address, "ipv4_mapped", None) or address)


def collide(one, other):
    """Whether two listen addresses (str) on the same port exclude each other."""
    if one == other:
        return True
    return any(_everywhere(address) for address in (one, other))


def _everywhere(address):
    try:
        return ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return True


def holders(port, address, root="/proc"):
    """The processes (list of Process) that keep anyone else from listening on `address`:`port`.

    Empty where nobody does; a Process with pid 0 and its uid where somebody does who may not be looked at: in a container
    even root needs a capability for that.
    """
    inodes = {inode: uid for bound, inode, uid in listeners(port, root) if collide(bound, address)}
    if not inodes:
        return []
    pids = [int(name) for name in os.listdir(root) if name.isdigit()]
    found = [Process(pid, root) for pid in sorted(pids)]
    return ([process for process in found if process.sockets().intersection(inodes)]
            or [Process(0, root, uid) for uid in sorted(set(inodes.values()))])


def describe(process):
    """A Process for people: its name and number, or at least its user."""
    if not process.pid:
        try:
            user = pwd.getpwuid(process.uid).pw_name
        except KeyError:
            user = str(process.uid)
        return "a process of user %s" % user
    unit = process.unit()
    return "%s (process %d%s)" % (process.name() or "a process", process.pid, ", %s" % unit if unit else "")
