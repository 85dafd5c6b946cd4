#!/usr/bin/env python3
# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model registry that Ollama can pull from: serves a directory, and fails on demand.

    registry.py add ROOT [NAMESPACE/]MODEL[:TAG] FILE.gguf [--template T] [--system T] [--license T] [--params JSON]
    registry.py serve ROOT [--listen HOST:PORT]... [--tls HOST:PORT --cert FILE --key FILE]

ROOT/manifests/NAMESPACE/MODEL/TAG and ROOT/blobs/sha256-HEX; every host name is served the same. Names keep their case.
The lab's switches: PUT /_lab/faults takes a list of rules, the first that fits a request is applied:

    {"path": glob, "host": glob, "agent": glob, "method": "GET", "ranged": true, "times": 3,   which requests (all optional), how often
     "status": 429, "body": "slow down", "headers": {"Retry-After": "5"},   answer this instead; body may be HTML or JSON
     "delay": 2, "rate": 1000000, "stall_after": 4096, "cut_after": 4096,   seconds; bytes a second; bytes, then silence or the end
     "drop": "close" (or "reset": the connection ends without an answer),
     "wrong_bytes": true, "size": 5, "no_location": true, "location": "?", "no_range": true}

GET /_lab/requests lists what was asked so far and when, DELETE /_lab/requests forgets it; GET /_lab/sending lists the blobs that are
being sent now. Needs Python >= 3.9 and aiohttp >= 3.8.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import hashlib
import json
import pathlib
import re
import shutil
import socket
import ssl
import struct
import sys
import time

from aiohttp import web

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
IMAGE = "application/vnd.ollama.image."
PATH = re.compile(r"/v2/(?P<name>[^/]+/[^/]+)/(?P<kind>manifests|blobs)/(?P<what>[^/]+)")
CHUNK = 1 << 16


class Registry:
    """Serves one directory. Faults and the list of requests live in memory: they belong to one test."""

    def __init__(self, root):
        self.root, self.faults, self.seen, self.sending = pathlib.Path(root), [], [], []

    async def handle(self, request):
        if request.path.startswith("/_lab/"):
            return await self.switch(request)
        rule, begin = self._rule(request), time.time()
        await asyncio.sleep(rule.get("delay", 0))
        if "drop" in rule:
            _drop(request.transport, rule["drop"])
        response = await self._answer(request, rule)
        self.seen.append({"method": request.method, "path": request.path, "headers": dict(request.headers), "answered": response.status,
                          "at": begin})
        return response

    async def switch(self, request):
        if request.path == "/_lab/requests":
            found, self.seen = self.seen, [] if request.method == "DELETE" else self.seen
            return web.json_response(found)
        if request.path == "/_lab/sending":
            return web.json_response(self.sending)
        if request.path == "/_lab/faults":
            if request.method == "PUT":
                self.faults = await request.json()
            return web.json_response(self.faults)
        return web.Response(status=404)

    def _rule(self, request):
        for rule in self.faults:
            said = ((request.path, "path"), (request.host, "host"), (request.headers.get("User-Agent", ""), "agent"))
            if all(fnmatch.fnmatchcase(text, rule.get(key, "*")) for text, key in said) \
                    and rule.get("ranged", "Range" in request.headers) == ("Range" in request.headers) \
                    and rule.get("method", request.method) == request.method and rule.get("times", 1) > 0:
                if "times" in rule:
                    rule["times"] -= 1
                return rule
        return {}

    async def _answer(self, request, rule):
        if "status" in rule:
            body = rule.get("body", "")
            text = body if isinstance(body, str) else json.dumps(body)
            kind = "application/json" if not isinstance(body, str) else "text/html" if "<" in text else "text/plain"
            return web.Response(status=rule["status"], text=text, headers={"Content-Type": kind, **rule.get("headers", {})})
        match = PATH.fullmatch(request.path)
        file = self._file(match) if match else None
        if file is None or not file.is_file():
            return web.Response(status=404, text="404 page not found", content_type="text/plain")
        if match["kind"] == "manifests":
            return web.Response(body=file.read_bytes(), headers={"Content-Type": MANIFEST})
        return await self._blob(request, file, rule)

    def _file(self, match):
        if match["kind"] == "manifests":
            return self.root / "manifests" / match["name"] / match["what"]
        return self.root / "blobs" / match["what"].replace(":", "-")

    async def _blob(self, request, file, rule):
        size = rule.get("size", file.stat().st_size)
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if not rule.get("no_location"):
            headers["Location"] = rule.get("location", request.path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        first, last = 0, size - 1
        if asked and not rule.get("no_range"):
            first, last = int(asked[1]), min(int(asked[2] or last), last)
            headers["Content-Range"] = "bytes %d-%d/%d" % (first, last, size)
        response = web.StreamResponse(status=206 if "Content-Range" in headers else 200,
                                      headers={**headers, "Content-Length": str(last - first + 1)})
        await response.prepare(request)
        if request.method == "GET":
            self.sending.append(request.path)
            try:
                await self._send(request, response, file, first, last + 1, rule)
            except ConnectionError:
                pass  # Ollama closes the answer that told it the address
            finally:
                self.sending.remove(request.path)
        return response

    async def _send(self, request, response, file, first, end, rule):
        sent = 0
        with open(file, "rb") as blob:
            blob.seek(first)
            while first + sent < end:
                if sent >= rule.get("cut_after", end):
                    request.transport.close()
                    return
                if sent >= rule.get("stall_after", end):
                    while request.transport and not request.transport.is_closing():  # who has gone is sent nothing any more
                        await asyncio.sleep(0.1)
                    return
                ends = [end - first] + [rule[key] for key in ("cut_after", "stall_after") if key in rule]
                chunk = blob.read(min(CHUNK, min(ends) - sent, rule.get("rate", CHUNK)))
                if not chunk:
                    return
                await response.write(bytes(len(chunk)) if rule.get("wrong_bytes") else chunk)
                sent += len(chunk)
                if "rate" in rule:
                    await asyncio.sleep(len(chunk) / rule["rate"])


def _drop(transport, how):
    """End a connection without an answer: politely, or with a reset as a firewall or a crash does it."""
    if how == "reset":
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def add(root, name, file, layers, config=None):
    """Put a model into the directory. name: [NAMESPACE/]MODEL[:TAG]. file: path of the weights.

    layers: kind (template, system, license, params) -> text. config: changes to the config object. Returns the manifest's
    digest (str, 64 hex digits), which Ollama shows as the model's digest.
    """
    model, _colon, tag = name.partition(":")
    blobs = pathlib.Path(root) / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    entries = [_entry(blobs, IMAGE + "model", pathlib.Path(file))]
    entries += [_entry(blobs, IMAGE + kind, text.encode()) for kind, text in layers.items() if text]
    described = {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"], "model_type": "123K",
                 "file_type": "F16", "architecture": "amd64", "os": "linux", **(config or {})}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": _entry(blobs, CONFIG, json.dumps(described).encode()),
                "layers": entries}
    target = pathlib.Path(root) / "manifests" / (model if "/" in model else "library/" + model) / (tag or "latest")
    target.parent.mkdir(parents=True, exist_ok=True)
    raw = json.dumps(manifest).encode()
    target.write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()


def _entry(blobs, media_type, content):
    if isinstance(content, pathlib.Path):
        with open(content, "rb") as file:
            total = hashlib.sha256()
            for chunk in iter(lambda: file.read(1 << 20), b""):
                total.update(chunk)
        target, size = blobs / ("sha256-" + total.hexdigest()), content.stat().st_size
        if not target.exists():
            shutil.copyfile(content, target)
    else:
        total, size = hashlib.sha256(content), len(content)
        target = blobs / ("sha256-" + total.hexdigest())
        target.write_bytes(content)
    return {"mediaType": media_type, "digest": "sha256:" + total.hexdigest(), "size": size}


def describe(file):
    """The config object's facts about a GGUF file, as `ollama create` would write them; {} where it is none."""
    from ollama_parts import gguf, go  # the server alone needs no GGUF reader
    try:
        weights = gguf.read(str(file))
    except gguf.NoGGUF:
        return {}
    return {"model_family": weights.architecture, "model_families": [weights.architecture],
            "model_type": go.human_number(weights.count), "file_type": weights.file_type}


async def serve(root, listen, tls, cert, key):
    """Serve until the process is ended."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", Registry(root).handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for address in listen:
        host, _colon, port = address.rpartition(":")
        await web.TCPSite(runner, host, int(port)).start()
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        host, _colon, port = tls.rpartition(":")
        await web.TCPSite(runner, host, int(port), ssl_context=context).start()
    await asyncio.Event().wait()


def main():
    parser = argparse.ArgumentParser(description="A model registry for the lab")
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add")
    for word in ("root", "name", "file"):
        adding.add_argument(word)
    for kind in ("template", "system", "license", "params"):
        adding.add_argument("--" + kind, default="")
    serving = commands.add_parser("serve")
    serving.add_argument("root")
    serving.add_argument("--listen", action="append", default=[])
    for word in ("tls", "cert", "key"):
        serving.add_argument("--" + word)
    asked = parser.parse_args()
    if asked.command == "add":
        layers = {kind: getattr(asked, kind) for kind in ("template", "system", "license", "params")}
        print(add(asked.root, asked.name, asked.file, layers, describe(asked.file)))
        return
    asyncio.run(serve(asked.root, asked.listen or ["0.0.0.0:5000"], asked.tls, asked.cert, asked.key))


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    try:
        main()
    except KeyboardInterrupt:
        pass
