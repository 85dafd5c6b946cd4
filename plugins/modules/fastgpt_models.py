#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: fastgpt_models
short_description: Models and default models in FastGPT
version_added: 0.1.0
description:
  - Keeps a list of models as declared in FastGPT's model settings, and says which of them are its defaults.
  - Models that are not in O(models) are left alone, and of those in it only the keys that are given.
  - Works with FastGPT 4.8.20 to 4.16. Other versions are recognised by their API and refused before anything is changed.
  - A run that finds nothing to do asks FastGPT once, or three times where FastGPT has no model yet. A login takes two more requests.
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
    description: Reads for real and changes no model. A login and the file that keeps its token are the only traces.
    support: full
    details:
      - Where FastGPT does not run yet, check mode warns and reports no change, for what it holds is not known.
  diff_mode:
    description: Shows the keys that change, secrets masked.
    support: full
options:
  models:
    description:
      - The models. The filter P(localmodels.fastgpt.fastgpt_records#filter) makes this list from C(local_models).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - ID of the model in FastGPT. It must be the name by which the gateway serves it, such as V(qwen2.5:0.5b).
        type: str
        required: true
      state:
        description:
          - V(absent) deletes a model. One that FastGPT brings itself cannot be deleted and is deactivated.
        type: str
        choices: [present, absent]
        default: present
      metadata:
        description:
          - Keys of FastGPT's record, such as C(type), C(maxContext) or C(isActive). Each is kept as given.
          - An empty value (C(null)) says that the key must not be there. In a map, such as C(defaultConfig), only the given keys count.
        type: dict
        default: {}
      initial:
        description:
          - More keys, which are only sent when the model is new. Later changes to them in FastGPT's pages stay.
        type: dict
        default: {}
  defaults:
    description:
      - Which models are FastGPT's defaults. Defaults that are not named here stay as they are.
    type: dict
    default: {}
    suboptions: &kinds
      llm:
        description: For chats.
        type: str
      embedding:
        description: For knowledge bases.
        type: str
      datasetTextLLM:
        description: For reading documents into a knowledge base.
        type: str
      datasetImageLLM:
        description: For reading images into a knowledge base. It needs vision.
        type: str
  fallback_defaults:
    description:
      - Like O(defaults), for kinds of which FastGPT has no default. A default that somebody chose stays.
    type: dict
    default: {}
    suboptions: *kinds
notes:
  - FastGPT counts logins and refuses the 11th within two minutes. The login token is therefore kept on the managed host in
    C(/run/localmodels-fastgpt) (for users other than root below C($XDG_RUNTIME_DIR)), readable by this user only, and used again
    until FastGPT does not know it any more. A wrong password is tried once. Nothing ever logs out, for FastGPT would end every
    session of its root user.
seealso:
  - module: localmodels.fastgpt.fastgpt_app
  - module: localmodels.fastgpt.aiproxy_channel
"""

EXAMPLES = r"""
- name: FastGPT knows the local chat model and uses it by default
  localmodels.fastgpt.fastgpt_models:
    project_dir: /opt/fastgpt
    models:
      - name: qwen2.5:0.5b
        metadata:
          type: llm
          provider: Ollama
          name: qwen2.5:0.5b
          isActive: true
          maxContext: 4096
          maxResponse: 2048
          quoteMaxToken: 1536
          toolChoice: true
          functionCall: false
    defaults:
      llm: qwen2.5:0.5b

- name: Records made from the one list of models and what Ollama says about them
  localmodels.fastgpt.fastgpt_models:
    project_dir: /opt/fastgpt
    models: "{{ local_models | localmodels.fastgpt.fastgpt_records(ollama.models) }}"

- name: A model is gone
  localmodels.fastgpt.fastgpt_models:
    project_dir: /opt/fastgpt
    models:
      - name: old-model:7b
        state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in sentences.
  returned: success
  type: list
  elements: str
  sample: ["Add model qwen2.5:0.5b (llm)", "Set default llm to qwen2.5:0.5b"]
defaults:
  description: FastGPT's default models afterwards, by kind. Empty where check mode goes on without FastGPT, for it does not run yet.
  returned: success
  type: dict
  sample: {"llm": "qwen2.5:0.5b", "embedding": "bge-m3:latest"}
found_in:
  description: Where the root user's password was found, null where check mode goes on without FastGPT. The password itself is never shown.
  returned: success
  type: str
  sample: DEFAULT_ROOT_PSW of service fastgpt-app in /opt/fastgpt
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, passwords_in
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt import open_fastgpt
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_plan import keep_models, secret_values
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project_options import ARGUMENT_SPEC, without_it


def main():
    kinds = {key: {"type": "str"} for key in ("llm", "embedding", "datasetTextLLM", "datasetImageLLM")}
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENT_SPEC,
            models={"type": "list", "elements": "dict", "default": [], "options": {
                "name": {"type": "str", "required": True},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "metadata": {"type": "dict", "default": {}},
                "initial": {"type": "dict", "default": {}},
            }},
            defaults={"type": "dict", "default": {}, "options": kinds},
            fallback_defaults={"type": "dict", "default": {}, "options": kinds},
        ),
        supports_check_mode=True,
    )
    module.no_log_values.update(passwords_in(module.params))
    module.no_log_values.update(secret_values(module.params["models"]))  # Ansible shows a module's options from -vvv on
    try:
        fastgpt = open_fastgpt(module.params, runner(module), read_only=module.check_mode)
        result = keep_models(fastgpt, module.params["models"], module.params["defaults"], module.params["fallback_defaults"])
    except LocalModelsError as problem:
        warning = module.check_mode and without_it(problem, module.params)
        if not warning:
            module.fail_json(msg=str(problem))
        module.warn(warning)
        module.exit_json(changed=False, actions=[], defaults={}, found_in=None)
    if fastgpt.unsafe_session:
        module.warn("The login token is not kept, so each task logs in for itself: %s" % fastgpt.unsafe_session)
    module.exit_json(found_in=fastgpt.password_found_in, **result)


if __name__ == "__main__":
    main()
