# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import parse_listen
from ansible_collections.localmodels.fastgpt.plugins.module_utils._places import DEFAULTS, place
from ansible_collections.localmodels.fastgpt.plugins.module_utils._items import listed


def ollama_places(hosts, hostvars, known=None):
    """List of inventory names + hostvars -> option `ollama` of module fastgpt_compose.

    known: {inventory name: {variable: value}}, goes before hostvars where a value is there. ansible-core before 2.19 makes an empty
    text of a template that says none.
    """
    known = known or {}
    _refuse_unknown(hosts, hostvars)
    try:
        return [place(host, Known(hostvars[host], known.get(host, {}))) for host in hosts]
    except LocalModelsError as problem:
        raise AnsibleFilterError(str(problem)) from problem


def fastgpt_places(hosts, urls, hostvars, own_host, own_models):
    """See fastgpt_places.yml."""
    _refuse_unknown(hosts, hostvars)
    if not hosts:
        raise AnsibleFilterError("No host is named whose Ollama FastGPT is to use: fastgpt_compose_ollama_hosts, or group ollama of the inventory, is empty.")
    unreached = [host for host in hosts if host not in urls]
    if unreached:
        raise AnsibleFilterError(
            "By which URL FastGPT reaches the Ollama of %s is not known. Name the same hosts in fastgpt_models_ollama_hosts and in "
            "fastgpt_compose_ollama_hosts or fastgpt_compose_ollama; a URL is known of %s." % (", ".join(unreached), ", ".join(urls) or "none"))
    return [{"host": host, "url": urls[host], "models": listed(own_models if host == own_host else hostvars[host].get("local_models", own_models))}
            for host in hosts]


def _refuse_unknown(hosts, hostvars):
    unknown = [host for host in hosts if host not in hostvars]
    if unknown:
        raise AnsibleFilterError("The inventory has no host %s, whose Ollama FastGPT is to use." % ", ".join(unknown))


def ollama_near_url(listen):
    """ollama_listen of a host (str, empty or undefined: the default) -> URL by which that host itself reaches its Ollama."""
    try:
        return parse_listen(listen or DEFAULTS["ollama_listen"]).url
    except LocalModelsError as problem:
        raise AnsibleFilterError(str(problem)) from problem


class Known:
    """Variables of a host, some of them known better."""

    def __init__(self, variables, known):
        self._variables = variables
        self._known = known

    def get(self, name, default=None):
        value = self._known.get(name)
        return value if value not in (None, "") else self._variables.get(name, default)


class FilterModule:
    def filters(self):
        return {"ollama_places": ollama_places, "fastgpt_places": fastgpt_places, "ollama_near_url": ollama_near_url}
