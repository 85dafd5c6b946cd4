# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engine the docker command talks to, and why it cannot. Internal to this collection. Standard library only.

The command follows, in this order: DOCKER_HOST, DOCKER_CONTEXT, the context chosen in its config.json (docker/cli, cli/command/cli.go).
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

OLDEST_COMPOSE = (2, 17)  # FastGPT's own documents ask for it (reference, section 9)
INSTALL_COMPOSE = "Install it (Debian, Ubuntu: docker-compose-plugin or docker-compose-v2)"
_UNREACHABLE = re.compile(r"Cannot connect to the Docker daemon|[Ii]s the docker daemon running|failed to connect to the docker API|error during connect",
                          re.IGNORECASE)
_SOCKET = re.compile(r"unix://(/[^\s:;,]+)")
_PODMAN = re.compile(r"Emulate Docker CLI using podman|Executing external compose provider|podman-compose", re.IGNORECASE)
_NO_COMPOSE = re.compile(r"unknown command|is not a docker command|unknown shorthand flag|unknown flag: --")


class DockerError(LocalModelsError):
    """The docker command is absent, has no compose, or cannot reach its engine."""


class Surroundings:
    """What decides which engine is meant. environ: mapping, or None for this process's own. which: callable(name) -> path or None.
    sockets: callable -> list of paths."""

    def __init__(self, environ=None, which=shutil.which, sockets=lambda: sorted(glob.glob("/run/user/*/docker.sock"))):
        self.environ, self.which, self.sockets = os.environ if environ is None else environ, which, sockets

    def context(self):
        """Name (str) of the context in force; "" where none is chosen or DOCKER_HOST goes before it."""
        if self.environ.get("DOCKER_HOST"):
            return ""
        name = self.environ.get("DOCKER_CONTEXT") or self._configured()
        return "" if name == "default" else name

    def _configured(self):
        folder = self.environ.get("DOCKER_CONFIG") or os.path.join(self.environ.get("HOME") or os.path.expanduser("~"), ".docker")
        try:
            with open(os.path.join(folder, "config.json"), encoding="utf-8") as source:
                found = json.load(source).get("currentContext")
        except (OSError, ValueError, AttributeError):
            return ""
        return found if isinstance(found, str) else ""

    def is_podman(self):
        """Whether the docker command is Podman under another name: a link to it, or a script that calls it."""
        path = self.which("docker")
        if not path:
            return False
        if os.path.basename(os.path.realpath(path)).startswith("podman"):
            return True
        try:
            with open(path, "rb") as source:
                begin = source.read(1024)
        except OSError:
            return False
        return begin.startswith(b"#!") and b"podman" in begin


def refuse_foreign(run, around):
    """The address (str, "" for the engine's usual socket) of the engine in force. Raises DockerError where it is none on this machine, or Podman.

    run: callable(list of str) -> (rc, stdout, stderr).
    """
    if around.is_podman():
        raise _no_docker("The docker command on this host is Podman")
    address, chosen = around.environ.get("DOCKER_HOST") or "", "DOCKER_HOST is set"
    context = around.context()
    if context:
        rc, out, err = run(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}", context])
        if rc:
            raise DockerError("The docker command cannot use its context %s (%s)" % (context, first_line(err)),
                              "Choose one that exists: docker context use default, as the user of this play")
        address, chosen = out.strip(), "context %s is chosen" % context
    if "podman" in address:
        raise _no_docker("The docker command on this host talks to Podman (%s: %s)" % (chosen, address))
    if _is_remote(address):
        raise DockerError(
            "The docker command on this host talks to the engine of another machine (%s: %s), where neither this project's files nor "
            "this host's addresses count" % (chosen, re.sub(r"//[^/@]*@", "//", address)),
            "Point the play at that machine, or let this user use the engine here: docker context use default, and no DOCKER_HOST")
    return address


def is_rootless(address):
    """Whether an engine's address is that of one without root, which lives in a network of its own."""
    return bool(re.match(r"unix:///(?:var/)?run/user/", address)) or address.endswith("/.docker/run/docker.sock")


def refuse_trouble(rc, err, around):
    """Raise DockerError where the docker command could not reach its engine. err: its error stream."""
    if rc and "permission denied" in err and re.search(r"docker.*(?:socket|\.sock)|socket.*docker", err, re.IGNORECASE):
        raise DockerError("This user may not talk to the Docker engine (%s)" % first_line(err), "Use become: true, or add the user to group docker")
    if rc and _UNREACHABLE.search(err):
        socket = _SOCKET.search(err)
        mend = "Start it: systemctl start docker"
        if socket and is_rootless("unix://" + socket.group(1)):
            mend = "Start it as the user whose it is: systemctl --user start docker; loginctl enable-linger lets it run without a login"
        elif around.sockets():
            mend += ". Or is the rootless engine at %s meant? Then run the play as its user, with DOCKER_HOST=unix://%s and without become" % (
                (around.sockets()[0],) * 2)
        raise DockerError("The Docker engine does not answer (%s)" % first_line(err), mend)


def refuse_no_compose(rc, err, run, around):
    """Raise DockerError where `docker compose` is no Compose of version 2. err: its error stream. run: see refuse_foreign."""
    if _PODMAN.search(err):
        raise _no_docker("The docker command on this host is Podman (%s)" % first_line(err))
    if not rc or not _NO_COMPOSE.search(err):
        return
    mend = INSTALL_COMPOSE
    alone = around.which("docker-compose")
    if alone:
        version = compose_version(run([alone, "version", "--short"])[1])
        if version and version >= (2,):
            mend = "docker-compose %s is here and only has to be found as a plugin: mkdir -p /usr/local/lib/docker/cli-plugins && ln -s %s %s" % (
                _dotted(version), alone, "/usr/local/lib/docker/cli-plugins/docker-compose")
        else:
            mend += "; the old docker-compose%s that is here is not enough" % (" " + _dotted(version) if version else "")
    else:
        mend += "; the old docker-compose command of version 1 is not enough"
    raise DockerError("Docker on this host has no compose plugin of version 2 (%s)" % first_line(err), mend)


def refuse_old_compose(said):
    """Raise DockerError for an answer (str) of `docker compose version --short` that is older than what everything here was tried with."""
    version = compose_version(said)
    if version and version < OLDEST_COMPOSE:
        raise DockerError("Docker Compose on this host is %s, and FastGPT needs %s or newer" % (_dotted(version), _dotted(OLDEST_COMPOSE)),
                          "Upgrade it (Debian, Ubuntu: docker-compose-plugin or docker-compose-v2)")


def compose_version(said):
    """`v2.17.3-desktop.1` -> (2, 17, 3); () where there is nothing to read."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
    return tuple(int(part) for part in found.groups() if part is not None) if found else ()


def first_line(text):
    """The first line (str) of an error stream that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("time=")), "no message")


def _is_remote(address):
    scheme, dummy, rest = address.partition("://")
    host = re.sub(r"^.*@", "", rest).partition("/")[0]
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return scheme in ("tcp", "ssh", "http", "https") and not re.match(r"(?:localhost|127\.[\d.]+|::1)?\Z", name)


def _no_docker(what):
    return DockerError(what, "FastGPT's project needs Docker Engine: Podman merges and names networks and containers otherwise, and nothing here was "
                             "tried with it. Install Docker Engine with the compose plugin, or point the play at the host where FastGPT runs")


def _dotted(version):
    return ".".join(map(str, version))
