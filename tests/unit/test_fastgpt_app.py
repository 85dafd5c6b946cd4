# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apps in FastGPT: found by name, changed by publishing, refused where nobody can tell."""

from __future__ import annotations

import copy
import json
import pathlib

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_app import inputs_of, keep_apps, with_inputs
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_nodes import simple_edges, simple_nodes
from ansible_collections.localmodels.fastgpt.tests.unit.fastgpt_fake import FakeFastGPT

FIXTURE = pathlib.Path(__file__).parent.parent / "fixtures" / "requests" / "app-create-simple.json"
MODELS = {name: {"model": name, "type": "llm", "isActive": True} for name in ("a:1", "b:1")}
READS = ["POST /api/core/app/list", "GET /api/core/app/version/latest"]


def app(name="Local models", model="a:1", state="present", prompt=None, intro=None):
    return {"name": name, "model": model, "state": state, "prompt": prompt, "intro": intro}


def keep(server, *apps, **more):
    return keep_apps(server.fastgpt(read_only=more.get("check", False)), list(apps))


@pytest.fixture
def server():
    server = FakeFastGPT(MODELS)
    keep(server, app())
    server.asked.clear()
    return server


def test_a_new_app_is_the_one_fastgpts_own_page_makes():
    wanted = json.loads(FIXTURE.read_text("utf-8"))
    assert with_inputs(simple_nodes(), {"model": "@@MODEL@@"}) == wanted["modules"] and simple_edges() == wanted["edges"]


def test_a_second_run_asks_twice_and_changes_nothing(server):
    result = keep(server, app())
    assert result["changed"] is False and result["apps"] == [{"name": "Local models", "id": "%024x" % 1}]
    assert [line for line in server.asked if "account" not in line] == READS


def test_another_model_is_published_and_the_rest_stays(server):
    server.apps[0]["nodes"].append({"flowNodeType": "datasetSearchNode", "inputs": [{"key": "model", "value": "keep"}]})
    result = keep(server, app(model="b:1", prompt="Be brief."))
    assert result["actions"] == ["Change model a:1 -> b:1, prompt of app Local models"]
    assert inputs_of(server.apps[0]["nodes"]) == {"model": "b:1", "prompt": "Be brief."}
    assert server.apps[0]["nodes"][-1]["inputs"] == [{"key": "model", "value": "keep"}]
    assert "POST /api/core/app/version/publish" in server.asked and "POST /api/core/app/update" not in server.asked


def test_an_introduction_is_no_new_version(server):
    keep(server, app(intro="Ours"))
    assert server.apps[0]["intro"] == "Ours" and server.written == ["POST /api/core/app/update"]
    assert keep(server, app(intro="Ours"))["changed"] is False


def test_absent(server):
    assert keep(server, app(state="absent"))["actions"] == ["Delete app Local models"]
    assert server.apps == [] and keep(server, app(state="absent"))["changed"] is False


@pytest.mark.parametrize("wanted", [app(name="New"), app(model="b:1"), app(state="absent"), app(intro="x"), app()])
def test_check_mode_says_the_same_and_writes_nothing(server, wanted):
    before = copy.deepcopy(server.apps)
    told = keep(server, wanted, check=True)
    assert server.apps == before and server.written == []
    done = keep(server, wanted)
    for key in ("changed", "actions", "diff"):
        assert told[key] == done[key]


def test_what_cannot_be_told_apart_or_is_no_simple_app_is_refused(server):
    server.apps.append(dict(server.apps[0], _id="2" * 24))
    with pytest.raises(LocalModelsError, match="2 apps called Local models"):
        keep(server, app(model="b:1"))
    server.apps = [dict(server.apps[0], type="advanced")]
    with pytest.raises(LocalModelsError, match="of type advanced"):
        keep(server, app(model="b:1"))
    server.apps = [dict(server.apps[0], type="simple", nodes=[])]
    with pytest.raises(LocalModelsError, match="no step that asks a model"):
        keep(server, app(model="b:1"))
    assert server.written == []


def test_a_folder_of_that_name_is_no_app(server):
    server.apps.append({"_id": "2" * 24, "name": "Local models", "type": "folder"})
    assert keep(server, app())["changed"] is False


def test_a_model_that_cannot_chat_is_refused(server):
    """FastGPT 4.16.0 answers with its default chat model where an app names an embedding model."""
    server.models.update({"vectors:1": {"type": "embedding", "isActive": True}, "c:Q4_K_M": {"type": "llm", "isActive": True}})
    with pytest.raises(LocalModelsError, match="vectors:1, which is no chat model to FastGPT: its type is embedding. Choose one of: a:1, b:1, c:Q4_K_M"):
        keep(server, app(model="vectors:1"))
    assert server.written == []


@pytest.mark.parametrize("model", ["nobody:7b", "off:1"])
def test_a_model_that_fastgpt_would_silently_replace_is_refused(server, model):
    server.models["off:1"] = {"type": "llm", "isActive": False}
    with pytest.raises(LocalModelsError, match="no active model of that name.*a:1, b:1"):
        keep(server, app(model=model))
    assert server.written == []
