# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of one Ollama server. Internal to this collection.

Every answer it understands was recorded from Ollama 0.32 and 0.34 (tests/contract/transcripts).
"""

from __future__ import annotations

import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _load_causes, _pull, _pull_causes
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import NETWORK_ERRORS, Answer
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found

# A pull answers for as long as it takes; its silence is judged by what it says (_pull), not by the socket.
_NO_LIMIT = 7 * 24 * 3600
# Weights are read from the disk before the answer comes; Ollama itself gives up after 5 minutes (OLLAMA_LOAD_TIMEOUT).
_LOADING = 900
_UNLOADING = 30


class CreateFailed(LocalModelsError):
    """A model could not be created."""


class Ollama:
    """client: an _http.Client of the server. Methods raise Unreachable and Refused, which name what to do."""

    def __init__(self, client):
        self.client = client

    def version(self):
        """The running server's version (str), such as 0.32.15."""
        return str(self._get("/api/version", "version"))

    def tags(self):
        """The models (list of dict) as GET /api/tags gives them."""
        return self._get("/api/tags", "models") or []

    def found(self):
        """The models as list of _plan.Found."""
        return found_in(self.tags())

    def running(self):
        """The loaded models (list of dict) as GET /api/ps gives them."""
        return self._get("/api/ps", "models") or []

    def show(self, name):
        """What POST /api/show says about a model (str): dict. A model that is not there is a Refused with status 404."""
        return self._json(self.client.request("POST", "/api/show", {"model": name}))

    def delete(self, name):
        """Delete a model (str). Returns whether it was there."""
        answer = self.client.request("DELETE", "/api/delete", {"model": name})
        if answer.status == 404 and answer.json() is not None:
            return False
        if answer.status != 200:
            raise self._refused(answer)
        return True

    def pull(self, name, insecure=False, on_progress=None, stall_timeout=300, abandoned=None):
        """Pull a model (str) and return how it went (_pull.Layers). For the parameters see _pull.follow.

        Raises PullFailed, Abandoned, Unreachable.
        """
        response = self.client.open("POST", "/api/pull", {"model": name, "insecure": insecure}, timeout=_NO_LIMIT)
        with response:
            if response.getcode() == 200:
                return _pull.follow(response, name, on_progress, stall_timeout, abandoned)
            answer = Answer(response.getcode(), {k.lower(): v for k, v in response.headers.items()}, response.read())
        said = _error_in(answer)
        if said is None:
            raise self._refused(answer)
        raise _pull_causes.PullFailed(name, _pull_causes.cause_of(said), said)

    def create(self, name, request):
        """Create a model (str) as the body (dict) of POST /api/create says. Returns when it is there.

        Raises CreateFailed, Unreachable, Refused.
        """
        response = self.client.open("POST", "/api/create", dict(request, model=name), timeout=_NO_LIMIT)
        with response:
            answer = Answer(response.getcode(), {k.lower(): v for k, v in response.headers.items()}, b"")
            try:
                lines = response.read().splitlines()
            except NETWORK_ERRORS as problem:
                raise self.client.unreachable(problem) from problem
        answer.body = b"\n".join(lines)
        if answer.status != 200 and _error_in(answer) is None:
            raise self._refused(answer)
        # A success in the middle is that of a pull (create-from-remote-base-pulled), so the last line decides.
        last = {}
        for line in lines:
            last = Answer(200, {}, line).json() or {}
            if "error" in last:
                break
        if last.get("status") != "success":
            said = " ".join(scrub(str(last.get("error", "the answer ends too early"))).split())[:300]
            raise CreateFailed("%s could not be created: Ollama at %s says %s" % (name, self.client.base_url, said),
                               "Correct what is declared, or look at the log of Ollama on its host")

    def load(self, name, keep_alive):
        """Load a model (str) into memory. keep_alive: int (seconds, negative: forever) or str such as 10m. Raises LocalModelsError."""
        asked = {"model": name, "keep_alive": keep_alive}
        answer = self.client.request("POST", "/api/generate", dict(asked, stream=False), timeout=_LOADING)
        if answer.status == 400 and "does not support generate" in (_error_in(answer) or ""):
            answer = self.client.request("POST", "/api/embed", asked, timeout=_LOADING)
        said = _error_in(answer)
        cause, mend = _load_causes.cause_of(said or "")
        if cause:
            raise self.client.refused(answer, "%s could not be loaded: %s (Ollama said: \"%s\")" % (
                name, cause, " ".join(scrub(said, self.client.secrets).split())[:200]), mend)
        self._json(answer)

    def unload(self, name, sleep=time.sleep):
        """Unload a model (str); returns when it is gone from memory. Raises LocalModelsError."""
        self._json(self.client.request("POST", "/api/generate", {"model": name, "keep_alive": 0, "stream": False}))
        mine = ModelName.parse(name)
        for dummy in range(_UNLOADING * 2):
            if all(ModelName.parse(one["name"]) != mine for one in self.running()):
                return
            sleep(0.5)
        raise LocalModelsError("%s is still loaded %d s after Ollama at %s was asked to unload it" % (name, _UNLOADING, self.client.base_url),
                               "A request to it is still being answered: run again later")

    def _get(self, path, key):
        parsed = self._json(self.client.request("GET", path))
        if key not in parsed:
            raise self._no_ollama("%s without %r" % (sorted(parsed), key))
        return parsed[key]

    def _json(self, answer):
        """The JSON object of a 200 answer; raises what any other answer means."""
        if answer.status != 200:
            raise self._refused(answer)
        parsed = answer.json()
        if not isinstance(parsed, dict):
            raise self._no_ollama(answer.text)
        return parsed

    def _refused(self, answer):
        said = _error_in(answer)
        if said is not None:
            return self.client.refused(answer, said)
        if answer.status == 403:
            # Two checks of Ollama answer 403 without a word: the Host header on a loopback listener, and Origin.
            return self.client.refused(
                answer, "", "An Ollama that listens on loopback only takes requests for localhost or an address: use one in the"
                            " URL, or let the proxy before it send Host: localhost:11434")
        if answer.status in (401, 407):
            return self.client.refused(answer, None, "Something before Ollama asks for credentials, which Ollama itself never does: give them"
                                                     " with url_username and url_password, or with headers")
        if answer.status == 400 and "SSL certificate" in answer.text:
            return self.client.refused(answer, "a client certificate is missing or not accepted", "Give it with client_cert and client_key")
        if 300 <= answer.status < 400:
            return self.client.refused(answer, "it is elsewhere, at %s" % scrub(answer.headers.get("location", "no address")),
                                       "Use the address of Ollama itself, or of the proxy before it, with https:// if that is what it wants")
        if answer.status in (404, 405) or answer.json() is None:
            return self.client.refused(answer, None, "Check whether Ollama itself listens at this address, and its version")
        return self.client.refused(answer)

    def _no_ollama(self, got):
        return LocalModelsError(
            "What answers at %s is no Ollama: %s" % (self.client.base_url, " ".join(str(got).split())[:120]),
            "Check host and port; the address is that of Ollama itself, without a path such as /v1")


def _error_in(answer):
    """Ollama's own error text in an Answer, or None where the answer has none."""
    parsed = answer.json()
    error = parsed.get("error") if isinstance(parsed, dict) else None
    return error if isinstance(error, str) else None


def found_in(tags):
    """list of Found from the entries (list of dict) of GET /api/tags."""
    return [Found(ModelName.parse(one["name"]), one.get("digest", ""), one.get("size", 0)) for one in tags]
