# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the client makes of the words of an Ollama, and of what stands before it; no socket."""

from __future__ import annotations

import io
import json

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Refused, Unreachable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama import CreateFailed, Ollama, found_in
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull_causes import PullFailed

OK = {"done": True}


class Response(io.BytesIO):
    """An open answer, as Client.open gives it. cut: after its lines the connection breaks."""

    def __init__(self, status, headers, body, cut=False):
        super().__init__(body)
        self.status, self.headers, self.cut = status, headers, cut

    def getcode(self):
        return self.status

    def __next__(self):
        line = self.readline()
        if not line and self.cut:
            raise ConnectionResetError("cut")
        if not line:
            raise StopIteration
        return line


class Given(Client):
    """Gives `answers` (status, body: anything that JSON can hold, or bytes; headers) one after the other. `asked`: (method, path, body, headers)."""

    def __init__(self, *answers):
        super().__init__("http://h:1", "Ollama", secrets=["hidden"])
        self.left, self.asked = list(answers), []

    def open(self, method, path, body=None, headers=None, timeout=None, silence=None):
        self.asked.append((method, path, body, headers))
        status, said, more = (self.left.pop(0) + ({},))[:3]
        lines = said if isinstance(said, bytes) else json.dumps(said).encode()
        return Response(status, {name: value for name, value in more.items() if name != "cut"}, lines, more.get("cut", False))


def asking(*answers):
    """(an Ollama that gets these answers, its client, list of seconds that it slept)."""
    slept = []
    client = Given(*answers)
    return Ollama(client, slept.append), client, slept


BUSY = (503, b"<html>busy</html>")


@pytest.mark.parametrize("answers, slept", [
    ([(200, {"version": "1"})], []), ([BUSY, (200, {"version": "1"})], [1]), ([BUSY, (429, b""), (200, {"version": "1"})], [1, 2]),
    ([BUSY + ({"Retry-After": "7"},), (502, {"error": "x"}, {"retry-after": "0"}), (200, {"version": "1"})], [7, 0]),
    ([BUSY + ({"Retry-After": "99"},), (200, {"version": "1"})], [10])])
def test_a_proxy_that_is_busy_is_asked_again_when_it_says(answers, slept):
    ollama, client, pauses = asking(*answers)
    assert ollama.version() == "1" and pauses == slept and client.left == [] and set(client.asked) == {("GET", "/api/version", None, None)}


def test_it_is_asked_three_times_and_what_is_no_trouble_of_a_proxy_once():
    ollama, client, slept = asking(BUSY, BUSY, BUSY + ({"Retry-After": "9"},), (200, {}))
    with pytest.raises(Refused, match="answered 503: busy.*look at the log of that proxy") as caught:
        ollama.version()
    assert slept == [1, 2] and len(client.asked) == 3 and caught.value.retry_after == 9
    ollama, client, slept = asking((500, {"error": "x"}), (200, {"version": "1"}))
    with pytest.raises(Refused):
        ollama.version()
    assert slept == [] and len(client.asked) == 1


@pytest.mark.parametrize("said, words", [({"b": 1, "a": 2}, "is no Ollama: ['a', 'b'] without 'version'. Check host and port"), ([1], "is no Ollama: [1]"),
                                         (b"<p>hello\n you</p>", "What answers at http://h:1 is no Ollama: <p>hello you</p>")])
def test_what_answers_and_is_no_ollama_is_shown(said, words):
    with pytest.raises(LocalModelsError) as caught:
        asking((200, said))[0].version()
    assert words in str(caught.value)


@pytest.mark.parametrize("status, said, headers, words", [
    (403, b"", {}, "answered 403: an empty body. An Ollama that listens on loopback only takes requests for localhost"),
    (403, {"error": "no"}, {}, "answered 403: no."), (401, b"who?", {}, "answered 401: who?. Something before Ollama asks for credentials"),
    (407, b"", {}, "with url_username and url_password, or with headers"),
    (400, b"<h1>No required SSL certificate was sent</h1>", {}, "Give it with client_cert"),
    (300, b"", {}, "it is elsewhere, at no address"), (399, b"", {}, "it is elsewhere"),
    (400, b"bad", {}, "Check whether Ollama itself listens at this address"),
    (308, b"", {"Location": "https://me:pw@h/hidden"}, "answered 308: it is elsewhere, at https://***@h/***. Use the address of Ollama itself"),
    (404, {"detail": "x"}, {}, "Check whether Ollama itself listens"), (405, {"detail": "x"}, {}, "Check whether Ollama itself listens"),
    (500, {"detail": "x"}, {}, 'answered 500: {"detail": "x"}.'), (500, {"error": {"message": "x"}}, {}, 'answered 500: {"error": {"message": "x"}}.')])
def test_what_an_answer_means_that_is_no_good(status, said, headers, words):
    with pytest.raises(Refused) as caught:
        asking((status, said, headers))[0].show("x")
    assert words in str(caught.value) and "hidden" not in str(caught.value) and "pw" not in str(caught.value).replace("password", "")
    assert ("Check whether" in str(caught.value)) == ("Check whether" in words)


def test_a_model_that_only_embeds_is_loaded_by_an_embedding():
    ollama, client, dummy = asking((400, {"error": '"x" does not support generate'}), (200, OK))
    ollama.load("x", -1)
    assert client.asked == [("POST", "/api/generate", {"model": "x", "keep_alive": -1, "stream": False}, None),
                            ("POST", "/api/embed", {"model": "x", "keep_alive": -1}, None)]
    for status, said in ((400, {"error": "no"}), (500, {"error": '"x" does not support generate'})):
        ollama, client, dummy = asking((status, said), (200, OK))
        with pytest.raises(Refused):
            ollama.load("x", -1)
        assert len(client.asked) == 1


def test_why_a_model_is_not_loaded_is_told_with_its_words_and_without_what_is_secret():
    with pytest.raises(Refused) as caught:
        asking((500, {"error": "hidden: llama-server  binary\nnot found, llama-server binary not found"}))[0].load("x", "5m")
    assert str(caught.value).startswith('Ollama at http://h:1 answered 500: x could not be loaded: this Ollama was installed without llama-server, which does'
                                        ' the work (Ollama said: "***: llama-server binary not found')
    assert "Install the whole release" in str(caught.value)
    with pytest.raises(Refused, match="answered 500: something else"):
        asking((500, {"error": "something else"}))[0].load("x", "5m")


def test_a_blob_is_announced_with_its_length():
    ollama, client, dummy = asking((201, b""))
    ollama.put_blob("sha256:a", b"1234", 4, 7)
    assert client.asked == [("POST", "/api/blobs/sha256:a", b"1234", {"Content-Length": "4", "Content-Type": "application/octet-stream"})]


def lines(*told):
    return b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in told)


def test_a_creation_tells_each_status_and_ends_with_success():
    ollama, client, dummy = asking((200, lines({"status": "pulling"}, {"status": "success"}, {"done": 1}, b"\n", b"[1]\n", b"7\n", {"status": "success"})))
    told = []
    assert ollama.create("x", {"from": "y"}, told.append) is None and told == ["pulling", "success", "success"]
    assert client.asked == [("POST", "/api/create", {"from": "y", "model": "x"}, None)]


@pytest.mark.parametrize("answer, kind, words, passing", [
    ((200, lines({"status": "a"}, {"error": "hidden\n no space left"}, {"status": "success"})), CreateFailed,
     "x could not be created: Ollama at http://h:1 says *** no space left. Free space on the disk", False),
    ((200, lines({"status": "success"}, {"status": "writing"})), CreateFailed,
     "says the answer ends too early. Correct what is declared, or look at the log", True),
    ((200, lines({"status": "a"}), {"cut": True}), Unreachable, "closed the connection in mid-answer (cut)", True),
    ((200, lines({"error": "x" * 400})), CreateFailed, "says " + "x" * 300 + ".", False),
    ((200, lines(b"[1]\n")), CreateFailed, "the answer ends too early", True),
    ((200, lines({"error": {"code": 1}})), CreateFailed, "Ollama at http://h:1 says {'code': 1}. Correct what is declared", False),
    ((400, lines({"error": "MLX engine"})), CreateFailed, "says MLX engine. Since 0.34.1 Ollama imports safetensors by MLX only", False),
    ((400, lines({"error": "llama-quantize not found"})), CreateFailed, "This Ollama lacks a part of its release", False),
    ((400, lines({"error": "unsupported architecture"})), CreateFailed, "take its GGUF, or a newer Ollama", False),
    ((400, lines({"error": "bad"})), CreateFailed, "says bad", False), ((500, b"oops"), Refused, "answered 500: oops", False),
    (BUSY + ({"Retry-After": "9"},), Refused, "answered 503: busy", True)])
def test_a_creation_that_fails_is_told_with_its_words(answer, kind, words, passing):
    told = []
    with pytest.raises(kind) as caught:
        asking(answer)[0].create("x", {}, told.append)
    assert words in str(caught.value) and caught.value.passing is passing
    assert caught.value.retry_after == (9 if "Retry-After" in str(answer) else None)


def test_a_pull_that_is_refused_keeps_what_was_said():
    with pytest.raises(Refused) as caught:
        asking((429, {"error": "later"}, {"Retry-After": "9"}))[0].pull("x")
    assert caught.value.retry_after == 9 and "later" in str(caught.value)
    with pytest.raises(Refused, match="answered 404: nothing"):
        asking((404, b"nothing"))[0].pull("x")


def test_what_a_list_leaves_out_is_empty():
    one, = found_in([{"name": "x"}])
    assert (one.name.short, one.digest, one.size) == ("x:latest", "", 0)
    ollama = asking((200, {"models": None}), (200, {"models": None}), (200, {"models": [{"name": "x", "digest": "d", "size": 5}]}))[0]
    assert (ollama.tags(), ollama.running()) == ([], []) and [(one.digest, one.size) for one in ollama.found()] == [("d", 5)]


def test_an_answer_without_the_key_is_no_ollama_and_not_an_empty_list():
    with pytest.raises(LocalModelsError, match="is no Ollama: .* without 'models'"):
        asking((200, {"data": []}))[0].tags()


def test_each_question_names_its_model():
    ollama, client, dummy = asking((200, {"system": "x"}), (200, b""), (404, {"error": "no"}), (400, {"error": "no"}))
    assert ollama.show("x") == {"system": "x"} and ollama.delete("x") is True and ollama.delete("y") is False
    with pytest.raises(PullFailed):
        ollama.pull("z", insecure=True)
    assert [one[:3] for one in client.asked] == [
        ("POST", "/api/show", {"model": "x"}), ("DELETE", "/api/delete", {"model": "x"}), ("DELETE", "/api/delete", {"model": "y"}),
        ("POST", "/api/pull", {"model": "z", "insecure": True})]
