# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an Ollama server says about itself, as results of ollama_info. Internal to this collection."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _recipe
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Refused
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName

AT_ONCE = 4


def read(ollama, names=None, details=True):
    """reachable, version, models, local_models, running, missing (dict) of a server (_ollama.Ollama).

    names: list of str, the models to report, or None for all. details: ask for each model. Raises LocalModelsError.
    """
    limit = None if names is None else {ModelName.parse(name): name for name in names}
    tags = [one for one in ollama.tags() if limit is None or ModelName.parse(one["name"]) in limit]
    running = [_running(one) for one in ollama.running()]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        shown = list(pool.map(lambda one: _show(ollama, one["name"]), tags)) if details else [{}] * len(tags)
    models = [model(tag, show, running) for tag, show in zip(tags, shown)]
    held = {ModelName.parse(one["name"]) for one in tags}
    said = {ModelName.parse(tag["name"]): show for tag, show in zip(tags, shown)}
    return {
        "reachable": True,
        "version": ollama.version(),
        "local_models": [_declared(tag["name"], show, said) for tag, show in sorted(zip(tags, shown), key=lambda one: one[0]["name"].lower())],
        "models": sorted(models, key=lambda one: one["name"].lower()),
        "running": running,
        "missing": [name for parsed, name in (limit or {}).items() if parsed not in held],
    }


def silent(names=None):
    """What read() would say of a server that does not answer. names: see there."""
    return {"reachable": False, "version": None, "models": [], "local_models": [], "running": [], "missing": list(names or ())}


def not_yet(problem):
    """The warning (str) with which check mode goes on where no Ollama answers (problem: _errors.Unreachable): one that is yet to be started is no
    trouble, and nobody but the reader knows whether it is."""
    return ("%s. Check mode goes on as if it ran and held no models. Where role ollama comes before in the same run, it would start it. "
            "Otherwise: %s." % (problem.what, problem.mend or "see why it does not answer"))


def _show(ollama, name):
    try:
        return ollama.show(name)
    except Refused:
        # Deleted in between, or a file that is no GGUF (500 "invalid file magic"): the list still says what it knows.
        return {}


def _declared(name, show, said):
    """The item of a list of models that declares this one. said: {ModelName: what POST /api/show says}."""
    parent = (show.get("details") or {}).get("parent_model") or ""
    try:
        base = ModelName.parse(parent)
    except LocalModelsError:
        return name  # made from a file, whose name stands there
    if base == ModelName.parse(name) or not said.get(base):
        return name
    return _recipe.adopt(name, show, base.short, said[base])


def model(tag, show, running=()):
    """The facts (dict) of one model from its entry in GET /api/tags, its POST /api/show ({} if not asked) and what runs."""
    details = dict(show.get("details") or {}, **(tag.get("details") or {}))
    info = show.get("model_info") or {}
    architecture = info.get("general.architecture", "")
    same = [one for one in running if one["digest"] == tag.get("digest")]
    return {
        "name": tag["name"],
        "digest": tag.get("digest", ""),
        "size": tag.get("size", 0),
        "modified_at": tag.get("modified_at", ""),
        "family": details.get("family", ""),
        "parameter_size": details.get("parameter_size", ""),
        "quantization": details.get("quantization_level", ""),
        "capabilities": tag.get("capabilities") or show.get("capabilities") or [],
        "context_length": details.get("context_length") or info.get(architecture + ".context_length"),
        "embedding_length": details.get("embedding_length") or info.get(architecture + ".embedding_length"),
        "num_ctx": num_ctx(show.get("parameters") or ""),
        "running_context_length": same[0]["context_length"] if same else None,
    }


def num_ctx(parameters):
    """The num_ctx (int) in the text of parameters that POST /api/show gives, or None."""
    match = re.search(r"^num_ctx\s+(\d+)\s*$", parameters, re.MULTILINE)
    return int(match.group(1)) if match else None


def _running(one):
    return {key: one.get(key) for key in ("name", "digest", "size", "size_vram", "expires_at", "context_length")}
