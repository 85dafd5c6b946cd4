#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: fastgpt_compose
short_description: FastGPT's compose project reaches Ollama
version_added: 0.1.0
description:
  - Lets AI Proxy, the container of FastGPT's compose project that talks to Ollama, reach the declared Ollama servers.
    It joins the Docker network of an Ollama container, or learns the name C(host.docker.internal) for an Ollama on the same
    machine. An Ollama on another machine needs nothing in the project.
  - The files of the project stay as they are. What is lacking stands in a file of its own, which docker compose merges after
    them, also when somebody calls C(docker compose up -d) by hand. It is C(docker-compose.override.yml) where that place is
    free, else C(docker-compose.localmodels.yml), listed in C(COMPOSE_FILE) in the project's C(.env).
  - Only the containers that changed are recreated. The module waits until AI Proxy and FastGPT answer; if they do not,
    files and containers go back to what they were, and it fails with the last log lines.
  - A project that is down is started.
author:
  - localmodels contributors (@localmodels)
attributes:
  action_group:
    description: C(module_defaults) of C(group/localmodels.fastgpt.fastgpt) apply to this module.
    support: full
    membership:
      - localmodels.fastgpt.fastgpt
  check_mode:
    description: Reads for real, changes nothing.
    support: full
    details:
      - Whether a Docker network of Ollama exists is not asked in check mode, for a role may have yet to create it.
  diff_mode:
    description: Shows the file before and after. No line of it is a secret.
    support: full
options:
  project_dir:
    description:
      - Folder of FastGPT's compose project on the managed host, the one in which C(docker compose up -d) is called.
    type: path
    required: true
  ollama:
    description:
      - The Ollama servers that FastGPT's models run on.
      - The filter P(localmodels.fastgpt.ollama_places#filter) makes this list from the variables of role C(ollama).
    type: list
    elements: dict
    required: true
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
        description:
          - Name or address by which other machines reach it. Needed if it runs on another machine than FastGPT.
          - Loopback is refused, because from a container that is the container itself.
        type: str
        default: ""
      port:
        description: Port that O(ollama[].address) and the machine itself offer.
        type: int
        default: 11434
      listen:
        description: What it listens on, as C(ADDRESS:PORT), if that is known. An Ollama that only its own machine can call is refused.
        type: str
        default: ""
  timeout:
    description:
      - Seconds until AI Proxy and FastGPT have to answer after a change. Pulling images does not count.
    type: int
    default: 180
  backups:
    description:
      - How many earlier states of the changed files are kept, in C(.localmodels/backups) of the project.
    type: int
    default: 5
  plan:
    description:
      - What to write, decided on the controller. Filled in by this module's action part. Not meant for playbooks.
    type: dict
notes:
  - FastGPT has AI Proxy in its official files from 4.9.0 on. Projects without it are refused.
  - Needs Docker Engine 20.10 or newer and Docker Compose 2.17 or newer on the managed host, and no Python library there.
seealso:
  - module: localmodels.fastgpt.fastgpt_info
"""

EXAMPLES = r"""
- name: AI Proxy reaches the Ollama container of the same host
  localmodels.fastgpt.fastgpt_compose:
    project_dir: /opt/fastgpt
    ollama:
      - host: "{{ inventory_hostname }}"

- name: AI Proxy reaches Ollama on this machine and on another one
  localmodels.fastgpt.fastgpt_compose:
    project_dir: /opt/fastgpt
    ollama:
      - host: "{{ inventory_hostname }}"
        provider: host
      - host: gpu1
        provider: host
        address: gpu1.example.org
  register: reached

- name: Show by which URLs AI Proxy reaches them
  ansible.builtin.debug:
    var: reached.ollama_urls
"""

RETURN = r"""
ollama_urls:
  description: By which URL AI Proxy reaches each Ollama, under the machine's inventory name.
  returned: success
  type: dict
  sample: {"box": "http://ollama:11434", "gpu1": "http://192.0.2.20:11434"}
actions:
  description: What was done, or would be done in check mode, in sentences.
  returned: success
  type: list
  elements: str
  sample: ["Write /opt/fastgpt/docker-compose.override.yml", "Let fastgpt-aiproxy join the Docker network ollama"]
file:
  description: The file in which additions to the project stand, or null if none is needed.
  returned: success
  type: str
  sample: /opt/fastgpt/docker-compose.override.yml
service:
  description: The compose service whose container talks to Ollama.
  returned: success
  type: str
  sample: fastgpt-aiproxy
version:
  description: FastGPT's version, or null where the image's tag does not tell.
  returned: success
  type: str
  sample: 4.15.4
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import OLLAMA_SPEC
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_apply import Site, outlines
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import BrokenProject, Docker, runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError


def main():
    module = AnsibleModule(
        argument_spec={
            "project_dir": {"type": "path", "required": True},
            "ollama": {"type": "list", "elements": "dict", "required": True, "options": OLLAMA_SPEC},
            "timeout": {"type": "int", "default": 180},
            "backups": {"type": "int", "default": 5},
            "plan": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    docker = Docker(runner(module), module.params["project_dir"])
    try:
        site = Site(docker)
        if module.params["plan"] is None:
            module.exit_json(changed=False, found=site.found(), ollama=module.params["ollama"])
        site.apply(module.params["plan"], module.params["timeout"], module.params["backups"])
    except BrokenProject as problem:
        module.fail_json(msg=str(problem), outlines=outlines(docker, problem))
    except LocalModelsError as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
