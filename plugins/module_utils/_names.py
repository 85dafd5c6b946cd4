# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One model, many spellings: Ollama's grammar of names and one normal form. Internal to this collection.

The grammar is that of Ollama's types/model/name.go and internal/modelref (0.32): [host/][namespace/]model[:tag].
"""

from __future__ import annotations

import difflib
import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
HUGGING_FACE = ("hf.co", "huggingface.co")  # one registry; Ollama keeps what comes by the one and by the other as two models

_PARTS = (
    # part, longest, pattern, what the pattern says in words
    ("host", 350, re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*\Z"), "letters, digits, _ . : -"),
    ("namespace", 80, re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\Z"), "letters, digits, _ -"),
    ("model", 80, re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z"), "letters, digits, _ . -"),
    ("tag", 80, re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z"), "letters, digits, _ . -"),
)

# Ollama's registry offers no list of what it has, so a typo can only be compared with names known beforehand.
# This tuple serves suggestions and nothing else: a name that is missing here is as good as any.
WELL_KNOWN = (
    "all-minilm", "bge-m3", "codellama", "deepseek-r1", "deepseek-r1:1.5b", "deepseek-r1:7b", "deepseek-r1:8b",
    "deepseek-r1:14b", "deepseek-r1:32b", "gemma2", "gemma3", "gemma3:1b", "gemma3:4b", "gemma3:12b", "gemma3:27b",
    "gpt-oss", "gpt-oss:20b", "gpt-oss:120b", "granite3.3", "llama3", "llama3.1", "llama3.1:8b", "llama3.1:70b",
    "llama3.2", "llama3.2:1b", "llama3.2:3b", "llama3.2-vision", "llama3.3", "llama3.3:70b", "llava", "mistral",
    "mistral-nemo", "mistral-small", "mixtral", "mxbai-embed-large", "nomic-embed-text", "phi3", "phi4", "phi4-mini",
    "qwen2.5", "qwen2.5:0.5b", "qwen2.5:1.5b", "qwen2.5:3b", "qwen2.5:7b", "qwen2.5:14b", "qwen2.5:32b",
    "qwen2.5-coder", "qwen2.5-coder:7b", "qwen2.5vl", "qwen3", "qwen3:0.6b", "qwen3:1.7b", "qwen3:4b", "qwen3:8b",
    "qwen3:14b", "qwen3:30b", "qwen3:32b", "qwen3-coder", "qwen3-embedding", "qwq", "smollm2", "snowflake-arctic-embed",
    "snowflake-arctic-embed2", "tinyllama",
)


class ModelName:
    """A valid model name. `host`, `namespace`, `model`, `tag` (str, as typed, defaults filled in); equal whatever the case."""

    __slots__ = ("host", "namespace", "model", "tag")

    def __init__(self, host, namespace, model, tag):
        self.host = host
        self.namespace = namespace
        self.model = model
        self.tag = tag

    @classmethod
    def parse(cls, text):
        """The ModelName of `text` (str). Raises LocalModelsError that says why it is none."""
        if not isinstance(text, str):
            raise _no_name(text, "a name is text", "Put quotes around it")
        bare = text.strip()
        _refuse_what_ollama_never_takes(text, bare)
        if bare.lower().startswith("https://"):
            bare = bare[len("https://"):]
        bare = _without_source_suffix(bare)
        tag = DEFAULT_TAG
        if bare.rfind(":") > bare.rfind("/"):
            bare, dummy, tag = bare.rpartition(":")
        slashes = bare.split("/")
        if len(slashes) > 3:
            raise _no_name(text, "it has %d parts between slashes and at most 3 are possible" % len(slashes),
                           "Write host/namespace/model:tag")
        if len(slashes) == 2 and "." in slashes[0]:
            raise _no_name(text, "%s stands where a namespace is expected, and a namespace holds no dot" % slashes[0],
                           "To name another registry write all three parts: %s/<namespace>/%s" % tuple(slashes))
        host, namespace, model = [DEFAULT_HOST, DEFAULT_NAMESPACE][:3 - len(slashes)] + slashes
        for (part, longest, pattern, words), value in zip(_PARTS, (host, namespace, model, tag)):
            _check(text, part, value, longest, pattern, words)
        return cls(host, namespace, model, tag)

    @property
    def full(self):
        """All four parts, such as registry.ollama.ai/library/qwen2.5:latest."""
        return "%s/%s/%s:%s" % (self.host, self.namespace, self.model, self.tag)

    @property
    def short(self):
        """The name as Ollama's lists show it (DisplayShortest): what is default is left out, the tag never."""
        if self.host.lower() != DEFAULT_HOST:
            return self.full
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return "%s/%s:%s" % (self.namespace, self.model, self.tag)
        return "%s:%s" % (self.model, self.tag)

    @property
    def key(self):
        """What two spellings of one model have in common: the full name in lower case."""
        return self.full.lower()

    def __eq__(self, other):
        return isinstance(other, ModelName) and self.key == other.key

    def __hash__(self):
        return hash(self.key)

    def __repr__(self):
        return "ModelName(%r)" % self.full


def is_hugging_face(name):
    """Whether a model (ModelName) comes from Hugging Face, whose tags are quantizations and whose registry has two host names."""
    return name.host.lower() in HUGGING_FACE


def other_tags(name, others):
    """Those of `others` (iterable of ModelName) that are the model of `name` (ModelName) under another tag."""
    mine = name.key.rpartition(":")[0]
    return [one for one in others if one != name and one.key.rpartition(":")[0] == mine]


def same(one, other):
    """Whether two spellings (str) name one model. Raises LocalModelsError where one of them is no name."""
    return ModelName.parse(one) == ModelName.parse(other)


def suggest(name, candidates=()):
    """The name (str) that was probably meant instead of `name` (str), or "". `candidates` (iterable of str) come before
    the names of the library that everybody knows."""
    typed = _shortest(name)
    for pool in (candidates, WELL_KNOWN):
        known = {}
        for candidate in pool:
            if _shortest(candidate) != typed:
                known.setdefault(_shortest(candidate), candidate)
        close = difflib.get_close_matches(typed, sorted(known), n=1, cutoff=0.75)
        if close:
            return known[close[0]]
    return ""


def _shortest(text):
    text = text.strip().lower()
    return text[:-len(":latest")] if text.endswith(":latest") else text


def _no_name(text, why, mend):
    return LocalModelsError("%s is no model name: %s" % (scrub(repr(text)), why), mend)


def _refuse_what_ollama_never_takes(text, bare):
    if not bare:
        raise _no_name(text, "it is empty", "Write a name such as qwen2.5:0.5b")
    if "@" in bare:
        name, dummy, digest = bare.partition("@")
        if "://" in name:
            raise _no_name(text, "it carries a user or a password", "Leave them out: Ollama takes none in a name")
        raise _no_name(text, "Ollama takes no digest in a name",
                       "To pin a model write a map: {name: %s, digest: \"%s\"}" % (name or "model:tag", digest or "64 hex digits"))
    if any(character.isspace() for character in bare):
        raise _no_name(text, "it has a blank inside", "Write one model per list item")
    scheme, separator, dummy = bare.partition("://")
    # Ollama drops the scheme and asks by https all the same; http:// would promise what does not happen.
    if separator and scheme.lower() != "https":
        raise _no_name(text, "a name carries no %s://" % scheme, "Leave it out; for a registry without TLS set insecure: true")


def _without_source_suffix(bare):
    """`x:local` is x; `x:20b:cloud` is stored as x:20b-cloud (internal/modelref)."""
    if bare.lower().endswith(":local"):
        return bare[:-len(":local")]
    rest = bare[:-len(":cloud")]
    if bare.lower().endswith(":cloud") and rest.rfind(":") > rest.rfind("/"):
        return rest + "-cloud"
    return bare


def _check(text, part, value, longest, pattern, words):
    if not value:
        raise _no_name(text, "its %s is empty" % part, "Write a name such as qwen2.5:0.5b")
    if len(value) > longest:
        raise _no_name(text[:60] + "...", "its %s is longer than %d characters" % (part, longest), "Shorten it")
    if not pattern.match(value):
        why = "its %s %r " % (part, value)
        if not re.match(r"[A-Za-z0-9_]", value):
            why += "begins with %r" % value[0]
        else:
            why += "may hold only %s" % words
        raise _no_name(text, why, "A name begins with a letter, a digit or _ and looks like qwen2.5:0.5b")
