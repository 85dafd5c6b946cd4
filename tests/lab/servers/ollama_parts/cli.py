# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: what each command prints and where, without a terminal."""

from __future__ import annotations

import ctypes
import hashlib
import http.client
import json
import os
import pathlib
import sys
import time

from ollama_parts import go, names
from ollama_parts.settings import Failure, Settings, host, listen, prepare

PR_SET_NAME = 15  # prctl(2)

DEFAULT_VERSION = "0.32.15"
DOWN = "could not connect to ollama server, run 'ollama serve' to start it"


def version_of(program):
    """The version to play. program: path of the executable."""
    beside = program.with_name(program.name + ".version")
    text = os.environ.get("OLLAMA_LAB_VERSION") or (beside.read_text("ascii") if beside.is_file() else "")
    return text.strip().lstrip("v") or DEFAULT_VERSION


def main(words, program):
    """Run one command; returns the exit code."""
    commands = {"serve": serve, "start": serve, "list": show_list, "ls": show_list, "ps": show_loaded, "pull": pull, "rm": remove,
                "cp": copy, "show": show, "stop": stop, "create": create}
    try:
        if words[:1] in (["--version"], ["-v"]):
            return show_version(version_of(program))
        if not words or words[0] in ("help", "--help", "-h"):
            print("Usage:\n  ollama [command]\n\nAvailable Commands:\n  %s" % "\n  ".join(sorted(commands)))
            return 0
        if words[0] not in commands:
            raise Failure('Error: unknown command "%s" for "ollama"' % words[0])
        flags = [word for word in words[1:] if word.startswith("-")]
        arguments = [word for word in words[1:] if not word.startswith("-")]
        return commands[words[0]](arguments, flags, version_of(program))
    except Failure as failure:
        print(failure.text, file=sys.stderr)
        return failure.code


def serve(_arguments, _flags, version):
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"ollama")  # a process of this name is what is looked for below an Ollama
    settings = Settings()
    prepare(settings)
    listener = listen()
    from ollama_parts.server import run  # the other commands start without the web framework
    name, port = listener.getsockname()[:2]
    print('time=%s level=INFO msg="Listening on %s (version %s)"' % (
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "[%s]:%d" % (name, port) if ":" in name else "%s:%d" % (name, port),
        version), file=sys.stderr, flush=True)
    return run(settings, version, listener)


def show_version(version):
    try:
        status, answer = ask("GET", "/api/version")
        running = answer.get("version") if status == 200 else None
    except OSError:
        running = None
    if running is None:
        print("Warning: could not connect to a running Ollama instance")
    else:
        print("ollama version is %s" % running)
    if running != version:
        print("Warning: client version is %s" % version)
    return 0


def connection():
    name, port = host()
    return http.client.HTTPConnection(name or "127.0.0.1", port, timeout=None)


def ask(method, path, body=None):
    """(status, decoded answer or {}) of one request; raises OSError."""
    server = connection()
    try:
        server.request(method, path, body=None if body is None else json.dumps(body), headers={"Content-Type": "application/json"})
        answer = server.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if text.startswith(("{", "[")) else {}
    finally:
        server.close()


def wanted(method, path, body=None):
    """The answer of a request that must succeed; raises Failure in the words of the real program."""
    try:
        status, answer = ask(method, path, body)
    except OSError as problem:
        raise Failure("Error: " + DOWN) from problem
    if status >= 400:
        raise Failure("Error: %s" % answer.get("error", status))
    return answer


def table(rows):
    """Left-aligned columns, four spaces between them, as the real program prints them."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("".join(cell.ljust(width + 4) for cell, width in zip(row, widths)).rstrip() + " ")


def show_list(arguments, flags, _version):
    refuse_flags(flags)
    rows = [("NAME", "ID", "SIZE", "MODIFIED")]
    for model in wanted("GET", "/api/tags")["models"]:
        if not arguments or model["name"].lower().startswith(arguments[0].lower()):
            rows.append((model["name"], model["digest"][:12], go.human_bytes(model["size"]), "Less than a second ago"))
    table(rows)
    return 0


def refuse_flags(flags, known=()):
    for flag in flags:
        if flag.split("=")[0] not in known:
            raise Failure("Error: unknown flag: %s" % flag)


def show_loaded(_arguments, flags, _version):
    refuse_flags(flags)
    rows = [("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL")]
    for model in wanted("GET", "/api/ps")["models"]:
        rows.append((model["name"], model["digest"][:12], go.human_bytes(model["size"]), "100% CPU", str(model["context_length"]),
                     "4 minutes from now"))
    table(rows)
    return 0


def one(arguments):
    if len(arguments) != 1:
        raise Failure("Error: accepts 1 arg(s), received %d" % len(arguments))
    return arguments[0]


def pull(arguments, flags, _version):
    refuse_flags(flags, ("--insecure",))
    body = {"model": one(arguments), "insecure": "--insecure" in flags}
    server, last = connection(), None
    try:
        server.request("POST", "/api/pull", body=json.dumps(body))
        answer = server.getresponse()
        if answer.status >= 400:
            raise Failure("Error: %d %s: %s" % (answer.status, answer.reason, json.loads(answer.read())["error"]))
        for raw in answer:
            line = json.loads(raw)
            if "error" in line:
                raise Failure("Error: %s" % line["error"])
            if line.get("digest") != (last or {}).get("digest") or "digest" not in line:
                print(line["status"], file=sys.stderr, flush=True)
            last = line
    except OSError as problem:
        raise Failure("Error: " + DOWN) from problem
    if (last or {}).get("status") != "success":
        raise Failure("Error: unexpected EOF")
    return 0


def create(arguments, flags, _version):
    """create NAME -f FILE, of a Modelfile that is one line: FROM and the path of a GGUF file."""
    refuse_flags(flags, ("-f",))
    if len(arguments) != 2:
        raise Failure("Error: accepts 1 arg(s), received %d" % max(0, len(arguments) - 1))
    name, path = arguments[0], pathlib.Path(arguments[1]).read_text("utf-8").partition("FROM ")[2].strip()
    with open(path, "rb") as content:
        summed = hashlib.sha256()
        for piece in iter(lambda: content.read(1 << 20), b""):
            summed.update(piece)
        digest = "sha256:" + summed.hexdigest()
        content.seek(0)
        server = connection()
        server.request("POST", "/api/blobs/" + digest, body=content, headers={"Content-Length": str(os.path.getsize(path))})
        answer = server.getresponse()
        if answer.status >= 400:
            raise Failure("Error: %s" % json.loads(answer.read())["error"])
    wanted("POST", "/api/create", {"model": name, "files": {os.path.basename(path): digest}, "stream": False})
    return 0


def remove(arguments, flags, _version):
    refuse_flags(flags)
    for name in arguments:
        wanted("DELETE", "/api/delete", {"model": name})
        print("deleted '%s'" % name)
    return 0


def copy(arguments, flags, _version):
    refuse_flags(flags)
    if len(arguments) != 2:
        raise Failure("Error: accepts 2 arg(s), received %d" % len(arguments))
    wanted("POST", "/api/copy", {"source": arguments[0], "destination": arguments[1]})
    print("copied '%s' to '%s'" % tuple(arguments))
    return 0


def stop(arguments, flags, _version):
    refuse_flags(flags)
    try:
        wanted("POST", "/api/generate", {"model": one(arguments), "keep_alive": 0})
    except Failure as failure:
        if "not found" in failure.text:
            raise Failure('Error: couldn\'t find model "%s" to stop' % arguments[0]) from failure
        raise
    return 0


def show(arguments, flags, _version):
    refuse_flags(flags, ("--parameters", "--system", "--template", "--license", "--modelfile"))
    name = names.parse(one(arguments))
    found = wanted("POST", "/api/show", {"model": name.full})
    if flags:
        print(found.get(flags[0][2:], ""))
        return 0
    info, details = found.get("model_info", {}), found["details"]
    architecture = info.get("general.architecture", "")
    rows = (("architecture", architecture), ("parameters", details["parameter_size"]),
            ("context length", info.get(architecture + ".context_length")),
            ("embedding length", info.get(architecture + ".embedding_length")), ("quantization", details["quantization_level"]))
    print("  Model\n%s\n\n  Capabilities\n%s\n" % (
        "\n".join("    %-20s%-9s" % row for row in rows if row[1] is not None),
        "\n".join("    %-14s" % capability for capability in found.get("capabilities", []))))
    return 0
