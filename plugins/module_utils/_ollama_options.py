# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options by which a module reaches Ollama (doc fragment `ollama`). Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama import Ollama

ARGUMENT_SPEC = {
    "url": {"type": "str", "default": "http://127.0.0.1:11434"},
    "timeout": {"type": "int", "default": 30},
    "headers": {"type": "dict", "no_log": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path", "no_log": False},
}


def ollama_from(params):
    """The Ollama client (_ollama.Ollama) that a module's parameters (dict) ask for."""
    headers = {str(name): str(value) for name, value in (params["headers"] or {}).items()}
    return Ollama(Client(
        params["url"], "Ollama", headers=headers, secrets=headers.values(), timeout=params["timeout"],
        validate_certs=params["validate_certs"], ca_path=params["ca_path"],
        client_cert=params["client_cert"], client_key=params["client_key"]))
