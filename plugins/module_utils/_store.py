# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder where an Ollama server keeps its models: what is there, what still fits. Internal to this collection.

Layout (Ollama 0.32, manifest/ and server/download.go): manifests/<host>/<namespace>/<model>/<tag>, blobs/sha256-<hex>, and
blobs/sha256-<hex>-partial, a sparse file of full size, while a blob is being downloaded; beside it sha256-<hex>-partial-<N>, how far its part N is.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
from urllib.parse import urlsplit

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _address, _machine

# Service user of a release, volume `ollama` of a container, login user.
USUAL_PLACES = ("/usr/share/ollama/.ollama/models", "/var/lib/docker/volumes/ollama/_data/models", "~/.ollama/models")


class Store:
    """The model store at `path` (str), seen from this host."""

    def __init__(self, path):
        self.path = path

    def blobs_of(self, name):
        """The digests (set of "sha256:hex") that the local manifest of a model (ModelName) lists, or None where it cannot be read."""
        sizes = self.sizes_of(name)
        return None if sizes is None else set(sizes)

    def sizes_of(self, name):
        """The layers ({"sha256:hex": bytes}) that the local manifest of a model (ModelName) lists, or None where it cannot be read."""
        path = os.path.join(self.path, "manifests", name.host, name.namespace, name.model, name.tag)
        try:
            with open(path, "rb") as manifest:
                parsed = json.loads(manifest.read().decode("utf-8"))
            return {blob["digest"]: int(blob.get("size", 0)) for blob in (parsed.get("layers") or []) + [parsed["config"]]}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def there(self, digest, size):
        """How many of the `size` bytes of a blob ("sha256:hex") are on the disk already; parts of a broken pull count.

        Raises PermissionError where the store may not be looked into.
        """
        blob = self._blob(digest)
        try:
            os.stat(blob)
            return size
        except FileNotFoundError:
            pass
        try:
            return min(size, os.stat(blob + "-partial").st_blocks * 512)
        except FileNotFoundError:
            return 0

    def missing(self, manifests):
        """Bytes to be downloaded for the models (list of Manifest) together; a layer that several of them share counts once."""
        blobs = {}
        for manifest in manifests:
            blobs.update(manifest.blobs)
        return sum(size - self.there(digest, size) for digest, size in blobs.items())

    def whole(self, manifests):
        """The layers (set of "sha256:hex") of the models (list of Manifest) that are on the disk as a whole, as far as that can be seen."""
        return {digest for manifest in manifests for digest in manifest.blobs if os.path.exists(self._blob(digest))}

    def drop_unreadable_notes(self, digests):
        """Let go of what Ollama noted about broken pulls of these layers ("sha256:hex") where it cannot read it itself; returns whether there was such.

        Ollama empties a note before it writes it anew; killed in between it cannot pull that layer any more (readPart in server/download.go),
        and only a start more than an hour later removes the note. The notes of a layer go together: without one of them
        Ollama would take the layer for a shorter one. Raises OSError where the store may not be changed.
        """
        dropped = False
        for digest in digests:
            notes = glob.glob(glob.escape(self._blob(digest)) + "-partial-*")
            if any(not _is_json(note) for note in notes):
                for note in notes:
                    os.remove(note)
                dropped = True
        return dropped

    def _blob(self, digest):
        return os.path.join(self.path, "blobs", digest.replace(":", "-"))

    def free(self):
        """Bytes free for users other than root where the store is or will be."""
        place = os.path.abspath(self.path)
        while not os.path.exists(place):
            place = os.path.dirname(place)
        return shutil.disk_usage(place).free


def _is_json(path):
    try:
        with open(path, "rb") as file:
            return isinstance(json.loads(file.read().decode("utf-8")), dict)
    except ValueError:
        return False


def of_server(url, found):
    """The Store of the server at `url` (str), which holds `found` (list of _plan.Found), or None.

    A usual place that knows all of its models is its own. Where it holds none any place would do, such as that of a login user, so there its
    process is asked as well, which tells it of a container by a path that nobody would type.
    """
    usual = find(urlsplit(url).hostname, found)
    if usual and found:
        return usual
    own = of_process(url, found)
    if own and not (usual and os.path.samefile(usual.path, own.path)):
        return own
    return usual


def find(url_host, found, places=USUAL_PLACES):
    """The Store of the server at `url_host` (str) among the usual places, or None.

    One host can hold two stores (a service's and a login user's), so only a place that knows every model of the server
    (found: list of _plan.Found) is its store.
    """
    if not _address.is_here(url_host or ""):
        return None
    fitting = []
    for place in dict.fromkeys(os.path.expanduser(place) for place in places):
        store = Store(place)
        try:
            there = os.path.isdir(place)
        except OSError:
            there = False
        if there and all(store.blobs_of(one.name) is not None for one in found):
            fitting.append(store)
    return fitting[0] if len(fitting) == 1 else None


def of_process(url, found):
    """The Store that the process of the server at `url` (str) names, if it is one that knows every model of the server, or None."""
    path = _machine.store_path(url)
    try:
        fits = path and os.path.isdir(path) and all(Store(path).blobs_of(one.name) is not None for one in found)
    except OSError:
        return None
    return Store(path) if fits else None


def elsewhere(name, store, places=USUAL_PLACES):
    """The path (str) of another store on this host that holds a model (ModelName) which the server's own `store` lacks, or ""."""
    for place in (os.path.expanduser(place) for place in places):
        if place != store.path and Store(place).blobs_of(name) is not None:
            return place
    return ""
