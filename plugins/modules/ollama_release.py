#!/usr/bin/python
# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_release
short_description: Have a release of Ollama unpacked on a Linux host
version_added: 0.1.0
description:
  - Downloads the release archive on the managed host, compares its SHA-256, unpacks it beside its place and renames it, so a folder with the
    name of a version always holds the whole release.
  - A download goes on where an earlier one stopped, also one of an earlier play. Proxy variables of the task's environment apply.
  - Releases from 0.14.0 on are packed with zstd. Where the command is not installed its library, libzstd.so.1, is enough.
  - Nothing that runs is touched. See M(localmodels.fastgpt.ollama_service) for that.
attributes:
  check_mode:
    support: full
    description: Reads the checksum of a release that is not there yet, so a version that does not exist is found out.
  diff_mode:
    support: none
    description: A release is there or not, which is all there is to see.
options:
  version:
    description: The release, such as V(0.32.15).
    type: str
    required: true
  install_dir:
    description: Folder that holds one folder for each release.
    type: path
    default: /opt/ollama
  url:
    description:
      - Where releases are published. The archive is expected at C(URL/vVERSION/ollama-linux-ARCH.tar.zst) (C(.tgz) before 0.14.0), its checksum in
        C(sha256sum.txt) beside it.
      - An absolute path or a C(file://) address of a folder on the managed host will do, such as the folder C(releases) of a bundle.
    type: str
    default: https://github.com/ollama/ollama/releases/download
  checksum:
    description: SHA-256 of the archive, 64 hexadecimal digits. Empty means that C(sha256sum.txt) of the release is asked.
    type: str
    default: ''
author:
  - localmodels contributors (@localmodels)
"""

EXAMPLES = r"""
- name: Release 0.32.15 is there
  localmodels.fastgpt.ollama_release:
    version: 0.32.15

- name: The same from a mirror, with a checksum of our own
  localmodels.fastgpt.ollama_release:
    version: 0.32.15
    url: https://mirror.example.org/ollama
    checksum: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

RETURN = r"""
path:
  description: Folder of the release.
  returned: success
  type: str
  sample: /opt/ollama/0.32.15
source:
  description: URL of the archive.
  returned: success
  type: str
  sample: https://github.com/ollama/ollama/releases/download/v0.32.15/ollama-linux-amd64.tar.zst
received:
  description: Bytes that were downloaded.
  returned: success
  type: int
  sample: 1834120192
"""

import platform

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub, url_passwords
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import parse_version
from ansible_collections.localmodels.fastgpt.plugins.module_utils._release import Release


def main():
    module = AnsibleModule(
        argument_spec=dict(
            version=dict(type="str", required=True),
            install_dir=dict(type="path", default="/opt/ollama"),
            url=dict(type="str", default="https://github.com/ollama/ollama/releases/download"),
            checksum=dict(type="str", default=""),
        ),
        supports_check_mode=True,
    )
    params = module.params
    module.no_log_values.update(url_passwords(params["url"]))  # Ansible shows a module's options from -vvv on
    try:
        release = Release(runner(module), parse_version(params["version"]), params["install_dir"].rstrip("/"), params["url"],
                          params["checksum"], platform.machine())
        received = 0
        changed = not release.present()
        if changed and module.check_mode:
            release.checksum()
        elif changed:
            received = release.install()
    except (LocalModelsError, OSError) as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(changed=changed, path=release.path, source=scrub(release.url), received=received)


if __name__ == "__main__":
    main()
