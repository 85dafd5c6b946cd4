# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an item of local_models may say: its keys, and the values of those that concern FastGPT. Pure. Internal to this collection.

All of it is looked at by whoever reads the list first, which is role ollama_models: what FastGPT's roles would refuse later is
refused before a model is pulled. An empty text, as a template may leave it, says nothing.
"""

from __future__ import annotations

import difflib

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _recipe
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

# default_for's words -> FastGPT's keys, and the type of model each needs.
DEFAULT_FOR = {
    "llm": ("llm", "llm"),
    "embedding": ("embedding", "embedding"),
    "dataset_text": ("datasetTextLLM", "llm"),
    "dataset_image": ("datasetImageLLM", "llm"),
}
TYPES = ("llm", "embedding")
NUMBERS = ("context", "max_response")
ABILITIES = ("vision", "tools", "reasoning")
KEYS = ("name", "state", "insecure", "keep_alive", "digest") + _recipe.KEYS + ("default_for", "display_name", "type") + NUMBERS + ABILITIES


def listed(items):
    """A list of models as Ansible reads it where an option is a list: a text (`-e local_models=a,b`) stands for the names in it."""
    return [name.strip() for name in items.split(",")] if isinstance(items, str) else items


def refuse_misspelt_keys(item):
    """Raises LocalModelsError for a key of `item` (dict) that is probably another one: it would be passed over in silence.

    What looks like none of ours is left alone: a house may keep its own notes in the list.
    """
    for key in item:
        if key in KEYS:
            continue
        meant = difflib.get_close_matches(str(key), KEYS, n=1, cutoff=0.75)
        if key in _recipe.PARAMETERS:
            mend = "Write it under parameters, for a model that is made from another one" + ("; or write context" if key == "num_ctx" else "")
        elif meant:
            mend = "Probably %s is meant" % meant[0]
        else:
            continue
        raise LocalModelsError("An item of the list of models has the key %r, which is unknown" % key, mend)


def refuse_bad_values(name, item):
    """Raises LocalModelsError where a value of `item` (dict) is none that FastGPT's roles can use. name: how the model is called (str)."""
    default_for(name, item)
    for key in NUMBERS:
        number(name, item, key)
    for key in ABILITIES:
        ability(name, item, key)
    kind = item.get("type")
    if kind and kind not in TYPES:
        raise LocalModelsError("%s has the type %r, which FastGPT cannot get from Ollama" % (name, kind), "Choose %s" % " or ".join(TYPES))


def default_for(name, item):
    """For what the model is FastGPT's default: list of keys of DEFAULT_FOR."""
    words = item.get("default_for") or []
    if not isinstance(words, (list, tuple)):
        raise LocalModelsError("%s has default_for %r, which is no list" % (name, words), "Write default_for: [%s]" % words)
    for word in words:
        if not isinstance(word, str) or word not in DEFAULT_FOR:
            raise LocalModelsError("%s has default_for %r, which is unknown" % (name, word), "Choose from %s" % ", ".join(DEFAULT_FOR))
    return list(words)


def number(name, item, key):
    """Tokens (int above 0), or None where the item does not say."""
    value = item.get(key)
    if value in (None, ""):
        return None
    found = positive(value)
    if not found:
        raise LocalModelsError("%s has %s %r, which is no number of tokens" % (name, key, value), "Write a whole number above 0, such as 8192")
    return found


def ability(name, item, key):
    """Whether the model can do it (bool), or None where the item does not say."""
    return None if item.get(key) in (None, "") else boolean(name, key, item[key])


def positive(value):
    """A whole number above 0 (int) from a number or its text, else None."""
    if isinstance(value, bool):
        return None
    try:
        return int(value) if int(value) > 0 else None
    except (TypeError, ValueError, OverflowError):
        return None


def boolean(name, key, value):
    """True or False from a bool or from a word for it, as templates leave it."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if str(value).lower() not in words:
        raise LocalModelsError("%s has %s %r, which is neither true nor false" % (name, key, value), "Write true or false")
    return words[str(value).lower()]
