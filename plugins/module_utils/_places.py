# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the inventory's variables of hosts that run Ollama to what others must know to reach it. Internal. Pure."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import OLLAMA_PORT, is_any, is_loopback
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

# The defaults of role ollama: variables of one host do not show the defaults of a role that runs on another.
DEFAULTS = {
    "ollama_provider": "docker",
    "ollama_listen": "127.0.0.1:%d" % OLLAMA_PORT,
    "ollama_docker_container": "ollama",
    "ollama_docker_network": "ollama",
}


def place(host, variables):
    """What has to be known of the Ollama on `host` (inventory name): an item of module fastgpt_compose's option `ollama`.

    variables: mapping of the host's variables. `ollama_address`, where it is set, is believed without asking what Ollama
    listens on: there may be a reverse proxy in front of it.
    """
    def variable(name):
        return str(variables.get(name, DEFAULTS[name]))

    listen = variable("ollama_listen")
    listens_on, dummy, port = listen.rpartition(":")
    if not port.isdigit():
        raise LocalModelsError("ollama_listen of host %s is %s, which has no port" % (host, listen),
                               "Write ADDRESS:PORT, such as 0.0.0.0:%d" % OLLAMA_PORT)
    found = {"host": host, "provider": variable("ollama_provider"), "container": variable("ollama_docker_container"),
             "network": variable("ollama_docker_network"), "port": int(port), "listen": listen}
    if variables.get("ollama_address"):
        found.update(address=str(variables.get("ollama_address")), listen="")
    elif listens_on and not is_any(listens_on) and not is_loopback(listens_on):
        found["address"] = listens_on
    else:
        found["address"] = str(variables.get("ansible_host") or host)
    return found
