# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server of a few lines for tests: each answer is a function, each request is written down."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class SmallServer:
    """`answers`: {(method, path): (status, body) or (status, body, headers) or function(handler)}. `asked`: list of (method, path, body)."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []
        self.headers = []

    def paths(self):
        return ["%s %s" % request[:2] for request in self.asked]


class Waiting(ThreadingHTTPServer):
    """Twenty clients may knock at once: beyond the usual 5 the kernel lets them knock again after a second."""

    request_queue_size = 64
    daemon_threads = True


@contextlib.contextmanager
def serving(answers):
    """A SmallServer that listens at `.url` until the block ends."""
    small = SmallServer(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            small.asked.append((self.command, self.path, json.loads(body) if body else None))
            small.headers.append(dict(self.headers))
            what = small.answers.get((self.command, self.path), (404, "404 page not found"))
            if callable(what):
                self.close_connection = True
                return what(self)
            status, said = what[:2]
            raw = said if isinstance(said, bytes) else (said if isinstance(said, str) else json.dumps(said)).encode()
            self.send_response(status)
            for name, value in (what[2] if len(what) > 2 else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

        def log_message(self, *args):
            pass

    http = Waiting(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
    thread.start()
    small.host = "127.0.0.1:%d" % http.server_port
    small.url = "http://" + small.host
    try:
        yield small
    finally:
        http.shutdown()
        http.server_close()


def streaming(lines, end=True, hold=None):
    """An answer in chunks, one a line (dict, or bytes as they are). end: with the last chunk, or cut. hold: wait for this event first."""
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-ndjson")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            for line in lines() if callable(lines) else lines:
                raw = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
                handler.wfile.flush()
            if hold:
                hold.wait(30)
            if end:
                handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass  # the client has gone, which is what some tests are about
    return answer
