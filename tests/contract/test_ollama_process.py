# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ollama as a process and on the command line: failures of its start, its end, and what each command prints."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from ansible_collections.localmodels.fastgpt.tests.contract import replay
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_story import nameless
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_world import LAYERS, SERVERS, World
from ansible_collections.localmodels.fastgpt.tests.contract.test_ollama import REAL, start_ollama
from ansible_collections.localmodels.fastgpt.tests.contract.wire import free_port, send

OLLAMA = [REAL] if REAL else [sys.executable, str(SERVERS / "ollama.py")]
# What the collection's roles, tests and bench use; the others print progress with escape sequences or make models.
COMMANDS = ("--version", "list", "ls", "ps", "cp", "rm", "pull", "show nosuch", "nosuchcommand")
ESCAPES = re.compile(r"(\^\[|\x1b)\[[?0-9;]*[a-zA-Z]")


def run(words, **env):
    """(exit code, standard output, standard error) of one command."""
    surroundings = {"PATH": os.environ["PATH"], **{name: value for name, value in env.items() if value is not None}}
    done = subprocess.run(OLLAMA + words, env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def taken():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_port_taken(taken, tmp_path):
    code, _out, err = run(["serve"], HOME=str(tmp_path), OLLAMA_HOST="127.0.0.1:%d" % taken)
    assert code == 1
    assert err.splitlines()[-1] == "Error: listen tcp 127.0.0.1:%d: bind: address already in use" % taken


def test_address_of_another_machine(tmp_path):
    code, _out, err = run(["serve"], HOME=str(tmp_path), OLLAMA_HOST="192.0.2.1:11434")
    assert code == 1
    assert err.splitlines()[-1] == "Error: listen tcp 192.0.2.1:11434: bind: cannot assign requested address"


def test_models_in_the_way_of_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    code, _out, err = run(["serve"], HOME=str(tmp_path), OLLAMA_MODELS=str(tmp_path / "file/models"), OLLAMA_HOST="127.0.0.1:%d" % free_port())
    assert code == 1
    assert err.splitlines()[-1] == "Error: mkdir %s: not a directory: ensure path elements are traversable" % (tmp_path / "file")


def test_without_home(tmp_path):
    code, _out, err = run(["serve"], OLLAMA_MODELS=str(tmp_path), OLLAMA_HOST="127.0.0.1:%d" % free_port())
    assert (code, err.splitlines()[-1]) == (1, "Error: $HOME is not defined")


def test_without_home_and_models():
    code, _out, err = run(["serve"], OLLAMA_HOST="127.0.0.1:%d" % free_port())
    assert code == 2
    assert "$HOME is not defined" in err


def test_bad_origin(tmp_path):
    code, _out, err = run(["serve"], HOME=str(tmp_path), OLLAMA_ORIGINS="app.example", OLLAMA_HOST="127.0.0.1:%d" % free_port())
    assert code == 2
    assert "origins must contain '*' or include" in err


@pytest.mark.parametrize("how, code", [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, -signal.SIGHUP)])
def test_ends_at_a_signal(tmp_path, how, code):
    signal.signal(how, signal.default_int_handler if how == signal.SIGINT else signal.SIG_DFL)  # a child inherits what nohup ignores
    server = start_ollama(tmp_path, "0.32.15")
    process = server._process
    server.stop(how)
    assert process.returncode == code


def test_key_and_store_are_made_at_first_start(tmp_path):
    server = start_ollama(tmp_path, "0.32.15")
    server.stop()
    assert oct((tmp_path / ".ollama/id_ed25519").stat().st_mode & 0o777) == "0o600"
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["blobs", "manifests"]


@pytest.mark.skipif(bool(REAL), reason="concerns the stand-in's own file")
def test_bundle_is_one_executable_that_plays_the_version_beside_it(tmp_path):
    subprocess.run(OLLAMA + ["--bundle", str(tmp_path / "ollama")], check=True)
    (tmp_path / "ollama.version").write_text("0.34.4\n")
    done = subprocess.run([sys.executable, str(tmp_path / "ollama"), "--version"], env={"OLLAMA_HOST": "127.0.0.1:1"},
                          capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "Warning: client version is 0.34.4"
    assert os.access(tmp_path / "ollama", os.X_OK)


def recorded_commands():
    """(command, stdout, stderr, exit code) of each recorded command that starts like one of COMMANDS."""
    text = (replay.TRANSCRIPTS / "ollama-cli-0.32.txt").read_text(encoding="utf-8")
    form = re.compile(r"^\$ ([^\n]*)\n--- stdout\n(.*?)--- stderr\n(.*?)--- exit (\d+)$", re.MULTILINE | re.DOTALL)
    found = []
    for match in form.finditer(text):
        command = match[1].split("   #")[0]
        if re.sub(r"^(OLLAMA_HOST=\S+ )?ollama ", "", command).startswith(COMMANDS) and "/lab/" not in command:
            found.append(pytest.param(command, match[2], match[3], int(match[4]), id="%d-%s" % (len(found), command)))
    return found


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """run(command) beside a server that has the models of the recording, before the command is run."""
    world = World(tmp_path_factory.mktemp("world")).start()
    server = start_ollama(tmp_path_factory.mktemp("cli"), "0.32.15")
    weights = next(iter(world.blobs.values()))
    world.publish("tiny:latest", weights, LAYERS)
    send(server.url, "POST", "/api/pull", {}, {"model": world.values["127.0.0.1:5001"] + "/library/tiny", "insecure": True})
    source = world.values["127.0.0.1:5001"] + "/library/tiny"

    def command(text, words, loaded):
        for name in ("tiny",) + (("tiny-b", "tiny-c") if " rm tiny-b tiny-c" in text else ("tiny-e",) if "tiny-e" in text else ()):
            send(server.url, "POST", "/api/copy", {}, {"source": source, "destination": name})
        send(server.url, "POST", "/api/generate", {}, {"model": "tiny", "keep_alive": 299 if loaded else 0})
        send(server.url, "DELETE", "/api/delete", {}, {"model": source}) if " list" in text or " ls" in text else None
        return run(words, HOME=server.state, OLLAMA_HOST="127.0.0.1:1" if "OLLAMA_HOST" in text else "127.0.0.1:%d" % server.port)

    command.values = world.values
    yield command
    server.stop()
    world.stop()


@pytest.mark.parametrize("text, out, err, code", recorded_commands())
def test_command_prints_as_recorded(shell, text, out, err, code):
    words = [word.strip("'") for word in re.sub(r"^(OLLAMA_HOST=\S+ )?ollama ", "", text).split()]
    for recorded, here in shell.values.items():
        words = [word.replace(recorded, here) for word in words]
    if "pull nosuch" in text and not nameless():
        pytest.skip("here the default registry can be found")
    got_code, got_out, got_err = shell(text, words, "minutes from now" in out)
    assert got_code == code, got_err
    assert columns(got_out) == columns(out)
    assert errors(got_err, shell.values) == errors(err, shell.values)


def columns(text):
    """Lines without what moves: digests, times, sizes, the spaces at their ends and between columns."""
    moves = ((r"\b[0-9a-f]{12}\b", "<digest>"), (r"(Less than a|\d+) seconds? ago", "now"), (r"[\d.]+ [KM]B", "<size>"),
             (r" {2,}|\s+$", "  "))
    for pattern, word in moves:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return [line.strip() for line in text.splitlines()]


def errors(text, values):
    """What a command complains of; progress is left out, and the address of the name server."""
    text = re.sub(r" on \S+:53: ", ": ", text)
    for recorded, here in values.items():
        text = text.replace(here, recorded)
    found = [ESCAPES.sub("", line) for line in text.splitlines() if "Error: " in line]
    return [line[line.index("Error: "):].replace("http: server gave HTTP response to HTTPS client",
                                                 "tls: first record does not look like a TLS handshake") for line in found]
