#!/usr/bin/python
# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_container
short_description: Run Ollama as a Docker container that answers
version_added: 0.1.0
description:
  - Makes Ollama run in a compose project of its own, C(ollama), and waits until its API answers on the published address.
  - Reads the compose file, the container and the API in one go, and acts only on what differs.
  - Docker network and volume are made beside the project, so that C(docker compose down -v) deletes no models and containers of other projects
    can stay in the network.
  - If the server does not come up, its last log lines are shown, the compose file and the container that ran before are put back, and the task fails.
  - Needs the C(docker) command with the compose plugin of version 2, and no Python library.
attributes:
  check_mode:
    support: full
    description: Reads for real, writes and pulls nothing, and returns what it would do.
  diff_mode:
    support: full
    description: Shows the compose file. Passwords in URLs and values of variables that end in KEY, TOKEN, SECRET, PASSWORD or DSN are masked.
options:
  image:
    description: The image. If its tag is a version, the server must answer with that version.
    type: str
    required: true
  project_dir:
    description: Folder of the compose file C(compose.yml). Created if it does not exist.
    type: path
    default: /opt/ollama-docker
  container:
    description: Name of the container, by which containers in the same network reach it.
    type: str
    default: ollama
  network:
    description: Docker network that is made for Ollama and for those who may talk to it.
    type: str
    default: ollama
  networks:
    description: Further Docker networks that the container joins. They must exist.
    type: list
    elements: str
    default: []
  volume:
    description: Docker volume of the models and of the server's key, or an absolute path on the host.
    type: str
    default: ollama
  listen:
    description:
      - Where the API is published on the host, as C(ADDRESS:PORT).
      - Ollama has no authentication, and Docker's published ports pass by most host firewalls. The default lets in nobody but the host itself;
        containers in O(network) reach the container without it.
    type: str
    default: 127.0.0.1:11434
  environment:
    description:
      - Environment variables of the server. V(true) and V(false) become 1 and 0, lists are joined by commas.
      - Values that Ollama would misread without a word are refused. C(OLLAMA_HOST) and C(OLLAMA_MODELS) are fixed inside the container.
    type: dict
    default: {}
  gpus:
    description: Whether the container gets all NVIDIA GPUs.
    type: bool
    default: false
  restart_policy:
    description: When Docker starts the container again.
    type: str
    choices: ['no', always, on-failure, unless-stopped]
    default: unless-stopped
  timeout:
    description: Seconds to wait for the API.
    type: int
    default: 60
author:
  - localmodels contributors (@localmodels)
"""

EXAMPLES = r"""
- name: Ollama runs in a container
  localmodels.fastgpt.ollama_container:
    image: ollama/ollama:0.32.15

- name: The same from a mirror, with its models on a large disk
  localmodels.fastgpt.ollama_container:
    image: registry.example.org/ollama/ollama:0.32.15
    volume: /data/ollama
"""

RETURN = r"""
differences:
  description: What was (in check mode, is) not as declared, as one sentence for each kind of thing. Empty if nothing was.
  returned: success
  type: dict
  sample:
    container: There is no container ollama
url:
  description: By which URL the host itself reaches the server.
  returned: success
  type: str
  sample: http://127.0.0.1:11434
loopback_only:
  description: Whether nobody but the host itself can reach the published address.
  returned: success
  type: bool
store_path:
  description: Folder of the models as seen from the host. Empty while there is no container.
  returned: success
  type: str
  sample: /var/lib/docker/volumes/ollama/_data/models
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.localmodels.fastgpt.plugins.module_utils._alone import alone, in_reach
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker, runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_container import Wanted, differences, store_path
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_container_apply import ContainerHost, refuse_unfit_host
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import (
    imagined,
    masked,
    parse_listen,
    read_environment,
    secret_values,
)

RESERVED = {"OLLAMA_HOST": "Set ollama_listen instead", "OLLAMA_MODELS": "Set ollama_docker_volume instead"}


def main():
    module = AnsibleModule(
        argument_spec=dict(
            image=dict(type="str", required=True),
            project_dir=dict(type="path", default="/opt/ollama-docker"),
            container=dict(type="str", default="ollama"),
            network=dict(type="str", default="ollama"),
            networks=dict(type="list", elements="str", default=[]),
            volume=dict(type="str", default="ollama"),
            listen=dict(type="str", default="127.0.0.1:11434"),
            environment=dict(type="dict", default={}),
            gpus=dict(type="bool", default=False),
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
    params = dict(module.params)
    params["listen"] = parse_listen(params["listen"])
    if not params["listen"].is_address:
        raise LocalModelsError("Docker publishes on addresses, and %r is a name" % params["listen"].host,
                               "Write ollama_listen with an address, such as 127.0.0.1:11434")
    params["environment"] = read_environment(params["environment"], RESERVED)
    for name in imagined(params["environment"]):
        module.warn("Ollama has no variable %s: it has no effect" % name)
    wanted = Wanted(**params)
    refuse_unfit_host()
    host = ContainerHost(Docker(runner(module)), wanted)
    text, container, version = host.read()
    different = differences(wanted, text, container, version)
    if host.undo.unfinished() is not None:
        different["interrupted"] = "An earlier play was interrupted before the server had answered"
    result = {
        "changed": bool(different),
        "differences": different,
        "url": wanted.listen.url,
        "loopback_only": wanted.listen.loopback_only,
        "store_path": store_path(container) if container else "",
    }
    if different:
        result["diff"] = [{"before_header": wanted.file, "after_header": wanted.file,
                           "before": masked(text), "after": masked(wanted.text)}]
        host.refuse(container)
        if not module.check_mode:
            host.apply(different, container)
            container = host.read()[1]
            result["store_path"] = store_path(container) if container else ""
    return result


if __name__ == "__main__":
    main()
