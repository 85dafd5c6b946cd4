# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model registry says about models, without pulling them. Internal to this collection.

The protocol is the one Ollama's pull speaks (server/images.go): GET /v2/<namespace>/<model>/manifests/<tag>.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin, urlsplit

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import BUSY, LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client

# Without it the registry sends another form of the manifest, whose digest is not the model's.
ACCEPT = "application/vnd.docker.distribution.manifest.v2+json"
AT_ONCE = 32  # threads that wait; a list is rarely longer, so all of it is asked at once
WEIGHTS = "application/vnd.ollama.image.model"
TRIES = 3
LONGEST_PAUSE = 10  # seconds, between two tries
REDIRECTS = (301, 302, 303, 307, 308)


class Unknown(LocalModelsError):
    """The registry answers, and has no such model."""


class Unfit(LocalModelsError):
    """The registry answers, and a pull by this server is sure to fail or, worse, to install something that is no model."""


class Unreadable(LocalModelsError):
    """Whether the model exists could not be found out from here. A pull by the server may work all the same."""


class Manifest:
    """What a model consists of: `digest` (hex, as the server will show it), `blobs` ({"sha256:hex": bytes}), `size` (bytes),
    `weights` ("sha256:hex" of the layer that is loaded, "" where there is no single one), `layers` (list of (media type, bytes)), `raw`
    (bytes)."""

    def __init__(self, raw, header_digest=""):
        """raw: the manifest's bytes. Raises ValueError where they are no manifest of a model."""
        self.raw = raw
        parsed = json.loads(raw.decode("utf-8"))
        # A cloud model is a config without layers. Every model has a config.
        blobs = (parsed.get("layers") or []) + [parsed["config"]]
        self.blobs = {blob["digest"]: int(blob["size"]) for blob in blobs}
        self.size = sum(int(blob["size"]) for blob in blobs)
        self.layers = [(blob.get("mediaType", ""), int(blob["size"])) for blob in parsed.get("layers") or []]
        self.weights = next((blob["digest"] for blob in blobs if blob.get("mediaType") == WEIGHTS), "")
        self.digest = _sha256(raw)
        # Servers before 0.19 wrote the manifest anew in Go's order, so their digest of the same model is another one. A model that was
        # made on this server and then pushed lies here with a line end behind it, which the push leaves out.
        written = _as_go_writes(parsed)
        self.digests = {self.digest, _sha256(written), _sha256(written + b"\n"), header_digest.rpartition(":")[2]} - {""}

    def is_the_same(self, found):
        """Whether `found` (with .digest and, where its manifest could be read, .blobs) is this model."""
        return found.digest in self.digests or getattr(found, "blobs", None) == set(self.blobs)


def read(name, insecure=False, version="", timeout=10, sleep=time.sleep):
    """The Manifest of a model (ModelName).

    insecure: plain HTTP, as Ollama then speaks it. version: of the server that would pull (str), for the registry refuses
    new models to old servers. timeout: seconds. Raises Unknown, Unfit, Unreadable.
    """
    url = "%s://%s/v2/%s/%s/manifests/%s" % ("http" if insecure else "https", name.host, name.namespace, name.model, name.tag)
    headers = {"Accept": ACCEPT,
               "User-Agent": "ollama/%s (%s %s) localmodels.fastgpt" % (version or "0.0.0", platform.machine(), platform.system().lower())}
    for this_try in range(TRIES):
        try:
            answer = _get(url, headers, timeout)
        except LocalModelsError as problem:
            raise Unreadable(problem.what, problem.mend) from problem
        if answer.status not in BUSY or this_try == TRIES - 1:
            break
        wish = answer.retry_after
        sleep(min(LONGEST_PAUSE, 2 ** this_try if wish is None else wish))
    if answer.status == 404:
        raise Unknown("%s has no model %s:%s" % (name.host, name.model, name.tag))
    if answer.status == 412:
        raise Unfit("%s gives %s only to a newer Ollama than %s" % (name.host, name.short, version or "this one"),
                    "Upgrade Ollama on this host and restart it: the version of the running server counts")
    if answer.status != 200:
        raise Unreadable("%s answered %d when asked for %s" % (name.host, answer.status, name.short))
    try:
        return Manifest(answer.body, answer.headers.get("ollama-content-digest", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        # Ollama itself takes any JSON object for a manifest and reports success.
        raise Unfit("%s answers with something that is no model when asked for %s" % (name.host, name.short),
                    "Something stands between this host and the registry: a login page, a proxy, or another kind of registry") from problem


def read_all(wanted, version="", timeout=10):
    """What the registries say about several models (list of _plan.Wanted), asked in parallel.

    Returns ({ModelName.key: Manifest}, {ModelName.key: Unknown | Unfit | Unreadable}).
    """
    def one(item):
        try:
            return read(item.name, item.insecure, version, timeout)
        except LocalModelsError as problem:
            return problem

    with ThreadPoolExecutor(max(1, min(AT_ONCE, len(wanted)))) as pool:
        answers = dict(zip([item.name.key for item in wanted], pool.map(one, wanted)))
    problems = {key: answer for key, answer in answers.items() if isinstance(answer, LocalModelsError)}
    return {key: answer for key, answer in answers.items() if key not in problems}, problems


def _get(url, headers, timeout):
    """The Answer to a GET, redirects followed as Ollama follows them. The proxy variables count: registries are far away."""
    for dummy in range(5):
        parts = urlsplit(url)
        client = Client("%s://%s" % (parts.scheme, parts.netloc), "The registry", headers, timeout=timeout, use_proxy=True)
        answer = client.request("GET", parts.path + ("?" + parts.query if parts.query else ""))
        if answer.status not in REDIRECTS or "location" not in answer.headers:
            return answer
        url = urljoin(url, answer.headers["location"])
    return answer


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def _as_go_writes(parsed):
    """The manifest (bytes) as Go's encoder writes it: compact, fields in the order of Ollama's structs."""
    def blob(one):
        ordered = {key: one[key] for key in ("mediaType", "digest", "size") if key in one}
        ordered.update({key: one[key] for key in ("from", "name") if one.get(key)})
        return ordered

    ordered = {"schemaVersion": parsed.get("schemaVersion", 0), "mediaType": parsed.get("mediaType", ""),
               "config": blob(parsed["config"]), "layers": [blob(one) for one in parsed.get("layers") or []]}
    return json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
