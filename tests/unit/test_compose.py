# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The override document for every usable official file. Molecule's scenario fastgpt_compose lets docker compose merge it."""

from __future__ import annotations

import json
import os
import pathlib

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose, _compose_paths, _outline, _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_decide import decide as decide_task
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_decide import located
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._yaml_place import place

from test_project import LIST_STYLE, MAP_STYLE, OFFICIAL, container, load

FILES = pathlib.Path(__file__).parents[1] / "fixtures" / "compose"
WITH_GATEWAY = sorted(name for name, row in OFFICIAL.items() if row[2])
DOCKER = {"host": "box", "provider": "docker", "container": "ollama", "network": "ollama", "address": "", "port": 11434, "listen": ""}
HOST = dict(DOCKER, provider="host", listen="0.0.0.0:11434")
ELSEWHERE = dict(HOST, host="gpu1", address="192.0.2.20")


def task(ollamas, **more):
    return dict({"ollama": ollamas, "path": "aiproxy", "strategy": "override", "one_api_url": "http://one-api:3000", "one_api_network": "",
                 "apply": True}, **more)

APP = container("fastgpt-app", networks=dict.fromkeys(["fastgpt_aiproxy", "fastgpt_app", "fastgpt_codesandbox", "fastgpt_data"], "172.18.0.3"))


def decide(read, ollamas, host="box", **more):
    return decide_task(read, task(ollamas, **more), host)


def found(config, running=(), text="", **more):
    """What the module reports about a project, made from its parts."""
    project = _project.describe(config, list(running), "/opt/fastgpt")
    return dict({
        "folder": "/opt/fastgpt", "facts": _compose_paths.facts(config, _project.describe(config, [], "/opt/fastgpt")),
        "place": "docker-compose.override.yml", "text": text, "joined": True, "left_over": [], "unfinished": False, "rootless": False,
        "dotenv": {"now": "", "joined": "", "parted": ""},
        "files": {"docker-compose.yml": "services:\n"}, "managed": {}, "edited": [], "key": False,
        "containers": {name: {"name": service.container or name, "state": service.state, "networks": sorted(service.networks), "names": service.names,
                              "extra_hosts": service.extra_hosts, "variables": {}} for name, service in project.services.items()}}, **more)


def document(decided):
    return yaml_load(decided["plan"]["text"] or "{}")


@pytest.mark.parametrize("name", WITH_GATEWAY)
def test_ollama_in_a_container(name):
    decided = decide(found(load(name)), [DOCKER], "box")
    gateway = OFFICIAL[name][2]
    assert document(decided) == {"services": {gateway: {"networks": {"ollama": None}}},
                                 "networks": {"ollama": {"name": "ollama", "external": True}}}
    assert decided["ollama_urls"] == {"box": "http://ollama:11434"}
    assert decided["plan"]["external"] == ["ollama"]


@pytest.mark.parametrize("name", WITH_GATEWAY)
def test_ollama_on_the_machine(name):
    decided = decide(found(load(name)), [HOST], "box")
    assert document(decided) == {"services": {OFFICIAL[name][2]: {"extra_hosts": ["host.docker.internal:host-gateway"]}}}
    assert decided["ollama_urls"] == {"box": "http://host.docker.internal:11434"}


def test_several_at_once():
    decided = decide(found(load(MAP_STYLE)), [DOCKER, dict(HOST, host="box"), ELSEWHERE], "box")
    assert set(document(decided)["services"]["fastgpt-aiproxy"]) == {"networks", "extra_hosts"}
    assert decided["ollama_urls"]["gpu1"] == "http://192.0.2.20:11434"


def test_ollama_on_another_machine_needs_no_file():
    up = [container("fastgpt-aiproxy", networks={"fastgpt_aiproxy": "172.18.0.2"}), APP]
    decided = decide(found(load(MAP_STYLE), up), [ELSEWHERE], "box")
    assert (decided["changed"], decided["file"], decided["actions"]) == (False, None, [])


def test_a_service_without_networks_stays_in_the_default_one():
    config = load(LIST_STYLE)
    config["services"]["aiproxy"]["networks"] = {"default": None}
    config["networks"]["default"] = {"name": "fastgpt_default"}
    assert document(decide(found(config), [DOCKER], "box"))["services"]["aiproxy"]["networks"] == {"default": None, "ollama": None}


def test_what_the_operator_wrote_himself_is_enough():
    config = load(LIST_STYLE)
    config["services"]["aiproxy"]["extra_hosts"] = ["host.docker.internal=172.17.0.1"]
    config["services"]["aiproxy"]["networks"]["models"] = None
    config["networks"]["models"] = {"name": "ollama", "external": True}
    up = [container("aiproxy", networks={"fastgpt_fastgpt": "1.1.1.1", "ollama": "1.1.1.2"},
                    extra_hosts=["host.docker.internal:172.17.0.1"]), container("fastgpt", networks={"fastgpt_fastgpt": "1.1.1.3"})]
    decided = decide(found(config, up), [DOCKER, HOST], "box")
    assert (decided["changed"], decided["plan"]["text"]) == (False, None)


def test_a_network_that_the_project_knows_is_named_by_its_key():
    config = load(LIST_STYLE)
    config["networks"]["models"] = {"name": "ollama", "external": True}
    assert document(decide(found(config), [DOCKER], "box")) == {"services": {"aiproxy": {"networks": {"models": None}}}}


def test_another_network_of_the_same_key_is_left_alone():
    config = load(LIST_STYLE)
    config["networks"]["ollama"] = {"name": "fastgpt_ollama"}
    assert document(decide(found(config), [DOCKER], "box")) == {
        "services": {"aiproxy": {"networks": {"localmodels_ollama": None}}},
        "networks": {"localmodels_ollama": {"name": "ollama", "external": True}}}


def test_host_network_mode_needs_nothing_and_bridge_is_refused():
    config = load(LIST_STYLE)
    config["services"]["aiproxy"].update(network_mode="host")
    del config["services"]["aiproxy"]["networks"]
    decided = decide(found(config), [dict(DOCKER, listen="127.0.0.1:11434")], "box")
    assert (decided["file"], decided["ollama_urls"]) == (None, {"box": "http://127.0.0.1:11434"})
    config["services"]["aiproxy"]["network_mode"] = "bridge"
    with pytest.raises(LocalModelsError, match="docker-compose.yml:1:1: A service with network_mode: bridge cannot join"):
        decide(found(config), [DOCKER], "box")


def running(joined=True):
    networks = {"fastgpt_aiproxy": "172.18.0.2"}
    if joined:
        networks["ollama"] = "172.19.0.2"
    return [container("fastgpt-aiproxy", networks=networks), APP]


def test_nothing_to_do():
    text = decide(found(load(MAP_STYLE)), [DOCKER], "box")["plan"]["text"]
    decided = decide(found(load(MAP_STYLE), running(), text), [DOCKER], "box")
    assert (decided["changed"], decided["actions"]) == (False, [])
    assert decided["diff"]["before"] == decided["diff"]["after"] == text


def test_a_play_killed_after_writing_is_finished_by_the_next_one():
    text = decide(found(load(MAP_STYLE)), [DOCKER], "box")["plan"]["text"]
    decided = decide(found(load(MAP_STYLE), running(joined=False), text), [DOCKER], "box")
    assert decided["changed"] and decided["actions"] == ["Let fastgpt-aiproxy join the Docker network ollama"]
    assert decide(found(load(MAP_STYLE), running(), text, unfinished=True), [DOCKER], "box")["changed"]


def test_a_container_that_is_down_is_started():
    text = decide(found(load(MAP_STYLE)), [DOCKER], "box")["plan"]["text"]
    down = [container("fastgpt-aiproxy", state="exited", networks={"fastgpt_aiproxy": "", "ollama": ""}), APP]
    assert decide(found(load(MAP_STYLE), down, text), [DOCKER], "box")["actions"] == ["Start fastgpt-aiproxy, which is exited"]


def test_a_container_that_is_down_and_left_a_network_gets_both():
    text = decide(found(load(MAP_STYLE)), [DOCKER], "box")["plan"]["text"]
    down = [container("fastgpt-aiproxy", state="exited", networks={"fastgpt_aiproxy": ""}), APP]
    assert decide(found(load(MAP_STYLE), down, text), [DOCKER], "box")["actions"] == [
        "Start fastgpt-aiproxy, which is exited", "Let fastgpt-aiproxy join the Docker network ollama"]


def test_a_name_of_the_host_that_the_operators_file_gives_is_looked_for():
    config = load(MAP_STYLE)
    config["services"]["fastgpt-aiproxy"]["extra_hosts"] = ["host.docker.internal=host-gateway"]
    assert decide(found(config, running()), [HOST], "box")["actions"] == ["Let fastgpt-aiproxy know its Docker host as host.docker.internal"]


def test_what_is_no_longer_needed_goes():
    text = decide(found(load(MAP_STYLE)), [DOCKER], "box")["plan"]["text"]
    decided = decide(found(load(MAP_STYLE), running(), text), [ELSEWHERE], "box")
    assert decided["plan"]["text"] is None and "Remove /opt/fastgpt/docker-compose.override.yml" in decided["actions"][0]


def test_our_text_is_known_until_somebody_edits_it():
    text = _compose.with_header("services: {}\n")
    assert _compose.is_ours(text)
    for edited in (text + "# mine\n", text.replace("{}", "{a: {}}"), text.replace("\n", "\r\n"), "\n" + text, "", "services: {}\n"):
        assert not _compose.is_ours(edited)


# --- broken files --------------------------------------------------------------------------------------------------

REFUSED = json.loads((FILES.parent / "compose-config" / "refused.json").read_text())
PLACES = {
    "v4.13.0__32a3b9216__deploy-docker-cn-docker-compose.milvus": (51, 5),
    "v4.13.0__32a3b9216__deploy-docker-cn-docker-compose.oceanbase": (26, 1),
    "v4.14.26__f88b51b5c__pub-v4.14-global-docker-compose.milvus": (53, 3),
    "v4.15.2__9601a1a8c__BROKEN-YAML": (313, 7),
    "v4.9.3__b943d05d5__deploy-docker-docker-compose-oceanbase-docker-compose": (121, 8),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_broken_file_is_told_with_line_and_column_without_its_values(name):
    text = (FILES / (name + ".yml")).read_text()
    shape = _outline.outline(text)
    assert place(text, REFUSED[name]) == place(shape, REFUSED[name]) == PLACES[name]


@pytest.mark.parametrize("name", sorted(os.path.splitext(path.name)[0] for path in FILES.glob("*.yml")))
def test_an_outline_holds_no_value(name):
    text = (FILES / (name + ".yml")).read_text()
    shape = _outline.outline(text)
    assert [len(line) for line in shape.splitlines()] == [len(line) for line in text.splitlines()]
    for secret in ("mypassword", "aiproxy_pg:5432", "sk-fastgpt", "'token'", "1234'", "=1234", "minioadmin", "root_key\n"):
        assert secret not in shape


@pytest.mark.parametrize("line", ["P: 's3cret'", "- P=s3cret", "P: \"s3cret\"", "{P: s3cret}", "P: &anchor s3cret", "- s3cret", "  s3cret",
                                  "P: *s3cret and more", "# P: s3cret", "P: [a, s3cret]", "P: 'a *s3cret'", "\ts3cret"])
def test_no_spelling_of_a_value_gets_through(line):
    assert "s3cret" not in _outline.outline(line + "\n")


def test_the_place_goes_before_the_sentence():
    failure = {"failed": True, "msg": "Docker compose cannot read it.", "outlines": [
        {"path": "/opt/fastgpt/docker-compose.yml", "text": "a:\n  - b\n c: d\n", "said": "yaml: line 2: did not find expected key"}]}
    assert located(failure) == {"failed": True, "msg": "/opt/fastgpt/docker-compose.yml:3:2: Docker compose cannot read it."}
