# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/api/generate, /api/chat, /api/embed and their /v1 forms."""

from __future__ import annotations

import json
import time
import uuid

from ollama_parts import go
from ollama_parts.create import helper_paths
from ollama_parts.inference import NO_EMBEDDINGS, NO_IMAGES, Reply, check_format, embedding, question
from ollama_parts.reply import BARE_JSON, EVENTS, NDJSON, as_json, stream
from ollama_parts.store import timestamp

NO_SERVER = ("error starting llama-server: llama-server binary not found (checked: %s). Run 'cmake -S llama/server --preset cpu"
             " && cmake --build --preset cpu' first ")


class Chat:
    """server: server.Server."""

    def __init__(self, server):
        self.server = server

    async def generate(self, request):
        asked = go.bind(await request.read(), "GenerateRequest", {"model": "string", "prompt": "string", "stream": "bool"})
        model, keep_alive, loads = self._model(asked, "generate", bool(asked.get("prompt")))
        head = {"model": asked.get("model"), "created_at": timestamp(time.time())}
        if loads is not None:
            return as_json(request, {**head, "response": "", "done": True, "done_reason": loads})
        reply = self._reply(asked, model, keep_alive, asked["prompt"])
        pieces = [{**head, "response": word, "done": False} for word in reply.words]
        last = {**head, "response": "", "done": True, "done_reason": reply.reason, "context": reply.context(), **reply.counts()}
        return await self._answer(request, asked.get("stream", True), pieces, last, {**last, "response": reply.text})

    async def chat(self, request):
        asked = go.bind(await request.read(), "ChatRequest", {"model": "string", "messages": "[]api.Message", "stream": "bool"})
        model, keep_alive, loads = self._model(asked, "chat", bool(asked.get("messages")))
        head = {"model": asked.get("model"), "created_at": timestamp(time.time())}
        if loads is not None:
            return as_json(request, {**head, "message": _said(""), "done": True, "done_reason": loads})
        reply = self._reply(asked, model, keep_alive, question(asked["messages"]))
        pieces = [{**head, "message": _said(word), "done": False} for word in reply.words]
        last = {**head, "message": _said(""), "done": True, "done_reason": reply.reason, **reply.counts()}
        return await self._answer(request, asked.get("stream", True), pieces, last, {**last, "message": _said(reply.text)})

    def _model(self, asked, what, has_question):
        """(Model, keep_alive in seconds or None, "load", "unload" or None) of a request; raises Refusal."""
        keep_alive = None if asked.get("keep_alive") is None else go.seconds(asked["keep_alive"])
        model = self.server.find(asked.get("model") or "", "model '{text}' not found")
        if not has_question and keep_alive == 0:
            self.server.loaded.unload(model)
            return model, keep_alive, "unload"
        self._check_capabilities(asked, model, what)
        if has_question:
            return model, keep_alive, None
        self._load(model, asked, keep_alive)
        return model, keep_alive, "load"

    @staticmethod
    def _check_capabilities(asked, model, what):
        can = model.capabilities()
        if asked.get("think") and "thinking" not in can:
            raise go.Refusal(400, "%s does not support thinking" % go.quoted(asked["model"]))
        if "completion" not in can:
            raise go.Refusal(400, "%s does not support %s" % (go.quoted(asked["model"]), what))
        for key, capability in (("suffix", "insert"), ("tools", "tools")):
            if asked.get(key) and capability not in can:
                raise go.Refusal(400, "%s does not support %s" % (model.name.full, capability))

    def _load(self, model, asked, keep_alive):
        if self.server.faults.get("no_llama_server"):
            raise go.Refusal(500, NO_SERVER % ", ".join(helper_paths("llama-server")))
        if self.server.faults.get("load_error"):
            raise go.Refusal(500, self.server.faults["load_error"])
        return self.server.loaded.load(model, asked.get("options"), keep_alive)

    def _reply(self, asked, model, keep_alive, text):
        options = self._load(model, asked, keep_alive)
        images = asked.get("images") or any(message.get("images") for message in asked.get("messages") or [])
        if images and "vision" not in model.capabilities():
            raise go.Refusal(400, NO_IMAGES)
        check_format(asked.get("format"))
        return Reply(model, text, options, bool(asked.get("format")), self.server.modern)

    async def _answer(self, request, streamed, pieces, last, whole):
        if streamed is False:
            return as_json(request, whole)
        return await self._stream(request, [json.dumps(piece) + "\n" for piece in [*pieces, last]], NDJSON)

    @staticmethod
    async def _stream(request, pieces, content_type):
        response = await stream(request, content_type)
        for piece in pieces:
            await response.write(piece.encode())
        return response

    async def embed(self, request):
        asked = go.bind(await request.read(), "EmbedRequest", {"model": "string"})
        vectors, tokens = self._vectors(asked, asked.get("input"))
        body = {"model": asked.get("model"), "embeddings": vectors}
        if vectors:
            body.update({"total_duration": 20130956, "load_duration": 1323256, "prompt_eval_count": tokens})
        return as_json(request, body)

    async def embeddings(self, request):
        asked = go.bind(await request.read(), "EmbeddingRequest", {"model": "string", "prompt": "string"})
        vectors, _tokens = self._vectors(asked, asked.get("prompt"))
        return as_json(request, {"embedding": vectors[0] if vectors else []})

    def _vectors(self, asked, given):
        """(list of vectors, number of tokens) for a text or a list of texts; loads the model in any case."""
        texts = [given] if isinstance(given, str) else given or []
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise go.Refusal(400, "invalid input type")
        keep_alive = None if asked.get("keep_alive") is None else go.seconds(asked["keep_alive"])
        model = self.server.find(asked.get("model") or "", "model {quoted} not found, try pulling it first")
        self._load(model, asked, keep_alive)
        if keep_alive == 0:
            self.server.loaded.unload(model)
        texts = [text for text in texts if text]
        if texts and "embedding" not in model.capabilities():
            raise go.Refusal(501, NO_EMBEDDINGS)
        dimensions = model.gguf().of_architecture("embedding_length", 64)
        return [embedding(text, dimensions) for text in texts], sum(len(text.split()) + 2 for text in texts)

    async def v1_chat(self, request):
        asked = go.bind(await request.read(), "ChatCompletionRequest", {"model": "string", "stream": "bool"})
        if not asked.get("messages"):
            raise go.Refusal(400, "[] is too short - 'messages'")
        reply = self._v1_reply(asked, question(asked["messages"]), "chat")
        whole = {"choices": [{"index": 0, "message": _said(reply.text), "finish_reason": reply.reason}]}
        deltas = [{"index": 0, "delta": {**({"role": "assistant"} if index == 0 else {}), "content": word}, "finish_reason": None}
                  for index, word in enumerate(reply.words)]
        last = {"index": 0, "delta": {}, "finish_reason": reply.reason}
        return await self._v1_answer(request, asked, reply, "chatcmpl", "chat.completion", whole, [*deltas, last])

    async def v1_completions(self, request):
        asked = go.bind(await request.read(), "CompletionRequest", {"model": "string", "stream": "bool"})
        reply = self._v1_reply(asked, asked.get("prompt") or "", "generate")
        whole = {"choices": [{"text": reply.text, "index": 0, "finish_reason": reply.reason}]}
        deltas = [{"text": word, "index": 0, "finish_reason": None} for word in reply.words]
        last = {"text": "", "index": 0, "finish_reason": reply.reason}
        return await self._v1_answer(request, asked, reply, "cmpl", "text_completion", whole, [*deltas, last])

    def _v1_reply(self, asked, text, what):
        model, keep_alive, _loads = self._model(asked, what, True)
        options = {"num_predict": asked["max_tokens"]} if asked.get("max_tokens") else {}
        form = asked.get("response_format") or {}
        wanted = {"json_object": "json", "json_schema": (form.get("json_schema") or {}).get("schema")}.get(form.get("type"))
        return self._reply({**asked, "options": options, "format": wanted}, model, keep_alive, text)

    async def _v1_answer(self, request, asked, reply, prefix, kind, whole, choices):
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.tokens,
                 "total_tokens": reply.prompt_tokens + reply.tokens}
        if self.server.modern:
            usage["prompt_tokens_details"] = {"cached_tokens": 0}
        head = {"id": "%s-%d" % (prefix, uuid.uuid4().int % 1000), "object": kind, "created": int(time.time()),
                "model": asked["model"], "system_fingerprint": "fp_ollama"}
        if not asked.get("stream"):
            return as_json(request, {**head, **whole, "usage": usage}, content_type=BARE_JSON)
        if kind == "chat.completion":
            head["object"] = "chat.completion.chunk"
        chunks = [{**head, "choices": [choice]} for choice in choices]
        if (asked.get("stream_options") or {}).get("include_usage"):
            chunks.append({**head, "choices": [], "usage": usage})
        events = ["data: %s\n\n" % json.dumps(chunk) for chunk in chunks] + ["data: [DONE]\n\n"]
        return await self._stream(request, events, EVENTS)

    async def v1_embeddings(self, request):
        asked = go.bind(await request.read(), "EmbedRequest", {"model": "string"})
        if not asked.get("input"):
            raise go.Refusal(400, "invalid input")
        vectors, tokens = self._vectors(asked, asked["input"])
        data = [{"object": "embedding", "embedding": vector, "index": index} for index, vector in enumerate(vectors)]
        return as_json(request, {"object": "list", "data": data, "model": asked["model"],
                                    "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}, content_type=BARE_JSON)


def _said(text):
    return {"role": "assistant", "content": text}
