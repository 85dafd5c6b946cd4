# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's model registry: faults that no recorded line needs, and what an update leaves in Ollama's store."""

from __future__ import annotations

import http.client
import json
import pathlib
import socket
import urllib.parse

import pytest

from ansible_collections.localmodels.fastgpt.tests.contract.ollama_story import begin, weights_digest
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_world import MID, World
from ansible_collections.localmodels.fastgpt.tests.contract.test_ollama import start_ollama
from ansible_collections.localmodels.fastgpt.tests.contract.wire import send


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    found = World(tmp_path_factory.mktemp("world")).start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def ollama(tmp_path_factory):
    server = start_ollama(tmp_path_factory.mktemp("ollama"), "0.32.15")
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def healthy(world):
    yield
    world.faults()


def get(world, path, method="GET", timeout=30):
    address = urllib.parse.urlsplit(world.registry.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=timeout)
    connection.request(method, path)
    return connection.getresponse()


def mid(world):
    return "/v2/library/mid/blobs/" + weights_digest(world, "mid", "latest")


def pull(world, name):
    return {"model": "%s/library/%s" % (world.values["127.0.0.1:5001"], name), "insecure": True}


def test_fault_ends_after_the_times_it_was_asked_for(world):
    world.faults({"path": "*/manifests/*", "times": 2, "status": 503, "headers": {"Retry-After": "1"}})
    path = "/v2/library/tiny/manifests/latest"
    assert [get(world, path).status for _ in range(3)] == [503, 503, 200]


def test_captive_portal_answers_html(world):
    world.faults({"status": 200, "body": "<html>log in</html>"})
    answer = get(world, "/v2/library/tiny/manifests/latest")
    assert answer.getheader("Content-Type").startswith("text/html")
    assert answer.read() == b"<html>log in</html>"


def test_size_can_be_wrong(world):
    world.faults({"size": 5})
    assert get(world, mid(world), "HEAD").getheader("Content-Length") == "5"


def test_stalled_blob_sends_its_beginning_and_no_more(world):
    world.faults({"stall_after": 65536})
    answer = get(world, mid(world), timeout=1)
    assert len(answer.read(65536)) == 65536
    with pytest.raises(socket.timeout):
        answer.read(1)


def test_range_is_answered_with_that_part(world):
    address = urllib.parse.urlsplit(world.registry.url)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    connection.request("GET", mid(world), headers={"Range": "bytes=4-7"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Content-Range")) == (206, "bytes 4-7/%d" % MID)
    assert len(answer.read()) == 4


def test_pull_of_what_is_there_tells_each_layer_once(world, ollama):
    for _ in range(2):
        lines = send(ollama.url, "POST", "/api/pull", {}, pull(world, "tiny"))["lines"]
    layers = [line for line in lines if "digest" in line]
    assert len({line["digest"] for line in layers}) == len(layers) == 6
    assert all(line["completed"] == line["total"] for line in layers)


def test_digest_is_that_of_the_registrys_bytes(world, ollama):
    digest = world.publish("fresh:latest", b"weights", {})
    send(ollama.url, "POST", "/api/pull", {}, pull(world, "fresh"))
    models = send(ollama.url, "GET", "/api/tags", {}, None)["body"]["models"]
    assert {model["digest"] for model in models if "fresh" in model["name"]} == {digest}


def test_update_removes_the_layers_it_replaces(world, ollama):
    blobs = pathlib.Path(ollama.state, "models/blobs")
    world.publish("moving:latest", b"old weights", {})
    old = weights_digest(world, "moving", "latest").replace(":", "-")
    send(ollama.url, "POST", "/api/pull", {}, pull(world, "moving"))
    assert (blobs / old).exists()
    world.publish("moving:latest", b"new weights", {})
    send(ollama.url, "POST", "/api/pull", {}, pull(world, "moving"))
    assert not (blobs / old).exists()


def test_model_put_into_the_store_is_listed_without_a_restart(world, ollama):
    send(ollama.url, "POST", "/api/pull", {}, pull(world, "tiny"))
    manifests = pathlib.Path(ollama.state, "models/manifests")
    source = manifests / world.values["127.0.0.1:5001"] / "library/tiny/latest"
    target = manifests / "registry.ollama.ai/library/seeded/latest"
    target.parent.mkdir(parents=True)
    target.write_bytes(source.read_bytes())
    models = send(ollama.url, "GET", "/api/tags", {}, None)["body"]["models"]
    assert "seeded:latest" in {model["name"] for model in models}
    send(ollama.url, "DELETE", "/api/delete", {}, {"model": "seeded"})
    assert not target.exists()


def test_progress_grows_while_a_slow_pull_runs(world, ollama):
    world.publish("slow:latest", bytes(range(200)) * 10000, {})
    world.faults({"path": "*/library/slow/blobs/*", "method": "GET", "rate": 2_000_000})
    connection = begin(ollama, pull(world, "slow"), until=1_000_000)
    seen = [json.loads(line).get("completed", 0) for line in connection.lines[1:]]
    connection.close()
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
