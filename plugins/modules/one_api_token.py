#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: one_api_token
short_description: Client tokens of one-api, the keys that programs show to it
version_added: 0.1.0
description:
  - Makes tokens in one-api, with one call for all of them. They have no quota of their own and never expire.
  - Tokens are found by their exact name among those of the user whose access token is used. Others are left alone.
  - one-api chooses the key. It never travels to the controller. O(tokens[].key_file) leaves it in a file on the managed host.
  - A token that has expired or is used up is made good again.
  - When all is as declared this costs one request.
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
    description: Shows each declared token before and after, without its key.
    support: full
options:
  tokens:
    description:
      - The tokens.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the token, at most 30 bytes.
          - Two tokens of this name in one-api are an error.
        type: str
        required: true
      state:
        description:
          - V(absent) deletes the token. Its key file stays.
        type: str
        choices: [present, absent]
        default: present
      models:
        description:
          - The models that may be asked with this token. An empty list means all.
          - Not compared and not changed if not given.
        type: list
        elements: str
      key_file:
        description:
          - File on the managed host that holds the key, C(sk-...), in one line, for its owner only. Its folder must exist.
        type: path
      enabled:
        description:
          - Whether the token is let in.
        type: bool
        default: true
seealso:
  - module: localmodels.fastgpt.one_api_channel
notes:
  - The user whose token it is needs a quota. Root has one that lasts; another user starts without, and one-api then answers 403.
"""

EXAMPLES = r"""
- name: A token for a program on this host
  localmodels.fastgpt.one_api_token:
    project_dir: /opt/one-api
    tokens:
      - name: notebook
        key_file: /etc/notebook/one-api.key

- name: One that may ask one model only, and none any more for an old program
  localmodels.fastgpt.one_api_token:
    url: http://192.0.2.20:3000
    access_token: "{{ vault_one_api_access_token }}"
    tokens:
      - name: small
        models: [qwen2.5:0.5b]
      - name: old
        state: absent
"""

RETURN = r"""
tokens:
  description: The declared tokens, without their keys.
  returned: success, and failure after something was tried
  type: list
  elements: dict
  contains:
    name:
      description: The token's name.
      type: str
      sample: notebook
    id:
      description: one-api's number of it, null where there is no token (yet).
      type: int
      sample: 2
    state:
      description: The declared state.
      type: str
      sample: present
    action:
      description: V(none), V(create), V(update) or V(delete).
      type: str
      sample: create
actions:
  description: What was done, or would be done, in sentences.
  returned: success, and failure after something was tried
  type: list
  elements: str
  sample: ["Create token notebook", "Write the key of token notebook into /etc/notebook/one-api.key"]
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
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _one_api_plan, _one_api_token_plan, _undo
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, passwords_in
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api_place import ARGUMENT_SPEC, connect


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENT_SPEC,
            tokens={"type": "list", "elements": "dict", "required": True, "no_log": False, "options": {
                "name": {"type": "str", "required": True},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "models": {"type": "list", "elements": "str"},
                "key_file": {"type": "path", "no_log": False},
                "enabled": {"type": "bool", "default": True},
            }},
        ),
        supports_check_mode=True,
    )
    module.no_log_values.update(passwords_in(module.params))
    results = {"changed": False, "actions": [], "tokens": []}
    try:
        run(module, results)
    except (LocalModelsError, OSError) as problem:
        module.fail_json(msg=str(problem), **results)
    module.exit_json(**results)


def run(module, results):
    """Fills `results` (dict) as it goes, so that a failure in between reports what was done until then."""
    wanted = _one_api_token_plan.read_wanted(module.params["tokens"])
    one_api, results["gateway"] = connect(module.params, runner(module), read_only=module.check_mode)
    steps = _one_api_token_plan.plan(one_api.tokens(), wanted, lambda path: (_undo.read(path) or "").strip())
    results["diff"] = _one_api_plan.diff(steps, "one-api's tokens")
    for step in steps:
        id = step.row["id"] if step.row else None
        if step.changed and not module.check_mode:
            id = _one_api_token_plan.carry_out(one_api, step, lambda path, text: _undo.write(path, text, 0o600))
        results["changed"] = results["changed"] or step.changed
        results["actions"] += step.sentences()
        results["tokens"].append(step.result(id))


if __name__ == "__main__":
    main()
