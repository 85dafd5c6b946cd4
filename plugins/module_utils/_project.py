# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FastGPT's compose project: who is who, where is what, which secrets. Internal to this collection.

Pure: works on what `docker compose config --format json` and `docker inspect` say.
"""

from __future__ import annotations

import re
import urllib.parse

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub

# FastGPT resets root's password to this one at every start where DEFAULT_ROOT_PSW is not set (reference, section 4).
BUILT_IN_ROOT_PASSWORD = "123456"
INNER_PORT = 3000  # both FastGPT and AI Proxy listen there unless told otherwise
SERVICE_LABEL = "com.docker.compose.service"
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|PSW|PWD|DSN")
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


class NoSuchService(LocalModelsError):
    """The project has no FastGPT, or no AI Proxy, or more than one that could be meant."""


class Secret:
    """A secret and where it was found. Only `.value` shows it: printing, formatting and logging do not."""

    def __init__(self, value, found_in):
        self.value = value
        self.found_in = found_in

    def __repr__(self):
        return "<secret found in %s>" % self.found_in


class Service:
    """One service of the project with the container that stands for it now.

    name, image: str. container: str or None. state: Docker's word (`running`, `exited`, ...) or `missing`.
    health: `healthy`, `unhealthy`, `starting`, or "" without a health check; health_said: last output of a check that
    failed. restarts: how often Docker restarted it (int). networks: {name of the Docker network:
    the container's address in it (str, "" where it has none)}. names: {name of the Docker network: what the container is called there
    (list of str, lower case)}, {} without a container. network_mode: str or "". extra_hosts: {name: address}.
    published: {container port (int): (host address, host port)}.
    """

    def __init__(self, name, spec, networks, containers):
        self.name = name
        self.image = spec.get("image") or ""
        self.network_mode = spec.get("network_mode") or ""
        self.extra_hosts = split_extra_hosts(spec.get("extra_hosts"))
        self._declared = {key: "" if value is None else str(value)
                          for key, value in (spec.get("environment") or {}).items()}
        self._inside = None
        self.container, self.state = spec.get("container_name"), "missing"
        self.health, self.health_said, self.restarts = "", "", 0
        self.networks = {networks[key]: "" for key in spec.get("networks") or {} if key in networks}
        self.names = {}
        self.published = dict(_declared_ports(spec))
        self.copies = len(containers)
        if containers:
            self._take(containers[0])

    def _take(self, inspected):
        """What `docker inspect` says of the container goes before what the file says: it is what answers."""
        self.container = inspected["Name"].lstrip("/")
        state = inspected.get("State") or {}
        self.state = state.get("Status") or "unknown"
        self.restarts = inspected.get("RestartCount") or 0
        self.image = inspected["Config"].get("Image") or self.image
        pairs = (entry.partition("=") for entry in inspected["Config"].get("Env") or ())
        self._inside = {name: value for name, dummy, value in pairs}
        health = state.get("Health") or {}
        self.health = health.get("Status") or ""
        last = (health.get("Log") or [{}])[-1]
        self.health_said = " ".join(last.get("Output", "").split())[-200:] if last.get("ExitCode") else ""
        self.health_said = scrub(self.health_said, self.secret_values())
        self.extra_hosts = split_extra_hosts((inspected.get("HostConfig") or {}).get("ExtraHosts"))
        found = inspected.get("NetworkSettings") or {}
        self.networks = {name: end.get("IPAddress") or end.get("GlobalIPv6Address") or ""
                         for name, end in (found.get("Networks") or {}).items() if name != "host"}
        everywhere = [self.container, inspected["Config"].get("Hostname") or ""]
        # Aliases are what somebody gave; DNSNames, from Docker 25 on, all that it answers to.
        self.names = {name: sorted({one.lower() for one in everywhere + (end.get("Aliases") or []) + (end.get("DNSNames") or []) if one})
                      for name, end in (found.get("Networks") or {}).items()}
        if self.state == "running":
            self.published = dict(_bound_ports(found.get("Ports") or {}))

    def variable(self, name):
        """Value (str) of an environment variable in the container, else in the file; None where it is set nowhere."""
        return (self._declared if self._inside is None else self._inside).get(name)

    def secret(self, name, folder):
        """Secret for an environment variable, or None where it is unset or empty."""
        value = self.variable(name)
        if not value:
            return None
        where = "%s of service %s in %s" % (name, self.name, folder)
        if self._inside is not None and self._declared.get(name) != value:
            where = "%s of the running container %s (service %s in %s says otherwise)" % (
                name, self.container, self.name, folder)
        return Secret(value, where)

    def secret_values(self):
        """Values (list of str) of its variables that are secrets by their names: what must not be repeated from its log."""
        variables = dict(self._declared, **(self._inside or {}))
        return [value for name, value in variables.items() if value and _SECRET_NAME.search(name)]

    def runs(self):
        return self.state == "running"

    def port(self):
        """The port (int) it listens on in its container."""
        said = self.variable("PORT") or ""
        return int(said) if said.isdigit() else INNER_PORT

    def proxied(self):
        """Whether a proxy variable is set that can catch calls to neighbours."""
        return any(self.variable(name) for name in PROXY_VARIABLES)

    def url_from_host(self, port=None):
        """http URL by which its Docker host reaches it, or None while it has no address."""
        port = port or self.port()
        if self.network_mode == "host":
            return "http://127.0.0.1:%d" % port
        if port in self.published:
            address, host_port = self.published[port]
            return "http://%s:%d" % (bracket(address), host_port)
        addresses = [address for dummy, address in sorted(self.networks.items()) if address]
        return "http://%s:%d" % (bracket(addresses[0]), port) if addresses and self.runs() else None

    def public(self):
        """What may be shown: dict for RETURN values."""
        return {
            "name": self.name, "image": self.image, "container": self.container, "state": self.state,
            "health": self.health or None, "network_mode": self.network_mode or None,
            "networks": sorted(self.networks), "extra_hosts": dict(self.extra_hosts),
            "ports": {str(inner): "%s:%d" % (bracket(address), outer)
                      for inner, (address, outer) in sorted(self.published.items())},
        }


class Project:
    """FastGPT's compose project.

    apps: list of Service, those that run FastGPT's application (several: copies of the same one); `app` is the one to
    talk to. gateway: Service of AI Proxy, or None. endpoint: AIPROXY_API_ENDPOINT (str, may be ""). version: str such
    as `4.15.4`, or None where the image's tag does not tell. services: {name: Service}.
    """

    def __init__(self, folder, name, services, apps, gateway, networks):
        self.folder = folder
        self.name = name
        self.services = services
        self.apps = apps
        self.app = next((app for app in apps if app.runs() and app.port() in app.published), apps[0])
        self.gateway = gateway
        self.networks = networks
        self.endpoint = (self.app.variable("AIPROXY_API_ENDPOINT") or "").rstrip("/")
        self.version = version_of(self.app.image)

    def root_password(self):
        """Secret: the root user's password, reset by FastGPT to this value at each start."""
        return self.app.secret("DEFAULT_ROOT_PSW", self.folder) or Secret(
            BUILT_IN_ROOT_PASSWORD, "FastGPT's own default, for DEFAULT_ROOT_PSW is not set in %s" % self.folder)

    def admin_key(self):
        """Secret: AI Proxy's admin key, or None where neither AI Proxy nor FastGPT is given one."""
        key = self.gateway.secret("ADMIN_KEY", self.folder) if self.gateway else None
        return key or self.app.secret("AIPROXY_API_TOKEN", self.folder)

    def keys_differ(self):
        """Whether FastGPT holds another admin key than AI Proxy: every call through FastGPT then ends in 401."""
        held = self.app.variable("AIPROXY_API_TOKEN")
        key = self.gateway.variable("ADMIN_KEY") if self.gateway else None
        return bool(held and key and held != key)

    def fastgpt_url(self):
        """http URL by which the Docker host reaches FastGPT, or None while it has no address."""
        return self.app.url_from_host()

    def gateway_url(self):
        """http URL by which the Docker host reaches AI Proxy, or None while it has no address.

        An AI Proxy outside of this project is reached as FastGPT reaches it.
        """
        if self.gateway is None:
            return self.endpoint or None
        named = endpoint_host(self.endpoint) in _names(self.gateway, {})
        return self.gateway.url_from_host(endpoint_port(self.endpoint) if named else None)

    def flavour(self):
        """Which admin API of models to expect (reference, section 3): `A`, `B`, `none`, or None. A guess: probe it."""
        numbers = version_numbers(self.version)
        if not numbers:
            return None
        if numbers < (4, 8, 20):
            return "none"
        return "A" if numbers < (4, 17) else "B"


def stopped(service, folder):
    """(cause, mend) for a Service of the compose project in `folder` whose container does not run."""
    if service.state == "missing":
        return ("Service %s has no container" % service.name, "Make and start it with `docker compose up -d` in %s" % folder)
    mend = "Start it with `docker compose up -d` in %s" % folder
    if service.state == "restarting":
        mend = "Docker starts it again and again"
    return ("The container %s of service %s is %s" % (service.container, service.name, service.state),
            "%s; `docker logs %s` tells why it ended" % (mend, service.container))


def describe(config, containers, folder):
    """Project from the effective compose config (dict) and its containers (`docker inspect`, list of dict).

    folder: str, the project's folder, named in messages. Raises NoSuchService.
    """
    networks = {key: (spec or {}).get("name") or key for key, spec in (config.get("networks") or {}).items()}
    by_service = {}
    for one in containers:
        by_service.setdefault((one["Config"].get("Labels") or {}).get(SERVICE_LABEL), []).append(one)
    for group in by_service.values():
        group.sort(key=lambda one: ((one.get("State") or {}).get("Status") != "running", one["Name"]))
    services = {name: Service(name, spec, networks, by_service.get(name, []))
                for name, spec in (config.get("services") or {}).items()}
    apps = find_apps(services, folder)
    return Project(folder, config.get("name") or "", services, apps, find_gateway(config, services, apps[0], folder), networks)


def find_apps(services, folder):
    """The services that are FastGPT's application: by the image's name, else by the variables that only it has.

    Several are one FastGPT in copies where they share a database; otherwise nobody can tell which one is meant.
    """
    found = [one for one in services.values() if image_name(one.image) == "fastgpt"]
    found = found or [one for one in services.values() if one.variable("DEFAULT_ROOT_PSW") is not None
                      and one.variable("MONGODB_URI")]
    if not found:
        raise NoSuchService(
            "No service in %s is FastGPT: none has an image named .../fastgpt, none has DEFAULT_ROOT_PSW and MONGODB_URI "
            "(services: %s)" % (folder, ", ".join(sorted(services)) or "none"),
            "Set fastgpt_project_dir (project_dir) to the folder of FastGPT's own compose file")
    if len({one.variable("MONGODB_URI") for one in found}) > 1:
        raise NoSuchService(
            "More than one FastGPT is in %s, with databases of their own: %s" % (folder, _list(found)),
            "Keep one FastGPT in a compose project, or give fastgpt_url, root_password, aiproxy_url and admin_key")
    return sorted(found, key=lambda one: (not one.runs(), one.port() not in one.published, one.name))


def find_gateway(config, services, app, folder):
    """AI Proxy's Service, or None where it runs outside of this project.

    Whom FastGPT calls counts first (AIPROXY_API_ENDPOINT: a service under any name and image, or a published port of
    one that looks like AI Proxy); where FastGPT names nobody, it is the only one that looks like it.
    """
    endpoint = app.variable("AIPROXY_API_ENDPOINT") or ""
    host = (endpoint_host(endpoint) or "").lower()
    looks = [one for one in services.values() if "aiproxy" in image_name(one.image)]
    looks = looks or [one for one in services.values() if one.variable("ADMIN_KEY") and one.variable("SQL_DSN")]
    if host:
        called = [one for one in services.values() if host in _names(one, config["services"][one.name])]
        port = endpoint_port(endpoint)
        return next(iter(called + [one for one in looks if port in [outer for dummy, outer in one.published.values()]]), None)
    if len(looks) > 1:
        raise NoSuchService("More than one service in %s could be AI Proxy: %s" % (folder, _list(looks)),
                            "Name the right one as AIPROXY_API_ENDPOINT of FastGPT, such as http://%s:3000" % looks[0].name)
    return looks[0] if looks else None


def image_name(image):
    """`ghcr.io/labring/fastgpt:v4.9.14@sha256:...` -> `fastgpt`."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0].lower()


def version_of(image):
    """`4.15.4` from an image's tag, or None where the tag is no version (`latest`, a digest, a branch)."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    found = re.match(r"v?(\d+\.\d+(?:\.\d+)*(?:-[0-9A-Za-z.]+)?)\Z", tag)
    return found.group(1) if found else None


def version_numbers(version):
    """`4.8.23-fix` -> (4, 8, 23); () where there is nothing to read."""
    found = re.match(r"\d+(?:\.\d+)*", version or "")
    return tuple(int(part) for part in found.group(0).split(".")) if found else ()


def endpoint_host(endpoint):
    """The host (str) in an http URL, or None where there is none to read."""
    try:
        return urllib.parse.urlsplit(endpoint).hostname
    except ValueError:
        return None


def endpoint_port(endpoint):
    """The port (int) in an http URL, or None where it is not written there or no number."""
    try:
        return urllib.parse.urlsplit(endpoint).port
    except ValueError:
        return None


def bracket(address):
    """An address as it stands in a URL: IPv6 in brackets."""
    return "[%s]" % address if ":" in address and not address.startswith("[") else address


def split_extra_hosts(entries):
    """`["a:1.2.3.4"]`, `["a=1.2.3.4"]` or `{"a": "1.2.3.4"}` -> {"a": "1.2.3.4"}: each writer has its own spelling."""
    if isinstance(entries, dict):
        return {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in entries.items()}
    pairs = (re.match(r"([^=:]+)[=:](.*)", entry) for entry in entries or ())
    return {pair.group(1): pair.group(2).strip("[]") for pair in pairs if pair}


def _names(service, spec):
    """Every name under which other containers of the project can call a service."""
    aliases = [alias for end in (spec.get("networks") or {}).values() for alias in (end or {}).get("aliases") or ()]
    named = [service.name, service.container, spec.get("container_name"), spec.get("hostname")] + aliases
    return {name.lower() for name in named if name}


def _declared_ports(spec):
    for port in spec.get("ports") or ():
        published = str(port.get("published") or "")
        if published.isdigit() and port.get("protocol", "tcp") == "tcp":
            yield int(port["target"]), (_reachable(port.get("host_ip")), int(published))


def _bound_ports(ports):
    for inner, bindings in ports.items():
        number, dummy, protocol = inner.partition("/")
        if bindings and protocol == "tcp":
            yield int(number), (_reachable(bindings[0].get("HostIp")), int(bindings[0]["HostPort"]))


def _reachable(address):
    """The address to dial for a listener that the host has: any address is loopback there."""
    return {"": "127.0.0.1", None: "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)


def _list(services):
    return ", ".join("%s (%s)" % (one.name, one.image) for one in services)
