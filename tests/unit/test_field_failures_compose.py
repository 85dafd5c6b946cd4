# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the field trips over in layers compose and network: each entry of field-failures.yml has a test here or elsewhere."""

from __future__ import annotations

import copy
import importlib
import pathlib
import types

import pytest
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose_wait, _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_change import _mend_of_image
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_paths import WrongPath
from test_compose import decide
from test_compose import found as read_of
from test_compose_paths import DOCKER, HOST, ONE_API, OWN_ONE_API, project, said, want
from test_project import LIST_STYLE, MAP_STYLE, container, load

FAILURES = yaml_load((pathlib.Path(__file__).parents[1] / "fixtures" / "field-failures.yml").read_text())["failures"]
# id: the tests without which it would come back, as module.function.
COVERED = {
    "host-docker-internal-unknown-on-linux": ["test_field_failures_compose.test_the_name_of_the_machine_is_given_to_who_calls",
                                              "test_compose.test_ollama_on_the_machine"],
    "images-cannot-be-pulled": ["test_field_failures_compose.test_a_registry_that_is_blocked_is_named",
                                "test_compose_apply.test_whatever_the_operator_has_is_there_again_after_a_failure"],
    "ollama-healthcheck-without-curl": ["test_ollama_container.test_the_file_says_what_was_declared",
                                        "test_field_failures_compose.test_a_health_check_that_cannot_pass_says_why"],
    "containers-share-no-network": ["test_field_failures_compose.test_who_calls_joins_the_network_of_ollama",
                                    "test_compose_apply.test_a_network_that_is_not_there_changes_nothing"],
    "aiproxy-endpoint-unset-fetch-failed": ["test_compose_paths.test_a_variable_that_leads_to_ai_proxy_must_be_set",
                                            "test_field_failures_compose.test_an_address_that_leads_nowhere_is_refused"],
    "remote-ollama-listens-local-only": ["test_address.test_an_ollama_on_another_machine_that_hears_only_itself"],
    "loopback-hits-fastgpt-itself": ["test_field_failures_compose.test_loopback_is_fastgpt_itself",
                                     "test_field_failures_compose.test_an_address_that_leads_nowhere_is_refused"],
    "published-port-used-between-containers": ["test_field_failures_compose.test_an_address_that_leads_nowhere_is_refused",
                                               "test_field_failures_compose.test_the_published_port_of_one_api_is_refused"],
    "gateway-database-volume-not-writable": ["test_field_failures_compose.test_a_database_that_does_not_start_is_named_before_its_gateway"],
    # Of layer upgrade, and about files all the same.
    "aiproxy-image-out-of-step": ["test_field_failures_compose.test_an_ai_proxy_that_stayed_behind_is_told"],
}


def test_every_entry_of_these_layers_has_a_test():
    entries = {one["id"] for one in FAILURES if one["layer"] in ("compose", "network")} | {"aiproxy-image-out-of-step"}
    assert entries == set(COVERED)
    for name in {name for names in COVERED.values() for name in names}:
        module, dummy, function = name.partition(".")
        assert isinstance(getattr(importlib.import_module(module), function), types.FunctionType), name


@pytest.mark.parametrize("path, caller", [("aiproxy", "aiproxy"), ("direct", "fastgpt")])
def test_the_name_of_the_machine_is_given_to_who_calls(path, caller):
    assert ("host", caller, "host.docker.internal", "host-gateway") in said(want(project(LIST_STYLE), path, ollama=[HOST]))


@pytest.mark.parametrize("path, caller", [("aiproxy", "aiproxy"), ("direct", "fastgpt")])
def test_who_calls_joins_the_network_of_ollama(path, caller):
    assert ("network", caller, "ollama", "") in said(want(project(LIST_STYLE), path))


@pytest.mark.parametrize("url, reason", [
    ("http://localhost:3010", "in its container that is FastGPT itself.*such as http://aiproxy:3000"),
    ("http://127.0.0.1:3010", "in its container that is FastGPT itself"),
    ("http://aiproxy:3010", "has port 3010, which aiproxy has on the host only: between containers it is 3000.*Set it to http://aiproxy:3000"),
    ("https://aiproxy:3000", "says https, and service aiproxy speaks http"),
])
def test_an_address_that_leads_nowhere_is_refused(url, reason):
    found = project(LIST_STYLE, app={"AIPROXY_API_ENDPOINT": url}, aiproxy={"ports": [{"target": 3000, "published": "3010", "protocol": "tcp"}]})
    with pytest.raises(WrongPath, match="(?s)AIPROXY_API_ENDPOINT of service fastgpt .*" + reason):
        want(found)


@pytest.mark.parametrize("url, more", [
    ("http://localhost:3010", {"fastgpt": {"network_mode": "host", "networks": {}}, "aiproxy": {"ports": [{"target": 3000, "published": "3010"}]}}),
    ("http://aiproxy:3000/", {}), ("http://AIPROXY:3000", {}),
    ("http://aiproxy:3000", {"aiproxy": {"ports": [{"target": 3000, "published": "3000", "protocol": "tcp"}]}}),
])
def test_an_address_that_leads_there_is_not(url, more):
    assert want(project(LIST_STYLE, app={"AIPROXY_API_ENDPOINT": url}, **more)).gateway == "aiproxy"


def test_loopback_is_fastgpt_itself():
    with pytest.raises(WrongPath, match="address of one-api .* is http://127.0.0.1:3001, and in its container that is FastGPT itself"):
        want(project(LIST_STYLE), "one_api", one_api=dict(ONE_API, url="http://127.0.0.1:3001"))


def test_the_published_port_of_one_api_is_refused():
    found = project(OWN_ONE_API, app={"OPENAI_BASE_URL": "http://oneapi:3001/v1"})
    with pytest.raises(WrongPath, match="OPENAI_BASE_URL of service fastgpt has port 3001, which oneapi has on the host only: between containers it is 3000"):
        want(found, "one_api")


@pytest.mark.parametrize("image, told", [
    ("ghcr.io/labring/aiproxy:v0.1.1", True), ("a/aiproxy:v0.1.2", True), ("a/aiproxy:v0.1.3", False), ("a/aiproxy:v0.6.5", False),
    ("a/aiproxy:latest", False)])
def test_an_ai_proxy_that_stayed_behind_is_told(image, told):
    config = copy.deepcopy(load(LIST_STYLE))
    config["services"]["aiproxy"]["image"] = image
    warnings = decide(read_of(config), [DOCKER])["warnings"]
    assert ["before 0.1.3 it loses what Ollama streams" in one for one in warnings] == [True] * told


def test_a_rootless_engine_is_told_where_it_counts():
    config = load(LIST_STYLE)
    assert "dockerd was started with --host-gateway-ip" in decide(read_of(config, rootless=True), [HOST])["warnings"][0]
    assert decide(read_of(config, rootless=True), [DOCKER])["warnings"] == []
    assert decide(read_of(config), [HOST])["warnings"] == []


@pytest.mark.parametrize("lists", [{"NO_PROXY": "localhost"}, {"no_proxy": "localhost"}, {"NO_PROXY": "localhost", "no_proxy": "localhost"}])
def test_each_list_of_exceptions_is_completed_in_its_own_case(lists):
    found = project(MAP_STYLE, gateway=dict(lists, HTTPS_PROXY="http://proxy:3128"))
    result = {one.name: one.value for one in want(found).intents if one.kind == "listed"}
    assert result == dict.fromkeys(lists, "localhost,ollama")


@pytest.mark.parametrize("image, err, registry", [
    ("ghcr.io/labring/fastgpt:v4", 'Error response from daemon: Head "https://ghcr.io/v2/labring/fastgpt/manifests/v4": read: connection reset by peer',
     "ghcr.io"),
    ("mongo:5", 'Get "https://registry-1.docker.io/v2/": net/http: request canceled (Client.Timeout exceeded while awaiting headers)',
     "registry-1.docker.io"),
    ("ghcr.io/labring/aiproxy:v0.6.5", "dial tcp: lookup ghcr.io on 10.0.0.1:53: no such host", "ghcr.io"),
])
def test_a_registry_that_is_blocked_is_named(image, err, registry):
    said = _mend_of_image(image, err)
    assert "its registry %s," % registry in said and "registry-mirrors" in said and "registry.cn-hangzhou" in said


def _described(**states):
    config = load(LIST_STYLE)
    return _project.describe(config, [container(name, State=state) for name, state in states.items()], "/opt/fastgpt")


def test_a_health_check_that_cannot_pass_says_why():
    health = {"Status": "unhealthy", "Log": [{"ExitCode": -1, "Output": 'exec: "curl": executable file not found in $PATH'}]}
    service = _described(fastgpt={}, aiproxy={"Status": "running", "Health": health}).gateway
    assert 'unhealthy: exec: "curl": executable file not found in $PATH' in _compose_wait.health(service)
    assert _compose_wait.cannot_check(service), "such a check tells nothing, so the server itself is asked"


def test_a_database_that_does_not_start_is_named_before_its_gateway():
    now = [0.0]
    clock = types.SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
    down = _described(fastgpt={}, aiproxy={"Status": "exited"}, aiproxy_pg={"Status": "restarting"})
    with pytest.raises(_compose_wait.NotUp, match="container is exited. Look at aiproxy_pg first, which Docker restarts again and again"):
        _compose_wait.wait_until_answers(lambda: down, 3, clock)
