# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of one Ollama server. Internal to this collection.

Every answer it understands was recorded from Ollama 0.32 and 0.34 (tests/contract/transcripts).
"""

from __future__ import annotations

import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _load_causes, _pull, _pull_causes
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import BUSY, LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import NETWORK_ERRORS, Answer
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found

# A pull answers for as long as it takes; its silence is judged by what it says (_pull), not by the socket.
_NO_LIMIT = 7 * 24 * 3600
# Weights are read from the disk before the answer comes; Ollama itself gives up after 5 minutes (OLLAMA_LOAD_TIMEOUT).
_LOADING = 900
_UNLOADING = 30
# A proxy before Ollama may be too busy to pass on a question.
_TRIES = 3
_LONGEST_PAUSE = 10


_CREATE_MENDS = (
    ("MLX", "Since 0.34.1 Ollama imports safetensors by MLX only, on a Mac or with its MLX package for CUDA: there use that, elsewhere convert"
            " the folder with llama.cpp's convert_hf_to_gguf.py and declare the GGUF file"),
    ("llama-quantize", "This Ollama lacks a part of its release: install it as a whole, with lib/ollama beside its program"),
    ("no space left", "Free space on the disk of the model store, or move the store to a larger one, and run again: what was sent is still there"),
    ("unsupported architecture", "This Ollama cannot convert such a model: take its GGUF, or a newer Ollama"),
)


class CreateFailed(LocalModelsError):
    """A model could not be created. `passing` (bool): the same may well succeed later."""

    def __init__(self, what, mend, passing=False):
        super().__init__(what, mend)
        self.passing = passing


class Ollama:
    """client: an _http.Client of the server. Methods raise Unreachable and Refused, which name what to do."""

    def __init__(self, client, sleep=time.sleep):
        self.client, self.sleep = client, sleep

    def version(self):
        """The running server's version (str), such as 0.32.15."""
        return str(self._get("/api/version", "version"))

    def tags(self):
        """The models (list of dict) as GET /api/tags gives them."""
        return self._listed("/api/tags")

    def found(self):
        """The models as list of _plan.Found."""
        return found_in(self.tags())

    def running(self):
        """The loaded models (list of dict) as GET /api/ps gives them."""
        return self._listed("/api/ps")

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
        # Ollama begins its answer at once, whatever the registry does; a busy one as late as any other answer.
        begins = max(stall_timeout, self.client.timeout)
        response = self.client.open("POST", "/api/pull", {"model": name, "insecure": insecure}, timeout=begins, silence=_NO_LIMIT)
        with response:
            if response.getcode() == 200:
                return _pull.follow(response, name, on_progress, stall_timeout, abandoned, self.client.secrets)
            answer = self.client.answer_in(response)
        said = _error_in(answer)
        if said is None or answer.status in BUSY:  # Ollama itself is never too busy for a pull, a proxy before it may be
            raise self._refused(answer)
        raise _pull_causes.PullFailed(name, _pull_causes.cause_of(said), said, self.client.secrets)

    def has_blob(self, digest):
        """Whether a blob ("sha256:hex") is there."""
        answer = self.client.request("HEAD", "/api/blobs/" + digest)
        if answer.status not in (200, 404):
            raise self._refused(answer)
        return answer.status == 200

    def put_blob(self, digest, body, size, timeout):
        """Send a blob ("sha256:hex") of `size` bytes. body: what has read(). timeout: seconds that a piece of it may take."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        answer = self.client.request("POST", "/api/blobs/" + digest, body, headers, timeout)
        said = _error_in(answer) or ""
        if "digest mismatch" in said:
            raise self.client.refused(answer, said, "The file was changed while it was sent, or bytes were on the way: run again")
        if "no space left" in said or "quota exceeded" in said:
            raise self.client.refused(answer, said, "Free space on the disk of the model store, or move the store to a larger one, and run again")
        if answer.status not in (200, 201):
            raise self._refused(answer)

    def create(self, name, request, on_status=None):
        """Create a model (str) as the body (dict) of POST /api/create says. Returns when it is there.

        on_status: called with each status text (str) as it comes. Raises CreateFailed, Unreachable, Refused.
        """
        response = self.client.open("POST", "/api/create", dict(request, model=name), timeout=_NO_LIMIT)
        last, lines = {}, []
        with response:
            answer = Answer(response.getcode(), {k.lower(): v for k, v in response.headers.items()}, b"")
            try:
                # A success in the middle is that of a pull (create-from-remote-base-pulled), so the last line decides.
                for line in response:
                    lines.append(line)
                    parsed = Answer(200, {}, line).json()
                    last = parsed if isinstance(parsed, dict) else {}
                    if "error" in last:
                        break
                    if on_status and last.get("status"):
                        on_status(str(last["status"]))
            except NETWORK_ERRORS as problem:
                raise self.client.unreachable(problem) from problem
        answer.body = b"".join(lines)
        if answer.status != 200 and "error" not in last:
            raise self._refused(answer)
        if last.get("status") != "success":
            said = " ".join(scrub(str(last.get("error", "the answer ends too early")), self.client.secrets).split())[:300]
            raise CreateFailed("%s could not be created: Ollama at %s says %s" % (name, self.client.base_url, said), _mend_create(said), "error" not in last)

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

    def unload(self, name):
        """Unload a model (str); returns when it is gone from memory. Raises LocalModelsError."""
        self._json(self.client.request("POST", "/api/generate", {"model": name, "keep_alive": 0, "stream": False}))
        mine = ModelName.parse(name)
        for dummy in range(_UNLOADING * 2):
            if all(ModelName.parse(one["name"]) != mine for one in self.running()):
                return
            self.sleep(0.5)
        raise LocalModelsError("%s is still loaded %d s after Ollama at %s was asked to unload it" % (name, _UNLOADING, self.client.base_url),
                               "A request to it is still being answered: run again later")

    def _listed(self, path):
        """The models (list of dict, each with its name) at `path`; null, as older servers say, is none."""
        found = self._get(path, "models") or []
        if not isinstance(found, list) or not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in found):
            raise self._no_ollama("%s lists %r" % (path, found))
        return found

    def _get(self, path, key):
        for this_try in range(_TRIES):
            answer = self.client.request("GET", path)
            if answer.status not in BUSY or this_try == _TRIES - 1:
                break
            wish = answer.retry_after
            self.sleep(min(_LONGEST_PAUSE, 2 ** this_try if wish is None else wish))
        parsed = self._json(answer)
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
        if answer.status in BUSY:
            return self.client.refused(answer, None, "Something before Ollama is too busy, or does not reach it: look at the log of that"
                                                     " proxy, and whether Ollama runs")
        if answer.status in (404, 405) or answer.json() is None:
            return self.client.refused(answer, None, "Check whether Ollama itself listens at this address, and its version")
        return self.client.refused(answer)

    def _no_ollama(self, got):
        return LocalModelsError(
            "What answers at %s is no Ollama: %s" % (self.client.base_url, " ".join(str(got).split())[:120]),
            "Check host and port; the address is that of Ollama itself, without a path such as /v1")


def _mend_create(said):
    """What to do about an error text (str) of a creation."""
    for words, mend in _CREATE_MENDS:
        if words in said:
            return mend
    return "Correct what is declared, or look at the log of Ollama on its host"


def _error_in(answer):
    """Ollama's own error text in an Answer, or None where the answer has none."""
    parsed = answer.json()
    error = parsed.get("error") if isinstance(parsed, dict) else None
    return error if isinstance(error, str) else None


def found_in(tags):
    """list of Found from the entries (list of dict) of GET /api/tags."""
    return [Found(ModelName.parse(one["name"]), one.get("digest") or "", one.get("size") or 0) for one in tags]
