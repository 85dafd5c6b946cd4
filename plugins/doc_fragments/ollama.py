# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:

    # How a module reaches Ollama; module_utils/_ollama_options.py holds the same options.
    DOCUMENTATION = r"""
options:
  url:
    description:
      - Address of Ollama as the host that runs the module reaches it, or of a proxy before it, with the path under which that offers it.
    type: str
    default: http://127.0.0.1:11434
  url_username:
    description:
      - User name for a proxy before Ollama that asks for HTTP's basic authentication. Ollama itself has no users.
      - User info in O(url), as in C(https://user:password@gpu.example.com), does the same. It is never shown.
      - In user info each C(/) is written as C(%2F), and each C(@) as C(%40).
    type: str
  url_password:
    description:
      - The password that belongs to O(url_username).
    type: str
  timeout:
    description:
      - How many seconds a request may stay without an answer.
    type: int
    default: 30
  headers:
    description:
      - Sent with each request, for a proxy before Ollama that asks for credentials.
      - Names and values are never shown.
    type: dict
  use_proxy:
    description:
      - Whether the variables C(HTTP_PROXY), C(HTTPS_PROXY) and C(NO_PROXY) in the environment of the task apply to calls of O(url).
      - They always apply to what this module asks a registry. For what Ollama itself pulls, only its own environment counts.
    type: bool
    default: false
  validate_certs:
    description:
      - Whether the certificate of an C(https) address is checked.
    type: bool
    default: true
  ca_path:
    description:
      - File with the certificates of the authorities to trust for an C(https) address.
    type: path
  client_cert:
    description:
      - File with the certificate to show to a proxy that asks for one.
    type: path
  client_key:
    description:
      - File with the key of O(client_cert), where that file does not hold it.
    type: path
"""
