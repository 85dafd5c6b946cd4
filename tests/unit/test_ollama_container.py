# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container: its compose file and what differs are pure; the way there and back goes through a made-up docker command."""

from __future__ import annotations

import copy
import json
import os

import pytest
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _ollama_container_apply as apply_
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker, DockerError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_container import Wanted, differences, store_path
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import parse_listen
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving


def wanted(**other):
    options = dict(image="ollama/ollama:0.32.15", container="ollama", volume="ollama", network="ollama",
                   project_dir="/opt/ollama-docker", listen=parse_listen("127.0.0.1:11434"), environment={}, networks=[],
                   gpus=False, restart_policy="unless-stopped", timeout=2)
    return Wanted(**dict(options, **other))


def container(one, **state):
    return {
        "Config": {"Labels": {"localmodels.fastgpt.settings": one.mark, "com.docker.compose.project": "ollama"}},
        "State": dict({"Status": "running", "ExitCode": 0}, **state),
        "HostConfig": {"RestartPolicy": {"Name": one.restart_policy}},
        "NetworkSettings": {"Networks": {name: {} for name in one.networks}},
        "Mounts": [{"Type": "volume", "Name": "ollama", "Source": "/var/lib/docker/volumes/ollama/_data", "Destination": "/root/.ollama"}],
    }


def test_the_file_says_what_was_declared():
    one = wanted(environment={"OLLAMA_KEEP_ALIVE": "1h", "HTTPS_PROXY": "http://me:a$b@p"}, networks=["fastgpt"], gpus=True,
                 restart_policy="no", listen=parse_listen("[::1]:8080"))
    project = yaml_load(one.text)
    service = project["services"]["ollama"]
    assert service["environment"] == {"OLLAMA_KEEP_ALIVE": "1h", "HTTPS_PROXY": "http://me:a$$b@p"}
    assert service["networks"] == ["ollama", "fastgpt"]
    assert service["ports"] == ["[::1]:8080:11434"]
    assert service["restart"] == "no"
    assert service["healthcheck"]["test"] == ["CMD", "ollama", "list"]
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert service["labels"] == {"localmodels.fastgpt.settings": one.mark}
    assert project["networks"]["fastgpt"] == {"name": "fastgpt", "external": True}
    assert project["volumes"] == {"ollama": {"name": "ollama", "external": True}}


def test_models_in_a_folder_need_no_volume():
    project = yaml_load(wanted(volume="/data/ollama").text)
    assert "volumes" not in project
    assert project["services"]["ollama"]["volumes"] == ["/data/ollama:/root/.ollama"]


@pytest.mark.parametrize("other", [
    {"image": "ollama/ollama:0.32.14"}, {"environment": {"A": "1"}}, {"networks": ["x"]}, {"gpus": True}, {"volume": "/data"},
    {"listen": parse_listen("0.0.0.0:11434")}, {"restart_policy": "always"}, {"network": "other"},
])
def test_every_setting_changes_the_mark(other):
    assert wanted(**other).mark != wanted().mark


@pytest.mark.parametrize("image, version", [
    ("ollama/ollama:0.32.15", "0.32.15"), ("registry.lan:5000/ollama:0.32.15-rocm", "0.32.15"), ("ollama/ollama:latest", None),
    ("ollama/ollama:0.34.4-rc1", "0.34.4-rc1"), ("ollama/ollama:v0.34.4-rc1-rocm", "0.34.4-rc1"),
    ("ollama/ollama", None), ("ollama/ollama@sha256:0123", None), ("registry.lan:5000/ollama", None),
])
def test_version_promised_by_an_image(image, version):
    assert wanted(image=image).version == version


def test_nothing_differs():
    one = wanted()
    assert differences(one, one.text, container(one), "0.32.15") == {}


def with_network_gone(found):
    found["NetworkSettings"]["Networks"] = {}


def with_another_policy(found):
    found["HostConfig"]["RestartPolicy"]["Name"] = "no"


def with_no_mark(found):
    del found["Config"]["Labels"]["localmodels.fastgpt.settings"]


def with_no_labels(found):
    found["Config"]["Labels"] = None


@pytest.mark.parametrize("change, says", [
    (with_network_gone, "not in network ollama"), (with_another_policy, "restart policy no"),
    (with_no_mark, "other settings"), (with_no_labels, "other settings"),
    (lambda found: found["State"].update(Status="exited"), "it is exited"),
])
def test_what_was_changed_by_hand_is_seen(change, says):
    one = wanted()
    found = copy.deepcopy(container(one))
    change(found)
    different = differences(one, one.text, found, "0.32.15")
    assert list(different) == ["container"] and says in different["container"]


@pytest.mark.parametrize("version, says", [(None, "does not answer"), ("0.32.14", "has version 0.32.14 instead of 0.32.15")])
def test_what_the_api_says_counts(version, says):
    one = wanted()
    assert says in differences(one, one.text, container(one), version)["api"]


def test_a_fresh_host():
    assert list(differences(wanted(), "", None, None)) == ["file", "container"]


def test_an_image_without_a_version_may_answer_with_any():
    one = wanted(image="ollama/ollama:latest")
    assert differences(one, one.text, container(one), "0.1.0") == {}


def test_store_path():
    assert store_path(container(wanted())) == "/var/lib/docker/volumes/ollama/_data/models"
    assert store_path({"Mounts": None}) == ""


class Engine:
    """A made-up docker command: `things` holds names of networks, volumes and images; `up` makes the container or fails."""

    def __init__(self, server):
        self.server = server
        self.things = set()
        self.registry = {"ollama/ollama:0.32.15", "ollama/ollama:0.32.14"}
        self.container = None
        self.calls = []
        self.dies = ()
        self.up_error = ""

    def __call__(self, arguments, cwd=None, env=None):
        self.calls.append(" ".join(arguments[1:]))
        words = arguments[1:]
        if words[0] == "inspect":
            return (0, json.dumps([self.container]), "") if self.container else (1, "[]", "No such object")
        if words[0] in ("network", "volume", "image"):
            if words[1] == "create":
                self.things.add((words[0], words[-1]))
            return int((words[0], words[-1]) not in self.things), "", ""
        if words[0] == "pull":
            if words[-1] not in self.registry:
                return 1, "", "Error response from daemon: manifest for %s not found: manifest unknown" % words[-1]
            self.things.add(("image", words[-1]))
            return 0, "", ""
        if words[0] == "rm":
            self.container = None
            self.server.answers.clear()
            return 0, "", ""
        if words[0] == "logs":
            return 0, "", "the last words with https://me:s3cret@proxy\n"
        if words[:2] == ["compose", "version"]:
            return 0, "Docker Compose version v2.26.1", ""
        if "up" in words:
            return self.up(words[words.index("--file") + 1])
        raise AssertionError(arguments)

    def up(self, path):
        if self.up_error:
            return 1, "", self.up_error
        service = yaml_load(open(path, encoding="utf-8"))["services"]["ollama"]
        version = service["image"].rpartition(":")[2]
        status = "restarting" if version in self.dies else "running"
        self.container = {
            "Config": {"Labels": dict(service["labels"], **{"com.docker.compose.project": "ollama"})},
            "State": {"Status": status, "ExitCode": 1}, "RestartCount": 0,
            "HostConfig": {"RestartPolicy": {"Name": service["restart"]}},
            "NetworkSettings": {"Networks": {name: {} for name in service["networks"]}}, "Mounts": []}
        self.server.answers.clear()
        if status == "running":
            self.server.answers[("GET", "/api/version")] = (200, {"version": version})
        return 0, "", ""


@pytest.fixture
def engine():
    with serving({}) as server:
        yield Engine(server)


def converge(engine, tmp_path, version="0.32.15", **other):
    listen = parse_listen(engine.server.host)
    one = wanted(image="ollama/ollama:" + version, listen=listen, project_dir=str(tmp_path / "project"), **other)
    host = apply_.ContainerHost(Docker(engine), one)
    text, found, answered = host.read()
    different = differences(one, text, found, answered)
    if different:
        host.apply(different, found)
    return sorted(different)


def test_from_nothing_to_an_answer_and_not_a_step_more(engine, tmp_path):
    assert converge(engine, tmp_path) == ["container", "file"]
    assert {("network", "ollama"), ("volume", "ollama"), ("image", "ollama/ollama:0.32.15")} <= engine.things
    assert os.stat(tmp_path / "project" / "compose.yml").st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "project") == ["compose.yml"]
    engine.calls.clear()
    assert converge(engine, tmp_path) == []
    assert engine.calls == ["inspect --type container ollama"]


def test_upgrade(engine, tmp_path):
    converge(engine, tmp_path, "0.32.14")
    assert converge(engine, tmp_path) == ["api", "container", "file"]
    assert converge(engine, tmp_path) == []


def test_a_changed_file_alone_is_written_and_nothing_restarted(engine, tmp_path):
    converge(engine, tmp_path)
    with open(tmp_path / "project" / "compose.yml", "a", encoding="utf-8") as compose:
        compose.write("# a note\n")
    engine.calls.clear()
    assert converge(engine, tmp_path) == ["file"]
    assert not [call for call in engine.calls if " up " in call]
    assert converge(engine, tmp_path) == []


def test_an_image_that_does_not_exist_changes_nothing(engine, tmp_path):
    with pytest.raises(LocalModelsError, match="There is no image ollama/ollama:9.9.9.*ollama_version"):
        converge(engine, tmp_path, "9.9.9")
    assert not (tmp_path / "project").exists() and engine.things == set()


def test_a_server_that_dies_at_once_brings_back_what_ran(engine, tmp_path):
    converge(engine, tmp_path, "0.32.14")
    engine.dies = ("0.32.15",)
    with pytest.raises(LocalModelsError) as said:
        converge(engine, tmp_path)
    assert "ends as soon as it starts" in str(said.value) and "were put back" in str(said.value)
    assert "the last words" in str(said.value) and "s3cret" not in str(said.value)
    assert converge(engine, tmp_path, "0.32.14") == []


def test_a_first_start_that_fails_leaves_no_container_and_no_file(engine, tmp_path):
    engine.dies = ("0.32.15",)
    with pytest.raises(LocalModelsError, match="The container was removed"):
        converge(engine, tmp_path)
    assert engine.container is None and os.listdir(tmp_path / "project") == []


def test_compose_up_that_fails_is_told_and_undone(engine, tmp_path):
    engine.up_error = "Error response from daemon: port is already allocated"
    with pytest.raises(LocalModelsError, match="port is already allocated"):
        converge(engine, tmp_path)
    assert os.listdir(tmp_path / "project") == []


def test_a_play_killed_before_the_container_was_made_is_made_good(engine, tmp_path):
    converge(engine, tmp_path, "0.32.14")
    real = engine.up

    def killed(path):
        raise KeyboardInterrupt
    engine.up = killed
    with pytest.raises(KeyboardInterrupt):
        converge(engine, tmp_path)
    engine.up = real
    assert converge(engine, tmp_path) == ["api", "container"]
    assert converge(engine, tmp_path) == []


def refuse(engine, found, **other):
    apply_.ContainerHost(Docker(engine), wanted(**other)).refuse(found)


def test_a_container_of_someone_else_is_left_alone(engine):
    found = container(wanted())
    del found["Config"]["Labels"]["com.docker.compose.project"]
    found["Mounts"][0]["Name"] = "their-models"
    with pytest.raises(LocalModelsError, match="did not make.*ollama_docker_volume to their-models.*docker rm -f ollama"):
        refuse(engine, found)


def test_a_container_of_another_project_is_left_alone(engine):
    found = container(wanted())
    found["Config"]["Labels"]["com.docker.compose.project"] = "fastgpt"
    with pytest.raises(LocalModelsError, match="compose project fastgpt"):
        refuse(engine, found)


def test_a_network_that_does_not_exist(engine):
    with pytest.raises(LocalModelsError, match="no Docker network nowhere"):
        refuse(engine, None, networks=["nowhere"])


def test_no_docker(monkeypatch):
    monkeypatch.setattr(apply_.shutil, "which", lambda name: None)
    with pytest.raises(LocalModelsError, match="Docker is absent"):
        apply_.refuse_unfit_host()


def test_no_engine():
    docker = Docker(lambda arguments, cwd=None, env=None: (1, "", "Cannot connect to the Docker daemon at unix:///x. Is it running?"))
    with pytest.raises(DockerError, match="does not answer"):
        apply_.ContainerHost(docker, wanted()).read()
