# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each way of using Ollama wants of FastGPT's compose project: aiproxy, one_api, direct. Internal to this collection. Pure.

Which variables win in which version: the reference, section 2 (packages/service/core/ai/config.ts of FastGPT).
"""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import HOST_GATEWAY, is_loopback, way
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_intents import Intent
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub

PATHS = ("aiproxy", "one_api", "direct")
FIRST_KNOWN = (4, 6)  # older ones call their variables otherwise
FIRST_WITH_AIPROXY = (4, 8, 23)
FIRST_WITHOUT_ONEAPI_URL = (4, 8, 20)
FIRST_WITH_AIPROXY_ONLY = (4, 17)
FIRST_AIPROXY_FOR_OLLAMA = (0, 1, 3)  # older ones lose what Ollama streams (issue 4043 of FastGPT)
# FastGPT sends no request without a key, and Ollama takes any (reference, section 2).
ANY_KEY = "ollama"

LISTS = ("NO_PROXY", "no_proxy")
SHOWN = ("AIPROXY_API_ENDPOINT", "OPENAI_BASE_URL", "ONEAPI_URL") + LISTS
HIDDEN = ("AIPROXY_API_TOKEN", "CHAT_API_KEY")
VARIABLES = SHOWN + HIDDEN
# Stands for one-api's key wherever the controller plans: the key itself does not leave FastGPT's host.
KEY = "sk-KEY-OF-ONE-API"
_ONE_API = re.compile(r"one-?api|new-?api|one-?hub")


class WrongPath(LocalModelsError):
    """This FastGPT cannot be led this way."""


class Wanted:
    """intents: list of Intent. urls: {inventory host: URL by which Ollama is reached}. caller: name (str) of the service whose
    container calls Ollama, or None where that is no service of this project. gateway: name of the service that FastGPT calls, or None
    where that is none of this project. warnings: sentences (list). touched: names (list) of services that differ."""

    def __init__(self, intents, urls, caller, gateway=None, warnings=()):
        self.intents = list(dict.fromkeys(intents))
        self.urls = urls
        self.caller = caller
        self.gateway = gateway
        self.warnings = list(warnings)
        self.touched = sorted({one.service for one in self.intents if one.service})


def facts(config, project):
    """What the controller has to know to decide: dict without secrets.

    config: the effective project as the operator's own files tell it (dict). project: its _project.Project.
    """
    services = {name: _service_facts(service, config["services"][name], project.networks)
                for name, service in project.services.items()}
    apps = sorted(app.name for app in project.apps)
    return {
        "folder": project.folder,
        "version": project.version,
        "apps": apps,
        "gateway": project.gateway.name if project.gateway else None,
        "one_api": _own_one_api(services, apps, project),
        "networks": project.networks,
        "services": services,
    }


def wanted(found, path, ollamas, host, one_api=None):
    """Wanted for a path.

    found: facts(). ollamas: list of dict (see _address.way). host: inventory name of FastGPT's machine.
    one_api: {"url": by which FastGPT's containers reach it, without /v1, "network": Docker network to join or "", "key": str};
    None or without url: the one-api service that the project has itself. Raises WrongPath, _address.NoWay, NoSuchService.
    """
    numbers = _project.version_numbers(found["version"])
    if path == "aiproxy":
        return _aiproxy(found, numbers, ollamas, host)
    _refuse_by_version(found, path, numbers)
    if path == "direct":
        return _direct(found, numbers, ollamas, host)
    return _one_api(found, numbers, ollamas, host, one_api or {})


def _aiproxy(found, numbers, ollamas, host):
    if numbers and numbers < FIRST_WITH_AIPROXY:
        raise WrongPath("FastGPT %s has no AI Proxy; it came with 4.8.23" % found["version"],
                        "Use the path one_api or direct (fastgpt_compose_path), or upgrade FastGPT")
    apps = [found["services"][name] for name in found["apps"]]
    if found["gateway"] is None:
        raise _project.NoSuchService(
            "No service in %s is AI Proxy; AIPROXY_API_ENDPOINT of service %s is %s" % (
                found["folder"], apps[0]["name"], apps[0]["variables"].get("AIPROXY_API_ENDPOINT") or "not set"),
            "Official files have AI Proxy from 4.9.0 on: upgrade the project, or set AIPROXY_API_ENDPOINT to the service "
            "that runs it, or use the path one_api or direct (fastgpt_compose_path)")
    for app in apps:
        for name in ("AIPROXY_API_ENDPOINT", "AIPROXY_API_TOKEN"):
            if not app["variables"].get(name):
                raise WrongPath(
                    "%s of service %s is not set, so FastGPT does not call AI Proxy" % (name, app["name"]),
                    "Set it in the compose file: AIPROXY_API_ENDPOINT to http://%s:3000, AIPROXY_API_TOKEN to the ADMIN_KEY of "
                    "service %s" % (found["gateway"], found["gateway"]))
    gateway = found["services"][found["gateway"]]
    for app in apps:
        _refuse_dead_end(found, app, "AIPROXY_API_ENDPOINT", app["variables"]["AIPROXY_API_ENDPOINT"], gateway)
    owner = _networked(found, gateway)
    ways = _ways(ollamas, host, owner)
    intents = _reaching(found, owner, ways) + _bypassing(gateway, _hosts(ways))
    for app in apps:
        called = _project.endpoint_host(app["variables"]["AIPROXY_API_ENDPOINT"]) or ""
        intents += _bypassing(app, [called] if called.lower() in gateway["names"] else [])
    return Wanted(intents, _urls(ways), owner["name"], gateway["name"], _out_of_step(gateway))


def _out_of_step(gateway):
    """What is said (list of str) of an AI Proxy that stayed behind when FastGPT was upgraded."""
    numbers = _project.version_numbers(gateway["version"])
    if not numbers or numbers >= FIRST_AIPROXY_FOR_OLLAMA:
        return []
    return ["AI Proxy of service %s is %s, and before 0.1.3 it loses what Ollama streams: chats stay empty while the test of a model passes. "
            "Set its image to the version that the official compose file of this FastGPT has" % (gateway["name"], gateway["version"])]


def _refuse_dead_end(found, app, variable, url, service=None):
    """Raise WrongPath for a URL by which FastGPT's container cannot reach what it names. service: facts of the service meant, or None."""
    host, port = (_project.endpoint_host(url) or "").lower(), _project.endpoint_port(url)
    owner = _networked(found, app)
    shared = service is not None and _networked(found, service) is owner
    if host and is_loopback(host) and owner["network_mode"] != "host" and not shared:
        raise WrongPath("%s of service %s is %s, and in its container that is FastGPT itself" % (variable, app["name"], scrub(url)),
                        "Set it to a name that FastGPT's container reaches%s" % (
                            ", such as http://%s:%d" % (service["name"], service["port"]) if service else ""))
    if service is None or host not in service["names"]:
        return
    right = "http://%s:%d" % (host, service["port"])
    if port in service["published"] and port != service["port"]:
        raise WrongPath("%s of service %s has port %d, which %s has on the host only: between containers it is %d" % (
            variable, app["name"], port, service["name"], service["port"]), "Set it to %s" % right)
    if url.lower().startswith("https:") and port == service["port"]:
        raise WrongPath("%s of service %s says https, and service %s speaks http" % (variable, app["name"], service["name"]), "Set it to %s" % right)


def _direct(found, numbers, ollamas, host):
    if len(ollamas) != 1:
        raise WrongPath("FastGPT itself can call one Ollama, and %d are declared" % len(ollamas),
                        "Keep one, or use the path aiproxy or one_api (fastgpt_compose_path)")
    intents, ways = [], []
    for app in [found["services"][name] for name in found["apps"]]:
        owner = _networked(found, app)
        ways = _ways(ollamas, host, owner)
        intents += _calling(app, numbers, ways[0][1].url, ANY_KEY)
        intents += _reaching(found, owner, ways) + _bypassing(app, _hosts(ways))
    return Wanted(intents, _urls(ways), found["apps"][0])


def _one_api(found, numbers, ollamas, host, given):
    apps = [found["services"][name] for name in found["apps"]]
    if given.get("url"):
        intents = []
        for app in apps:
            owner = _networked(found, app)
            if given.get("network") and owner["network_mode"]:
                raise WrongPath("Service %s has network_mode: %s and cannot join the Docker network %s of one-api" % (
                    owner["name"], owner["network_mode"], given["network"]),
                    "Remove network_mode, or give an address of one-api that this service reaches")
            _refuse_dead_end(found, app, "The address of one-api (fastgpt_compose_one_api_url) for OPENAI_BASE_URL", given["url"])
            intents += _calling(app, numbers, given["url"].rstrip("/"), given["key"])
            intents += _joining(found, owner, [given["network"]] if given.get("network") else [])
            intents += _bypassing(app, [_project.endpoint_host(given["url"])])
        return Wanted(intents, {one["host"]: way(one, host).url for one in ollamas}, None)
    if found["one_api"] is None:
        raise _project.NoSuchService(
            "No service in %s is the one-api that FastGPT calls (OPENAI_BASE_URL: %s)" % (
                found["folder"], apps[0]["variables"].get("OPENAI_BASE_URL") or "not set"),
            "Run role localmodels.fastgpt.one_api first, or give the address of yours")
    for app in apps:
        if not app["variables"]["OPENAI_BASE_URL"].endswith("/v1"):
            raise WrongPath("OPENAI_BASE_URL of service %s does not end in /v1: %r" % (app["name"], app["variables"]["OPENAI_BASE_URL"]),
                            "Set it to the address of one-api with /v1 behind, such as http://%s:3000/v1" % found["one_api"])
        if not app["variables"].get("CHAT_API_KEY"):
            raise WrongPath("CHAT_API_KEY of service %s is not set, and FastGPT sends no request without a key" % app["name"],
                            "Set it to a token of one-api")
    service = found["services"][found["one_api"]]
    for app in apps:
        _refuse_dead_end(found, app, "OPENAI_BASE_URL", app["variables"]["OPENAI_BASE_URL"], service)
    owner = _networked(found, service)
    ways = _ways(ollamas, host, owner)
    intents = [intent for app in apps for intent in _without_aiproxy(app, numbers)]
    intents += _reaching(found, owner, ways) + _bypassing(service, _hosts(ways))
    for app in apps:
        intents += _bypassing(app, [_project.endpoint_host(app["variables"]["OPENAI_BASE_URL"])])
    return Wanted(intents, _urls(ways), owner["name"], service["name"])


def _refuse_by_version(found, path, numbers):
    if not numbers:
        raise WrongPath(
            "Which version FastGPT is cannot be told from its image, and the path %s exists only before 4.17" % path,
            "Start FastGPT, so that its version can be read, or name it as the image's tag; or use the path aiproxy")
    if numbers < FIRST_KNOWN:
        raise WrongPath("FastGPT %s is older than 4.6, and its variables have other names" % found["version"], "Upgrade FastGPT")
    if numbers >= FIRST_WITH_AIPROXY_ONLY:
        raise WrongPath(
            "FastGPT %s calls AI Proxy only: OPENAI_BASE_URL and CHAT_API_KEY went with 4.17.0, and it does not start "
            "without AIPROXY_API_ENDPOINT" % found["version"],
            "Use fastgpt_compose_path: aiproxy, which needs one channel of type Ollama and nothing else")


def _calling(app, numbers, url, key):
    """Intents that let FastGPT send every request to url (without /v1), with that key."""
    found = _without_aiproxy(app, numbers)
    if app["variables"].get("OPENAI_BASE_URL") != url + "/v1":
        found.append(Intent("variable", app["name"], "OPENAI_BASE_URL", url + "/v1"))
    found.append(Intent("variable", app["name"], "CHAT_API_KEY", key))
    return found


def _without_aiproxy(app, numbers):
    """Intents that empty what goes before OPENAI_BASE_URL and CHAT_API_KEY.

    Both of AI Proxy's: until 4.14.17 its token is used as the key even where the endpoint is empty. Emptied, and not
    removed: compose cannot remove an entry of a list from another file, and FastGPT takes empty for unset.
    """
    names = ["AIPROXY_API_ENDPOINT", "AIPROXY_API_TOKEN"]
    if numbers < FIRST_WITHOUT_ONEAPI_URL:
        names.append("ONEAPI_URL")
    return [Intent("variable", app["name"], name, "") for name in names if app["variables"].get(name, "") != ""]


def _ways(ollamas, host, owner):
    """[(inventory host, Way)]; a host may run more than one Ollama."""
    return [(one["host"], way(one, host, owner["network_mode"])) for one in ollamas]


def _reaching(found, service, ways):
    """Intents that let a service's container reach each Ollama: its networks, then its names."""
    intents = _joining(found, service, sorted({one.network for dummy, one in ways if one.network}))
    names = sorted({one.extra_host for dummy, one in ways if one.extra_host} - set(service["extra_hosts"]))
    return intents + [Intent("host", service["name"], name, HOST_GATEWAY) for name in names]


def _joining(found, service, names):
    missing = [name for name in names if name not in service["networks"].values()]
    keys = {name: key for key, name in found["networks"].items()}
    # A service without `networks` is in `default`, and would leave it with the first network that a file names.
    intents = [Intent("network", service["name"], "default")] if missing and "default" in service["networks"] else []
    for name in missing:
        key = keys.get(name)
        if key is None:
            key = name if name not in found["networks"] else "localmodels_" + name
            intents.append(Intent("declared", "", key, name))
        intents.append(Intent("network", service["name"], key))
    return intents


def _bypassing(service, hosts):
    """Intents that keep a service's calls to hosts away from its proxy: its lists completed, or made where it has none."""
    lists = [name for name in LISTS if service["variables"].get(name) is not None]
    if not lists:
        return [Intent("variable", service["name"], name, ",".join(hosts)) for name in LISTS if service["proxied"] and hosts]
    intents = []
    for name in lists:
        value = service["variables"][name]
        entries = {entry.strip().lower() for entry in value.split(",")}
        missing = ",".join(host for host in hosts if host.lower() not in entries and "*" not in entries)
        # One empty list hides the other from Node.js, so it is completed too, unless there is no proxy at all.
        if missing and not value.strip() and (service["proxied"] or any(service["variables"][other] for other in lists)):
            intents.append(Intent("variable", service["name"], name, missing))
        elif missing and value.strip():
            added = missing if value.rstrip().endswith(",") else "," + missing
            intents.append(Intent("listed", service["name"], name, value + added, added))
    return intents


def _hosts(ways):
    return list(dict.fromkeys(_project.endpoint_host(one.url) for dummy, one in ways))


def _urls(ways):
    return {name: one.url for name, one in ways}


def _networked(found, service):
    """The service whose networks a service uses: itself, or the one that its network_mode names."""
    mode = service["network_mode"]
    if mode.startswith("container:"):
        raise WrongPath("Service %s uses the network of a container that this project does not know (network_mode: %s)" % (
            service["name"], mode), "Give it networks of its own")
    return found["services"][mode.partition(":")[2]] if mode.startswith("service:") else service


def _own_one_api(services, apps, project):
    """Name of the project's own one-api service that every FastGPT calls, or None."""
    called = [_project.endpoint_host(services[app]["variables"].get("OPENAI_BASE_URL") or "") or "" for app in apps]
    return next((name for name, one in sorted(services.items()) if _ONE_API.search(_project.image_name(project.services[name].image))
                 and all(host.lower() in one["names"] for host in called)), None)


def _service_facts(service, spec, networks):
    environment = spec.get("environment") or {}
    variables = {name: environment[name] and scrub(environment[name]) for name in SHOWN if name in environment}
    variables.update({name: environment[name] and "(set)" for name in HIDDEN if name in environment})
    aliases = [alias for end in (spec.get("networks") or {}).values() for alias in (end or {}).get("aliases") or ()]
    return {
        "name": service.name,
        "names": sorted({name.lower() for name in [service.name, spec.get("container_name"), spec.get("hostname")] + aliases if name}),
        "version": _project.version_of(service.image),
        "port": service.port(),
        "published": sorted({outer for dummy, outer in service.published.values()} - set(service.published)),
        "network_mode": service.network_mode,
        "networks": {key: networks.get(key, key) for key in spec.get("networks") or {}},
        "extra_hosts": _project.split_extra_hosts(spec.get("extra_hosts")),
        "variables": variables,
        "proxied": any(environment.get(name) for name in _project.PROXY_VARIABLES),
    }
