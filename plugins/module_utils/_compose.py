# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a compose project lacks to reach Ollama: the override document and its text. Internal to this collection. Pure."""

from __future__ import annotations

import hashlib
import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import HOST_GATEWAY, way

HEADER = """\
# Written by Ansible (role localmodels.fastgpt.fastgpt_compose): with it AI Proxy reaches Ollama.
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


def document(caller, networks, wanted):
    """The override document (dict, ready to be written as YAML), {} where the operator's own files have all that is needed.

    caller: dict of the service as the operator's files declare it: `name`, `networks` ({key: Docker's name}),
    `extra_hosts` ({name: address}). networks: {key: Docker's name} of the whole project. wanted: Needs.
    """
    service, declared = {}, {}
    missing = [name for name in wanted.networks if name not in caller["networks"].values()]
    if missing:
        # A service without `networks` is in `default`, and would leave it with the first network that a file names.
        service["networks"] = {key: None for key in caller["networks"] if key == "default"}
        keys = {name: key for key, name in networks.items()}
        for name in missing:
            key = keys.get(name)
            if key is None:
                key = name if name not in networks else "localmodels_" + name
                declared[key] = {"name": name, "external": True}
            service["networks"][key] = None
    hosts = [name for name in sorted(wanted.extra_hosts) if name not in caller["extra_hosts"]]
    if hosts:
        service["extra_hosts"] = ["%s:%s" % (name, wanted.extra_hosts[name]) for name in hosts]
    if not service:
        return {}
    found = {"services": {caller["name"]: service}}
    if declared:
        found["networks"] = declared
    return found


def with_header(body):
    """The text of our file for its YAML `body` (str)."""
    return HEADER % _checksum(body) + body


def is_ours(text):
    """Whether we wrote this text (str) and nobody edited it since."""
    header = _HEADER.match(text)
    return bool(header) and header.group(1) == _checksum(text[header.end():])


def lacking(container, wanted):
    """Sentences (list of str) about what a running container lacks of Needs.

    container: dict with `name`, `state`, `networks` (list of str), `extra_hosts` ({name: address}).
    A play that ends between writing the file and recreating the container leaves such a difference.
    """
    if container["state"] != "running":
        return ["Start %s, which is %s" % (container["name"], container["state"])]
    found = ["Let %s join the Docker network %s" % (container["name"], name)
             for name in wanted.networks if name not in container["networks"]]
    return found + ["Let %s know its Docker host as %s" % (container["name"], name)
                    for name in sorted(wanted.extra_hosts) if name not in container["extra_hosts"]]


def _checksum(body):
    return hashlib.sha256(body.encode("utf-8")).hexdigest()
