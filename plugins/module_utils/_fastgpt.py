# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FastGPT's web API. Internal to this collection.

Facts about the server: FastGPT 4.8.20 to 4.16 read from source, 4.11.1 and 4.16.0 also run and recorded
(docs/upstream.md, tests/contract/transcripts/fastgpt-*.jsonl).
"""

from __future__ import annotations

import hashlib
import json
import urllib.parse

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Refused, Unreachable, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import NO_ROUTE, understand
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project_options import fastgpt
from ansible_collections.localmodels.fastgpt.plugins.module_utils._session import Session

USER = "root"  # the only user whom FastGPT's model administration obeys (reference, section 4)
FORBIDDEN = 403
WRONG_PASSWORD = 503002
TOO_MANY = 429

PRE_LOGIN = "/api/support/user/account/preLogin?username=" + USER
LOGIN = "/api/support/user/account/loginByPassword"
INIT_DATA = "/api/common/system/getInitData"


class NoModelAdministration(LocalModelsError):
    """This FastGPT's models cannot be asked for by any API that this collection knows."""


class FastGPT:
    """One FastGPT, seen as its root user.

    client: _http.Client. password: _project.Secret (or anything with `value` and `found_in`). session: _session.Session.
    read_only: a request that would change something raises instead: check mode cannot write by accident. A login is no
    such request: it is needed to read. stopped: see _project_options.Endpoint.
    """

    def __init__(self, client, password, session, read_only=False, stopped=""):
        self.client = client
        self.read_only = read_only
        self._stopped = stopped
        self.requests = []  # what was asked, "GET /api/...": for tests and for people who wonder
        self._password = password
        self._session = session
        self._token = None

    @property
    def password_found_in(self):
        """Where root's password comes from (str)."""
        return self._password.found_in

    @property
    def unsafe_session(self):
        """Why the login token could not be kept (str), or ""."""
        return self._session.unsafe

    def init_data(self):
        """What FastGPT tells everybody (dict); proves that it answers. Raises HopError."""
        return self._map("GET", INIT_DATA, self._send("GET", INIT_DATA))

    def get(self, path, **query):
        """`data` of a GET."""
        return self.ask("GET", path + ("?" + urllib.parse.urlencode(query) if query else ""))

    def ask(self, method, path, body=None, writes=False, timeout=None):
        """`data` of a request made as root. `writes`: it changes something. timeout: seconds. Raises HopError."""
        said = self.try_to_ask(method, path, body, writes, timeout)
        return self._data(method, path, said)

    def try_to_ask(self, method, path, body=None, writes=False, timeout=None):
        """The Said of a request made as root, whatever it is. Raises only where root cannot get in or nobody answers."""
        if writes and self.read_only:
            raise LocalModelsError("%s %s would change FastGPT, and this run only looks" % (method, path))
        said = self._send(method, path, body, self._token or self._kept_token() or self._log_in(), timeout)
        if said.code == FORBIDDEN and not said.ok:
            self._session.forget()
            said = self._send(method, path, body, self._log_in(), timeout)
        return said

    def refused(self, path, said, mend=""):
        """The Refused for a Said of `path`."""
        words = " ".join(scrub(said.message, self._secrets()).split())[:300] or "nothing"
        problem = Refused(self.client.hop, self.client.base_url + path.partition("?")[0],
                          "answered %d: %s" % (said.status, words), mend, status=said.code or said.status)
        problem.asked = problem.url
        return problem

    def _send(self, method, path, body=None, token=None, timeout=None):
        self.requests.append("%s %s" % (method, path.partition("?")[0]))
        # The header, never a cookie: a 403 would clear it, and from 4.17 on cookies bring a CSRF check (reference, section 4).
        try:
            answer = self.client.request(method, path, body, {"token": token} if token else None, timeout)
        except Unreachable as problem:
            told = Unreachable(problem.hop, problem.url, problem.problem, self._stopped or problem.mend)
            told.asked = self.client.base_url + path.partition("?")[0]
            raise told from problem
        return understand(answer.status, answer.headers, answer.body)

    def _data(self, method, path, said):
        if said.ok:
            return said.data
        if said.kind == NO_ROUTE:
            raise self.refused(path, said, "This is no FastGPT, or one of another version than this collection knows: "
                                           "it has no %s %s" % (method, path.partition("?")[0]))
        if said.code == FORBIDDEN:
            raise self.refused(path, said, "A fresh login of user %s was not accepted: is this FastGPT's own address?" % USER)
        raise self.refused(path, said)

    def _map(self, method, path, said):
        """The data of a Said, which FastGPT always makes a map; many other servers answer with the same envelope and nothing in it."""
        data = self._data(method, path, said)
        if not isinstance(data, dict):
            raise self.refused(path, said, "There is nothing of FastGPT's in it: is this FastGPT's own address?")
        return data

    def _kept_token(self):
        self._token = self._session.load()
        return self._token

    def _log_in(self):
        """A new token (str). One try: FastGPT counts them, and the password does not become better by asking again."""
        said = self._try_login()
        if said.message.endswith("code_error"):
            # Somebody else asked for a code between our two requests, and the last code given is the only good one.
            said = self._try_login()
        if said.code == WRONG_PASSWORD:
            raise self.refused(LOGIN, said, "The password of user %s (%s) is wrong. FastGPT sets it from DEFAULT_ROOT_PSW at each "
                                            "start: put the right one there and recreate the container, or give the right one as "
                                            "fastgpt_models_root_password (root_password). "
                                            "It was tried once, for logins are rate-limited" % (USER, self._password.found_in))
        if said.code == TOO_MANY:
            raise self.refused(LOGIN, said, "Wait two minutes: FastGPT takes 10 logins in 120 seconds from one address")
        data = self._map("POST", LOGIN, said)
        if not isinstance(data.get("token"), str) or not data["token"]:
            raise self.refused(LOGIN, said, "There is no token in it: is this FastGPT's own address?")
        self._token = data["token"]
        self._session.save(self._token)
        return self._token

    def _try_login(self):
        body = {"username": USER, "password": self._hashed()}
        said = self._send("GET", PRE_LOGIN)
        if said.kind != NO_ROUTE:  # before 4.9.8 there is no such route, and no code
            body["code"] = self._map("GET", PRE_LOGIN, said).get("code")
        return self._send("POST", LOGIN, body)

    def _secrets(self):
        """What was sent and could be sent back: the password itself never leaves this host."""
        return [secret for secret in (self._hashed(), self._token) if secret]

    def _hashed(self):
        return hashlib.sha256(self._password.value.encode("utf-8")).hexdigest()


def open_fastgpt(params, run, read_only=False):
    """FastGPT from the options of doc fragment `project`. run: see _docker.Docker. Raises LocalModelsError."""
    return connect(fastgpt(params, run), params, read_only)


def connect(endpoint, params, read_only=False):
    """FastGPT for a _project_options.Endpoint. params: the options `project_dir` and `timeout`."""
    client = Client(endpoint.url, "FastGPT", timeout=params["timeout"])
    session = Session(endpoint.url, params.get("project_dir"), endpoint.secret.value)
    return FastGPT(client, endpoint.secret, session, read_only, endpoint.stopped)


class FlavourA:
    """Administration of models in FastGPT 4.8.20 to 4.16: `/api/core/ai/model/*`, a model is known by its name.

    A class for a later flavour offers the same methods.
    """

    name = "A"
    _BASE = "/api/core/ai/model/"
    DEFAULTS = {
        # FastGPT's key: (type of the model, flag in its metadata)
        "llm": ("llm", "isDefault"),
        "embedding": ("embedding", "isDefault"),
        "tts": ("tts", "isDefault"),
        "stt": ("stt", "isDefault"),
        "rerank": ("rerank", "isDefault"),
        "datasetTextLLM": ("llm", "isDefaultDatasetTextModel"),
        "datasetImageLLM": ("llm", "isDefaultDatasetImageModel"),
        "chatTitleLLM": ("llm", "isDefaultChatTitleModel"),
    }

    def __init__(self, fastgpt):
        self._fastgpt = fastgpt

    def stored(self):
        """Every model with a record in FastGPT's database: {name: metadata (dict)}. One request. None: no such route."""
        path = self._BASE + "getConfigJson"
        said = self._fastgpt.try_to_ask("GET", path)
        if said.kind == NO_ROUTE:
            return None
        if not said.ok:
            raise self._fastgpt.refused(path, said)
        try:
            records = json.loads(said.data)
            return {record["model"]: record["metadata"] or {} for record in records}
        except (TypeError, ValueError, KeyError):
            return None  # records of a later flavour: they carry modelId and config

    def is_preset(self, name):
        """Whether FastGPT itself brings a model of this name: such a one cannot be deleted."""
        return self._fastgpt.get(self._BASE + "detail", model=name).get("isCustom") is False

    def write(self, name, metadata):
        """Add or change a model. Keys that are not sent are kept, None removes a key. Takes more than a second."""
        self._fastgpt.ask("PUT", self._BASE + "update", {"model": name, "metadata": metadata}, writes=True)

    def delete(self, name):
        """Delete a model of ours; one that is gone already is fine."""
        path = self._BASE + "delete?" + urllib.parse.urlencode({"model": name})
        said = self._fastgpt.try_to_ask("DELETE", path, writes=True)
        if not said.ok and said.message != "Model not found":
            raise self._fastgpt.refused(path, said)

    def set_defaults(self, chosen):
        """{key of DEFAULTS: name}: the whole set, for FastGPT first clears every default."""
        self._fastgpt.ask("PUT", self._BASE + "updateDefault", chosen, writes=True)

    def test(self, name, timeout):
        """The Said of FastGPT's own test of a model: a real request through the gateway."""
        return self._fastgpt.try_to_ask("GET", self._BASE + "test?" + urllib.parse.urlencode({"model": name}), timeout=timeout)


# Oldest last: a newer FastGPT may keep a route of the older flavour.
_LATER = (("C", "/api/admin/system/model/list"), ("B", "/api/admin/settings/model/list"))


def models_of(fastgpt):
    """(FlavourA, stored models as of `stored`). Raises NoModelAdministration for a FastGPT with another administration of models.

    The flavour is probed, not computed from the version. Records of flavour A prove it; an empty answer proves nothing, so then
    the routes of later versions are tried: three requests on a fresh FastGPT, one from then on.
    """
    models = FlavourA(fastgpt)
    stored = models.stored()
    if stored:
        return models, stored
    for name, path in _LATER:
        if fastgpt.try_to_ask("GET", path).kind != NO_ROUTE:
            raise NoModelAdministration("Not supported yet: FastGPT at %s has flavour %s of the model administration (4.17 and newer, %s)"
                                        % (fastgpt.client.base_url, name, path.rpartition("/")[0]),
                                        "Use FastGPT 4.16 or older with this version of the collection")
    if stored is None:
        raise NoModelAdministration("FastGPT at %s has no administration of models (it came with 4.8.20)" % fastgpt.client.base_url,
                                    "Upgrade FastGPT, or check that this address is FastGPT's")
    return models, stored
