# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  project_dir:
    description:
      - Folder of one-api's compose project on the managed host, as role C(one_api) makes it.
      - The address of the container, and the access token in C(.env), are taken from there and stay on the managed host.
        Results say only where they were found.
    type: path
  url:
    description:
      - Base URL by which the managed host reaches one-api, such as V(http://127.0.0.1:3001), without a path.
      - Goes before what O(project_dir) says.
    type: str
  access_token:
    description:
      - Access token of root, or of an administrator, for one-api's management. It is not a key for chats (C(sk-...)).
      - Goes before what O(project_dir) says.
    type: str
  timeout:
    description:
      - Seconds without a byte from one-api before a request fails.
      - If it says that there were too many requests from this host, it is asked again for 200 seconds at most.
    type: int
    default: 30
"""
