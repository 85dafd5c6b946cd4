#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: aiproxy_channel
short_description: Channels of AI Proxy, FastGPT's gateway
version_added: 0.1.0
description:
  - Makes AI Proxy serve exactly the declared models through the declared channels, with one call for all of them.
  - Channels are found by their exact name. Channels that are not declared are left alone.
  - Models that AI Proxy does not know yet get a model config with their type, without which its channel test says that
    the type of the model is unknown. Existing model configs are never changed, and never deleted.
  - When all is as declared this costs two requests. After a change it waits until AI Proxy relays accordingly.
  - Tested with AI Proxy 0.6. What older ones do differently, back to 0.1.3, is taken care of as their source says.
  - Where AI Proxy's own address leads nowhere it is reached over FastGPT, with its root user's login. Model configs then need
    AI Proxy 0.3.1.
author:
  - localmodels contributors (@localmodels)
extends_documentation_fragment:
  - localmodels.fastgpt.project
attributes:
  action_group:
    description:
      - C(module_defaults) of C(group/localmodels.fastgpt.aiproxy) apply to this module, and those of C(group/localmodels.fastgpt.fastgpt), for it
        takes the same options by which FastGPT and AI Proxy are reached.
    support: full
    membership:
      - localmodels.fastgpt.aiproxy
      - localmodels.fastgpt.fastgpt
  check_mode:
    description: Reads for real and changes nothing.
    support: full
    details:
      - Where AI Proxy does not run yet, check mode warns and reports no change, for what it holds is not known.
  diff_mode:
    description: Shows each declared channel before and after. Keys are never shown, only whether they change.
    support: full
options:
  channels:
    description:
      - The channels.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the channel, at most 64 characters. Upper and lower case are different names.
          - Two channels of this name in AI Proxy are an error.
        type: str
        required: true
      state:
        description:
          - V(absent) deletes the channel. Its model configs stay.
        type: str
        choices: [present, absent]
        default: present
      type:
        description:
          - AI Proxy's name of the kind of server behind the channel.
        type: str
        default: ollama
      base_url:
        description:
          - Address by which AI Proxy's container reaches the server. Needed for V(present).
          - For the type V(ollama) without a path, such as V(http://ollama:11434). Addresses that end with V(/v1) are for the type V(openai).
          - V(localhost) and its like are refused. Inside AI Proxy's container that is the container itself.
        type: str
      models:
        description:
          - The models that the channel serves, exactly these. Needed for V(present), and not empty.
          - Each is a name, or a map with C(name) and C(type), which is V(chat) (the default) or V(embedding).
          - AI Proxy takes names literally. V(qwen2.5) is not V(qwen2.5:latest) there.
        type: list
        elements: raw
      key:
        description:
          - The key that AI Proxy shows to the server. Ollama needs none.
          - Not compared and not changed if not given.
        type: str
      model_mapping:
        description:
          - Names in O(channels[].models) that the server knows under another name, as alias to real name.
          - Not compared and not changed if not given.
        type: dict
      priority:
        description:
          - The channel's weight where several channels serve one model. AI Proxy takes V(0) as V(10).
          - Not compared and not changed if not given.
        type: int
      sets:
        description:
          - Groups of users that may use the channel. An empty list means V(default).
          - Not compared and not changed if not given.
        type: list
        elements: str
      enabled:
        description:
          - Whether AI Proxy uses the channel.
        type: bool
        default: true
seealso:
  - module: localmodels.fastgpt.fastgpt_models
notes:
  - AI Proxy has no locks and no unique names. Two runs at the same moment can make a channel twice, so run this on one host only.
"""

EXAMPLES = r"""
- name: AI Proxy serves the models of the Ollama in its network
  localmodels.fastgpt.aiproxy_channel:
    project_dir: /opt/fastgpt
    channels:
      - name: ollama
        base_url: http://ollama:11434
        models:
          - qwen2.5:0.5b
          - name: nomic-embed-text:latest
            type: embedding

- name: An AI Proxy somewhere else serves a second machine, with an alias
  localmodels.fastgpt.aiproxy_channel:
    aiproxy_url: http://192.0.2.20:3000
    admin_key: "{{ vault_aiproxy_admin_key }}"
    channels:
      - name: ollama-gpu1
        base_url: http://192.0.2.10:11434
        models: [qwen2.5:7b, house-model]
        model_mapping:
          house-model: qwen2.5:7b
        priority: 20
      - name: ollama-old
        state: absent
"""

RETURN = r"""
channels:
  description: The declared channels. Deleted ones come last.
  returned: success, and failure after something was tried
  type: list
  elements: dict
  contains:
    name:
      description: The channel's name.
      type: str
      sample: ollama
    id:
      description: AI Proxy's number of it, null where there is no channel (yet).
      type: int
      sample: 3
    state:
      description: The declared state.
      type: str
      sample: present
    action:
      description: V(none), V(create), V(update) or V(delete).
      type: str
      sample: create
    models:
      description: The names it serves.
      type: list
      elements: str
      sample: [nomic-embed-text:latest, qwen2.5:0.5b]
actions:
  description: What was done, or would be done, in sentences.
  returned: success, and failure after something was tried
  type: list
  elements: str
  sample: ["Create channel ollama to http://ollama:11434 with qwen2.5:0.5b"]
gateway:
  description: >-
    The AI Proxy that was asked, and where its address and key were found. Null where check mode goes on without one, for it does not run yet.
  returned: success
  type: dict
  contains:
    url:
      description: Its base URL as the managed host reaches it.
      type: str
      sample: http://172.18.0.5:3000
    url_found_in:
      description: Where the address comes from.
      type: str
      sample: service aiproxy in /opt/fastgpt
    secret_found_in:
      description: Where the key comes from.
      type: str
      sample: ADMIN_KEY of service aiproxy in /opt/fastgpt
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _aiproxy, _aiproxy_plan
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, passwords_in
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project_options import ARGUMENT_SPEC, gateway, without_it


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENT_SPEC,
            channels={"type": "list", "elements": "dict", "required": True, "options": {
                "name": {"type": "str", "required": True},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "type": {"type": "str", "default": "ollama"},
                "base_url": {"type": "str"},
                "models": {"type": "list", "elements": "raw"},
                "key": {"type": "str", "no_log": True},
                "model_mapping": {"type": "dict"},
                "priority": {"type": "int"},
                "sets": {"type": "list", "elements": "str"},
                "enabled": {"type": "bool", "default": True},
            }},
        ),
        supports_check_mode=True,
    )
    module.no_log_values.update(passwords_in(module.params))
    results = {"changed": False, "actions": [], "channels": [], "gateway": None}
    try:
        run(module, results)
    except LocalModelsError as problem:
        warning = module.check_mode and without_it(problem, module.params)
        if not warning:
            module.fail_json(msg=str(problem), **results)
        module.warn(warning)
    module.exit_json(**results)


def run(module, results):
    """Fills `results` (dict) as it goes, so that a failure in between reports what was done until then."""
    wanted = _aiproxy_plan.read_wanted(module.params["channels"])
    endpoint = gateway(module.params, runner(module))
    results["gateway"] = endpoint.public()
    aiproxy = _aiproxy.connect(endpoint, module.params, read_only=module.check_mode)
    steps, warnings = _aiproxy_plan.prepare(aiproxy, wanted)
    for warning in warnings:
        module.warn(warning)
    results["diff"] = _aiproxy_plan.diff(steps)
    expected = {}
    for step in steps:
        id = step.row["id"] if step.row else None
        if step.changed and not module.check_mode:
            id, live = _aiproxy_plan.carry_out(aiproxy, step)
            expected[live] = step.serves()
        results["changed"] = results["changed"] or step.changed
        results["actions"] += step.sentences()
        results["channels"].append(step.result(id))
    if expected:
        aiproxy.wait_until_live(expected)


if __name__ == "__main__":
    main()
