# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker engine to build the lab on: the one that runs, or one of our own."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess

from .shell import CACHE, LabError, lock, need, run, say, succeeds, wait_for

PID_FILE = CACHE / "dockerd.pid"
LOG = CACHE / "dockerd.log"
TOOLS = (("openssl", "openssl"), ("ssh", "openssh-client"), ("ssh-keygen", "openssh-client"), ("debootstrap", "debootstrap"))


def answers() -> bool:
    return succeeds("docker", "version", timeout=20)


def ensure() -> None:
    """A Docker engine answers. Starts one in a session of its own where none runs (needs root)."""
    with lock("engine"):
        if answers():
            return
        if os.geteuid() != 0:
            raise LabError("no Docker engine answers, and only root can start one: run as root, or start Docker first")
        # All that the lab will need from Debian in one go: each installation reads the lists of packages anew.
        need(("docker", "docker.io"), ("dockerd", "docker.io"), ("iptables", "iptables"), *TOOLS)
        if answers():  # a machine with systemd starts it on installation
            return
        _start()


def _start() -> None:
    dockerd = shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")
    for file, program in (("docker.pid", "dockerd"), ("docker/containerd/containerd.pid", "containerd")):
        _forget_dead(pathlib.Path("/var/run", file), program)
    say(f"starting a Docker engine (log: {LOG.relative_to(CACHE.parent.parent)})")
    with open(LOG, "ab") as log:
        process = subprocess.Popen(
            [dockerd], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    PID_FILE.write_text(str(process.pid))

    def ready() -> bool:
        if process.poll() is not None:
            tail = LOG.read_text(errors="replace").splitlines()[-8:]
            raise LabError("the Docker engine did not start:\n" + "\n".join(tail))
        return answers()

    wait_for("the Docker engine", ready, seconds=60, pause=0.5)


def started_here() -> bool:
    """Whether an engine runs that this checkout has started."""
    return _runs(PID_FILE, "dockerd")


def _runs(pid_file: pathlib.Path, program: str) -> bool:
    try:
        status = pathlib.Path("/proc", str(int(pid_file.read_text())), "status").read_text()
    except (OSError, ValueError):
        return False
    return f"Name:\t{program}\n" in status and "State:\tZ" not in status  # Z: ended, and nobody has asked how


def _forget_dead(pid_file: pathlib.Path, program: str) -> None:
    """An engine that ended hard left its number, which may by now be somebody else's: the next one would refuse to start."""
    if not _runs(pid_file, program):
        pid_file.unlink(missing_ok=True)


def stop() -> None:
    """End the engine that ``ensure`` started; never one that was there before."""
    if started_here():
        say("stopping the Docker engine that was started here")
        pid = int(PID_FILE.read_text())
        os.kill(pid, signal.SIGTERM)
        wait_for("the Docker engine to end", lambda: not started_here(), seconds=60)
    PID_FILE.unlink(missing_ok=True)


def cgroup_version() -> str:
    return run("docker", "info", "--format", "{{.CgroupVersion}}").strip() or "1"
