# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one-api and Ollama answered at /v1, and FastGPT on its way to them, as fastgpt_verify reads it: an answer, or a cause and a mend."""

from __future__ import annotations

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import understand
from ansible_collections.localmodels.fastgpt.plugins.module_utils._inside import Got
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import Secret
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes import cause_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_models import ModelsAt
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_route import DIRECT, ONE_API, Route
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_walk import Broken
from ansible_collections.localmodels.fastgpt.tests.contract import replay

# Requests that the walk never makes: other forms, other paths, a channel named by its number that is not there.
NEVER_ASKED = ("relay-model-get", "relay-chat-bad-json", "relay-chat-no-messages", "relay-chat-pinned-missing", "relay-chat-pinned-disabled",
               "relay-chat-pinned-common-user", "root-token-with-dash")
PATHS = {"/v1/models": "listed", "/v1/chat/completions": "chat", "/v1/embeddings": "embedding"}


def recorded(file):
    return [pytest.param(exchange, id=exchange.name) for exchange in replay.load(file)
            if exchange.path in PATHS and exchange.id not in NEVER_ASKED and isinstance(exchange.body, (dict, type(None)))]


class Inside:
    """Gives the recorded answer to whatever is asked."""

    def __init__(self, exchange):
        status, headers, body = exchange.raw()
        self.got = Got(body.decode(), "", status, {name.lower(): value for name, value in headers.items()}.get("content-type", ""))

    def send(self, *dummy):
        return self.got


def ask(exchange, path):
    models = ModelsAt(Inside(exchange), "fastgpt", Route(path, "http://x/v1", "OPENAI_BASE_URL", Secret("sk-x", "here")), 5)
    kind = PATHS[exchange.path]
    if kind == "listed":
        return models.listed(None)
    if kind == "embedding":
        return models.embedding("m")
    return models.chat("m", stream=bool(exchange.body.get("stream")))


def check(exchange, path):
    status = exchange.response["status"]
    if status == 200 and "error" not in (exchange.response.get("body") or ()):
        assert ask(exchange, path) or exchange.path == "/v1/models"
        return
    with pytest.raises(Broken) as problem:
        ask(exchange, path)
    assert problem.value.answered.startswith("answered %d: " % status) and problem.value.mend
    assert path == DIRECT or problem.value.cause, problem.value.answered


@pytest.mark.parametrize("exchange", recorded("one-api-0.6.jsonl"))
def test_one_api(exchange):
    check(exchange, ONE_API)


@pytest.mark.parametrize("exchange", recorded("ollama-0.32.jsonl") + recorded("ollama-0.34.jsonl"))
def test_ollama(exchange):
    check(exchange, DIRECT)


@pytest.mark.parametrize("file, id, words", [
    ("fastgpt-4.11.jsonl", "direct-model-test-missing", "Run role ollama_models"),
    ("fastgpt-4.16.jsonl", "directnokey-model-test", "set CHAT_API_KEY"),
    ("fastgpt-4.11.jsonl", "gwdown-model-test", "systemEnv.oneapiUrl"), ("fastgpt-4.11.jsonl", "gwv1-model-test", "Ollama's address with /v1 behind"),
])
def test_what_fastgpt_itself_says_of_a_broken_way(file, id, words):
    (exchange,) = [one for one in replay.load(file) if one.id == id]
    said = understand(*exchange.raw())
    assert not said.ok and words in cause_of(said.message, DIRECT)[1]


@pytest.mark.parametrize("id", ["direct-model-test", "direct-model-test-embedding"])
def test_a_fastgpt_without_a_gateway_is_well(id):
    (exchange,) = [one for one in replay.load("fastgpt-4.11.jsonl") if one.id == id]
    assert understand(*exchange.raw()).ok
