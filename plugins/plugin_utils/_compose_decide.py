# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to FastGPT's compose project, decided from what was read of it. Internal to this collection. Pure."""

from __future__ import annotations

import os

import yaml

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose, _compose_paths
from ansible_collections.localmodels.fastgpt.plugins.module_utils._address import HOST_GATEWAY
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_intents import Intent, document
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import CannotEdit, carried_out
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import endpoint_host
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit import edits, refuse_kept
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit_files import shared_out
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit_read import Source
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._yaml_place import place


def decide(found, task, host, looks=False):
    """The task's result (dict) with the key `plan` for the module. Raises LocalModelsError.

    found: Reading.found(). task: dict with `ollama`, `path`, `strategy`, `one_api_url`, `one_api_network`, `apply` (whether containers
    follow). host: inventory name of FastGPT's host. looks: whether nothing is going to be changed; role one_api may then have yet to
    make its key.
    """
    try:
        wanted = _compose_paths.wanted(found["facts"], task["path"], task["ollama"], host, _one_api(found, task, looks))
        changes = _edits(found, wanted.intents) if task["strategy"] == "in_place" else {}
    except CannotEdit as problem:
        problem.path = problem.path and os.path.join(found["folder"], problem.path)
        raise
    except LocalModelsError as problem:
        raise _placed(found, problem) from problem
    text = None
    if wanted.intents and task["strategy"] == "override":
        text = _compose.with_header(yaml.safe_dump(document(wanted.intents), sort_keys=False, default_flow_style=False))
    needs = _needs(found, wanted) if task["apply"] else {}
    lacking = {name: sentences for name, sentences in
               ((name, _compose.lacking(found["containers"][name], intents)) for name, intents in needs.items()) if sentences}
    unfinished = found["unfinished"] and task["apply"]
    actions = _writing(found, text, changes) + [sentence for sentences in lacking.values() for sentence in sentences]
    if unfinished:
        actions.append("Finish a change that was cut off")
    path = os.path.join(found["folder"], found["place"])
    return {
        "changed": bool(actions),
        "actions": actions,
        "file": path if text is not None else None,
        "files": [os.path.join(found["folder"], name) for name in changes],
        "service": wanted.caller,
        "version": found["facts"]["version"],
        "ollama_urls": wanted.urls,
        "diff": _differences(found, text, changes),
        "warnings": wanted.warnings + _rootless(found, wanted),
        "plan": {
            "intents": [list(one) for one in wanted.intents],
            "text": text,
            "edits": changes,
            "services": sorted(_services(found, wanted, text) | set(lacking)),
            "gateway": wanted.gateway,
            "lacking": bool(lacking) or unfinished,
            "needs": {name: [list(one) for one in intents] for name, intents in needs.items()},
            "external": [one.value for one in wanted.intents if one.kind == "declared"],
        },
    }


def located(failure):
    """The module's failure, told with file, line and column where compose could not read the project."""
    outlines = failure.pop("outlines", None) or []
    for one in outlines:
        found = place(one["text"], one["said"])
        if found:
            failure["msg"] = "%s:%d:%d: %s" % (one["path"], found[0], found[1], failure["msg"])
            break
    return failure


def _rootless(found, wanted):
    """What is said (list of str) where containers of an engine without root have to call their machine."""
    names = [one.name for one in wanted.intents if one.kind == "host"]
    if not found["rootless"] or not names:
        return []
    return ["The Docker engine runs without root, and its containers reach the machine as %s only if dockerd was started with --host-gateway-ip and "
            "its network lets them (DOCKERD_ROOTLESS_ROOTLESSKIT_DISABLE_HOST_LOOPBACK=false). If the check of the hops says that Ollama cannot be "
            "reached, run Ollama in a container (ollama_provider: docker)" % names[0]]


def _one_api(found, task, looks):
    """What is known of a one-api beside the project, None where only the project's own can be meant."""
    if not found["key"] and (found["facts"]["one_api"] or not looks):
        return None
    return {"url": task["one_api_url"], "network": task["one_api_network"], "key": _compose_paths.KEY}


def _edits(found, intents):
    """{name: edits} of the operator's files."""
    changes = {}
    for name, part in shared_out(found["files"], intents).items():
        try:
            refuse_kept(found["managed"].get(name))
            changes[name] = edits(found["files"][name], part)
        except CannotEdit as problem:
            problem.path = name
            raise
    return {name: one for name, one in changes.items() if one}


def _placed(found, problem):
    """A refusal with the place in the operator's files that it is about: the image of FastGPT tells its version."""
    for name, text in found["files"].items():
        try:
            line, column = Source(text).place_of("services", found["facts"]["apps"][0], "image")
        except CannotEdit:
            continue
        return CannotEdit(problem.what, problem.mend, line, column, os.path.join(found["folder"], name))
    return problem


def _needs(found, wanted):
    """{service: [Intent]} of what running containers must have, networks by Docker's names.

    That is what we add and what the operator's own files say: a container may have left any of its networks since, by hand.
    """
    facts, containers = found["facts"], found["containers"]
    names = dict(facts["networks"])
    names.update({one.name: one.value for one in wanted.intents if one.kind == "declared"})
    running = [name for name in facts["apps"] if containers[name]["state"] == "running"]
    needs = {}
    for service in sorted(set(wanted.touched) | {name for name in (wanted.caller, wanted.gateway) if name} | set(running or facts["apps"][:1])):
        added = [one._replace(name=names.get(one.name, one.name)) if one.kind == "network" else one
                 for one in wanted.intents if one.service == service]
        own = [Intent("network", service, name) for name in facts["services"][service]["networks"].values()]
        own += [Intent("host", service, name, address) for name, address in facts["services"][service]["extra_hosts"].items() if address == HOST_GATEWAY]
        needs[service] = list(dict.fromkeys(own + added)) + (_called(facts, service) if service == wanted.gateway else [])
    return needs


def _called(facts, gateway):
    """[Intent] of the names by which FastGPT calls its gateway; Docker tells them apart by network."""
    service, found = facts["services"][gateway], []
    for app in [facts["services"][name] for name in facts["apps"]]:
        shared = [name for name in app["networks"].values() if name in service["networks"].values()]
        for name in ("AIPROXY_API_ENDPOINT", "OPENAI_BASE_URL"):
            host = (endpoint_host(app["variables"].get(name) or "") or "").lower()
            found += [Intent("called", gateway, network, host) for network in shared if host in service["names"]]
    return list(dict.fromkeys(found))


def _services(found, wanted, text):
    """Names (set) of the services that a change concerns: those that get something, and those that lose what they had from us."""
    services = set(wanted.touched) | {name for name in (wanted.caller, wanted.gateway) if name}
    if found["edited"] or found["unfinished"]:
        facts = found["facts"]
        services |= set(facts["apps"]) | {name for name in (facts["gateway"], facts["one_api"]) if name and found["containers"][name]["state"] == "running"}
    if found["text"] and found["text"] != text:
        services |= set((yaml.safe_load(found["text"]) or {}).get("services") or {}) & set(found["containers"])
    return services


def _writing(found, text, changes):
    """Sentences about files; whether the operator's differ is known on their host only."""
    folder, actions = found["folder"], []
    path = os.path.join(folder, found["place"])
    if text is None and found["text"]:
        actions.append("Remove %s, for nothing in it is needed any more" % path)
    elif text is not None and text != found["text"]:
        actions.append("Write %s" % path)
    if text is not None and not found["joined"]:
        actions.append("List %s in COMPOSE_FILE in %s" % (found["place"], os.path.join(folder, ".env")))
    actions += ["Edit %s" % os.path.join(folder, name) for name in changes]
    actions += ["Take this role's edits of %s back" % os.path.join(folder, name) for name in found["edited"] if name not in changes]
    actions += ["Remove %s, which compose no longer reads" % os.path.join(folder, name) for name in found["left_over"]]
    return actions


def _differences(found, text, changes):
    """What is shown of the change. Values of the operator's files are masked, and one-api's key is."""
    shown = []
    path = os.path.join(found["folder"], found["place"])
    if (found["text"] or None) != text or not changes:
        shown.append({"before": _hidden(found["text"] or ""), "after": _hidden(text or ""), "before_header": path, "after_header": path})
    dotenv = found["dotenv"]["parted" if text is None else "joined"]
    if dotenv != found["dotenv"]["now"]:
        path = os.path.join(found["folder"], ".env")
        shown.append({"before": found["dotenv"]["now"], "after": dotenv, "before_header": path + " (values masked)", "after_header": path + " (values masked)"})
    for name, change in changes.items():
        path = os.path.join(found["folder"], name)
        shown.append({"before": found["files"][name], "after": _hidden(carried_out(found["files"][name], change)),
                      "before_header": path + " (values masked)", "after_header": path + " (values masked)"})
    return shown[0] if len(shown) == 1 else shown


def _hidden(text):
    return text.replace(_compose_paths.KEY, "***")
