# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of a pull that broke: by its client, who leaves, or by its server, which is killed. The stand-in, or the real program in LAB_OLLAMA."""

from __future__ import annotations

import hashlib
import http.client
import json
import pathlib
import random
import signal
import socket
import struct
import time
import urllib.parse

import pytest
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_models
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_world import TEMPLATE, World
from ansible_collections.localmodels.fastgpt.tests.contract.test_ollama import VERSIONS, start_ollama
from ansible_collections.localmodels.fastgpt.tests.contract.wire import send
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import call

SIZE, PACE = 600_000, 50_000    # bytes, and a second: a pull of 12 s
QUIET = 2.5                     # seconds in which a download that goes on would be seen


class Lab:
    """A server, and a registry with a slow model, which is another one for each test."""

    def __init__(self, folder, version):
        self.world = World(folder / "world").start()
        self.server = start_ollama(folder / "ollama", version)
        self.count = 0

    def another(self):
        self.count += 1
        weights, model = random.randbytes(SIZE), "slow%d" % self.count
        self.world.publish(model + ":latest", weights, TEMPLATE)
        self.name = "%s/library/%s:latest" % (self.world.values["127.0.0.1:5001"], model)
        self.blob = "*/sha256:" + hashlib.sha256(weights).hexdigest()
        self.file = pathlib.Path(self.server.state, "models", "blobs", self.blob[2:].replace(":", "-") + "-partial")
        self.note = self.file.with_name(self.file.name + "-0")
        self.world.requests()
        self.pace(PACE)
        return self

    def pace(self, rate, *rules):
        self.world.faults(*rules, {"path": self.blob, "rate": rate})

    def open(self):
        """(connection, answer) of a pull that brings bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", urllib.parse.urlsplit(self.server.url).port, timeout=30)
        connection.request("POST", "/api/pull", json.dumps({"model": self.name, "insecure": True}))
        answer = connection.getresponse()
        return connection, answer

    def leave_in_the_middle(self, reset=False):
        connection, answer = self.open()
        for raw in answer:
            if json.loads(raw).get("completed"):
                break
        self.leave(connection, answer, reset)

    @staticmethod
    def leave(connection, answer, reset=False):
        if reset:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        answer.close()
        connection.close()

    def pull(self):
        """The last line (dict) of a pull."""
        return send(self.server.url, "POST", "/api/pull", {}, {"model": self.name, "insecure": True})["lines"][-1]

    def goes_on(self):
        """What of a pull goes on by itself: requests to the registry, answers of it, bytes in the file."""
        deadline = time.monotonic() + 5
        while self.sending() and time.monotonic() < deadline:
            time.sleep(0.1)  # the registry learns of it with its next bytes
        self.world.requests()
        before = self.file.stat().st_mtime_ns
        time.sleep(QUIET)
        return [one["path"] for one in self.world.requests()] + self.sending() + ["bytes"] * (self.file.stat().st_mtime_ns != before)

    def sending(self):
        return send(self.world.registry.url, "GET", "/_lab/sending", {}, None)["body"]


@pytest.fixture(name="both", scope="module", params=sorted(VERSIONS.values()))
def _both(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    (folder / "world").mkdir()
    lab = Lab(folder, request.param)
    yield lab
    lab.server.stop()
    lab.world.stop()


@pytest.fixture(name="lab")
def _lab(both):
    return both.another()


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_takes_its_download_with_it(lab, reset):
    lab.leave_in_the_middle(reset)
    assert lab.goes_on() == []
    lab.pace(10 * SIZE)
    assert lab.pull() == {"status": "success"}


def test_a_download_that_waits_to_try_again_dies_at_the_end_of_its_pause_and_with_it_who_has_joined(lab):
    lab.pace(PACE, {"path": lab.blob, "ranged": True, "status": 503, "body": "later"})
    connection, answer = lab.open()
    refused = []
    while len(refused) < 3:     # pauses of 1, 2, 4.. seconds
        refused += [one for one in lab.world.requests() if one["answered"] == 503]
        time.sleep(0.05)
    time.sleep(1)               # the third answer has arrived too, and the pause has begun
    lab.leave(connection, answer)
    time.sleep(0.5)             # that nobody is there any more is noticed before the next one comes
    lab.pace(10 * SIZE)
    began = time.monotonic()
    assert lab.pull() == {"error": "context canceled"} and time.monotonic() - began > 1
    assert [one for one in lab.world.requests() if one["path"].endswith(lab.blob[2:])] == []
    assert lab.pull() == {"status": "success"}


def test_the_module_waits_for_that_end_and_pulls_then(lab, capsys):
    lab.pace(PACE, {"path": lab.blob, "ranged": True, "status": 503, "body": "later", "times": 2})
    connection, answer = lab.open()
    while not any(one["answered"] == 503 for one in lab.world.requests()):
        time.sleep(0.05)
    lab.leave(connection, answer)
    lab.pace(10 * SIZE)
    result = call(ollama_models, capsys, url=lab.server.url, models=[lab.name], insecure=True, retries=0)
    assert not result.get("failed") and result["changed"]


def half_a_note(lab):
    """A server killed while it wrote down how far it was."""
    lab.leave_in_the_middle()
    assert json.loads(lab.note.read_bytes())["Size"] == SIZE
    lab.server.stop(signal.SIGKILL)
    lab.note.write_bytes(b"")
    lab.server.start()
    lab.pace(10 * SIZE)
    assert lab.pull() == lab.pull() == {"error": "EOF"}, "no further try helps"


def test_a_note_that_ollama_cannot_read_is_put_out_of_its_way(lab, capsys):
    half_a_note(lab)
    result = call(ollama_models, capsys, url=lab.server.url, models=[lab.name], insecure=True, retries=1,
                  store_path=lab.server.state + "/models")
    assert not result.get("failed") and result["changed"]
    assert "could not read what it had noted" in str(result["warnings"])


def test_where_the_store_is_elsewhere_it_is_said_what_to_delete(lab, capsys):
    half_a_note(lab)
    result = call(ollama_models, capsys, url=lab.server.url, models=[lab.name], insecure=True, store_path="/nonexistent")
    assert result["failed"] and "Ollama cannot read what it noted of an earlier pull" in result["msg"]
    assert "Delete the files *-partial-* in the folder blobs of its model store" in result["msg"]
    lab.note.unlink()
    assert lab.pull() == {"status": "success"}, "what the message tells to do helps"
