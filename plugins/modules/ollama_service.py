#!/usr/bin/python
# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_service
short_description: Run Ollama as a systemd service that answers
version_added: 0.1.0
description:
  - Makes an unpacked release of Ollama run under systemd with the declared settings, and waits until its API answers with the wanted version.
  - Reads the unit, its drop-in, the link to the release, the running process (its program and its environment) and the API in one go, and acts
    only on what differs. The server is restarted only if the process that runs is not what is wanted, so a play that was killed between writing
    and restarting is made good by the next one.
  - Settings lie in a drop-in of their own, because Ollama's installer rewrites the unit.
  - If the server does not come up, its last log lines are shown, the unit, the settings and the release that ran before are put back, and
    the task fails.
  - Used by the role P(localmodels.fastgpt.ollama#role), which also makes the user and installs the release.
attributes:
  check_mode:
    support: full
    description: Reads for real, writes nothing, and returns what it would do. Works where neither user nor release exist yet.
  diff_mode:
    support: full
    description: Shows the unit, the drop-in and the link. Passwords in URLs and values of variables that end in KEY, TOKEN, SECRET, PASSWORD or DSN are masked.
options:
  version:
    description: The release to run, such as V(0.32.15).
    type: str
    required: true
  install_dir:
    description: Folder that holds one folder for each release. Releases other than the wanted one and the one before are removed after a change.
    type: path
    default: /opt/ollama
  bin_dir:
    description: Folder in which the command C(ollama) becomes a link to the release.
    type: path
    default: /usr/local/bin
  user:
    description: The user that runs the service. Must exist, except in check mode.
    type: str
    default: ollama
  group:
    description: The group that runs the service. Must exist, except in check mode.
    type: str
    default: ollama
  listen:
    description:
      - Where the API is offered, as C(ADDRESS:PORT).
      - Ollama has no authentication. The default lets in nobody but the host itself.
    type: str
    default: 127.0.0.1:11434
  store_path:
    description:
      - Folder of the models. It is created for the service user if it does not exist.
      - Empty means C(.ollama/models) in the home directory of O(user), as Ollama's installer does.
    type: str
    default: ''
  environment:
    description:
      - Further environment variables of the server. V(true) and V(false) become 1 and 0, lists are joined by commas.
      - Values that Ollama would misread without a word are refused. C(OLLAMA_HOST) and C(OLLAMA_MODELS) have options of their own.
    type: dict
    default: {}
  timeout:
    description: Seconds to wait for the API.
    type: int
    default: 60
author:
  - localmodels contributors (@localmodels)
"""

EXAMPLES = r"""
- name: Say what differs, change nothing
  localmodels.fastgpt.ollama_service:
    version: 0.32.15
  check_mode: true
  register: found

- name: Ollama runs release 0.32.15 and keeps models loaded for an hour
  localmodels.fastgpt.ollama_service:
    version: 0.32.15
    environment:
      OLLAMA_KEEP_ALIVE: 1h
"""

RETURN = r"""
differences:
  description: What was (in check mode, is) not as declared, as one sentence for each kind of thing. Empty if nothing was.
  returned: success
  type: dict
  sample:
    process: The running server has version 0.32.14 instead of 0.32.15
restarted:
  description: Whether the server was restarted. In check mode, whether it would be for what runs now.
  returned: success
  type: bool
url:
  description: By which URL the host itself reaches the server.
  returned: success
  type: str
  sample: http://127.0.0.1:11434
loopback_only:
  description: Whether nobody but the host itself can reach the server.
  returned: success
  type: bool
store_path:
  description: Folder of the models.
  returned: success
  type: str
  sample: /usr/share/ollama/.ollama/models
home:
  description: Home directory of the service user, or the one it should get.
  returned: success
  type: str
  sample: /usr/share/ollama
device_groups:
  description: Groups of this host whose members may use its GPU.
  returned: success
  type: list
  elements: str
  sample: [render, video]
"""

import platform

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _release
from ansible_collections.localmodels.fastgpt.plugins.module_utils._alone import alone, in_reach
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import runner
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_service import Wanted, differences, file_diffs
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_service_apply import ServiceHost, refuse_unfit_host
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import (
    imagined,
    parse_listen,
    parse_version,
    read_environment,
    secret_values,
)

RESERVED = {"OLLAMA_HOST": "Set ollama_listen instead", "OLLAMA_MODELS": "Set ollama_store_path instead"}
PREREQUISITES = ("user", "zstd", "release")


def main():
    module = AnsibleModule(
        argument_spec=dict(
            version=dict(type="str", required=True),
            install_dir=dict(type="path", default="/opt/ollama"),
            bin_dir=dict(type="path", default="/usr/local/bin"),
            user=dict(type="str", default="ollama"),
            group=dict(type="str", default="ollama"),
            listen=dict(type="str", default="127.0.0.1:11434"),
            store_path=dict(type="str", default=""),
            environment=dict(type="dict", default={}),
            timeout=dict(type="int", default=60),
        ),
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C"}
    module.no_log_values.update(secret_values(module.params["environment"]))  # Ansible shows a module's options from -vvv on
    try:
        with alone(in_reach(module.params["install_dir"]), unless=module.check_mode):
            result = converge(module)
    except (LocalModelsError, OSError) as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(**result)


def converge(module):
    """Read, compare, act. Returns the module's result (dict). Raises LocalModelsError."""
    wanted = read_wanted(module.params)
    for name in imagined(wanted.declared):
        module.warn("Ollama has no variable %s: it has no effect" % name)
    refuse_unfit_host()
    host = ServiceHost(runner(module), wanted)
    found = host.read()
    different = differences(wanted, found)
    result = {
        "changed": bool(different),
        "differences": different,
        "restarted": "process" in different,
        "url": wanted.listen.url,
        "loopback_only": wanted.listen.loopback_only,
        "store_path": wanted.store(found.home),
        "home": found.home,
        "device_groups": sorted(found.device_groups),
    }
    if not different:
        return result
    result["diff"] = file_diffs(wanted, found)
    host.refuse(found)
    if module.check_mode:
        _release.asset(wanted.version, platform.machine())
        return result
    lacking = [different[what] for what in PREREQUISITES if what in different]
    if lacking:
        raise LocalModelsError("The service cannot be set up yet: %s" % "; ".join(lacking),
                               "Use the role localmodels.fastgpt.ollama, which provides all of it")
    result["restarted"] = host.apply(found)
    return result


def read_wanted(params):
    """The module's parameters (dict) as Wanted. Raises LocalModelsError."""
    store_path = params["store_path"].rstrip("/")
    if store_path and not store_path.startswith("/"):
        raise LocalModelsError("The folder of the models %r is no absolute path" % store_path, "Begin it with a slash")
    return Wanted(
        version=parse_version(params["version"]),
        install_dir=params["install_dir"].rstrip("/"),
        bin_dir=params["bin_dir"].rstrip("/"),
        user=params["user"],
        group=params["group"],
        listen=parse_listen(params["listen"]),
        store_path=store_path,
        environment=read_environment(params["environment"], RESERVED),
        timeout=params["timeout"],
    )


if __name__ == "__main__":
    main()
