# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a host's one-api, and makes it what is wanted: the container, and who may come in. Internal to this collection."""

from __future__ import annotations

import os
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _container_apply, _one_api, _undo
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _one_api_place as place
from ansible_collections.localmodels.fastgpt.plugins.module_utils._aiproxy import SHORTEST_SECRET
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import HopError, LocalModelsError, Refused
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api_container import (
    SETTLED,
    STORE,
    TOKEN_NAME,
    Api,
    token_difference,
    token_settings,
)

REQUEST_SECONDS = 10
LIGHT = {"file", "interrupted"}.union(SETTLED)  # needs no new container
TOO_MANY = 429


def refuse_unfit_host():
    """Raise LocalModelsError where there is no docker command."""
    _container_apply.refuse_missing_docker("FastGPT runs on Docker: point the play at the host where it runs, or install Docker Engine "
                                           "with its compose plugin")


class ContainerHost(_container_apply.ContainerHost):
    """This host. docker: _docker.Docker. wanted: _one_api_container.Wanted."""

    project = place.PROJECT
    store = STORE
    data = "data"
    options = {"image": "one_api_image", "version": "one_api_version", "volume": "one_api_volume", "networks": "one_api_networks",
               "listen": "one_api_listen"}

    def read(self):
        """(text of the compose file, container as inspected or None, what is lacking (list of str), Api)."""
        container = self.container()
        secrets = place.read_secrets(self.wanted.project_dir)
        lacking = ["%s in %s" % (name, place.env_path(self.wanted.project_dir)) for name in place.missing(secrets)]
        lacking += [path for path in self.wanted.tokenizers if not os.path.exists(path)]
        api = look(self._one_api(container, secrets), secrets) if container else Api()
        return _undo.read(self.wanted.file) or "", container, lacking, api

    def hidden(self):
        values = list(place.read_secrets(self.wanted.project_dir).values()) + list(self.wanted.environment.values())
        return [value for value in values if len(value) >= SHORTEST_SECRET]

    def apply(self, different, container):
        wanted = self.wanted
        os.makedirs(os.path.dirname(wanted.tokenizers[0]), mode=0o755, exist_ok=True)
        for path in wanted.tokenizers:
            if not os.path.exists(path):
                _undo.write(path, "", 0o644)
        new = place.missing(place.read_secrets(wanted.project_dir))
        if new:
            place.write_secrets(wanted.project_dir, new)  # before the first start: it takes them over, and no later one does
        if set(different) - LIGHT:
            super().apply(different, container)
        else:
            _undo.write(wanted.file, wanted.text, 0o600)
            self._settle()
            self.undo.forget()

    def wait(self):
        """Until it answers, and nobody comes in by a well-known way any more."""
        end, pause = time.monotonic() + self.wanted.timeout, 0.1
        while True:
            why = self._silence()
            if why is None:
                break
            why = self.trouble() or (time.monotonic() >= end and "%s after %d s" % (why, self.wanted.timeout))
            if why:
                raise LocalModelsError("one-api does not come up: %s" % why, "Check one_api_image, one_api_environment and one_api_timeout")
            time.sleep(pause)
            pause = min(pause * 2, 2)  # it counts such requests: 480 in 3 minutes
        self._settle()

    def _silence(self):
        """Why it does not answer (str), or None."""
        one_api = self._one_api(self.container(), {})
        if one_api is None:
            return "its container has no address that this host can reach"
        try:
            one_api.status()
        except HopError as problem:
            return "%s %s" % (problem.url, problem.problem)
        return None

    def _one_api(self, container, secrets):
        url = place.address(container) if container else None
        return _one_api.direct(url, secrets.get(place.ACCESS_TOKEN, "none"), REQUEST_SECONDS) if url else None

    def _settle(self):
        secrets = place.read_secrets(self.wanted.project_dir)
        one_api = self._one_api(self.container(), secrets)
        settle(one_api, look(one_api, secrets), secrets, lambda name, value: place.write_secrets(self.wanted.project_dir, {name: value}),
               place.env_path(self.wanted.project_dir))


def look(one_api, secrets):
    """Api: what a OneAPI (or None) tells. secrets: {name: value}. Only reads, a login with the well-known password included.

    Raises Refused where it says that there were too many requests: that is no difference that a change would mend.
    """
    found = Api()
    if one_api is None:
        return found
    try:
        one_api.status()
    except HopError as problem:
        if problem.status == TOO_MANY:
            raise
        return found
    found.answers = True
    found.default_password = _opens(one_api)
    try:
        found.access = one_api.user()["role"] >= _one_api.ROOT
    except Refused as problem:
        if problem.status == TOO_MANY:
            raise
    if found.access:
        found.registration = one_api.options().get("RegisterEnabled") != "false"
        found.token = next((row for row in one_api.tokens() if row["key"] == secrets.get(place.CLIENT_KEY)), None)
    return found


def settle(one_api, api, secrets, keep, where):
    """Close the well-known doors and open the one for FastGPT.

    api: Api, as found. secrets: {name: value}. keep: callable(name, value), writes a secret down. where: their file, for messages.
    """
    if not api.access:
        _win_access_back(one_api, secrets, keep, where)
        api = look(one_api, secrets)
    if api.default_password:
        one_api.set_password(secrets[place.ROOT_PASSWORD])
    if api.registration:
        one_api.set_option("RegisterEnabled", "false")
    if token_difference(api.token):
        _mend_token(one_api, api.token, keep)


def _win_access_back(one_api, secrets, keep, where):
    """A new access token, by logging in: for a release that looks at no INITIAL_ROOT_ACCESS_TOKEN (before 0.6.8), a token that
    somebody made anew in one-api's pages, or a database from elsewhere."""
    for password in (secrets[place.ROOT_PASSWORD], _one_api.DEFAULT_PASSWORD):
        cookie = one_api.login(password)
        if cookie is not None:
            keep(place.ACCESS_TOKEN, one_api.new_access_token(cookie))
            return
    raise LocalModelsError("one-api knows neither the access token nor root's password in %s: its database was made with others" % where,
                           "Put that file back as it was, or write root's password there as %s" % place.ROOT_PASSWORD)


def _opens(one_api):
    """Whether the well-known password opens the door. Not, for all we know, where there were too many logins to tell."""
    try:
        return one_api.login(_one_api.DEFAULT_PASSWORD) is not None
    except Refused as problem:
        if problem.status != TOO_MANY:
            raise
        return False


def _mend_token(one_api, row, keep):
    if row is None:
        row = _one_api.one_named("token", TOKEN_NAME, one_api.tokens())
        if row is None:
            row = one_api.create_token(dict({"remain_quota": 0, "models": "", "subnet": ""}, **token_settings()))
        keep(place.CLIENT_KEY, row["key"])
    if any(row[name] != value for name, value in token_settings().items()):
        row = one_api.update_token(row, token_settings())
    if row["status"] != _one_api.ENABLED:
        one_api.set_token_status(row["id"], _one_api.ENABLED)
