#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ollama_info
short_description: What an Ollama server holds and runs
version_added: 0.1.0
description:
  - Reads the version of an Ollama server, its models with what they can do, and which of them are loaded.
  - Where it runs on the host that runs the module, also the memory it may use and the limits it works with, which its API does not tell.
author:
  - localmodels contributors (@localmodels)
extends_documentation_fragment:
  - localmodels.fastgpt.ollama
attributes:
  action_group:
    description: C(module_defaults) of C(group/localmodels.fastgpt.ollama) apply to this module.
    support: full
    membership:
      - localmodels.fastgpt.ollama
  check_mode:
    description: Only reads.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: N/A
options:
  models:
    description:
      - Names of models to report, in any spelling. Others are left out.
      - A name that the server does not hold is no error. It stands in RV(missing).
      - If not set, all models are reported.
    type: list
    elements: str
  details:
    description:
      - Whether each model is asked for its details, with one request a model.
      - Without them RV(models[].num_ctx) is null, and older servers leave out more.
    type: bool
    default: true
  must_answer:
    description:
      - Whether a server that gives no answer at all is an error. If not, a warning says why, and it is reported as one that holds nothing.
    type: bool
    default: true
seealso:
  - module: localmodels.fastgpt.ollama_models
"""

EXAMPLES = r"""
- name: Read what Ollama holds
  localmodels.fastgpt.ollama_info:
  register: ollama

- name: Show which models can call tools
  ansible.builtin.debug:
    msg: "{{ ollama.models | selectattr('capabilities', 'contains', 'tools') | map(attribute='name') | list }}"

- name: What a server holds is written down as a list to declare
  ansible.builtin.copy:
    content: "{{ {'local_models': ollama.local_models} | to_nice_yaml }}"
    dest: ./models-of-today.yml
    mode: "0644"
  delegate_to: localhost

- name: Show how much of its video memory is taken, and until when
  ansible.builtin.debug:
    msg: "{{ item.size_vram }} bytes, until {{ item.expires_at }}"
  loop: "{{ ollama.running }}"
  loop_control:
    label: "{{ item.name }}"

- name: Fail early if FastGPT would be promised more than the server gives
  ansible.builtin.assert:
    that: ollama.limits.context_length is none or ollama.limits.context_length >= 16384

- name: Read one model
  localmodels.fastgpt.ollama_info:
    models:
      - qwen2.5:0.5b
"""

RETURN = r"""
reachable:
  description: Whether the server answers. If it does not, and O(must_answer) is not set, it holds nothing as far as anybody knows.
  returned: success
  type: bool
version:
  description: Version of the running server. Null if it does not answer.
  returned: success
  type: str
  sample: 0.32.15
models:
  description: The models, in the order of their names.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name as the server shows it.
      type: str
      sample: qwen2.5:0.5b
    digest:
      description: Digest of the model's manifest.
      type: str
    size:
      description: Bytes on the disk, shared layers included.
      type: int
    family:
      description: Architecture of the model.
      type: str
      sample: qwen2
    parameter_size:
      description: How many parameters it has, as the server writes it.
      type: str
      sample: 494.03M
    quantization:
      description: How its weights are stored.
      type: str
      sample: Q4_K_M
    capabilities:
      description: What it can do, such as V(completion), V(tools), V(vision), V(thinking), V(embedding).
      type: list
      elements: str
    context_length:
      description: Tokens the model was made for. Null if the server does not say.
      type: int
    embedding_length:
      description: Length of its vectors. Null if the server does not say.
      type: int
    num_ctx:
      description: Tokens of context that the model itself asks the server for by a parameter. Null if it does not.
      type: int
    running_context_length:
      description: Tokens of context it is loaded with right now. Null if it is not loaded.
      type: int
    modified_at:
      description: When it was last pulled, also if nothing was new.
      type: str
local_models:
  description:
    - The models, ready to be declared with M(localmodels.fastgpt.ollama_models), which then changes nothing.
    - A model that was made from another one of them is a map with C(from) and what differs, if O(details) is set. All others are
      names. A server does not say whether a registry speaks plain HTTP.
  returned: success
  type: list
  elements: raw
  sample: ["qwen2.5:0.5b", {"name": "house-clerk:latest", "from": "qwen2.5:0.5b", "system": "You answer in one sentence."}]
running:
  description: The models that are loaded.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name under which it was loaded first. Models with the same weights share what is loaded.
      type: str
    digest:
      description: Digest of its manifest.
      type: str
    size:
      description: Bytes of memory it takes.
      type: int
    size_vram:
      description: >-
        How many of them on a GPU, as Ollama tells it. On a CPU with a matrix unit (AMX) Ollama counts what lies there as a GPU's, so a
        server without a GPU may show more than 0.
      type: int
    expires_at:
      description: When it will be unloaded.
      type: str
    context_length:
      description: Tokens of context it is loaded with.
      type: int
memory:
  description: The memory that the server may use. Null if it runs on another machine, or nobody could tell which process it is.
  returned: success
  type: dict
  contains:
    ram:
      description: Bytes of main memory, or the limit of the container or service that Ollama runs in.
      type: int
      sample: 33554432000
    limited:
      description: Whether RV(memory.ram) is such a limit.
      type: bool
    swap:
      description: Bytes of swap.
      type: int
    vram:
      description: Bytes of the GPUs' own memory. Null if there is a GPU of which nobody says how much it has.
      type: int
    gpus:
      description: How many GPUs have memory of their own. Null likewise.
      type: int
limits:
  description:
    - What the server works with, from the environment of its process and its defaults. Each is null if it runs on another machine, or if
      the user who runs the module may not look at the process.
    - A context length that depends on video memory is null if that is unknown; RV(running[].context_length) is always what is really given.
  returned: success
  type: dict
  contains:
    num_parallel:
      description: Requests that one model answers at the same time.
      type: int
    max_queue:
      description: Requests that may wait before it answers that it is busy.
      type: int
    context_length:
      description: Tokens of context where neither a request nor the model says.
      type: int
    max_loaded_models:
      description: Models that may be loaded at the same time.
      type: int
    keep_alive:
      description: How long a model stays loaded after its last request.
      type: str
      sample: 5m
    load_timeout:
      description: How long a load may stand still.
      type: str
    kv_cache_type:
      description: How the context is kept in memory.
      type: str
      sample: f16
missing:
  description: Names of O(models) that the server does not hold.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _machine
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Unreachable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_facts import not_yet, read, silent
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_options import ARGUMENT_SPEC, ollama_for


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENT_SPEC,
            models={"type": "list", "elements": "str"},
            details={"type": "bool", "default": True},
            must_answer={"type": "bool", "default": True},
        ),
        supports_check_mode=True,
    )
    try:
        ollama = ollama_for(module)
        facts = read(ollama, module.params["models"], module.params["details"])
    except LocalModelsError as problem:
        if module.params["must_answer"] or not isinstance(problem, Unreachable):
            module.fail_json(msg=str(problem))
        module.warn(not_yet(problem) if module.check_mode else str(problem))
        facts = silent(module.params["models"])
    memory, limits = _machine.below(ollama.client.base_url, runner(module))
    module.exit_json(changed=False, memory=memory and vars(memory), limits=limits, **facts)


if __name__ == "__main__":
    main()
