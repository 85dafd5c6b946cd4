# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  project_dir:
    description:
      - Folder of FastGPT's compose project on the managed host, the one in which C(docker compose up -d) is called.
      - FastGPT's address and root password, AI Proxy's address and its admin key are read from there
        (C(docker compose config) and the running containers), so that nothing else has to be given.
        C(COMPOSE_FILE), C(COMPOSE_PROFILES) and a project name set there count.
      - What is found stays on the managed host. Results say only where it was found.
    type: path
  fastgpt_url:
    description:
      - Base URL by which the managed host reaches FastGPT, such as V(http://127.0.0.1:3000).
      - Goes before what O(project_dir) says.
    type: str
  root_password:
    description:
      - Password of FastGPT's user C(root).
      - Goes before what O(project_dir) says.
    type: str
  aiproxy_url:
    description:
      - Base URL by which the managed host reaches AI Proxy, such as V(http://172.18.0.5:3000).
      - Goes before what O(project_dir) says. Official files publish no port of AI Proxy; it is then reached by its
        container's address, or through FastGPT where that address leads nowhere.
    type: str
  admin_key:
    description:
      - AI Proxy's C(ADMIN_KEY), which FastGPT knows as C(AIPROXY_API_TOKEN).
      - Goes before what O(project_dir) says.
    type: str
  timeout:
    description:
      - Seconds without a byte from a server before a request fails.
    type: int
    default: 30
"""
