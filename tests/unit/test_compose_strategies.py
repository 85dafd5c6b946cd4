# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths and strategies on a host: switched forth and back, failing, killed. The engine is a small model of one."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import os
import pathlib

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose_wait
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_apply import Site
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import CannotEdit
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker, dotenv_value
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_decide import decide
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit_read import Source
from test_compose import task
from test_compose_apply import HERE, OVERRIDE, Clock, Engine, files
from test_project import LIST_STYLE, container

MAIN = "docker-compose.yml"
OFFICIAL_TEXT = (pathlib.Path(__file__).parents[1] / "fixtures" / "compose" / (LIST_STYLE + ".yml")).read_bytes()
WAYS = list(itertools.product(("aiproxy", "one_api", "direct"), ("override", "in_place")))
# Each path and each strategy once for whoever waits, and all of them in `make thorough`.
FEW_WAYS = [pytest.param(*way, marks=[] if way in (WAYS[0], WAYS[2], WAYS[5]) else pytest.mark.thorough) for way in WAYS]
KEY = "sk-very0Secret"


@functools.lru_cache(maxsize=None)
def meaning(text):
    """What a file says. The engine reads the same few files again and again, and PyYAML takes its time."""
    return Source(text).meaning() or {}


class FileEngine(Engine):
    """Runs what the operator's file says, variables and hosts included."""

    def effective(self, named=None):
        listed = named or dotenv_value(self.folder, "COMPOSE_FILE")
        names = listed.split(":") if listed else [MAIN, OVERRIDE]
        found = copy.deepcopy(self.config)
        for number, name in enumerate(names):
            path = os.path.join(self.folder, name)
            if not os.path.exists(path):
                continue
            text = pathlib.Path(path).read_bytes().decode()
            said = meaning(text)
            for service, spec in (said.get("services") or {}).items():
                for section in ("environment", "networks", "extra_hosts"):
                    more = spec.get(section) or {}
                    more = dict(one.split(":", 1) for one in more) if isinstance(more, list) else more
                    if number == 0:
                        found["services"][service][section] = dict(more)
                    else:
                        found["services"][service][section] = dict(found["services"][service].get(section) or {}, **more)
            for key, spec in (said.get("networks") or {}).items():
                found["networks"][key] = {"name": spec["name"], "external": True} if spec else {"name": "fastgpt_" + key}
        return found

    def up(self, *services):
        config = self.effective()
        for service in services:
            spec = config["services"][service]
            names = [config["networks"][key]["name"] for key in spec["networks"]]
            wanted = json.dumps([sorted(names), spec["environment"], spec.get("extra_hosts")], sort_keys=True)
            if service in self.made and self.made[service]["wanted"] == wanted:
                continue
            self.count += 1
            health = {"Health": {"Status": "unhealthy" if self.sick_in in names else "healthy"}}
            hosts = ["%s:%s" % pair for pair in (spec.get("extra_hosts") or {}).items()]
            self.made[service] = dict(
                container(service, networks=dict.fromkeys(names, "172.18.0.%d" % self.count), State=health, extra_hosts=hosts,
                          image=spec["image"], env=["%s=%s" % pair for pair in spec["environment"].items()],
                          ports={"3000/tcp": [{"HostIp": "", "HostPort": "3000"}]} if service == "fastgpt" else None),
                Id="id%d" % self.count, wanted=wanted)


def engine_in(tmp_path, monkeypatch):
    """An engine that runs the official file, with \\r\\n at the ends of its lines, and a one-api beside it."""
    folder = tmp_path / "fastgpt"
    folder.mkdir()
    (folder / MAIN).write_bytes(OFFICIAL_TEXT.replace(b"\n", b"\r\n"))
    (tmp_path / "one-api").mkdir()
    (tmp_path / "one-api" / ".env").write_text("ONE_API_CLIENT_KEY=%s\n" % KEY[3:])
    monkeypatch.setattr(_compose_wait, "_silent", lambda *dummy: None)
    return FileEngine(str(folder))


@pytest.fixture
def engine(tmp_path, monkeypatch):
    return engine_in(tmp_path, monkeypatch)


def connect(engine, path="aiproxy", strategy="override", ollamas=None, check=False):
    one_api = os.path.join(os.path.dirname(engine.folder), "one-api") if path == "one_api" else None
    site = Site(Docker(engine, engine.folder), None, one_api)
    found = json.dumps(site.found(["ollama"]))
    assert KEY not in found and "mypassword" not in found
    decided = decide(json.loads(found), task(ollamas or HERE, path=path, strategy=strategy), "box")
    assert KEY not in json.dumps(decided) and "mypassword" not in json.dumps(decided)
    plan = decided["plan"]
    changed = bool(site.pending(plan) or plan["lacking"])
    if not plan["edits"]:
        assert changed == decided["changed"]
    if changed and not check:
        site.apply(plan, 10, 5, Clock())
    return changed


def variables(engine):
    return dict(one.split("=", 1) for one in engine.made["fastgpt"]["Config"]["Env"])


@pytest.mark.thorough
@pytest.mark.parametrize(("first", "second"), itertools.product(WAYS, WAYS))
def test_from_each_way_to_each_other_and_back(engine, first, second):
    fresh = files(engine)
    assert connect(engine, *second)
    alone, running = files(engine), {name: one["wanted"] for name, one in engine.made.items()}
    engine.up("fastgpt", "aiproxy")
    assert connect(engine, *first) == (first != second)
    assert not connect(engine, *first)
    assert connect(engine, *second) == (first != second)
    assert files(engine) == alone
    assert {name: one["wanted"] for name, one in engine.made.items()} == running
    elsewhere = [dict(HERE[0], host="gpu1", provider="host", address="192.0.2.20")]
    connect(engine, ollamas=elsewhere)
    assert files(engine) == fresh
    assert "AIPROXY_API_ENDPOINT" in variables(engine) and variables(engine)["AIPROXY_API_ENDPOINT"] == "http://aiproxy:3000"


@pytest.mark.parametrize("strategy", ["override", "in_place"])
def test_what_runs_then(engine, strategy):
    connect(engine, "direct", strategy)
    assert variables(engine)["OPENAI_BASE_URL"] == "http://ollama:11434/v1"
    assert (variables(engine)["AIPROXY_API_ENDPOINT"], variables(engine)["AIPROXY_API_TOKEN"]) == ("", "")
    assert "ollama" in engine.made["fastgpt"]["NetworkSettings"]["Networks"]
    connect(engine, "one_api", strategy)
    assert (variables(engine)["OPENAI_BASE_URL"], variables(engine)["CHAT_API_KEY"]) == ("http://one-api:3000/v1", KEY)
    assert set(files(engine)) == ({MAIN, OVERRIDE} if strategy == "override" else {MAIN})


def test_our_file_with_a_key_is_for_its_owner_only(engine):
    connect(engine, "one_api")
    assert os.stat(os.path.join(engine.folder, OVERRIDE)).st_mode & 0o777 == 0o600
    connect(engine, "direct")
    assert KEY.encode() not in files(engine)[OVERRIDE]


def test_a_new_key_is_written_at_the_next_run(engine):
    connect(engine, "one_api")
    place = os.path.join(os.path.dirname(engine.folder), "one-api", ".env")
    pathlib.Path(place).write_text("ONE_API_CLIENT_KEY=another\n")
    assert connect(engine, "one_api")
    assert variables(engine)["CHAT_API_KEY"] == "sk-another"


@pytest.mark.parametrize(("path", "strategy"), FEW_WAYS)
def test_a_failure_leaves_everything_as_it_was(engine, path, strategy):
    connect(engine, "direct", "in_place", ollamas=[dict(HERE[0], provider="host", listen="0.0.0.0:11434")])
    before, running = files(engine), {name: one["wanted"] for name, one in engine.made.items()}
    engine.refuses = "Error response from daemon: manifest unknown\n"
    with pytest.raises(LocalModelsError, match="manifest unknown"):
        connect(engine, path, strategy)
    assert files(engine) == before
    assert {name: one["wanted"] for name, one in engine.made.items()} == running


@pytest.mark.parametrize(("path", "strategy"), FEW_WAYS)
def test_a_play_killed_at_up_is_finished_by_the_next_one(engine, path, strategy):
    fresh = files(engine)
    engine.dies_at_up = True
    with pytest.raises(KeyboardInterrupt):
        connect(engine, path, strategy)
    engine.dies_at_up = False
    other = "override" if strategy == "in_place" else "in_place"
    assert connect(engine, "direct", other)
    assert not connect(engine, "direct", other)
    connect(engine, ollamas=[dict(HERE[0], host="gpu1", provider="host", address="192.0.2.20")])
    assert files(engine) == fresh


def test_check_mode_writes_nothing(engine):
    before = files(engine)
    assert connect(engine, "direct", "in_place", check=True)
    assert files(engine) == before


def test_who_only_looks_takes_it_that_role_one_api_makes_the_key(engine):
    os.unlink(os.path.join(os.path.dirname(engine.folder), "one-api", ".env"))
    site = Site(Docker(engine, engine.folder), None, os.path.join(os.path.dirname(engine.folder), "one-api"))
    found, asked = json.loads(json.dumps(site.found(["ollama"]))), task(HERE, path="one_api", strategy="override")
    decided = decide(found, asked, "box", looks=True)
    assert decided["changed"] and decided["service"] is None and decided["ollama_urls"] == {"box": "http://ollama:11434"}
    assert "OPENAI_BASE_URL: http://one-api:3000/v1" in decided["diff"]["after"] and "CHAT_API_KEY: ***" in decided["diff"]["after"]
    with pytest.raises(LocalModelsError, match="Run role localmodels.fastgpt.one_api first"):
        decide(found, asked, "box")
    # The one-api that the project has itself needs no other key.
    found["facts"]["one_api"] = "mongo"
    found["facts"]["services"]["fastgpt"]["variables"].update(OPENAI_BASE_URL="http://mongo:3000/v1", CHAT_API_KEY="(set)")
    assert decide(found, asked, "box", looks=True)["service"] == "mongo"


def test_an_edited_line_of_ours_is_told_with_its_place(engine):
    connect(engine, "direct", "in_place")
    path = os.path.join(engine.folder, MAIN)
    text = pathlib.Path(path).read_bytes().replace(b"OPENAI_BASE_URL=http://ollama", b"OPENAI_BASE_URL=http://mine")
    pathlib.Path(path).write_bytes(text)
    with pytest.raises(CannotEdit, match=r"docker-compose.yml:\d+:1: This line was written by this role and edited since"):
        connect(engine, "direct", "in_place")


def test_a_file_kept_by_something_else_is_left_to_it(engine):
    path = os.path.join(engine.folder, MAIN)
    pathlib.Path(path).write_bytes(b"# Ansible managed\r\n" + pathlib.Path(path).read_bytes())
    with pytest.raises(CannotEdit, match=r"%s:1:1: This file is kept by something else.*Ansible managed" % path):
        connect(engine, "direct", "in_place")
    assert connect(engine, "direct", "override")


def test_too_new_a_fastgpt_is_told_at_its_image(engine):
    for service in ("fastgpt", "fastgpt-mcp-server"):
        engine.config["services"][service]["image"] = "ghcr.io/labring/fastgpt:v4.17.0" if service == "fastgpt" else "x"
    engine.made.clear()
    engine.up("fastgpt", "aiproxy")
    with pytest.raises(CannotEdit, match=r"docker-compose.yml:117:5: FastGPT 4.17.0 calls AI Proxy only"):
        connect(engine, "direct")


def test_a_key_that_would_need_quotes_is_refused(engine):
    with pytest.raises(LocalModelsError, match="holds characters that no key of one-api has"):
        Site(Docker(engine, engine.folder), "sk-a: b", None)
