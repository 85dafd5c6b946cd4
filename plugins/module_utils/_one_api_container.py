# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""one-api as a container of a compose project of its own, in FastGPT's network: the file, and what differs. Pure. Internal to this
collection."""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._container import compose_file, difference, file_in
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import parse_listen, read_environment
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api import ENABLED
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api_place import (
    ACCESS_TOKEN,
    CLIENT_KEY,
    PORT,
    PROJECT,
    SESSION_SECRET,
    env_path,
)
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api_token_plan import ENDLESS, STATES
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import version_numbers
from ansible_collections.localmodels.fastgpt.plugins.module_utils._yaml_text import doubled

STORE = "/data"  # the image's working directory, in which it makes its SQLite file
TOKEN_NAME = "fastgpt"
# It counts words of models such as GPT-4 by two tables, which it else fetches from the internet at each first start, or dies.
# Empty ones do: what Ollama used is told by Ollama. Their names are the SHA-1 of their addresses.
TOKENIZERS = ("9b5ad71b2ce5302211f9c61530b329a4922fc6a4", "fb374d419588a4632f3f557e76b4b70aebbca790")
TOKENIZER_DIR = "tiktoken"
RESERVED = dict.fromkeys(("PORT", "INITIAL_ROOT_TOKEN", "INITIAL_ROOT_ACCESS_TOKEN", "SESSION_SECRET", "TIKTOKEN_CACHE_DIR"),
                         "Role one_api sets it")
# Mended by a request, without a new container.
SETTLED = ("access", "password", "registration", "client_token")


class Wanted:
    """What shall be. image, container, project_dir, restart_policy: str; volume: name, or absolute path on the host; networks: list
    of str, which exist already; extra_hosts: {name: address}; listen: Listen, published on the host, or None; environment: {name:
    str}; timeout: seconds."""

    own_networks = ()

    def __init__(self, image, container, volume, project_dir, networks, extra_hosts, listen, environment, restart_policy, timeout):
        self.image = image
        self.container = container
        self.volume = volume
        self.own_volume = None if volume.startswith("/") else volume
        self.project_dir = project_dir
        self.file = file_in(project_dir)
        self.networks = self.other_networks = networks
        self.extra_hosts = extra_hosts
        self.listen = listen
        self.environment = environment
        self.restart_policy = restart_policy
        self.timeout = timeout
        self.tokenizers = ["%s/%s/%s" % (project_dir.rstrip("/"), TOKENIZER_DIR, name) for name in TOKENIZERS]
        self.mark, self.text = compose_file(PROJECT, self._service(), networks, self.own_volume)

    @property
    def url(self):
        """By which FastGPT's containers reach it (str), without the /v1 that OPENAI_BASE_URL ends with."""
        return "http://%s:%d" % (self.container, PORT)

    def _service(self):
        environment = dict(self.environment, TIKTOKEN_CACHE_DIR="/" + TOKENIZER_DIR)
        environment = {name: doubled(value) for name, value in environment.items()}
        # From .env, so that this file holds none of them. one-api looks at the first two at its very first start only.
        environment.update(INITIAL_ROOT_ACCESS_TOKEN="${%s}" % ACCESS_TOKEN, INITIAL_ROOT_TOKEN="${%s}" % CLIENT_KEY,
                           SESSION_SECRET="${%s}" % SESSION_SECRET)
        service = {
            "image": self.image,
            "container_name": self.container,
            "restart": self.restart_policy,
            "volumes": ["%s:%s" % (self.volume, STORE), "%s/%s:/%s:ro" % (self.project_dir.rstrip("/"), TOKENIZER_DIR, TOKENIZER_DIR)],
            "networks": self.networks,
            # The image has wget of busybox, no curl. one-api counts these requests too, so not many of them.
            "healthcheck": {"test": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:%d/api/status" % PORT], "interval": "30s",
                            "timeout": "10s", "retries": 3, "start_period": "30s"},
            "environment": {name: environment[name] for name in sorted(environment)},
        }
        if self.listen:
            service["ports"] = ["%s:%d" % (self.listen.text, PORT)]
        if self.extra_hosts:
            service["extra_hosts"] = ["%s:%s" % item for item in sorted(self.extra_hosts.items())]
        return service


class Api:
    """What one-api tells. answers, access (our access token is root's), default_password (it still opens the door), registration
    (anybody may sign up): bool. token: row of the client token (dict), or None."""

    def __init__(self, answers=False, access=False, default_password=False, registration=False, token=None):
        self.answers = answers
        self.access = access
        self.default_password = default_password
        self.registration = registration
        self.token = token


def differences(wanted, text, container, lacking, api):
    """{what: sentence} of all that is not as wanted.

    text: of the compose file, "" where absent. container: as `docker inspect` tells it, or None. lacking: what is not there of
    secrets' names and paths of files (list of str). api: Api.
    """
    checks = [("file", text != wanted.text and "%s %s" % (wanted.file, "differs" if text else "does not exist")),
              ("container", difference(wanted, container)),
              ("secrets", lacking and "There is no %s" % ", no ".join(lacking))]
    if container is not None:
        checks.append(("api", not api.answers and "one-api does not answer"))
    if api.answers:
        checks += [("access", not api.access and "one-api does not know the access token in %s" % env_path(wanted.project_dir)),
                   ("password", api.default_password and "root of one-api still has its well-known first password"),
                   ("registration", api.registration and "Anybody may sign up at one-api")]
    if api.access:
        checks.append(("client_token", token_difference(api.token)))
    return {what: sentence for what, sentence in checks if sentence}


def token_difference(row):
    """What is wrong with the client token (dict, or None): sentence, "" where nothing is."""
    if row is None:
        return "one-api does not know FastGPT's client token"
    if row["status"] != ENABLED:
        return "FastGPT's client token is %s" % STATES.get(row["status"], "not enabled")
    if any(row[name] != value for name, value in token_settings().items()):
        return "FastGPT's client token has limits, or another name than %s" % TOKEN_NAME
    return ""


def token_settings():
    """The client token's settings: dict, the API's names."""
    return dict(ENDLESS, name=TOKEN_NAME)


def read_listen(text):
    """Listen for ADDRESS:PORT, None for an empty text. Raises LocalModelsError."""
    if not text:
        return None
    if not re.search(r":\d+\Z", text):
        raise LocalModelsError("one_api_listen is %r, which has no port" % text, "Write ADDRESS:PORT, such as 127.0.0.1:3001")
    listen = parse_listen(text)
    if not listen.is_address:
        raise LocalModelsError("Docker publishes on addresses, and %r is a name" % listen.host,
                               "Write one_api_listen with an address, such as 127.0.0.1:3001")
    return listen


def read_variables(given):
    """The declared environment {name: value} as {name: str}. one-api takes the word true, and no other, for yes."""
    return read_environment({name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}, RESERVED)


def network_of(project):
    """The Docker network (str) in which FastGPT reaches a gateway: the one it shares with AI Proxy, where there is one.

    project: _project.Project. Raises LocalModelsError for a FastGPT that does not work with one-api.
    """
    if version_numbers(project.version) >= (4, 17):
        raise LocalModelsError("FastGPT %s works with AI Proxy only: from 4.17.0 on it does not look at OPENAI_BASE_URL" % project.version,
                               "Use AI Proxy, which its compose file brings: roles fastgpt_compose and fastgpt_models without one_api")
    shared = sorted(set(project.app.networks) & set(project.gateway.networks if project.gateway else project.app.networks))
    if not shared:
        raise LocalModelsError("FastGPT (service %s in %s) is in no Docker network that one-api could join" % (
            project.app.name, project.folder), "Give one_api_networks, and let FastGPT's container join one of them")
    return shared[0]
