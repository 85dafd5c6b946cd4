# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models asked as FastGPT itself asks them: from within its container, at its base URL, with its own key. Internal to this collection."""

from __future__ import annotations

import json

from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes import cause_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_walk import Broken, CannotAsk

SHORT = {"max_tokens": 16}
# Thoughts count: a model that thinks may not get farther within so few tokens.
TEXTS = ("content", "reasoning_content", "reasoning")


class ModelsAt:
    """inside: _inside.Inside. container: FastGPT's (str). route: _verify_route.Route. timeout: seconds a model may take."""

    def __init__(self, inside, container, route, timeout):
        self._inside = inside
        self._container = container
        self._route = route
        self._timeout = timeout

    def listed(self, unreached):
        """Names (list of str) at /models. unreached: callable(trouble (str)) -> (cause, mend). Raises Broken, CannotAsk."""
        got = self._send("/models", None, unreached)
        found = got.json()
        if got.status != 200 or not isinstance(found, dict) or not isinstance(found.get("data"), (list, type(None))) or "data" not in found:
            raise self._refused(got)
        return [one["id"] for one in found["data"] or ()]

    def chat(self, model, key=None, stream=False):
        """What a chat model (str) says to a short text, as it is shown. key: another one than FastGPT's own (str). Raises Broken, CannotAsk."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        if stream:
            body["stream"] = True
        read = streamed if stream else completed
        # one-api hides thoughts, so that a model may seem to say nothing within a few tokens: then it may say all it wants.
        text = self._text(dict(body, **SHORT), key, read) or self._text(body, key, read)
        if not text:
            raise Broken("an empty answer", *cause_of("empty answer", self._route.path))
        return repr(text)

    def embedding(self, model, key=None):
        """How many numbers an embedding model (str) makes of a short text, as it is shown. Raises Broken, CannotAsk."""
        got = self._send("/embeddings", {"model": model, "input": ["hi"], "encoding_format": "float"}, key=key)
        try:
            numbers = got.json()["data"][0]["embedding"]
        except (TypeError, KeyError, IndexError):
            numbers = None
        if got.status != 200 or not numbers:
            raise self._refused(got)
        return "%d numbers" % len(numbers)

    def _text(self, body, key, read):
        got = self._send("/chat/completions", body, key=key)
        text = read(got.said) if got.status == 200 else None
        if text is None:
            raise self._refused(got)
        return text

    def _send(self, path, body, unreached=None, key=None):
        if self._route.key is None and self._route.needs_key:
            raise Broken("nothing was asked: CHAT_API_KEY of FastGPT is empty", *cause_of("Missing credentials", self._route.path))
        key = key or (self._route.key.value if self._route.key else "")
        got = self._inside.send(self._container, self._route.base + path, key, body, *([self._timeout] if body else []))
        if got.trouble == "tool":
            raise CannotAsk("%s: it cannot be asked from within %s" % (got.said, self._container))
        if got.trouble:
            raise Broken(got.said, *(unreached(got.trouble) if unreached else cause_of(got.said, self._route.path)))
        return got

    def _refused(self, got):
        """The Broken for an answer that is none of OpenAI's form, or an error."""
        words = "answered %d: %s" % (got.status, words_of(got.said) or "an empty body")
        if got.status == 200 and "html" in got.kind:
            words = "answered 200: a web page instead of JSON"
        cause, mend = cause_of(words, self._route.path)
        if self._route.key and self._route.key.found_in.startswith("AIPROXY_API_TOKEN") and got.status == 401:
            cause = "FastGPT sends AIPROXY_API_TOKEN, for until 4.14.17 that goes before CHAT_API_KEY even where AIPROXY_API_ENDPOINT is empty"
            mend = "Empty both: run role fastgpt_compose (playbook connect)"
        return Broken(words, cause, mend)


def completed(said):
    """The text (str, may be empty) of a whole chat completion; None where `said` (str) is none. Pure."""
    try:
        return _text_of(json.loads(said)["choices"][0]["message"])
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


def streamed(said):
    """The text (str, may be empty) of a streamed chat completion; None where `said` (str) is no such stream, or holds an error. Pure."""
    text, ended = "", False
    for line in said.splitlines():
        data = line[len("data:"):].strip() if line.startswith("data:") else ""
        ended = ended or data == "[DONE]"
        try:
            event = json.loads(data)
        except ValueError:
            continue
        if not isinstance(event, dict):
            continue
        if "error" in event:
            return None
        for choice in event.get("choices") or ():
            text += _text_of(choice.get("delta") or {})
    return text if ended else None


def words_of(said):
    """The words (str) of an error in OpenAI's form, else the text on one line. Pure."""
    try:
        error = json.loads(said)["error"]
        return str(error.get("message") if isinstance(error, dict) else error).strip()
    except (ValueError, TypeError, KeyError):
        return " ".join(said.split())[:300]


def _text_of(message):
    return next((message[name] for name in TEXTS if isinstance(message.get(name), str) and message[name].strip()), "")
