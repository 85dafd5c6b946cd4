#!/usr/bin/env python3
# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for one-api 0.6: its management API as far as the collection uses it, and a relay that really calls Ollama.

Environment, as the real server reads it: PORT, INITIAL_ROOT_TOKEN, INITIAL_ROOT_ACCESS_TOKEN, SESSION_SECRET, TIKTOKEN_CACHE_DIR,
GLOBAL_API_RATE_LIMIT, MEMORY_CACHE_ENABLED, SYNC_FREQUENCY. SQL_DSN=postgres://... is not connected to, but the answers that
PostgreSQL changes are then given so. The state is one JSON file, one-api.json in the working directory. LAB_LISTEN (0.0.0.0)
is the address, for which the real server has no setting.
tests/contract/test_one_api.py holds it to what a real server answered; faults are switched on at /_lab/faults.
"""

import asyncio
import base64
import collections
import contextlib
import copy
import hashlib
import hmac
import json
import os
import pathlib
import random
import re
import secrets
import socket
import string
import sys
import time
import urllib.parse

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, web

VERSION = os.environ.get("ONE_API_LAB_VERSION", "v0.0.0")
ENABLED, DISABLED, AUTO_DISABLED = 1, 2, 3
EXPIRED, EXHAUSTED = 3, 4
COMMON, ADMIN, ROOT = 1, 10, 100
PLENTY = 500000000000000
OLLAMA, OPENAI_COMPATIBLE = 30, 50
LIMITS = {"api": (480, 180), "critical": (20, 1200)}
# Names of files: SHA-1 of the addresses they come from.
TOKENIZERS = ("9b5ad71b2ce5302211f9c61530b329a4922fc6a4", "fb374d419588a4632f3f557e76b4b70aebbca790")
TEST_PROMPT = "Output only your specific model name with no additional text."

NO_LOGIN = "无权进行此操作，未登录且未提供 access token"
BAD_ACCESS_TOKEN = "无权进行此操作，access token 无效"
NO_RIGHT = "无权进行此操作，权限不足"
BAD_LOGIN = "用户名或密码错误，或用户已被封禁"
NOT_FOUND = "record not found"
NO_ID = "WHERE conditions required"

# JSON kind and zero value; None is a pointer's: what a PUT does not hold, or holds as null, it leaves alone.
CHANNEL_FIELDS = {
    "id": ("number", 0), "type": ("number", 0), "key": ("string", ""), "status": ("number", 0), "name": ("string", ""),
    "weight": ("number", None), "created_time": ("number", 0), "test_time": ("number", 0), "response_time": ("number", 0),
    "base_url": ("string", None), "other": ("string", None), "balance": ("number", 0), "balance_updated_time": ("number", 0),
    "models": ("string", ""), "group": ("string", ""), "used_quota": ("number", 0), "model_mapping": ("string", None),
    "priority": ("number", None), "config": ("string", ""), "system_prompt": ("string", None)}
CHANNEL_DEFAULTS = {"status": ENABLED, "group": "default", "weight": 0, "base_url": "", "model_mapping": "", "priority": 0}
TOKEN_FIELDS = {
    "id": ("number", 0), "name": ("string", ""), "status": ("number", 0), "expired_time": ("number", 0), "remain_quota": ("number", 0),
    "unlimited_quota": ("bool", False), "models": ("string", None), "subnet": ("string", None)}
USER = {"id": 0, "username": "", "password": "", "display_name": "", "role": 0, "status": 0, "email": "", "github_id": "", "wechat_id": "",
        "lark_id": "", "oidc_id": "", "verification_code": "", "access_token": "", "quota": 0, "used_quota": 0, "request_count": 0,
        "group": "", "aff_code": "", "inviter_id": 0}
OPTIONS = {"RegisterEnabled": "true", "PasswordLoginEnabled": "true", "RetryTimes": "0", "AutomaticDisableChannelEnabled": "false",
           "QuotaForNewUser": "0", "SystemName": "One API"}
STATUS = {"chat_link": "", "display_in_currency": True, "email_verification": False, "footer_html": "", "github_client_id": "",
          "github_oauth": False, "lark_client_id": "", "logo": "", "oidc": False, "oidc_authorization_endpoint": "", "oidc_client_id": "",
          "oidc_token_endpoint": "", "oidc_userinfo_endpoint": "", "oidc_well_known": "", "quota_per_unit": 500000,
          "server_address": "http://localhost:3000", "system_name": "One API", "top_up_link": "", "turnstile_check": False,
          "turnstile_site_key": "", "version": VERSION, "wechat_login": False, "wechat_qrcode": ""}
GO_KINDS = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}


class Problem(Exception):
    """An error of the management API: HTTP 200 with success false, but for the few that have a status."""

    def __init__(self, message, status=200):
        super().__init__(message)
        self.message, self.status = message, status


class RelayError(Exception):
    """An error of the relay. `error`: its JSON, the message still without the id of the request."""

    def __init__(self, status, message, **more):
        super().__init__(message)
        self.status, self.error = status, dict({"message": message, "type": "one_api_error"}, **more)


class Limited(Exception):
    """Too many requests: 429 without a body."""


def now():
    return int(time.time())


def ok(*data):
    return web.json_response(dict({"message": "", "success": True}, **({"data": data[0]} if data else {})))


def letters(count):
    return "".join(random.SystemRandom().choice(string.ascii_letters + string.digits) for _each in range(count))


async def body_of(request, fields, struct):
    """The request's JSON reduced to a Go struct's fields, or the words of Go's decoder about what is wrong with it."""
    raw = await request.read()
    try:
        value = json.loads(raw)
    except ValueError:
        raise Problem("EOF" if not raw.strip() else "unexpected EOF") from None
    found = {}
    for name, (kind, zero) in fields.items():
        given = value.get(name)
        if given is not None and GO_KINDS[type(given)] != kind:
            raise Problem("json: cannot unmarshal %s into Go struct field %s.%s of type %s" % (
                GO_KINDS[type(given)], struct, name, {"number": "int"}.get(kind, kind)))
        found[name] = zero if given is None else given
    return found


async def plain_body(request):
    try:
        value = json.loads(await request.read())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Problem("invalid parameter")
    return value


def number(text):
    if not re.fullmatch(r"[+-]?\d+", text):
        raise Problem('strconv.Atoi: parsing "%s": invalid syntax' % text)
    return int(text)


def page_of(request, rows):
    page = request.query.get("p", "0")
    start = max(int(page) if page.isdigit() else 0, 0) * 10
    return sorted(rows, key=lambda row: -row["id"])[start:start + 10]


class OneAPI:
    """The server: stored rows, and the calls."""

    def __init__(self, environ, directory):
        self.postgres = environ.get("SQL_DSN", "").startswith("postgres")
        self.cached = environ.get("MEMORY_CACHE_ENABLED", "").lower() == "true"
        self.sync_seconds = int(environ.get("SYNC_FREQUENCY") or 600)
        self.session_secret = (environ.get("SESSION_SECRET") or secrets.token_hex(16)).encode()
        self.limits = dict(LIMITS, api=(int(environ.get("GLOBAL_API_RATE_LIMIT") or LIMITS["api"][0]), LIMITS["api"][1]))
        self.asked = {kind: collections.defaultdict(collections.deque) for kind in LIMITS}
        self.file = pathlib.Path(directory) / "one-api.json"
        self.rows = {"users": [], "tokens": [], "channels": [], "abilities": [], "options": dict(OPTIONS), "sequences": {}}
        self.started, self.faults, self.testing = now(), [], False
        if self.file.exists():
            self.rows.update(json.loads(self.file.read_text("utf-8")))
        else:
            self.first_start(environ.get("INITIAL_ROOT_ACCESS_TOKEN") or secrets.token_hex(16), environ.get("INITIAL_ROOT_TOKEN", ""))
        self.live = []
        self.rebuild()

    def first_start(self, access_token, token):
        """root with its well-known password, once and for all: later values of both variables are not looked at."""
        fits = not self.postgres or len(access_token) <= 32
        if fits:  # else only the log says so
            self.add_user("root", "123456", "Root User", role=ROOT, access_token=access_token, quota=PLENTY)
        if token:
            self.rows["tokens"].append(self.token_row(1 if fits else 0, name="Initial Root Token", id=1, unlimited_quota=True,
                                                      remain_quota=PLENTY, key=token.ljust(48) if self.postgres else token))
        self.save()

    def save(self):
        written = self.file.with_suffix(".new")
        written.write_text(json.dumps(self.rows, ensure_ascii=False), "utf-8")
        written.chmod(0o600)
        os.replace(written, self.file)

    def next_id(self, table):
        """SQLite takes the highest id and one more, so that of a deleted row comes again; a sequence of PostgreSQL only counts."""
        if not self.postgres:
            return max([row["id"] for row in self.rows[table]], default=0) + 1
        self.rows["sequences"][table] = self.rows["sequences"].get(table, 0) + 1
        return self.rows["sequences"][table]

    def duplicate(self, column, index):
        return Problem('ERROR: duplicate key value violates unique constraint "%s" (SQLSTATE 23505)' % index if self.postgres
                       else "UNIQUE constraint failed: " + column)

    def option(self, name):
        return self.rows["options"].get(name, "")

    # -- the cache of channels ---------------------------------------------------------------------------------------

    def rebuild(self):
        self.live = copy.deepcopy([row for row in self.rows["channels"] if row["status"] == ENABLED])

    async def keep_live(self, _app):
        async def poll():
            while True:
                await asyncio.sleep(self.sync_seconds)
                self.rebuild()
        task = asyncio.create_task(poll())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    # -- users and who is asking -----------------------------------------------------------------------------------------

    def add_user(self, name, password, display_name, role=COMMON, access_token=None, quota=None):
        if any(user["username"] == name for user in self.rows["users"]):
            raise self.duplicate("users.username", "uni_users_username")
        user = dict(USER, id=self.next_id("users"), username=name, password=hashlib.sha256(password.encode()).hexdigest(),
                    display_name=display_name, role=role, status=ENABLED, group="default", aff_code="" if role == ROOT else letters(4),
                    access_token=access_token or secrets.token_hex(16), quota=int(self.option("QuotaForNewUser") if quota is None else quota))
        self.rows["users"].append(user)
        return user

    def user(self, id):
        return next((user for user in self.rows["users"] if user["id"] == id), None)

    def signed(self, data):
        text = base64.urlsafe_b64encode(json.dumps(data).encode()).decode()
        return text + "." + hmac.new(self.session_secret, text.encode(), "sha256").hexdigest()

    def session(self, request):
        """What the cookie holds: it is kept by the browser alone, so nobody can end it."""
        text, _dot, seal = request.cookies.get("session", "").rpartition(".")
        if not hmac.compare_digest(seal, hmac.new(self.session_secret, text.encode(), "sha256").hexdigest()):
            return {}
        return json.loads(base64.urlsafe_b64decode(text))

    def with_session(self, response, data):
        ends = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now() + 2592000))
        response.headers["Set-Cookie"] = "session=%s; Path=/; Expires=%s; Max-Age=2592000" % (self.signed(data), ends)
        return response

    def asking(self, request, role):
        """The user whose request this is: by the cookie, and only without one by the access token."""
        session = self.session(request)
        if "id" in session:
            user = session
        else:
            token = request.headers.get("Authorization", "")
            if not token:
                raise Problem(NO_LOGIN, 401)
            token = token.replace("Bearer ", "", 1)
            user = next((user for user in self.rows["users"] if user["access_token"] == token), None)
            if user is None:
                raise Problem(BAD_ACCESS_TOKEN)
        if user["role"] < role:
            raise Problem(NO_RIGHT)
        return user

    async def status(self, _request):
        return ok(dict(STATUS, start_time=self.started))

    async def login(self, request):
        given = await plain_body(request)
        name, password = given.get("username"), given.get("password")
        if not name or not password:
            raise Problem("invalid parameter")
        sealed = hashlib.sha256(password.encode()).hexdigest()
        user = next((user for user in self.rows["users"] if user["username"] == name and user["password"] == sealed), None)
        if user is None:
            raise Problem(BAD_LOGIN)
        seen = {field: user[field] for field in ("id", "username", "display_name", "role", "status")}
        return self.with_session(ok(dict(USER, **seen)), seen)

    async def logout(self, _request):
        return self.with_session(ok(), {})

    async def register(self, request):
        if self.option("RegisterEnabled") != "true":
            raise Problem("管理员关闭了新用户注册")
        given = await plain_body(request)
        return self.signed_up(given.get("username"), given.get("password"), given.get("username"))

    def signed_up(self, name, password, display_name):
        user = self.add_user(name, password, display_name)
        self.rows["tokens"].append(self.token_row(user["id"], name="default", id=self.next_id("tokens"), unlimited_quota=True, remain_quota=-1))
        self.save()
        return ok()

    async def self_get(self, request):
        return ok(dict(self.user(self.asking(request, COMMON)["id"]), password="", access_token=""))

    async def self_put(self, request):
        user, given = self.user(self.asking(request, COMMON)["id"]), await plain_body(request)
        password = given.get("password") or ""
        if password and not 8 <= len(password) <= 20:
            raise Problem("输入不合法 Key: 'User.Password' Error:Field validation for 'Password' failed on the '%s' tag" % (
                "min" if len(password) < 8 else "max"))
        if password:
            user["password"] = hashlib.sha256(password.encode()).hexdigest()
        user["username"] = given.get("username") or user["username"]
        user["display_name"] = given.get("display_name") or user["display_name"]
        self.save()
        return ok()

    async def access_token(self, request):
        user = self.user(self.asking(request, COMMON)["id"])
        user["access_token"] = secrets.token_hex(16)
        self.save()
        return ok(user["access_token"])

    async def available_models(self, request):
        return ok(self.models_of(self.user(self.asking(request, COMMON)["id"])))

    async def users_list(self, request):
        self.asking(request, ADMIN)
        return ok([dict(user, password="") for user in page_of(request, self.rows["users"])])

    async def users_search(self, request):
        self.asking(request, ADMIN)
        return ok([dict(user, password="") for user in self.rows["users"] if user["username"].startswith(request.query.get("keyword", ""))])

    async def users_add(self, request):
        self.asking(request, ADMIN)
        given = await plain_body(request)
        return self.signed_up(given["username"], given["password"], given.get("display_name") or given["username"])

    async def users_manage(self, request):
        self.asking(request, ADMIN)
        given = await plain_body(request)
        user = next(user for user in self.rows["users"] if user["username"] == given["username"])
        user["role"] = {"promote": ADMIN, "demote": COMMON}[given["action"]]
        self.save()
        return ok(dict(USER, role=user["role"], status=user["status"]))

    async def groups(self, request):
        self.asking(request, ADMIN)
        return ok(["default", "vip", "svip"])

    async def options_list(self, request):
        self.asking(request, ROOT)
        return ok([{"key": name, "value": value} for name, value in self.rows["options"].items()])

    async def options_put(self, request):
        self.asking(request, ROOT)
        given = await plain_body(request)
        if not isinstance(given.get("value"), str):
            raise Problem("invalid parameter", 400)
        self.rows["options"][given["key"]] = given["value"]
        self.save()
        return ok()

    # -- channels ----------------------------------------------------------------------------------------------------

    def channel(self, id):
        return next((row for row in self.rows["channels"] if row["id"] == id), None)

    def found_channel(self, text):
        row = self.channel(number(text))
        if row is None:
            raise Problem(NOT_FOUND)
        return row

    async def channels_list(self, request):
        self.asking(request, ADMIN)
        return ok([dict(row, key="") for row in page_of(request, self.rows["channels"])])

    async def channels_search(self, request):
        self.asking(request, ADMIN)
        keyword = request.query.get("keyword", "")
        like = re.compile(re.escape(keyword).replace("%", ".*").replace("_", "."), 0 if self.postgres else re.IGNORECASE)
        id = int(keyword) if keyword.isdigit() else 0
        return ok([dict(row, key="") for row in sorted(self.rows["channels"], key=lambda row: row["id"])
                   if row["id"] == id or like.match(row["name"])])

    async def channel_get(self, request, id):
        self.asking(request, ADMIN)
        return ok(dict(self.found_channel(id), key=""))

    async def channel_add(self, request):
        self.asking(request, ADMIN)
        given = await body_of(request, CHANNEL_FIELDS, "Channel")
        rows = [dict(given, key=key) for key in given["key"].split("\n") if key]
        if not rows:
            raise Problem("empty slice found")
        for row in rows:
            for size, name in ((32, "group"), (1024, "model_mapping")):
                if self.postgres and len(row[name] or "") > size:
                    raise Problem("ERROR: value too long for type character varying(%d) (SQLSTATE 22001)" % size)
            if row["id"] and self.channel(row["id"]):
                raise self.duplicate("channels.id", "channels_pkey")
            row.update({name: value for name, value in CHANNEL_DEFAULTS.items() if not row[name]}, created_time=now())
            row["id"] = row["id"] or self.next_id("channels")
            self.rows["channels"].append(row)
        self.save()  # not one transaction: the rows stay where their abilities cannot be made
        for row in rows:
            self.add_abilities(row)
        self.save()
        return ok()

    def add_abilities(self, row):
        groups = row["group"].split(",")
        if len(set(groups)) < len(groups):
            raise self.duplicate("abilities.group, abilities.model, abilities.channel_id", "abilities_pkey")
        self.rows["abilities"] += [{"group": group, "model": model, "channel": row["id"], "enabled": row["status"] == ENABLED,
                                    "priority": row["priority"]} for model in dict.fromkeys(row["models"].split(",")) for group in groups]

    def drop_abilities(self, id):
        self.rows["abilities"] = [ability for ability in self.rows["abilities"] if ability["channel"] != id]

    async def channel_put(self, request):
        self.asking(request, ADMIN)
        given = await body_of(request, CHANNEL_FIELDS, "Channel")
        if not given["id"]:
            raise Problem(NO_ID)
        row = self.channel(given["id"])
        if row is None:
            row = given  # no row is made, but abilities are
        else:
            row.update({name: value for name, value in given.items() if value or (value is not None and CHANNEL_FIELDS[name][1] is None)})
        self.drop_abilities(row["id"])
        self.add_abilities(row)
        self.save()
        return ok(row)

    async def channel_delete(self, request, id):
        self.asking(request, ADMIN)
        id = int(id) if id.isdigit() else 0
        if not id:
            raise Problem(NO_ID)
        self.rows["channels"] = [row for row in self.rows["channels"] if row["id"] != id]
        self.drop_abilities(id)
        self.save()
        return ok()

    async def channels_delete_disabled(self, request):
        self.asking(request, ADMIN)
        before = len(self.rows["channels"])
        self.rows["channels"] = [row for row in self.rows["channels"] if row["status"] not in (DISABLED, AUTO_DISABLED)]
        self.save()
        return ok(before - len(self.rows["channels"]))

    async def channel_balance(self, request, id):
        self.asking(request, ADMIN)
        self.found_channel(id)
        raise Problem("尚未实现")

    def set_status(self, id, status):
        self.channel(id)["status"] = status
        for ability in self.rows["abilities"]:
            if ability["channel"] == id:
                ability["enabled"] = status == ENABLED
        self.save()

    # -- tests of channels: always a chat, HTTP 200 whatever happens -------------------------------------------------------

    async def channel_test(self, request, id):
        self.asking(request, ADMIN)
        row, model, began = self.found_channel(id), request.query.get("model", ""), time.time()
        said = {"modelName": model, "success": True, "time": 0}
        try:
            said["message"] = await self.tested(row, model)
            said["time"] = round(time.time() - began, 3)
        except RelayError as error:
            said.update(success=False, message=self.test_words(error))
        return web.json_response(said)

    async def tested(self, row, model):
        tested = model if model and model in row["models"] else row["models"].split(",")[0]  # a part of the text is enough
        row.update(test_time=now())
        self.save()
        asked = {"model": tested, "messages": [{"role": "user", "content": TEST_PROMPT}]}
        return (await self.ask(row, "/v1/chat/completions", asked))["choices"][0]["message"]["content"]

    @staticmethod
    def test_words(error):
        if "code" in error.error and error.error["code"] in ("do_request_failed", "unmarshal_response_body_failed"):
            return error.error["message"]
        words = error.error["message"]
        return "http status code: %d%s" % (error.status, ", error message: " + words if words else "")

    async def channels_test(self, request):
        self.asking(request, ADMIN)
        if self.testing:
            raise Problem("测试已在运行中")
        self.testing = True

        async def run():
            for row in [row for row in self.rows["channels"] if request.query.get("scope") != "disabled" or row["status"] != ENABLED]:
                with contextlib.suppress(RelayError):
                    await self.tested(row, "")
                await asyncio.sleep(0.3)
            self.testing = False
        asyncio.create_task(run())
        return ok()

    # -- client tokens -------------------------------------------------------------------------------------------------

    @staticmethod
    def token_row(user, **more):
        return dict({"user_id": user, "key": letters(48), "status": ENABLED, "created_time": now(), "accessed_time": now(),
                     "expired_time": -1, "remain_quota": 0, "unlimited_quota": False, "used_quota": 0, "models": None, "subnet": ""}, **more)

    def my_tokens(self, request):
        id = self.asking(request, COMMON)["id"]
        return [row for row in self.rows["tokens"] if row["user_id"] == id]

    def my_token(self, request, id):
        row = next((row for row in self.my_tokens(request) if row["id"] == id), None)
        if row is None:
            raise Problem(NOT_FOUND)
        return row

    @staticmethod
    def checked(given):
        if len(given["name"].encode()) > 30:
            raise Problem("参数错误：令牌名称过长")
        if given["subnet"] and "/" not in given["subnet"]:
            raise Problem("参数错误：无效的网段：failed to parse subnet: invalid CIDR address: " + given["subnet"])
        return given

    async def tokens_list(self, request):
        return ok(page_of(request, self.my_tokens(request)))

    async def tokens_search(self, request):
        return ok([row for row in self.my_tokens(request) if row["name"].startswith(request.query.get("keyword", ""))])

    async def token_get(self, request, id):
        return ok(self.my_token(request, number(id)))

    async def token_add(self, request):
        user = self.asking(request, COMMON)
        given = self.checked(await body_of(request, TOKEN_FIELDS, "Token"))
        id = self.next_id("tokens")
        if any(row["id"] == id for row in self.rows["tokens"]):
            self.save()  # the sequence has counted
            raise self.duplicate("tokens.id", "tokens_pkey")
        row = self.token_row(user["id"], id=id, name=given["name"], expired_time=given["expired_time"] or -1, models=given["models"],
                             remain_quota=given["remain_quota"], unlimited_quota=given["unlimited_quota"], subnet=given["subnet"] or "")
        self.rows["tokens"].append(row)
        self.save()
        return ok(row)

    async def token_put(self, request):
        given = self.checked(await body_of(request, TOKEN_FIELDS, "Token"))
        row = self.my_token(request, given["id"])
        if request.query.get("status_only"):
            if given["status"] == ENABLED and row["status"] == EXPIRED and -1 != row["expired_time"] <= now():
                raise Problem("令牌已过期，无法启用，请先修改令牌过期时间，或者设置为永不过期")
            if given["status"] == ENABLED and row["status"] == EXHAUSTED and row["remain_quota"] <= 0 and not row["unlimited_quota"]:
                raise Problem("令牌可用额度已用尽，无法启用，请先修改令牌剩余额度，或者设置为无限额度")
            row["status"] = given["status"]
        else:
            row.update({name: given[name] for name in ("name", "expired_time", "remain_quota", "unlimited_quota", "models", "subnet")})
        self.save()
        return ok(row)

    async def token_delete(self, request, id):
        self.rows["tokens"].remove(self.my_token(request, int(id)))
        self.save()
        return ok()

    # -- relay ---------------------------------------------------------------------------------------------------------

    def models_of(self, user):
        return sorted({ability["model"] for ability in self.rows["abilities"] if ability["enabled"] and ability["group"] == user["group"]})

    def shown_key(self, request):
        """(token, number of a pinned channel or None) by the key of a request: all behind a dash is a channel's number."""
        key, _dash, pin = re.sub("^sk-", "", re.sub("^Bearer ", "", request.headers.get("Authorization", ""))).partition("-")
        if not key:
            raise RelayError(401, "未提供令牌")
        token = next((row for row in self.rows["tokens"] if row["key"].rstrip() == key), None)
        if token is None:
            raise RelayError(401, "无效的令牌")
        if token["status"] == EXHAUSTED:
            raise RelayError(401, "令牌 %s（#%d）额度已用尽" % (token["name"], token["id"]))
        if token["status"] == DISABLED:
            raise RelayError(401, "该令牌状态不可用")
        if token["status"] == EXPIRED or -1 != token["expired_time"] < now():
            self.end_token(token, EXPIRED, "该令牌已过期")
        if not token["unlimited_quota"] and token["remain_quota"] <= 0:
            self.end_token(token, EXHAUSTED, "该令牌额度已用尽")
        if not token["user_id"]:
            raise RelayError(500, "user id is empty")
        return token, pin or None

    def end_token(self, token, status, words):
        token["status"] = status
        self.save()
        raise RelayError(401, words)

    async def relay_models(self, request):
        token, _pin = self.shown_key(request)
        names = token["models"].split(",") if token["models"] else self.models_of(self.user(token["user_id"]))
        return web.json_response({"data": [{"id": name, "object": "model", "created": 1626777600, "owned_by": "custom", "permission": None,
                                            "root": name, "parent": None} for name in names], "object": "list"})

    async def relay_model(self, request, name):
        self.shown_key(request)
        return web.json_response({"error": {"message": "The model '%s' does not exist" % name, "type": "invalid_request_error",
                                            "param": "model", "code": "model_not_found"}})

    async def relay(self, request):
        token, pin = self.shown_key(request)
        try:
            asked = json.loads(await request.read())
        except ValueError:
            raise RelayError(400, "common.UnmarshalBodyReusable failed: unexpected end of JSON input") from None
        model, user = asked.get("model") or "", self.user(token["user_id"])
        if token["models"] and model not in token["models"].split(","):
            raise RelayError(403, "该令牌无权使用模型：" + model)
        if pin is not None and user["role"] < ADMIN:
            raise RelayError(403, "普通用户不支持指定渠道")
        row = self.choose(user["group"], model) if pin is None else self.pinned(pin)
        if request.path == "/v1/chat/completions" and not asked.get("messages"):
            raise RelayError(400, "field messages is required", param="", code="invalid_text_request")
        if user["quota"] <= 0:
            raise RelayError(403, "user quota is not enough", param="", code="insufficient_user_quota")
        left, last = 0 if pin is not None else int(self.option("RetryTimes")), None
        while True:
            try:
                if row["id"] != last:
                    return await self.relayed(request, row, asked)
            except RelayError as error:
                self.after_failure(row, error)
                failure, last = error, row["id"]
                if error.status == 400:
                    raise
            if left <= 0:
                if failure.status == 429:
                    failure.error["message"] = "当前分组上游负载已饱和，请稍后再试"
                raise failure
            row = self.choose(user["group"], model, later=left < int(self.option("RetryTimes")))
            left -= 1

    def pinned(self, pin):
        row = self.channel(int(pin)) if pin.isdigit() else None
        if row is None:
            raise RelayError(400, "无效的渠道 Id")
        if row["status"] != ENABLED:
            raise RelayError(403, "该渠道已被禁用")
        return row

    def choose(self, group, model, later=False):
        """One of the channels with the highest priority; of all that serve the model where a retry comes later."""
        if self.cached:
            found = [row for row in self.live if group in row["group"].split(",") and model in row["models"].split(",")]
        else:
            found = [ability for ability in self.rows["abilities"]
                     if ability["enabled"] and ability["group"] == group and ability["model"] == model]
        if not later:
            best = max((one["priority"] or 0 for one in found), default=0)
            found = [one for one in found if (one["priority"] or 0) == best]
        if not found:
            raise RelayError(503, "当前分组 %s 下对于模型 %s 无可用渠道" % (group, model))
        one = random.choice(found)
        row = one if self.cached else self.channel(one["channel"])
        if row is None:
            raise RelayError(503, "数据库一致性已被破坏，请联系管理员")
        return row

    def after_failure(self, row, error):
        if error.status == 401 and self.option("AutomaticDisableChannelEnabled") == "true":
            self.set_status(row["id"], AUTO_DISABLED)

    async def relayed(self, request, row, asked):
        if asked.get("stream") and request.path != "/v1/embeddings":
            return await self.stream(request, row, asked)
        got = await self.ask(row, request.path, asked)
        return web.Response(body=json.dumps(got).encode(), headers={"Content-Type": "application/json"})

    @staticmethod
    def upstream(row, path, asked):
        """(url, body) of the request to the channel's server. Addresses are only put together: every slash counts."""
        mapping = row["model_mapping"]
        try:
            actual = json.loads(mapping or "{}").get(asked["model"], asked["model"])
        except ValueError:
            actual = asked["model"]
        base = row["base_url"] or ""
        if row["type"] != OLLAMA:
            rest = path[len("/v1"):] if row["type"] == OPENAI_COMPATIBLE else path
            return (base or "https://api.openai.com").rstrip("/") + rest, dict(asked, model=actual)
        url = (base or "http://localhost:11434") + ("/api/embed" if path == "/v1/embeddings" else "/api/chat")
        options = {name: asked[name] for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "num_ctx") if asked.get(name)}
        if path == "/v1/embeddings":
            text = asked.get("input", "")
            return url, {"model": actual, "input": [text] if isinstance(text, str) else text, "options": options}
        if asked.get("max_tokens"):
            options["num_predict"] = asked["max_tokens"]
        return url, {"model": actual, "messages": asked.get("messages"), "stream": bool(asked.get("stream")), "options": options}

    @contextlib.asynccontextmanager
    async def call(self, row, path, asked):
        """The open answer of a channel's server; what went wrong as RelayError in the real server's words."""
        url, body = self.upstream(row, path, asked)
        parts = urllib.parse.urlsplit(url)
        failed = {"param": "", "code": "do_request_failed"}
        if "://" not in url:
            raise RelayError(500, 'new request failed: parse "%s": first path segment in URL cannot contain colon' % url, **failed)
        try:
            async with ClientSession(timeout=ClientTimeout(total=None)) as session, session.post(
                    url, json=body, headers={"Authorization": "Bearer " + row["key"]}, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise await self.upstream_error(answer)
                yield answer
        except ClientConnectorError as problem:
            if isinstance(problem.os_error, socket.gaierror):
                text = "dial tcp: lookup %s on 127.0.0.11:53: no such host" % parts.hostname
            else:
                text = "dial tcp %s:%s: connect: %s" % (parts.hostname, parts.port or 80, os.strerror(problem.os_error.errno).lower())
            raise RelayError(500, 'do request failed: Post "%s": %s' % (url, text), **failed) from None
        except ClientError as problem:
            raise RelayError(500, 'do request failed: Post "%s": %s' % (url, problem), **failed) from None

    @staticmethod
    async def upstream_error(answer):
        """Only OpenAI's form of an error is understood: the text that Ollama gives is lost."""
        said = {"message": "", "type": "upstream_error", "param": str(answer.status), "code": "bad_response_status_code"}
        with contextlib.suppress(ValueError, AttributeError):
            error = json.loads(await answer.text()).get("error")
            if isinstance(error, dict) and error.get("message"):
                said = {"message": error["message"], "type": error.get("type", ""), "param": error.get("param", ""), "code": error.get("code")}
        return RelayError(answer.status, said.pop("message"), **said)

    async def ask(self, row, path, asked):
        """A whole answer in OpenAI's form. It names the model as the channel's server does."""
        async with self.call(row, path, asked) as answer:
            text = await answer.text()
        try:
            got = json.loads(text)
        except ValueError:
            raise RelayError(500, "invalid character '%s' looking for beginning of value" % text[:1], param="",
                             code="unmarshal_response_body_failed") from None
        if row["type"] != OLLAMA:
            return got
        if path == "/v1/embeddings":
            return {"object": "list", "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(got["embeddings"])],
                    "model": got["model"], "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}
        prompt, said = got.get("prompt_eval_count", 0), got.get("eval_count", 0)
        message = {"role": got["message"]["role"], "content": got["message"]["content"]}
        return {"id": "chatcmpl-" + secrets.token_hex(16), "model": got["model"], "object": "chat.completion", "created": now(),
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}}

    async def stream(self, request, row, asked):
        async with self.call(row, request.path, asked) as answer:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            async for line in answer.content:
                if row["type"] != OLLAMA:
                    await response.write(line)
                elif line.strip():
                    got = json.loads(line)
                    choice = dict({"index": 0, "delta": {name: got["message"][name] for name in ("role", "content")}},
                                  **({"finish_reason": "stop"} if got.get("done") else {}))
                    chunk = {"id": "chatcmpl-" + secrets.token_hex(16), "object": "chat.completion.chunk", "created": now(),
                             "model": got["model"], "choices": [choice]}
                    await response.write(b"data: %s\n\n" % json.dumps(chunk).encode())
            if row["type"] == OLLAMA:
                await response.write(b"data: [DONE]\n\n")
            return response

    # -- dispatch --------------------------------------------------------------------------------------------------------

    async def lab_faults(self, request):
        """PUT a list of {path: prefix, status, body, delay (seconds), times}: such answers come instead, so often."""
        self.faults = await request.json()
        return web.json_response(self.faults)

    ROUTES = [(method, re.compile(pattern), name) for method, pattern, name in (
        ("GET", "/api/status", "status"), ("PUT", "/_lab/faults", "lab_faults"),
        ("POST", "/api/user/login", "login"), ("GET", "/api/user/logout", "logout"), ("POST", "/api/user/register", "register"),
        ("GET", "/api/user/self", "self_get"), ("PUT", "/api/user/self", "self_put"), ("GET", "/api/user/token", "access_token"),
        ("GET", "/api/user/available_models", "available_models"), ("GET", "/api/user/", "users_list"),
        ("GET", "/api/user/search", "users_search"), ("POST", "/api/user/", "users_add"), ("POST", "/api/user/manage", "users_manage"),
        ("GET", "/api/group/", "groups"), ("GET", "/api/option/", "options_list"), ("PUT", "/api/option/", "options_put"),
        ("GET", "/api/channel/", "channels_list"), ("GET", "/api/channel/search", "channels_search"),
        ("GET", "/api/channel/test", "channels_test"), ("GET", "/api/channel/([^/]+)", "channel_get"),
        ("GET", "/api/channel/test/([^/]+)", "channel_test"), ("GET", "/api/channel/update_balance/([^/]+)", "channel_balance"),
        ("POST", "/api/channel/", "channel_add"), ("PUT", "/api/channel/", "channel_put"),
        ("DELETE", "/api/channel/disabled", "channels_delete_disabled"), ("DELETE", "/api/channel/([^/]+)", "channel_delete"),
        ("GET", "/api/token/", "tokens_list"), ("GET", "/api/token/search", "tokens_search"), ("GET", "/api/token/([^/]+)", "token_get"),
        ("POST", "/api/token/", "token_add"), ("PUT", "/api/token/", "token_put"), ("DELETE", "/api/token/([^/]+)", "token_delete"),
        ("GET", "/v1/models", "relay_models"), ("GET", "/v1/models/([^/]+)", "relay_model"),
        *(("POST", path, "relay") for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")))]

    @classmethod
    def route(cls, method, path):
        for its, pattern, name in cls.ROUTES:
            match = pattern.fullmatch(path)
            if its == method and match:
                return name, match.groups()
        return None, ()

    def count(self, kind, address):
        most, seconds = self.limits[kind]
        times = self.asked[kind][address]
        if most and len(times) >= most:
            if time.time() - times[0] < seconds:
                raise Limited
            times.popleft()
        times.append(time.time())

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
            if path.startswith("/api/"):
                self.count("api", request.remote)
            if name in ("login", "register"):
                self.count("critical", request.remote)
            return await getattr(self, name)(request, *groups)
        except Limited:
            response = web.Response(status=429)
            response.headers["Content-Length"] = "0"
            return response
        except Problem as problem:
            return web.json_response({"message": problem.message, "success": False}, status=problem.status)
        except RelayError as error:
            request_id = "%s%d" % (time.strftime("%Y%m%d%H%M%S"), random.randrange(10**12))
            said = dict(error.error, message="%s (request id: %s)" % (error.error["message"], request_id))
            return web.json_response({"error": said}, status=error.status)

    def nowhere(self, request, path):
        """gin's redirect to the form with, or without, a slash at its end; an error for paths of the API; for all else the web page."""
        other = path[:-1] if path.endswith("/") else path + "/"
        if len(path) > 1 and self.route(request.method, other)[0]:
            other += "?" + request.query_string if request.query_string else ""
            if request.method == "GET":
                return web.Response(status=301, text='<a href="%s">Moved Permanently</a>.\n\n' % other, content_type="text/html",
                                    headers={"Location": other})
            return web.Response(status=307, headers={"Location": other})
        if path.startswith(("/api", "/v1")):
            return web.json_response({"error": {"message": "Invalid URL (%s %s)" % (request.method, path), "type": "invalid_request_error",
                                                "param": "", "code": ""}}, status=404)
        return web.Response(text="<html></html>\n", content_type="text/html")


def main():
    server = OneAPI(os.environ, ".")  # the database, and root in it, are made first, also where it then ends
    folder = pathlib.Path(os.environ.get("TIKTOKEN_CACHE_DIR") or "/nowhere")
    for name in TOKENIZERS:
        if not (folder / name).exists():
            sys.exit("[FATAL] failed to get gpt-3.5-turbo token encoder: there is no %s, and no way to the internet" % (folder / name))
    app = web.Application(client_max_size=64 * 2**20)
    app.cleanup_ctx.append(server.keep_live)
    app.router.add_route("*", "/{path:.*}", server.answer)
    web.run_app(app, host=os.environ.get("LAB_LISTEN", "0.0.0.0"), port=int(os.environ.get("PORT") or 3000), access_log=None, print=None)


if __name__ == "__main__":
    main()
