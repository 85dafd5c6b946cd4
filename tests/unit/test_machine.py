# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine below an Ollama: with procfs, sysfs and nvidia-smi as they are on machines that are not here."""

from __future__ import annotations

import os
import socket

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _address, _machine

GB = 1000 ** 3
MEMINFO = "MemTotal:       31250000 kB\nMemFree:        100 kB\nSwapTotal:       1953125 kB\n"  # 32 GB, 2 GB
MOUNTS_V1 = ("30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
             "37 30 0:33 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
             "36 30 0:32 {top} {place} rw,nosuid shared:14 - cgroup cgroup rw,memory\n")
MOUNTS_V2 = "35 24 0:30 {top} {place} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def no_smi(arguments):
    raise FileNotFoundError(arguments[0])


def smi(out, code=0):
    def run(arguments):
        assert arguments == ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        return code, out, ""
    return run


class Proc:
    """A procfs below `folder`, with processes, and control groups beside it."""

    def __init__(self, folder, meminfo=MEMINFO):
        self.root, self.groups, self.sysfs = str(folder / "proc"), folder / "cgroup", str(folder / "sys")
        self.write(folder / "proc" / "meminfo", meminfo)

    @staticmethod
    def write(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def process(self, pid, name="ollama", command=("/usr/bin/ollama", "serve"), cgroup="", environ=None, network=None, listens=True, socket=None):
        """network: name of its namespace, None where that may not be seen; listens: on port 11434 there, by `socket` (inode, None: not seen)."""
        folder = self.groups.parent / "proc" / str(pid)
        self.write(folder / "comm", name + "\n")
        self.write(folder / "cmdline", "\0".join(command) + "\0")
        self.write(folder / "cgroup", cgroup)
        if environ is not None:
            self.write(folder / "environ", environ)
        if network:
            (folder / "ns").mkdir()
            os.symlink("net:[%s]" % network, folder / "ns" / "net")
        if listens:
            self.write(folder / "net" / "tcp", "  sl\n   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000"
                       "     0        0 4711 1 0 100 0 0 10 0\n")
        if socket:
            (folder / "fd").mkdir()
            os.symlink("socket:[%s]" % socket, folder / "fd" / "3")

    def mounts(self, text, top="/"):
        self.write(self.groups.parent / "proc" / "self" / "mountinfo", text.format(top=top, place=self.groups))

    def limit(self, group, **files):
        for name, value in files.items():
            self.write(self.groups / group / name.replace("_in_", "-in-").replace("_", ".").replace("-in-", "_in_"), "%s\n" % value)

    def card(self, number, name, value):
        path = self.groups.parent / "sys" / "class" / "drm" / ("card%d" % number) / name
        self.write(path, "%s\n" % value)

    def pci(self, vendor, kind="0x030000"):
        for name, value in (("vendor", vendor), ("class", kind)):
            self.write(self.groups.parent / "sys" / "bus" / "pci" / "devices" / "0000:01:00.0" / name, value + "\n")

    def memory(self, run=no_smi):
        return _machine.memory(_machine.server(11434, self.root), run, self.sysfs)


@pytest.fixture()
def proc(tmp_path):
    return Proc(tmp_path)


def test_a_plain_machine_is_its_memory_and_its_swap(proc):
    proc.process(42)
    found = proc.memory()
    assert (found.ram, found.swap, found.vram, found.limited) == (32 * GB, 2 * GB, 0, False)
    assert (found.total, found.fast) == (34 * GB, 32 * GB)
    assert str(found) == "32.0 GB of memory, 2.0 GB of swap, no GPU that says how much it has"


@pytest.mark.parametrize("cgroup, top, files, ram, swap", [
    # Docker: the limit of the container, on the host's own mount and in a namespace
    ("0::/system.slice/docker-abc.scope", "/", {"system.slice/docker-abc.scope": {"memory_max": 8 * GB, "memory_swap_max": 0}}, 8 * GB, 0),
    ("0::/docker/abc", "/docker/abc", {".": {"memory_max": 4 * GB, "memory_swap_max": "max"}}, 4 * GB, 2 * GB),
    # systemd: MemoryMax of a slice above the service
    ("0::/system.slice/ollama.service", "/", {"system.slice": {"memory_max": 16 * GB, "memory_swap_max": "max"},
                                              "system.slice/ollama.service": {"memory_max": "max", "memory_swap_max": GB}}, 16 * GB, 2 * GB),
    ("0::/system.slice/ollama.service", "/", {"system.slice/ollama.service": {"memory_max": "max"}}, 32 * GB, 2 * GB),
    ("0::/../elsewhere", "/docker/abc", {".": {"memory_max": 5 * GB}}, 5 * GB, 2 * GB),
    ("0::/", "/", {}, 32 * GB, 2 * GB),
])
def test_limits_of_control_groups_of_version_2(proc, cgroup, top, files, ram, swap):
    proc.process(42, cgroup=cgroup + "\n")
    proc.mounts(MOUNTS_V2, top)
    for group, values in files.items():
        proc.limit(group, **values)
    found = proc.memory()
    assert (found.ram, found.swap, found.limited) == (ram, swap, ram < 32 * GB)


@pytest.mark.parametrize("cgroup, top, files, ram, swap", [
    ("4:memory:/docker/abc\n1:name=systemd:/x", "/", {"docker/abc": {"memory_limit_in_bytes": 8 * GB, "memory_memsw_limit_in_bytes": 9 * GB}}, 8 * GB, GB),
    ("4:memory:/docker/abc", "/docker/abc", {".": {"memory_limit_in_bytes": 8 * GB, "memory_memsw_limit_in_bytes": 8 * GB}}, 8 * GB, 0),
    ("4:memory:/docker/abc", "/", {"docker/abc": {"memory_limit_in_bytes": 9223372036854771712}}, 32 * GB, 2 * GB),
])
def test_limits_of_control_groups_of_version_1(proc, cgroup, top, files, ram, swap):
    proc.process(42, cgroup=cgroup + "\n0::/\n")
    proc.mounts(MOUNTS_V1, top)
    for group, values in files.items():
        proc.limit(group, **values)
    found = proc.memory()
    assert (found.ram, found.swap) == (ram, swap)


def test_nvidia_says_what_it_has(proc):
    proc.process(42)
    proc.pci("0x10de")
    found = proc.memory(smi("24564\n24564\n"))
    assert found.vram == 2 * 24564 * 1024 ** 2 and found.fast == found.vram
    assert str(found).endswith("51.5 GB of video memory")


@pytest.mark.parametrize("run", [no_smi, smi("", 9), smi("\n"), smi("[N/A]\n"), smi("No devices were found\n", 0)])
def test_an_nvidia_gpu_that_says_nothing_makes_the_sum_unknown(proc, run):
    proc.process(42)
    proc.pci("0x10de")
    found = proc.memory(run)
    assert (found.vram, found.total, found.fast) == (None, None, None)


def test_an_nvidia_device_that_is_no_gpu_does_not_count(proc):
    proc.process(42)
    proc.pci(_machine.NVIDIA, "0x040300")  # its sound
    assert proc.memory().vram == 0


def test_amd_and_intel_cards_are_in_sysfs(proc):
    proc.process(42)
    proc.card(0, "device/mem_info_vram_total", 16 * GB)
    proc.card(1, "lmem_total_bytes", 8 * GB)
    assert proc.memory().vram == 24 * GB


def test_cards_of_all_makers_count_together(proc):
    proc.process(42)
    proc.card(0, "device/mem_info_vram_total", 16 * GB)
    proc.card(1, "device/mem_info_vram_total", "unknown")
    found = proc.memory(smi("24564\n\n 24564 \n"))
    assert (found.vram, found.gpus) == (16 * GB + 2 * 24564 * 1024 ** 2, 3)
    assert (found.total, found.fast) == (found.ram + found.swap + found.vram, found.vram)
    assert (proc.memory(smi("24564\n", 9)).vram, proc.memory().gpus) == (16 * GB, 1), "without an NVIDIA GPU its program need not work"
    proc.pci(_machine.NVIDIA, "0x030200")  # without a screen
    assert (proc.memory(smi("24564\n", 9)).vram, proc.memory(smi("24564\nx\n")).gpus) == (None, None)


def test_a_limit_is_told_as_one_and_swap_that_is_not_there_not_at_all(tmp_path):
    proc = Proc(tmp_path, "MemTotal:       31250000 kB\n")
    proc.process(42, cgroup="0::/x\n")
    proc.mounts(MOUNTS_V2)
    proc.limit("x", memory_max=8 * GB, memory_swap_max=GB)
    assert str(proc.memory()) == "8.0 GB of memory, the limit of its container or service, no GPU that says how much it has" and proc.memory().swap == 0


def test_limits_that_no_mount_shows_are_none(proc):
    proc.process(42, cgroup="0::/x\n4:memory:/y\n")
    assert not proc.memory().limited
    (proc.groups.parent / "proc" / "self").mkdir()
    (proc.groups.parent / "proc" / "self" / "mountinfo").write_bytes(b"22 1 8:1 / /srv/\xe9 rw - ext4 /dev/sda1 rw\n")
    assert not proc.memory().limited


def test_the_narrowest_of_all_limits_counts(proc):
    proc.process(42, cgroup="0::/a/b\n5:cpu,memory:/c\n3:cpu:/d\n")
    proc.mounts(MOUNTS_V1 + MOUNTS_V2)
    proc.limit("a", memory_max=8 * GB, memory_swap_max=GB)
    proc.limit("a/b", memory_max=9 * GB, memory_swap_max="max")
    assert (proc.memory().ram, proc.memory().swap) == (8 * GB, GB)
    proc.limit("c", memory_limit_in_bytes=7 * GB, memory_memsw_limit_in_bytes=7 * GB)
    proc.limit("d", memory_limit_in_bytes=GB)
    assert (proc.memory().ram, proc.memory().swap) == (7 * GB, 0)


@pytest.mark.parametrize("url, port", [("http://localhost", 80), ("https://localhost", 443), ("http://127.0.0.1:11435/x", 11435), ("https://[::1]:8443", 8443),
                                       ("http://192.0.2.10", None)])
def test_the_port_of_an_address_is_looked_for_on_this_machine_only(proc, monkeypatch, url, port):
    monkeypatch.setattr(_machine, "server", lambda port, root: (port, root))
    assert _machine.at(url, proc.root) == (port and (port, proc.root))


def test_which_process_is_a_server(proc):
    assert _machine.server(11434, proc.root) is None
    proc.process(7, "ollama", ("/usr/bin/ollama", "runner", "--model", "x"))
    proc.process(8, "python3", ("python3", "serve"))
    assert _machine.server(11434, proc.root) is None
    proc.process(42)
    assert _machine.server(11434, proc.root).pid == 42
    assert _machine.server(11435, proc.root) is None, "it listens somewhere else"


@pytest.mark.parametrize("processes, pid", [
    ({42: {"socket": 4711}, 43: {"socket": 99}}, 42),
    ({42: {"network": "host", "socket": 99, "listens": False}}, None),  # its port is another one, so what answers is none of ours
    ({42: {"network": "host", "socket": 99, "listens": False}, 43: {"network": "container", "listens": False}}, 43),  # by a published port
    ({42: {"network": "one", "listens": False}, 43: {"network": "two", "listens": False}}, None),  # two containers
    ({42: {"network": "host", "socket": 4711}, 43: {"network": "container", "socket": 4711}}, 42),  # a container has the same port in its own network
    ({42: {}, 43: {}}, None),  # two servers of others, and nobody can tell whose socket it is
])
def test_which_server_it_is(proc, processes, pid):
    (proc.groups.parent / "proc" / "self" / "ns").mkdir(parents=True)
    os.symlink("net:[host]", proc.groups.parent / "proc" / "self" / "ns" / "net")
    for number, more in processes.items():
        proc.process(number, **more)
    found = _machine.server(11434, proc.root)
    assert (found and found.pid) == pid


def test_without_procfs_nothing_is_known(tmp_path):
    assert _machine.at("http://127.0.0.1:11434", str(tmp_path / "none")) is None
    proc = Proc(tmp_path, "")
    proc.process(42)
    assert proc.memory() is None


@pytest.mark.parametrize("environ, run, limits", [
    (None, no_smi, {"num_parallel": None, "max_queue": None, "context_length": None, "max_loaded_models": None, "keep_alive": None,
                    "load_timeout": None, "kv_cache_type": None}),
    ("A=1\0", no_smi, {"num_parallel": 1, "max_queue": 512, "context_length": 4096, "max_loaded_models": 3, "keep_alive": "5m",
                       "load_timeout": "5m", "kv_cache_type": "f16"}),
    ("OLLAMA_NUM_PARALLEL=4\0OLLAMA_MAX_LOADED_MODELS=\"2\"\0OLLAMA_CONTEXT_LENGTH= 8192\0OLLAMA_KEEP_ALIVE=-1\0OLLAMA_KV_CACHE_TYPE=q8_0\0"
     "OLLAMA_MAX_QUEUE=many\0OLLAMA_LOAD_TIMEOUT=soon\0", no_smi,
     {"num_parallel": 4, "max_queue": 512, "context_length": 8192, "max_loaded_models": 2, "keep_alive": "-1", "load_timeout": "5m",
      "kv_cache_type": "q8_0"}),
    ("A=1\0", smi("24564\n24564\n"), {"context_length": 262144, "max_loaded_models": 6}),
    ("A=1\0", smi("24564\n"), {"context_length": 32768, "max_loaded_models": 3}),
])
def test_the_limits_it_works_with(proc, environ, run, limits):
    proc.process(42, environ=environ)
    found = _machine.below("http://127.0.0.1:11434", run, proc.root, proc.sysfs)
    assert found[0].ram == 32 * GB and {key: found[1][key] for key in limits} == limits


def test_the_limits_below_a_gpu_that_says_nothing(proc):
    proc.process(42, environ="")
    proc.pci(_machine.NVIDIA)
    found = _machine.below("http://127.0.0.1:11434", no_smi, proc.root, proc.sysfs)[1]
    assert (found["context_length"], found["max_loaded_models"], found["num_parallel"]) == (None, None, 1)


@pytest.mark.parametrize("environ, path", [
    ("OLLAMA_MODELS=/big/models\0HOME=/root\0", "/big/models"), ("HOME=/usr/share/ollama\0", "/usr/share/ollama/.ollama/models"),
    ("OLLAMA_MODELS=models\0", ""), ("", ""), (None, ""), ("OLLAMA_MODELS= '/big/models' \0", "/big/models"),
    ("OLLAMA_MODELS=\"\"\0HOME=/h\0", "/h/.ollama/models"),
    ("A=1\0", ""),
])
def test_where_its_models_are(proc, environ, path):
    proc.process(42, environ=environ)
    here = proc.groups.parent / "proc"
    inside = str(here / "42" / "root") + path if path else ""
    assert _machine.store_path("http://127.0.0.1:11434", proc.root) == inside, "whose files it sees is not known"
    for place, kind in ((here / "self", "host"), (here / "42", "host")):
        (place / "ns").mkdir(parents=True)
        os.symlink("mnt:[%s]" % kind, place / "ns" / "mnt")
    assert _machine.store_path("http://127.0.0.1:11434", proc.root) == path
    (here / "42" / "ns" / "mnt").unlink()
    os.symlink("mnt:[container]", here / "42" / "ns" / "mnt")
    assert _machine.store_path("http://127.0.0.1:11434", proc.root) == inside


def test_another_machine_is_not_guessed_at(proc):
    proc.process(42)
    memory, limits = _machine.below("http://192.0.2.10:11434", no_smi, proc.root, proc.sysfs)
    assert memory is None and set(limits.values()) == {None}


def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


@pytest.mark.parametrize("host, here", [("127.0.0.1", True), ("[::1]", True), ("localhost", True), (socket.gethostname(), True), (own_address(), True),
                                        ("192.0.2.10", False), ("gpu.example.org", False), ("0.0.0.0", False), ("", False)])
def test_which_addresses_are_this_machine(host, here, tmp_path):
    assert _address.is_here(host, str(tmp_path / "none")) is here


def test_a_kernel_that_takes_any_address_proves_nothing(tmp_path):
    (tmp_path / "sysctl").write_text("1\n")
    assert _address.is_here("127.0.0.1", str(tmp_path / "sysctl"))
    assert own_address().startswith("127.") or not _address.is_here(own_address(), str(tmp_path / "sysctl"))
