# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures that users met (tests/fixtures/field-failures.yml), layers pull and model: each one is answered by its cause and its mend."""

from __future__ import annotations

import pathlib

import pytest
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.plugins.module_utils import (
    _fastgpt_model,
    _load_causes,
    _pull_causes,
    _verify_causes,
)
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._machine import Memory
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama import Ollama
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull_causes import PullFailed
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving, streaming
from ansible_collections.localmodels.fastgpt.tests.unit.test_capacity import BOTH, CHAT, EMBED, host, judged

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "field-failures.yml"
FAILURES = {one["id"]: one for one in yaml_load(FIXTURES.read_text(encoding="utf-8"))["failures"] if one["layer"] in ("pull", "model")}


def by_pull(said):
    return str(PullFailed("x:latest", _pull_causes.cause_of(said), said))


def by_a_stalled_pull(said):
    """No error line ever comes; the stream is watched for growth (see tests/unit/test_pull.py for its other ways to end)."""
    line = {"status": "pulling aaa", "digest": "sha256:a", "total": 100, "completed": 99}
    with serving({("POST", "/api/pull"): streaming(lambda: _for_ever(line))}) as server:
        with pytest.raises(LocalModelsError) as caught:
            Ollama(Client(server.url, "Ollama")).pull("x", stall_timeout=0.1)
    return str(caught.value)


def _for_ever(line):
    import time
    for dummy in range(200):
        yield line
        time.sleep(0.05)


def by_loading(said):
    """What a state `loaded` answers when Ollama says this."""
    with serving({("POST", "/api/generate"): (500, {"error": said}), ("POST", "/api/embed"): (500, {"error": said})}) as server:
        with pytest.raises(LocalModelsError) as caught:
            Ollama(Client(server.url, "Ollama")).load("x", -1)
    return str(caught.value)


def by_verifying(said):
    return "%s. %s." % _verify_causes.cause_of(said)


def by_capacity(said):
    return " ".join(judged([CHAT, EMBED], BOTH, host(memory=Memory(4 * 10 ** 9))) + judged([CHAT, EMBED], BOTH, host(slots=1)))


def by_both(said):
    return by_loading(said) + by_verifying(said)


# id: (what answers it, words of its cause, words of its mend)
ANSWERS = {
    "pull-412-newer-ollama-needed": (by_pull, "needs a newer Ollama", "the version of the running server counts"),
    "pull-manifest-unreachable": (by_pull, "Ollama cannot reach the registry", "HTTPS_PROXY in the environment of its service; or name a mirror"),
    "pull-stuck-at-last-percent": (by_a_stalled_pull, "no byte more came for", "Run again: it resumes where it stopped"),
    "pull-name-does-not-exist": (by_pull, "the registry has no such model", "Correct the name or its tag"),
    "model-has-no-tool-template": (by_both, "template has no tools", "local_models"),
    "architecture-newer-than-server": (by_both, "older than the model", "ollama_version"),
    "embedding-model-used-for-chat": (by_both, "embedding model", "Leave type"),
    "cold-load-aborted-by-client": (by_loading, "given up before it was done", "OLLAMA_LOAD_TIMEOUT"),
    "chat-and-embedding-evict-each-other": (by_capacity, "used by turns and do not fit in memory together", "an Ollama of its own"),
    "ollama-queue-full": (by_both, "queue of Ollama is full", "OLLAMA_MAX_QUEUE"),
}


def test_every_failure_of_these_layers_has_its_answer():
    assert sorted(FAILURES) == sorted(ANSWERS)


@pytest.mark.parametrize("id", sorted(ANSWERS))
def test_the_symptom_is_answered_by_cause_and_mend(id):
    answer, cause, mend = ANSWERS[id]
    said = answer(FAILURES[id]["symptom"])
    assert cause in said and mend in said, said


def test_what_a_model_is_comes_from_ollama_and_not_from_the_list():
    """Entries model-has-no-tool-template and embedding-model-used-for-chat do not arise from our own records."""
    shown = {"name": "bge-m3:latest", "capabilities": ["embedding"], "context_length": 8192}
    assert _fastgpt_model.record("bge-m3", shown)["metadata"]["type"] == "embedding"
    chat = {"name": "r1:latest", "capabilities": ["completion"], "context_length": 8192}
    assert _fastgpt_model.record("r1", chat)["metadata"]["toolChoice"] is False


def test_a_load_waits_longer_than_ollama_itself():
    """Entry cold-load-aborted-by-client: whoever hangs up makes Ollama throw the load away; Ollama gives up after 5 minutes."""
    from ansible_collections.localmodels.fastgpt.plugins.module_utils import _ollama
    assert _ollama._LOADING > 5 * 60


@pytest.mark.parametrize("said, cause", [
    ("llama-server binary not found (checked: /x)", "without llama-server"),
    ("model requires more system memory (8.4 GiB) than is available (2.1 GiB)", "more memory than is free"),
    ("llama-server process has terminated: exit status 1: error: cudaMalloc failed: out of memory", "more memory than is free"),
    ("llama-server process has terminated: signal: killed", "the process that computes it ended"),
    ("error loading model: unknown model architecture: 'qwen9'", "this Ollama is older than the model"),
    ('"x" does not support generate', "it is an embedding model"),
    ("invalid file magic", "no model that this Ollama can read"),
    ('option "num_ctx" must be of type integer', "value of the wrong type"),
    ("This server does not support embeddings. Start it with `--embeddings`", "asked for embeddings"),
    ("ollama cloud is disabled: remote model is unavailable", "in the cloud"),
])
def test_further_words_of_ollama(said, cause):
    assert cause in by_loading(said)


def test_unknown_words_are_passed_on():
    assert _load_causes.cause_of("something new") == ("", "")
    assert "answered 500: something new" in by_loading("something new")


