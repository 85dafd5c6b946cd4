# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an effective project is what its path demands, told from `docker compose config` before and after alone.

It shares no code with what it judges: a mistake there is not made here again.
"""

from __future__ import annotations

import re

GATEWAY_VARIABLES = {"AIPROXY_API_ENDPOINT", "AIPROXY_API_TOKEN", "OPENAI_BASE_URL", "CHAT_API_KEY", "ONEAPI_URL"}
LISTS = {"NO_PROXY", "no_proxy"}
PROXIES = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"}
OLLAMA = {"container": "ollama", "host": "host.docker.internal"}
JOINED = {"ollama", "one-api"}


def complaints(before, after, path, kind):
    """What is wrong (list of str); empty if all is right."""
    found = list(_unwanted(before, after))
    apps = [name for name, spec in before["services"].items() if _is_app(spec)]
    if not apps:
        return found + ["no service is FastGPT"]
    for name in apps:
        found += _app(after, name, path, kind, _version(before["services"][name]))
    return found


def _unwanted(before, after):
    """Differences that no path needs."""
    for key in set(before) | set(after):
        if key not in ("services", "networks") and before.get(key) != after.get(key):
            yield "%s differs" % key
    for name, spec in (before.get("networks") or {}).items():
        if (after.get("networks") or {}).get(name) != spec:
            yield "network %s differs" % name
    for name, spec in (after.get("networks") or {}).items():
        if name not in (before.get("networks") or {}) and not (spec.get("external") and spec["name"] in JOINED):
            yield "network %s came" % name
    if sorted(before["services"]) != sorted(after["services"]):
        yield "services came or went"
    for name, spec in before["services"].items():
        new = after["services"].get(name, {})
        for key in set(spec) | set(new):
            if key == "environment":
                yield from _environment(name, spec.get(key) or {}, new.get(key) or {})
            elif key == "networks":
                kept = {one: new[key].get(one, "gone") for one in spec.get(key) or {}}
                came = {after["networks"][one]["name"] for one in set(new[key]) - set(spec.get(key) or {})}
                if kept != (spec.get(key) or {}) or came - JOINED:
                    yield "networks of %s differ: %s" % (name, sorted(new[key]))
            elif key == "extra_hosts":
                if set(_hosts(new)) - set(_hosts(spec)) - {("host.docker.internal", "host-gateway")} or set(_hosts(spec)) - set(_hosts(new)):
                    yield "extra_hosts of %s differ" % name
            elif spec.get(key) != new.get(key):
                yield "%s of %s differs" % (key, name)


def _environment(service, before, after):
    for name in set(before) | set(after):
        if before.get(name, "-") == after.get(name, "-") or name in GATEWAY_VARIABLES:
            continue
        kept = (after.get(name) or "").startswith((before.get(name) or "").rstrip(","))
        needed = any(before.get(one) for one in PROXIES | LISTS)
        if name not in LISTS or not kept or not needed:
            yield "variable %s of %s differs" % (name, service)


def _app(config, name, path, kind, version):
    """What is wrong with one FastGPT."""
    spec = config["services"][name]
    variables = spec.get("environment") or {}
    if path == "aiproxy":
        if version and version < (4, 8, 23):
            yield "FastGPT %s knows no AI Proxy" % (version,)
        if not variables.get("AIPROXY_API_ENDPOINT") or not variables.get("AIPROXY_API_TOKEN"):
            yield "%s does not call AI Proxy" % name
        callers = _called(config, variables.get("AIPROXY_API_ENDPOINT"))
        if not callers:
            yield "AIPROXY_API_ENDPOINT of %s leads to no service" % name
    else:
        if not version or version >= (4, 17):
            yield "FastGPT %s knows AI Proxy only" % (version,)
        if variables.get("AIPROXY_API_ENDPOINT") or variables.get("AIPROXY_API_TOKEN"):
            yield "%s still calls AI Proxy" % name
        if version and version < (4, 8, 20) and variables.get("ONEAPI_URL"):
            yield "ONEAPI_URL of %s goes first" % name
        url, key = variables.get("OPENAI_BASE_URL") or "", variables.get("CHAT_API_KEY")
        if not re.match(r"^https?://[^/]+/v1$", url) or not key:
            yield "%s has no address or no key: %s" % (name, url)
        if path == "direct":
            callers = [name]
            wanted = "127.0.0.1" if config["services"][_owner(config, name)].get("network_mode") == "host" else OLLAMA[kind]
            if url != "http://%s:11434/v1" % wanted:
                yield "%s calls %s" % (name, url)
        else:
            callers = _called(config, url)
            if not callers and "one-api" not in _networks(config, _owner(config, name)):
                yield "%s does not reach %s" % (name, url)
            yield from _through_proxy(config, name, re.sub(r"^https?://|[:/].*$", "", url))
    for caller in callers:
        yield from _reaches(config, caller, kind)


def _reaches(config, name, kind):
    """What is wrong with a service that has to call Ollama."""
    owner = _owner(config, name)
    if config["services"][owner].get("network_mode") == "host":
        return
    if kind == "container" and "ollama" not in _networks(config, owner):
        yield "%s is not in the network ollama" % owner
    if kind == "host" and "host.docker.internal" not in dict(_hosts(config["services"][owner])):
        yield "%s does not know host.docker.internal" % owner
    yield from _through_proxy(config, name, OLLAMA[kind])  # its own: variables are not shared with a network


def _owner(config, name):
    """The service whose networks a service uses."""
    mode = config["services"][name].get("network_mode") or ""
    return mode.partition(":")[2] if mode.startswith("service:") else name


def _through_proxy(config, name, host):
    variables = config["services"][name].get("environment") or {}
    lists = [variables[one] for one in LISTS if variables.get(one)]
    if any(variables.get(one) for one in PROXIES) and not lists:
        yield "%s calls %s through a proxy" % (name, host)
    for value in lists:
        if host not in [one.strip().lower() for one in value.split(",")] and "*" not in value.split(","):
            yield "no_proxy of %s lacks %s" % (name, host)


def _called(config, url):
    """The services that a URL names."""
    host = re.sub(r"^https?://|[:/].*$", "", url or "").lower()
    return [name for name, spec in config["services"].items()
            if host in {str(one).lower() for one in [name, spec.get("container_name"), spec.get("hostname")] if one}
            or host in {alias.lower() for end in (spec.get("networks") or {}).values() for alias in (end or {}).get("aliases") or ()}]


def _networks(config, service):
    return {config["networks"][key]["name"] for key in config["services"][service].get("networks") or {}}


def _hosts(spec):
    entries = spec.get("extra_hosts") or []
    return [tuple(re.split("[=:]", entry, maxsplit=1)) for entry in entries]


def _is_app(spec):
    image = (spec.get("image") or "").partition("@")[0]
    variables = spec.get("environment") or {}
    return bool(re.search(r"(^|/)fastgpt(:[^/]*)?$", image)) or ("DEFAULT_ROOT_PSW" in variables and bool(variables.get("MONGODB_URI")))


def _version(spec):
    found = re.search(r":v?(\d+(?:\.\d+)+)[^/:]*$", (spec.get("image") or "").partition("@")[0])
    return tuple(int(part) for part in found.group(1).split(".")) if found else None
