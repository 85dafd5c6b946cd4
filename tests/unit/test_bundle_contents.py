# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts need of a bundle, from their variables."""

from __future__ import annotations

import pathlib

import pytest
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.plugins.filter import bundle_contents as module

DEFAULTS = yaml_load((pathlib.Path(module.__file__).parents[2] / "roles/ollama/defaults/main.yml").read_text())


def test_the_defaults_are_those_of_the_role():
    assert (module.PROVIDER, module.VERSION) == (DEFAULTS["ollama_provider"], DEFAULTS["ollama_version"])
    assert module.IMAGE % "{{ ollama_version }}" == DEFAULTS["ollama_docker_image"]


def test_each_thing_once():
    hostvars = {
        "a": {"local_models": ["x", {"name": "y", "state": "latest"}], "ollama_provider": "host"},
        "b": {"local_models": [{"name": "y", "state": "latest"}, "z"], "ollama_provider": "host", "ollama_version": "0.32.14"},
        "c": {"local_models": "x,z"},
        "d": {"ollama_docker_image": "mirror.lan/ollama:1"},
        "e": {"ollama_docker_image": "mirror.lan:5000/ollama:0.34.4-rocm", "ollama_version": "0.1.0"},
    }
    assert module.bundle_contents(list("abcde"), hostvars) == {
        "models": ["x", {"name": "y", "state": "latest"}, "z"], "versions": [module.VERSION, "0.32.14"],
        "images": ["ollama/ollama:" + module.VERSION, "mirror.lan/ollama:1", "mirror.lan:5000/ollama:0.34.4-rocm"],
        "server_versions": [module.VERSION, "0.34.4"]}


def test_an_unknown_host_is_told():
    with pytest.raises(AnsibleFilterError, match="no host z"):
        module.bundle_contents(["z"], {})
