# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy between the module and Ollama, which hurts a pull at a moment of its answer."""

from __future__ import annotations

import http.client
import http.server
import json
import socket
import struct
import threading
import time

from ansible_collections.localmodels.fastgpt.tests.faults import cases

STATUSES = (("pulling manifest", 1), ("verifying", 4), ("writing manifest", 5), ("success", 6))
RANKS = {moment: number + 1 for number, moment in enumerate(cases.STREAM_MOMENTS)}
BROKEN = (OSError, http.client.HTTPException)


def rank(line):
    """How far a pull is by a line (dict) of its answer: 1 (manifest) to 6 (success), or 0."""
    if line.get("total", 0) >= cases.WEIGHTS:
        done = line.get("completed", 0)
        return 3 if done >= cases.WEIGHTS // 2 else 2 if done else 0
    return next((number for said, number in STATUSES if str(line.get("status", "")).startswith(said)), 0)


class Between(http.server.ThreadingHTTPServer):
    """Forwards to `target` (port of 127.0.0.1). `pulls`: list of (model, from, to). fault: Fault or None."""

    daemon_threads = True

    def __init__(self, target):
        super().__init__(("127.0.0.1", 0), _Forward)
        self.target, self.fault, self.pulls, self.open, self.resets = target, None, [], 0, set()
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.server_address[1]

    def shutdown_request(self, request):
        if request in self.resets:
            self.resets.discard(request)
            request.close()  # without a word of farewell
        else:
            super().shutdown_request(request)

    def handle_error(self, request, client_address):
        """A connection that breaks is what this is for."""


class Fault:
    """act: called with the handler, at `moment` of the pull of `model`. times: how often. For answers: `answer` to `path`."""

    def __init__(self, moment="", model="", act=None, times=None, path="/api/pull", answer=None, after_pull=False):
        self.moment, self.model, self.act, self.times = moment, model, act, times
        self.path, self.answer, self.after_pull = path, answer, after_pull

    def take(self):
        if self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class _Forward(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault, model = self.server.fault, ""
        if self.path == "/api/pull":
            model = json.loads(body)["model"]
        with self.server.lock:
            hit = fault and fault.answer and fault.path == self.path and fault.model in ("", model) \
                and (not fault.after_pull or self.server.pulls) and fault.take()
        if hit:
            self._answer(fault.answer["status"], fault.answer.get("headers", {}), fault.answer.get("body", "").encode())
            return
        began = time.monotonic()
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=300)
        with self.server.lock:
            self.server.open += 1
        answer = None
        try:
            upstream.connect()
            line = upstream.sock
            upstream.request(self.command, self.path, body, {name: self.headers[name] for name in ("Content-Type", "Host") if name in self.headers})
            answer = upstream.getresponse()
            if self.path == "/api/pull" and answer.status == 200:
                self._relay(answer, line, model)
            else:
                self._answer(answer.status, {"Content-Type": answer.headers.get("Content-Type", "")}, answer.read())
        except BROKEN:
            self.hang_up()
        finally:
            if answer is not None:
                answer.close()
            upstream.close()
            with self.server.lock:
                self.server.open -= 1
                if model:
                    self.server.pulls.append((model, began, time.monotonic()))

    do_GET = do_POST = do_DELETE = do_HEAD = forward

    def _answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _relay(self, answer, upstream, model):
        """Pass on line after line; whoever hangs up here hangs up there."""
        self.gone, self.ended = threading.Event(), False
        threading.Thread(target=self._until_gone, args=(upstream,), daemon=True).start()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for raw in answer:
            self._maybe_hurt(raw, model)
            if self.ended:
                return
            self.pass_on(raw)
        self.wfile.write(b"0\r\n\r\n")

    def _until_gone(self, upstream):
        try:
            while self.connection.recv(1, socket.MSG_PEEK):
                time.sleep(0.05)
        except OSError:
            pass
        self.gone.set()
        try:
            upstream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _maybe_hurt(self, raw, model):
        fault = self.server.fault
        if fault is None or fault.act is None or fault.model != model:
            return
        try:
            far = rank(json.loads(raw))
        except ValueError:
            return
        with self.server.lock:
            hit = far >= RANKS[fault.moment] and fault.take()
        if hit:
            fault.act(self)

    def pass_on(self, raw):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))

    def hang_up(self, reset=False):
        """End the connection in mid-answer."""
        self.ended = self.close_connection = True
        try:
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.server.resets.add(self.connection)
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def finish_politely(self, *lines):
        """End the answer as a whole one, after these lines (bytes)."""
        for line in lines:
            self.pass_on(line)
        self.wfile.write(b"0\r\n\r\n")
        self.ended = self.close_connection = True

    def fall_silent(self):
        """Nothing more comes, until the other side hangs up."""
        self.gone.wait(60)
        self.ended = self.close_connection = True

    def log_message(self, *_words):
        """Say nothing."""
