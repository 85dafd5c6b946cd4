#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: fastgpt_app
short_description: Simple chat apps in FastGPT
version_added: 0.1.0
description:
  - Keeps simple chat apps in the team of FastGPT's root user. An app is found by its name.
  - What a chat uses is the published version of an app. Another model or prompt is therefore published as a new version. The old
    versions stay in the app's history, where FastGPT can bring them back.
  - Everything else in an app, such as its knowledge bases, stays as it is.
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
    description: Reads for real and changes no app. A login and the file that keeps its token are the only traces.
    support: full
    details:
      - Where FastGPT does not run yet, check mode warns and reports no change, for what it holds is not known.
  diff_mode:
    description: Shows model, prompt and introduction before and after.
    support: full
options:
  apps:
    description:
      - The apps.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the app. FastGPT allows several apps of one name. That is refused here, for nobody can tell which is meant.
        type: str
        required: true
      model:
        description:
          - ID of the model that answers, as in FastGPT's list of models. Needed unless O(apps[].state=absent).
          - It must be an active chat model, for FastGPT answers with another one without a word where a model is not there or makes embeddings.
        type: str
      prompt:
        description:
          - System prompt. If not set, it stays as it is.
        type: str
      intro:
        description:
          - What the app is for, shown in FastGPT's list. If not set, it stays as it is.
        type: str
      state:
        description:
          - V(absent) deletes the app with its chats.
        type: str
        choices: [present, absent]
        default: present
seealso:
  - module: localmodels.fastgpt.fastgpt_models
"""

EXAMPLES = r"""
- name: There is an app that answers with the local model
  localmodels.fastgpt.fastgpt_app:
    project_dir: /opt/fastgpt
    apps:
      - name: Local models
        model: qwen2.5:0.5b
        intro: Answers with a model on our own machines

- name: The app is gone
  localmodels.fastgpt.fastgpt_app:
    project_dir: /opt/fastgpt
    apps:
      - name: Local models
        state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in sentences.
  returned: success
  type: list
  elements: str
  sample: ["Add app Local models with model qwen2.5:0.5b"]
apps:
  description: The apps of O(apps) that are there afterwards. None where check mode goes on without FastGPT, for it does not run yet.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the app.
      type: str
    id:
      description: FastGPT's ID of the app. Null where check mode would only add it.
      type: str
      sample: 6b04a192ca6c7c95d11729d7
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, passwords_in
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt import open_fastgpt
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_app import keep_apps
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project_options import ARGUMENT_SPEC, without_it


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENT_SPEC,
            apps={"type": "list", "elements": "dict", "required": True, "options": {
                "name": {"type": "str", "required": True},
                "model": {"type": "str"},
                "prompt": {"type": "str"},
                "intro": {"type": "str"},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            }, "required_if": [("state", "present", ("model",))]},
        ),
        supports_check_mode=True,
    )
    module.no_log_values.update(passwords_in(module.params))
    try:
        fastgpt = open_fastgpt(module.params, runner(module), read_only=module.check_mode)
        result = keep_apps(fastgpt, module.params["apps"])
    except LocalModelsError as problem:
        warning = module.check_mode and without_it(problem, module.params)
        if not warning:
            module.fail_json(msg=str(problem))
        module.warn(warning)
        module.exit_json(changed=False, actions=[], apps=[])
    if fastgpt.unsafe_session:
        module.warn("The login token is not kept, so each task logs in for itself: %s" % fastgpt.unsafe_session)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
