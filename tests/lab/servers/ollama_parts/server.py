# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ollama serve: the HTTP API on aiohttp."""

from __future__ import annotations

import asyncio
import collections
import ipaddress
import json
import os
import re
import signal
import socket
import sys

from aiohttp import web

from ollama_parts import create, describe, go, names
from ollama_parts.chat import Chat
from ollama_parts.inference import Loaded
from ollama_parts.pull import PullError, Puller
from ollama_parts.reply import BARE_JSON, JSON, NDJSON, as_json, as_text, bare, empty, stream
from ollama_parts.store import Missing, Store

STRINGS = {"model": "string", "name": "string"}
LISTENS_EVERY = 0.2  # seconds between two looks whether a client is still there
LOCAL_NAMES = ("localhost", "local", "internal")
BUILT_IN_ORIGINS = r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0)(:\d+)?|(app|file|tauri|vscode-webview|vscode-file)://.*"


class Server:
    """settings: settings.Settings. version: str, such as 0.32.15. loopback: does it listen on this machine only?"""

    def __init__(self, settings, version, loopback):
        self.settings, self.version, self.loopback = settings, version, loopback
        self.modern = tuple(int(part) for part in re.findall(r"\d+", version)[:2]) >= (0, 34)  # in creating 0.34.1 and later
        self.store = Store(settings.models)
        self.loaded = Loaded(settings.keep_alive, settings.context_length)
        self.faults, self.asked = {}, collections.deque(maxlen=1000)
        self.puller = Puller(self.store, version, settings.no_prune, self.faults)
        chat = Chat(self)
        self.routes = {
            "/": {"GET": self.root, "HEAD": self.root},
            "/api/version": {"GET": self.get_version, "HEAD": self.get_version},
            "/api/status": {"GET": self.status},
            "/api/tags": {"GET": self.tags, "HEAD": self.tags},
            "/api/ps": {"GET": self.ps},
            "/api/show": {"POST": self.show},
            "/api/pull": {"POST": self.pull},
            "/api/create": {"POST": self.create},
            "/api/copy": {"POST": self.copy},
            "/api/delete": {"DELETE": self.delete},
            "/api/blobs/*": {"HEAD": self.head_blob, "POST": self.post_blob},
            "/api/generate": {"POST": chat.generate},
            "/api/chat": {"POST": chat.chat},
            "/api/embed": {"POST": chat.embed},
            "/api/embeddings": {"POST": chat.embeddings},
            "/api/me": {"POST": self.me},
            "/v1/models": {"GET": self.v1_models},
            "/v1/models/*": {"GET": self.v1_model},
            "/v1/chat/completions": {"POST": chat.v1_chat},
            "/v1/completions": {"POST": chat.v1_completions},
            "/v1/embeddings": {"POST": chat.v1_embeddings},
            "/_lab/faults": {"GET": self.get_faults, "PUT": self.put_faults},
            "/_lab/requests": {"GET": self.get_requests, "DELETE": self.forget_requests},
        }

    async def handle(self, request):
        """Every request: origin, host, path, method, then its handler."""
        if not request.path.startswith("/_lab/"):
            self.asked.append("%s %s" % (request.method, request.path))
        headers = {}
        origin = request.headers.get("Origin")
        if origin:
            if not self._origin_allowed(origin):
                return empty(request, 403)
            headers["Access-Control-Allow-Origin"] = "*" if "*" in self.settings.origins else origin
            request["headers"] = headers
            if request.method == "OPTIONS":
                return empty(request, 204)
        request["headers"] = headers
        if self.loopback and not _host_allowed(request.headers.get("Host", "")):
            return empty(request, 403)
        path, last = request.path, ""
        if path not in self.routes:
            path, _slash, last = request.path.rpartition("/")
            path += "/*"
        methods = self.routes.get(path)
        if methods is None or (path.endswith("/*") and not last):
            return as_text(request, "404 page not found", 404, "text/plain")
        if request.method not in methods:
            return as_text(request, "405 method not allowed", 405, "text/plain")
        request["last"] = last
        openai = path.startswith("/v1/")
        try:
            return await methods[request.method](request)
        except go.Refusal as refusal:
            return openai_error(request, refusal) if openai else as_json(request, {"error": refusal.text}, refusal.status)

    def _origin_allowed(self, origin):
        own = [re.escape(allowed).replace(r"\*", ".*") for allowed in self.settings.origins]
        return any(re.fullmatch(pattern, origin) for pattern in own + [BUILT_IN_ORIGINS])

    async def root(self, request):
        return as_text(request, "Ollama is running")

    async def get_version(self, request):
        return as_json(request, {"version": self.version})

    async def status(self, request):
        disabled = self.settings.no_cloud
        return as_json(request, {"cloud": {"disabled": disabled, "source": "env" if disabled else "none"}})

    async def tags(self, request):
        return as_json(request, {"models": [describe.tag(model) for model in self.store.models()]})

    async def ps(self, request):
        return as_json(request, self.loaded.list())

    async def me(self, request):
        raise go.Refusal(503, "account unavailable")

    async def show(self, request):
        asked = go.bind(await request.read(), "ShowRequest", STRINGS)
        text = asked.get("model") or asked.get("name") or ""
        if not text:
            raise go.Refusal(400, "model is required")
        model = self.find(text, "model '{short}' not found", bad="invalid model name")
        return as_json(request, describe.show(model, asked.get("verbose"), self.modern))

    def find(self, text, missing, bad=None):
        """The installed model a text means; raises Refusal(404, missing) with {text} or {short} filled in."""
        name, source = names.reference(text)
        if source == "cloud" and self.settings.no_cloud:
            raise go.Refusal(403, "ollama cloud is disabled: remote model is unavailable")
        if not name.valid and bad is not None:
            raise go.Refusal(400, bad)
        found = self.store.existing(name)
        try:
            if not name.valid:
                raise Missing(text)
            return self.store.read(found)
        except Missing as problem:
            raise go.Refusal(404, missing.format(text=text, short=found.short, quoted=go.quoted(text))) from problem
        except (ValueError, OSError) as problem:
            raise go.Refusal(500, str(problem)) from problem

    async def pull(self, request):
        asked = go.bind(await request.read(), "PullRequest", {**STRINGS, "insecure": "bool", "stream": "bool"})
        text = (asked.get("model") or asked.get("name") or "").strip()
        name = names.parse(text[:-len(":local")] if text.endswith(":local") else text)
        if not name.valid:
            raise go.Refusal(400, "invalid model name")
        if not self.modern:
            name = self.store.existing(name)
        elif self.store.path(self.store.existing(name)).exists():
            name = self.store.existing(name)
        return await self.lines(request, asked, self.puller.pull(name, asked.get("insecure") or False))

    async def create(self, request):
        fields = {**STRINGS, "from": "string", "files": "map[string]string", "adapters": "map[string]string", "quantize": "string",
                  "template": "string", "system": "string",
                  "parameters": "map[string]interface {}", "messages": "[]api.Message", "stream": "bool"}
        asked = go.bind(await request.read(), "CreateRequest", fields)
        name = self.store.existing(create.check(asked, self.modern))
        can_quantize = not self.faults.get("no_llama_server")
        return await self.lines(request, asked, create.create(self.store, self.puller, asked, name, self.modern, can_quantize))

    async def lines(self, request, asked, lines):
        """Answer with the lines as they come, or with the last one alone where "stream" is false."""
        if asked.get("stream") is False:
            return await self._last_line(request, lines)
        response = None
        async for line in _while_heard(request, _with_error(lines)):
            code = line.pop("code", 200)
            if response is None:
                if "error" in line:
                    return as_json(request, line, code, BARE_JSON)
                response = await stream(request, NDJSON)
            try:
                if _gone(request):
                    raise ConnectionError  # as aiohttp's own answers since 3.10; older ones write to nobody
                await response.write(json.dumps(line).encode() + b"\n")
            except ConnectionError:
                await lines.aclose()
                break
        return response

    @staticmethod
    async def _last_line(request, lines):
        last = {}
        async for line in _with_error(lines):
            last = line
            if _gone(request):
                await lines.aclose()
                break
        status = last.pop("code", 200)
        return as_json(request, {key: last[key] for key in ("status", "error") if key in last}, status, BARE_JSON)

    async def copy(self, request):
        asked = go.bind(await request.read(), "CopyRequest", {"source": "string", "destination": "string"})
        found = []
        for key in ("source", "destination"):
            name = names.parse(asked.get(key) or "")
            if not name.valid:
                raise go.Refusal(400, "%s %s is invalid" % (key, go.quoted(asked.get(key) or "")))
            found.append(self.store.existing(name))
        path = self.store.path(found[0])
        if not path.is_file():
            raise go.Refusal(404, "model %s not found" % go.quoted(asked["source"]))
        if found[0] != found[1]:
            self.store.write_manifest(found[1], path.read_bytes())
        return empty(request, 200)

    async def delete(self, request):
        asked = go.bind(await request.read(), "DeleteRequest", STRINGS)
        text = asked.get("model") or asked.get("name") or ""
        if not text:
            raise go.Refusal(400, "model is required")
        name, _source = names.reference(text)
        if not name.valid:
            raise go.Refusal(400, "name %s is invalid" % go.quoted(text))
        try:
            self.store.delete(self.store.existing(name))
        except Missing as problem:
            raise go.Refusal(404, "model '%s' not found" % text) from problem
        except OSError as problem:
            raise go.Refusal(500, go.os_error(problem, "remove")) from problem
        return empty(request, 200)

    async def head_blob(self, request):
        if not self.store.blob(request["last"]).exists():
            raise go.Refusal(404, "blob %s not found" % go.quoted(request["last"]))
        return empty(request, 200)

    async def post_blob(self, request):
        path = self.store.blob(request["last"])
        if path.exists():
            return empty(request, 200)
        try:
            digest = await self.store.receive(self._pieces(request), self.faults.get("disk_full"))
        except ConnectionError:
            raise  # the client has gone
        except OSError as problem:
            raise go.Refusal(500, go.os_error(problem, "write")) from problem
        if digest != request["last"]:
            raise go.Refusal(400, "digest mismatch, expected %s, got %s" % (go.quoted(request["last"]), go.quoted(digest)))
        return empty(request, 201)

    async def _pieces(self, request):
        """The body as it comes; with the switch cut_upload the connection breaks, once, when that many bytes have come."""
        come = 0
        async for piece in request.content.iter_chunked(1 << 20):
            come += len(piece)
            if come > self.faults.get("cut_upload", come):
                del self.faults["cut_upload"]
                request.transport.abort()
                raise ConnectionResetError
            yield piece

    async def v1_models(self, request):
        found = [{"id": model.name.short, "object": "model", "created": int(model.modified), "owned_by": model.name.namespace}
                 for model in self.store.models()]
        return as_json(request, {"object": "list", "data": found or None}, content_type=BARE_JSON)

    async def v1_model(self, request):
        model = self.find(request["last"], "model '{short}' not found", bad="invalid model name")
        return as_json(request, {"id": request["last"], "object": "model", "created": int(model.modified),
                                 "owned_by": model.name.namespace}, content_type=BARE_JSON)

    async def get_faults(self, request):
        return as_json(request, self.faults)

    async def put_faults(self, request):
        """Switches of the lab: no_llama_server (the native programs are missing), disk_full (bytes a blob may have), no_dns,
        cut_upload (bytes after which the next upload breaks), load_error (what is said in place of loading a model)."""
        self.faults.clear()
        self.faults.update(await request.json())
        return as_json(request, self.faults)

    async def get_requests(self, request):
        """What was asked of this server, such as "GET /api/tags", the last of it last."""
        return as_json(request, list(self.asked))

    async def forget_requests(self, request):
        self.asked.clear()
        return empty(request, 200)


def _gone(request):
    """Whether the client has closed its connection."""
    return request.transport is None or request.transport.is_closing()


async def _while_heard(request, lines):
    """The lines, for as long as the client is there; when it has gone what makes them is cancelled, even between two lines."""
    coming = lines.__aiter__()
    while True:
        line = asyncio.ensure_future(coming.__anext__())
        while not line.done():
            await asyncio.wait([line], timeout=LISTENS_EVERY)
            if not line.done() and _gone(request):
                line.cancel()
                await asyncio.wait([line])
        if line.cancelled():
            return
        try:
            yield line.result()
        except StopAsyncIteration:
            return


async def _with_error(lines):
    """The lines, and a last one {"error", "code"} where they end in an error."""
    try:
        async for line in lines:
            yield line
    except PullError as problem:
        yield {"error": str(problem), "code": 500}
    except go.Refusal as refusal:
        yield {"error": refusal.text, "code": refusal.status}


def openai_error(request, refusal):
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(refusal.status, "api_error")
    early = refusal.text.startswith(("invalid character", "[] is too short", "unexpected EOF"))
    return as_json(request, {"error": {"message": refusal.text, "type": kind, "param": None, "code": None}}, refusal.status,
                   JSON if early else BARE_JSON)


def _host_allowed(header):
    """Is this a Host that a server for this machine only answers to?"""
    host = re.sub(r":\d+$", "", header).strip("[]").lower()
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_private or address.is_unspecified
    except ValueError:
        return host in ("", socket.gethostname().lower(), *LOCAL_NAMES[:1]) or host.endswith(tuple("." + name for name in LOCAL_NAMES))


def run(settings, version, listener):
    """Serve on an open socket until a signal ends the process; what is under way is cut, as in the real server."""
    asyncio.run(_run(settings, version, listener))


async def _run(settings, version, listener):
    address = ipaddress.ip_address(listener.getsockname()[0])
    server = Server(settings, version, address.is_loopback)
    if not settings.no_prune:
        said = server.store.prune()
        if said:
            print('level=WARN msg="%s"' % said, file=sys.stderr, flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, os._exit, 0)
    app = web.Application(client_max_size=1 << 40)
    app.router.add_route("*", "/{path:.*}", server.handle)
    app.on_response_prepare.append(bare)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    await asyncio.Event().wait()
