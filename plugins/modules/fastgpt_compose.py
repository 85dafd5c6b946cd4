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
  - Lets the container of FastGPT's compose project that talks to Ollama reach the declared Ollama servers. It joins the Docker network
    of an Ollama container, or learns the name C(host.docker.internal) for an Ollama on the same machine. An Ollama on another
    machine needs nothing in the project.
  - Which container that is, and what FastGPT calls, is told by O(path). Switching from one path to another and back leaves the
    project as if it had never been switched.
  - With O(strategy=override) the files of the project stay as they are. What is lacking stands in a file of its own, which docker
    compose merges after them, also when somebody calls C(docker compose up -d) by hand. It is C(docker-compose.override.yml) where
    that place is free, else C(docker-compose.localmodels.yml), listed in C(COMPOSE_FILE) in the project's C(.env).
  - With O(strategy=in_place) only the lines that must change are edited, and every other byte stays. Both give the same effective
    project, which is proved by docker compose itself before anything is written.
  - Only the containers that changed are recreated, and those that left a network of their compose file. The module waits until
    FastGPT and its gateway answer; if they do not, files and containers go back to what they were, and it fails with the last log lines.
  - A project that is down is started.
  - With O(apply=false) only files are written, for a pipeline that brings them up itself. With O(state=restored) a kept backup comes back.
author:
  - localmodels contributors (@localmodels)
attributes:
  check_mode:
    description: Reads for real, changes nothing.
    support: full
    details:
      - Whether a Docker network of Ollama exists is not asked in check mode, for a role may have yet to create it. Neither is one-api's
        key with O(path=one_api), for role C(one_api) may have yet to make it.
  diff_mode:
    description: Shows the files before and after. Values of the operator's own files, and keys, are masked.
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
  state:
    description:
      - V(present) lets FastGPT's models come from Ollama.
      - V(restored) brings files back as they were before an earlier change, and the containers with them, and does nothing if that is how
        they are. Whatever the operator wrote into these files since goes too, with a warning. What they held then becomes a backup itself.
        All that tells what FastGPT shall be like, such as O(path) and O(ollama), is not looked at.
    type: str
    choices: [present, restored]
    default: present
  restore:
    description:
      - Which backup comes back with O(state=restored), as its number, the name of its folder in C(.localmodels/backups).
      - V(newest) is the newest one that was not itself made by bringing another one back.
    type: str
    default: newest
  apply:
    description:
      - Whether containers follow the files, and FastGPT is waited for.
      - With V(false) no container is touched or looked at, so that the Docker engine need not run; docker compose has to be installed.
        FastGPT's version is then told by its image's name only.
    type: bool
    default: true
  path:
    description:
      - By which way FastGPT's models come from Ollama.
      - V(aiproxy) is the gateway that FastGPT brings from 4.9.0 on, and knows from 4.8.23 on.
      - V(one_api) switches AI Proxy off in FastGPT and sets E(OPENAI_BASE_URL) and E(CHAT_API_KEY) to a one-api. The one that
        FastGPT calls already, a service of an old project, is used as it is if no key of another one is known.
      - V(direct) does the same with the URL of one Ollama, without any gateway.
      - V(one_api) and V(direct) exist before FastGPT 4.17 only, and are refused for newer ones.
    type: str
    choices: [aiproxy, one_api, direct]
    default: aiproxy
  strategy:
    description:
      - V(override) writes a file of its own that docker compose merges after the others.
      - V(in_place) edits the operator's own files. A line that changes is kept above the new one as a comment, and each new line
        ends in a comment too, so that everything can be taken back to the byte. What cannot be proved right is refused with file, line and
        column, such as a value whose anchor others use, or a file that something else generates.
      - Changing the strategy takes what the other one wrote back.
    type: str
    choices: [override, in_place]
    default: override
  one_api_url:
    description: By which URL FastGPT's containers reach one-api, without C(/v1), with O(path=one_api).
    type: str
    default: http://one-api:3000
  one_api_network:
    description: Docker network that FastGPT has to join for that. The one-api of role C(one_api) is in FastGPT's network already.
    type: str
    default: ""
  one_api_project_dir:
    description: Folder that role C(one_api) made on the same host. FastGPT's key for one-api is read there, and does not leave the host.
    type: path
    default: /opt/one-api
  one_api_key:
    description: FastGPT's key for one-api, if it is not read from O(one_api_project_dir).
    type: str
  timeout:
    description:
      - Seconds until FastGPT and its gateway have to answer after a change. Pulling images does not count.
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
  - A variable C(systemEnv.oneapiUrl) in FastGPT's own settings or C(config.json) goes before E(OPENAI_BASE_URL). It is not looked at here.
  - Where the operator's file can be read by all, so can the key of one-api that O(strategy=in_place) writes into it.
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

- name: FastGPT before 4.17 calls Ollama without any gateway, by lines in its own compose file
  localmodels.fastgpt.fastgpt_compose:
    project_dir: /opt/fastgpt
    path: direct
    strategy: in_place
    ollama:
      - host: "{{ inventory_hostname }}"

- name: Write the files only, for a pipeline that commits them
  localmodels.fastgpt.fastgpt_compose:
    project_dir: "{{ playbook_dir }}/fastgpt"
    ollama:
      - host: "{{ inventory_hostname }}"
    apply: false

- name: Go back to how the files were before the last change
  localmodels.fastgpt.fastgpt_compose:
    project_dir: /opt/fastgpt
    ollama:
      - host: "{{ inventory_hostname }}"
    state: restored

- name: Show by which URLs AI Proxy reaches them
  ansible.builtin.debug:
    var: reached.ollama_urls
"""

RETURN = r"""
ollama_urls:
  description: By which URL FastGPT's gateway, or FastGPT itself with O(path=direct), reaches each Ollama, under the machine's inventory name.
  returned: O(state=present)
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
  returned: O(state=present)
  type: str
  sample: /opt/fastgpt/docker-compose.override.yml
files:
  description: The operator's own files in which lines are edited.
  returned: O(state=present)
  type: list
  elements: str
  sample: []
service:
  description: The compose service whose container talks to Ollama, or null where that is none of this project.
  returned: O(state=present)
  type: str
  sample: fastgpt-aiproxy
version:
  description: FastGPT's version, or null where the image's tag does not tell.
  returned: O(state=present)
  type: str
  sample: 4.15.4
restored:
  description: Number of the backup that came back.
  returned: O(state=restored)
  type: int
  sample: 3
backups:
  description: Numbers of all backups that there were, the newest last.
  returned: O(state=restored)
  type: list
  elements: int
  sample: [1, 2, 3]
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import OLLAMA_SPEC
from ansible_collections.localmodels.fastgpt.plugins.module_utils._alone import alone
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_apply import Site
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_read import outlines
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_restore import Restoring
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import BrokenProject, Docker, runner, unreadable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import NoSuchService


def main():
    module = AnsibleModule(
        argument_spec={
            "project_dir": {"type": "path", "required": True},
            "ollama": {"type": "list", "elements": "dict", "required": True, "options": OLLAMA_SPEC},
            "path": {"type": "str", "choices": ["aiproxy", "one_api", "direct"], "default": "aiproxy"},
            "strategy": {"type": "str", "choices": ["override", "in_place"], "default": "override"},
            "one_api_url": {"type": "str", "default": "http://one-api:3000"},
            "one_api_network": {"type": "str", "default": ""},
            "one_api_project_dir": {"type": "path", "default": "/opt/one-api"},
            "one_api_key": {"type": "str", "no_log": True},
            "timeout": {"type": "int", "default": 180},
            "backups": {"type": "int", "default": 5},
            "state": {"type": "str", "choices": ["present", "restored"], "default": "present"},
            "restore": {"type": "str", "default": "newest"},
            "apply": {"type": "bool", "default": True},
            "plan": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    given, plan = module.params, module.params["plan"]
    docker = Docker(runner(module), given["project_dir"])
    writes = not module.check_mode and (given["state"] == "restored" or plan is not None) and os.path.isdir(given["project_dir"])
    try:
        with alone(given["project_dir"], unless=not writes):
            changed = run(module, docker, plan)
    except (BrokenProject, NoSuchService) as problem:
        module.fail_json(msg=str(problem), outlines=outlines(docker, problem))
    except LocalModelsError as problem:
        module.fail_json(msg=str(problem))
    except OSError as problem:
        module.fail_json(msg=str(unreadable(given["project_dir"], problem)))
    module.exit_json(changed=changed)


def run(module, docker, plan):
    """Whether the project differs from the plan (dict) or, unless in check mode, did so; without a plan the task ends in here."""
    given = module.params
    if given["state"] == "restored":
        module.exit_json(**restore(module, Restoring(docker, given["restore"])))
    site = Site(docker, given["one_api_key"], given["one_api_project_dir"] if given["path"] == "one_api" else None, given["apply"])
    if plan is None:
        keep = [one["network"] for one in given["ollama"]] + [given["one_api_network"]]
        task = {name: given[name] for name in ("ollama", "path", "strategy", "one_api_url", "one_api_network", "apply")}
        module.exit_json(changed=False, found=site.found(keep), task=task)
    changed = bool(site.pending(plan) or plan["lacking"])
    if changed and not module.check_mode and given["apply"]:
        site.apply(plan, given["timeout"], given["backups"])
    elif changed and not module.check_mode:
        site.write(plan, given["backups"])
    return changed


def restore(module, restoring):
    """Bring the backup back, unless in check mode; the task's result (dict)."""
    given = module.params
    result = dict(restoring.told(given["apply"]), changed=restoring.changed(given["apply"]))
    for name in restoring.edited:
        module.warn("%s was edited since; the edits go, and the backup that this run makes keeps them" % name)
    if result["changed"] and not module.check_mode and given["apply"]:
        restoring.apply(given["timeout"], given["backups"])
    elif result["changed"] and not module.check_mode:
        restoring.write(given["backups"])
    return result


if __name__ == "__main__":
    main()
