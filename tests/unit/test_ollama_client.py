# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the client asks an Ollama, and for how long it waits (what it understands of the answers: tests/contract/test_ollama_client.py)."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _ollama
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Refused, Unreachable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama import CreateFailed, Ollama
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving, streaming

OK = {"done": True}


class Timed(Client):
    """Notes how long each request may stay without an answer."""

    def __init__(self, url):
        super().__init__(url, "Ollama", timeout=5)
        self.waits, self.silence = [], None

    def open(self, method, path, body=None, headers=None, timeout=None, silence=None):
        self.waits.append((path, timeout or self.timeout))
        self.silence = silence or self.silence
        return super().open(method, path, body, headers, 5, silence)


def asked(answers, call):
    """What `call` (of an Ollama) returns, and the Timed client."""
    with serving(answers) as server:
        client = Timed(server.url)
        return call(Ollama(client, lambda seconds: None)), client, server


def test_what_takes_long_is_waited_for_and_the_rest_is_not():
    answers = {("POST", "/api/pull"): streaming([{"status": "success"}]), ("POST", "/api/create"): streaming([{"status": "success"}]),
               ("POST", "/api/generate"): (400, {"error": '"x" does not support generate'}), ("POST", "/api/embed"): (200, OK),
               ("GET", "/api/tags"): (200, {"models": None})}
    dummy, client, server = asked(answers, lambda one: (one.pull("x"), one.create("x", {}), one.load("x", "5m"), one.found()))
    waits = dict(client.waits)
    assert client.silence == waits["/api/create"] > 24 * 3600, "a pull is silent for as long as Ollama hashes"
    assert waits["/api/pull"] == 300, "and begins to answer at once"
    assert waits["/api/generate"] == waits["/api/embed"] > 5 * 60, "Ollama itself gives a load up after that"
    assert waits["/api/tags"] == 5
    bodies = {path: body for dummy2, path, body in server.asked}
    assert bodies["/api/pull"] == {"model": "x", "insecure": False} and bodies["/api/embed"] == {"model": "x", "keep_alive": "5m"}


def hanging(begun):
    """An answer of a server that hangs: after these bytes nothing comes."""
    def answer(handler):
        handler.wfile.write(begun)
        handler.wfile.flush()
        handler.connection.settimeout(20)
        handler.rfile.read(1)  # until the other side has had enough

    return answer


def test_a_pull_from_a_server_that_hangs_before_its_answer_ends():
    """Where nothing has begun there is nobody who watches it, so the socket has to."""
    with serving({("POST", "/api/pull"): hanging(b"")}) as server, pytest.raises(Unreachable, match="did not answer in time") as caught:
        Ollama(Client(server.url, "Ollama", timeout=0.3)).pull("x", stall_timeout=0.2)
    assert caught.value.passing


def test_a_refusal_of_a_pull_that_is_cut_is_an_error_of_the_line():
    cut = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{"

    def answer(handler):
        handler.wfile.write(cut)

    with serving({("POST", "/api/pull"): answer}) as server, pytest.raises(Unreachable, match="closed the connection in mid-answer") as caught:
        Ollama(Client(server.url, "Ollama")).pull("x")
    assert caught.value.passing


@pytest.mark.parametrize("status, there", [(200, True), (404, False), (400, None), (503, None)])
def test_whether_a_blob_is_there(status, there):
    if there is None:
        with pytest.raises(Refused):
            asked({("HEAD", "/api/blobs/d"): (status, "")}, lambda one: one.has_blob("d"))
    else:
        assert asked({("HEAD", "/api/blobs/d"): (status, "")}, lambda one: one.has_blob("d"))[0] is there


@pytest.mark.parametrize("status, said, mend", [
    (200, "", None), (201, "", None), (400, "digest mismatch, expected a, got b", "was changed while it was sent"),
    (500, "write x: no space left on device", "Free space on the disk of the model store"), (500, "disk quota exceeded", "Free space on the disk"),
    (500, "oops", "answered 500: oops"), (413, None, "answered 413")])
def test_a_blob_is_taken_or_it_is_said_why_not(status, said, mend):
    answers = {("POST", "/api/blobs/d"): (status, {"error": said} if said else "")}
    if mend is None:
        asked(answers, lambda one: one.put_blob("d", b"1", 1, 7))
    else:
        with pytest.raises(Refused, match=mend):
            asked(answers, lambda one: one.put_blob("d", b"1", 1, 7))


@pytest.mark.parametrize("answer, said, passing", [
    (streaming([{"status": "a"}, {"error": "unsupported architecture"}]), "take its GGUF, or a newer Ollama", False),
    ((400, {"error": "no space left on device"}), "Free space on the disk", False), (streaming([{"status": "a"}]), "the answer ends too early", True),
    (streaming([{"status": "success"}, {"error": "late"}]), "says late", False), ((404, "404 page not found"), "answered 404", False),
    ((503, "busy"), "answered 503", True)])
def test_a_creation_that_fails_says_why_and_whether_it_may_pass(answer, said, passing):
    with pytest.raises(LocalModelsError) as caught:
        asked({("POST", "/api/create"): answer}, lambda one: one.create("x", {"from": "y"}))
    assert said in str(caught.value) and caught.value.passing is passing
    assert isinstance(caught.value, CreateFailed) or "answered" in said


@pytest.mark.parametrize("answer, deleted", [((200, ""), True), ((404, {"error": "model 'x' not found"}), False), ((404, "404 page not found"), None),
                                             ((500, {"error": "x"}), None)])
def test_a_deletion_says_whether_there_was_anything(answer, deleted):
    if deleted is None:
        with pytest.raises(Refused):
            asked({("DELETE", "/api/delete"): answer}, lambda one: one.delete("x"))
    else:
        assert asked({("DELETE", "/api/delete"): answer}, lambda one: one.delete("x"))[0] is deleted


@pytest.mark.parametrize("runs", [0, 3, 10 ** 6])
def test_an_unload_is_asked_for_and_waited_for(runs):
    """It is gone from memory when GET /api/ps no longer lists it, in whatever spelling."""
    left, slept = [runs], []

    class Fake(Ollama):
        def running(self):
            left[0] -= 1
            return [{"name": "other:latest"}] + [{"name": "X:Latest"}] * (left[0] >= 0)

    with serving({("POST", "/api/generate"): (200, OK)}) as server:
        ollama = Fake(Client(server.url, "Ollama"), slept.append)
        if runs > 100:
            with pytest.raises(LocalModelsError, match="x is still loaded 30 s after"):
                ollama.unload("x")
        else:
            ollama.unload("x")
        assert server.asked == [("POST", "/api/generate", {"model": "x", "keep_alive": 0, "stream": False})]
    assert sum(slept) == (_ollama._UNLOADING if runs > 100 else runs * 0.5)


@pytest.mark.parametrize("answer, said", [
    ((503, "<html>busy</html>"), "Something before Ollama is too busy, or does not reach it"),
    ((500, "<html>no</html>"), "Check whether Ollama itself listens"),
    ((500, {"detail": "x"}), "answered 500"), ((500, {"error": "disk trouble"}), "answered 500: disk trouble"), ((200, "[1]"), "is no Ollama")])
def test_what_an_odd_answer_means(answer, said):
    with pytest.raises(LocalModelsError) as caught:
        asked({("POST", "/api/show"): answer}, lambda one: one.show("x"))
    assert said in str(caught.value)


@pytest.mark.parametrize("models", [["x"], {"x": 1}, [{"model": "x"}], [{"name": None}], "x", [None]])
def test_a_list_of_models_that_is_none_is_that_of_another_server(models):
    answers = {("GET", "/api/tags"): (200, {"models": models}), ("GET", "/api/ps"): (200, {"models": models})}
    for call in (Ollama.found, Ollama.running):
        with pytest.raises(LocalModelsError, match="is no Ollama: /api/(tags|ps) lists "):
            asked(answers, call)


def test_what_a_list_of_models_leaves_out_is_nothing():
    (one,) = asked({("GET", "/api/tags"): (200, {"models": [{"name": "x", "digest": None, "size": None}]})}, Ollama.found)[0]
    assert (one.name.short, one.digest, one.size) == ("x:latest", "", 0)
