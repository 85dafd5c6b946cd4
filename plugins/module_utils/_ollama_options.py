# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options by which a module reaches Ollama (doc fragment `ollama`). Internal to this collection."""

from __future__ import annotations

from urllib.parse import unquote

from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client, without_user
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama import Ollama

ARGUMENT_SPEC = {
    "url": {"type": "str", "default": "http://127.0.0.1:11434"},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "timeout": {"type": "int", "default": 30},
    "headers": {"type": "dict", "no_log": True},
    "use_proxy": {"type": "bool", "default": False},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path", "no_log": False},
}


def ollama_for(module):
    """The Ollama client (_ollama.Ollama) that the options of a module (AnsibleModule) ask for. What is secret in them is told to the
    module, so that nothing that Ansible prints of it, such as its options from -vvv on, holds it."""
    params = module.params
    module.no_log_values.update(in_url(params["url"]))
    headers = {str(name): str(value) for name, value in (params["headers"] or {}).items()}
    return Ollama(Client(
        params["url"], "Ollama", headers=headers, secrets=headers.values(), timeout=params["timeout"], use_proxy=params["use_proxy"],
        validate_certs=params["validate_certs"], ca_path=params["ca_path"],
        client_cert=params["client_cert"], client_key=params["client_key"],
        username=params["url_username"], password=params["url_password"]))


def in_url(url):
    """The secrets (set of str) in an address (str): its password as it is written and as it is meant, or a user name that stands alone,
    which is a token then."""
    name, dummy, password = without_user(url)[1].partition(":")
    secret = password or name
    return {secret, unquote(secret)} - {""}
