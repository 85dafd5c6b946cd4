#!/usr/bin/env python3
# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for AI Proxy 0.6: its admin API as far as the collection uses it, and a relay that really calls Ollama.

Environment, as the real server reads it: ADMIN_KEY, LISTEN (0.0.0.0:3000), DISABLE_MODEL_CONFIG, RETRY_TIMES.
SQL_DSN is ignored. The state is one JSON file, aiproxy.json in the directory LAB_STATE (default: the working directory).
tests/contract/test_aiproxy.py holds it to what a real server answered; faults are switched on at /_lab/faults.
"""

import asyncio
import contextlib
import copy
import json
import os
import pathlib
import random
import re
import secrets
import socket
import sys
import time
import urllib.parse
import uuid

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, web

NEVER = -62135596800000  # Go's zero time in Unix milliseconds
POLL_SECONDS = 10  # what a status change or a deleted model config waits for; other writes are live at once
CHAT, COMPLETIONS, EMBEDDINGS = 1, 2, 3
OLLAMA, OPENAI = 30, 1
ENDPOINTS = {"/v1/chat/completions": CHAT, "/v1/completions": COMPLETIONS, "/v1/embeddings": EMBEDDINGS,
             "/v1/messages": 12, "/v1/responses": 16}
OLLAMA_PATHS = {CHAT: "/api/chat", COMPLETIONS: "/api/generate", EMBEDDINGS: "/api/embed"}
OLLAMA_META = {"name": "ollama", "keyHelp": "", "defaultBaseUrl": "http://localhost:11434",
               "readme": "Ollama local API\nSupports chat, completions, and embeddings\n"
                         "Default base URL points to a local Ollama instance"}
BUILT_IN = ("codellama:7b-instruct", "llama2:7b", "llama2:latest", "llama3:latest", "phi3:latest", "qwen:0.5b-chat", "qwen:7b")
TYPES = dict(pair.split("=") for pair in (
    "1=openai|3=azure (deprecated)|4=azure|12=google gemini (openai)|13=baidu v2|14=anthropic|15=baidu|16=zhipu|17=ali|18=xunfei|"
    "19=ai360|20=openrouter|23=tencent|24=google gemini|25=moonshot|26=baichuan|27=minimax|28=mistral|29=groq|30=ollama|"
    "31=lingyiwanwu|32=stepfun|33=aws|34=coze|35=Cohere|36=deepseek|37=cloudflare|40=doubao|41=novita|42=vertexai|43=siliconflow|"
    "44=doubao audio|45=xai|46=doc2x|47=jina|48=huggingface text-embeddings-inference|49=qianfan|50=Sangfor AICP|51=Streamlake|"
    "52=zhipu coding|53=fake|54=antling|55=fake-error").split("|"))
# JSON kind, Go's name of it, value when missing. A PUT writes all of them, so what it leaves out is reset.
CHANNEL_FIELDS = {
    "type": ("number", "model.ChannelType", 0), "name": ("string", "string", ""), "key": ("string", "string", ""),
    "base_url": ("string", "string", ""), "proxy_url": ("string", "string", ""), "models": ("array", "[]string", None),
    "model_mapping": ("object", "map[string]string", None), "configs": ("object", "model.ChannelConfigs", None),
    "priority": ("number", "int32", 0), "status": ("number", "int", 0), "sets": ("array", "[]string", None),
    "enabled_auto_balance_check": ("bool", "bool", False), "skip_tls_verify": ("bool", "bool", False),
    "enabled_no_permission_ban": ("bool", "bool", False), "warn_error_rate": ("number", "float64", 0),
    "max_error_rate": ("number", "float64", 0)}
CONFIG_FIELDS = {"model": ("string", "string", ""), "owner": ("string", "string", ""), "type": ("number", "mode.Mode", 0)}
CONFIG_EXTRAS = ("config", "plugin", "rpm", "tpm", "retry_times", "exclude_from_tests", "force_save_detail")


class Problem(Exception):
    """An error the admin API answers in its envelope."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.message = status, message


class RelayError(Exception):
    """An error of the relay; `upstream` once a channel was asked, which adds the request id to the answer."""

    def __init__(self, status, message, code=None, upstream=False):
        super().__init__(message)
        self.status, self.upstream = status, upstream
        self.error = {"code": code, "message": message, "type": "aiproxy_error"}
        if code is None:
            del self.error["code"]


def now():
    return int(time.time() * 1000)


def ok(data=None):
    return web.json_response({"success": True} if data is None else {"data": data, "success": True})


def kind(value):
    return {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}[type(value)]


async def body_of(request, go_type, wanted="object"):
    """The request's JSON, or the words of Go's decoder about what is wrong with it."""
    raw = await request.read()
    if not raw.strip():
        raise Problem(400, "EOF")
    try:
        value = json.loads(raw)
    except ValueError:
        raise Problem(400, "unexpected EOF") from None
    if kind(value) != wanted:
        raise Problem(400, "json: cannot unmarshal %s into Go value of type %s" % (kind(value), go_type))
    return value


def fields(value, table, struct):
    """`value` reduced to the fields of a Go struct, null and missing ones at their zero value."""
    found = {}
    for name, (wanted, go_type, zero) in table.items():
        given = value.get(name)
        if given is not None and kind(given) != wanted:
            raise Problem(400, "json: cannot unmarshal %s into Go struct field %s.%s of type %s"
                          % (kind(given), struct, name, go_type))
        found[name] = zero if given is None else given
    return found


def number(text):
    if not re.fullmatch(r"[+-]?\d+", text):
        raise Problem(400, 'strconv.Atoi: parsing "%s": invalid syntax' % text)
    return int(text)


def page_of(request, items):
    page = max(int(request.query.get("page", request.query.get("p", 1)) or 1), 1)
    size = min(int(request.query.get("per_page", 10) or 10), 100)
    return items[(page - 1) * size:page * size]


def key_of(header):
    for prefix in ("Bearer ", "sk-"):
        if header.startswith(prefix):
            header = header[len(prefix):]
    return header


class AIProxy:
    """The server: stored rows, the live copy that the relay works from, and the calls."""

    def __init__(self, environ, directory):
        self.admin_key = environ.get("ADMIN_KEY", "")
        self.declared_only = environ.get("DISABLE_MODEL_CONFIG", "").lower() not in ("true", "1")
        self.retry_times = int(environ.get("RETRY_TIMES") or 0)
        self.file = pathlib.Path(directory) / "aiproxy.json"
        self.rows = {"channels": [], "configs": [], "groups": [], "tokens": [], "last_id": 0, "RetryTimes": "0"}
        if self.file.exists():
            self.rows.update(json.loads(self.file.read_text("utf-8")))
        self.started, self.faults, self.live = now(), [], {}
        self.rebuild()

    def save(self, rebuild=True):
        written = self.file.with_suffix(".new")
        written.write_text(json.dumps(self.rows, ensure_ascii=False), "utf-8")
        written.chmod(0o600)
        os.replace(written, self.file)
        if rebuild:
            self.rebuild()

    def rebuild(self):
        self.live = copy.deepcopy({"channels": self.rows["channels"], "configs": {row["model"]: row for row in self.rows["configs"]}})

    async def keep_live(self, _app):
        async def poll():
            while True:
                await asyncio.sleep(POLL_SECONDS)
                self.rebuild()
        task = asyncio.create_task(poll())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    # -- channels ------------------------------------------------------------------------------------------------

    def channel(self, id):
        for row in self.rows["channels"]:
            if row["id"] == id:
                return row
        raise Problem(500, "channel record not found")

    def checked(self, value):
        row = fields(value, CHANNEL_FIELDS, "AddChannelRequest")
        if str(row["type"]) not in TYPES:
            raise Problem(400, "invalid channel type: %d" % row["type"])
        declared = {config["model"] for config in self.rows["configs"]}
        missing = sorted(model for model in row["models"] or [] if model not in declared)
        if missing and self.declared_only:
            raise Problem(500, "model config not found: [%s]" % " ".join(missing))
        return row

    def shown(self, row):
        return {name: value for name, value in row.items() if value or name not in ("sets", "configs", "accessed_at")}

    def found(self, request):
        wanted = {name: request.query.get("channel_type" if name == "type" else name)
                  for name in ("id", "name", "key", "type", "base_url")}
        rows = [row for row in self.rows["channels"]
                if all(not value or str(row[name]) == value for name, value in wanted.items())]
        name, _dash, way = request.query.get("order", "").partition("-")
        known = name in ("name", "type", "created_at", "status", "used_amount", "request_count", "priority", "id")
        return sorted(rows, key=lambda row: row[name if known else "id"], reverse=not (known and way == "asc"))

    async def channels_list(self, request):
        rows = self.found(request)
        return ok({"channels": [self.shown(row) for row in page_of(request, rows)], "total": len(rows)})

    async def channels_all(self, _request):
        return ok([self.shown(row) for row in reversed(self.rows["channels"])])

    async def type_metas(self, _request):
        return ok({id: OLLAMA_META if name == "ollama" else {"name": name, "keyHelp": "", "defaultBaseUrl": "", "readme": ""}
                   for id, name in TYPES.items()})

    async def channel_add(self, request):
        return self.add([await body_of(request, "controller.AddChannelRequest")])

    async def channels_add(self, request):
        return self.add(await body_of(request, "[]controller.AddChannelRequest", "array"))

    def add(self, values):
        rows = []
        for value in values:
            row = self.checked(value)
            rows += [dict(row, key=key) for key in row["key"].split("\n") if key] or [row]
        if not rows:
            raise Problem(500, "empty slice found")
        for row in rows:
            self.rows["last_id"] += 1
            row.update(id=self.rows["last_id"], status=row["status"] or 1, created_at=now(), balance=0, balance_threshold=0,
                       used_amount=0, request_count=0, retry_count=0, accessed_at=0, balance_updated_at=NEVER,
                       last_test_error_at=NEVER)
            self.rows["channels"].append(row)
        self.save()
        return ok()

    async def channel_get(self, _request, id):
        return ok(self.shown(self.channel(number(id))))

    async def channel_put(self, request, id):
        id = number(id)
        new = self.checked(await body_of(request, "controller.AddChannelRequest"))
        row = self.channel(id)
        new.update(status=row["status"], name=new["name"] or row["name"], balance_threshold=0)
        row.update(new)
        self.save()
        return ok(self.shown(row))

    async def channel_delete(self, _request, id):
        if not id.isdigit():
            raise Problem(500, "WHERE conditions required")
        self.rows["channels"].remove(self.channel(int(id)))
        self.save()
        return ok()

    async def channels_delete(self, request):
        ids = await body_of(request, "[]int", "array")
        self.rows["channels"] = [row for row in self.rows["channels"] if row["id"] not in ids]
        self.save()
        return ok()

    async def channel_status(self, request, id):
        given = fields(await body_of(request, "controller.UpdateChannelStatusRequest"), {"status": ("number", "int", 0)},
                       "UpdateChannelStatusRequest")
        self.channel(number(id)).update(given)
        self.save(rebuild=False)
        return ok()

    # -- channel tests: HTTP 200 whatever happens ------------------------------------------------------------------

    async def channel_test(self, request, id, model):
        rows = [row for row in self.rows["channels"] if str(row["id"]) == id]
        if not model:
            return self.test_refused("model is required")
        if not rows:
            return self.test_refused("channel not found")
        if model not in (rows[0]["models"] or []):
            return self.test_refused("model not supported by channel")
        if self.mode_of(model) not in OLLAMA_PATHS:
            return self.test_refused("failed to test channel %s(%s) model %s: model type 'Unknown' not supported"
                                     % (rows[0]["name"], id, model))
        return ok(await self.tested(request, rows[0], model))

    async def channel_test_all(self, request, id=None):
        rows = [row for row in self.rows["channels"] if (row["status"] == 1 if id is None else str(row["id"]) == id)]
        if id is not None and not rows:
            return self.test_refused("channel not found")
        tested = await asyncio.gather(*(self.tested(request, row, model) for row in rows for model in row["models"] or []
                                        if self.mode_of(model) in OLLAMA_PATHS))
        return ok([{"data": one, "success": True} for one in tested
                   if not one["success"] or request.query.get("return_success") == "true"])

    @staticmethod
    def test_refused(message):
        return web.json_response({"message": message, "success": False})

    def mode_of(self, model):
        return self.live["configs"].get(model, {}).get("type") or (CHAT if model in BUILT_IN else 0)

    async def tested(self, request, row, model):
        mode, began = self.mode_of(model), time.time()
        asked = {"model": model, "input": "hi"} if mode == EMBEDDINGS else {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        try:
            response, success, code = json.dumps(await self.ask(row, mode, model, asked)), True, 200
            response = response if request.query.get("success_body") == "true" else ""
        except RelayError as error:
            response, success, code = json.dumps({"error": error.error}), False, error.status
            row["last_test_error_at"] = now()
            self.save(rebuild=False)
        return {"test_at": int(began * 1000), "model": model, "actual_model": (row["model_mapping"] or {}).get(model, model),
                "response": response, "channel_name": row["name"], "channel_type": row["type"], "channel_id": row["id"],
                "took": time.time() - began, "success": success, "mode": mode, "code": code}

    # -- model configs ---------------------------------------------------------------------------------------------

    def config(self, model):
        for row in self.rows["configs"]:
            if row["model"] == model:
                return row
        raise Problem(500, "model config record not found")

    async def configs_list(self, request):
        rows = [row for row in reversed(self.rows["configs"]) if request.query.get("model") in (None, "", row["model"])]
        return ok({"configs": page_of(request, rows) or None, "total": len(rows)})

    async def configs_all(self, _request):
        return ok(self.rows["configs"][::-1])

    async def configs_contains(self, request):
        asked = (await body_of(request, "controller.GetModelConfigsByModelsContainsRequest")).get("models") or []
        return ok([row for row in self.rows["configs"] if row["model"] in asked])

    async def configs_save(self, request):
        return self.save_configs(await body_of(request, "[]model.ModelConfig", "array"))

    async def config_save(self, request, model):
        if not model:
            raise Problem(400, "invalid parameter")
        return self.save_configs([dict(await body_of(request, "controller.SaveModelConfigsRequest"), model=model)])

    def save_configs(self, values):
        rows = []
        for value in values:
            row = fields(value, CONFIG_FIELDS, "ModelConfig")
            if not row["model"]:
                raise Problem(500, "model is required")
            row.update({name: value[name] for name in CONFIG_EXTRAS if value.get(name)})
            rows.append(dict(row, price=value.get("price") or {}, timeout_config=value.get("timeout_config") or {}))
        names = [row["model"] for row in rows]
        self.rows["configs"] = [row for row in self.rows["configs"] if row["model"] not in names] + rows
        self.save()
        return ok()

    async def config_get(self, _request, model):
        zero = "0001-01-01T00:00:00Z"
        return ok(dict(self.config(model), created_at=zero, updated_at=zero))

    async def config_delete(self, _request, model):
        self.rows["configs"].remove(self.config(model))
        self.save(rebuild=False)
        return ok()

    async def configs_delete(self, request):
        names = await body_of(request, "[]string", "array")
        self.rows["configs"] = [row for row in self.rows["configs"] if row["model"] not in names]
        self.save(rebuild=False)
        return ok()

    # -- what is live ----------------------------------------------------------------------------------------------

    def served(self, model, sets=None):
        """Enabled channels for a model that is declared (or need not be), in any of the sets."""
        if self.declared_only and model not in self.live["configs"]:
            return []
        return [row for row in reversed(self.live["channels"]) if row["status"] == 1 and model in (row["models"] or [])
                and (sets is None or set(row["sets"] or ["default"]) & set(sets))]

    def live_models(self, sets=None):
        listed = {model for row in self.live["channels"] for model in row["models"] or []}
        return sorted(model for model in listed if self.served(model, sets))

    def live_config(self, model):
        return self.live["configs"].get(model) or {"model": model, "owner": "", "type": 0, "price": {}, "timeout_config": {}}

    async def models_enabled(self, _request, name=None):
        sets = sorted({name for row in self.live["channels"] if row["status"] == 1 and row["models"] for name in row["sets"] or ["default"]})
        by_set = {each: [self.live_config(model) for model in self.live_models([each])] for each in sets}
        return ok(by_set if name is None else by_set.get(name, []))

    async def models_sets(self, _request):
        found = {}
        for model in self.live_models():
            for row in self.served(model):
                for name in row["sets"] or ["default"]:
                    found.setdefault(model, {}).setdefault(name, []).append(
                        {"id": row["id"], "type": row["type"], "name": row["name"], "priority": self.weight(row)})
        for sets in found.values():
            for rows in sets.values():
                total = sum(row["priority"] for row in rows)
                for row in rows:
                    row["weight"] = row["priority"] / total * 100 if total else 0
        return ok(found)

    @staticmethod
    def weight(row):
        return min(row["priority"] or 10, 1000000)

    # -- client tokens, groups, options: no more than the relay's recorded stories need ------------------------------

    async def group_put(self, request, id):
        group = next((row for row in self.rows["groups"] if row["id"] == id), None)
        if group is None:
            raise Problem(500, "group record not found")
        group["available_sets"] = (await body_of(request, "controller.UpdateGroupRequest")).get("available_sets") or []
        self.save(rebuild=False)
        return ok(group)

    async def group_add(self, request, id):
        if any(row["id"] == id for row in self.rows["groups"]):
            raise Problem(500, "duplicated key not allowed")
        given = await body_of(request, "controller.CreateGroupRequest")
        group = {"id": id, "status": 1, "used_amount": 0, "request_count": 0, "balance_alert_enabled": False,
                 "balance_alert_threshold": 0, "created_at": now()}
        group.update({name: given[name] for name in ("rpm_ratio", "tpm_ratio", "available_sets") if given.get(name)})
        self.rows["groups"].append(group)
        self.save(rebuild=False)
        return ok(group)

    async def token_add(self, request, group):
        given = await body_of(request, "controller.AddTokenRequest")
        for token in self.rows["tokens"]:
            if (token["group"], token["name"]) == (group, given["name"]):
                if request.query.get("ignore_exist") == "true":
                    return ok(token)
                raise Problem(500, "token name already exists in this group")
        token = {"key": secrets.token_hex(24), "name": given["name"], "group": group, "subnets": given.get("subnets"),
                 "models": given.get("models"), "status": 1, "id": len(self.rows["tokens"]) + 1, "used_amount": 0, "request_count": 0,
                 "quota": given.get("quota", 0), "period_quota": 0, "period_type": "", "period_last_update_amount": 0,
                 "created_at": now(), "period_last_update_time": NEVER, "accessed_at": 0}
        self.rows["tokens"].append(token)
        self.save(rebuild=False)
        return ok(token)

    async def option_get(self, _request):
        return ok({"key": "RetryTimes", "value": self.rows["RetryTimes"]})  # the environment's value is never shown

    async def option_put(self, request):
        text = await request.text()
        given = json.loads(text)
        if isinstance(given, dict) and given.get("key") != "RetryTimes":
            raise Problem(500, "unknown option key")
        self.rows["RetryTimes"] = given["value"] if isinstance(given, dict) else text.strip('"')
        self.save(rebuild=False)
        return ok()

    # -- relay -----------------------------------------------------------------------------------------------------

    def caller(self, request):
        """(is this the admin key, its token) of a relay request."""
        key = key_of(next((request.headers[name] for name in ("Authorization", "X-Api-Key", "X-Goog-Api-Key")
                           if request.headers.get(name)), ""))
        if not key:
            raise RelayError(401, "no token provided")
        if key == self.admin_key:
            return True, {"models": None, "group": ""}
        for token in self.rows["tokens"]:
            if token["key"] == key:
                return False, token
        raise RelayError(401, "invalid token")

    def visible(self, admin, token):
        """(sets or None for all, models) that a caller may use."""
        group = next((row for row in self.rows["groups"] if row["id"] == token["group"]), {})
        sets = None if admin else group.get("available_sets") or ["default"]
        return sets, [model for model in self.live_models(sets) if not token["models"] or model in token["models"]]

    def model_entry(self, model):
        permission = {"group": None, "id": "modelperm-LwHkVFn8AcMItP432fKKDIKJ", "object": "model_permission", "organization": "*",
                      "created": 1626777600, "allow_create_engine": True, "allow_sampling": True, "allow_logprobs": True,
                      "allow_search_indices": False, "allow_view": True, "allow_fine_tuning": False, "is_blocking": False}
        return {"parent": None, "id": model, "object": "model", "owned_by": self.live_config(model)["owner"], "root": model,
                "permission": [permission], "created": 1626777600}

    async def relay_models(self, request):
        _sets, models = self.visible(*self.caller(request))
        return web.json_response({"data": [self.model_entry(model) for model in models], "object": "list"})

    async def relay_model(self, request, model):
        _sets, models = self.visible(*self.caller(request))
        if model in models:
            return web.json_response(self.model_entry(model))
        return web.json_response({"error": {"code": "model_not_found", "message": "the model '%s' does not exist" % model,
                                            "type": "invalid_request_error", "param": "model"}}, status=404)

    async def relay(self, request):
        mode, admin_token = ENDPOINTS[request.path], self.caller(request)
        try:
            asked = json.loads(await request.read())
        except ValueError as problem:
            raise RelayError(500, "get request model failed: %s" % problem) from None
        if not asked.get("model"):
            raise RelayError(400, "no model provided")
        sets, models = self.visible(*admin_token)
        model = next((each for each in models if each.lower() == asked["model"].lower()), None)
        if model is None:
            raise RelayError(404, "The model `%s` does not exist or you do not have access to it." % asked["model"])
        declared = self.live_config(model)["type"]
        if declared and (declared == EMBEDDINGS) != (mode == EMBEDDINGS):
            raise RelayError(404, "The model `%s` does not exist on this endpoint." % asked["model"])
        return await self.relay_tries(request, mode, model, asked, self.candidates(request, admin_token[0], mode, model, sets))

    def candidates(self, request, admin, mode, model, sets):
        """The channels that may be asked: a pinned one (admin key only, disabled ones too), or all that are enabled."""
        pin = request.headers.get("Aiproxy-Channel")
        rows = self.served(model, sets)
        if pin is not None:
            rows = [row for row in self.live["channels"] if admin and str(row["id"]) == pin and model in (row["models"] or [])]
        rows = [row for row in rows if row["type"] in (OLLAMA, OPENAI) and mode in OLLAMA_PATHS]
        if not rows:
            raise RelayError(503, "the upstream load is saturated, please try again later")
        return rows

    async def relay_tries(self, request, mode, model, asked, rows):
        """Weighted random choice, then others, as often as retries allow. 400s are final, a wrong host costs no retry."""
        left = max(int(self.rows["RetryTimes"]), self.retry_times)
        rest = list(rows)
        while True:
            weights = [max(self.weight(row), 0) for row in rest]
            row = random.choices(rest, weights if any(weights) else None)[0]
            try:
                if asked.get("stream") and mode != EMBEDDINGS:
                    response = await self.stream(request, row, mode, model, asked)
                else:
                    response = web.Response(body=json.dumps(await self.ask(row, mode, model, asked)).encode(),
                                            headers={"Content-Type": "application/json"})
                self.count(row["id"])
                return response
            except RelayError as error:
                rest = [each for each in rest if each is not row]
                if error.status in (400, 413, 422, 451) or left <= 0 or not rest:
                    raise
                left -= error.status not in (401, 402, 403, 404)

    def count(self, id):
        for row in self.rows["channels"]:
            if row["id"] == id:
                row.update(request_count=row["request_count"] + 1, accessed_at=now())
        self.save(rebuild=False)

    def upstream(self, row, mode, model, asked):
        """(url, body) of the request to the channel's server."""
        actual, base = (row["model_mapping"] or {}).get(model, model), row["base_url"].rstrip("/")
        if row["type"] == OPENAI:
            path = next(path for path, its in ENDPOINTS.items() if its == mode)[len("/v1"):]
            return (base or "https://api.openai.com/v1") + path, dict(asked, model=actual)
        url = (base or "http://localhost:11434") + OLLAMA_PATHS[mode]
        if "://" not in url:
            raise RelayError(400, 'get request url failed: parse "%s": first path segment in URL cannot contain colon' % base,
                             upstream=True)
        if mode == EMBEDDINGS:
            text = asked.get("input", "")
            return url, {"model": actual, "input": [text] if isinstance(text, str) else text}
        body = {"model": actual, "stream": bool(asked.get("stream")), "messages": asked.get("messages") or None,
                "prompt": asked.get("prompt"), "tools": asked.get("tools"), "format": self.format(asked.get("response_format") or {})}
        options = {name: asked.get(name) for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "num_ctx", "stop")}
        body["options"] = {name: value for name, value in dict(options, num_predict=asked.get("max_tokens")).items() if value is not None}
        return url, {name: value for name, value in body.items() if value is not None}

    @staticmethod
    def format(wanted):
        if wanted.get("type") == "json_schema":
            return wanted.get("json_schema", {}).get("schema")
        return "json" if wanted.get("type") == "json_object" else None

    @contextlib.asynccontextmanager
    async def call(self, row, mode, model, asked):
        """The open answer of a channel's server; what went wrong as RelayError in the real server's words."""
        url, body = self.upstream(row, mode, model, asked)
        parts = urllib.parse.urlsplit(url)
        timeout = ClientTimeout(total=None, sock_read=30 if mode == EMBEDDINGS else 300)
        try:
            async with ClientSession(timeout=timeout) as session, session.post(
                    url, json=body, headers={"Authorization": "Bearer " + row["key"]}) as answer:
                if answer.status != 200:
                    raise await self.upstream_error(answer)
                yield answer
        except ClientConnectorError as problem:
            if isinstance(problem.os_error, socket.gaierror):
                text = "dial tcp: lookup %s on 127.0.0.11:53: no such host" % parts.hostname
            else:
                text = "dial tcp %s:%s: connect: %s" % (parts.hostname, parts.port or 80, os.strerror(problem.os_error.errno).lower())
            raise RelayError(500, 'request error: Post "%s": %s' % (url, text), upstream=True) from None
        except asyncio.TimeoutError:
            raise RelayError(408, 'timeout with deadline exceeded: Post "%s": net/http: timeout awaiting response headers' % url,
                             upstream=True) from None
        except ClientError as problem:
            raise RelayError(500, 'request error: Post "%s": %s' % (url, problem), upstream=True) from None

    async def upstream_error(self, answer):
        text = await answer.text()
        with contextlib.suppress(ValueError, AttributeError):
            error = json.loads(text).get("error", "")
            if isinstance(error, str):
                return RelayError(answer.status, error, upstream=True)
        mismatch = ("string", "object", max(text.find("{", 1), 0)) if text.startswith("{") else ("ollama.errorResponse", "number", 0)
        shown, dots = text[max(mismatch[2] - 16, 0):], min(mismatch[2], 16)
        shown = shown[:32]
        said = 'at index %d: mismatched type with value\n\n\t%s\n\t%s^%s\n' % (
            mismatch[2], shown, "." * dots, "." * (len(shown) - dots - 1))
        return RelayError(500, "Mismatch type %s with value %s %s" % (mismatch[0], mismatch[1], json.dumps(said)),
                          "unmarshal_response_body_failed", True)

    async def ask(self, row, mode, model, asked):
        """A whole answer in OpenAI's form."""
        async with self.call(row, mode, model, asked) as answer:
            try:
                got = json.loads(await answer.text())
            except ValueError:
                raise RelayError(500, "EOF", "unmarshal_response_body_failed", True) from None
        if row["type"] == OPENAI:
            return dict(got, model=model)
        if mode == EMBEDDINGS:
            tokens = got.get("prompt_eval_count", 0)
            vectors = [{"object": "embedding", "embedding": vector, "index": i} for i, vector in enumerate(got["embeddings"])]
            return {"object": "list", "model": model, "data": vectors, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        return self.completion(got, model, "chat.completion", "message")

    def completion(self, got, model, name, part):
        """One answer, or one line of a stream, of Ollama as OpenAI writes it; empty fields are left out, as Go does."""
        message = got.get("message") or {}
        choice = {part: {to: message[one] for one, to in (("content", "content"), ("role", "role"), ("thinking", "reasoning_content"))
                         if one in message and (message[one] or one == "content")}, "index": 0}
        if message.get("tool_calls"):
            choice[part]["tool_calls"] = [
                {"index": i, "id": "call_" + uuid.uuid4().hex, "type": "function",
                 "function": {"name": call["function"]["name"], "arguments": json.dumps(call["function"].get("arguments") or {})}}
                for i, call in enumerate(message["tool_calls"])]
        if got.get("response"):
            choice["text"] = got["response"]
        if got.get("done"):
            choice["finish_reason"] = got.get("done_reason", "")
        prompt, said = got.get("prompt_eval_count", 0), got.get("eval_count", 0)
        usage = {"prompt_tokens": prompt, "completion_tokens": said}
        whole = {"id": "chatcmpl-" + uuid.uuid4().hex, "model": model, "object": name, "choices": [choice], "created": int(time.time())}
        if said or name == "chat.completion":
            whole["usage"] = dict({one: count for one, count in usage.items() if count}, total_tokens=prompt + said)
        return whole

    async def stream(self, request, row, mode, model, asked):
        async with self.call(row, mode, model, asked) as answer:
            if row["type"] == OLLAMA and "ndjson" not in answer.headers.get("Content-Type", ""):
                raise RelayError(500, "EOF", "unmarshal_response_body_failed", True)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            async for line in answer.content:
                if row["type"] == OPENAI:
                    await response.write(line)
                elif line.strip():
                    chunk = self.completion(json.loads(line), model, "chat.completion.chunk", "delta")
                    await response.write(b"data: %s\n\n" % json.dumps(chunk).encode())
            if row["type"] == OLLAMA:
                await response.write(b"data: [DONE]\n\n")
            return response

    # -- dispatch --------------------------------------------------------------------------------------------------

    async def status(self, _request):
        return ok({"startTime": self.started})

    async def lab_faults(self, request):
        """PUT a list of {path: prefix, status, body, delay (seconds), times}: such answers come instead, so often."""
        self.faults = await request.json()
        return web.json_response(self.faults)

    ROUTES = [(method, re.compile(pattern), name) for method, pattern, name in (
        ("GET", "/api/status", "status"), ("PUT", "/_lab/faults", "lab_faults"),
        ("GET", "/api/channels/", "channels_list"), ("POST", "/api/channels/", "channels_add"),
        ("GET", "/api/channels/all", "channels_all"), ("GET", "/api/channels/type_metas", "type_metas"),
        ("POST", "/api/channels/batch_delete", "channels_delete"), ("GET", "/api/channels/test", "channel_test_all"),
        ("POST", "/api/channel/", "channel_add"), ("GET", "/api/channel/([^/]+)", "channel_get"),
        ("PUT", "/api/channel/([^/]+)", "channel_put"), ("DELETE", "/api/channel/([^/]+)", "channel_delete"),
        ("POST", "/api/channel/([^/]+)/status", "channel_status"), ("GET", "/api/channel/([^/]+)/test", "channel_test_all"),
        ("GET", "/api/channel/([^/]+)/test/(.*)", "channel_test"),
        ("GET", "/api/model_configs/", "configs_list"), ("POST", "/api/model_configs/", "configs_save"),
        ("GET", "/api/model_configs/all", "configs_all"), ("POST", "/api/model_configs/contains", "configs_contains"),
        ("POST", "/api/model_configs/batch_delete", "configs_delete"), ("GET", "/api/model_config/(.*)", "config_get"),
        ("POST", "/api/model_config/(.*)", "config_save"), ("DELETE", "/api/model_config/(.*)", "config_delete"),
        ("GET", "/api/models/enabled", "models_enabled"), ("GET", "/api/models/enabled/([^/]+)", "models_enabled"),
        ("GET", "/api/models/sets", "models_sets"), ("POST", "/api/group/([^/]+)", "group_add"),
        ("PUT", "/api/group/([^/]+)", "group_put"), ("POST", "/api/token/([^/]+)", "token_add"),
        ("GET", "/api/option/RetryTimes", "option_get"), ("PUT", "/api/option/(?:RetryTimes)?", "option_put"),
        ("GET", "/v1/models", "relay_models"), ("GET", "/v1/models/([^/]+)", "relay_model"),
        *(("POST", path, "relay") for path in ENDPOINTS))]

    @classmethod
    def route(cls, method, path):
        for its, pattern, name in cls.ROUTES:
            match = pattern.fullmatch(path)
            if its == method and match:
                return name, match.groups()
        return None, ()

    async def answer(self, request):
        path = urllib.parse.unquote(request.raw_path.partition("?")[0])
        for fault in self.faults:
            if path.startswith(fault["path"]) and fault.get("times", 1) > 0:
                fault["times"] = fault.get("times", 1) - 1
                await asyncio.sleep(fault.get("delay", 0))
                if "status" in fault:
                    return web.Response(status=fault["status"], body=fault.get("body", ""), content_type="application/json")
        name, groups = self.route(request.method, path)
        if name is None:
            return self.nowhere(request, path)
        try:
            if path.startswith("/api/") and path != "/api/status" and not self.authorized(request):
                raise Problem(401, "unauthorized, no access token provided")
            return await getattr(self, name)(request, *groups)
        except Problem as problem:
            return web.json_response({"message": problem.message, "success": False}, status=problem.status)
        except RelayError as error:
            whole = {"error": error.error}
            if error.upstream:
                whole["aiproxy"] = str(now() * 1000)
            if path == "/v1/messages":
                whole["type"] = "error"
            return web.json_response(whole, status=error.status)

    def authorized(self, request):
        header = request.headers.get("Authorization") or request.query.get("key", "")
        return bool(self.admin_key) and key_of(header) == self.admin_key

    def nowhere(self, request, path):
        """gin's redirect to the form with, or without, a trailing slash; else 404, before any key is looked at."""
        other = path[:-1] if path.endswith("/") else path + "/"
        if len(path) > 1 and self.route(request.method, other)[0]:
            if request.method == "GET":
                return web.Response(status=301, text='<a href="%s">Moved Permanently</a>.\n\n' % other, content_type="text/html",
                                    headers={"Location": other})
            return web.Response(status=307, headers={"Location": other})
        if path.startswith(("/api/", "/v1/")) or request.method not in ("GET", "HEAD"):  # the web pages are only there to be read
            return web.Response(status=404, text="404 page not found\n")
        return web.Response(status=404, content_type="text/html", text='<!doctype html>\n<meta name="viewport" content="width=device-width">'
                            '\n<pre>\n<a href=".gitkeep">.gitkeep</a>\n</pre>\n')


def main():
    host, _colon, port = os.environ.get("LISTEN", "0.0.0.0:3000").rpartition(":")
    server = AIProxy(os.environ, os.environ.get("LAB_STATE", "."))
    if not server.admin_key:
        sys.exit("ADMIN_KEY is not set")
    app = web.Application(client_max_size=64 * 2**20)
    app.cleanup_ctx.append(server.keep_live)
    app.router.add_route("*", "/{path:.*}", server.answer)
    web.run_app(app, host=host or "0.0.0.0", port=int(port), access_log=None, print=None)


if __name__ == "__main__":
    main()
