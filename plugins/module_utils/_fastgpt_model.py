# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama says about a model -> FastGPT's record of it. Pure. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _items
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._items import DEFAULT_FOR, positive
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName

PROVIDER = "Ollama"  # FastGPT's own id for it, case-sensitive; another spelling is shown as "Other"

# What Ollama gives a request that names no context, on a machine with less than 23 GiB of video memory (envconfig, 0.32).
# Larger machines give more; promising less than is given cuts nothing off, promising more loses text silently.
OLLAMA_CONTEXT = 4096

CHUNK = 512    # tokens FastGPT puts into one piece of a document by default
WEIGHT = 100   # FastGPT's own default for the only embedding model asked

# Rights an item of local_models can override: its key, FastGPT's key, Ollama's capability.
_ABILITIES = (("vision", "vision", "vision"), ("tools", "toolChoice", "tools"), ("reasoning", "reasoning", "thinking"))


def record(item, shown, server_context=None, path="aiproxy"):
    """FastGPT's record of one declared model.

    item: a name (str) or a map of local_models. shown: what module ollama_info says about this model (dict with
    capabilities, context_length, num_ctx), or None where Ollama does not have it: then all must come from the item.
    server_context: tokens that Ollama gives where neither the item nor the model says (its OLLAMA_CONTEXT_LENGTH).
    path: aiproxy, one_api or direct, by which FastGPT's requests come to Ollama: not all of them comes through on each.

    Returns {name, state, metadata, initial}. `metadata` is kept as it stands here (None: the key must be absent); `initial` is
    only sent when the model is new, so that what people tune in FastGPT's own pages stays.
    Raises LocalModelsError where the item contradicts itself.
    """
    item = {"name": item} if isinstance(item, str) else item
    name = ModelName.parse(item["name"]).short
    if item.get("state") == "absent":
        return {"name": name, "state": "absent", "metadata": {}, "initial": {}}
    _items.refuse_bad_values(name, item)
    kind = item.get("type") or (type_of(shown) if shown else _likely_type(item))
    shown = shown or {}
    metadata = {
        "type": kind,
        "provider": PROVIDER,
        "model": name,
        "name": item.get("display_name") or name,
        "isActive": True,
        # A model of ours is asked through the gateway; an address or a key of its own would go round it.
        "requestUrl": None,
        "requestAuth": None,
    }
    limits = _llm if kind == "llm" else _embedding
    more, initial = limits(item, name, shown, server_context, path)
    metadata.update(more)
    return {"name": name, "state": "present", "metadata": metadata, "initial": initial}


def records(items, shown_models, server_context=None, path="aiproxy"):
    """FastGPT's records of local_models, one a model in the declared order.

    shown_models: list of what ollama_info says (its `models`) of every Ollama that serves them. Where several hold the same model,
    FastGPT is promised what each of them gives. server_context, path: see record.
    """
    by_key = {}
    for shown in shown_models:
        by_key.setdefault(ModelName.parse(shown["name"]).key, []).append(shown)
    merged = {}
    for item in items:
        item = {"name": item} if isinstance(item, str) else item
        key = ModelName.parse(item["name"]).key
        # One host may still serve what another one no longer holds.
        if key not in merged or merged[key].get("state") == "absent":
            merged[key] = dict(item)
        elif item.get("state") != "absent":
            merged[key].update(item)
    return [record(item, in_common(by_key.get(key), server_context), server_context, path) for key, item in merged.items()]


def in_common(showns, server_context=None):
    """What all of `showns` (list of dict, or None) can do, as one dict; None where there are none."""
    if not showns or len(showns) == 1:
        return showns[0] if showns else None
    trained = [positive(one.get("context_length")) for one in showns]
    own = [positive(one.get("num_ctx")) for one in showns]
    return {
        "name": showns[0]["name"],
        "capabilities": [word for word in showns[0].get("capabilities") or ()
                         if all(word in (one.get("capabilities") or ()) for one in showns)],
        "context_length": min((number for number in trained if number), default=None),
        "num_ctx": min(number or positive(server_context) or OLLAMA_CONTEXT for number in own) if any(own) else None,
    }


def type_of(shown):
    """`embedding` or `llm`, from the capabilities that Ollama reports."""
    capabilities = shown.get("capabilities") or ()
    return "embedding" if "embedding" in capabilities and "completion" not in capabilities else "llm"


def _likely_type(item):
    """The type of a model that nobody has pulled yet, for check mode on a fresh host."""
    return "embedding" if list(item.get("default_for") or ()) == ["embedding"] else "llm"


def context_of(item, name, shown, server_context, asked_for=True):
    """Tokens (int) that Ollama really gives to a request.

    asked_for: whether a context of the item reaches Ollama as num_ctx. AI Proxy passes it on for chats, not for embeddings
    (core/relay/adaptor/ollama/main.go, v0.6.5): there it can lower what is promised, never raise what is given.
    """
    wanted = _items.number(name, item, "context")
    given = positive(shown.get("num_ctx")) or positive(server_context) or OLLAMA_CONTEXT
    if wanted:
        given = wanted if asked_for else min(wanted, given)
    trained = positive(shown.get("context_length"))
    return min(given, trained) if trained else given


def defaults(items, records):
    """(chosen, fallback): which models are FastGPT's defaults, both {FastGPT's key: name}.

    items: local_models. records: of the same items. `chosen` follows default_for. `fallback` holds, for what nobody declares, the
    first declared model that fits; it is meant for a FastGPT that has no default of that kind.
    """
    present = [one for one in records if one["state"] != "absent"]
    kept = _by_key(present)
    chosen = {}
    for item in items:
        if isinstance(item, str) or item.get("state") == "absent":
            continue
        one = kept[ModelName.parse(item["name"]).key]
        for word in item.get("default_for") or ():
            _choose(chosen, one["name"], word, one["metadata"]["type"])
    fallback = {}
    for key, kind in DEFAULT_FOR.values():
        fits = [one["name"] for one in present if one["metadata"]["type"] == kind
                and (key != "datasetImageLLM" or one["metadata"].get("vision"))]
        if key not in chosen and fits:
            fallback[key] = fits[0]
    return chosen, fallback


def setup(places, shown_models, server_context=None, channel="ollama", path="aiproxy"):
    """Everything that follows from the declared models: dict with

    records, defaults, fallback_defaults: for module fastgpt_models (see records, defaults).
    ollamas: for module fastgpt_verify (see channels). channels: the same for modules aiproxy_channel and one_api_channel.
    chat_model: the name of the model an app should use, "" where no chat model is declared.
    missing: names that no Ollama of shown_models holds.
    """
    items = [item for place in places for item in place["models"]]
    kept = records(items, shown_models, server_context, path)
    chosen, fallback = defaults(items, kept)
    ollamas = channels(places, kept, channel)
    held = {ModelName.parse(shown["name"]).key for shown in shown_models}
    return {
        "records": kept, "defaults": chosen, "fallback_defaults": fallback, "ollamas": ollamas,
        "channels": [_gateway_channel(one) for one in ollamas],
        "chat_model": chosen.get("llm") or fallback.get("llm") or "",
        "missing": [one["name"] for one in kept if one["state"] != "absent" and ModelName.parse(one["name"]).key not in held],
    }


def _by_key(records):
    """{ModelName.key: record}: of several spellings of a model one is its name in FastGPT and in the gateway."""
    return {ModelName.parse(one["name"]).key: one for one in records}


def _gateway_channel(one):
    if not one["models"]:
        return {"name": one["name"], "state": "absent"}
    return {"name": one["name"], "base_url": one["url"],
            "models": [{"name": model["name"], "type": "embedding" if model["type"] == "embedding" else "chat"} for model in one["models"]]}


def channels(places, kept, name="ollama"):
    """AI Proxy's channels, one an Ollama: list of {name, url, models: [{name, type}]}.

    places: list of {host (str), url (by which AI Proxy reaches its Ollama), models (the local_models of that host)}.
    kept: FastGPT's records of all of them. name: of the only channel; where there are several, the host is added.
    """
    by_key = _by_key(kept)
    found = []
    for place in places:
        models = []
        for item in place["models"]:
            item = {"name": item} if isinstance(item, str) else item
            one = by_key[ModelName.parse(item["name"]).key]
            if item.get("state") != "absent" and one["name"] not in [model["name"] for model in models]:
                models.append({"name": one["name"], "type": one["metadata"]["type"]})
        found.append({"name": name if len(places) == 1 else "%s-%s" % (name, place["host"]), "url": place["url"], "models": models})
    return found


def _choose(chosen, name, word, kind):
    key, needed = DEFAULT_FOR[word]
    if kind != needed:
        raise LocalModelsError("%s cannot be FastGPT's default for %s: it is of type %s, and %s is needed" % (name, word, kind, needed),
                               "Declare default_for: [%s] on another model, or set its type" % word)
    if chosen.setdefault(key, name) != name:
        raise LocalModelsError("Both %s and %s are declared as FastGPT's default for %s" % (chosen[key], name, word), "Keep one")


def _llm(item, name, shown, server_context, path):
    # Ollama's own /v1 knows no num_ctx (its openai/ and middleware/, 0.32).
    sends_context = path != "direct"
    context = context_of(item, name, shown, server_context, sends_context)
    # Half of the window for the answer, an eighth for the question and what came before it, the rest for quotes of documents.
    response = min(_items.number(name, item, "max_response") or context // 2, context)
    rest = context // 8
    metadata = {
        "maxContext": context,
        "maxResponse": response,
        "quoteMaxToken": max(context - response - rest, rest),
        "functionCall": False,  # the predecessor of tool choice; Ollama has none
        # Ollama follows num_ctx of the request, not a promise made elsewhere.
        "defaultConfig": {"num_ctx": context if item.get("context") and sends_context else None},
    }
    capabilities = shown.get("capabilities") or ()
    for word, key, capability in _ABILITIES:
        passed_on = path != "one_api" or word != "tools"  # one-api drops them on the way to Ollama (relay/adaptor/ollama/main.go)
        said = _items.ability(name, item, word)
        metadata[key] = passed_on and capability in capabilities if said is None else said
    return metadata, {"maxTemperature": 1.2, "showTopP": True, "showStopSign": True, "censor": False}


def _embedding(item, name, shown, server_context, dummy):
    longest = context_of(item, name, shown, server_context, asked_for=False)
    return {"maxToken": longest, "defaultToken": min(CHUNK, longest)}, {"weight": WEIGHT}
