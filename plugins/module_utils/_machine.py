# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine below an Ollama that runs on this host: its process, its memory, its GPUs. Internal to this collection.

Read are proc(5), cgroups(7), the kernel's DRM drivers and nvidia-smi. An Ollama on another machine is never guessed at.
"""

from __future__ import annotations

import glob
import os
import re
from urllib.parse import urlsplit

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _address, _limits, _process
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text

NVIDIA = "0x10de"
_NO_LIMIT = 1 << 60  # version 1 of cgroups writes a huge number where there is no limit


class Memory:
    """Bytes that models may take. `ram` (int: what the kernel has, or the limit of the server's container or service), `limited` (bool: it
    is such a limit), `swap` (int), `vram` (int, or None where there is a GPU of which nobody says how much it has), `gpus` (int, or None likewise)."""

    def __init__(self, ram, swap=0, vram=0, limited=False, gpus=0):
        self.ram, self.swap, self.vram, self.limited, self.gpus = ram, swap, vram, limited, gpus

    @property
    def total(self):
        """Bytes at the very most, or None where they are unknown."""
        return None if self.vram is None else self.ram + self.swap + self.vram

    @property
    def fast(self):
        """Bytes that models share without pushing each other out: the GPUs', or where there are none the main memory's; None: unknown."""
        return None if self.vram is None else self.vram or self.ram

    def __str__(self):
        words = ["%s of memory%s" % (size_text(self.ram), ", the limit of its container or service" if self.limited else "")]
        if self.swap:
            words.append("%s of swap" % size_text(self.swap))
        words.append("%s of video memory" % size_text(self.vram) if self.vram else "no GPU that says how much it has")
        return ", ".join(words)


def below(url, run, root="/proc", sysfs="/sys"):
    """(Memory, {limit: value} as _limits.effective gives them) of the Ollama at `url` (str). Memory is None, and so is each limit, where it
    runs on another machine or may not be looked at. run, sysfs: see memory()."""
    process = at(url, root)
    found = memory(process, run, sysfs) if process else None
    environment = process.environment() if process else None
    return found, _limits.effective(environment, found.vram if found else None, found.gpus if found else None)


def at(url, root="/proc"):
    """The Process of the Ollama server at `url` (str), or None: it runs on another machine, or nobody can tell which one it is."""
    parts = urlsplit(url)
    return server(parts.port or (443 if parts.scheme == "https" else 80), root) if _address.is_here(parts.hostname or "") and os.path.isdir(root) else None


def store_path(url, root="/proc"):
    """Where the Ollama at `url` (str) keeps its models, as this host sees it, from the environment of its process; "" where that may not be
    read. What lies in a container is reached by way of its process."""
    process = at(url, root)
    environment = process.environment() if process else None
    if not environment:
        return ""
    path = environment.get("OLLAMA_MODELS", "").strip().strip("\"'") or os.path.join(environment.get("HOME", ""), ".ollama", "models")
    if not os.path.isabs(path):
        return ""
    return path if process.other_files() is False else os.path.join(root, str(process.pid), "root", path.lstrip("/"))


def server(port, root="/proc"):
    """The Process of the Ollama server on this host that listens on `port` (int), or None.

    Whose socket it is counts, and in our own network before that of a container, which may have the same port in its own. Behind Docker's
    published port the server listens on another one, in a network namespace of its own; and who is not root sees no sockets of others. Then
    the only server that it can be is taken.
    """
    found = [one for one in (_process.Process(int(name), root) for name in os.listdir(root) if name.isdigit())
             if one.name() == "ollama" and "serve" in one.command()]
    listening = {one: {inode for dummy, inode, dummy2 in _process.listeners(port, os.path.join(root, str(one.pid)))} for one in found}
    sure = [one for one in found if one.sockets() & listening[one]]
    inside = [one.other_network() for one in found]
    maybe = [one for one, other in zip(found, inside) if other or (other is None and listening[one])]
    here = [one for one, other in zip(found, inside) if one in sure and other is False]
    likely = here or sure or maybe
    return likely[0] if len(likely) == 1 else None


def memory(process, run, sysfs="/sys"):
    """The Memory for a server's Process, or None where procfs does not say it.

    run: callable(list of str) -> (rc, stdout, stderr), which raises OSError for a program that is not there. sysfs: where that is mounted.
    """
    kernel = _meminfo(process.root)
    if not kernel:
        return None
    limit, with_swap = _allowed(process)
    ram = min(kernel["MemTotal"], limit)
    swap = min(kernel.get("SwapTotal", 0), max(0, with_swap - limit) if with_swap < _NO_LIMIT else _NO_LIMIT)
    cards = _cards(run, sysfs)
    vram, gpus = (None, None) if cards is None else (sum(cards), len(cards))
    return Memory(ram, swap, vram, limited=limit < kernel["MemTotal"], gpus=gpus)


def _meminfo(root):
    text = _text(os.path.join(root, "meminfo")) or ""
    found = {match.group(1): int(match.group(2)) * 1024 for match in re.finditer(r"(?m)^(MemTotal|SwapTotal):\s+(\d+) kB$", text)}
    return found if "MemTotal" in found else {}


def _allowed(process):
    """(memory, memory and swap) in bytes that the control groups of a process allow; _NO_LIMIT where they do not say."""
    limit = both = _NO_LIMIT
    for controllers, path in process.cgroups().items():
        kind = "cgroup2" if controllers == "" else "cgroup"
        if kind == "cgroup" and "memory" not in controllers.split(","):
            continue
        names = ("memory.max", "memory.swap.max") if kind == "cgroup2" else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        for folder in _folders(process.root, kind, path):
            here, more = (_number(os.path.join(folder, name)) for name in names)
            limit = min(limit, here)
            # Version 2 counts swap by itself, version 1 together with memory.
            both = min(both, here + more if kind == "cgroup2" else more)
    return limit, both


def _folders(root, kind, path):
    """The folders (list of str) of a control group and of those above it, as far as this mount namespace shows them."""
    for line in (_text(os.path.join(root, "self", "mountinfo")) or "").splitlines():
        fields, dummy, more = line.partition(" - ")
        options = more.split(" ")
        if options[0] != kind or kind == "cgroup" and "memory" not in options[-1].split(","):
            continue
        top, place = fields.split(" ")[3:5]
        inner = os.path.relpath(path, top) if path.startswith(top.rstrip("/") + "/") else "."
        parts = [] if inner == "." or ".." in inner.split("/") else inner.split("/")
        return [os.path.join(place, *parts[:depth]) for depth in range(len(parts), -1, -1)]
    return []


def _number(path):
    text = (_text(path) or "").strip()
    return int(text) if text.isdigit() else _NO_LIMIT


def _cards(run, sysfs):
    """Bytes of video memory of each GPU that has its own (list of int), or None where one does not say."""
    found = []
    for card in sorted(glob.glob(os.path.join(sysfs, "class", "drm", "card*"))):
        sizes = [_number(os.path.join(card, name)) for name in ("device/mem_info_vram_total", "lmem_total_bytes")]  # amdgpu, i915
        found += [size for size in sizes if size < _NO_LIMIT]
    nvidia = _nvidia(run)
    if nvidia is None and NVIDIA in [(_text(one) or "").strip() for one in glob.glob(os.path.join(sysfs, "bus", "pci", "devices", "*", "vendor"))
                                     if (_text(os.path.join(os.path.dirname(one), "class")) or "").startswith("0x03")]:
        return None
    return found + (nvidia or [])


def _nvidia(run):
    """Bytes of each GPU (list of int), or None where nvidia-smi is not there or does not know."""
    try:
        code, out, dummy = run(["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"])
    except OSError:
        return None
    figures = [line.strip() for line in out.splitlines() if line.strip()]
    if code or not figures or not all(one.isdigit() for one in figures):
        return None
    return [int(one) * 1024 * 1024 for one in figures]


def _text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as text:
            return text.read()
    except OSError:
        return None
