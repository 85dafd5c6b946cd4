# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_container import promised_version
from ansible_collections.localmodels.fastgpt.plugins.module_utils._items import listed

# The defaults of role ollama: variables of one host do not show the defaults of a role that runs on another.
PROVIDER = "docker"
VERSION = "0.32.15"
IMAGE = "ollama/ollama:%s"


def bundle_contents(hosts, hostvars):
    """List of inventory names + hostvars -> {"models", "versions", "images", "server_versions"}: what these hosts need of a bundle, each thing once."""
    unknown = [host for host in hosts if host not in hostvars]
    if unknown:
        raise AnsibleFilterError("The inventory has no host %s, whose models shall be in the bundle." % ", ".join(unknown))
    contents = {"models": [], "versions": [], "images": [], "server_versions": []}
    for host in hosts:
        variables = hostvars[host]
        version = str(variables.get("ollama_version", VERSION))
        if variables.get("ollama_provider", PROVIDER) == "host":
            _add(contents["versions"], [version])
        else:
            image = str(variables.get("ollama_docker_image", IMAGE % version))
            _add(contents["images"], [image])
            _add(contents["server_versions"], filter(None, [promised_version(image)]))
        _add(contents["models"], listed(variables.get("local_models") or []))
    return contents


def _add(to, items):
    to.extend(item for item in items if item not in to)


class FilterModule:
    def filters(self):
        return {"bundle_contents": bundle_contents}
