#!/usr/bin/python

# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: fastgpt_info
short_description: What FastGPT's compose project is made of
version_added: 0.1.0
description:
  - Reads FastGPT's compose project on its host, by C(docker compose config) and C(docker inspect), and tells who is who, where
    each server is reached, and where the secrets were found. The secrets themselves are never returned.
  - Works while the containers are down, and changes nothing.
author:
  - localmodels contributors (@localmodels)
attributes:
  check_mode:
    description: Only reads.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: N/A
options:
  project_dir:
    description:
      - Folder of FastGPT's compose project on the managed host, the one in which C(docker compose up -d) is called.
    type: path
    required: true
seealso:
  - module: localmodels.fastgpt.fastgpt_compose
"""

EXAMPLES = r"""
- name: Read FastGPT's project
  localmodels.fastgpt.fastgpt_info:
    project_dir: /opt/fastgpt
  register: fastgpt

- name: Show its version and where it is reached
  ansible.builtin.debug:
    msg: "FastGPT {{ fastgpt.version }} at {{ fastgpt.fastgpt.url }}, AI Proxy at {{ fastgpt.gateway.url }}"
"""

RETURN = r"""
version:
  description: FastGPT's version from its image's tag, or from inside the running container, or null.
  returned: success
  type: str
  sample: 4.15.4
flavour:
  description:
    - Which admin API of models to expect from the version. V(none) before 4.8.20, V(A) up to 4.16, V(B) from 4.17 on, or null.
    - A guess. The other modules ask the server.
  returned: success
  type: str
  sample: A
project:
  description: Compose's name of the project.
  returned: success
  type: str
  sample: fastgpt
fastgpt:
  description: The service that is FastGPT.
  returned: success
  type: dict
  contains:
    service:
      description: Its name.
      type: str
      sample: fastgpt-app
    url:
      description: How this host reaches it, or null while it has no address.
      type: str
      sample: http://127.0.0.1:3000
    copies:
      description: Names of all services that run this FastGPT.
      type: list
      elements: str
gateway:
  description: The service that is AI Proxy.
  returned: success
  type: dict
  contains:
    service:
      description: Its name, or null if it runs outside of the project.
      type: str
      sample: fastgpt-aiproxy
    url:
      description: How this host reaches it, or null while it has no address.
      type: str
      sample: http://172.18.0.5:3000
    endpoint:
      description: How FastGPT calls it, or null if it is not told.
      type: str
      sample: http://fastgpt-aiproxy:3000
secrets:
  description: Where the root password and AI Proxy's admin key were found, null for one that is nowhere. Not the secrets.
  returned: success
  type: dict
  sample: {"root_password": "DEFAULT_ROOT_PSW of service fastgpt-app in /opt/fastgpt",
           "admin_key": "ADMIN_KEY of service fastgpt-aiproxy in /opt/fastgpt"}
admin_keys_differ:
  description: Whether FastGPT holds another admin key than AI Proxy. Every call through FastGPT then ends in 401.
  returned: success
  type: bool
services:
  description: The services of the project with their containers, by name.
  returned: success
  type: dict
  contains:
    name:
      description: Its name once more.
      type: str
    image:
      description: Image of the running container, else of the file.
      type: str
    container:
      description: Name of the container.
      type: str
    state:
      description: Docker's word for its state, or V(missing) where there is no container.
      type: str
    health:
      description: Result of its health check, or null without one.
      type: str
    networks:
      description: Docker's names of the networks it is in.
      type: list
      elements: str
    extra_hosts:
      description: Names that it knows besides those of its networks.
      type: dict
    network_mode:
      description: Its C(network_mode), or null.
      type: str
    ports:
      description: Published ports, as C(address:port) under the port inside.
      type: dict
files:
  description: The project's own compose files, in the order in which they are merged.
  returned: success
  type: list
  elements: str
override:
  description: The file of M(localmodels.fastgpt.fastgpt_compose) that docker compose merges after those.
  returned: success
  type: dict
  contains:
    file:
      description: Where it belongs.
      type: str
      sample: /opt/fastgpt/docker-compose.override.yml
    in_place:
      description: Whether it is there and docker compose merges it.
      type: bool
    unfinished:
      description: Whether a change was cut off.
      type: bool
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_apply import Site
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker, runner, unreadable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError


def facts(site):
    """What may be shown of a Site: dict."""
    project, gateway, key = site.project, site.project.gateway, site.project.admin_key()
    path = os.path.join(site.folder, site.layout.place)
    return {
        "version": project.version,
        "flavour": project.flavour(),
        "project": project.name,
        "fastgpt": {"service": project.app.name, "url": project.fastgpt_url(), "copies": [one.name for one in project.apps]},
        "gateway": {"service": gateway.name if gateway else None, "url": project.gateway_url(), "endpoint": project.endpoint or None},
        "secrets": {"root_password": project.root_password().found_in, "admin_key": key.found_in if key else None},
        "admin_keys_differ": project.keys_differ(),
        "services": {name: service.public() for name, service in project.services.items()},
        "files": site.layout.base,
        "override": {"file": path, "in_place": site.layout.joined and os.path.exists(path), "unfinished": site.backup.unfinished()},
    }


def main():
    module = AnsibleModule(argument_spec={"project_dir": {"type": "path", "required": True}}, supports_check_mode=True)
    try:
        module.exit_json(changed=False, **facts(Site(Docker(runner(module), module.params["project_dir"]))))
    except LocalModelsError as problem:
        module.fail_json(msg=str(problem))
    except OSError as problem:
        module.fail_json(msg=str(unreadable(module.params["project_dir"], problem)))


if __name__ == "__main__":
    main()
