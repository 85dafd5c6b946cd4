# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From FastGPT over one-api to Ollama, hop by hop. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _one_api, _one_api_place
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import Service, endpoint_host, endpoint_port
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_aiproxy import wrong_in_channel
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes import gateway_trouble
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_models import ModelsAt
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_ollama import OllamaHops
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_route import trouble_in
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_walk import Broken, CannotAsk, chosen, stopped

STATES = {_one_api.DISABLED: "it is switched off", _one_api.AUTO_DISABLED: "one-api itself has switched it off"}
ELSEWHERE = "can only be asked from within one-api's container, and that is none of this host"
NO_TOKEN = "can only be asked with an access token of this one-api (one_api_access_token, one_api_url)"
EMPTY = "an empty answer"


class Server:
    """The one-api that FastGPT calls. service: its _project.Service, or None where it does not run on this host. folder: of its compose
    project (str). api: callable() -> _one_api.OneAPI, or None where nobody knows how to get in."""

    def __init__(self, service=None, folder="", api=None):
        self.service = service
        self.folder = folder
        self.api = api


def server_of(project, route, params, docker, run):
    """Server for what FastGPT calls: a service of its own project, the one of role one_api on this host, or one elsewhere.

    params: options one_api_project_dir, one_api_url, one_api_access_token, timeout. docker: _docker.Docker. run: see there.
    """
    host, token = (endpoint_host(route.base) or "").lower(), params.get("one_api_access_token")
    place = dict(project_dir=None, url=params.get("one_api_url"), access_token=token, timeout=params["timeout"])
    own = next((one for one in project.services.values() if host in (one.name.lower(), (one.container or "").lower())), None)
    if own is not None:
        place["url"] = place["url"] or own.url_from_host(endpoint_port(route.base))
        return Server(own, project.folder, _api(place, run) if token and place["url"] else None)
    folder = params["one_api_project_dir"]
    for inspected in _one_api_place.containers(docker, folder, "--all"):
        service = Service(_one_api_place.PROJECT, {}, {}, [inspected])
        if host in _names(inspected, service) or route.key and route.key.value == "sk-%s" % _one_api_place.read_secrets(folder).get(
                _one_api_place.CLIENT_KEY):
            return Server(service, folder, _api(dict(place, project_dir=folder), run))
    return Server(api=_api(place, run) if token and place["url"] else None)


def _api(place, run):
    return lambda: _one_api_place.connect(place, run, read_only=True)[0]


def _names(inspected, service):
    """Every name (set of str) under which containers call this one."""
    ends = ((inspected.get("NetworkSettings") or {}).get("Networks") or {}).values()
    return {name.lower() for name in [service.container] + [alias for end in ends for alias in end.get("Aliases") or ()]}


class ByOneAPI:
    """walk: _verify_walk.Walk. route: _verify_route.Route. project: _project.Project. server: Server. inside: _inside.Inside.
    ollamas: list of {name, url, models: [{name, type}]}. timeout: seconds a model may take. every_model: see _verify_walk.chosen."""

    def __init__(self, walk, route, project, server, inside, ollamas, timeout, every_model):
        self.walk, self.route, self.server, self.ollamas = walk, route, server, ollamas
        self._app, self._inside, self._every_model = project.app, inside, every_model
        self._container = server.service.container if server.service else None
        self._to_ollama = OllamaHops(walk, inside, "one-api", self._container, ELSEWHERE, ollamas)
        self._asked = ModelsAt(inside, self._app.container, route, timeout)
        self._channels = None

    def stages(self):
        """The hops in their order, those that belong together in one (list of callable)."""
        return [self._answers, self._takes_key, self._to_ollama.reach, self._to_ollama.hold, self._channels_list, self._completes]

    def _answers(self):
        def ask():
            trouble = trouble_in(self.route, self._app.network_mode)
            if trouble:
                raise Broken("not asked", *trouble)
            got = self._inside.get(self._app.container, self.route.root + "/api/status")
            if got.trouble:
                raise Broken(got.said, *self._unreached(got.trouble))
            if got.said == EMPTY:
                raise CannotAsk("it answers with nothing, as one-api does after 480 requests in 3 minutes")
            if not (isinstance(got.json(), dict) and got.json().get("success")):
                raise Broken(got.said, "%s is not one-api" % self.route.root,
                             "%s of FastGPT is one-api's address with /v1 behind: run role fastgpt_compose (playbook connect)" % self.route.variable)
            return "it answers"
        self.walk.hop("FastGPT -> one-api", "%s/api/status in %s" % (self.route.root, self._app.container), ask)

    def _unreached(self, trouble):
        if self.server.service is not None and not self.server.service.runs():
            return stopped(self.server.service, self.server.folder)
        return gateway_trouble(trouble, self._app.container, self.route.root, "one-api", self.route.variable)

    def _takes_key(self):
        def ask():
            names = self._asked.listed(self._unreached)
            return "the key is accepted; models: %s" % (", ".join(sorted(name for name in names if name)) or "none")
        self.walk.hop("FastGPT's key in one-api", "%s/models in %s" % (self.route.base, self._app.container), ask)

    def _channels_list(self):
        for one in self.ollamas:
            self.walk.hop("channel %s in one-api" % one["name"], "its address and models", lambda one=one: self._channel_is_right(one))

    def _channel_is_right(self, one):
        if self.server.api is None:
            raise CannotAsk(NO_TOKEN)
        if self._channels is None:
            self._channels = self.server.api().channels()
        found = [channel for channel in self._channels if channel.get("name") == one["name"]]
        if not found and not one["models"]:
            return "there is none, and no model that it should serve"
        again = "Run role fastgpt_models (playbook connect): it makes the channel right"
        if len(found) != 1:
            raise Broken("one-api has %d channels of that name" % len(found), "", again if not found else
                         "Delete all but one in one-api's pages, for nobody can tell which one is meant")
        channel = found[0]
        wrong = wrong_in_channel(one, channel.get("type"), channel.get("base_url"), [name for name in (channel.get("models") or "").split(",") if name])
        if (channel.get("base_url") or "").endswith("/"):
            wrong.append("its address ends with /, to which one-api adds another")
        if channel.get("status") != _one_api.ENABLED:
            wrong.append(STATES.get(channel.get("status"), "its status is %s" % channel.get("status")))
        if wrong:
            raise Broken("; ".join(wrong), "The channel is not as declared", again)
        one["channel"] = channel["id"]
        return "id %s, %s, %d models" % (channel["id"], channel["base_url"], len(one["models"]))

    def _completes(self):
        for one in self.ollamas:
            for model in chosen(one["models"], self._every_model):
                name = "%s through one-api" % model["name"]
                if model["type"] == "embedding":
                    self._relay(name, "embeddings", one, lambda key, model=model: self._asked.embedding(model["name"], key))
                    continue
                for more, stream in (("", False), (", streamed", True)):
                    self._relay(name + more, "chat/completions", one,
                                lambda key, model=model, stream=stream: self._asked.chat(model["name"], key, stream))

    def _relay(self, name, path, one, function):
        """Ask with FastGPT's key. Where several channels serve, the key names the one that is meant, if its owner may do so."""
        pinned = len(self.ollamas) > 1 and self.route.key is not None and self.route.key.value.count("-") == 1 and one.get("channel")

        def ask():
            if not pinned:
                return function(None)
            try:
                return function("%s-%s" % (self.route.key.value, one["channel"]))
            except Broken as problem:
                if "answered 403" not in problem.answered:
                    raise
                return function(None)
        self.walk.hop(name, "%s/%s%s" % (self.route.base, path, ", channel %s" % one["name"] if pinned else ""), ask, asks_model=True)
