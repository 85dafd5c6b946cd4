# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer of FastGPT means. Pure. Internal to this collection.

FastGPT's HTTP status says little: until 4.14.10 every error is a 500, and a failed model call is a 200. So the content type is
looked at first, then the body (reference, sections 3.0, 5 and 6; every form is recorded in tests/contract/transcripts).
"""

from __future__ import annotations

import json

DATA = "data"          # it did what was asked
ERROR = "error"        # it says that it did not
NO_ROUTE = "no route"  # this version has no such route

# Nodes of an app that ask a model for its answer: the plain one, and the one that may call tools.
MODEL_STEPS = ("chatNode", "tools")


class Said:
    """What FastGPT said. kind: DATA, ERROR or NO_ROUTE. status: of HTTP (int). code: FastGPT's own (int or None).
    data: the payload of a success, never that of an error: failures of the bridge hold AI Proxy's admin key.
    message: the words of an error, "" for a success."""

    def __init__(self, kind, status, code=None, data=None, message=""):
        self.kind = kind
        self.status = status
        self.code = code
        self.data = data
        self.message = message

    @property
    def ok(self):
        return self.kind == DATA

    def __repr__(self):
        return "Said(%s, %s, code=%r, message=%r)" % (self.kind, self.status, self.code, self.message)


class Chat:
    """An answer of a model through an app. text: str. model: which one FastGPT says it asked, "" where it does not say.
    error: str, "" where it names none. An empty text is a failure, with or without an error."""

    def __init__(self, text, model="", error=""):
        self.text = text
        self.model = model
        self.error = error

    @property
    def ok(self):
        return bool(self.text.strip()) and not self.error


def understand(status, headers, body):
    """Said for an HTTP answer. status: int; headers: {lower-case name: value}; body: bytes. Never raises."""
    text = body.decode("utf-8", "replace")
    kind = (headers.get("content-type") or "").lower()
    # A stream that is refused at once comes without its content type.
    if "event-stream" in kind or text.startswith("event: "):
        return _of_stream(status, text)
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return _of_text(status, kind, text)
    if isinstance(parsed, dict):
        for read in (_of_envelope, _of_bridge, _of_chat, _of_node_error):
            said = read(status, parsed)
            if said:
                return said
    return Said(DATA if 200 <= status < 300 else ERROR, status, None, parsed, "" if status < 300 else "HTTP %d" % status)


def chat_of(data):
    """Chat from the data of an answer of /api/v1/chat/completions with detail (dict)."""
    message = next((_map(choice.get("message")) for choice in _maps(data.get("choices"))), {})
    steps = [step for step in _maps(data.get("responseData")) if step.get("moduleType") in MODEL_STEPS]
    error = _words(data["error"]) if data.get("error") else _error_of(steps)
    return Chat(_text_of(message.get("content")), next((str(step.get("model") or "") for step in steps), ""), error)


def _of_envelope(status, parsed):
    """{code, statusText, message, data}: FastGPT's own routes."""
    code = parsed.get("code")
    if not isinstance(code, int) or "data" not in parsed:
        return None
    if code == 200:
        return Said(DATA, status, code, parsed["data"])
    words = parsed.get("message") or parsed.get("statusText") or "no reason given"
    details = ["%s: %s" % (".".join(str(part) for part in one["path"]) if isinstance(one.get("path"), list) else "?", one.get("message", ""))
               for one in _maps(parsed.get("zodError"))]
    return Said(ERROR, status, code, None, "; ".join([_words(words)] + details))


def _of_bridge(status, parsed):
    """{success, message, data}: AI Proxy's answers as FastGPT's bridge passes them on."""
    success = parsed.get("success")
    if not isinstance(success, bool):
        return None
    if success and status < 400:
        return Said(DATA, status, None, parsed.get("data"))
    return Said(ERROR, status, None, None, _words(parsed.get("message") or "no reason given"))


def _of_chat(status, parsed):
    """The form of OpenAI's chat completions."""
    if isinstance(parsed.get("choices"), list):
        chat = chat_of(parsed)
        if chat.ok:
            return Said(DATA, status, None, parsed)
        return Said(ERROR, status, None, None, chat.error or "an empty answer")
    error = parsed.get("error")
    if isinstance(error, dict) and "message" in error:
        return Said(ERROR, status, None, None, _words(error["message"]))
    return None


def _of_node_error(status, parsed):
    """A bare error of Node.js, with status 200: how 4.11 tells that AI Proxy does not answer."""
    if isinstance(parsed.get("code"), str) and "syscall" in parsed:
        return Said(ERROR, status, None, None, "%s %s" % (parsed["syscall"], parsed["code"]))
    return None


def _of_text(status, kind, text):
    if status == 404:
        # HTML is FastGPT itself; plain text comes from AI Proxy's router through the bridge.
        return Said(NO_ROUTE, status, None, None, "no such route")
    words = "a web page instead of JSON" if "html" in kind else " ".join(text.split())[:200]
    return Said(ERROR, status, None, None, words or "an empty body")


def _of_stream(status, text):
    """Server-sent events of a chat: what it wrote, or the error that ended it."""
    content, error = [], ""
    for event in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in event.split("\n") if ": " in line)
        parsed = _json(lines.get("data", ""))
        if isinstance(parsed, list):
            error = error or _error_of(parsed)
        if not isinstance(parsed, dict):
            continue
        if lines.get("event") == "error" or (parsed.get("error") and "choices" not in parsed):
            error = _words(parsed.get("message") or parsed.get("error") or parsed.get("statusText") or "an error without words")
        for choice in _maps(parsed.get("choices")):
            delta = _map(choice.get("delta"))
            content.append(_text_of(delta.get("content") or delta.get("reasoning_content")))
    written = "".join(content)
    if error or not written.strip():
        return Said(ERROR, status, None, None, error or "an empty answer")
    return Said(DATA, status, None, written)


def _error_of(steps):
    """The first error (str) among the steps that an app ran, or ""."""
    errors = (step.get("errorText") or step.get("error") for step in _maps(steps))
    return next((_words(one) for one in errors if one), "")


def _text_of(content):
    """The text of a message: a string, null, or (4.11 with detail) a list of parts."""
    if isinstance(content, list):
        return "".join(str(_map(part.get("text")).get("content") or "") for part in _maps(content))
    return content if isinstance(content, str) else ""


def _map(thing):
    return thing if isinstance(thing, dict) else {}


def _maps(thing):
    return [one for one in thing if isinstance(one, dict)] if isinstance(thing, list) else []


def _words(thing):
    if isinstance(thing, dict):
        thing = thing.get("message") or json.dumps(thing, sort_keys=True)
    return str(thing)


def _json(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
