# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""one-api's management API. Internal to this collection.

Facts about the server: v0.6.11-alpha run and recorded (tests/contract/transcripts/one-api-0.6.jsonl), its source (docs/upstream.md).
Every method raises Unreachable or Refused; no message shows a key. Most of its own messages are Chinese and are never matched.
"""

from __future__ import annotations

import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils._aiproxy import SHORTEST_SECRET, understand
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import HopError, LocalModelsError, Refused, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client

HOP = "one-api"
# Of channels: on, switched off by a person, switched off by one-api itself. Of tokens 3 is expired, and 4 is used up.
ENABLED, DISABLED, AUTO_DISABLED = 1, 2, 3
ADMIN, ROOT = 10, 100  # roles of users
ROOT_NAME, DEFAULT_PASSWORD = "root", "123456"  # what every first start makes
NEVER = -1  # a token's expired_time

# 480 requests in 180 s from one address, the health path counted too; what is refused does not count.
LIMIT_SECONDS, LIMIT_PAUSE = 200, 5
LOGIN_PATH = "/api/user/login"

NO_ONE_API = "Does one-api listen at this address? It answers every path that it does not know with a web page"
WRONG_TOKEN = ("The access token is wrong. It is root's token for management, not a key for chats: role one_api keeps it as "
               "ONE_API_ACCESS_TOKEN in .env of its project folder, and whoever makes a new one in one-api's pages ends the old one")
NO_ADMIN = "Give the access token of root, or of a user that root has made an administrator"
LIMITED = ("It allows 480 requests in 3 minutes from one address, health checks included. Ask it less often, or set "
           "GLOBAL_API_RATE_LIMIT in its environment")
LOGIN_LIMITED = "It allows 20 logins in 20 minutes from one address, the failed ones included. Wait, then run it again"


class OneAPI:
    """One one-api.

    client: _http.Client. read_only: writing requests raise instead, so that check mode cannot write by accident.
    clock, sleep: for waiting when it says that there were too many requests. `requests` lists what was asked.
    """

    def __init__(self, client, read_only=False, clock=time.monotonic, sleep=time.sleep):
        self.client = client
        self.read_only = read_only
        self.requests = []
        self._secrets = set()
        self._clock = clock
        self._sleep = sleep

    # -- the server and its root user

    def status(self):
        """What it tells about itself (dict) without being given a token; raises unless it answers."""
        return self.ask("GET", "/api/status")

    def user(self):
        """The user (dict) whose access token this is. Raises Refused for a wrong one."""
        said = self._try("GET", "/api/user/self")
        if said.message is not None:
            raise self.client.refused(self._answer, self._clean(said.message), WRONG_TOKEN)
        return self._data(said)

    def login(self, password):
        """The session cookie (str) of root, or None where the password (str) is wrong. 20 logins in 20 minutes, no more."""
        self.keep_secret(password)
        said = self._try("POST", LOGIN_PATH, {"username": ROOT_NAME, "password": password})
        if said.message is not None and self._answer.status == 200:
            return None
        self._data(said)
        return self._answer.headers.get("set-cookie", "").partition(";")[0]

    def new_access_token(self, cookie):
        """Make a new access token (str) for the user of a session cookie, and use it from now on. The old one is dead at once."""
        token = self._data(self._try("GET", "/api/user/token", writes=True, headers={"Cookie": cookie}))
        self.client.headers["Authorization"] = "Bearer " + token
        self.keep_secret(token)
        return token

    def set_password(self, password):
        """Change the password (str, 8 to 20 characters) of the user whose access token this is. Sessions stay open."""
        self.keep_secret(password)
        self.ask("PUT", "/api/user/self", {"password": password}, writes=True)

    def options(self):
        """{name: value (str)} of the settings that only root may see."""
        return {option["key"]: option["value"] for option in self.ask("GET", "/api/option/")}

    def set_option(self, name, value):
        """Change a setting (both str). Neither is looked at by one-api: a misspelt name is taken as well."""
        self.ask("PUT", "/api/option/", {"key": name, "value": value}, writes=True)

    # -- channels

    def channels(self):
        """All channels (list of dict), without their keys, which one-api does not tell. An empty keyword finds every one."""
        return self._listed("/api/channel/search?keyword=")

    def channel(self, name):
        """The channel (dict) of this exact name, or None. Names are not unique there: two of them are an error."""
        return one_named("channel", name, self.channels())

    def create_channel(self, settings):
        """Create a channel from `settings` (dict, the API's names); its row (dict). The answer holds no id, so it is looked up."""
        self.keep_secret(settings.get("key"))
        self.ask("POST", "/api/channel/", settings, writes=True)
        row = self.channel(settings["name"])
        if row is None:
            raise HopError(HOP, self.client.base_url, "took the channel %s and does not list it" % settings["name"],
                           "Look at one-api's log, and whether somebody else changes its channels right now")
        return row

    def update_channel(self, id, changes):
        """Change settings (dict) of a channel; what is not mentioned stays. An empty text and 0 are taken for priority, base_url, model_mapping and
        weight, and change nothing of the rest (model/channel.go: only these are pointers).

        Asked for first, for a change of a channel that is gone "succeeds" and leaves models that nobody serves.
        """
        self.keep_secret(changes.get("key"))
        self.ask("GET", "/api/channel/%d" % id)
        row = self.ask("PUT", "/api/channel/", dict(changes, id=id), writes=True)
        self.keep_secret(row.pop("key", None))  # only this answer tells it
        return row

    def delete_channel(self, id):
        """Delete a channel; no error where it is gone."""
        self.ask("DELETE", "/api/channel/%d" % id, writes=True)

    # -- client tokens: the keys that FastGPT and others show

    def tokens(self):
        """The tokens (list of dict) of the user whose access token this is, keys included."""
        rows = self._listed("/api/token/search?keyword=")
        for row in rows:
            self._token(row)
        return rows

    def create_token(self, settings):
        """Create a token from `settings` (dict, the API's names); its row (dict) with the key, which one-api chooses."""
        try:
            row = self.ask("POST", "/api/token/", settings, writes=True)
        except Refused:
            # On PostgreSQL the first one fails after a start with INITIAL_ROOT_TOKEN, which took its id outside of the sequence.
            row = self.ask("POST", "/api/token/", settings, writes=True)
        return self._token(row)

    def update_token(self, row, changes):
        """Change settings (dict) of the token `row` (dict); the new row. Whether it is enabled is for set_token_status."""
        # What is not mentioned is reset, the end of its life to "expired".
        settings = {name: row.get(name) for name in ("id", "name", "expired_time", "remain_quota", "unlimited_quota", "models", "subnet")}
        return self._token(self.ask("PUT", "/api/token/", dict(settings, **changes), writes=True))

    def set_token_status(self, id, status):
        """Enable or disable a token. status: ENABLED or DISABLED."""
        self._token(self.ask("PUT", "/api/token/?status_only=1", {"id": id, "status": status}, writes=True))

    def delete_token(self, id):
        """Delete a token. Returns whether it was there."""
        said = self._try("DELETE", "/api/token/%d" % id, writes=True)
        if said.gone:
            return False
        self._data(said)
        return True

    def _token(self, row):
        row["key"] = row["key"].strip()  # PostgreSQL fills a short one up with blanks
        self.keep_secret(row["key"])
        return row

    # -- requests

    def ask(self, method, path, body=None, writes=False):
        """`data` of a call. Raises Unreachable or Refused."""
        return self._data(self._try(method, path, body, writes))

    def keep_secret(self, *secrets):
        """Never show these (str or None) in a message."""
        self._secrets.update(secret for secret in secrets if secret and len(secret) >= SHORTEST_SECRET)

    def _listed(self, path):
        said = self._try("GET", path)
        if said.message is not None and self.user()["role"] < ADMIN:  # a wrong token ends here
            raise self.client.refused(self._answer, "the user of this access token is no administrator", NO_ADMIN)
        return self._data(said) or []

    def _try(self, method, path, body=None, writes=False, headers=None):
        if writes and self.read_only:
            raise LocalModelsError("%s %s would change one-api, and this run only looks" % (method, path))
        end = self._clock() + LIMIT_SECONDS
        while True:
            self.requests.append("%s %s" % (method, path))
            self._answer = self.client.request(method, path, body, headers=headers)
            if not _limited(self._answer):
                return understand(self._answer.status, self._answer.json())
            if path == LOGIN_PATH or self._clock() >= end:
                raise self.client.refused(self._answer, "too many requests", LOGIN_LIMITED if path == LOGIN_PATH else LIMITED)
            self._sleep(LIMIT_PAUSE)

    def _data(self, said):
        if said.ok:
            return said.data
        if said.message is None:
            raise self.client.refused(self._answer, None, NO_ONE_API)
        raise self.client.refused(self._answer, self._clean(said.message), WRONG_TOKEN if self._answer.status == 401 else "")

    def _clean(self, text):
        return scrub(text, self._secrets)


def _limited(answer):
    """Whether it is one-api itself that has had enough: an upstream's 429 comes with a body."""
    return answer.status == 429 and not answer.body.strip()


def direct(url, access_token, timeout=30, read_only=False):
    """OneAPI at a base URL. timeout: seconds without a byte."""
    client = Client(url, HOP, headers={"Authorization": "Bearer " + access_token}, secrets=[access_token], timeout=timeout)
    return OneAPI(client, read_only)


def one_named(kind, name, rows):
    """The one of `rows` with this exact name, or None. kind: what a row is, for the message. Raises LocalModelsError for two."""
    found = [row for row in rows if row["name"] == name]
    if len(found) > 1:
        raise LocalModelsError("one-api has %d %ss with the name %s (ids %s)" % (
            len(found), kind, name, ", ".join(str(id) for id in sorted(row["id"] for row in found))),
            "Delete or rename all but one in one-api's pages: nobody can tell which one is meant")
    return found[0] if found else None
