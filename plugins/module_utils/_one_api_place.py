# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where one-api is and which secrets it has: the project folder that role one_api makes. Internal to this collection.

The secrets are made on the host and stay there, in .env beside the compose file, for root only.
"""

from __future__ import annotations

import os
import re
import secrets
import string

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _one_api, _undo
from ansible_collections.localmodels.fastgpt.plugins.module_utils._backup import read
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import LABEL, Docker, dotenv_value
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import Secret, Service

PROJECT = "one-api"
PORT = 3000
ENV_FILE = ".env"
ACCESS_TOKEN, CLIENT_KEY = "ONE_API_ACCESS_TOKEN", "ONE_API_CLIENT_KEY"
SESSION_SECRET, ROOT_PASSWORD = "ONE_API_SESSION_SECRET", "ONE_API_ROOT_PASSWORD"
# Exactly so long: PostgreSQL makes no root for a longer access token and fills a shorter key up; one-api cuts a key at its first
# dash, and takes passwords of 8 to 20 characters.
LENGTHS = {ACCESS_TOKEN: 32, CLIENT_KEY: 48, SESSION_SECRET: 32, ROOT_PASSWORD: 20}
ALPHABET = string.ascii_letters + string.digits
HEADER = ("# Made by Ansible (localmodels.fastgpt), once. Keep this file as long as the database: one-api takes over its first two\n"
          "# values at its very first start and never again.\n")

ARGUMENT_SPEC = {
    "project_dir": {"type": "path"},
    "url": {"type": "str"},
    "access_token": {"type": "str", "no_log": True},
    "timeout": {"type": "int", "default": 30},
}


def env_path(project_dir):
    """Path (str) of the file that holds the secrets."""
    return os.path.join(project_dir, ENV_FILE)


def read_secrets(project_dir):
    """{name: value (str)} of the secrets that the project folder holds."""
    found = {name: dotenv_value(project_dir, name) for name in LENGTHS}
    return {name: value for name, value in found.items() if value}


def missing(found):
    """New values ({name: str}) for the secrets that are not in `found` (dict)."""
    return {name: "".join(secrets.choice(ALPHABET) for dummy in range(length)) for name, length in LENGTHS.items() if name not in found}


def write_secrets(project_dir, values):
    """Set these ({name: value}) in the file; every other line of it stays."""
    text = (read(env_path(project_dir)) or b"").decode("utf-8", "surrogateescape") or HEADER
    for name, value in values.items():
        line = "%s=%s" % (name, value)
        text, count = re.subn(r"(?m)^%s=.*$" % name, line, text)
        if not count:
            text += ("" if text.endswith("\n") else "\n") + line + "\n"
    _undo.write(env_path(project_dir), text, 0o600)


def client_key(project_dir):
    """Secret: the key that FastGPT shows to one-api (its CHAT_API_KEY). Raises LocalModelsError where there is none."""
    value = dotenv_value(project_dir, CLIENT_KEY)
    if not value:
        raise LocalModelsError("There is no %s in %s" % (CLIENT_KEY, env_path(project_dir)), "Run role one_api first")
    return Secret("sk-" + value, "%s in %s" % (CLIENT_KEY, env_path(project_dir)))


def address(container):
    """http URL by which this host reaches one-api's container (as `docker inspect` tells it), or None while it has no address."""
    return Service(PROJECT, {}, {}, [container]).url_from_host(PORT)


class NotYet:
    """In place of a one-api that check mode finds nowhere, because a role has yet to make it: there is nothing in it."""

    def channels(self):
        return []

    tokens = channels


def connect(params, run, read_only=False):
    """(OneAPI, what may be shown of where it was found: dict) for the options of doc fragment `one_api`.

    Options go before what the project folder says. run: see _docker.Docker. read_only: where the project folder does not exist,
    NotYet takes the place of OneAPI. Raises LocalModelsError.
    """
    folder, url, token = params["project_dir"], params["url"], params["access_token"]
    if not folder and not (url and token):
        raise LocalModelsError("project_dir is not set, and the other options do not say everything",
                               "Give project_dir, the folder that role one_api made, or url with access_token")
    found_in = {"url_found_in": "option url" if url else "container of project %s in %s" % (PROJECT, folder),
                "secret_found_in": "option access_token" if token else "%s in %s" % (ACCESS_TOKEN, env_path(folder))}
    if read_only and not (url and token) and not os.path.exists(env_path(folder)):
        return NotYet(), dict(found_in, url=url)
    token = token or read_secrets(folder).get(ACCESS_TOKEN)
    if not token:
        raise LocalModelsError("There is no %s in %s" % (ACCESS_TOKEN, env_path(folder)), "Run role one_api first, or give access_token")
    url = url or _address_of_project(Docker(run, None), folder)
    return _one_api.direct(url, token, params["timeout"], read_only), dict(found_in, url=url)


def containers(docker, folder, *options):
    """`docker inspect` (list of dict) of the running containers of the compose project in `folder`; options: of `docker ps`, such as --all."""
    labels = ["label=%sproject=%s" % (LABEL, PROJECT), "label=%sproject.working_dir=%s" % (LABEL, folder.rstrip("/"))]
    ids = docker.call("ps", "--quiet", "--filter", labels[0], "--filter", labels[1], *options)[1].split()
    return docker.inspect(ids)


def _address_of_project(docker, folder):
    found = [url for url in map(address, containers(docker, folder)) if url]
    if not found:
        raise LocalModelsError("one-api does not run: no running container belongs to the compose project in %s" % folder,
                               "Run role one_api first, or give url and access_token")
    return found[0]
