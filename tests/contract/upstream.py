# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stood behind AI Proxy and one-api while they were recorded: an Ollama with two tiny models, and hosts that answer wrongly."""

from __future__ import annotations

import http.server
import json
import re
import threading

WORDS = ["re", "an", " blue", "v", "re", "c"]
VECTOR = [0.1421011, 0.08414179, -0.050188344]


class Upstream:
    """A server of its own thread on a free port of 127.0.0.1; `address` is host:port."""

    def __init__(self):
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self.address = "127.0.0.1:%d" % self._server.server_address[1]

    def start(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Below /q and /p like at the root; /s/<code> answers that code, /html a web page, /oai and /openai an error in
    OpenAI's form; /whole never streams. A path with // is redirected, as Ollama does."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_args):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = re.sub("^/[qp]/", "/", self.path)
        if path.startswith("/whole/"):
            path, asked = path[len("/whole"):], dict(asked, stream=False)
        code = re.match(r"/s/(\d+)/", path)
        if code:
            self.say(int(code.group(1)), {"error": "stub says " + code.group(1)})
        elif path.startswith("/html/"):
            self.say(200, "<html><body>welcome</body></html>", "text/html")
        elif path.startswith("/oai/"):
            self.say(404, {"error": {"message": "Not Found", "type": "invalid_request_error"}})
        elif path.startswith("/openai/"):
            self.say(404, {"error": {"message": "Not Found", "type": "NotFoundError", "param": "", "code": 404}})
        elif path.startswith("//"):
            self.say(307, "", "text/plain")
        elif path in ("/api/chat", "/api/generate", "/api/embed", "/v1/chat/completions", "/v1/embeddings"):
            self.ollama(path, asked)
        else:
            self.say(404, "404 page not found", "text/plain")

    def ollama(self, path, asked):
        if ":" not in asked["model"]:
            asked["model"] += ":latest"
        embeds = asked["model"] == "tiny-embed:latest"
        if asked["model"] not in ("tiny:latest", "tiny-embed:latest"):
            self.say(404, {"error": "model '%s' not found" % asked["model"]})
        elif path in ("/api/embed", "/v1/embeddings") and not embeds:
            self.say(501, {"error": "This server does not support embeddings. Start it with `--embeddings`"})
        elif path == "/api/embed":
            self.say(200, {"model": asked["model"], "embeddings": [VECTOR for _text in asked["input"]], "prompt_eval_count": 3})
        elif path == "/v1/embeddings":
            self.say(200, {"object": "list", "model": asked["model"], "data": [{"object": "embedding", "embedding": VECTOR, "index": 0}],
                           "usage": {"prompt_tokens": 3, "total_tokens": 3}})
        elif embeds:
            self.say(400, {"error": '"%s" does not support chat' % asked["model"]})
        elif path == "/v1/chat/completions" and asked.get("stream"):
            self.stream(asked)
        elif path == "/v1/chat/completions":
            choice = {"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "length"}
            self.say(200, {"id": "chatcmpl-728", "object": "chat.completion", "created": 1, "model": asked["model"],
                           "system_fingerprint": "fp_ollama", "choices": [choice],
                           "usage": {"prompt_tokens": 52, "completion_tokens": 6, "total_tokens": 58}}, "application/json")
        else:
            self.talk(asked, chat=path == "/api/chat")

    def talk(self, asked, chat):
        def line(text, **more):
            part = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
            return dict({"model": asked["model"], "created_at": "2026-11-23T00:00:00Z", "done": False}, **part, **more)
        if chat and not asked.get("messages"):
            self.say(200, line("", done_reason="load") | {"done": True})
            return
        end = {"done": True, "done_reason": "length", "prompt_eval_count": 52, "eval_count": len(WORDS)}
        if not asked.get("stream", True):
            self.say(200, line("".join(WORDS)) | end)
            return
        lines = [line(word) for word in WORDS] + [line("") | end]
        self.say(200, "".join(json.dumps(each) + "\n" for each in lines), "application/x-ndjson")

    def stream(self, asked):
        """As Ollama's /v1 streams (openai/openai.go and middleware/openai.go, 0.32)."""
        def event(delta, finish=None, **more):
            return dict({"id": "chatcmpl-728", "object": "chat.completion.chunk", "created": 1, "model": asked["model"], "system_fingerprint": "fp_ollama",
                         "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}, **more)
        events = [event({"role": "assistant", "content": word}) for word in WORDS] + [event({"role": "assistant", "content": ""}, "length")]
        if (asked.get("stream_options") or {}).get("include_usage"):
            events.append(event({}, choices=[], usage={"prompt_tokens": 52, "completion_tokens": 6, "total_tokens": 58}))
        self.say(200, "".join("data: %s\n\n" % json.dumps(each) for each in events) + "data: [DONE]\n\n", "text/event-stream")

    def say(self, status, body, kind="application/json; charset=utf-8"):
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
