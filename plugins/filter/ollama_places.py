# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._places import place


def ollama_places(hosts, hostvars):
    """List of inventory names + hostvars -> option `ollama` of module fastgpt_compose."""
    unknown = [host for host in hosts if host not in hostvars]
    if unknown:
        raise AnsibleFilterError("The inventory has no host %s, whose Ollama FastGPT is to use." % ", ".join(unknown))
    try:
        return [place(host, hostvars[host]) for host in hosts]
    except LocalModelsError as problem:
        raise AnsibleFilterError(str(problem)) from problem


class FilterModule:
    def filters(self):
        return {"ollama_places": ollama_places}
