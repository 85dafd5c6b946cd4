# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loaded models and canned answers: an answer repeats the question, an embedding depends on its text only."""

from __future__ import annotations

import hashlib
import json
import math
import random
import time

from ollama_parts import go
from ollama_parts.store import timestamp

INTEGERS = ("num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread",
            "draft_num_predict")
NUMBERS = ("top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty")
RUNNER_OPTIONS = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")
NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"
NO_IMAGES = json.dumps({"error": {"code": 400, "message": "Multimodal data provided, but model does not support multimodal requests.",
                                  "type": "invalid_request_error"}}, separators=(",", ":"))


class Loaded:
    """The models in memory, by their weights: models with the same weights share one place."""

    def __init__(self, keep_alive, context_length):
        self.keep_alive, self.context_length, self._places = keep_alive, context_length, {}

    def load(self, model, options, keep_alive):
        """Load a model, or prolong its stay. keep_alive: seconds or None. Raises Refusal for a wrong option."""
        options = {**model.parameters, **(options or {})}
        check_options(options)
        self._expire()
        wanted = tuple(options.get(key) for key in RUNNER_OPTIONS)
        place = self._places.get(model.model_digest)
        if place is None or place["runner"] != wanted:
            place = self._places[model.model_digest] = {"model": model, "runner": wanted, "context": self._context(model, options)}
        stay = self.keep_alive if keep_alive is None else keep_alive
        place["until"] = time.time() + stay
        return options

    def _context(self, model, options):
        longest = model.gguf().of_architecture("context_length", 4096)
        return min(options.get("num_ctx") or self.context_length or 4096, longest)

    def unload(self, model):
        self._places.pop(model.model_digest, None)

    def _expire(self):
        now = time.time()
        self._places = {digest: place for digest, place in self._places.items() if place["until"] > now}

    def list(self):
        """/api/ps"""
        self._expire()
        return {"models": [self._line(place) for place in sorted(self._places.values(), key=lambda place: -place["until"])]}

    @staticmethod
    def _line(place):
        model = place["model"]
        return {"name": model.name.short, "model": model.name.short, "size": model.size + place["context"] * 2048,
                "digest": model.digest, "details": {**model.details(), "parent_model": ""}, "expires_at": timestamp(place["until"]),
                "size_vram": 0, "context_length": place["context"]}


def check_options(options):
    """Raises Refusal(500) for an option of the wrong type; unknown ones are ignored."""
    for key, value in options.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        wrong = (("integer", key in INTEGERS and not number), ("float32", key in NUMBERS and not number),
                 ("boolean", key == "use_mmap" and value is not None and not isinstance(value, bool)),
                 ("array", key == "stop" and not isinstance(value, list)))
        for go_type, is_wrong in wrong:
            if is_wrong:
                raise go.Refusal(500, "option %s must be of type %s" % (go.quoted(key), go_type))


class Reply:
    """The words of an answer and what is said about them: the same question gets the same answer."""

    def __init__(self, model, question, options, structured=False, modern=False):
        text = "This is %s. You asked: %s. That is all I know about it." % (model.name.short, question.strip() or "nothing")
        if structured:
            text = json.dumps({"answer": question.strip()})
        words = [text] if structured else [word if index == 0 else " " + word for index, word in enumerate(text.split(" "))]
        limit = options.get("num_predict")
        self.words = words[:int(limit)] if limit and limit > 0 else words
        self.reason = "length" if len(self.words) < len(words) else "stop"
        self.prompt_tokens, self.tokens = max(len(question.split()), 1) + 5, len(self.words)
        self.modern = modern

    @property
    def text(self):
        return "".join(self.words)

    def counts(self):
        """The numbers at the end of an answer; durations are nanoseconds."""
        counts = {"total_duration": 21433686, "load_duration": 844539, "prompt_eval_count": self.prompt_tokens}
        if self.modern:
            counts["prompt_eval_cached_count"] = 0
        return {**counts, "prompt_eval_duration": 17648000, "eval_count": self.tokens, "eval_duration": 976000 * max(self.tokens, 1)}

    def context(self):
        return list(range(259, 259 + self.prompt_tokens + self.tokens))


def question(messages):
    """The text that is answered: the last one of the user."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return _text(message.get("content"))
    return _text(messages[-1].get("content")) if messages else ""


def _text(content):
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content or ""


def embedding(text, dimensions):
    """A unit vector of float that depends on nothing but the text."""
    numbers = random.Random(hashlib.sha256(text.encode()).digest())
    vector = [numbers.gauss(0, 1) for _ in range(dimensions)]
    length = math.sqrt(sum(number * number for number in vector))
    return [round(number / length, 9) for number in vector]


def check_format(wanted):
    """Raises Refusal(500) for a format that is neither "json" nor a schema."""
    if wanted not in (None, "", "json") and not isinstance(wanted, dict):
        raise go.Refusal(500, 'invalid format: %s; expected "json" or a valid JSON Schema object' % go.quoted(json.dumps(wanted)))
