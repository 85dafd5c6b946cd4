# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each path wants of each FastGPT, and what it refuses."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_intents import Intent
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_paths import PATHS, WrongPath, facts, wanted
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from test_project import LIST_STYLE, MAP_STYLE, OFFICIAL, container, load

DOCKER = {"host": "box", "provider": "docker", "container": "ollama", "network": "ollama", "address": "", "port": 11434, "listen": ""}
HOST = dict(DOCKER, provider="host", listen="0.0.0.0:11434")
ELSEWHERE = dict(HOST, host="gpu1", address="192.0.2.20")
ONE_API = {"url": "http://one-api:3000", "network": "one-api", "key": "sk-made"}
OWN_ONE_API = "v4.8.20-fix__d857a391b__files-docker-docker-compose-pgvector"
PROXY = {"HTTP_PROXY": "http://proxy:3128"}


def project(name, app=None, gateway=None, version=None, **service):
    """Facts of an official file with what somebody made of it."""
    config = copy.deepcopy(load(name))
    known = _project.describe(config, [], "/opt/fastgpt")
    for service_name, more in ((known.app.name, app), (known.gateway.name if known.gateway else None, gateway)):
        for key, value in (more or {}).items():
            if value is None:
                config["services"][service_name]["environment"].pop(key, None)
            else:
                config["services"][service_name]["environment"][key] = value
    for service_name, spec in service.items():
        config["services"][service_name.replace("_", "-")].update(spec)
    known = _project.describe(config, [], "/opt/fastgpt")
    known.version = version or known.version
    return facts(config, known)


def want(found, path="aiproxy", ollama=(DOCKER,), one_api=None):
    return wanted(found, path, list(ollama), "box", one_api)


def said(result):
    return [tuple(one)[:4] for one in result.intents]


def variables(result):
    return {one.name: one.value for one in result.intents if one.kind in ("variable", "listed")}


@pytest.mark.parametrize("name", sorted(OFFICIAL))
@pytest.mark.parametrize("path", PATHS)
def test_every_official_file_is_led_or_refused_by_its_version(name, path):
    version = OFFICIAL[name][0]
    try:
        result = want(project(name), path, one_api=ONE_API)
    except LocalModelsError as problem:
        assert problem.mend
        assert version is None if path != "aiproxy" else OFFICIAL[name][2] is None
        return
    assert result.urls == {"box": "http://ollama:11434"}
    if path == "aiproxy":
        assert variables(result) == {}
        assert result.caller == OFFICIAL[name][2]
    else:
        app = OFFICIAL[name][1]
        assert set(result.touched) == {app}
        assert variables(result)["OPENAI_BASE_URL"] == {
            "one_api": "http://one-api:3000/v1", "direct": "http://ollama:11434/v1"}[path]
        assert variables(result)["CHAT_API_KEY"] == {"one_api": "sk-made", "direct": "ollama"}[path]
        with_gateway = OFFICIAL[name][2] is not None
        assert {variables(result).get(name) for name in ("AIPROXY_API_ENDPOINT", "AIPROXY_API_TOKEN")} == {"" if with_gateway else None}


def test_a_container_is_reached_by_its_network_and_the_machine_by_a_name():
    assert said(want(project(MAP_STYLE))) == [("declared", "", "ollama", "ollama"), ("network", "fastgpt-aiproxy", "ollama", "")]
    assert said(want(project(MAP_STYLE), ollama=[HOST])) == [("host", "fastgpt-aiproxy", "host.docker.internal", "host-gateway")]
    assert said(want(project(MAP_STYLE), ollama=[ELSEWHERE])) == []
    assert want(project(MAP_STYLE), ollama=[ELSEWHERE, DOCKER]).urls == {"gpu1": "http://192.0.2.20:11434", "box": "http://ollama:11434"}


def test_a_service_in_the_default_network_stays_there():
    found = project(LIST_STYLE, aiproxy={"networks": {"default": None}})
    assert said(want(found))[0] == ("network", "aiproxy", "default", "")


@pytest.mark.parametrize("path", ["one_api", "direct"])
@pytest.mark.parametrize("version", ["4.17.0", "4.17.2", "4.17.0-beta1", "5.0"])
def test_from_4_17_on_there_is_only_ai_proxy(path, version):
    with pytest.raises(WrongPath, match=r"calls AI Proxy only.*Use fastgpt_compose_path: aiproxy"):
        want(project(MAP_STYLE, version=version), path, one_api=ONE_API)
    assert want(project(MAP_STYLE, version=version)).intents


def test_before_4_8_23_there_is_no_ai_proxy():
    with pytest.raises(WrongPath, match=r"has no AI Proxy; it came with 4.8.23"):
        want(project(LIST_STYLE, version="4.8.22-fix"))
    assert want(project(LIST_STYLE, version="4.8.23")).intents


def test_a_version_that_nobody_knows_is_not_guessed():
    found = project("latest__cd2fd77df__OLDEST-host-network")
    for path in ("one_api", "direct"):
        with pytest.raises(WrongPath, match="cannot be told from its image"):
            want(found, path, one_api=ONE_API)
    with pytest.raises(WrongPath, match="older than 4.6"):
        want(dict(found, version="4.5.2"), "direct")


@pytest.mark.parametrize("name", ["AIPROXY_API_ENDPOINT", "AIPROXY_API_TOKEN"])
@pytest.mark.parametrize("value", ["", None])
def test_a_variable_that_leads_to_ai_proxy_must_be_set(name, value):
    with pytest.raises(WrongPath, match="%s of service fastgpt-app is not set.*ADMIN_KEY of service fastgpt-aiproxy" % name):
        want(project(MAP_STYLE, app={name: value}))


def test_old_url_variable_goes_before_the_new_one_until_4_8_20():
    old = "v4.8.2__1e48922bc__files-deploy-fastgpt-docker-compose"
    assert variables(want(project(old, app={"ONEAPI_URL": "http://x/v1"}), "direct"))["ONEAPI_URL"] == ""
    assert "ONEAPI_URL" not in variables(want(project(LIST_STYLE, app={"ONEAPI_URL": "http://x/v1"}), "direct"))


def test_the_one_api_of_an_old_project_is_used_as_it_is():
    result = want(project(OWN_ONE_API), "one_api")
    assert said(result) == [("declared", "", "ollama", "ollama"), ("network", "oneapi", "ollama", "")]
    assert result.caller == "oneapi"
    assert said(want(project(OWN_ONE_API), "one_api", ollama=[HOST])) == [("host", "oneapi", "host.docker.internal", "host-gateway")]


@pytest.mark.parametrize(("change", "said"), [({"CHAT_API_KEY": ""}, "CHAT_API_KEY of service fastgpt is not set"),
                                             ({"OPENAI_BASE_URL": "http://oneapi:3000"}, "does not end in /v1")])
def test_an_old_project_that_cannot_call_its_one_api_is_told_so(change, said):
    with pytest.raises(WrongPath, match=said):
        want(project(OWN_ONE_API, app=change), "one_api")


def test_without_any_one_api_there_is_none_to_use():
    with pytest.raises(LocalModelsError, match="No service .* is the one-api that FastGPT calls"):
        want(project(LIST_STYLE), "one_api")


def test_the_direct_path_knows_one_ollama():
    with pytest.raises(WrongPath, match="2 are declared"):
        want(project(LIST_STYLE), "direct", ollama=[DOCKER, ELSEWHERE])


def test_several_copies_of_fastgpt_all_change():
    config = load(LIST_STYLE)
    config["services"]["fastgpt-2"] = copy.deepcopy(config["services"]["fastgpt"])
    found = facts(config, _project.describe(config, [], "/opt/fastgpt"))
    assert want(found, "direct").touched == ["fastgpt", "fastgpt-2"]


def test_a_borrowed_network_is_changed_at_its_owner():
    found = project(LIST_STYLE, aiproxy={"network_mode": "service:sandbox", "networks": {}, "container_name": "aiproxy"})
    assert want(found).touched == ["sandbox"]
    with pytest.raises(WrongPath, match="network of a container"):
        want(project(LIST_STYLE, aiproxy={"network_mode": "container:abc"}))


def test_one_api_cannot_be_joined_without_networks():
    with pytest.raises(WrongPath, match="cannot join the Docker network one-api"):
        want(project(LIST_STYLE, fastgpt={"network_mode": "host"}), "one_api", one_api=ONE_API)


@pytest.mark.parametrize(("gateway", "expected"), [
    ({}, {}),
    (PROXY, {"NO_PROXY": "ollama", "no_proxy": "ollama"}),
    (dict(PROXY, NO_PROXY="localhost,Ollama"), {}),
    (dict(PROXY, NO_PROXY="*"), {}),
    (dict(PROXY, NO_PROXY="localhost"), {"NO_PROXY": "localhost,ollama"}),
    (dict(PROXY, NO_PROXY="localhost,"), {"NO_PROXY": "localhost,ollama"}),
    (dict(PROXY, NO_PROXY="localhost", no_proxy=""), {"NO_PROXY": "localhost,ollama", "no_proxy": "ollama"}),
    ({"NO_PROXY": "localhost"}, {"NO_PROXY": "localhost,ollama"}),
    ({"NO_PROXY": ""}, {}),
])
def test_proxies_do_not_catch_calls_to_ollama(gateway, expected):
    assert variables(want(project(LIST_STYLE, gateway=gateway))) == expected


def test_proxies_do_not_catch_calls_to_the_gateway():
    assert variables(want(project(LIST_STYLE, app=PROXY))) == {"NO_PROXY": "aiproxy", "no_proxy": "aiproxy"}
    assert variables(want(project(LIST_STYLE, app=PROXY), "direct"))["no_proxy"] == "ollama"
    assert variables(want(project(LIST_STYLE, app=PROXY), "one_api", one_api=ONE_API))["NO_PROXY"] == "one-api"
    added = [one for one in want(project(MAP_STYLE), "direct").intents if one.kind == "listed"]
    assert [(one.name, one.added) for one in added] == [("NO_PROXY", ",ollama"), ("no_proxy", ",ollama")]


def test_facts_hold_no_secret():
    found = project(LIST_STYLE, app={"CHAT_API_KEY": "sk-very-secret", "HTTP_PROXY": "http://u:proxy-secret@p"})
    for secret in ("sk-very-secret", "proxy-secret", "mypassword", "=aiproxy"):
        assert secret not in repr(found)
    assert found["services"]["fastgpt"]["variables"]["AIPROXY_API_TOKEN"] == "(set)"


def test_intents_travel_as_lists():
    one = want(project(LIST_STYLE)).intents[0]
    assert Intent(*list(one)) == one


def test_what_runs_does_not_change_what_the_files_say():
    config = load(LIST_STYLE)
    running = [container("fastgpt", env=["AIPROXY_API_ENDPOINT="]), container("aiproxy")]
    assert facts(config, _project.describe(config, running, "/opt/fastgpt"))["services"]["fastgpt"]["variables"][
        "AIPROXY_API_ENDPOINT"] == "http://aiproxy:3000"
