# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of the compose project comes up, or everything is as before. The engine is a small model of one."""

from __future__ import annotations

import copy
import json
import os

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose, _compose_wait
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_apply import Site
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_read import outlines
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import BrokenProject, Docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import NoSuchService
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_decide import decide, located
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving

from test_compose import task
from test_project import LIST_STYLE, container, load

HERE = [{"host": "box", "provider": "docker", "container": "ollama", "network": "ollama", "address": "", "port": 11434, "listen": ""}]
ELSEWHERE = [dict(HERE[0], host="gpu1", provider="host", address="192.0.2.20")]
OVERRIDE = "docker-compose.override.yml"

_COMPOSE = Docker.compose


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Engine:
    """Runs what the files in its folder say: gateway and FastGPT, each with a container that is new after a change."""

    def __init__(self, folder, services=None):
        self.folder = folder
        self.config = load(LIST_STYLE)
        self.config["services"] = {name: spec for name, spec in self.config["services"].items() if not services or name in services}
        self.networks = {"ollama"}
        self.images = {spec["image"] for spec in self.config["services"].values()}
        self.sick_in = None  # network in which the gateway's health check never passes
        self.refuses = ""  # what `up` writes to its error stream in place of working
        self.dies_at_up = False
        self.never_joins = None  # network that no container comes into, whatever compose says
        self.brings = []  # variables of every image
        self.calls = []
        self.count = 0
        self.made = {}
        self.up("fastgpt", "aiproxy")

    def __call__(self, arguments, cwd=None, env=None):
        words = arguments[1:]
        self.calls.append(" ".join(words))
        if words[0] == "ps":
            return 0, "".join("%s\tfastgpt\t%s\t\n" % (one["Id"], self.folder) for one in self.made.values()), ""
        if words[0] == "inspect":
            return 0, json.dumps([one for one in self.made.values() if one["Id"] in words]), ""
        if words[:2] == ["network", "disconnect"]:
            self.leave(*words[2:])
            return 0, "", ""
        if words[0] == "network":
            return (0 if words[-1] in self.networks else 1), "", ""
        if words[0] == "logs":
            return 0, "started\n", "my key is aiproxy\n"
        if "version" in words:
            return 0, "2.26.1\n", ""
        if "config" in words:
            return 0, json.dumps(self.effective((env or {}).get("COMPOSE_FILE"))), ""
        if words[:2] == ["image", "inspect"] and "--format" in words:
            return 0, json.dumps(self.brings), ""
        if words[0] == "image":
            return (0 if words[-1] in self.images else 1), "", ""
        assert "up" in words, words
        if self.dies_at_up:
            raise KeyboardInterrupt
        if self.refuses:
            return 1, "", self.refuses
        named = words[words.index("-d") + 1:]
        if named[0] == "--force-recreate":
            named = named[1:]
            for service in named:
                self.made[service]["wanted"] = None
        self.up(*named)
        return 0, "", ""

    def leave(self, network, service):
        """What `docker network disconnect` does by hand."""
        del self.made[service]["NetworkSettings"]["Networks"][network]

    def effective(self, files=None):
        names = files.split(":") if files else ["docker-compose.yml", OVERRIDE]
        found = copy.deepcopy(self.config)
        for name in names[1:]:
            path = os.path.join(self.folder, name)
            if os.path.exists(path):
                with open(path, encoding="utf-8") as text:
                    added = yaml_load(text)
                for service, spec in added.get("services", {}).items():
                    found["services"][service].setdefault("networks", {}).update(spec.get("networks", {}))
                found["networks"].update(added.get("networks", {}))
        return found

    def up(self, *services):
        config = self.effective()
        for service in services:
            spec = config["services"][service]
            names = [config["networks"][key]["name"] for key in spec["networks"]]
            # By a note of what it was made from, as Compose 2.26 does: it takes a container that left a network for current.
            if service in self.made and self.made[service]["wanted"] == sorted(names):
                continue
            self.count += 1
            health = {"Health": {"Status": "unhealthy" if self.sick_in in names else "healthy"}}
            self.made[service] = dict(
                container(service, networks=dict.fromkeys(set(names) - {self.never_joins}, "172.18.0.%d" % self.count), State=health,
                          image=spec["image"], env=["%s=%s" % pair for pair in spec["environment"].items()],
                          ports={"3000/tcp": [{"HostIp": "", "HostPort": "3000"}]} if service == "fastgpt" else None),
                Id="id%d" % self.count, wanted=sorted(names))


@pytest.fixture
def engine(tmp_path, monkeypatch):
    (tmp_path / "docker-compose.yml").write_text("the operator's own\n")
    monkeypatch.setattr(_compose_wait, "_silent", lambda *dummy: None)
    return Engine(str(tmp_path))


def site(engine):
    return Site(Docker(engine, engine.folder))


def connect(engine, ollamas=None, keep=5, **more):
    found = site(engine)
    decided = decide(json.loads(json.dumps(found.found(["ollama"]))), task(ollamas or HERE, **more), "box")
    plan = decided["plan"]
    decided["changed"] = bool(found.pending(plan) or plan["lacking"])
    if decided["changed"]:
        found.apply(decided["plan"], 10, keep, Clock())
    return decided


def files(engine):
    found = {}
    for name in os.listdir(engine.folder):
        path = os.path.join(engine.folder, name)
        if os.path.isfile(path):
            with open(path, "rb") as content:
                found[name] = content.read()
    return found


def networks(engine):
    return sorted(engine.made["aiproxy"]["NetworkSettings"]["Networks"])


def test_up_and_then_nothing_to_do(engine):
    app = engine.made["fastgpt"]["Id"]
    assert connect(engine)["changed"]
    assert networks(engine) == ["fastgpt_fastgpt", "ollama"]
    assert set(files(engine)) == {"docker-compose.yml", OVERRIDE}
    assert engine.made["fastgpt"]["Id"] == app
    engine.calls.clear()
    assert not connect(engine)["changed"]
    assert [call.split()[0] for call in engine.calls] == ["ps", "inspect", "compose"]


def test_and_back_to_a_fresh_project(engine):
    before = files(engine)
    connect(engine)
    connect(engine, ELSEWHERE)
    assert files(engine) == before and networks(engine) == ["fastgpt_fastgpt"]
    assert not connect(engine, ELSEWHERE)["changed"]


@pytest.mark.parametrize("own", [{}, {OVERRIDE: "services: {}\n"}, {OVERRIDE: "services: {}\n", ".env": "A=1\n"},
                                 {".env": "COMPOSE_FILE=docker-compose.yml:b.yml\n", "b.yml": "services: {}\n"}])
def test_whatever_the_operator_has_is_there_again_after_a_failure(engine, own):
    for name, text in own.items():
        with open(os.path.join(engine.folder, name), "w", encoding="utf-8") as target:
            target.write(text)
    before = files(engine)
    engine.refuses = "Error response from daemon: manifest unknown\n"
    with pytest.raises(LocalModelsError, match="docker compose up -d aiproxy fails.*manifest unknown.*no container was touched"):
        connect(engine)
    assert files(engine) == before and not site(engine).backup.unfinished()


def test_a_gateway_that_does_not_get_well_is_put_back(engine):
    before = files(engine)
    engine.sick_in = "ollama"
    with pytest.raises(LocalModelsError) as caught:
        connect(engine)
    said = str(caught.value)
    assert "aiproxy is not up after 10 s: its health check says unhealthy" in said
    assert "Files and containers are as before, and FastGPT answers again" in said
    assert "started" in said and "my key is ***" in said
    assert files(engine) == before and networks(engine) == ["fastgpt_fastgpt"]


def test_a_play_killed_at_up_is_finished_by_the_next_one(engine):
    engine.dies_at_up = True
    with pytest.raises(KeyboardInterrupt):
        connect(engine)
    engine.dies_at_up = False
    assert site(engine).backup.unfinished()
    assert connect(engine)["changed"]
    assert networks(engine) == ["fastgpt_fastgpt", "ollama"] and not site(engine).backup.unfinished()


def test_a_play_killed_at_up_does_not_hide_what_ran_before(engine):
    before = files(engine)
    engine.dies_at_up = True
    with pytest.raises(KeyboardInterrupt):
        connect(engine)
    engine.dies_at_up, engine.sick_in = False, "ollama"
    with pytest.raises(LocalModelsError):
        connect(engine)
    assert files(engine) == before


def test_a_network_that_is_not_there_changes_nothing(engine):
    before = files(engine)
    engine.networks.clear()
    with pytest.raises(LocalModelsError, match="There is no Docker network ollama on this host"):
        connect(engine)
    assert files(engine) == before and not [call for call in engine.calls if " up " in call]


def test_too_old_a_compose_changes_nothing(engine, monkeypatch):
    before = files(engine)
    monkeypatch.setattr(Docker, "compose", lambda self, *words, **more: (0, "2.5.0", "") if "version" in words else _COMPOSE(self, *words, **more))
    with pytest.raises(LocalModelsError, match="Docker Compose on this host is 2.5.0, and FastGPT needs 2.17 or newer"):
        connect(engine)
    assert files(engine) == before


def test_a_merge_that_loses_a_network_is_refused_before_anything_is_written(engine):
    before = files(engine)
    found = site(engine)
    plan = dict(decide(found.found(), task(HERE), "box")["plan"], text=_compose.with_header("services: {}\n"))
    with pytest.raises(LocalModelsError, match="does not read the change as intended; it differs in networks.ollama, services.aiproxy.networks"):
        found.apply(plan, 10, 5, Clock())
    assert files(engine) == before


def test_a_file_of_ours_that_somebody_edited_is_his(engine):
    connect(engine)
    with open(os.path.join(engine.folder, OVERRIDE), "a", encoding="utf-8") as target:
        target.write("# mine\n")
    found = site(engine).found()
    assert (found["place"], found["joined"]) == ("docker-compose.localmodels.yml", False)
    with open(os.path.join(engine.folder, "docker-compose.localmodels.yml"), "w", encoding="utf-8") as target:
        target.write("# mine too\n")
    with pytest.raises(BrokenProject, match="docker-compose.localmodels.yml was written by this role and edited since"):
        site(engine)


def test_a_variable_that_beats_every_file(engine, monkeypatch):
    monkeypatch.setenv("COMPOSE_FILE", "x.yml")
    with pytest.raises(BrokenProject, match="COMPOSE_FILE is set in the environment"):
        site(engine)


def test_a_gateway_in_the_network_of_another_service(engine):
    engine.config["services"]["aiproxy_pg"].update(environment={}, networks={"fastgpt": None})
    engine.config["services"]["aiproxy"].update(network_mode="service:aiproxy_pg")
    decided = decide(site(engine).found(), task(HERE), "box")
    assert (decided["service"], decided["plan"]["services"]) == ("aiproxy_pg", ["aiproxy", "aiproxy_pg"])
    engine.config["services"]["aiproxy"].update(network_mode="container:somebody")
    with pytest.raises(LocalModelsError, match="network of a container that this project does not know"):
        connect(engine)


def test_no_gateway(engine):
    del engine.config["services"]["aiproxy"], engine.made["aiproxy"]
    with pytest.raises(LocalModelsError, match="No service in .* is AI Proxy; AIPROXY_API_ENDPOINT of service fastgpt is http://aiproxy:3000"):
        connect(engine)


def test_an_unusable_project_is_outlined_without_its_values(tmp_path):
    (tmp_path / "docker-compose.yml").write_text("a: s3cret\n - b\n")
    found = outlines(Docker(None, str(tmp_path)), BrokenProject("x", said="yaml: line 2: did not find"))
    assert found == [{"path": str(tmp_path / "docker-compose.yml"), "text": "a: xxxxxx\n - x\n", "said": "yaml: line 2: did not find"}]
    assert outlines(Docker(None, str(tmp_path)), BrokenProject("no place")) == []


def test_no_fastgpt_is_told_at_the_services(tmp_path):
    (tmp_path / "docker-compose.yml").write_text("x: 1\nservices:\n  db: {}\n")
    failure = {"msg": "No service.", "outlines": outlines(Docker(None, str(tmp_path)), NoSuchService("No service", "mend"))}
    assert located(failure)["msg"] == "%s/docker-compose.yml:2:1: No service." % tmp_path


def test_a_crash_loop_is_not_waited_out(engine):
    project = site(engine).project
    clock = Clock()

    def look():
        project.gateway.state = "restarting"
        project.gateway.restarts += 1
        return project
    with pytest.raises(_compose_wait.NotUp, match="aiproxy crashes again and again"):
        _compose_wait.wait_until_answers(look, 1000, clock)
    assert clock.now < 10


@pytest.mark.parametrize(("err", "gone", "said", "mend"), [
    ("network models declared as external, but could not be found\n", None, "network models declared as external",
     "docker network create models"),
    ("Error response from daemon: network models not found\n", None, "network models not found", "docker network create models"),
    ("Error response from daemon: Get \"https://ghcr.io/v2/\": dial tcp: lookup ghcr.io: no such host\n", "aiproxy",
     "The image ghcr.io/labring/aiproxy:v0.1.7 is not on this host", "Open the way to its registry ghcr.io.*docker load"),
    ("Error response from daemon: manifest unknown\n", "aiproxy", "The image ghcr.io/labring/aiproxy:v0.1.7 is not on this host",
     "Check the image's name and tag"),
    ("dependency failed to start: container aiproxy is unhealthy\n", "curl", "its health check says unhealthy: .*curl.*not found",
     "calls a program that is not in this image"),
])
def test_why_compose_does_not_bring_it_up(engine, err, gone, said, mend):
    if gone == "aiproxy":
        engine.images.discard("ghcr.io/labring/aiproxy:v0.1.7")
    elif gone:
        engine.made["aiproxy"]["State"]["Health"] = {"Status": "unhealthy", "Log": [
            {"ExitCode": -1, "Output": 'OCI runtime exec failed: exec: "curl": executable file not found in $PATH: unknown'}]}
    engine.refuses = err
    before = files(engine)
    with pytest.raises(LocalModelsError, match="(?s)docker compose up -d aiproxy fails: .*%s.*%s" % (said, mend)) as caught:
        connect(engine)
    assert files(engine) == before and ("Its last lines:" in str(caught.value)) == (gone == "curl")


@pytest.mark.parametrize("said", ['OCI runtime exec failed: exec: "curl": executable file not found in $PATH', "/bin/sh: curl: not found"])
def test_a_health_check_that_cannot_run_tells_nothing_but_the_answer_does(engine, monkeypatch, said):
    project = site(engine).project
    project.gateway.health, project.gateway.health_said = "unhealthy", said
    assert _compose_wait.waits_for(project) == (None, "")
    monkeypatch.setattr(_compose_wait, "_silent", lambda hop, *dummy: "it is silent" if hop == "AI Proxy" else None)
    assert _compose_wait.waits_for(project) == (project.gateway, "it is silent")


@pytest.mark.parametrize(("status", "body", "said"), [
    (502, "bad gateway", "answers 502"), (200, '{"code": 500}', "answers 200"), (200, "<html>", "answers 200"), (200, '{"code": 200}', None)])
def test_fastgpt_which_has_no_health_check_is_asked_until_it_answers(engine, monkeypatch, status, body, said):
    monkeypatch.undo()
    project = site(engine).project
    assert project.app.health == "healthy" and project.gateway.health == "healthy"
    with serving({("GET", "/api/common/system/getInitData"): (status, body)}) as server:
        monkeypatch.setattr(project, "fastgpt_url", lambda: server.url)
        assert _compose_wait.waits_for(project) == (
            (project.app, "%s/api/common/system/getInitData %s" % (server.url, said)) if said else (None, ""))
