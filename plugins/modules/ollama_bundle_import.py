#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ollama_bundle_import
short_description: Models, release and images from a bundle, without internet
version_added: 0.1.0
description:
  - Gives a host without internet what a bundle holds, which M(localmodels.fastgpt.ollama_bundle_export) made on a machine with internet.
  - Models go into the store of the running Ollama. It lists them at once, with the digest that their registry gave them; no restart is needed.
    A model that is created through the API from the same layers would have another digest, so the store must be reachable as a folder
    of the host that runs the module.
  - A model appears as the last step, when all of its layers are there and their SHA-256 was compared. Until then the server has what it had before.
  - If the bundle lies on the controller, only files that the host lacks are sent. They go in pieces through Ansible's own connection, so nothing
    has to be installed, and a transfer that broke goes on where it broke. It shows itself while it runs.
  - Nothing outside of the host is ever asked.
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
    description: Reads for real, and sends and writes nothing.
    support: full
    details:
      - Where nothing listens at O(url) yet, check mode goes on as if the server held no models, and warns.
  diff_mode:
    description: Shows the declared models before and after, one line a model.
    support: full
options:
  bundle:
    description: Folder of the bundle, an absolute path.
    type: path
    required: true
  remote_src:
    description: Whether the bundle lies on the managed host, such as on a stick or an NFS folder, and not on the controller.
    type: bool
    default: false
  models:
    description:
      - The models to import, names and maps as in O(localmodels.fastgpt.ollama_models#module:models).
      - A model with C(state) V(present) is imported if the server does not hold it; one with V(latest) also if the bundle holds another one;
        one with V(absent) is left out, and V(loaded) and V(unloaded) mean V(present) here. Of one that is made C(from) another model, the other
        one is imported.
      - A model with C(digest) is imported if the server does not hold exactly this one; that the bundle holds another one is an error.
      - A model that the server holds need not be in the bundle.
    type: list
    elements: raw
    default: []
  store_path:
    description:
      - The folder where the server keeps its models, as the host that runs the module sees it.
      - If not set, the usual places are looked at.
    type: path
  verify:
    description:
      - Whether the layers of the declared models that are there already are hashed, and replaced if they are damaged.
      - Otherwise a layer with the right size is taken to be right.
    type: bool
    default: false
  version:
    description: The release of Ollama that shall be unpacked in O(install_dir), as M(localmodels.fastgpt.ollama_release) does it.
    type: str
  install_dir:
    description: Folder that holds one folder for each release.
    type: path
    default: /opt/ollama
  checksum:
    description: SHA-256 that the release archive must have, beside that which the bundle tells.
    type: str
    default: ''
  images:
    description:
      - Container images that Docker shall have. One that Docker has under this name is left alone, even if the bundle's is another one.
      - One for another architecture than Docker's here is refused.
    type: list
    elements: str
    default: []
  scratch_dir:
    description: Folder on the managed host for the archives of O(images) while they are being sent.
    type: path
    default: /var/lib/localmodels
  contents:
    description: What the bundle holds. The action plugin of this module sets it; leave it alone.
    type: dict
seealso:
  - module: localmodels.fastgpt.ollama_bundle_export
  - module: localmodels.fastgpt.ollama_models
notes:
  - Run it as root, or as the user who owns the store. What it writes belongs to the owner of the store.
"""

EXAMPLES = r"""
- name: The declared models come from a bundle beside the playbook
  localmodels.fastgpt.ollama_bundle_import:
    bundle: /media/usb/bundle
    models: "{{ local_models }}"

- name: The same from a stick in the host, every layer compared
  localmodels.fastgpt.ollama_bundle_import:
    bundle: /mnt/bundle
    remote_src: true
    models: [qwen2.5:0.5b]
    store_path: /data/ollama/models
    verify: true

- name: Images of other projects travel in the bundle too
  localmodels.fastgpt.ollama_bundle_import:
    bundle: /media/usb/bundle
    images:
      - ghcr.io/labring/fastgpt:v4.15.4
"""

RETURN = r"""
actions:
  description: What was done, or in check mode what would be done, in sentences.
  returned: always
  type: list
  elements: str
  sample: ["Imported qwen2.5:0.5b (397.8 MB)"]
models:
  description: What happened to each declared model that the bundle holds.
  returned: success, and failure after something was tried
  type: list
  elements: dict
  contains:
    name:
      description: The name as the server shows it.
      type: str
      sample: qwen2.5:0.5b
    action:
      description: V(none), V(import), V(update), V(repair) or V(failed).
      type: str
      sample: import
    digest_before:
      description: The model's digest before, null if it was not there.
      type: str
    digest_after:
      description: The model's digest now.
      type: str
      sample: a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72
    bytes:
      description: Size of the layers that were brought.
      type: int
      sample: 397821319
    msg:
      description: Why it failed.
      returned: if it failed
      type: str
"""

import os
import platform
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _bundle, _bundle_import, _bundle_programs, _ollama_facts, _plan, _store
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker, runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Unreachable, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_options import ARGUMENT_SPEC, ollama_for
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import parse_version
from ansible_collections.localmodels.fastgpt.plugins.module_utils._release import Release, read_checksum


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENT_SPEC,
            bundle={"type": "path", "required": True},
            remote_src={"type": "bool", "default": False},
            models={"type": "list", "elements": "raw", "default": []},
            store_path={"type": "path"},
            verify={"type": "bool", "default": False},
            version={"type": "str"},
            install_dir={"type": "path", "default": "/opt/ollama"},
            checksum={"type": "str", "default": ""},
            images={"type": "list", "elements": "str", "default": []},
            scratch_dir={"type": "path", "default": "/var/lib/localmodels"},
            contents={"type": "dict"},
        ),
        supports_check_mode=True,
    )
    results = {"changed": False, "actions": []}
    try:
        run(module, results)
    except (LocalModelsError, OSError) as problem:
        module.fail_json(msg=str(problem), **results)
    module.exit_json(**results)


def run(module, results):
    """Fills `results` (dict) as it goes, so that a failure in between reports what was done until then."""
    params = module.params
    bundle = bundle_of(params)
    release = release_of(module, bundle) if params["version"] else None
    images = _bundle_programs.Images(Docker(runner(module)), bundle, params["images"], params["scratch_dir"]) if params["images"] else None
    ollama = ollama_for(module)
    models = found = None
    if params["models"]:
        found, models = models_of(module, ollama, bundle)
    for part in (release, images):
        if part:
            part.refuse_if_too_small(sent=not params["remote_src"])
    parts = [part for part in (release, images, models) if part and part.todo]
    files = [one for part in parts for one in part.needed()]
    if params["remote_src"]:
        _bundle.refuse_incomplete(params["bundle"], [one.file for one in files])
    if module.check_mode:
        results.update(changed=bool(parts), actions=[sentence for part in parts for sentence in part.sentences()])
        results["needed"] = [{"path": one.file.path, "size": one.file.size, "place": one.place, "there": one.there()} for one in files]
        fill(module, results, models, found)
        return
    source = _bundle_import.OnThisHost(params["bundle"]) if params["remote_src"] else _bundle_import.Sent()
    for part in parts:
        done = part.carry_out(source)
        results["actions"] += done
        results["changed"] = results["changed"] or bool(done)
    fill(module, results, models, found)
    if models and models.todo:
        models.refuse_problems()
        models.refuse_other_store(ollama.found())


def bundle_of(params):
    """The _bundle.Bundle that the parameters (dict) name."""
    if params["remote_src"]:
        _bundle.refuse_relative(params["bundle"])
        return _bundle.read(params["bundle"])
    if not params["contents"]:
        raise LocalModelsError("A bundle on the controller can only be sent by the action plugin of this module",
                               "Call the module as localmodels.fastgpt.ollama_bundle_import, without async")
    return _bundle.of_carried(params["contents"], params["bundle"])


def release_of(module, bundle):
    """The _bundle_programs.ReleaseOf for the parameters."""
    params = module.params
    release = Release(runner(module), parse_version(params["version"]), params["install_dir"].rstrip("/"), "file:///", "", platform.machine())
    return _bundle_programs.ReleaseOf(release, bundle, read_checksum(params["checksum"]) if params["checksum"] else "")


def models_of(module, ollama, bundle):
    """(list of _plan.Found of the server, _bundle_import.Models). Raises LocalModelsError."""
    params = module.params
    found = []
    try:
        found = ollama.found()
    except Unreachable as problem:
        if not module.check_mode:
            raise
        module.warn(_ollama_facts.not_yet(problem))
    # Here a store is written to: a usual place that fits, and never one that is guessed from the processes of this host.
    store = _store.Store(params["store_path"]) if params["store_path"] else _store.find(urlsplit(params["url"]).hostname, found)
    if not module.check_mode and (store is None or not os.path.isdir(store.path)):
        raise LocalModelsError(
            "There is no folder %s on this host" % store.path if store else
            "The model store of the Ollama at %s was not found on this host" % params["url"],
            "Name the folder as this host sees it with store_path (ollama_models_store_path); a server whose store lies on another machine"
            " needs delegate_to that machine")
    models = _bundle_import.plan_models(params["models"], bundle, found, store, params["verify"])
    models.refuse_if_too_small()
    return found, models


def fill(module, results, models, found):
    if not models:
        return
    results["models"] = models.report()
    if module._diff:
        done = [step for step in models.todo if step not in models.problems]
        results["diff"] = _plan.diff(found, _plan.apply(found, done), [step.wanted for step in models.steps], scrub(module.params["url"]))


if __name__ == "__main__":
    main()
