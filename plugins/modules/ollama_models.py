#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ollama_models
short_description: Models that an Ollama server holds
version_added: 0.1.0
description:
  - Makes an Ollama server hold the declared models, with one call for the whole list. Models are pulled, or made from other models, from a GGUF
    file, or from a folder of safetensors.
  - It can also delete what is not declared, and see to it that models are in memory or not.
  - When all is as declared this costs one request to the server and none to a registry.
  - Before the first byte is pulled the registry is asked whether each model exists and how large it is, and the disk whether
    all of them fit. Layers that are there already, or that several models share, are not counted twice.
  - Files are sent in pieces, each under its digest; what the server has already is not sent, so a broken upload goes on file by file.
  - Long pulls and uploads show themselves while they run, with model, percent, bytes, rate and time left. If the play is cancelled
    they stop by themselves within about a minute; the next run resumes them.
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
    description: Reads for real, also from the registries, and changes nothing.
    support: full
    details:
      - Where nothing listens at O(url) yet, as on a host that a playbook has still to set up, check mode goes on as if the server held
        no models, and warns.
      - For V(latest) of a model whose registry cannot be asked from this host, check mode reports the action V(ask) and no change.
  diff_mode:
    description: Shows the models before and after, one line a model, what differs of one that is made here, and what each undeclared one frees.
    support: full
  async:
    description: Supports being used with the C(async) keyword. No progress is shown then.
    support: full
options:
  models:
    description:
      - The models, each a name or a map.
      - A name has the form C([host/][namespace/]model[:tag]). V(qwen2.5), V(qwen2.5:latest) and
        V(registry.ollama.ai/library/qwen2.5:latest) are the same model, whatever the case.
      - Known keys of a map are C(name) (needed), C(state), C(insecure), C(keep_alive), C(digest), and those of a model that is made from another one.
        The list is shared with the roles that configure FastGPT, so their keys are checked here too, and not used.
        A key that is probably a misspelt one is refused, any other one is left alone.
      - C(state) is V(present) (the default), V(absent), V(latest), which pulls again only if the registry has another model
        under this name, V(loaded) or V(unloaded). The last two are V(present) as well.
      - V(loaded) means that the model is in memory, for as long as C(keep_alive) says, which is seconds, or a text such as V(10m).
        The default V(-1) is for ever. A model that is in memory for a shorter time than for ever is loaded again if C(keep_alive) is
        for ever; other times count from the last use of a model, and are not compared. Models with the same weights share what is loaded,
        so loading or unloading one of them does it to the others too.
      - C(digest) pins a model to one content, by the digest that M(localmodels.fastgpt.ollama_info) shows. Ollama takes none in a name, so
        the registry is asked before the first byte whether it still has this content, and the server after the pull.
      - C(insecure) says that the registry of this model speaks plain HTTP.
      - C(from) names a model that this one is made from, which is declared with it, and comes first. Or it is the absolute path of a GGUF
        file or of a folder of safetensors (with C(config.json)), as the host sees it that runs the module. Of a GGUF file in parts
        any of them stands for all; a folder may also hold GGUF files that belong together, such as a model and its projector. C(system),
        C(template), C(parameters) (a map), C(license) (a text, or a list of them) and C(messages) (a list of maps with C(role) and
        C(content)) make the difference. What is left out or empty is the base's; licenses are added to the base's. With V(latest) the
        base is the latest.
      - C(adapter) is the absolute path of a LoRA adapter for C(from), a GGUF file or a folder of safetensors (with
        C(adapter_config.json)). Ollama takes one, and since 0.34.1 none.
      - C(quantize) makes smaller weights. Until 0.34.0 Ollama quantizes F16 and BF16 from GGUF or safetensors to V(q4_K_M), V(q4_K_S), V(q8_0), V(f16) or
        V(f32); since then only safetensors, to V(int4), V(int8), V(nvfp4), V(mxfp4) or V(mxfp8), where it has MLX.
      - >-
        A C(template) is full of braces that Ansible would take for its own, so write it as C(template: !unsafe "...").
      - A model that is there is made again only if it is not as declared, or if its base or the content of a file has changed. Parameters are compared by
        their values, not by how they are written. Only parameters that Ollama knows are taken.
    type: list
    elements: raw
    required: true
  insecure:
    description:
      - The value of C(insecure) for models that do not say it themselves.
    type: bool
    default: false
  offline:
    description:
      - Whether no registry may be asked, neither by this module nor by the server. Then V(latest) is the model that is there,
        and one that is missing is an error. M(localmodels.fastgpt.ollama_bundle_import) brings models without a registry.
    type: bool
    default: false
  exclusive:
    description:
      - Whether every model is deleted that is not declared, when all declared ones are there. Models that declared ones are made from
        count as declared. If anything failed nothing is deleted. What is in memory is unloaded first.
    type: bool
    default: false
  protect:
    description:
      - Models that O(exclusive) leaves alone, as names in any spelling or as patterns such as V(house-*).
    type: list
    elements: str
    default: []
  allow_empty:
    description:
      - Whether O(exclusive) may delete every model, with an O(models) in which none stays.
    type: bool
    default: false
  store_path:
    description:
      - The folder where the server keeps its models, as the host that runs the module sees it.
      - It is only read, to find out what is there already and how much space is free.
      - If not set, the usual places are looked at, and the one that the process of the server names.
    type: path
  capacity:
    description:
      - V(enforce) fails before the first byte if models do not fit the disk, or are so large that the server could never load them. V(warn)
        says it and goes on, V(ignore) does not look. What is there already, what models share and what declared deletions free counts.
      - Memory is looked at if Ollama runs on the host that runs the module; that of the machine, or the limit of Ollama's container or service,
        with swap and GPUs. A warning says if models that are used by turns (V(loaded), or with C(default_for)) push each other out of it.
      - Of a model that is not here yet only its weights count, for a registry does not tell what a context takes; of one that is here the warning
        counts it as Ollama itself does (C(context) of the item, else C(num_ctx) of the model, else what its server gives).
    type: str
    choices: [enforce, warn, ignore]
    default: enforce
  parallel:
    description:
      - How many models are pulled at the same time. Models that share a layer that is not there yet are pulled one after the other in
        any case, for Ollama can crash otherwise, and so is a model whose registry this host cannot ask for its layers.
      - One pull fetches up to 16 parts of a large layer at a time, so more than a few pulls help only against slow registries.
    type: int
    default: 4
  retries:
    description:
      - How often a pull or an upload is tried again after a failure that may pass, such as a registry that is down or busy, a broken
        connection, or a server that restarts. The pauses grow, or are as long as the server asks (C(Retry-After), up to two minutes).
    type: int
    default: 3
  stall_timeout:
    description:
      - How many seconds a pull or an upload may go on without a byte more before it is cancelled and tried again.
    type: int
    default: 300
  remember:
    description:
      - Whether check mode may note the digests of files that it read. The action plugin of this module sets it; leave it alone otherwise.
    type: bool
    default: false
  progress_path:
    description:
      - A file to which the module writes how far it is. The action plugin of this module sets it; leave it alone otherwise.
      - A second file, with C(.watched) behind its name, has to be touched while the module runs, or the pull is cancelled within a minute.
    type: path
seealso:
  - module: localmodels.fastgpt.ollama_info
  - module: localmodels.fastgpt.ollama_bundle_import
notes:
  - What models were made from Ollama does not tell. The module remembers it, with the digests of files, in C(localmodels.fastgpt) below C($XDG_CACHE_HOME)
    or C(~/.cache) of the user it runs as. With that a run in which nothing changes reads no file. A file whose size, times or inode have
    changed is read again. Where the notes are missing each file is read, and its model made again once, which gives the same model, so no change is reported.
  - Two plays that pull to the same server at the same time do not know of each other. Ollama joins pulls of the same layer, and can crash when one
    of them ends early (ollama issue 17370). Such a pull is tried again, but it is better to run one play at a time for a server.
  - The module runs on the managed host, beside Ollama. To reach a server from somewhere else, such as one on Windows, set O(url) and use
    C(delegate_to). Its disk and memory are not looked at then, and certificates lie on the host that runs the module.
"""

EXAMPLES = r"""
- name: The models of this host are there
  localmodels.fastgpt.ollama_models:
    models:
      - qwen2.5:0.5b
      - name: nomic-embed-text
        state: latest
      - name: llama2
        state: absent
      - {name: "llama3.2:3b", digest: a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72}  # this content, or a failure

- name: A model comes from a registry in the house that speaks plain HTTP
  localmodels.fastgpt.ollama_models:
    models:
      - name: registry.example.com:5000/lab/house-blend:v1
        insecure: true

- name: A model of our own is made from another one, and stays in memory
  localmodels.fastgpt.ollama_models:
    models:
      - name: house-clerk
        from: qwen2.5:0.5b
        state: loaded
        system: You answer in one sentence.
        parameters:
          temperature: 0.2
          num_ctx: 8192
          stop: ["<|im_end|>"]

- name: A model comes from a file, another one from a folder, and is quantized
  localmodels.fastgpt.ollama_models:
    models:
      - name: house-blend
        from: /srv/models/house-blend-7b.gguf
      - name: house-small
        from: /srv/models/house-small
        quantize: q4_K_M
        system: You answer in one sentence.

- name: The server holds these models and no others
  localmodels.fastgpt.ollama_models:
    models: [qwen2.5:0.5b]
    exclusive: true
    protect: [house-*]

- name: A server on Windows, behind a proxy with TLS and a password, holds its models
  localmodels.fastgpt.ollama_models:
    url: https://gpu-win1.example.com
    url_username: ansible
    url_password: "{{ vault_ollama_password }}"
    models: "{{ local_models }}"
  delegate_to: localhost
"""

RETURN = r"""
models:
  description: >-
    What happened to each declared model, to the models that these are made from, and with O(exclusive) to those that are not declared.
    Deletions of declared ones come first, the others last.
  returned: success, and failure after something was tried
  type: list
  elements: dict
  contains:
    name:
      description: The name as the server shows it.
      type: str
      sample: qwen2.5:0.5b
    state:
      description: The declared state.
      type: str
      sample: present
    action:
      description: >-
        V(none), V(pull), V(update), V(create), V(recreate), V(load), V(unload), V(delete), V(prune) (deleted, for it is not declared)
        or V(failed). A model that is pulled or created and then loaded has what came first. In check mode also V(ask), where only a
        pull can tell whether the registry has another model, and V(recheck) for what is made from such a one, or from files of which
        nothing is remembered.
      type: str
      sample: pull
    digest_before:
      description: The model's digest before, null if it was not there.
      type: str
    digest_after:
      description: The model's digest now, null if it is not there. In check mode V(unknown) where it could not be asked for, or is made.
      type: str
      sample: a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72
    bytes:
      description: >-
        Size of the whole model if it was pulled, whatever part of it was there already. If it was made from files, the bytes that were
        sent; in check mode the size of the files. If it was deleted because it is not declared,
        the bytes that this freed (see RV(freed)). Else 0. In check mode the same, as far as the registry says it.
      type: int
      sample: 397821319
    seconds:
      description: How long it took.
      type: float
      sample: 12.3
    msg:
      description: Why it failed.
      returned: if it failed
      type: str
freed:
  description: >-
    What the deletion of models that are not declared freed, or in check mode would free.
  returned: success, and failure after something was tried
  type: dict
  contains:
    bytes:
      description: Bytes. Layers that models share are counted once, and not at all while a model needs them.
      type: int
    exact:
      description: Whether this is exact. If not, manifests could not be read (see O(store_path)), and it is the most that can be.
      type: bool
pulled:
  description: All pulls together.
  returned: after a run that was no check
  type: dict
  contains:
    bytes:
      description: >-
        Bytes that came over the wire: what the server lacked before, or of a model that failed what Ollama told of it. Small layers are missing where
        this host cannot ask the registry, and the first moment of large ones where it does not see the store (O(store_path)).
      type: int
    seconds:
      description: From the start of the first pull to the end of the last one.
      type: float
    bytes_per_second:
      description: The quotient of the two.
      type: int
actions:
  description: What was done, or in check mode what would be done, in sentences.
  returned: always
  type: list
  elements: str
  sample: ["Pulled qwen2.5:0.5b, 397.8 MB in 12 s"]
reachable:
  description: Whether the server answered. Only in check mode it may be false without a failure.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _apply, _capacity, _machine, _notes, _plan, _prepare, _report
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, refuse_less, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_options import ARGUMENT_SPEC, ollama_for
from ansible_collections.localmodels.fastgpt.plugins.module_utils._progress import Progress
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENT_SPEC,
            models={"type": "list", "elements": "raw", "required": True},
            insecure={"type": "bool", "default": False},
            offline={"type": "bool", "default": False},
            exclusive={"type": "bool", "default": False},
            protect={"type": "list", "elements": "str", "default": []},
            allow_empty={"type": "bool", "default": False},
            store_path={"type": "path"},
            capacity={"type": "str", "choices": list(_capacity.MODES), "default": "enforce"},
            parallel={"type": "int", "default": 4},
            retries={"type": "int", "default": 3},
            stall_timeout={"type": "int", "default": 300},
            remember={"type": "bool", "default": False},
            progress_path={"type": "path"},
        ),
        supports_check_mode=True,
    )
    results = {"changed": False, "actions": []}
    try:
        run(module, results)
    except LocalModelsError as problem:
        module.fail_json(msg=str(problem), **results)
    module.exit_json(**results)


def run(module, results):
    """Fills `results` (dict) as it goes, so that a failure in between reports what was done until then."""
    params = module.params
    wanted = _plan.read_wanted(params["models"], params["insecure"])
    ollama = ollama_for(module)
    exclusive = _prepare.Exclusive(params["protect"], params["allow_empty"]) if params["exclusive"] else None
    refuse_less(params, parallel=1, retries=0, stall_timeout=1)
    notes = _notes.Notes()
    prepared = _prepare.prepare(
        ollama, wanted, params["store_path"], assume_empty=module.check_mode, offline=params["offline"], exclusive=exclusive, notes=notes,
        capacity=params["capacity"], look=lambda: _machine.below(ollama.client.base_url, runner(module)))
    for warning in prepared.warnings:
        module.warn(warning)
    results["reachable"] = prepared.reachable
    if params["remember"] or not module.check_mode:
        save(module, notes)
    if module.check_mode:
        outcomes, found = _report.planned(prepared)
        fill(module, results, prepared, outcomes, found)
        return
    progress = Progress(params["progress_path"], sum(action.pulls for action in prepared.actions) + len(prepared.to_make))
    job = _apply.Run(ollama, prepared, progress, params["retries"], params["stall_timeout"], params["parallel"], warn=module.warn)
    try:
        job.carry_out()
    except Abandoned as problem:
        module.log(str(problem))  # nobody will see the result
        raise
    finally:
        save(module, notes)
        fill(module, results, prepared, job.outcomes, job.found)
        results["pulled"] = job.pulled
    problem = _report.failure(job.outcomes)
    if problem:
        raise problem


def save(module, notes):
    try:
        notes.save()
    except LocalModelsError as problem:
        module.warn(str(problem))


def fill(module, results, prepared, outcomes, found):
    results.update(_report.report(outcomes, found, module.check_mode))
    pruned = [outcome.action for outcome in outcomes if outcome.action.verb == "prune" and outcome.done]
    results["freed"] = {"bytes": sum(action.size for action in pruned), "exact": prepared.freed_exact}
    if module._diff:
        results["diff"] = _plan.diff(prepared.found, found, prepared.actions, scrub(module.params["url"]), prepared.freed_exact)


if __name__ == "__main__":
    main()
