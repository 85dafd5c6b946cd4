# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which URL a container reaches an Ollama."""

from __future__ import annotations

import urllib.parse

import pytest
from hypothesis import given, strategies as st

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _address
from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import NoWay, Way, way
from ansible_collections.localmodels.fastgpt.plugins.module_utils._places import place


def ollama(**changes):
    return dict({"host": "box", "provider": "docker", "container": "ollama", "network": "ollama",
                 "address": "192.0.2.10", "port": 11434}, **changes)


def test_same_docker_engine_by_name_and_inner_port():
    assert way(ollama(port=8888), "box") == Way("http://ollama:11434", network="ollama")
    assert way(ollama(container="models", network="ai"), "box") == Way("http://models:11434", network="ai")


def test_ollama_on_the_machine_itself():
    here = ollama(provider="host", listen="0.0.0.0:11434")
    assert way(here, "box") == Way("http://host.docker.internal:11434", extra_host="host.docker.internal")
    assert way(dict(here, port=12000, listen="172.17.0.1:12000"), "box").url == "http://host.docker.internal:12000"


@pytest.mark.parametrize("provider", ["docker", "host"])
@pytest.mark.parametrize("address, url", [
    ("192.0.2.10", "http://192.0.2.10:11434"),
    ("gpu1.example.org", "http://gpu1.example.org:11434"),
    ("gpu_1", "http://gpu_1:11434"),
    ("2001:db8::7", "http://[2001:db8::7]:11434"),
    ("[2001:db8::7]", "http://[2001:db8::7]:11434"),
])
def test_another_machine_by_its_address(provider, address, url):
    assert way(ollama(host="gpu1", provider=provider, address=address), "box") == Way(url)


@pytest.mark.parametrize("address", ["localhost", "LOCALHOST.", "127.0.0.1", "127.3.2.1", "::1", "[::1]", "::ffff:127.0.0.1",
                                     "localhost.localdomain", "ip6-localhost", "a.localhost"])
def test_loopback_is_refused_with_the_reason(address):
    with pytest.raises(NoWay, match=r"from a container that is the container itself.*ollama_address of host gpu1"):
        way(ollama(host="gpu1", address=address), "box")


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "[::]"])
def test_an_address_to_listen_on_is_none_to_call(address):
    with pytest.raises(NoWay, match="nobody can call it"):
        way(ollama(host="gpu1", address=address), "box")


@pytest.mark.parametrize("provider", ["docker", "host"])
def test_an_ollama_on_another_machine_that_hears_only_itself(provider):
    with pytest.raises(NoWay, match="listens on 127.0.0.1:11434 only, and another machine cannot call there"):
        way(ollama(host="gpu1", provider=provider, address="192.0.2.7", listen="127.0.0.1:11434"), "box")


def test_an_address_that_was_given_is_believed():
    behind_a_proxy = place("gpu1", {"ollama_address": "192.0.2.7"})
    assert way(behind_a_proxy, "box").url == "http://192.0.2.7:11434"


@pytest.mark.parametrize("listen", ["127.0.0.1:11434", "localhost:11434", "[::1]:11434"])
def test_an_ollama_on_the_machine_that_hears_only_itself(listen):
    with pytest.raises(NoWay, match="listens on .* only"):
        way(ollama(provider="host", listen=listen), "box")


@pytest.mark.parametrize("provider", ["docker", "host"])
def test_a_caller_in_the_network_of_its_machine_uses_loopback(provider):
    assert way(ollama(provider=provider, port=8888, listen="127.0.0.1:8888"), "box", "host") == Way("http://127.0.0.1:8888")
    assert way(ollama(host="gpu1"), "box", "host") == Way("http://192.0.2.10:11434")


def test_a_caller_that_can_join_no_network():
    with pytest.raises(NoWay, match="network_mode: bridge cannot join"):
        way(ollama(), "box", "bridge")
    assert way(ollama(provider="host"), "box", "bridge").extra_host == "host.docker.internal"


@pytest.mark.parametrize("address", ["", "http://gpu1:11434", "gpu1:11434", "a b", "-x", "gpu1\n"])
def test_what_is_no_host_is_refused(address):
    with pytest.raises(NoWay, match="no host name and no address"):
        way(ollama(host="gpu1", address=address), "box")


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_what_is_no_port_is_refused(port):
    with pytest.raises(NoWay, match="is no port"):
        way(ollama(host="gpu1", port=port), "box")


@given(st.ip_addresses(), st.integers(1, 65535))
def test_any_address_gives_a_url_that_reads_back_or_a_reason(address, port):
    try:
        found = way(ollama(host="gpu1", address=str(address), port=port), "box").url
    except NoWay:
        assert _address.is_loopback(str(address)) or _address.is_any(str(address))
        return
    parts = urllib.parse.urlsplit(found)
    assert (parts.port, parts.hostname) == (port, str(address).lower())
