# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers as child processes on loopback, and requests to them in the form the transcripts keep."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.parse

KEPT_HEADERS = ("content-type", "location", "set-cookie", "retry-after", "www-authenticate", "transfer-encoding",
                "x-request-id", "access-control-allow-origin")


def free_port():
    """A TCP port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server as a child process: started on a free port of 127.0.0.1, its state below `state`.

    argv: list of str. env: dict of str, added to a bare environment (PATH, HOME = state).
    "{port}" and "{state}" in both are filled in. ready: path that answers below 500 once the server is up.
    """

    def __init__(self, argv, state, env=None, ready="/"):
        self.argv, self.state, self.env, self.ready = list(argv), str(state), dict(env or {}), ready
        self.port = free_port()
        self.log = os.path.join(self.state, "server.log")
        self._process = None
        os.makedirs(self.state, exist_ok=True)

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    def start(self, **env):
        """Start it, with `env` on top of its usual environment, and wait until it answers. Returns itself."""
        surroundings = {"PATH": os.environ["PATH"], "HOME": self.state, **self.env, **env}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(  # pylint: disable=consider-using-with
                [self._filled(word) for word in self.argv], cwd=self.state, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={name: self._filled(value) for name, value in surroundings.items()})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError("%s ended with exit code %d:\n%s" % (self.argv[0], self._process.returncode, self.tail()))
            try:
                if send(self.url, "GET", self.ready, {}, None)["status"] < 500:
                    return self
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        self.stop()
        raise AssertionError("%s did not answer on %s within a minute:\n%s" % (self.argv[0], self.url, self.tail()))

    def stop(self, how=signal.SIGTERM):
        """End it and wait for its end; nothing happens where it does not run."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def restart(self, how=signal.SIGTERM, **env):
        """Stop and start on the same port with the same state; `env` as for start()."""
        self.stop(how)
        return self.start(**env)

    def tail(self):
        """The end of what it wrote."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()[-3000:]

    def _filled(self, text):
        return str(text).replace("{port}", str(self.port)).replace("{state}", self.state)


def send(base, method, path, headers, body, timeout=120):
    """Send one request; the answer as a transcript keeps it: status, headers, and one of body, lines, events.

    body: None, str, bytes, or anything JSON can hold. A Host header in `headers` is sent as it is, even empty.
    """
    url = urllib.parse.urlsplit(base)
    sent = dict(headers)
    data = body
    if body is not None and not isinstance(body, (bytes, str)):
        data = json.dumps(body, ensure_ascii=False).encode("utf-8")
        sent.setdefault("Content-Type", "application/json")
    elif isinstance(body, str):
        data = body.encode("utf-8")
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=timeout)
    try:
        connection.request(method, url.path.rstrip("/") + path, body=data, headers=sent)
        answer = connection.getresponse()
        raw = answer.read().decode("utf-8", "replace")
        kept = {name.lower(): value for name, value in answer.getheaders() if name.lower() in KEPT_HEADERS}
        return {"status": answer.status, "reason": answer.reason, "headers": kept,
                **parse(raw, kept.get("content-type", ""))}
    finally:
        connection.close()


def parse(raw, content_type):
    """The text of an answer in its recorded form: {"events": [...]}, {"lines": [...]} or {"body": ...}."""
    if "event-stream" in content_type:
        return {"events": [event for event in raw.split("\n\n") if event.strip()]}
    try:
        return {"body": json.loads(raw)}
    except ValueError:
        pass
    try:
        lines = [json.loads(line) for line in raw.splitlines() if line.strip()]
    except ValueError:
        lines = []
    return {"lines": lines} if lines else {"body": raw}
