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
      - Address of Ollama as the host that runs the module reaches it.
    type: str
    default: http://127.0.0.1:11434
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
