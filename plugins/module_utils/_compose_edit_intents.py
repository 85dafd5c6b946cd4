# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What shall differ in a compose project, whoever writes it and however. Internal to this collection. Pure."""

from __future__ import annotations

import collections
import copy

from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import split_extra_hosts
from ansible_collections.localmodels.fastgpt.plugins.module_utils._yaml_text import doubled


class Intent(collections.namedtuple("Intent", "kind service name value added")):
    """One thing that shall hold. A tuple of texts, so that it can travel as JSON: Intent(*list).

    kind        service  name             value                     added
    variable    whose    of the variable  its value                 ""
    listed      whose    of the variable  its value then            what is added at its end, commas included
    network     whose    key of network   ""                        ""
    host        whose    host name        its address               ""
    declared    ""       key of network   Docker's name, external   ""
    """

    __slots__ = ()

    def __new__(cls, kind, service, name, value="", added=""):
        return super().__new__(cls, kind, service, name, value, added)


def document(intents):
    """The override document (dict, ready to be written as YAML) that docker compose merges; {} for no intents."""
    services, networks = {}, {}
    for one in intents:
        service = services.setdefault(one.service, {}) if one.service else None
        if one.kind in ("variable", "listed"):
            service.setdefault("environment", {})[one.name] = doubled(one.value)
        elif one.kind == "network":
            service.setdefault("networks", {})[one.name] = None
        elif one.kind == "host":
            service.setdefault("extra_hosts", []).append("%s:%s" % (one.name, one.value))
        else:
            networks[one.name] = {"name": one.value, "external": True}
    found = {"services": services} if services else {}
    if networks:
        found["networks"] = networks
    return found


def fulfilled(config, intents):
    """The effective project (dict, as `docker compose config` tells it) that must come out; `config` stays as it is."""
    config = copy.deepcopy(config)
    for one in intents:
        service = config["services"][one.service] if one.service else None
        if one.kind in ("variable", "listed"):
            service["environment"] = dict(service.get("environment") or {}, **{one.name: one.value})
        elif one.kind == "network":
            service["networks"] = dict(service.get("networks") or {}, **{one.name: (service.get("networks") or {}).get(one.name)})
        elif one.kind == "host":
            service["extra_hosts"] = dict(split_extra_hosts(service.get("extra_hosts")), **{one.name: one.value})
        else:
            config["networks"] = dict(config.get("networks") or {}, **{one.name: {"name": one.value, "external": True}})
    return config


def differences(before, after):
    """Where two effective projects differ: {path such as `services.app.environment.A`: (before, after)}; None is absent."""
    return dict(_differences(_normal(before), _normal(after), ()))


def _normal(config):
    """Compose writes the same thing in several ways."""
    config = copy.deepcopy(config)
    for spec in config.get("services", {}).values():
        if spec.get("extra_hosts"):
            spec["extra_hosts"] = split_extra_hosts(spec["extra_hosts"])
    for key, spec in (config.get("networks") or {}).items():
        config["networks"][key] = {name: value for name, value in (spec or {}).items() if value != {}}
    return config


class _Absent:
    def __eq__(self, other):
        return isinstance(other, _Absent)

    def __repr__(self):
        return "absent"


_ABSENT = _Absent()


def _differences(before, after, path):
    if isinstance(before, dict) and isinstance(after, dict):
        for key in list(before) + [key for key in after if key not in before]:
            yield from _differences(before.get(key, _ABSENT), after.get(key, _ABSENT), path + (str(key),))
    elif before is _ABSENT and isinstance(after, dict) and after and len(path) > 2:
        yield from _differences({}, after, path)
    elif before != after:
        yield ".".join(path), (before, after)
