# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks the way of a question hop by hop, from inside, and finds the first one that is broken. Internal to this collection.

Each hop is asked from where it really starts: FastGPT's container asks the gateway, the gateway's container asks Ollama. A hop after a
broken one is not asked: its failure would only repeat the first. Which way it is, is read from FastGPT's variables.
"""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _aiproxy
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt import connect
from ansible_collections.localmodels.fastgpt.plugins.module_utils._inside import Inside
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project_options import fastgpt, gateway, read_project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_aiproxy import ByAIProxy
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_direct import Directly
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_fastgpt import FastGPTHops
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_one_api import ByOneAPI, server_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_route import AIPROXY, DIRECT, ONE_API, Route, route_of, trouble_in
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_table import verdict
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_walk import Walk


def verify(params, run, asks=True):
    """Result (dict) of module fastgpt_verify. params: its options. run: see _docker.Docker. asks: whether models are asked.

    Raises LocalModelsError where the way cannot even be found, such as a project that compose cannot read.
    """
    project = read_project(params, run) if params.get("project_dir") else None
    endpoint = fastgpt(params, run)
    inside = Inside(Docker(run, params.get("project_dir")))
    client = connect(endpoint, params, read_only=True)
    route = find_route(project, client, params, inside)
    key = project.admin_key() if project else None
    walk = Walk([key.value if key else "", params.get("admin_key"), endpoint.secret.value, route.key.value if route.key else "",
                 params.get("one_api_access_token")], asks)
    way = way_of(walk, route, project, params, run, inside)
    models = [model for one in params["ollamas"] for model in one["models"]]
    ends = FastGPTHops(walk, client, route, models, params.get("app"), params["question"], params["model_timeout"], params["every_model"])
    go(walk, ends, way)
    return {"healthy": walk.broken is None, "verdict": verdict(walk.broken) if walk.broken else "", "answer": ends.answer,
            "path": route.path, "hops": walk.hops}


def go(walk, ends, way):
    """Walk from FastGPT over the way (None where nobody can tell it) to its models and back to the app. ends: FastGPTHops."""
    stages = [ends.answers] + (way.stages() if way else [lambda: walk.skip(
        "FastGPT -> models", "without project_dir nobody can tell whom FastGPT asks")]) + ends.stages()
    for number, stage in enumerate(stages):
        walk.stage(number)
        stage()


def find_route(project, client, params, inside):
    """_verify_route.Route of FastGPT: what its variables say, and where they name nobody who is known here, what answers there.

    Without a project FastGPT only tells whether it uses AI Proxy. client: _fastgpt.FastGPT.
    """
    if project is None:
        # A FastGPT that does not answer tells nothing: that is its own hop.
        return Route(AIPROXY if params.get("aiproxy_url") or _shows_aiproxy(client) else None)
    route = route_of(project.app, project.version, project.folder, params["ollamas"])
    if route.path == ONE_API and project.app.runs() and not trouble_in(route, project.app.network_mode):
        found = inside.get(project.app.container, route.root + "/api/version").json()
        if isinstance(found, dict) and found.get("version") and "success" not in found:
            route.path = DIRECT
    return route


def _shows_aiproxy(client):
    try:
        return (client.init_data().get("feConfigs") or {}).get("show_aiproxy", True)
    except LocalModelsError:
        return True


def way_of(walk, route, project, params, run, inside):
    """The hops between FastGPT and its models: ByAIProxy, ByOneAPI or Directly; None where nobody can tell."""
    ollamas, timeout, every = params["ollamas"], params["model_timeout"], params["every_model"]
    if route.path == AIPROXY:
        return ByAIProxy(walk, lambda: _aiproxy.connect(gateway(params, run), params, read_only=True), project, inside, ollamas, timeout, every)
    if route.path == ONE_API:
        server = server_of(project, route, params, Docker(run), run)
        return ByOneAPI(walk, route, project, server, inside, ollamas, timeout, every)
    if route.path == DIRECT:
        return Directly(walk, route, project, inside, [model for one in ollamas for model in one["models"]], timeout, every)
    return None
