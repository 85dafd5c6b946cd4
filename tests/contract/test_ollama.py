# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ollama 0.32 and 0.34: every recorded line against the stand-in, or against the real program in LAB_OLLAMA."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys

import pytest

from ansible_collections.localmodels.fastgpt.tests.contract import replay
from ansible_collections.localmodels.fastgpt.tests.contract.compare import DIGEST, PORT, SHORT_DIGEST, TIME, Rules
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_story import REGISTRY, prepared
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_world import SERVERS, World
from ansible_collections.localmodels.fastgpt.tests.contract.wire import Server, send

OLD, NEW, REGISTRY_SIDE = "ollama-0.32.jsonl", "ollama-0.34.jsonl", "ollama-0.32-registry-side.jsonl"
VERSIONS = {OLD: "0.32.15", NEW: "0.34.4"}
REAL = os.environ.get("LAB_OLLAMA")  # may hold {version}
# Where programs were looked for depends on where Ollama lies; the name server's address on the machine; which of two words
# a server without TLS earns on what it answers to a TLS greeting.
VOLATILE = ((DIGEST, "<digest>"), (SHORT_DIGEST, "<digest>"), (TIME, "<time>"), (PORT, r"\1:<port>"),
            (re.compile(r"\(checked: [^)]*\)"), "(checked: <paths>)"), (re.compile(r"lookup (\S+?)( on \S+:53)?: "), r"lookup \1: "),
            (re.compile("http: server gave HTTP response to HTTPS client"), "tls: first record does not look like a TLS handshake"),
            (re.compile(r"(open|write) \S+/(blobs|manifests)/"), r"\1 <models>/\2/"))


def progress(line):
    """Lines on the bytes of one layer: whether a small blob gets one depends on the clock."""
    return isinstance(line, dict) and "digest" in line and line.get("status", "").startswith("pulling ")


RULES = Rules(said=("error", "message", "status", "done_reason", "type", "finish_reason"), volatile=VOLATILE, progress=progress)


def real(version):
    """Path of the real program that was given for this version."""
    return REAL.replace("{version}", version)


def start_ollama(folder, version, **env):
    """A server of this version with its state below `folder`, and with variables of its own: wire.Server."""
    argv = [real(version), "serve"] if REAL else [sys.executable, str(SERVERS / "ollama.py"), "serve"]
    return Server(argv, folder, env={"OLLAMA_HOST": "127.0.0.1:{port}", "OLLAMA_MODELS": "{state}/models",
                                     "OLLAMA_LAB_VERSION": version}).start(**env)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    found = World(tmp_path_factory.mktemp("world")).start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def stories(world, tmp_path_factory):
    """file -> its Story, begun when its first line is asked for."""
    begun = {}

    def story(file):
        if file not in begun:
            for other in begun.values():
                other.server.stop()
            world.fill()
            world.faults()
            server = start_ollama(tmp_path_factory.mktemp("ollama"), VERSIONS[file])
            values = {**world.values, "<MODELS_DIR>": server.state + "/models"}
            begun[file] = prepared(replay.Story(file, server, RULES, values, real=bool(REAL)), world)
        return begun[file]

    yield story
    for each in begun.values():
        each.server.stop()


@pytest.mark.parametrize("exchange", replay.cases(OLD) + replay.cases(NEW))
def test_answers_as_recorded(stories, exchange):
    if REAL and exchange.file != (NEW if real_version(exchange.file) >= "0.34" else OLD):
        pytest.skip("LAB_OLLAMA is of another version")
    stories(exchange.file).check(exchange)


@functools.lru_cache(maxsize=None)
def real_version(file):
    """The version of the program that LAB_OLLAMA gives for this transcript, such as 0.32.15."""
    said = subprocess.run([real(VERSIONS[file]), "--version"], env={"OLLAMA_HOST": "127.0.0.1:1", "HOME": "/nonexistent"},
                          capture_output=True, text=True, check=True)
    return said.stdout.split()[-1]


def registry_side():
    """The recorded requests of one pull, as the registry saw them."""
    replay.REPLAYED.add(REGISTRY_SIDE)
    text = (replay.TRANSCRIPTS / REGISTRY_SIDE).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def seen_by_registry(world, tmp_path_factory):
    """What the registry sees of the pull of a model that is not there."""
    server = start_ollama(tmp_path_factory.mktemp("puller"), VERSIONS[OLD])
    world.faults()
    world.publish("tiny:latest", next(iter(world.blobs.values())))
    world.requests()
    answer = send(server.url, "POST", "/api/pull", {}, {"model": world.values[REGISTRY] + "/library/tiny:latest", "insecure": True})
    server.stop()
    assert answer["lines"][-1] == {"status": "success"}
    return world.requests()


@pytest.mark.parametrize("number", [pytest.param(number, id="%s::%s-%d" % (REGISTRY_SIDE, line["id"], number))
                                    for number, line in enumerate(registry_side())])
def test_asks_the_registry_as_recorded(seen_by_registry, number):
    recorded = registry_side()
    assert len(seen_by_registry) == len(recorded)
    asks = real_version(OLD) if REAL else VERSIONS[OLD]
    assert request_words(seen_by_registry[number], asks) == request_words(recorded[number], VERSIONS[OLD])


def request_words(line, version):
    """A request without what is free: its moment, digests, ports, the build of Go, the sizes of layers, and the version (str) that asks."""
    headers = {name: re.sub(r"go1[.\d]+", "go", re.sub(r"bytes=0-\d+", "bytes=0-<last>", value)).replace("ollama/%s " % version, "ollama/<version> ")
               for name, value in line["headers"].items()}
    words = {key: value for key, value in {**line, "headers": headers}.items() if key not in ("id", "at")}
    return json.loads(PORT.sub(r"\1:<port>", DIGEST.sub("<digest>", json.dumps(words))))
