# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which URL does a container reach an Ollama: the address rule. Internal to this collection. Pure."""

from __future__ import annotations

import ipaddress
import re
import socket

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

OLLAMA_PORT = 11434  # inside Ollama's container, whatever is published outside
DOCKER_HOST = "host.docker.internal"
HOST_GATEWAY = "host-gateway"

# Of a module's option `ollama`: what has to be known of each Ollama, see way().
OLLAMA_SPEC = {
    "host": {"type": "str", "required": True},
    "provider": {"type": "str", "choices": ["docker", "host"], "default": "docker"},
    "container": {"type": "str", "default": "ollama"},
    "network": {"type": "str", "default": "ollama"},
    "address": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 11434},
    "listen": {"type": "str", "default": ""},
}

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?\Z")


class NoWay(LocalModelsError):
    """No URL leads from the caller to Ollama as things stand."""


class Way:
    """How a container reaches an Ollama.

    url: str, as the container says it. network: name of the Docker network that the container has to join, or None.
    extra_host: name that the container must resolve to its Docker host, or None.
    """

    def __init__(self, url, network=None, extra_host=None):
        self.url = url
        self.network = network
        self.extra_host = extra_host

    def __eq__(self, other):
        return vars(self) == vars(other)

    def __repr__(self):
        return "Way(%r, network=%r, extra_host=%r)" % (self.url, self.network, self.extra_host)


def way(ollama, caller_host, caller_network_mode=""):
    """The Way from a container to an Ollama.

    ollama: dict with `host` (inventory name of its machine), `provider` (`docker` | `host`), `container`, `network`
    (Docker's names, for provider docker), `address` (by which other machines reach it), `port` (int, of that address)
    and, for provider host, `listen` (`address:port` Ollama is bound to, may be absent).
    caller_host: inventory name of the machine whose Docker engine runs the container.
    caller_network_mode: `network_mode` of the container's service, "" for networks of its own.
    Raises NoWay with the reason, such as an address that means the container itself.
    """
    if ollama["host"] != caller_host:
        _refuse_deaf(ollama, "another machine", "0.0.0.0:%s behind a firewall" % ollama["port"])
        return Way(url(_outside(ollama), ollama["port"]))
    if caller_network_mode == "host":
        # The caller sees what its machine sees: a published port, or Ollama itself, on loopback.
        return Way(url("127.0.0.1", ollama["port"]))
    if ollama["provider"] == "docker":
        if caller_network_mode:
            raise NoWay("A service with network_mode: %s cannot join the Docker network %s of Ollama's container" % (
                caller_network_mode, ollama["network"]),
                "Remove network_mode from it, so that it has networks of its own")
        return Way(url(ollama["container"], OLLAMA_PORT), network=ollama["network"])
    _refuse_deaf(ollama, "a container", "the one of the Docker bridge (172.17.0.1:%s) or 0.0.0.0:%s behind a firewall" % (
        ollama["port"], ollama["port"]))
    return Way(url(DOCKER_HOST, ollama["port"]), extra_host=DOCKER_HOST)


def url(host, port):
    """`http://host:port`; an IPv6 address gets its brackets. Raises NoWay for a host or port that is none."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    number = _address(bare)
    if number is None and not _HOST_NAME.match(bare):
        raise NoWay("%r is no host name and no address" % host, "Give a name or an address without scheme and port")
    if not 0 < int(port) < 65536:
        raise NoWay("%s is no port" % port, "Ports go from 1 to 65535; Ollama's own is %d" % OLLAMA_PORT)
    return "http://%s:%d" % ("[%s]" % bare if number is not None and number.version == 6 else bare, int(port))


def is_loopback(host):
    """Whether a host (name or address, str) means the machine or container that says it."""
    number = _address(host.strip("[]"))
    if number is not None:
        mapped = getattr(number, "ipv4_mapped", None)
        return (mapped or number).is_loopback
    name = host.rstrip(".").lower()
    return name in ("localhost", "ip6-localhost") or name.endswith((".localhost", ".localdomain"))


def is_here(host, sysctl="/proc/sys/net/ipv4/ip_nonlocal_bind"):
    """Whether a host (name or address, str) is this very machine: loopback, its own name, or an address that one of its interfaces has."""
    number = _address(host.strip("[]"))
    if is_loopback(host) or (number is None and host.lower() == socket.gethostname().lower()):
        return True
    if number is None or number.is_unspecified or number.is_multicast or _binds_anything(sysctl):
        return False
    try:
        with socket.socket(socket.AF_INET6 if number.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((str(number), 0))  # the kernel refuses an address that is not its own
    except OSError:
        return False
    return True


def _binds_anything(sysctl):
    """Whether this kernel lets a program take addresses that it does not have, as on hosts with a floating address."""
    try:
        with open(sysctl, encoding="ascii") as value:
            return value.read().strip() == "1"
    except OSError:
        return False


def is_any(host):
    """Whether a host is an address to listen on, such as 0.0.0.0, and none to call."""
    number = _address(host.strip("[]"))
    return number is not None and number.is_unspecified


def _outside(ollama):
    address = ollama["address"]
    if is_loopback(address):
        raise NoWay(
            "Ollama on %s has the address %s, and from a container that is the container itself" % (ollama["host"], address),
            "Set ollama_address of host %s to a name or an address by which the FastGPT host reaches it" % ollama["host"])
    if is_any(address):
        raise NoWay("Ollama on %s has the address %s: it can listen there, but nobody can call it" % (ollama["host"], address),
                    "Set ollama_address of host %s to the name or address of that machine" % ollama["host"])
    return address


def _refuse_deaf(ollama, caller, better):
    """An Ollama bound to loopback hears nothing that comes from a container of its machine, or from another machine."""
    listens = str(ollama.get("listen") or "").rpartition(":")[0]
    if listens and is_loopback(listens):
        raise NoWay("Ollama on %s listens on %s only, and %s cannot call there: its own loopback is another one" % (
            ollama["host"], ollama["listen"], caller),
            "Set ollama_listen of host %s to an address that it reaches, such as %s; with a reverse proxy in front of it, set "
            "ollama_address" % (ollama["host"], better))


def _address(text):
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
