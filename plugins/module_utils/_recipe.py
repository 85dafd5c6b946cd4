# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models made from other models or from files: what is declared, what a server holds, and how the two differ. Pure. Internal to this
collection.

How Ollama makes them (server/create.go, 0.32): system, template and messages replace the base's, parameters are merged over the
base's, licences and an adapter are added to the base's; what is empty is the base's. The same recipe gives the same digest.
"""

from __future__ import annotations

import json
import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName, suggest

# The words of a Modelfile and of POST /api/create. One adapter is all that Ollama takes, so it is no list.
KEYS = ("from", "adapter", "quantize", "system", "template", "parameters", "license", "messages")
OWN = KEYS[3:]
# What llama-quantize makes of GGUF (until 0.34.0), and MLX of safetensors (since 0.34.1), in lower case.
GGUF_TYPES = ("f32", "f16", "q4_k_s", "q4_k_m", "q8_0")
MLX_TYPES = ("int4", "int8", "nvfp4", "mxfp4", "mxfp8")
ROLES = ("system", "user", "assistant")
# Ollama stores any parameter, and one of a wrong type breaks every later request (500 'option ... must be of type ...').
PARAMETERS = dict.fromkeys(("num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch", "num_gpu", "main_gpu",
                            "num_thread", "draft_num_predict"), "a whole number")
PARAMETERS.update(dict.fromkeys(("top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty",
                                 "frequency_penalty"), "a number"))
PARAMETERS.update(use_mmap="true or false", stop="a list of texts")

_GO_ESCAPE = re.compile(r'\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[abfnrtv\\"\'])')
_GO_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Recipe:
    """How a model is made. `base` (ModelName, or None where it is made from files), `system`, `template` (str), `parameters` (dict),
    `license` (list of str), `messages` (list of {"role", "content"}); what is empty is the base's. `path`, `adapter`: absolute paths
    (str) of weights and of an adapter on the host that runs the module, or "". `quantize`: one of GGUF_TYPES and MLX_TYPES, or ""."""

    def __init__(self, base, system="", template="", parameters=None, license=(), messages=(), path="", adapter="", quantize=""):
        self.base, self.system, self.template = base, system, template
        self.parameters, self.license, self.messages = dict(parameters or {}), list(license), list(messages)
        self.path, self.adapter, self.quantize = path, adapter, quantize

    @property
    def of_files(self):
        """Whether Ollama makes new weights or takes an adapter: what it shows then does not tell what the model was made from."""
        return bool(self.path or self.adapter or self.quantize)

    @property
    def shares_weights(self):
        """Whether what is loaded of it are the weights of its base."""
        return bool(self.base and not self.quantize)

    def __eq__(self, other):
        return isinstance(other, Recipe) and vars(self) == vars(other)

    __hash__ = None

    def __str__(self):
        return "from %s" % (self.path or self.base.short)

    def own(self):
        """What makes the difference to the base (dict), as POST /api/create takes it."""
        return {key: getattr(self, key) for key in OWN if getattr(self, key)}


def read(name, item):
    """The Recipe in an item (dict) of the list of models, or None. name: ModelName of the item. Raises LocalModelsError."""
    given = [key for key in KEYS if item.get(key) is not None]
    if not given:
        return None
    if "from" not in given:
        raise LocalModelsError("%s has %s, and no model that it is made from" % (name.short, " and ".join(given)), "Add the key from")
    path = _path(name, "from", item["from"]) if _is_path(item["from"]) else ""
    base = None if path else ModelName.parse(item["from"])
    if base == name:
        raise LocalModelsError("%s is made from itself" % name.short, "Give one of the two another name, such as %s-of-ours" % name.model)
    texts = {key: _text(name, key, item.get(key)) for key in ("system", "template")}
    licenses = item.get("license") or []
    licenses = [licenses] if isinstance(licenses, str) else licenses
    if not isinstance(licenses, list):
        raise LocalModelsError("%s has a license that is neither a text nor a list of texts" % name.short, "Write it as text")
    return Recipe(base, texts["system"], texts["template"], _parameters(name, item.get("parameters") or {}),
                  [_text(name, "license", one) for one in licenses if one != ""], _messages(name, item.get("messages") or []),
                  path, _path(name, "adapter", item["adapter"]) if item.get("adapter") else "", _quantize(name, item.get("quantize") or ""))


def _is_path(text):
    """No name of a model begins as a path does."""
    return isinstance(text, str) and text.strip().startswith(("/", "./", "../", "~"))


def _path(name, key, text):
    if not isinstance(text, str) or not text.strip().startswith("/"):
        raise LocalModelsError("%s has %s: %r, which is no absolute path" % (name.short, key, text),
                               "Write the whole path, as the host sees it on which the module runs; it begins with /")
    return "/" + text.strip().strip("/")


def _quantize(name, kind):
    known = GGUF_TYPES + MLX_TYPES
    if str(kind).lower() not in ("",) + known:
        near = suggest(str(kind).lower(), known)
        raise LocalModelsError("%s has quantize: %r, which Ollama does not know" % (name.short, kind),
                               "Probably %s is meant" % near if near in known else "Choose from %s" % ", ".join(known))
    return str(kind).lower()


def _text(name, key, value):
    if value is None:
        return ""
    if not isinstance(value, str):
        raise LocalModelsError("%s has a %s that is no text: %r" % (name.short, key, value), "Put quotes around it")
    return str(value)


def _messages(name, messages):
    for one in messages if isinstance(messages, list) else [messages]:
        fine = isinstance(one, dict) and set(one) == {"role", "content"} and one["role"] in ROLES and isinstance(one["content"], str)
        if not fine:
            raise LocalModelsError("%s has a message that is none: %r" % (name.short, one),
                                   "Write a list of maps with role (one of %s) and content" % ", ".join(ROLES))
    return [{"role": str(one["role"]), "content": str(one["content"])} for one in messages]


def _parameters(name, parameters):
    if not isinstance(parameters, dict):
        raise LocalModelsError("%s has parameters that are no map: %r" % (name.short, parameters), "Write key: value, one a line")
    for key in parameters:
        if key not in PARAMETERS:
            near = suggest(str(key), PARAMETERS)
            meant = "Probably %s is meant" % near if near in PARAMETERS else "Choose from %s" % ", ".join(sorted(PARAMETERS))
            raise LocalModelsError("%s has the parameter %r, which Ollama does not know" % (name.short, key), meant)
    return {str(key): _parameter(name, key, value) for key, value in parameters.items()}


def _parameter(name, key, value):
    """The value in the type that Ollama wants; templates may have made text of it."""
    kind = PARAMETERS[key]
    try:
        if kind == "a list of texts":
            values = [value] if isinstance(value, str) else value
            if isinstance(values, list) and all(isinstance(one, str) for one in values):
                return [str(one) for one in values]
        elif kind == "true or false":
            if isinstance(value, bool) or str(value).lower() in ("true", "false"):
                return str(value).lower() == "true"
        elif not isinstance(value, bool):
            number = float(value)
            if kind == "a number" and abs(number) < 3.4e38:
                return number
            if number == int(number) and abs(number) < 2 ** 53:
                return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise LocalModelsError("%s has the parameter %s: %r, which is not %s" % (name.short, key, value, kind), "Ollama would take it, and then"
                           " refuse every request to this model")


def parameters_in(text):
    """What stands in the parameters (str) that POST /api/show gives: {name: value, or list where the name comes several times}.

    The text holds one `name value` a line in random order, numbers as Go prints them (1e+06), texts quoted.
    """
    found = {}
    for line in (text or "").split("\n"):
        key, dummy, value = line.strip().partition(" ")
        if key:
            found.setdefault(key, []).append(_value(value.strip()))
    return {key: values if key == "stop" or len(values) > 1 else values[0] for key, values in found.items()}


def _value(text):
    if len(text) > 1 and text[0] == text[-1] == '"':
        return _GO_ESCAPE.sub(_unescaped, text[1:-1])
    if text in ("true", "false"):
        return text == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() and abs(number) < 2 ** 53 else number


def _unescaped(match):
    code = match.group(1)
    return chr(int(code[1:], 16)) if code[0] in "xuU" else _GO_LETTERS.get(code, code)


def weights(shown):
    """The digest ("sha256:hex") of the weights in an answer (dict) to POST /api/show, or "" where it names none."""
    match = re.search(r"^FROM .*sha256-([0-9a-f]{64})\s*$", shown.get("modelfile") or "", re.MULTILINE)
    return "sha256:" + match.group(1) if match else ""


def adapters(shown):
    """The digests (list of "sha256:hex") of the adapters in an answer (dict) to POST /api/show."""
    return ["sha256:" + found for found in re.findall(r"^ADAPTER .*sha256-([0-9a-f]{64})\"?\s*$", shown.get("modelfile") or "", re.MULTILINE)]


def made(recipe, base):
    """What POST /api/show has to say of a model made by `recipe` from a base of which it says `base` (dict)."""
    parameters = dict(parameters_in(base.get("parameters")), **recipe.parameters)
    return {
        "from": weights(base),
        "adapter": adapters(base),
        "system": recipe.system or base.get("system") or "",
        "template": recipe.template or base.get("template") or "",
        "parameters": {key: value for key, value in parameters.items() if value != []},
        "license": "\n".join(([base["license"]] if base.get("license") else []) + recipe.license),
        "messages": recipe.messages or base.get("messages") or [],
    }


def held(shown):
    """The same of a model that is there, of which POST /api/show says `shown` (dict)."""
    return made(Recipe(None), shown)


def differences(recipe, shown, base):
    """How a model differs from its recipe: list of (key, is, should be). shown, base: what POST /api/show says of it and of its base."""
    now, wanted = held(shown), made(recipe, base)
    return [(key, now[key], wanted[key]) for key in now if now[key] != wanted[key]]


def adopt(name, shown, base_name, base):
    """The item of a list of models that declares a model as it is: a map with `from` and what differs from the base, or only the name
    (str) where no such map makes exactly this model. name, base_name: str. shown, base: what POST /api/show says of both (dict)."""
    now, bare = held(shown), held(base)
    own = {key: now[key] for key in ("system", "template", "messages") if now[key] != bare[key]}
    own["parameters"] = {key: value for key, value in now["parameters"].items() if bare["parameters"].get(key) != value}
    before = bare["license"] + "\n" if bare["license"] else ""
    if now["license"].startswith(before):
        own["license"] = now["license"][len(before):] if now["license"] != bare["license"] else ""
    item = dict({"name": name, "from": base_name}, **{key: value for key, value in own.items() if value})
    try:
        exact = not differences(read(ModelName.parse(name), item), shown, base)
    except LocalModelsError:
        exact = False
    return item if exact else name


def as_text(value):
    """A value of held() on one line."""
    if isinstance(value, str):
        return value if "\n" not in value and value.strip() == value else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
