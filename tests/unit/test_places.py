# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the inventory to what FastGPT's host must know of each Ollama."""

from __future__ import annotations

import pathlib
import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.localmodels.fastgpt.plugins.filter.ollama_places import fastgpt_places, ollama_near_url, ollama_places
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _places
from ansible_collections.localmodels.fastgpt.plugins.modules.fastgpt_compose import OLLAMA_SPEC

ROLES = pathlib.Path(__file__).parents[2] / "roles"


def one(**variables):
    return ollama_places(["gpu1"], {"gpu1": variables})[0]


def test_defaults_are_those_of_the_role():
    defaults = yaml_load((ROLES / "ollama" / "defaults" / "main.yml").read_text())
    assert _places.DEFAULTS == {name: str(defaults[name]) for name in _places.DEFAULTS}


def test_a_host_without_variables():
    assert one() == {"host": "gpu1", "provider": "docker", "container": "ollama", "network": "ollama",
                     "address": "gpu1", "port": 11434, "listen": "127.0.0.1:11434"}
    assert set(one()) == set(OLLAMA_SPEC)


@pytest.mark.parametrize("variables, address, port, listen", [
    ({"ansible_host": "192.0.2.7"}, "192.0.2.7", 11434, "127.0.0.1:11434"),
    ({"ansible_host": "192.0.2.7", "ollama_listen": "0.0.0.0:12000"}, "192.0.2.7", 12000, "0.0.0.0:12000"),
    ({"ansible_host": "192.0.2.7", "ollama_listen": ":11434"}, "192.0.2.7", 11434, ":11434"),
    ({"ansible_host": "192.0.2.7", "ollama_listen": "10.0.0.7:11434"}, "10.0.0.7", 11434, "10.0.0.7:11434"),
    ({"ollama_listen": "[2001:db8::7]:11434"}, "[2001:db8::7]", 11434, "[2001:db8::7]:11434"),
    ({"ollama_address": "gpu.example.org", "ollama_listen": "127.0.0.1:11434"}, "gpu.example.org", 11434, ""),
])
def test_the_address_by_which_others_reach_it(variables, address, port, listen):
    found = one(**variables)
    assert (found["address"], found["port"], found["listen"]) == (address, port, listen)


@pytest.mark.parametrize("none", [None, ""])
def test_what_the_play_says_of_its_own_host_counts(none):
    # none: as ansible-core 2.19 and newer hand it over; "": as older ones do.
    known = {"gpu1": {"ollama_provider": "host", "ollama_listen": none, "ollama_address": none}}
    found = ollama_places(["gpu1"], {"gpu1": {"ollama_provider": "docker", "ollama_listen": "0.0.0.0:1"}}, known)[0]
    assert (found["provider"], found["port"], found["address"]) == ("host", 1, "gpu1")


def test_each_ollama_serves_its_own_models_or_those_of_the_play():
    hostvars = {"gpu1": {"local_models": ["a"]}, "gpu2": {}, "box": {"local_models": ["hidden by the play"]}}
    urls = {host: "http://%s:11434" % host for host in hostvars}
    assert fastgpt_places(["gpu1", "gpu2", "box"], urls, hostvars, "box", ["b"]) == [
        {"host": host, "url": urls[host], "models": models} for host, models in (("gpu1", ["a"]), ("gpu2", ["b"]), ("box", ["b"]))]


def test_a_text_stands_for_the_names_in_it():
    assert fastgpt_places(["box", "gpu1"], {"box": "u", "gpu1": "v"}, {"box": {}, "gpu1": {"local_models": "c"}}, "box", "a:1, b") == [
        {"host": "box", "url": "u", "models": ["a:1", "b"]}, {"host": "gpu1", "url": "v", "models": ["c"]}]


def test_an_empty_group_is_no_success():
    with pytest.raises(AnsibleFilterError, match="No host is named whose Ollama FastGPT is to use"):
        fastgpt_places([], {}, {}, "box", ["a"])


def test_a_host_that_fastgpt_has_no_way_to():
    with pytest.raises(AnsibleFilterError, match="reaches the Ollama of gpu2 is not known.* fastgpt_compose_ollama; a URL is known of gpu1"):
        fastgpt_places(["gpu1", "gpu2"], {"gpu1": "http://ollama:11434"}, {"gpu1": {}, "gpu2": {}}, "box", [])


@pytest.mark.parametrize("role", ["fastgpt_compose", "fastgpt_models", "one_api"])
def test_what_the_play_says_is_known_to_each_role_that_asks_for_places(role):
    (here,) = yaml_load((ROLES / role / "vars" / "main.yml").read_text()).values()
    assert set(here) == set(_places.DEFAULTS) | {"ollama_address"}
    texts = [path.read_text() for path in (ROLES / role).rglob("*.yml")]
    assert [len(re.findall("ollama_places\\(hostvars, {inventory_hostname: __%s_here}\\)" % role, text)) for text in texts] == [
        text.count("ollama_places(") for text in texts]


@pytest.mark.parametrize("listen, url", [
    ("", "http://127.0.0.1:11434"), ("127.0.0.1:11500", "http://127.0.0.1:11500"), ("0.0.0.0:12000", "http://127.0.0.1:12000"),
    (":11434", "http://127.0.0.1:11434"), ("10.0.0.7:11434", "http://10.0.0.7:11434"), ("[2001:db8::7]:11434", "http://[2001:db8::7]:11434"),
])
def test_a_host_calls_its_own_ollama_where_it_listens(listen, url):
    assert ollama_near_url(listen) == url


def test_a_listen_address_that_is_none_is_refused_by_its_readers_too():
    with pytest.raises(AnsibleFilterError, match="no valid port"):
        ollama_near_url("127.0.0.1:http")


def test_a_host_that_is_not_there():
    with pytest.raises(AnsibleFilterError, match="The inventory has no host gpu9"):
        ollama_places(["gpu9"], {"gpu1": {}})
    with pytest.raises(AnsibleFilterError, match="The inventory has no host gpu9"):
        fastgpt_places(["gpu9"], {}, {"gpu1": {}}, "gpu1", [])


def test_a_listen_address_without_port():
    with pytest.raises(AnsibleFilterError, match="ollama_listen of host gpu1 is 0.0.0.0, which has no port"):
        one(ollama_listen="0.0.0.0")


def test_the_roles_options_are_its_defaults():
    defaults = yaml_load((ROLES / "fastgpt_compose" / "defaults" / "main.yml").read_text())
    spec = yaml_load((ROLES / "fastgpt_compose" / "meta" / "argument_specs.yml").read_text())
    options = spec["argument_specs"]["main"]["options"]
    assert {name: option.get("default") for name, option in options.items()} == defaults
    items = options["fastgpt_compose_ollama"]["options"]
    assert {name: (item["type"], item.get("default")) for name, item in items.items()} == {
        name: (item["type"], item.get("default")) for name, item in OLLAMA_SPEC.items()}
