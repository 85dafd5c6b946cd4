#!/usr/bin/env python3
# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for FastGPT 4.11 and 4.16: login, model administration, the AI Proxy bridge, apps, and chats that really ask a model.

Environment, as the real server reads it: PORT (3000), HOSTNAME (0.0.0.0), DEFAULT_ROOT_PSW, AIPROXY_API_ENDPOINT,
AIPROXY_API_TOKEN, OPENAI_BASE_URL, CHAT_API_KEY. Of its own:
    FASTGPT_LAB_VERSION   4.16.0 | 4.11.1: what is older than 4.14.11 answers like 4.11
    FASTGPT_LAB_RELOAD    seconds a write of models takes (1), as the real server waits for its reload
    FASTGPT_LAB_FAULT     crash: end at once with an error; slow:N: listen only after N seconds
    LAB_STATE             directory of fastgpt.json, the whole state (default: the working directory)
PUT /_lab/faults, /_lab/clock and /_lab/user are switches for tests. fastgpt_data.json beside this file holds the presets and
settings a fresh server has. tests/contract/test_fastgpt.py holds all of it to what real servers answered.
"""

import asyncio
import hashlib
import json
import os
import pathlib
import re
import secrets
import string
import sys
import time
import uuid

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, web
from yarl import URL

DATA = json.loads((pathlib.Path(__file__).resolve().parent / "fastgpt_data.json").read_text("utf-8"))
LOGINS, WINDOW, SESSIONS, CODE_SECONDS, DIMENSIONS = 10, 120, 10, 60, 1536
LANGUAGES = ("en", "zh-CN", "zh-Hant")
STRIPPED = ("avatar", "isCustom")
OLD_FLAGS = ("datasetProcess", "usedInClassify", "usedInExtractFields", "usedInToolCall", "useInEvaluation")
PRICES = ("charsPointsPrice", "inputPrice", "outputPrice")
SECRET_KEYS = ("defaultSystemChatPrompt", "fieldMap", "defaultConfig", "weight", "dbConfig", "queryConfig", "requestUrl", "requestAuth")
LIST_KEYS = {True: ("type", "provider", "model", "name") + PRICES + ("vision", "toolChoice"),
             False: ("type", "provider", "model", "name", "avatar", "testMode", "priceTiers") + PRICES
             + ("vision", "audio", "video", "reasoning", "toolChoice")}
DEFAULT_FLAGS = {"llm": ("isDefault", "llm"), "embedding": ("isDefault", "embedding"), "tts": ("isDefault", "tts"),
                 "stt": ("isDefault", "stt"), "rerank": ("isDefault", "rerank"), "datasetTextLLM": ("isDefaultDatasetTextModel", "llm"),
                 "datasetImageLLM": ("isDefaultDatasetImageModel", "llm"), "chatTitleLLM": ("isDefaultChatTitleModel", "llm")}
NO_CREDENTIALS = "Missing credentials. Please pass an `apiKey`, `workloadIdentity`, or set the `OPENAI_API_KEY` environment variable."
PAGE = '<!DOCTYPE html><html lang="en"><head><meta charSet="utf-8"/><title>%s</title></head><body><div id="__next"></div></body></html>'


def number(text):
    """JavaScript knows one kind of number: what comes as 1.0 is told as 1."""
    return int(float(text)) if float(text).is_integer() else float(text)


class Failure(Exception):
    """An error in FastGPT's envelope. user: 4.16 marks it errorType UserError. zod: what its validator found."""

    def __init__(self, message, code=500, name=None, user=False, zod=None):
        super().__init__(message)
        self.message, self.code, self.name, self.user, self.zod = message, code, name, user, zod


class ModelFailure(Exception):
    """What went wrong between FastGPT and a model: `message` is the other side's words, `full` has the status before them."""

    def __init__(self, message, full=None):
        super().__init__(message)
        self.message, self.full = masked(message), masked(full or message)


def forbidden():
    return Failure("common:code_error.error_message.403", 403, "unAuthorization")


def no_app():
    return Failure("common:code_error.app_error.not_exist", 502000, "appUnExist")


def wrong_type(path, value):
    received = "undefined" if value is None else "null" if value is Ellipsis else "number"
    found = {"expected": "string", "code": "invalid_type", "path": [path],
             "message": "Invalid input: expected string, received " + received}
    return Failure("Data validation error", 400, zod=[found])


def refuse_parts(key, nodes):
    """4.16 takes no step without what its page draws (tried on a running one); `key` is what the request calls the steps."""
    wanted = [([at, "inputs", number], item, name, kind) for at, node in enumerate(nodes) for number, item in enumerate(node.get("inputs") or [])
              for name, kind in (("label", "string"), ("renderTypeList", "array"))]
    wanted += [([at], node, "outputs", "array") for at, node in enumerate(nodes)]
    found = [{"expected": kind, "code": "invalid_type", "path": [key, *path, name],
              "message": "Invalid input: expected %s, received undefined" % kind} for path, part, name, kind in wanted if name not in part]
    if found:
        raise Failure("Data validation error", 400, zod=found)


def masked(text):
    """FastGPT hides addresses in what it says."""
    return re.sub(r"(https?://)\S+", r"\1xxx", text)


def nanoid(length):
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))


def object_id():
    return "%08x%s" % (int(time.time()), secrets.token_hex(8))


def stamp():
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def sha256(text):
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def parsed(text):
    """JSON.parse with the words of V8."""
    try:
        return json.loads(text)
    except ValueError as error:
        at = getattr(error, "pos", 0)
        for word in ("null", "true", "false"):
            same = os.path.commonprefix([text[at:], word])
            if same:
                at += len(same)
                break
        raise Failure("Unexpected token '%s', \"%s\" is not valid JSON" % (text[at:at + 1], text)) from None


def node_error(error):
    """(code, words) of Node.js for a connection that could not be made."""
    place = re.search(r"\('([^']+)', (\d+)", str(error.os_error))
    if place:
        return "ECONNREFUSED", "connect ECONNREFUSED %s:%s" % place.groups()
    if getattr(error.os_error, "errno", 0) == 111:
        return "ECONNREFUSED", "connect ECONNREFUSED %s:%s" % (error.host, error.port)
    return "ENOTFOUND", "getaddrinfo ENOTFOUND " + error.host


class FastGPT:
    """The server: stored state and the calls."""

    def __init__(self, environ, directory):
        self.version = environ.get("FASTGPT_LAB_VERSION") or "4.16.0"
        self.old = tuple(int(part) for part in re.findall(r"\d+", self.version)[:3]) < (4, 14, 11)
        self.facts = DATA["versions"]["4.11" if self.old else "4.16"]
        self.reload = float(environ.get("FASTGPT_LAB_RELOAD", "1"))
        self.endpoint, self.token = environ.get("AIPROXY_API_ENDPOINT") or "", environ.get("AIPROXY_API_TOKEN") or ""
        self.base, chat_key = environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1", environ.get("CHAT_API_KEY") or ""
        if self.old:
            self.key = self.token or chat_key
        else:
            self.endpoint = self.endpoint.rstrip("/")
            self.key = (self.token or chat_key if self.endpoint else chat_key) or None
        if self.endpoint:
            self.base = self.endpoint + "/v1"
        self.file = pathlib.Path(directory) / "fastgpt.json"
        self.state = {"ids": {name: object_id() for name in ("root", "team", "member")}, "sessions": [], "codes": {}, "logins": {},
                      "models": [], "apps": [], "versions": [], "keys": []}
        if self.file.exists():
            self.state.update(json.loads(self.file.read_text("utf-8")))
        password = environ.get("DEFAULT_ROOT_PSW") or "123456"
        self.passwords = {"root": sha256(sha256(password))}
        if self.old:
            print("root user init:", {"username": "root", "password": password}, flush=True)
        self.faults, self.skipped, self.http = [], 0, None

    def save(self):
        written = self.file.with_suffix(".new")
        written.write_text(json.dumps(self.state, ensure_ascii=False), "utf-8")
        written.chmod(0o600)
        os.replace(written, self.file)

    async def client(self, _app):
        self.http = ClientSession(trust_env=True, timeout=ClientTimeout(total=600))
        yield
        await self.http.close()

    def now(self):
        return time.time() + self.skipped

    # -- who asks ------------------------------------------------------------------------------------------------

    def session(self, request):
        """The session of the caller's login token, or None."""
        token = request.headers.get("token") or request.cookies.get("fastgpt_token")
        return next((session for session in self.state["sessions"] if token and session["token"] == token), None)

    def user(self, request):
        session = self.session(request)
        if session is None:
            raise forbidden()
        return session

    def root(self, request):
        if self.user(request)["username"] != "root":
            raise forbidden()

    def open_session(self, username):
        ids, sessions = self.state["ids"], self.state["sessions"]
        session = {"username": username, "token": "%s:%s" % (ids.setdefault(username, object_id()), nanoid(32))}
        sessions.append(session)
        own = [other for other in sessions if other["username"] == username]
        for oldest in own[:-SESSIONS]:
            sessions.remove(oldest)
        self.save()
        return session["token"]

    def profile(self, username):
        ids, known = self.state["ids"], json.loads(json.dumps(self.facts["user"]))
        known["team"].update(userId=ids[username], teamId=ids["team"], tmbId=ids["member"])
        return {"_id": ids[username], "username": username, **known}

    async def pre_login(self, request, _body):
        username = request.query.get("username")
        if not username and self.old:
            raise Failure("username is required")
        if not username:
            zod = wrong_type("username", None).zod
            raise Failure(json.dumps(zod, indent=2), zod=zod)
        code = nanoid(6)
        self.state["codes"][username] = {"code": code, "until": self.now() + CODE_SECONDS}
        self.save()
        return {"code": code}

    async def login(self, request, body):
        caller = request.headers.get("X-Forwarded-For", request.remote or "").partition(",")[0].strip()
        first, calls = self.state["logins"].get(caller, (0, 0))
        if self.now() - first >= WINDOW:
            first, calls = self.now(), 0
        if calls >= LOGINS:
            raise Failure("Too many request, request 10 times every 120 seconds", 429)
        self.state["logins"][caller] = (first, calls + 1)
        self.save()
        for name in ("username", "password", "code"):
            if not isinstance(body.get(name), str):
                raise Failure("common:error.invalid_params", 507000, "invalidParams") if self.old else wrong_type(name, body.get(name))
        username, known = body["username"], self.state["codes"].get(body["username"])
        if not known or known["code"].lower() != body["code"].lower() or known["until"] < self.now():
            raise Failure("common:error.code_error", user=True)
        del self.state["codes"][username]
        self.save()
        if self.passwords.get(username) != sha256(body["password"]):
            raise Failure("common:code_error.account_error", 503002, "account_psw_error")
        token = self.open_session(username)
        answer = self.ok({"user": self.profile(username), "token": token})
        answer.headers["Set-Cookie"] = "fastgpt_token=%s; Max-Age=604800; Path=/; HttpOnly; SameSite=Strict" % token
        return answer

    async def token_login(self, request, _body):
        return self.profile(self.user(request)["username"])

    async def log_out(self, request, _body):
        username = self.user(request)["username"]
        self.state["sessions"] = [session for session in self.state["sessions"] if session["username"] != username]
        self.save()
        return self.forget_cookie(self.ok(None))

    # -- models --------------------------------------------------------------------------------------------------

    def models(self):
        """Every model as the loader puts it together: presets with what is stored over them, then custom models."""
        stored = {row["model"]: row["metadata"] for row in self.state["models"]}
        found = []
        for preset in DATA["presets"]:
            metadata = stored.pop(preset["model"], None)
            model = {**preset, **(metadata or {}), "isCustom": False}
            if not self.old:
                model["avatar"] = "model/" + model["provider"].lower()
            found.append(self.loaded(model, metadata is not None))
        return found + [self.loaded({**row["metadata"], "model": row["model"], "isCustom": True}, True)
                        for row in self.state["models"] if row["model"] in stored]

    def loaded(self, model, stored):
        if model.get("type") != "llm":
            return model
        if self.old:
            return {**model, **{flag: model.get(flag, True) for flag in OLD_FLAGS}}
        if stored and not model.get("priceTiers"):
            price = model.get("charsPointsPrice") or 0
            model["priceTiers"] = [{"minInputTokens": 0, "inputPrice": model.get("inputPrice", price),
                                    "outputPrice": model.get("outputPrice", price)}]
        return model

    def model(self, name, words="Model not found"):
        for model in self.models():
            if model["model"] == name:
                return model
        raise Failure(words)

    def active(self, kind=None):
        return [model for model in self.models() if model.get("isActive") and kind in (None, model.get("type"))]

    def defaults(self):
        """What acts as default: the flagged model, else the first active one of the type."""
        found = {}
        for name, (flag, kind) in DEFAULT_FLAGS.items():
            choice = [model for model in self.active(kind) if name != "datasetImageLLM" or model.get("vision")]
            flagged = [model for model in choice if model.get(flag)]
            if flagged or choice and name != "chatTitleLLM":
                found[name] = (flagged or choice)[0]
        return found

    async def written(self):
        self.save()
        await asyncio.sleep(self.reload)
        return {}

    async def model_list(self, request, _body):
        self.root(request)
        found = []
        for model in self.models():
            shown = {key: model[key] for key in LIST_KEYS[self.old] if key in model}
            shown.update(isActive=model.get("isActive", False), isCustom=model["isCustom"])
            size = model.get("maxContext", model.get("maxToken"))
            found.append(shown if size is None else dict(shown, contextToken=size))
        return found

    async def model_detail(self, request, _body):
        self.root(request)
        return self.model(request.query.get("model"))

    async def model_preset(self, request, _body):
        self.root(request)
        name = request.query.get("model")
        preset = next((preset for preset in DATA["presets"] if preset["model"] == name), None)
        if preset is None:
            self.model(name, "Model is not found")
            raise Failure("Custom model not data")
        return dict(preset, isCustom=False)

    async def model_update(self, request, body):
        self.root(request)
        name = (body.get("model") or "").strip()
        if not name:
            raise Failure("model is required")
        row = next((row for row in self.state["models"] if row["model"] == name), None)
        live = next((model for model in self.models() if model["model"] == name), {})
        merged = {**live, **(row["metadata"] if row else {}), **(body.get("metadata") or {}), "model": name}
        if isinstance(merged.get("name"), str):
            merged["name"] = merged["name"].strip()
        dropped = STRIPPED if self.old else STRIPPED + OLD_FLAGS
        if not self.old and merged.get("type") == "llm" and merged.get("priceTiers"):
            dropped += PRICES
        metadata = {key: value for key, value in merged.items() if value is not None and key not in dropped}
        if row is None:
            self.state["models"].append({"model": name, "metadata": metadata})
        else:
            row["metadata"] = metadata
        return await self.written()

    async def model_update_json(self, request, body):
        self.root(request)
        if "config" not in body:
            raise Failure('"undefined" is not valid JSON')
        rows = parsed(body["config"])
        if not isinstance(rows, list):
            raise Failure("data is not iterable")
        for row in rows:
            if not row.get("model") or not row.get("metadata"):
                raise Failure("Invalid model or metadata")
            for key in ("type", "model", "provider"):
                if not row["metadata"].get(key):
                    raise Failure("%s metadata.%s is required" % (row["model"], key))
        self.state["models"] = [{"model": row["model"], "metadata": {**row["metadata"], "name": row["metadata"].get("name") or row["model"]}}
                                for row in rows]
        return await self.written()

    async def model_config_json(self, request, _body):
        self.root(request)
        return json.dumps(self.state["models"], indent=2, ensure_ascii=False)

    async def model_defaults(self, request, body):
        self.root(request)
        for name in DEFAULT_FLAGS:
            if not self.old and name in body and not isinstance(body[name], str):
                raise wrong_type(name, Ellipsis if body[name] is None else body[name])
        for row in self.state["models"]:
            for flag, _kind in DEFAULT_FLAGS.values():
                row["metadata"].pop(flag, None)
            for name, (flag, _kind) in DEFAULT_FLAGS.items():
                if body.get(name) == row["model"]:
                    row["metadata"][flag] = True
        return await self.written()

    async def model_delete(self, request, _body):
        self.root(request)
        name = request.query.get("model")
        if not self.model(name)["isCustom"]:
            raise Failure("System model cannot be deleted")
        self.state["models"] = [row for row in self.state["models"] if row["model"] != name]
        return await self.written()

    async def my_models(self, request, _body):
        self.user(request)
        return {"isRefreshed": True, "models": [model["model"] for model in self.models()], "versionKey": str(uuid.uuid4())}

    async def model_test(self, request, _body):
        self.root(request)
        model, channel = self.model(request.query.get("model")), request.query.get("channelId")
        try:
            if model.get("type") == "llm":
                said = await self.complete(model, [{"role": "user", "content": "hi"}], channel)
                if not said["text"] and not said["reasoning"]:
                    raise ModelFailure("Model response empty")
                return said["text"] or said["reasoning"]
            if model.get("type") == "embedding":
                return await self.embed(model, "hi", channel)
        except ModelFailure as failure:
            raise Failure(failure.message) from None
        raise Failure("Model type not supported")  # the real server also tests tts, stt and rerank models

    async def init_data(self, request, _body):
        settings = dict(self.facts["feConfigs"], show_aiproxy=bool(self.endpoint))
        found = {"bufferId": "", "feConfigs": settings}
        if self.session(request):
            shown = [{key: value for key, value in model.items() if key not in SECRET_KEYS} for model in self.active()]
            found = {"feConfigs": settings, "systemVersion": self.version, "activeModelList": shown, "defaultModels": self.defaults()}
        if not self.old:
            names = dict.fromkeys(preset["provider"] for preset in DATA["presets"])
            found["modelProviders"] = [{"provider": name, "value": dict.fromkeys(LANGUAGES, name), "avatar": "model/" + name.lower()}
                                       for name in [*names, "Ollama", "Other"]]
            found["aiproxyChannels"] = [{"channelId": 30, "name": dict.fromkeys(LANGUAGES, "Ollama"), "avatar": "model/ollama"}]
        return found

    # -- calls to a model, as the OpenAI SDK makes them ------------------------------------------------------------

    async def ask(self, model, path, body, channel):
        """POST to the model's URL with two retries; the answer, whose status is 200. Raises ModelFailure."""
        own_url = model.get("requestUrl") if not channel else None
        own_key = model.get("requestAuth") if not channel and (own_url or model["type"] == "llm") else None
        if self.key is None:
            raise ModelFailure(NO_CREDENTIALS)
        headers = {"Authorization": "Bearer " + (own_key or self.key)}
        if channel:
            headers["Aiproxy-Channel"] = channel
        for pause in (0.1, 0.2, None):  # the SDK waits 0.5 to 8 seconds
            try:
                answer = await self.http.post(URL(own_url or self.base + path, encoded=True), json=body, headers=headers)
            except (ClientError, OSError, ValueError, asyncio.TimeoutError):
                failure = ModelFailure("Connection error.")
            else:
                if answer.status == 200:
                    return answer
                failure = await self.refusal(answer)
                if answer.status not in (408, 409, 429) and answer.status < 500:
                    raise failure
            if pause is None:
                raise failure
            await asyncio.sleep(pause)

    @staticmethod
    async def refusal(answer):
        text = await answer.text(errors="replace")
        try:
            error = json.loads(text).get("error")
        except (ValueError, AttributeError):
            error = None
        words = error.get("message") if isinstance(error, dict) else error if isinstance(error, str) else None
        full = "%d %s" % (answer.status, words or text)
        return ModelFailure(words or full, full)

    async def complete(self, model, messages, channel=None, on_text=None):
        """One chat completion: {text, reasoning, finish, usage}. on_text: called with each piece as it comes."""
        body = {"model": model["model"], "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        body.update(model.get("defaultConfig") or {}, model=model["model"])  # that one key is written again before it is sent
        body = {(model.get("fieldMap") or {}).get(key, key): value for key, value in body.items()}
        answer = await self.ask(model, "/chat/completions", body, channel)
        said = {"text": "", "reasoning": "", "finish": "stop", "usage": {}}
        async for part in self.parts(answer):
            if part.get("error"):
                raise ModelFailure((part["error"] if isinstance(part["error"], dict) else {}).get("message") or str(part["error"]))
            said["usage"] = part.get("usage") or said["usage"]
            for choice in part.get("choices") or []:
                delta = choice.get("delta") or choice.get("message") or {}
                said["finish"] = choice.get("finish_reason") or said["finish"]
                said["reasoning"] += delta.get("reasoning_content") or delta.get("reasoning") or ""
                said["text"] += delta.get("content") or ""
                if on_text and delta.get("content"):
                    await on_text(delta["content"])
        return said

    @staticmethod
    async def parts(answer):
        """The chunks of a streamed completion; none where the other side did not stream, as the SDK finds none there."""
        async for line in answer.content:
            text = line.decode("utf-8", "replace").strip()
            if text.startswith("data: ") and text != "data: [DONE]":
                yield json.loads(text[len("data: "):])

    async def embed(self, model, text, channel=None):
        body = {"model": model["model"], "input": [text], "encoding_format": "float", **(model.get("defaultConfig") or {})}
        got = await (await self.ask(model, "/embeddings", body, channel)).json(content_type=None)
        vectors = [(row["embedding"] + [0] * DIMENSIONS)[:DIMENSIONS] for row in got["data"]]
        return {"tokens": len(text.split()), "vectors": vectors}

    # -- the bridge to AI Proxy --------------------------------------------------------------------------------------

    async def bridge(self, request, path):
        self.root(request)
        if not self.endpoint or not self.token:
            raise Failure("AIPROXY_API_ENDPOINT or AIPROXY_API_TOKEN is not set" if self.old else "AI Proxy endpoint or token is not set")
        query = "?" + request.query_string if request.query_string else ""
        address = URL(str(URL(self.endpoint).origin()) + "/" + path + query, encoded=True)  # host and port only, whatever follows
        headers = {name: value for name, value in request.headers.items()
                   if name.lower() not in ("cookie", "host", "origin", "connection", "content-length", "transfer-encoding", "token")}
        headers["Authorization"] = "Bearer " + self.token
        try:
            async with self.http.request(request.method, address, data=await request.read(), headers=headers) as answer:
                kept = {name: answer.headers[name] for name in ("Content-Type", "X-Request-Id") if name in answer.headers}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)
        except ClientConnectorError as error:
            if not self.old:
                raise Failure("fetch failed") from None
            code, words = node_error(error)
            refused = code == "ECONNREFUSED"
            host, _colon, port = words.rpartition(" ")[2].partition(":")
            return web.json_response({"errno": -111, "code": code, "syscall": "connect", "address": host, "port": int(port)} if refused
                                     else {"errno": -3008, "code": code, "syscall": "getaddrinfo", "hostname": error.host})

    async def create_channel(self, request, body):
        try:
            self.root(request)
        except Failure as failure:
            return web.json_response({"success": False, "message": failure.message, "data": failure.name})
        if not self.endpoint or not self.token:
            if self.old:
                return web.Response(status=500, text=PAGE % "500: Internal Server Error", content_type="text/html")
            return web.json_response({"success": False, "message": "AI Proxy endpoint or token is not set", "data": {}})
        address, sent = self.endpoint + "/api/channel/", json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        headers = {"Accept": "application/json, text/plain, */*", "Content-Type": "application/json",
                   "Authorization": "Bearer " + self.token, "User-Agent": "axios/1.8.4" if self.old else "axios/1.21.1",
                   "Content-Length": str(len(sent.encode("utf-8"))), "Accept-Encoding": "gzip, compress, deflate, br"}
        try:
            async with self.http.post(URL(address, encoded=True), data=sent.encode("utf-8"), headers=headers) as answer:
                raw = await answer.read()
                if answer.status < 300:
                    return web.Response(body=raw, content_type="application/json", charset="utf-8")
                text = "Request failed with status code %d" % answer.status
                found = {"message": text, "name": "AxiosError", "code": "ERR_BAD_REQUEST" if answer.status < 500 else "ERR_BAD_RESPONSE",
                         "status": answer.status}
                try:
                    message = json.loads(raw).get("message") or text
                except (ValueError, AttributeError):
                    message = text
        except ClientConnectorError as error:
            code, message = node_error(error)
            found = {"message": message, "name": "Error", "code": code}
        transitional = {"silentJSONParsing": True, "forcedJSONParsing": True, "clarifyTimeoutError": False}
        if not self.old:
            transitional.update(legacyInterceptorReqResOrdering=True, advertiseZstdAcceptEncoding=False,
                                validateStatusUndefinedResolves=True, encodeBasicAuthUsername=False)
        # axios's error goes out whole: with the admin key and the address.
        found.update(stack="%s: %s\n    at settle (/app/node_modules/axios/lib/core/settle.js:19:12)" % (found["name"], found["message"]),
                     config={"transitional": transitional, "adapter": ["xhr", "http", "fetch"], "transformRequest": [None],
                             "transformResponse": [None], "timeout": 0, "xsrfCookieName": "XSRF-TOKEN", "xsrfHeaderName": "X-XSRF-TOKEN",
                             "maxContentLength": -1, "maxBodyLength": -1, "env": {}, "headers": headers, "method": "post",
                             "url": address, "data": sent, "allowAbsoluteUrls": True})
        return web.json_response({"success": False, "message": message, "data": found})

    # -- apps ----------------------------------------------------------------------------------------------------

    def app(self, id, deleted=False):
        if not re.fullmatch("[0-9a-fA-F]{24}", id or ""):
            if self.old:
                raise Failure('Cast to ObjectId failed for value "%s" (type string) at path "_id" for model "apps"' % id)
            raise Failure("Data validation error", 400, zod=[
                {"origin": "string", "code": "invalid_format", "format": "regex", "pattern": "/^[0-9a-fA-F]{24}$/", "path": ["appId"],
                 "message": "Invalid string: must match pattern /^[0-9a-fA-F]{24}$/"}])
        for app in self.state["apps"]:
            if app["_id"] == id and (deleted or not app.get("deleteTime")):
                return app
        raise no_app()

    async def app_list(self, request, body):
        self.user(request)
        found = []
        for app in reversed(self.state["apps"]):
            if app.get("deleteTime") or "parentId" in body and app["parentId"] != body["parentId"]:
                continue
            shown = {key: app[key] for key in ("_id", "parentId", "avatar", "type", "name", "intro", "tmbId", "updateTime", "inheritPermission")}
            found.append(dict(shown, permission=self.facts["app_permission"], private=True, hasInteractiveNode=False, sourceMember={
                "name": "Owner", "avatar": self.facts["user"]["avatar"], "status": "active"}))
        return found

    async def app_create(self, request, body):
        self.user(request)
        nodes = body.get("modules")
        if self.old and not isinstance(nodes, list):
            raise Failure("error.inheritPermissionError", 507005, "inheritPermissionError")
        if not self.old:
            refuse_parts("modules", nodes or [])
        ids = self.state["ids"]
        app = {"_id": object_id(), "parentId": body.get("parentId"), "teamId": ids["team"], "tmbId": ids["member"], "name": body.get("name"),
               "type": body.get("type"), "version": "v2", "avatar": body.get("avatar", "/icon/logo.svg"), "intro": body.get("intro", ""),
               "modules": self.known_models(nodes or []), "edges": body.get("edges") or [],
               "chatConfig": {"variables": [], **(body.get("chatConfig") or {}), "_id": object_id()},
               "inheritPermission": True, "updateTime": stamp(), "__v": 0}
        app.update({"teamTags": [], "scheduledTriggerConfig": {}} if self.old else {"resourceRefs": {"skillIds": []}, "deleteTime": None})
        self.state["apps"].append(app)
        self.publish(app, app["name"])
        self.save()
        return app["_id"]

    def known_models(self, nodes):
        """What a new app keeps: 4.16 takes models that it does not know out of the nodes, without a word."""
        known, kept = {model["model"] for model in self.models()}, json.loads(json.dumps(nodes))
        for item in (item for node in kept for item in node.get("inputs") or [] if not self.old):
            if item.get("key") == "model" and item.get("value") not in known:
                item.pop("value", None)
        return kept

    def nodes(self, nodes):
        """4.16 shows nodes in a form of its own."""
        if self.old:
            return nodes
        normal = []
        for node in nodes:
            inputs = []
            for item in node.get("inputs") or []:
                ways = item.get("renderTypeList") or []
                typed = "reference" in ways and {"textarea", "input", "numberInput", "select", "switch"} & set(ways)
                more = ["agentGenerated"] if typed and "agentGenerated" not in ways else []
                inputs.append({**item, "renderTypeList": more + ways, "selectedType": item.get("selectedType", (ways or ["hidden"])[0])})
            normal.append(dict(node, inputs=inputs))
        return normal

    def publish(self, app, name):
        self.state["versions"].append({"versionId": object_id(), "appId": app["_id"], "versionName": name, "nodes": app["modules"],
                                       "edges": app["edges"], "chatConfig": app["chatConfig"]})

    def published(self, app):
        """What answers: the newest published version, only without any the app's own nodes."""
        versions = [version for version in self.state["versions"] if version["appId"] == app["_id"]]
        return versions[-1] if versions else {"versionId": None, "versionName": app["name"], "nodes": app["modules"], "edges": app["edges"],
                                              "chatConfig": app["chatConfig"]}

    async def app_detail(self, request, _body):
        self.user(request)
        app = dict(self.app(request.query.get("appId")), permission=self.facts["app_permission"])
        app["modules"] = self.nodes(app["modules"])
        if not self.old:
            del app["__v"]
            app["chatConfig"] = {key: value for key, value in app["chatConfig"].items() if key != "_id"}
        return app

    async def app_update(self, request, body):
        """Changes the record, not what is published; answers with the record as it was."""
        self.user(request)
        app = self.app(request.query.get("appId"))
        if not self.old:
            refuse_parts("nodes", body.get("nodes") or [])
        before = {"scheduledTriggerConfig": {}, **json.loads(json.dumps(app))}
        app.update({key: body[key] for key in ("parentId", "name", "type", "avatar", "intro", "edges", "chatConfig") if body.get(key) is not None})
        if body.get("nodes"):
            app["modules"] = body["nodes"]
        self.save()
        return before

    async def app_publish(self, request, body):
        self.user(request)
        app = self.app(request.query.get("appId"))
        if not self.old:
            refuse_parts("nodes", body.get("nodes") or [])
        app.update(modules=body.get("nodes") or [], edges=body.get("edges") or [], updateTime=stamp(),
                   chatConfig={"variables": [], **(body.get("chatConfig") or {})})
        if body.get("isPublish") and not body.get("autoSave"):
            self.publish(app, body.get("versionName"))
        self.save()

    async def app_latest(self, request, _body):
        self.user(request)
        version = self.published(self.app(request.query.get("appId")))
        return dict({key: value for key, value in version.items() if key != "appId"}, nodes=self.nodes(version["nodes"]))

    async def app_delete(self, request, _body):
        self.user(request)
        app = self.app(request.query.get("appId"), deleted=not self.old)
        if self.old:
            self.state["apps"].remove(app)
        else:  # deletion is queued: the record stays for a while
            app["deleteTime"] = app["deleteTime"] or stamp()
        self.save()
        return [app["_id"]]

    # -- API keys --------------------------------------------------------------------------------------------------

    async def key_create(self, request, body):
        self.user(request)
        if not self.old and not isinstance(body.get("name"), str):
            raise wrong_type("name", body.get("name"))
        key = "fastgpt-" + nanoid(60)
        self.state["keys"].append({"_id": object_id(), "key": key, "name": body.get("name"), "createTime": stamp(),
                                   "appId": body.get("appId") if self.old else None, "limit": {"maxUsagePoints": -1, **(body.get("limit") or {})}})
        self.save()
        return key

    async def key_list(self, request, _body):
        self.user(request)
        wanted, found = request.query.get("appId"), []
        for row in reversed(self.state["keys"]):
            shown = {"_id": row["_id"], "teamId": self.state["ids"]["team"], "tmbId": self.state["ids"]["member"], "name": row["name"],
                     "createTime": row["createTime"], "apiKey": "******" + row["key"][-4:], "usagePoints": 0, "limit": row["limit"]}
            if not self.old:
                found.append(dict(shown, canCopy=True, authProxy=False, tagIds=[], tags=[]))
            elif row["appId"] == wanted:
                found.append(dict(shown, __v=0, id=row["_id"], **({"appId": wanted} if wanted else {})))
        return found

    async def key_health(self, request, _body):
        row = next((row for row in self.state["keys"] if row["key"] == request.query.get("apiKey")), None)
        if row is None:
            raise Failure("common:code_error.error_message.514", 514, "unAuthApiKey")
        return {"valid": True, "usagePoints": 0, "maxUsagePoints": row["limit"]["maxUsagePoints"]}

    # -- chat ------------------------------------------------------------------------------------------------------

    def chat_app(self, request, body):
        """The app a chat is for; from body.appId, the key's suffix or the key's own app."""
        header, wanted, own = request.headers.get("Authorization", ""), body.get("appId"), None
        if header:
            key, _dash, suffix = header[len("Bearer "):].strip(), "", ""
            if re.search("-[0-9a-f]{24}$", key):
                key, _dash, suffix = key.rpartition("-")
            row = next((row for row in self.state["keys"] if row["key"] == key), None)
            if row is None:
                raise Failure("common:code_error.error_message.514", 514, "unAuthApiKey")
            own = row["appId"]
            wanted = wanted or suffix or own
            if not wanted and self.old:
                raise Failure("Key is error. You need to use the app key rather than the account key.")
        else:
            self.user(request)
        if not wanted:
            raise Failure("appId is empty", user=True)
        return self.app(wanted)

    async def chat(self, request, body):
        stream, detail = bool(body.get("stream")), bool(body.get("detail"))
        try:
            app, messages = self.chat_app(request, body), body.get("messages") or []
            if not messages:
                raise Failure("messages is empty", user=True)
        except Failure as failure:
            if not stream or failure.code == 403:
                raise
            return web.Response(body=("event: error\ndata: %s\n\n" % json.dumps({"message": failure.message}, separators=(",", ":"))).encode("utf-8"),
                                headers={"Content-Type": ""})
        writer = await self.chat_stream(request, detail) if stream else None
        nodes, said, error = await self.run(app, messages, writer, detail)
        if stream:
            return await writer.finish(nodes)
        answer = {"responseData": nodes, "newVariables": {}} if detail else {}
        content = said
        if self.old:
            content = [{"type": "text", "text": {"content": ""}}] if detail and error else said
        else:
            answer["title"] = str(messages[-1].get("content"))[:20]
            answer.update({"error": error.message} if error else {})
        answer.update(id=body.get("chatId") or nanoid(24), model="", usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 1},
                      choices=[{"message": {"role": "assistant", "content": content}, "finish_reason": "stop", "index": 0}])
        return web.json_response(answer)

    async def run(self, app, messages, writer, detail):
        """Run the app's published nodes: (what each node reports, the answer, ModelFailure or None)."""
        started, nodes = time.time(), self.published(app)["nodes"]
        chat = next((node for node in nodes if node.get("flowNodeType") == "chatNode"), None)
        reports = [self.report(node, 0) for node in nodes if node.get("flowNodeType") == "workflowStart"]
        if chat is None:
            return reports, "", None
        inputs = {item["key"]: item.get("value") for item in chat.get("inputs") or []}
        active = self.active("llm")
        named = next((model for model in active if inputs.get("model") in (model["model"], model.get("name"))), None)
        model = named or self.defaults().get("llm")
        if writer and detail:
            await writer.send("flowNodeStatus", {"status": "running", "name": chat.get("name")})
        prompt = [{"role": "system", "content": inputs["systemPrompt"]}] if inputs.get("systemPrompt") else []
        said, error = {"text": "", "reasoning": "", "finish": "error", "usage": {}}, None
        try:
            if model is None:
                raise ModelFailure("Mode %s is undefined, you need to select a chat model." % inputs.get("model"))
            said = await self.complete(model, prompt + messages, on_text=writer.text if writer else None)
        except ModelFailure as failure:
            error = failure
        took = round(time.time() - started, 2)
        report = self.report(chat, took)
        if error:
            report["errorText"] = error.full
        if not (self.old and error):
            query = messages[-1].get("content")
            preview = [{"obj": "Human", "value": query}] + ([] if error else [{"obj": "AI", "value": said["text"]}])
            shown = named if self.old else model
            report.update(totalPoints=0, model=shown.get("name", "") if shown else "", query=query, reasoningText=said["reasoning"],
                          inputTokens=said["usage"].get("prompt_tokens", 0), outputTokens=said["usage"].get("completion_tokens", 0),
                          historyPreview=preview, contextTotalLen=len(preview), finishReason=said["finish"])
        if not self.old:
            report["llmRequestIds"] = [nanoid(12)]
            report.update({"error": error.message} if error else {})
        if writer:
            writer.took = took
        return reports + [report], said["text"], error

    def report(self, node, took):
        found = {"id": nanoid(16), "nodeId": node.get("nodeId"), "moduleName": node.get("name"), "moduleType": node.get("flowNodeType"),
                 "runningTime": took}
        return found if self.old else dict(found, moduleLogo=node.get("avatar"))

    @staticmethod
    async def chat_stream(request, detail):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream;charset=utf-8", "Access-Control-Allow-Origin": "*"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        return Stream(response, detail)

    # -- dispatch --------------------------------------------------------------------------------------------------

    async def lab_faults(self, request, body):
        """A list of {path: prefix, status, body, content_type, delay (seconds), times}: such answers come instead, so often."""
        self.faults = body
        return body

    async def lab_clock(self, _request, body):
        """{skip: seconds}: it is so much later."""
        self.skipped += body["skip"]
        return {}

    async def lab_user(self, _request, body):
        """{username}: a session of that user, as if the user had logged in."""
        return {"token": self.open_session(body["username"])}

    ROUTES = {
        "/api/common/system/getInitData": init_data,
        "/api/support/user/account/preLogin": pre_login, "/api/support/user/account/loginByPassword": login,
        "/api/support/user/account/tokenLogin": token_login, "/api/support/user/account/loginout": log_out,
        "/api/core/ai/model/list": model_list, "/api/core/ai/model/detail": model_detail, "/api/core/ai/model/test": model_test,
        "/api/core/ai/model/update": model_update, "/api/core/ai/model/updateWithJson": model_update_json,
        "/api/core/ai/model/getConfigJson": model_config_json, "/api/core/ai/model/getDefaultConfig": model_preset,
        "/api/core/ai/model/updateDefault": model_defaults, "/api/core/ai/model/delete": model_delete,
        "/api/aiproxy/api/createChannel": create_channel,
        "/api/core/app/list": app_list, "/api/core/app/create": app_create, "/api/core/app/detail": app_detail,
        "/api/core/app/update": app_update, "/api/core/app/del": app_delete,
        "/api/core/app/version/publish": app_publish, "/api/core/app/version/latest": app_latest,
        "/api/support/openapi/create": key_create, "/api/support/openapi/list": key_list, "/api/support/openapi/health": key_health,
        "/api/v1/chat/completions": chat,
        "/_lab/faults": lab_faults, "/_lab/clock": lab_clock, "/_lab/user": lab_user}
    NEW_ROUTES = {"/api/core/ai/model/getMyModels": my_models}

    async def answer(self, request):
        path = request.path
        for fault in self.faults:
            if path.startswith(fault["path"]) and fault.get("times", 1) > 0 and not path.startswith("/_lab/"):
                fault["times"] = fault.get("times", 1) - 1
                await asyncio.sleep(fault.get("delay", 0))
                if "status" in fault:
                    return web.Response(status=fault["status"], text=fault.get("body", ""),
                                        content_type=fault.get("content_type", "application/json"))
        call = self.ROUTES.get(path) or (None if self.old else self.NEW_ROUTES.get(path))
        try:
            if call is None and path.startswith("/api/aiproxy/"):
                return await self.bridge(request, request.raw_path[len("/api/aiproxy/"):].partition("?")[0])
            if call is None:
                return web.Response(status=200 if path == "/" else 404, content_type="text/html", charset="utf-8",
                                    text=PAGE % ("FastGPT" if path == "/" else "404: This page could not be found"))
            found = await call(self, request, await self.body(request))
            return found if isinstance(found, web.StreamResponse) else self.ok(found)
        except Failure as failure:
            return self.failed(failure)

    @staticmethod
    async def body(request):
        raw = await request.read()
        try:
            return json.loads(raw, parse_float=number) if raw else {}
        except ValueError:
            raise Failure("Invalid JSON", 400) from None

    @staticmethod
    def ok(data):
        return web.json_response({"code": 200, "statusText": "", "message": "", "data": data})

    def failed(self, failure):
        said = {"code": failure.code, "statusText": failure.name or ("" if self.old else "error"), "message": failure.message, "data": None}
        if failure.zod:
            said["zodError"] = failure.zod
        if failure.user and not self.old:
            said["errorType"] = "UserError"
        own_status = failure.code == 429 if self.old else 400 <= failure.code < 500
        answer = web.json_response(said, status=failure.code if own_status else 500)
        return self.forget_cookie(answer) if failure.code == 403 else answer

    @staticmethod
    def forget_cookie(answer):
        answer.headers["Set-Cookie"] = "fastgpt_token=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict"
        return answer


class Stream:
    """A chat answer as server-sent events; with detail each has a name."""

    def __init__(self, response, detail):
        self.response, self.detail, self.took = response, detail, 0

    async def send(self, event, data):
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        name = "event: %s\n" % event if self.detail else ""
        await self.response.write(("%sdata: %s\n\n" % (name, text)).encode("utf-8"))

    async def text(self, content, finish=None):
        await self.send("answer", {"id": "", "object": "", "created": 0, "model": "", "choices": [
            {"delta": {"role": "assistant", "content": content}, "index": 0, "finish_reason": finish}]})

    async def finish(self, nodes):
        if self.detail:
            await self.send("workflowDuration", {"durationSeconds": self.took})
        await self.text(None, "stop")
        await self.send("answer", "[DONE]")
        if self.detail:
            await self.send("flowResponses", nodes)
        await self.response.write_eof()
        return self.response


def main():
    fault, _colon, seconds = os.environ.get("FASTGPT_LAB_FAULT", "").partition(":")
    if fault == "crash":
        sys.exit("Error: Invalid environment variables")
    if fault == "slow":
        time.sleep(float(seconds))
    server = FastGPT(os.environ, os.environ.get("LAB_STATE", "."))
    app = web.Application(client_max_size=64 * 2**20)
    app.cleanup_ctx.append(server.client)
    app.router.add_route("*", "/{path:.*}", server.answer)
    web.run_app(app, host=os.environ.get("HOSTNAME") or "0.0.0.0", port=int(os.environ.get("PORT") or 3000), access_log=None, print=None)


if __name__ == "__main__":
    main()
