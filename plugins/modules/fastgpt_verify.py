#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: fastgpt_verify
short_description: Walk every hop from FastGPT to the models
version_added: 0.1.0
description:
  - Asks every hop on the way of a question from where it really starts, app to FastGPT to gateway to Ollama, and names the first one
    that is broken with its cause and what to do.
  - Which way it is, is read from FastGPT's variables in O(project_dir), as FastGPT of that version uses them. It is over AI Proxy, over one-api, or
    straight to Ollama.
  - Runs on the host of FastGPT. What a container reaches is asked from within that container (C(docker exec)). Where FastGPT calls one-api or
    Ollama, that is asked with FastGPT's own key, which goes to the container by standard input and into no list of processes.
  - A hop that cannot be asked is skipped with the reason, such as the models of a FastGPT before 4.8.20, which has no API for them.
  - A broken hop is a result, not an error of this module. Look at RV(healthy), or let role P(localmodels.fastgpt.fastgpt_verify#role) do it.
  - The question to the app leaves a chat in the app's log, as any chat does.
author:
  - localmodels contributors (@localmodels)
extends_documentation_fragment:
  - localmodels.fastgpt.project
attributes:
  action_group:
    description: C(module_defaults) of C(group/localmodels.fastgpt.fastgpt) apply to this module.
    support: full
    membership:
      - localmodels.fastgpt.fastgpt
  check_mode:
    description: Asks everything but the models, and says what it would ask them.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: N/A
options:
  ollamas:
    description:
      - The Ollama servers that FastGPT's models run on.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the channel in the gateway. Without a gateway it is not used.
        type: str
        required: true
      url:
        description: Base URL by which the gateway's container reaches it, or FastGPT's own where there is no gateway.
        type: str
        required: true
      models:
        description: The models it has to serve, all of them and no others.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: Name of the model, the same in Ollama, the gateway and FastGPT.
            type: str
            required: true
          type:
            description: What it is to FastGPT.
            type: str
            choices: [llm, embedding]
            default: llm
  one_api_project_dir:
    description:
      - Folder of one-api's compose project on this host, as role C(one_api) makes it. Its container and its access token are found there.
      - Used where FastGPT calls that one-api.
    type: path
    default: /opt/one-api
  one_api_url:
    description:
      - Base URL by which this host reaches another one-api, for looking at its channels.
    type: str
  one_api_access_token:
    description:
      - Access token of root, or of an administrator, of another one-api. If it is not given, the channels there are not looked at.
    type: str
  app:
    description:
      - Name of the app that is asked at last. If not set, no app is asked.
    type: str
  question:
    description:
      - What the app is asked.
    type: str
    default: Are you there? Answer in one short sentence.
  every_model:
    description:
      - Whether every model is asked. Otherwise the first chat model and the first embedding model of each server answer for all, for
        a model has to be loaded before it answers.
    type: bool
    default: false
  model_timeout:
    description:
      - Seconds a model may take before its first byte. A large model takes minutes to load.
    type: int
    default: 300
seealso:
  - module: localmodels.fastgpt.fastgpt_models
"""

EXAMPLES = r"""
- name: Walk the way of a question
  localmodels.fastgpt.fastgpt_verify:
    project_dir: /opt/fastgpt
    ollamas:
      - name: ollama
        url: http://ollama:11434
        models:
          - name: qwen2.5:0.5b
    app: Local models
  register: walk

- name: Walk it where FastGPT calls a one-api on another machine
  localmodels.fastgpt.fastgpt_verify:
    project_dir: /opt/fastgpt
    one_api_url: http://192.0.2.30:3000
    one_api_access_token: "{{ vault_one_api_access_token }}"
    ollamas:
      - name: ollama
        url: http://192.0.2.40:11434
        models:
          - name: qwen2.5:0.5b

- name: Every hop is well
  ansible.builtin.assert:
    that: walk.healthy
    fail_msg: "{{ walk.verdict }}"
"""

RETURN = r"""
healthy:
  description: Whether no hop is broken.
  returned: success
  type: bool
verdict:
  description: The first broken hop in one sentence, with cause and mend. Empty if there is none.
  returned: success
  type: str
  sample: >-
    First broken hop: AI Proxy -> Ollama (ollama). asked http://ollama:11434/api/version in aiproxy, got: curl: (7) Failed to connect to
    ollama port 11434. Nothing listens at http://ollama:11434. Start Ollama (role ollama)
answer:
  description: What the app answered. Empty if it was not asked.
  returned: success
  type: str
path:
  description: The way that FastGPT takes to its models, V(aiproxy), V(one_api) or V(direct). Null if nobody can tell without O(project_dir).
  returned: success
  type: str
  sample: aiproxy
hops:
  description: The hops in their order.
  returned: success
  type: list
  elements: dict
  contains:
    hop:
      description: From where to where.
      type: str
      sample: FastGPT -> AI Proxy
    asked:
      description: What was asked.
      type: str
    answered:
      description: What came back.
      type: str
    ms:
      description: Milliseconds it took. Null if it was not asked.
      type: int
    status:
      description: How it went.
      type: str
      choices: [ok, failed, skipped]
    cause:
      description: Why it failed, where that is known.
      type: str
    mend:
      description: What to do about it.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, passwords_in, refuse_less
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project_options import ARGUMENT_SPEC
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify import verify


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENT_SPEC,
            ollamas={"type": "list", "elements": "dict", "required": True, "options": {
                "name": {"type": "str", "required": True},
                "url": {"type": "str", "required": True},
                "models": {"type": "list", "elements": "dict", "required": True, "options": {
                    "name": {"type": "str", "required": True},
                    "type": {"type": "str", "choices": ["llm", "embedding"], "default": "llm"},
                }},
            }},
            one_api_project_dir={"type": "path", "default": "/opt/one-api"},
            one_api_url={"type": "str"},
            one_api_access_token={"type": "str", "no_log": True},
            app={"type": "str"},
            question={"type": "str", "default": "Are you there? Answer in one short sentence."},
            every_model={"type": "bool", "default": False},
            model_timeout={"type": "int", "default": 300},
        ),
        supports_check_mode=True,
    )
    module.no_log_values.update(passwords_in(module.params))
    try:
        refuse_less(module.params, model_timeout=1)
        result = verify(module.params, runner(module), asks=not module.check_mode)
    except LocalModelsError as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
