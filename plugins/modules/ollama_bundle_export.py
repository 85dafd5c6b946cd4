#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ollama_bundle_export
short_description: Models, releases and images in a folder for hosts without internet
version_added: 0.1.0
description:
  - Fills a folder, the bundle, that can be carried to hosts without internet, on a stick or by any copy. There
    M(localmodels.fastgpt.ollama_bundle_import) or the roles of this collection take from it what they need.
  - Models are downloaded from their registries directly. Ollama is not needed for that.
  - Each file is compared with its SHA-256 before it gets its name. What is there already is never downloaded again, layers that several models
    share are there once, and a download that broke goes on where it broke.
  - The file C(bundle.json) says what the bundle holds, with size and SHA-256 of each file. It is written last.
author:
  - localmodels contributors (@localmodels)
attributes:
  check_mode:
    description: Asks registries for real, and writes and downloads nothing.
    support: full
  diff_mode:
    description: Shows what the bundle holds before and after, one line a thing.
    support: full
options:
  bundle:
    description: Folder of the bundle on the host that runs the module, an absolute path. Created if it does not exist.
    type: path
    required: true
  models:
    description:
      - The models, names and maps as in O(localmodels.fastgpt.ollama_models#module:models).
      - With C(state) V(present) a model that the bundle holds is left alone, and its registry is not asked. With V(latest) the registry is asked,
        and the model downloaded if it is another one. V(loaded) and V(unloaded) mean V(present) here, and one with V(absent) is left out.
      - A model with C(digest) is in the bundle with exactly this digest. A registry gives only what it has now under a name, so if that is another
        one, nothing is downloaded and the message names both; one that the bundle holds already stays there.
      - Of a model that is made C(from) another one, the other one is taken; it is made on the closed host. Files and adapters that it is made from
        are not taken.
      - Of items that name one model (the list may come from several hosts) the one with C(digest) counts, then one with V(latest).
    type: list
    elements: raw
    default: []
  insecure:
    description: The value of C(insecure) (the registry speaks plain HTTP) for models that do not say it themselves.
    type: bool
    default: false
  versions:
    description:
      - Releases of Ollama, such as V(0.32.15), whose archives for Linux shall be in the bundle.
      - The newest of them and of O(server_versions) is told to the registries, which refuse models that need a newer one.
    type: list
    elements: str
    default: []
  server_versions:
    description: Releases that run on the closed hosts and whose archives are not needed, such as those in container images.
    type: list
    elements: str
    default: []
  architectures:
    description: For which machines O(versions) are needed.
    type: list
    elements: str
    choices: [amd64, arm64]
    default: [amd64]
  release_url:
    description: Where releases are published.
    type: str
    default: https://github.com/ollama/ollama/releases/download
  images:
    description:
      - Container images, saved by C(docker save). One that Docker does not have here is pulled, for the architecture of this machine.
      - A name with a digest is refused, for C(docker save) does not keep it.
    type: list
    elements: str
    default: []
  exclusive:
    description:
      - Whether what is not asked for leaves the bundle.
      - Otherwise the bundle only grows, but for layers that no model in it needs any more.
    type: bool
    default: false
  retries:
    description: How often a registry that does not answer is asked again. The pauses grow.
    type: int
    default: 3
  timeout:
    description: Seconds a registry may stay without an answer.
    type: int
    default: 30
  progress_path:
    description: A file to which the module writes how far it is. The action plugin of this module sets it; leave it alone otherwise.
    type: path
seealso:
  - module: localmodels.fastgpt.ollama_bundle_import
notes:
  - Before the first byte the disk is looked at, whether it may be written, takes files of that size (FAT32 takes none of 4 GB) and has room. Of an
    image that has to be pulled the size is not known then.
  - Models that only their owner may pull are not downloaded, for the module holds no key of an account.
"""

EXAMPLES = r"""
- name: What a closed host needs is on the stick
  localmodels.fastgpt.ollama_bundle_export:
    bundle: /media/usb/bundle
    models: "{{ local_models }}"
    versions: [0.32.15]

- name: The container image too, and nothing else
  localmodels.fastgpt.ollama_bundle_export:
    bundle: /media/usb/bundle
    models:
      - name: qwen2.5:0.5b
        state: latest
    images: ["ollama/ollama:0.32.15"]
    exclusive: true
"""

RETURN = r"""
actions:
  description: What was done, or in check mode what would be done, in sentences.
  returned: always
  type: list
  elements: str
  sample: ["Add qwen2.5:0.5b (397.8 MB to download)"]
left_out:
  description: Declared models that are not in the bundle as such, and why.
  returned: success
  type: list
  elements: str
  sample:
    - house:latest is made on its host, from qwen2.5:0.5b
    - clerk:latest is made on its host, from /srv/models/clerk.gguf; bring /srv/models/clerk.gguf there, under the same path
received:
  description: Bytes that were downloaded, images not counted.
  returned: success
  type: int
  sample: 397821319
size:
  description: Bytes that the bundle has. In check mode those that it would have without what is not known before it is downloaded.
  returned: success
  type: int
  sample: 2231941511
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _bundle, _bundle_plan
from ansible_collections.localmodels.fastgpt.plugins.module_utils._bundle_export import Export
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker, runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, passwords_in, refuse_less
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import parse_version
from ansible_collections.localmodels.fastgpt.plugins.module_utils._progress import Progress
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text


def main():
    module = AnsibleModule(
        argument_spec=dict(
            bundle={"type": "path", "required": True},
            models={"type": "list", "elements": "raw", "default": []},
            insecure={"type": "bool", "default": False},
            versions={"type": "list", "elements": "str", "default": []},
            server_versions={"type": "list", "elements": "str", "default": []},
            architectures={"type": "list", "elements": "str", "choices": ["amd64", "arm64"], "default": ["amd64"]},
            release_url={"type": "str", "default": "https://github.com/ollama/ollama/releases/download"},
            images={"type": "list", "elements": "str", "default": []},
            exclusive={"type": "bool", "default": False},
            retries={"type": "int", "default": 3},
            timeout={"type": "int", "default": 30},
            progress_path={"type": "path"},
        ),
        supports_check_mode=True,
    )
    module.no_log_values.update(passwords_in(module.params))
    results = {"changed": False, "actions": []}
    try:
        run(module, results)
    except (LocalModelsError, OSError) as problem:
        module.fail_json(msg=str(problem), **results)
    module.exit_json(**results)


def run(module, results):
    """Fills `results` (dict) as it goes, so that a failure in between reports what was done until then."""
    params = module.params
    refuse_less(params, retries=0)
    _bundle.refuse_relative(params["bundle"])
    export = Export(params["bundle"], Docker(runner(module)), params["retries"])
    if export.damage:
        module.warn("%s What is whole of it is taken over." % export.damage.what)
    wanted, results["left_out"] = _bundle_plan.read_models(params["models"], params["insecure"])
    versions = [parse_version(version) for version in params["versions"]]
    export.want_models(wanted, newest(versions + [parse_version(version) for version in params["server_versions"]]), params["timeout"])
    export.want_releases(versions, params["architectures"], params["release_url"])
    export.want_images(params["images"])
    export.refuse_unfit_disk()
    results["actions"] = [part.sentence for part in export.parts]
    if module.check_mode:
        planned = export.planned(params["exclusive"])
        fill(module, results, export, planned, changed=bool(export.parts) or export.changes(planned))
        return
    progress = Progress(params["progress_path"], 1)
    meter = Meter(progress, export.missing())
    try:
        new = export.carry_out(params["exclusive"], meter.count)
        progress.end("bundle", "Downloaded %s for the bundle" % size_text(export.received))
    finally:
        progress.close()
    results["actions"] = [part.sentence for part in export.parts if part.problem is None]
    fill(module, results, export, new, changed=export.received > 0 or export.changes(new))
    refuse_problems([part for part in export.parts if part.problem])


class Meter:
    """Counts what arrives, for _progress.Progress: `completed`, `total`, `fetched` (bytes)."""

    def __init__(self, progress, total):
        self.progress, self.total = progress, total
        self.completed = self.fetched = 0
        self.track = progress.start("bundle", total)

    def count(self, received):
        """Raises Abandoned where nobody watches any more."""
        self.fetched += received
        self.completed = self.fetched
        self.total = max(self.total, self.completed)
        self.track.moved(self, "pulling ")
        if self.progress.abandoned():
            raise Abandoned("The export was cancelled, for nobody waits for it any more", "Run again: it goes on")


def newest(versions):
    """The newest of several versions (list of str), "" where there is none."""
    return max(versions, key=lambda version: [int(number) for number in version.partition("-")[0].split(".")], default="")


def refuse_problems(failed):
    """Raise one LocalModelsError for all parts that could not be had."""
    if len(failed) == 1:
        raise failed[0].problem
    if failed:
        raise LocalModelsError("%d things could not be brought into the bundle: %s" % (
            len(failed), " ".join("%s: %s" % (part.what, part.problem) for part in failed)))


def fill(module, results, export, bundle, changed):
    results.update(changed=changed, received=export.received, size=sum(file.size for file in bundle.files.values()))
    if module._diff:
        header = "bundle %s" % module.params["bundle"]
        results["diff"] = {"before": export.old.lines(), "after": bundle.lines(), "before_header": header, "after_header": header}


if __name__ == "__main__":
    main()
