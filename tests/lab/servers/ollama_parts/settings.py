# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment of the server, read as Ollama reads it, and the failures of its start."""

from __future__ import annotations

import errno
import os
import pathlib
import secrets
import socket
import base64

from ollama_parts import go
from ollama_parts.store import make_directories

DEFAULT_PORT = 11434


class Failure(Exception):
    """The program ends with this text on standard error and this exit code."""

    def __init__(self, text, code=1):
        super().__init__(text)
        self.text, self.code = text, code


def value(name, default=""):
    """A variable without the spaces and quotes around it."""
    return os.environ.get(name, "").strip().strip("\"'") or default


def truth(name):
    """A switch; anything that is no boolean counts as true."""
    text = value(name)
    return bool(text) and text not in ("0", "f", "F", "false", "FALSE", "False")


class Settings:
    """What `ollama serve` takes from its environment. Raises Failure."""

    def __init__(self):
        home = os.environ.get("HOME", "")
        self.models = value("OLLAMA_MODELS") or (home and os.path.join(home, ".ollama", "models"))
        if not home:
            raise Failure("panic: $HOME is not defined", 2) if not self.models else Failure("Error: $HOME is not defined")
        self.home = home
        self.origins = [origin for origin in value("OLLAMA_ORIGINS").split(",") if origin]
        for origin in self.origins:
            if "*" not in origin and "://" not in origin:
                raise Failure("panic: bad origin: origins must contain '*' or include http://,https://", 2)
        self.no_prune, self.no_cloud = truth("OLLAMA_NOPRUNE"), truth("OLLAMA_NO_CLOUD")
        length = value("OLLAMA_CONTEXT_LENGTH", "0")
        self.context_length = int(length) if length.isdigit() else 0
        try:
            text = value("OLLAMA_KEEP_ALIVE", "5m")
            self.keep_alive = go.seconds(float(text) if text.lstrip("-").isdigit() else text)
        except go.Refusal:
            self.keep_alive = 300


def host():
    """(host, port) of OLLAMA_HOST, for the server and for its clients."""
    text = value("OLLAMA_HOST")
    scheme, mark, rest = text.partition("://")
    default = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT) if mark else DEFAULT_PORT
    rest = (rest if mark else text).split("/")[0]
    name, colon, port = rest.rpartition(":")
    if rest.endswith("]") or not colon:
        name, port = rest, ""
    number = int(port) if port.isdigit() and int(port) < 65536 else default
    name = name.strip("[]")
    return name if name or colon else "127.0.0.1", number


def listen():
    """The listening socket; raises Failure with the system's reason."""
    name, port = host()
    if name in ("", "0.0.0.0", "::"):
        return _everywhere(port)
    try:
        family, _type, _protocol, _name, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as problem:
        raise Failure("Error: listen tcp: lookup %s: no such host" % name) from problem
    return _bound(family, address, "%s:%d" % (name, port))


def _everywhere(port):
    try:
        return _bound(socket.AF_INET6, ("::", port), ":%d" % port)
    except OSError:  # a machine without IPv6
        return _bound(socket.AF_INET, ("0.0.0.0", port), ":%d" % port)


def _bound(family, address, said):
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    words = {errno.EADDRINUSE: "bind: address already in use", errno.EADDRNOTAVAIL: "bind: cannot assign requested address",
             errno.EACCES: "bind: permission denied"}
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as problem:
        listener.close()
        if problem.errno not in words:
            raise
        raise Failure("Error: listen tcp %s: %s" % (said, words[problem.errno])) from problem
    return listener


def prepare(settings):
    """Make the key and the store; raises Failure."""
    try:
        _make_key(pathlib.Path(settings.home) / ".ollama" / "id_ed25519")
    except OSError as problem:
        raise Failure("Error: could not create directory %s" % go.os_error(problem, "mkdir")) from problem
    try:
        make_directories(settings.models)
    except OSError as problem:
        raise Failure("Error: %s: ensure path elements are traversable" % go.os_error(problem, "mkdir")) from problem


def _make_key(path):
    """Something that looks like the server's key: nothing here signs with it."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, mode=0o755, exist_ok=True)
    body = base64.b64encode(secrets.token_bytes(120)).decode()
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write("-----BEGIN OPENSSH PRIVATE KEY-----\n%s\n-----END OPENSSH PRIVATE KEY-----\n" % body)
    public = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + secrets.token_bytes(32)).decode()
    path.with_suffix(".pub").write_text("ssh-ed25519 %s\n" % public, encoding="ascii")
