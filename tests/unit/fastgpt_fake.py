# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A FastGPT in memory, for tests without a network: what the client's plans need, in the server's own words."""

from __future__ import annotations

import hashlib
import json
import urllib.parse

from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt import FastGPT
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Answer
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import Secret

HTML = {"content-type": "text/html; charset=utf-8"}
JSON = {"content-type": "application/json; charset=utf-8"}
WRITES = ("PUT", "DELETE", "/create", "/publish", "/update")
FLAGS = {"llm": ("llm", "isDefault"), "embedding": ("embedding", "isDefault"), "datasetTextLLM": ("llm", "isDefaultDatasetTextModel"),
         "datasetImageLLM": ("llm", "isDefaultDatasetImageModel")}


class Memory:
    """Stands for a session file."""

    unsafe = ""

    def __init__(self, token=None):
        self.token = token

    def load(self):
        return self.token

    def save(self, token):
        self.token = token

    def forget(self):
        self.token = None


def _number(text):
    """JavaScript knows one kind of number: what comes as 1.0 is told as 1."""
    return int(float(text)) if float(text).is_integer() else float(text)


class FakeFastGPT:
    """Answers requests as _http.Client does. `asked` lists them; `models` {name: metadata}; `presets` names FastGPT brings itself."""

    base_url = "http://fastgpt.test:3000"
    hop = "FastGPT"

    def __init__(self, models=None, presets=(), password="1234", old_login=False, absent_routes=("/api/admin/",), apps=()):
        self.models = dict(models or {})
        self.presets, self.password, self.old_login, self.absent = set(presets), password, old_login, absent_routes
        self.apps = list(apps)
        self.asked, self.tokens, self.logins, self.code, self.code_errors = [], set(), 0, None, 0

    def fastgpt(self, password="1234", session=None, read_only=False):
        return FastGPT(self, Secret(password, "option root_password"), session or Memory(), read_only)

    @property
    def written(self):
        return [line for line in self.asked if line.startswith(WRITES[:2]) or line.endswith(WRITES[2:])]

    def request(self, method, path, body=None, headers=None, timeout=None):
        plain, dummy, query = path.partition("?")
        query = dict(urllib.parse.parse_qsl(query))
        self.asked.append("%s %s" % (method, plain))
        if plain.startswith(tuple(self.absent)) or (self.old_login and plain.endswith("preLogin")):
            return Answer(404, HTML, b"<!DOCTYPE html><html></html>")
        if plain.endswith("preLogin"):
            self.code = "abc%03d" % len(self.asked)
            return said({"code": self.code})
        if plain.endswith("loginByPassword"):
            return self._login(body)
        if plain.endswith("getInitData"):
            return said({"feConfigs": {"show_aiproxy": True}})
        if (headers or {}).get("token") not in self.tokens:
            return failed(403, "common:code_error.error_message.403", "unAuthorization")
        name = plain.rpartition("/core/")[2].replace("/", "_")
        return getattr(self, name)(query, json.loads(json.dumps(body), parse_float=_number) if body is not None else None)

    def _login(self, body):
        self.logins += 1
        if self.logins > 10:
            return failed(429, "Too many request, request 10 times every 120 seconds", status=429)
        if not self.old_login and (body.get("code") != self.code or self.code_errors):
            self.code_errors = max(0, self.code_errors - 1)
            return failed(500, "common:error.code_error")
        if (body["username"], body["password"]) != ("root", hashlib.sha256(self.password.encode()).hexdigest()):
            return failed(503002, "common:code_error.account_error", "account_psw_error")
        token = "token-%d" % self.logins
        self.tokens.add(token)
        return said({"token": token})

    def ai_model_getConfigJson(self, query, body):
        return said(json.dumps([{"model": name, "metadata": metadata} for name, metadata in self.models.items()], indent=2))

    def ai_model_detail(self, query, body):
        name = query["model"]
        if name not in self.models and name not in self.presets:
            return failed(500, "Model not found")
        return said(dict(self.models.get(name, {"model": name}), isCustom=name not in self.presets))

    def ai_model_update(self, query, body):
        metadata = dict(self.models.get(body["model"], {}), **body["metadata"])
        metadata["model"] = body["model"]
        self.models[body["model"]] = {key: value for key, value in metadata.items() if value is not None}
        return said({})

    def ai_model_delete(self, query, body):
        if query["model"] in self.presets:
            return failed(500, "System model cannot be deleted")
        if self.models.pop(query["model"], None) is None:
            return failed(500, "Model not found")
        return said({})

    def ai_model_updateDefault(self, query, body):
        for metadata in self.models.values():
            for dummy, flag in FLAGS.values():
                metadata.pop(flag, None)
        for key, name in body.items():
            if name in self.models:
                self.models[name][FLAGS[key][1]] = True
        return said({})

    def app_list(self, query, body):
        return said([{key: app.get(key) for key in ("_id", "name", "type", "intro")} for app in self.apps])

    def app_version_latest(self, query, body):
        app = self._app(query["appId"])
        return said({"nodes": app["nodes"], "edges": app["edges"], "chatConfig": {"welcomeText": "hello"}})

    def app_create(self, query, body):
        app_id = "%024x" % (len(self.apps) + 1)
        self.apps.append({"_id": app_id, "name": body["name"], "type": body["type"], "intro": body["intro"], "nodes": body["modules"],
                          "edges": body["edges"]})
        return said(app_id)

    def app_version_publish(self, query, body):
        assert body["isPublish"] is True and body["chatConfig"] == {"welcomeText": "hello"}
        self._app(query["appId"]).update(nodes=body["nodes"], edges=body["edges"])
        return said(None)

    def app_update(self, query, body):
        self._app(query["appId"])["intro"] = body["intro"]
        return said({})

    def app_del(self, query, body):
        self.apps.remove(self._app(query["appId"]))
        return said([query["appId"]])

    def _app(self, app_id):
        return next(app for app in self.apps if app["_id"] == app_id)


def said(data):
    return Answer(200, JSON, json.dumps({"code": 200, "statusText": "", "message": "", "data": data}).encode())


def failed(code, message, text="", status=500):
    return Answer(status, JSON, json.dumps({"code": code, "statusText": text, "message": message, "data": None}).encode())
