# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What no line of FastGPT's transcripts shows and the collection leans on: tried on the stand-in, or on a real one by LAB_FASTGPT (test_fastgpt.py)."""

from __future__ import annotations

import types

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import chat_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_app import inputs_of, with_inputs
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_nodes import simple_edges, simple_nodes
from ansible_collections.localmodels.fastgpt.tests.contract.test_fastgpt import FILES, MODEL, NEW, REAL, VERSIONS, Recorder, fastgpt
from ansible_collections.localmodels.fastgpt.tests.contract.upstream import Upstream


@pytest.fixture(params=FILES)
def recorder(request, tmp_path):
    """A fresh stand-in that asks Ollama directly, with one model that Ollama has and one that it lacks."""
    ollama = Upstream().start()
    server = fastgpt(request.param, tmp_path, OPENAI_BASE_URL="http://%s/v1" % ollama.address, CHAT_API_KEY="ollama").start()
    recorder = Recorder(types.SimpleNamespace(server=server, values={}, words=lambda thing: thing, version=VERSIONS[request.param]))
    recorder.story.values["<ROOT_TOKEN>"] = recorder.log_in()
    recorder.ollama = ollama.address
    for name in ("tiny:latest", "ghost:1b"):
        recorder.add_model(name, "llm")
    yield recorder
    server.stop()
    ollama.stop()


def test_what_is_published_answers(recorder):
    """Not recorded: read in FastGPT's source (docs/upstream.md, FastGPT apps), and tried on a real 4.16.0."""
    def flow(model):
        return with_inputs(simple_nodes(), {"model": model})

    def answering():
        answer = recorder.as_root("POST", "/api/v1/chat/completions", {"appId": app, "detail": True, "messages": [{"role": "user", "content": "hi"}]})
        return bool(chat_of(answer["body"]).text)

    new = {"name": "one", "type": "simple", "modules": flow("ghost:1b"), "edges": simple_edges()}
    app = recorder.as_root("POST", "/api/core/app/create", new)["body"]["data"]
    assert not answering()
    recorder.as_root("POST", "/api/core/app/update?appId=" + app, {"nodes": flow("tiny:latest")})
    assert not answering()
    version = {"nodes": flow("tiny:latest"), "edges": simple_edges(), "chatConfig": {}}
    recorder.as_root("POST", "/api/core/app/version/publish?appId=" + app, version)
    assert not answering()
    recorder.as_root("POST", "/api/core/app/version/publish?appId=" + app, dict(version, isPublish=True))
    assert answering()
    latest = recorder.as_root("GET", "/api/core/app/version/latest?appId=" + app)["body"]["data"]
    assert inputs_of(latest["nodes"])["model"] == "tiny:latest"
    recorder.story.server.restart()
    assert answering()


def test_a_whole_answer_where_a_stream_was_asked_for_is_none(recorder):
    """Not recorded, but tried on a real 4.16.0: the OpenAI SDK takes what comes for a stream, and finds no piece of one in it.

    Whatever defaultConfig says, the model is asked for by its own name.
    """
    def tested(path):
        recorder.add_model("tiny:latest", "llm", requestUrl="http://%s%s/v1/chat/completions" % (recorder.ollama, path), defaultConfig={"model": "x"})
        return recorder("GET", MODEL + "test?model=tiny:latest", headers={"token": recorder.story.values["<ROOT_TOKEN>"]})

    assert tested("")["body"]["data"]
    whole = tested("/whole")
    assert whole["status"] == 500 and whole["body"]["message"] == "Model response empty"


@pytest.mark.parametrize("method, path, key", [("POST", "create", "modules"), ("POST", "update", "nodes"), ("POST", "version/publish", "nodes")])
def test_steps_without_what_the_page_draws_are_refused(recorder, method, path, key):
    """Not recorded, but tried on a real 4.16.0; 4.11 looks at nothing."""
    app = recorder.as_root("POST", "/api/core/app/create", {"name": "one", "type": "simple", "modules": simple_nodes(), "edges": []})["body"]["data"]
    steps = [{"nodeId": "a", "flowNodeType": "chatNode", "name": "AI chat", "inputs": [{"key": "model", "value": "tiny:latest"}]}]
    answer = recorder(method, "/api/core/app/%s?appId=%s" % (path, app), {"name": "two", "type": "simple", key: steps, "edges": []},
                      {"token": recorder.story.values["<ROOT_TOKEN>"]})
    if recorder.story.version == VERSIONS[NEW]:
        assert answer["status"] == 400 and answer["body"]["message"] == "Data validation error"
        assert [found["path"] for found in answer["body"]["zodError"]] == [
            [key, 0, "inputs", 0, "label"], [key, 0, "inputs", 0, "renderTypeList"], [key, 0, "outputs"]]
    else:
        assert answer["status"] == 200


@pytest.mark.skipif(bool(REAL), reason="a real server has no faults to switch on")
def test_faults_are_switched_on(recorder):
    recorder("PUT", "/_lab/faults", [{"path": MODEL, "status": 502, "body": "<html>bad gateway</html>", "content_type": "text/html"}])
    assert [recorder("GET", MODEL + "list")["status"] == 502 for _n in range(2)] == [True, False]
    recorder.story.server.stop()
    with pytest.raises(AssertionError, match="exit code 1:"):
        recorder.story.server.start(FASTGPT_LAB_FAULT="crash")
