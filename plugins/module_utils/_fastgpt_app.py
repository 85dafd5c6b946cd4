# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simple chat apps of FastGPT. Internal to this collection.

What a chat uses is the newest *published version* of an app, not the app's record (getAppLatestVersion in FastGPT's
packages/service/core/app/version/controller.ts, 4.8 to 4.17): creating an app publishes its first version, `app/update`
changes only the record, and `version/publish` is what puts another model to work.
"""

from __future__ import annotations

import copy
import json

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt import models_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import MODEL_STEPS
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_nodes import simple_edges, simple_nodes

SIMPLE = "simple"
PUBLISHED_AS = "localmodels.fastgpt"
# Options of an app -> the inputs of its model node that hold them.
INPUTS = {"model": "model", "prompt": "systemPrompt"}


class Apps:
    """The apps of root's team. fastgpt: _fastgpt.FastGPT."""

    def __init__(self, fastgpt):
        self._fastgpt = fastgpt

    def all(self):
        """Every app at the top of the team: list of {_id, name, type, intro, ...}. One request."""
        return self._fastgpt.ask("POST", "/api/core/app/list", {"parentId": None})

    def live(self, app_id):
        """What chats of an app use: {nodes, edges, chatConfig}. One request."""
        return self._fastgpt.get("/api/core/app/version/latest", appId=app_id)

    def create(self, name, inputs, intro):
        """Add an app; inputs: {option: value} of INPUTS. Returns its id (str)."""
        return self._fastgpt.ask("POST", "/api/core/app/create", writes=True, body={
            "parentId": None, "name": name, "intro": intro or "", "avatar": "core/app/type/simpleFill", "type": SIMPLE,
            "modules": with_inputs(simple_nodes(), inputs), "edges": simple_edges(), "chatConfig": {}})

    def publish(self, app_id, live, inputs):
        """Publish a version that differs from the live one by `inputs` ({option: value} of INPUTS)."""
        self._fastgpt.ask("POST", "/api/core/app/version/publish?appId=" + app_id, writes=True, body={
            "nodes": with_inputs(live["nodes"], inputs), "edges": live.get("edges") or [],
            "chatConfig": live.get("chatConfig") or {}, "isPublish": True, "versionName": PUBLISHED_AS})

    def describe(self, app_id, intro):
        """Change an app's introduction (str)."""
        self._fastgpt.ask("POST", "/api/core/app/update?appId=" + app_id, {"intro": intro}, writes=True)

    def delete(self, app_id):
        """Delete an app with its chats."""
        self._fastgpt.ask("DELETE", "/api/core/app/del?appId=" + app_id, writes=True)

    def chat(self, app_id, question, timeout):
        """The Said of one question to an app; timeout: seconds. Its data go to _fastgpt_answer.chat_of."""
        return self._fastgpt.try_to_ask("POST", "/api/v1/chat/completions", timeout=timeout, body={
            "appId": app_id, "stream": False, "detail": True, "messages": [{"role": "user", "content": question}]})


class Change:
    """What happens to one app. verb: create, update, delete. app_id: None where there is none yet.
    inputs: {option: value} that its model node gets. intro: str, or None where it stays. live: see Apps.live."""

    def __init__(self, verb, name, app_id=None, inputs=None, intro=None, live=None, before=None):
        self.verb = verb
        self.name = name
        self.app_id = app_id
        self.inputs = inputs or {}
        self.intro = intro
        self.live = live
        self.before = before or {}

    @property
    def after(self):
        """What is looked after, as it will be: dict; empty where the app is gone."""
        if self.verb == "delete":
            return {}
        after = dict(self.before, **self.inputs)
        if self.intro is not None:
            after["intro"] = self.intro
        return after

    def sentence(self):
        if self.verb == "delete":
            return "Delete app %s" % self.name
        if self.verb == "create":
            return "Add app %s with model %s" % (self.name, self.inputs["model"])
        what = ["%s %s -> %s" % (key, self.before.get(key) or "nothing", value) if key == "model" else key
                for key, value in sorted(self.inputs.items())]
        return "Change %s of app %s" % (", ".join(what + ["intro"] * (self.intro is not None)), self.name)


def keep_apps(fastgpt, wanted):
    """Make FastGPT hold the apps `wanted` (list, see plan_app); result (dict) of module fastgpt_app.

    fastgpt: _fastgpt.FastGPT; where it is read-only the result says what would be done.
    """
    apps = Apps(fastgpt)
    everything = apps.all()
    changes, ids = [], {}
    for one in wanted:
        found = find(everything, one["name"])
        if found and one["state"] != "absent":
            ids[one["name"]] = found["_id"]
        change = plan_app(one, found, lambda found=found: apps.live(found["_id"]))
        if change:
            changes.append(change)
    if changes and not fastgpt.read_only:
        _refuse_missing_models(fastgpt, changes)
        ids.update((change.name, carry_out(apps, change)) for change in changes)
    return {
        "changed": bool(changes),
        "actions": [change.sentence() for change in changes],
        "apps": [{"name": one["name"], "id": ids.get(one["name"])} for one in wanted if one["state"] != "absent"],
        "diff": {"before": _text({change.name: change.before for change in changes if change.app_id}),
                 "after": _text({change.name: change.after for change in changes if change.verb != "delete"}),
                 "before_header": "apps in FastGPT", "after_header": "apps in FastGPT"},
    }


def _refuse_missing_models(fastgpt, changes):
    """FastGPT takes any model name and then answers with its default model, without a word (reference, section 2).

    The name of an embedding model, too: an app asks chat models only (4.16.0, seen on a running one).
    """
    wanted = {change.inputs["model"]: change.name for change in changes if "model" in change.inputs}
    if not wanted:
        return
    stored = models_of(fastgpt)[1]
    active = ", ".join(sorted(one for one, metadata in stored.items() if metadata.get("isActive") and metadata.get("type") == "llm")) or "none"
    for model, name in sorted(wanted.items()):
        known = stored.get(model) or {}
        if not known.get("isActive"):
            raise LocalModelsError("App %s is to answer with %s, and FastGPT has no active model of that name" % (name, model),
                                   "Add it with module fastgpt_models first, or choose one of: %s" % active)
        if known.get("type") != "llm":
            raise LocalModelsError("App %s is to answer with %s, which is no chat model to FastGPT: its type is %s" % (name, model, known.get("type")),
                                   "Choose one of: %s" % active)


def _text(part):
    return json.dumps(part, indent=2, sort_keys=True, ensure_ascii=False) + "\n" if part else ""


def find(apps, name):
    """The app (dict) called `name` among Apps.all(), or None. Names are not unique in FastGPT: several are refused."""
    found = [app for app in apps if app["name"] == name and app["type"] != "folder"]
    if len(found) > 1:
        raise LocalModelsError("FastGPT has %d apps called %s, and nobody can tell which one is meant" % (len(found), name),
                               "Rename or delete all but one (their ids: %s), or choose another name" % ", ".join(app["_id"] for app in found))
    return found[0] if found else None


def plan_app(wanted, found, live):
    """The Change that makes an app right, or None.

    wanted: {name, state, model, prompt, intro}, None for what is left alone. found: dict of Apps.all() or None.
    live: callable() -> Apps.live of it. Raises LocalModelsError where it cannot be done without guessing.
    """
    name = wanted["name"]
    if wanted.get("state") == "absent":
        return Change("delete", name, found["_id"], before={"name": name}) if found else None
    inputs = {option: wanted[option] for option in INPUTS if wanted.get(option) is not None}
    if found is None:
        return Change("create", name, None, inputs, wanted.get("intro"))
    if found["type"] != SIMPLE:
        raise LocalModelsError("App %s in FastGPT is of type %s, and only simple apps are looked after here" % (name, found["type"]),
                               "Choose another name for the app")
    version = live()
    now = inputs_of(version["nodes"])
    if "model" not in now:
        raise LocalModelsError("App %s in FastGPT has no step that asks a model" % name,
                               "Put its AI chat step back in FastGPT, or choose another name for the app")
    before = {option: now.get(option) for option in inputs}
    different = {option: value for option, value in inputs.items() if (now.get(option) or "") != value}
    intro = wanted.get("intro")
    if intro is not None:
        before["intro"] = found.get("intro") or ""
        intro = intro if intro != before["intro"] else None
    if not different and intro is None:
        return None
    return Change("update", name, found["_id"], different, intro, version, before)


def carry_out(apps, change):
    """Do a Change with Apps; returns the app's id (str)."""
    if change.verb == "create":
        return apps.create(change.name, change.inputs, change.intro)
    if change.verb == "delete":
        apps.delete(change.app_id)
        return change.app_id
    if change.inputs:
        apps.publish(change.app_id, change.live, change.inputs)
    if change.intro is not None:
        apps.describe(change.app_id, change.intro)
    return change.app_id


def inputs_of(nodes):
    """{option: value} of INPUTS in an app's model step; {} where it has no such step."""
    for node in nodes:
        if node.get("flowNodeType") in MODEL_STEPS:
            values = {entry.get("key"): entry.get("value") for entry in node.get("inputs") or []}
            return {option: values[key] for option, key in INPUTS.items() if key in values}
    return {}


def with_inputs(nodes, inputs):
    """A copy of `nodes` whose model steps have `inputs` ({option: value})."""
    nodes = copy.deepcopy(nodes)
    values = {INPUTS[option]: value for option, value in inputs.items()}
    for node in nodes:
        if node.get("flowNodeType") in MODEL_STEPS:
            for entry in node["inputs"]:
                if entry.get("key") in values:
                    entry["value"] = values[entry["key"]]
    return nodes
