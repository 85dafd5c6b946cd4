# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our own compose file, and what a running container lacks of what the files say. Internal to this collection. Pure."""

from __future__ import annotations

import hashlib
import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import HOST_GATEWAY, way
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import scrub

HEADER = """\
# Written by Ansible (role localmodels.fastgpt.fastgpt_compose): with it FastGPT's models come from Ollama.
# Docker compose merges it after the project's own files, which stay as they are.
# Put changes of your own into a file of your own: once this one is edited it counts as yours and is not touched any more.
# Checksum of the rest: %s
"""
_HEADER = re.compile(re.escape(HEADER).replace("%s", "([0-9a-f]{64})"))


class Needs:
    """What the container that talks to Ollama needs, and by which URLs it then reaches every Ollama.

    networks: list of str, Docker's names. extra_hosts: {name: address}. urls: {inventory host: URL}.
    """

    def __init__(self, networks, extra_hosts, urls):
        self.networks = networks
        self.extra_hosts = extra_hosts
        self.urls = urls


def needs(ollamas, host, network_mode=""):
    """Needs of a container on `host` (inventory name) that must reach each of `ollamas` (see _address.way). Raises NoWay."""
    ways = [(one["host"], way(one, host, network_mode)) for one in ollamas]
    return Needs(sorted({found.network for dummy, found in ways if found.network}),
                 {found.extra_host: HOST_GATEWAY for dummy, found in ways if found.extra_host},
                 {name: found.url for name, found in ways})


def with_header(body):
    """The text of our file for its YAML `body` (str)."""
    return HEADER % _checksum(body) + body


def is_ours(text):
    """Whether we wrote this text (str) and nobody edited it since."""
    header = _HEADER.match(text)
    return bool(header) and header.group(1) == _checksum(text[header.end():])


def body_of(text):
    """The rest (str) of a text of ours below its header."""
    return text[_HEADER.match(text).end():]


def lacking(container, intents):
    """Sentences (list of str) about what a running container lacks of what its service shall have.

    container: dict with `name`, `state`, `networks` (list of Docker's names), `extra_hosts` ({name: address}),
    `names` ({network: what it is called there}), `variables` ({name: value}), `other` (names of variables that differ from the
    operator's files). intents: list of Intent of that service, networks by Docker's names. A play that ends between writing the file
    and recreating the container leaves such a difference, and so do one that writes files only, and `docker network disconnect`.
    """
    start = [] if container["state"] == "running" else ["Start %s, which is %s" % (container["name"], container["state"])]
    return start + differing(container, intents)


def differing(container, intents):
    """The sentences of lacking() that are about what a container was made from; none where there is no container."""
    found = []
    if container["state"] == "missing":
        return found
    for one in intents:
        if one.kind == "network" and one.name not in container["networks"]:
            found.append("Let %s join the Docker network %s" % (container["name"], one.name))
        elif one.kind == "called" and one.value not in container["names"].get(one.name, [one.value]):
            found.append("Let %s be called %s in the Docker network %s" % (container["name"], one.value, one.name))
        elif one.kind == "host" and one.name not in container["extra_hosts"]:
            found.append("Let %s know its Docker host as %s" % (container["name"], one.name))
        elif one.kind in ("variable", "listed") and (container["variables"].get(one.name) or "") != scrub(one.value):
            found.append("Give %s its %s" % (container["name"], one.name))
    ours = {one.name for one in intents if one.kind in ("variable", "listed")}
    found += ["Give %s its %s back" % (container["name"], name) for name in container.get("other", ()) if name not in ours]
    return found


def _checksum(body):
    return hashlib.sha256(body.encode("utf-8")).hexdigest()
