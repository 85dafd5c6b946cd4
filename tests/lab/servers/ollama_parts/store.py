# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model store on disk, laid out as Ollama lays it out, and what it says about a model."""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import os
import pathlib
import re
import tempfile
import time

from ollama_parts import gguf, go
from ollama_parts.names import Name

IMAGE = "application/vnd.ollama.image."
GRACE = 3600  # seconds that unreferenced files survive a start
DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")
TOOL_WORDS = (".Tools", ".ToolCalls")


class Missing(Exception):
    """There is no such model; `path` is where its manifest would be."""

    def __init__(self, path):
        super().__init__(str(path))
        self.path = path


class Model:
    """An installed model, read from its manifest."""

    def __init__(self, store, name, manifest, raw, modified):
        self.store, self.name, self.manifest = store, name, manifest
        self.digest = hashlib.sha256(raw).hexdigest()
        self.modified = modified
        config = self.manifest.get("config") or {}
        self.layers = self.manifest.get("layers") or []
        self.config_digest = config.get("digest", "")
        self.size = config.get("size", 0) + sum(layer.get("size", 0) for layer in self.layers)
        self.config = json.loads(store.blob(self.config_digest).read_text("utf-8")) if self.config_digest else {}

    def layer_digests(self, kind):
        return [layer["digest"] for layer in self.layers if layer["mediaType"] == IMAGE + kind]

    def texts(self, kind):
        """The contents of every layer of a kind, such as license."""
        return [self.store.blob(digest).read_text("utf-8") for digest in self.layer_digests(kind)]

    def text(self, kind):
        return next(iter(self.texts(kind)), "")

    @property
    def template(self):
        return self.text("template") or self.text("prompt") or "{{ .Prompt }}"

    @property
    def parameters(self):
        return json.loads(self.text("params") or "{}") or {}

    @property
    def messages(self):
        return json.loads(self.text("messages") or "[]") or []

    @property
    def model_digest(self):
        return next(iter(self.layer_digests("model")), "")

    @property
    def path(self):
        """The GGUF file, or None in a model without one."""
        return str(self.store.blob(self.model_digest)) if self.model_digest else None

    @property
    def parent(self):
        return next((layer.get("from", "") for layer in self.layers if layer["mediaType"] == IMAGE + "model"), "")

    def gguf(self):
        """Raises gguf.NoGGUF where the model layer is something else, OSError where it is gone."""
        return gguf.read(self.path)

    def capabilities(self):
        """List of str; empty where the model layer is no GGUF."""
        try:
            model = self.gguf() if self.path else None
        except (gguf.NoGGUF, OSError):
            return []
        found = []
        if model is not None:
            found.append("embedding" if model.embeds else "completion")
            found += ["vision"] if model.of_architecture("vision.block_count", None) else []
        found += self.config.get("capabilities") or []
        templates = self.template + model.values.get("tokenizer.chat_template", "") if model else self.template
        found += ["tools"] if any(word in templates for word in TOOL_WORDS) or "tool_call" in templates else []
        found += ["insert"] if ".Suffix" in templates else []
        found += ["thinking"] if "<think>" in templates and "</think>" in templates else []
        found += ["vision"] if self.layer_digests("projector") else []
        return list(dict.fromkeys(found))

    def details(self):
        """The details object of tags, show and ps."""
        families = self.config.get("model_families")
        return {"parent_model": self.parent, "format": self.config.get("model_format", ""),
                "family": self.config.get("model_family", ""), "families": families,
                "parameter_size": self.config.get("model_type", ""), "quantization_level": self.config.get("file_type", "")}


class Store:
    """models: the directory OLLAMA_MODELS names."""

    def __init__(self, models):
        self.root = pathlib.Path(models)
        self.blobs, self.manifests = self.root / "blobs", self.root / "manifests"

    def blob(self, digest):
        """The path of a blob; raises Refusal for something that is no digest."""
        if not DIGEST.fullmatch(digest):
            raise go.Refusal(400, "invalid digest format")
        return self.blobs / digest.replace(":", "-")

    def path(self, name):
        return self.manifests.joinpath(*name)

    def names(self):
        """Every model with a manifest file: list of Name. Files that cannot be one are passed over."""
        found = [Name(*path.relative_to(self.manifests).parts) for path in sorted(self.manifests.glob("*/*/*/*")) if path.is_file()]
        return [name for name in found if name.valid]

    def stray(self):
        """Files below manifests/ that are no manifests; they stop the pruning at start."""
        files = [path for path in self.manifests.rglob("*") if path.is_file()]
        return [path for path in files if len(path.relative_to(self.manifests).parts) != 4
                or not Name(*path.relative_to(self.manifests).parts).valid]

    def existing(self, name):
        """The name with each part in the spelling that some installed model already has, whatever its case."""
        known, parts = self.names(), []
        for index, part in enumerate(name):
            parts.append(next((other[index] for other in known if other[index].lower() == part.lower()), part))
        return Name(*parts)

    def read(self, name):
        """The Model; raises Missing, ValueError (no JSON), OSError."""
        path = self.path(name)
        try:
            raw = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as problem:
            raise Missing(path) from problem
        manifest = go.decode(raw.decode("utf-8", "replace"))
        if not isinstance(manifest, dict):
            raise ValueError("json: cannot unmarshal into Go value of type manifest.Manifest")
        return Model(self, name, manifest, raw, path.stat().st_mtime)

    def models(self):
        """Every readable Model, newest first; the others are left out, as Ollama does."""
        found = []
        for name in self.names():
            try:
                found.append(self.read(name))
            except (ValueError, OSError, Missing, go.Refusal):
                continue
        return sorted(found, key=lambda model: -int(model.modified))

    def write_manifest(self, name, raw):
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)

    def add(self, content):
        """Keep bytes as a blob: (digest, was it new?)."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        path = self.blob(digest)
        if path.exists():
            return digest, False
        path.write_bytes(content)
        return digest, True

    async def receive(self, pieces, disk_full=None):
        """Keep what comes in pieces (an asynchronous iterator of bytes) as a blob: its digest. disk_full: bytes that the disk takes."""
        summed, size = hashlib.sha256(), 0
        number, place = tempfile.mkstemp(prefix="sha256-", dir=self.blobs)
        try:
            with open(number, "wb") as file:
                async for piece in pieces:
                    size += len(piece)
                    if disk_full is not None and size > disk_full:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)
                    summed.update(piece)
                    file.write(piece)
            digest = "sha256:" + summed.hexdigest()
            os.chmod(place, 0o644)
            os.replace(place, self.blob(digest))
        except BaseException:
            os.unlink(place)
            raise
        return digest

    def delete(self, name):
        """Remove a model and the blobs nobody else uses; raises Missing."""
        model = self.read(name)
        path = self.path(name)
        path.unlink()
        for folder in path.parents:
            if folder == self.manifests or any(folder.iterdir()):
                break
            folder.rmdir()
        self.drop({layer["digest"] for layer in model.layers} | {model.config_digest})

    def drop(self, digests):
        """Remove those of the blobs that no manifest names."""
        for digest in set(digests) - self.used():
            if DIGEST.fullmatch(digest):
                self.blob(digest).unlink(missing_ok=True)

    def used(self):
        found = set()
        for name in self.names():
            try:
                manifest = json.loads(self.path(name).read_bytes())
                found |= {layer["digest"] for layer in [manifest.get("config") or {}, *(manifest.get("layers") or [])]
                          if "digest" in layer}
            except (ValueError, OSError, AttributeError):
                continue
        return found

    def prune(self):
        """What a start does: remove files of blobs/ older than an hour that no manifest uses. Returns a word for the log."""
        if self.stray():
            return "corrupt manifests detected, skipping prune operation"
        used = {digest.replace(":", "-") for digest in self.used()}
        for path in self.blobs.iterdir():
            if path.name not in used and path.is_file() and time.time() - path.stat().st_mtime > GRACE:
                path.unlink()
        return ""


def make_directories(models):
    """Create the store; raises OSError whose filename is what could not be made, or what lies in its way."""
    for folder in ("blobs", "manifests"):
        try:
            os.makedirs(os.path.join(models, folder), mode=0o755, exist_ok=True)
        except NotADirectoryError as problem:
            parents = [parent for parent in pathlib.Path(problem.filename).parents if parent.is_file()]
            raise NotADirectoryError(problem.errno, problem.strerror, str(parents[0])) from problem


def timestamp(moment):
    """A time (seconds since 1970) as Go's RFC 3339 with nanoseconds."""
    whole = datetime.datetime.fromtimestamp(int(moment), datetime.timezone.utc)
    return "%s.%09dZ" % (whole.strftime("%Y-%m-%dT%H:%M:%S"), int((moment % 1) * 1e9))
