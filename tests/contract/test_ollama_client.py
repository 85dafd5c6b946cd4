# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client understands every recorded answer of Ollama to what it asks: each line of both transcripts, none left out by hand."""

from __future__ import annotations

import io
import os

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _memory, _ollama_facts, _recipe
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import Refused
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Answer, Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama import CreateFailed, Ollama
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Wanted
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull_causes import PullFailed, cause_of
from ansible_collections.localmodels.fastgpt.tests.contract import replay

FILES = ("ollama-0.32.jsonl", "ollama-0.34.jsonl")
# What the client asks for. The rest of the API is the inference side and pushing.
ASKED = {("GET", "/api/version"), ("GET", "/api/tags"), ("GET", "/api/ps"), ("POST", "/api/show"), ("POST", "/api/pull"),
         ("DELETE", "/api/delete"), ("POST", "/api/create")}


class Recorded(io.BytesIO):
    """A recorded answer as the response that Client.open gives."""

    def __init__(self, status, headers, raw):
        super().__init__(raw)
        self.status, self.headers = status, headers
        self._pipe = os.pipe()

    def getcode(self):
        return self.status

    def fileno(self):
        return self._pipe[0]

    def close(self):
        if not self.closed:
            for end in self._pipe:
                os.close(end)
        super().close()


class Tape(Client):
    """A client whose server answers with one recorded exchange."""

    def __init__(self, exchange):
        super().__init__("http://127.0.0.1:11434", "Ollama")
        self.recorded = exchange.raw()

    def open(self, *request, **more):
        return Recorded(*self.recorded)

    def request(self, *request, **more):
        return Answer(*self.recorded)


def cases():
    return [pytest.param(exchange, id=exchange.name) for file in FILES for exchange in replay.load(file)
            if (exchange.method, exchange.path) in ASKED]


def ask(exchange):
    """Let the client ask what was asked when this line was recorded."""
    ollama = Ollama(Tape(exchange))
    body = exchange.body if isinstance(exchange.body, dict) else {}
    name = str(body.get("model", body.get("name", "")))
    return {
        "/api/version": ollama.version, "/api/tags": ollama.tags, "/api/ps": ollama.running,
        "/api/show": lambda: ollama.show(name), "/api/delete": lambda: ollama.delete(name),
        "/api/pull": lambda: ollama.pull(name, stall_timeout=60), "/api/create": lambda: ollama.create(name, body),
    }[exchange.path]()


@pytest.fixture(autouse=True)
def watch_without_sockets(monkeypatch):
    """A recorded answer has no connection that could be cut."""
    class Nothing:
        def __init__(self, fileno):
            os.close(fileno)

        def close(self):
            pass

    monkeypatch.setattr("ansible_collections.localmodels.fastgpt.plugins.module_utils._pull.socket.socket", Nothing)


def recorded_error(exchange):
    """Ollama's error text in a recorded answer, or None."""
    lines = exchange.response.get("lines") or [exchange.response.get("body")]
    errors = [line["error"] for line in lines if isinstance(line, dict) and "error" in line]
    return errors[0] if errors else None


def streamed(exchange):
    return exchange.path == "/api/pull" and "lines" in exchange.response


@pytest.mark.parametrize("exchange", cases())
def test_the_client_understands_what_ollama_said(exchange):
    error, status = recorded_error(exchange), exchange.response["status"]
    try:
        got = ask(exchange)
    except PullFailed as failed:
        assert exchange.path == "/api/pull"
        if error is None:
            assert exchange.response["lines"][-1].get("status") != "success" and failed.kind == "truncated"
        else:
            assert failed.said[:60] == " ".join(error.split())[:60]
        assert failed.mend
    except CreateFailed as failed:
        assert exchange.path == "/api/create" and " ".join(error.split())[:60] in str(failed) and failed.mend
    except Refused as refused:
        assert refused.status == status != 200
        assert error is None or error.split("\n")[0][:80] in str(refused)
        assert error is not None or refused.mend
    else:
        check_success(exchange, got, error)


def check_success(exchange, got, error):
    recorded = exchange.response.get("body")
    if exchange.path == "/api/delete" and exchange.response["status"] == 404:
        assert got is False
        return
    assert exchange.response["status"] == 200 and error is None
    if exchange.path == "/api/version":
        assert got == recorded["version"]
    elif exchange.path in ("/api/tags", "/api/ps"):
        assert got == recorded["models"]
    elif exchange.path == "/api/show":
        facts = _ollama_facts.model({"name": "x:latest"}, got)
        assert facts["capabilities"] == recorded["capabilities"] and facts["family"] == recorded["details"]["family"]
        assert facts["quantization"] == recorded["details"]["quantization_level"]
        assert facts["context_length"] and facts["embedding_length"]
        assert facts["num_ctx"] == (1024 if "num_ctx " in recorded.get("parameters", "") else None)
    elif exchange.path == "/api/delete":
        assert got is True
    elif exchange.path == "/api/create":
        assert (exchange.response.get("lines") or [recorded])[-1] == {"status": "success"}
    elif streamed(exchange):
        assert exchange.response["lines"][-1] == {"status": "success"}
        sizes = {line["digest"]: line["total"] for line in exchange.response["lines"] if "total" in line}
        assert got.total == sum(sizes.values())


@pytest.mark.parametrize("file", FILES)
def test_every_model_in_every_list_has_a_name_that_is_one(file):
    lists = [exchange for exchange in replay.load(file) if exchange.path == "/api/tags" and exchange.method == "GET"]
    assert lists
    for exchange in lists:
        found = Ollama(Tape(exchange)).found()
        assert [one.name.short for one in found] == [one["name"] for one in exchange.response["body"]["models"]]


def failed_pulls():
    return sorted({(error, exchange.file) for file in FILES for exchange in replay.load(file)
                   for error in [recorded_error(exchange)] if exchange.path == "/api/pull" and error})


# Request errors that only a broken client could cause; this one never sends such a body.
CLIENT_FAULTS = ("missing request body", "invalid character 'b'", "json: cannot unmarshal")


@pytest.mark.parametrize("error, file", failed_pulls())
def test_every_recorded_reason_of_a_failed_pull_has_a_cause_and_a_mend(error, file):
    cause = cause_of(error)
    assert cause.mend
    assert (cause.kind == "other") == error.startswith(CLIENT_FAULTS), cause.kind


@pytest.mark.parametrize("id, kind, passing", [
    ("pull-not-found", "unknown", False),
    ("pull-blob-404", "incomplete", False),
    ("pull-manifest-412", "too-old", False),
    ("pull-manifest-429", "busy", True),
    ("pull-manifest-500", "registry-broken", True),
    ("pull-https-proxy-refuses", "registry-broken", True),
    ("pull-http-proxy-insecure", "registry-broken", True),
    ("pull-manifest-403", "forbidden", False),
    ("pull-manifest-401-basic", "forbidden", False),
    ("pull-without-insecure", "speaks-plain", False),
    ("pull-insecure-against-tls", "speaks-tls", False),
    ("pull-tls-unknown-ca", "certificate", False),
    ("pull-no-location-header", "no-location", False),
    ("pull-redirect-301-other-host", "no-location", False),
    ("pull-registry-down", "unreachable", True),
    ("pull-default-registry-unresolvable", "unresolvable", False),
    ("pull-disk-full", "disk-full", False),
    ("pull-digest-mismatch", "wrong-bytes", True),
    ("pull-manifest-not-json", "no-registry", False),
    ("pull-bad-name", "bad-name", False),
])
def test_each_cause_is_told_from_the_others(id, kind, passing):
    exchange = next(one for one in replay.load(FILES[0]) if one.id == id)
    with pytest.raises(PullFailed) as caught:
        ask(exchange)
    assert (caught.value.kind, caught.value.passing) == (kind, passing)


def line(file, id):
    return next(one for one in replay.load(file) if one.id == id)


@pytest.mark.parametrize("file", FILES)
def test_what_a_real_server_says_of_a_model_it_made_is_what_its_recipe_says(file):
    asked = line(file, "create-from-model-stream").body
    recipe = _recipe.read(ModelName.parse("custom"), asked)
    base, made = (Ollama(Tape(line(file, id))).show("x") for id in ("show-found", "show-custom"))
    assert _recipe.differences(recipe, made, base) == []
    other = _recipe.read(ModelName.parse("custom"), line(file, "create-changed-system").body)
    assert [one[0] for one in _recipe.differences(other, made, base)] == ["system"]


class Tapes(Client):
    """A client whose server answers the recorded exchanges (ids) one after the other, and notes what was asked."""

    def __init__(self, file, *ids):
        super().__init__("http://127.0.0.1:11434", "Ollama")
        self.recorded, self.asked = [line(file, id) for id in ids], []

    def request(self, method, path, body=None, **more):
        exchange = self.recorded.pop(0)
        self.asked.append((path, {key: value for key, value in (body or {}).items() if key != "stream"}))
        assert (method, path) == (exchange.method, exchange.path)
        return Answer(*exchange.raw())


@pytest.mark.parametrize("file", FILES)
def test_models_are_loaded_and_unloaded(file):
    tapes = Tapes(file, "generate-preload-keepalive-forever")
    Ollama(tapes).load("tiny", -1)
    assert tapes.asked == [("/api/generate", {"model": "tiny", "keep_alive": -1})]
    tapes = Tapes(file, "generate-embed-model-preload", "embed-no-input")
    Ollama(tapes).load("tiny-embed", "10m")
    assert tapes.asked[1] == ("/api/embed", {"model": "tiny-embed", "keep_alive": "10m"})
    tapes = Tapes(file, "generate-unload", "ps-empty")
    Ollama(tapes).unload("tiny")
    assert tapes.asked[0] == ("/api/generate", {"model": "tiny", "keep_alive": 0})
    for id, said in (("generate-keepalive-bad", "invalid duration"), ("generate-missing-model-unload", "not found")):
        with pytest.raises(Refused) as caught:
            Ollama(Tapes(file, id)).load("tiny", -1)
        assert said in str(caught.value)


def test_an_unload_is_waited_for():
    tapes, slept = Tapes(FILES[0], "generate-unload", "ps-loaded", "ps-empty"), []
    Ollama(tapes, slept.append).unload("tiny")
    assert slept == [0.5]


def test_who_is_loaded_for_ever_is_told_by_the_year():
    def decide(id, keep_alive):
        entries = Ollama(Tape(line(FILES[0], id))).running()
        name = ModelName.parse(entries[0]["name"])
        return _memory.decide(Wanted(name, "loaded", keep_alive=keep_alive), _memory.Running(entries).entry(name, set()))

    assert (decide("ps-loaded", -1), decide("ps-loaded", "10m"), decide("ps-keepalive-forever", -1)) == ("load", None, None)


def test_a_model_that_is_none_shows_as_one_without_bytes():
    """What lets the module notice that a login page was installed as a model."""
    exchange = next(one for one in replay.load(FILES[0]) if one.id == "tags-bogus-manifest")
    found = {one.name.short: one.size for one in Ollama(Tape(exchange)).found()}
    assert found["127.0.0.1:5001/library/captive:latest"] == 0 and found["127.0.0.1:5001/library/tiny:latest"] > 0
