# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an Ollama server listens and with which environment it starts. Pure. Internal to this collection.

Facts about the server: Ollama 0.32, envconfig/config.go, and runs of the real server.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub, url_passwords

DEFAULT_PORT = 11434

BOOLEANS = frozenset((
    "OLLAMA_AUTH", "OLLAMA_DEBUG_LOG_REQUESTS", "OLLAMA_FLASH_ATTENTION", "OLLAMA_GO_TEMPLATE", "OLLAMA_IGPU_ENABLE",
    "OLLAMA_NO_CLOUD", "OLLAMA_NOHISTORY", "OLLAMA_NOPRUNE", "OLLAMA_SCHED_SPREAD", "OLLAMA_VULKAN",
))
COUNTS = frozenset((
    "OLLAMA_CONTEXT_LENGTH", "OLLAMA_GPU_OVERHEAD", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_MAX_QUEUE",
    "OLLAMA_MAX_TRANSFER_STREAMS", "OLLAMA_NUM_PARALLEL",
))
DURATIONS = frozenset(("OLLAMA_KEEP_ALIVE", "OLLAMA_LOAD_TIMEOUT"))
# Names that people try; the server has never read them.
IMAGINED = frozenset(("OLLAMA_INSECURE", "OLLAMA_REGISTRIES", "OLLAMA_REGISTRY", "OLLAMA_REGISTRY_MIRROR"))

_BOOLEAN = re.compile(r"(?i)^(0|1|true|false)\Z")
_DURATION = re.compile(r"^-?(\d+|(\d+(\.\d+)?(ns|us|ms|s|m|h))+)\Z")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*\Z")
_VERSION = re.compile(r"^\d+\.\d+\.\d+(-rc\d+)?\Z")
# Environment="NAME=value" of a unit, NAME: "value" of a compose file. MySQL's DSN is no URL: root:password@tcp(mysql:3306)/oneapi.
_SECRET_NAME = re.compile(r"(?i)(?:key|token|secret|password|passwd|dsn)$")
_SECRET_LINE = re.compile(r"(?im)(?P<name>\b\w*(?:key|token|secret|password|passwd|dsn)(?:=|: ))(?P<value>.*?)(?P<end>\"?)$")


class Listen:
    """Where the API is offered: `host` (str, IPv6 without brackets), `port` (int).

    text: HOST:PORT as OLLAMA_HOST and Docker want it. url: by which the machine itself reaches it.
    loopback_only: whether nobody but the machine itself can reach it. is_address: whether host is no name but an address.
    """

    def __init__(self, host, port):
        self.host = host
        self.port = port
        address = _address(host)
        self.is_address = address is not None
        self.everywhere = bool(address and address.is_unspecified)
        self.loopback_only = bool(address and address.is_loopback)
        self.text = "%s:%d" % (_bracketed(host), port)
        near = "127.0.0.1" if self.everywhere else host
        self.url = "http://%s:%d" % (_bracketed(near), port)


def parse_listen(text):
    """ADDRESS, ADDRESS:PORT, [IPv6]:PORT or :PORT -> Listen. Raises LocalModelsError.

    Stricter than the server, which listens on port 80 for http://x and on 11434 for a port that is none.
    """
    given = str(text).strip()
    scheme, mark, rest = given.partition("://")
    if not mark:
        rest = given
    elif scheme.lower() != "http":
        raise LocalModelsError("The listen address %r has the scheme %s, but Ollama speaks plain http only" % (given, scheme),
                               "Write ADDRESS:PORT; for TLS put a proxy in front")
    rest = rest.rstrip("/")
    match = re.match(r"^(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[^:\[\]/\s@]*))(?::(?P<port>[^:]*))?\Z", rest)
    if not rest or not match:
        raise LocalModelsError("The listen address %r is no ADDRESS:PORT" % given,
                               "Write for example 127.0.0.1:11434 or 0.0.0.0:11434; an IPv6 address in brackets")
    port = match.group("port")
    if mark and port is None:
        raise LocalModelsError("The listen address %r has a scheme and no port: Ollama would listen on port 80" % given,
                               "Write ADDRESS:PORT, for example %s:11434" % (rest or "127.0.0.1"))
    if port is None:
        port = str(DEFAULT_PORT)
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise LocalModelsError("The listen address %r has no valid port" % given, "Write a port between 1 and 65535")
    host = match.group("six") or match.group("host") or "0.0.0.0"
    host = "127.0.0.1" if host == "localhost" else host
    if match.group("six") and not _address(host):
        raise LocalModelsError("The listen address %r holds no IPv6 address between its brackets" % given)
    return Listen(host, int(port))


def parse_version(text):
    """A released version such as 0.32.15 -> the same text. Raises LocalModelsError."""
    version = str(text).strip()
    if not _VERSION.match(version):
        raise LocalModelsError("%r is no version of Ollama" % version,
                               "Pin a release by its number without a v, such as 0.32.15")
    return version


def read_environment(given, reserved):
    """The declared variables {name: value} as {name: str}, checked as far as the server itself does not complain.

    reserved: {name: what to set instead}. Lists are joined by commas, YAML's true and false become 1 and 0.
    Raises LocalModelsError.
    """
    environment = {}
    for name, value in given.items():
        if not _NAME.match(str(name)):
            raise LocalModelsError("%r cannot be the name of an environment variable" % name,
                                   "Use letters, digits and underscores")
        if name in reserved:
            raise LocalModelsError("%s does not belong into the environment" % name, reserved[name])
        environment[name] = _text(name, value)
        _check(name, environment[name])
    return environment


def imagined(environment):
    """Names in `environment` (dict) that Ollama has never read, sorted."""
    return sorted(IMAGINED.intersection(environment))


def fingerprint(settings):
    """16 hex digits that stand for `settings` (JSON-able): what was started with it can be recognised."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def masked(text):
    """A unit or compose file (str) as it may be shown: without values of variables that end in KEY, TOKEN and the like,
    and without passwords in URLs."""
    return scrub(_SECRET_LINE.sub(r"\g<name>***\g<end>", text))


def secret_values(given):
    """What must not be shown of the declared variables {name: value}, before they are checked: list of str."""
    texts = {str(name): str(value) for name, value in given.items() if value not in (None, "")}
    named = [text for name, text in texts.items() if _SECRET_NAME.search(name)]
    return named + [password for text in texts.values() for password in url_passwords(text)]


def _text(name, value):
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, (list, tuple)):
        return ",".join(_text(name, one) for one in value)
    if value is None or isinstance(value, dict):
        raise LocalModelsError("The variable %s has no value that an environment can hold" % name,
                               "Give a text, a number, true or false; leave the variable out to unset it")
    text = str(value)
    if re.search(r"[\x00\r\n]", text):
        raise LocalModelsError("The value of %s has more than one line" % name, "Write it on one line")
    return text


def _check(name, value):
    if name in BOOLEANS and not _BOOLEAN.match(value):
        raise LocalModelsError(
            "%s is %r, which Ollama would take for true" % (name, value), "Write 1 or 0, true or false")
    if name in COUNTS and not value.isdigit():
        raise LocalModelsError("%s is %r, which is no count; Ollama would use its default" % (name, value),
                               "Write a number, 0 or more")
    if name in DURATIONS and not _DURATION.match(value):
        raise LocalModelsError(
            "%s is %r, which is no duration; Ollama would use its default without a word" % (name, value),
            "Write seconds or a duration such as 10m; -1 for ever")
    if name == "OLLAMA_KV_CACHE_TYPE" and value not in ("f16", "q8_0", "q4_0"):
        raise LocalModelsError("OLLAMA_KV_CACHE_TYPE is %r, which no model can be loaded with" % value,
                               "Write f16, q8_0 or q4_0")
    if name == "OLLAMA_ORIGINS":
        for origin in filter(None, (one.strip() for one in value.split(","))):
            if "://" not in origin and "*" not in origin:
                raise LocalModelsError("The origin %r in OLLAMA_ORIGINS has no scheme: Ollama would not start" % origin,
                                       "Write http://%s or https://%s" % (origin, origin))


def _address(host):
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _bracketed(host):
    return "[%s]" % host if ":" in host else host
