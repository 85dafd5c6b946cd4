# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads of large files over bad lines: resumed, retried, checked. Internal to this collection."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from urllib.parse import unquote, urlsplit, urlunsplit

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import NETWORK_ERRORS, explain, masked
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text

STALL = 60  # seconds without a byte
TRIES = 5   # in a row without a byte of progress
_CHUNK = 1 << 20
SCHEMES = ("https", "http", "ftp", "file")
_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class Advice:
    """What to do when a download fails, in sentences: the `line` is bad, the file is `missing` there, the disk has no `room` here."""

    def __init__(self, line, missing, room):
        self.line = line
        self.missing = missing
        self.room = room


FOR_RELEASES = Advice("Check the line and its proxy, or name a mirror with ollama_release_url",
                      "Check ollama_version and ollama_release_url",
                      "Make room, or set ollama_install_dir to a larger disk")


class Broken(Exception):
    """The line broke: what is there stays, the next try goes on from it."""


class Download:
    """`url` into the file `path`. Proxies of the environment apply: this goes to the internet. sleep: for tests.

    advice: Advice for messages. on_bytes: callable(int), told of each piece that arrives; what it raises ends the download.
    received: bytes that came over the line so far.
    """

    def __init__(self, url, path, sleep=time.sleep, *, advice=FOR_RELEASES, on_bytes=None):
        self.url = url
        self.path = path
        self.received = 0
        self._sleep = sleep
        self._advice = advice
        self._on_bytes = on_bytes or (lambda count: None)

    def run(self, sha256, source):
        """Download, go on where an earlier try stopped, compare with `sha256`, which `source` told.

        Raises LocalModelsError; a file with the wrong content is removed.
        """
        resumed = self._size()
        self._all()
        got = digest(self.path)
        if got != sha256 and resumed:
            # The beginning may stem from another build of the release, or from a crash in mid-write.
            os.unlink(self.path)
            self._all()
            got = digest(self.path)
        if got != sha256:
            os.unlink(self.path)
            raise LocalModelsError(
                "Checksum mismatch: %s has the SHA-256 %s, but %s says %s; nothing was installed"
                % (scrub(self.url), got, scrub(source), sha256),
                "A mirror or proxy may have changed the file; do not use it before you know why")

    def _all(self):
        failures = 0
        while True:
            begin = self._size()
            try:
                return self._rest(begin)
            except Broken as broken:
                failures = 0 if self._size() > begin else failures + 1
                if failures >= TRIES:
                    raise LocalModelsError(
                        "%s cannot be downloaded: the server %s (%s are there, the next play goes on from them)"
                        % (scrub(self.url), broken, size_text(self._size())),
                        self._advice.line) from broken
                self._sleep(2 ** failures)

    def _rest(self, begin):
        response = _open(self.url, {"Range": "bytes=%d-" % begin} if begin else {}, self._advice.missing)
        if response is None:
            return
        with response:
            self._receive(response, "ab" if response.getcode() == 206 else "wb")

    def _receive(self, response, mode):
        length = int(response.headers.get("Content-Length") or 0)
        free = shutil.disk_usage(os.path.dirname(self.path)).free
        if length > free:
            raise LocalModelsError("%s needs %s, but only %s are free below %s" % (
                scrub(self.url), size_text(length), size_text(free), os.path.dirname(self.path)),
                self._advice.room)
        count = 0
        with open(self.path, mode) as target:
            while True:
                try:
                    chunk = response.read(_CHUNK)
                except NETWORK_ERRORS as problem:
                    raise Broken(explain(problem)[0]) from problem
                if not chunk:
                    break
                target.write(chunk)
                count += len(chunk)
                self.received += len(chunk)
                self._on_bytes(len(chunk))
        if count < length:
            raise Broken("ended the connection after %s of %s" % (size_text(count), size_text(length)))

    def _size(self):
        return os.path.getsize(self.path) if os.path.exists(self.path) else 0


def digest(path):
    """SHA-256 (64 hex digits) of a file."""
    summed = hashlib.sha256()
    with open(path, "rb") as content:
        for chunk in iter(lambda: content.read(_CHUNK), b""):
            summed.update(chunk)
    return summed.hexdigest()


def length(url):
    """Bytes (int) of what lies at `url`, asked without fetching it; 0 where nobody says."""
    try:
        with urllib.request.build_opener().open(_request(url, {}, "HEAD"), timeout=STALL) as response:
            return int(response.headers.get("Content-Length") or 0)
    except (ValueError,) + NETWORK_ERRORS:
        return 0


def fetch_text(url, missing, sleep=time.sleep):
    """A small text at `url`. missing: what a 404 probably means. Raises LocalModelsError."""
    for attempt in range(1, TRIES + 1):
        try:
            with _open(url, {}, missing) as response:
                return response.read().decode("utf-8", "replace")
        except (Broken,) + NETWORK_ERRORS as problem:
            if attempt == TRIES:
                said = problem if isinstance(problem, Broken) else explain(problem)[0]
                raise LocalModelsError("%s cannot be read: the server %s" % (scrub(url), said),
                                       FOR_RELEASES.line) from problem
        sleep(2 ** attempt)


def _request(url, headers, method="GET"):
    """User info in the address (user:password@mirror) becomes basic authentication, which no other host gets by a redirect: urllib itself would
    take the password for a port, and show it."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("unknown scheme")
    who, dummy, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)), headers=headers, method=method)
    if who:
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(unquote(who).encode("utf-8")).decode("ascii"))
    return request


def _open(url, headers, missing=FOR_RELEASES.missing):
    """The open response, or None where nothing is left to be sent. Raises Broken where another try may help, else LocalModelsError."""
    try:
        return urllib.request.build_opener().open(_request(url, headers), timeout=STALL)
    except urllib.error.HTTPError as answered:
        if answered.code == 416:
            return None
        if answered.code in _AGAIN:
            raise Broken("answered %d" % answered.code) from answered
        if answered.code == 404:
            raise LocalModelsError("%s does not exist (404)" % scrub(url), missing) from answered
        raise LocalModelsError("%s was answered with %d %s" % (scrub(url), answered.code, answered.reason),
                               missing) from answered
    except (ValueError, http.client.InvalidURL) as problem:  # urllib's words repeat what may be a password
        raise LocalModelsError("%r is no address to download from" % masked(url),
                               "Begin it with https://, http:// or file://; of a port only its number is written") from problem
    except NETWORK_ERRORS as problem:
        if url.startswith("file:"):
            raise LocalModelsError("%s cannot be read (%s)" % (url, getattr(problem, "reason", problem)), missing) from problem
        raise Broken(explain(problem)[0]) from problem
