#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: one_api_channel
short_description: Channels of one-api, the gateway of older FastGPT installations
version_added: 0.1.0
description:
  - Makes one-api serve exactly the declared models through the declared channels, with one call for all of them.
  - Channels are found by their exact name. Channels that are not declared are left alone.
  - A channel that one-api has disabled by itself, after an error, is enabled again.
  - When all is as declared this costs one request.
  - Tested with one-api 0.6.11. FastGPT works with one-api before 4.17; later ones need AI Proxy.
author:
  - localmodels contributors (@localmodels)
extends_documentation_fragment:
  - localmodels.fastgpt.one_api
attributes:
  action_group:
    description: C(module_defaults) of C(group/localmodels.fastgpt.one_api) apply to this module.
    support: full
    membership:
      - localmodels.fastgpt.one_api
  check_mode:
    description: Reads for real and changes nothing.
    support: full
  diff_mode:
    description: Shows each declared channel before and after. Keys are never shown, only whether one is written.
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
          - Name of the channel. Upper and lower case are different names.
          - Two channels of this name in one-api are an error.
        type: str
        required: true
      state:
        description:
          - V(absent) deletes the channel.
        type: str
        choices: [present, absent]
        default: present
      type:
        description:
          - The kind of server behind the channel.
          - V(openai) also speaks to Ollama, and passes on what V(ollama) drops, such as tools.
        type: str
        choices: [ollama, openai]
        default: ollama
      base_url:
        description:
          - Address by which one-api's container reaches the server, without C(/v1). Needed for V(present).
          - V(localhost) and its like are refused. Inside one-api's container that is the container itself.
        type: str
      models:
        description:
          - The models that the channel serves, exactly these. Needed for V(present), and not empty.
          - Each is a name, or a map with C(name). A C(type) in it is not looked at, so that one list does for both gateways.
          - one-api takes names literally. V(qwen2.5) is not V(qwen2.5:latest) there.
        type: list
        elements: raw
      key:
        description:
          - The key that one-api shows to the server. Ollama needs none, but one-api insists on one. A new channel gets V(ollama)
            if none is given.
        type: str
      update_key:
        description:
          - When O(channels[].key) is written. one-api does not tell a channel's key, so nobody can compare it.
          - With V(always) the task reports a change each time.
        type: str
        choices: [on_create, always]
        default: on_create
      model_mapping:
        description:
          - Names in O(channels[].models) that the server knows under another name, as alias to real name.
          - Not compared and not changed if not given.
        type: dict
      priority:
        description:
          - Of several channels that serve one model those with the highest number are used, the others after failures only.
            AI Proxy means something else by this number.
          - Not compared and not changed if not given.
        type: int
      groups:
        description:
          - Groups of users that may use the channel. An empty list means V(default).
          - Not compared and not changed if not given.
        type: list
        elements: str
      enabled:
        description:
          - Whether one-api uses the channel.
        type: bool
        default: true
seealso:
  - module: localmodels.fastgpt.one_api_token
  - module: localmodels.fastgpt.aiproxy_channel
notes:
  - one-api has no locks and no unique names. Two runs at the same moment can make a channel twice, so run this on one host only.
  - A one-api with Redis or C(MEMORY_CACHE_ENABLED) relays as declared only after C(SYNC_FREQUENCY), 10 minutes by default.
"""

EXAMPLES = r"""
- name: The one-api of role one_api serves the models of the Ollama in its network
  localmodels.fastgpt.one_api_channel:
    project_dir: /opt/one-api
    channels:
      - name: ollama
        base_url: http://ollama:11434
        models: [qwen2.5:0.5b, nomic-embed-text:latest]

- name: A one-api somewhere else gets a second machine, with an alias
  localmodels.fastgpt.one_api_channel:
    url: http://192.0.2.20:3000
    access_token: "{{ vault_one_api_access_token }}"
    channels:
      - name: ollama-gpu1
        base_url: http://192.0.2.10:11434
        models: [qwen2.5:7b, house-model]
        model_mapping:
          house-model: qwen2.5:7b
        priority: 10
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
      description: one-api's number of it, null where there is no channel (yet).
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
  description: The one-api that was asked, and where its address and access token were found.
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
      sample: container of project one-api in /opt/one-api
    secret_found_in:
      description: Where the access token comes from.
      type: str
      sample: ONE_API_ACCESS_TOKEN in /opt/one-api/.env
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _one_api_plan
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, passwords_in
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api_place import ARGUMENT_SPEC, connect


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENT_SPEC,
            channels={"type": "list", "elements": "dict", "required": True, "options": {
                "name": {"type": "str", "required": True},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "type": {"type": "str", "choices": ["ollama", "openai"], "default": "ollama"},
                "base_url": {"type": "str"},
                "models": {"type": "list", "elements": "raw"},
                "key": {"type": "str", "no_log": True},
                "update_key": {"type": "str", "choices": ["on_create", "always"], "default": "on_create", "no_log": False},
                "model_mapping": {"type": "dict"},
                "priority": {"type": "int"},
                "groups": {"type": "list", "elements": "str"},
                "enabled": {"type": "bool", "default": True},
            }},
        ),
        supports_check_mode=True,
    )
    module.no_log_values.update(passwords_in(module.params))
    results = {"changed": False, "actions": [], "channels": []}
    try:
        run(module, results)
    except LocalModelsError as problem:
        module.fail_json(msg=str(problem), **results)
    module.exit_json(**results)


def run(module, results):
    """Fills `results` (dict) as it goes, so that a failure in between reports what was done until then."""
    wanted = _one_api_plan.read_wanted(module.params["channels"])
    one_api, results["gateway"] = connect(module.params, runner(module), read_only=module.check_mode)
    steps = _one_api_plan.plan(one_api.channels(), wanted)
    results["diff"] = _one_api_plan.diff(steps, "one-api's channels")
    for step in steps:
        id = step.row["id"] if step.row else None
        if step.changed and not module.check_mode:
            id = _one_api_plan.carry_out(one_api, step)
        results["changed"] = results["changed"] or step.changed
        results["actions"] += step.sentences()
        results["channels"].append(step.result(id))


if __name__ == "__main__":
    main()
