#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: one_api_container
short_description: Run one-api beside FastGPT as a Docker container that answers
version_added: 0.1.0
description:
  - Makes one-api run in a compose project of its own, C(one-api), in the Docker network by which FastGPT reaches its gateway, and
    where it reaches Ollama.
  - Makes its secrets on the host, once, into C(.env) of O(project_dir), for root only. They never travel to the controller. They are
    the access token for its management, the client key for FastGPT, root's password, and the secret that signs sessions.
  - Sees to it that root no longer has its well-known first password, that nobody can sign up, and that there is one client token
    for FastGPT without limits.
  - Reads the compose file, the container and the API in one go, and acts only on what differs.
  - If the server does not come up, its last log lines are shown, the compose file and the container that ran before are put back,
    and the task fails. The volume with its database always stays.
  - Needs the C(docker) command with the compose plugin of version 2, and no Python library.
author:
  - localmodels contributors (@localmodels)
attributes:
  check_mode:
    support: full
    description: Reads for real, writes and pulls nothing, and returns what it would do.
  diff_mode:
    support: full
    description: Shows the compose file. Passwords in URLs and values of variables that end in KEY, TOKEN, SECRET, PASSWORD or DSN are masked.
options:
  image:
    description:
      - The image. INITIAL_ROOT_ACCESS_TOKEN is known to one-api from 0.6.8 on. For older ones an access token is made by a login.
    type: str
    required: true
  project_dir:
    description: Folder of the compose file C(compose.yml) and of C(.env). Created if it does not exist.
    type: path
    default: /opt/one-api
  container:
    description: Name of the container, by which FastGPT reaches it.
    type: str
    default: one-api
  volume:
    description: Docker volume of the database, or an absolute path on the host.
    type: str
    default: one-api
  fastgpt_project_dir:
    description:
      - Folder of FastGPT's compose project. one-api joins the network that FastGPT shares with AI Proxy, or FastGPT's own
        where there is no AI Proxy.
      - FastGPT 4.17 and later do not work with one-api and are refused.
    type: path
  networks:
    description: Further Docker networks to join. They must exist. Needed if O(fastgpt_project_dir) is not given.
    type: list
    elements: str
    default: []
  host:
    description: Inventory name of this host. It tells which of O(ollama) runs on this very machine.
    type: str
    default: ""
  ollama:
    description:
      - The Ollama servers that one-api is to reach. It joins the network of an Ollama container of this host, or learns the name
        C(host.docker.internal) for an Ollama on the host itself.
      - The filter P(localmodels.fastgpt.ollama_places#filter) makes this list from the variables of role C(ollama).
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Inventory name of the machine it runs on.
        type: str
        required: true
      provider:
        description: Whether it runs in a container or on the machine itself.
        type: str
        choices: [docker, host]
        default: docker
      container:
        description: Name of its container, with O(ollama[].provider=docker).
        type: str
        default: ollama
      network:
        description: Docker network of its container, with O(ollama[].provider=docker).
        type: str
        default: ollama
      address:
        description: Name or address by which other machines reach it. Loopback is refused.
        type: str
        default: ""
      port:
        description: Port that O(ollama[].address) and the machine itself offer.
        type: int
        default: 11434
      listen:
        description: What it listens on, as C(ADDRESS:PORT), if that is known.
        type: str
        default: ""
  listen:
    description:
      - Where one-api is published on the host, as C(ADDRESS:PORT). Empty publishes it nowhere.
      - Docker's published ports pass by most host firewalls.
    type: str
    default: ""
  environment:
    description:
      - Further environment variables of the server, such as C(SQL_DSN). V(true) and V(false) stay words, lists are joined by commas.
    type: dict
    default: {}
  restart_policy:
    description: When Docker starts the container again.
    type: str
    choices: ['no', always, on-failure, unless-stopped]
    default: unless-stopped
  timeout:
    description: Seconds to wait for the API.
    type: int
    default: 60
seealso:
  - module: localmodels.fastgpt.one_api_channel
  - module: localmodels.fastgpt.one_api_token
"""

EXAMPLES = r"""
- name: one-api runs beside FastGPT and reaches the Ollama container of this host
  localmodels.fastgpt.one_api_container:
    image: ghcr.io/songquanpeng/one-api:v0.6.10
    fastgpt_project_dir: /opt/fastgpt
    host: "{{ inventory_hostname }}"
    ollama:
      - host: "{{ inventory_hostname }}"

- name: one-api with a PostgreSQL, published on loopback for its pages
  localmodels.fastgpt.one_api_container:
    image: ghcr.io/songquanpeng/one-api:v0.6.10
    networks: [databases]
    listen: 127.0.0.1:3001
    environment:
      SQL_DSN: "postgres://oneapi:{{ vault_one_api_database }}@postgres:5432/oneapi"
"""

RETURN = r"""
differences:
  description: What was (in check mode, is) not as declared, as one sentence for each kind of thing. Empty if nothing was.
  returned: success
  type: dict
  sample:
    container: There is no container one-api
url:
  description: By which URL FastGPT's containers reach it. C(OPENAI_BASE_URL) in FastGPT's compose file is this with C(/v1).
  returned: success
  type: str
  sample: http://one-api:3000
client_key_found_in:
  description: Where the key is that FastGPT has to show, its C(CHAT_API_KEY).
  returned: success
  type: str
  sample: ONE_API_CLIENT_KEY in /opt/one-api/.env
ollama_urls:
  description: By which URL one-api reaches each Ollama, under the machine's inventory name.
  returned: success
  type: dict
  sample: {"box": "http://ollama:11434"}
networks:
  description: The Docker networks it is in.
  returned: success
  type: list
  elements: str
  sample: [fastgpt_fastgpt, ollama]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import OLLAMA_SPEC
from ansible_collections.localmodels.fastgpt.plugins.module_utils._alone import alone, in_reach
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose import needs
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker, runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import masked, secret_values
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api_container import (
    Wanted,
    differences,
    network_of,
    read_listen,
    read_variables,
)
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api_container_apply import ContainerHost, refuse_unfit_host
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api_place import CLIENT_KEY, env_path
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project_options import read_project


def main():
    module = AnsibleModule(
        argument_spec=dict(
            image=dict(type="str", required=True),
            project_dir=dict(type="path", default="/opt/one-api"),
            container=dict(type="str", default="one-api"),
            volume=dict(type="str", default="one-api"),
            fastgpt_project_dir=dict(type="path"),
            networks=dict(type="list", elements="str", default=[]),
            host=dict(type="str", default=""),
            ollama=dict(type="list", elements="dict", default=[], options=OLLAMA_SPEC),
            listen=dict(type="str", default=""),
            environment=dict(type="dict", default={}),
            restart_policy=dict(type="str", choices=["no", "always", "on-failure", "unless-stopped"], default="unless-stopped"),
            timeout=dict(type="int", default=60),
        ),
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C"}
    module.no_log_values.update(secret_values(module.params["environment"]))  # Ansible shows a module's options from -vvv on
    try:
        with alone(in_reach(module.params["project_dir"]), unless=module.check_mode):
            result = converge(module)
    except (LocalModelsError, OSError) as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(**result)


def converge(module):
    """Read, compare, act. Returns the module's result (dict). Raises LocalModelsError."""
    refuse_unfit_host()
    wanted, reached = read_wanted(module.params, runner(module))
    host = ContainerHost(Docker(runner(module)), wanted)
    text, container, lacking, api = host.read()
    different = differences(wanted, text, container, lacking, api)
    if host.undo.unfinished() is not None:
        different["interrupted"] = "An earlier play was interrupted before the server had answered"
    result = {
        "changed": bool(different),
        "differences": different,
        "url": wanted.url,
        "client_key_found_in": "%s in %s" % (CLIENT_KEY, env_path(wanted.project_dir)),
        "ollama_urls": reached.urls,
        "networks": wanted.networks,
    }
    if different:
        result["diff"] = [{"before_header": wanted.file, "after_header": wanted.file,
                           "before": masked(text), "after": masked(wanted.text)}]
        if module.check_mode:
            wanted.other_networks = []  # roles may have yet to make them
        host.refuse(container)
        if not module.check_mode:
            host.apply(different, container)
    return result


def read_wanted(params, run):
    """(Wanted, _compose.Needs) from the module's options. run: see _docker.Docker. Raises LocalModelsError."""
    reached = needs(params["ollama"], params["host"])
    networks = params["networks"] + reached.networks
    if params["fastgpt_project_dir"]:
        networks = [network_of(read_project({"project_dir": params["fastgpt_project_dir"]}, run))] + networks
    if not networks:
        raise LocalModelsError("one-api would be in no Docker network", "Give fastgpt_project_dir, or networks")
    options = ("image", "container", "volume", "project_dir", "restart_policy", "timeout")
    return Wanted(networks=list(dict.fromkeys(networks)), extra_hosts=reached.extra_hosts, listen=read_listen(params["listen"]),
                  environment=read_variables(params["environment"]), **{name: params[name] for name in options}), reached


if __name__ == "__main__":
    main()
