# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle: a folder that carries models, releases of Ollama and images to a host without internet. Internal to this collection.

Layout, with names that every file system of a USB stick can hold:
    bundle.json                                     what is in it: this file alone says so, and it is written last
    manifests/sha256-<hex>                          a model's manifest, byte for byte as its registry sent it
    blobs/sha256-<hex>                              a layer, once, however many models share it
    releases/v<version>/<archive>, sha256sum.txt    as on the download site of Ollama
    images/<name>-<id>.tar                          what `docker save` writes
"""

from __future__ import annotations

import hashlib
import json
import os
import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._registry import Manifest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text

INDEX = "bundle.json"
FORMAT = "localmodels.fastgpt bundle"
VERSION = 1
MEND_READING = "Look whether its disk is still there, and whether this user may read it (chmod -R a+rX); nothing was changed"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")
FOLDERS = ("manifests", "blobs", "releases", "images")
_PATH = re.compile(r"(" + "|".join(FOLDERS) + r")(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)+\Z")


class Damaged(LocalModelsError):
    """Something of a bundle is missing, or is not what it was."""


class File:
    """One file: `path` (str, in the bundle), `size` (bytes), `sha256` (64 hex digits)."""

    def __init__(self, path, size, sha256):
        self.path, self.size, self.sha256 = path, size, sha256


class Model:
    """One model: `name` (ModelName), `raw` (bytes of its manifest), `manifest` (_registry.Manifest), `digest` (as a server shows it)."""

    def __init__(self, name, raw):
        self.name, self.raw, self.manifest = name, raw, Manifest(raw)
        self.digest, self.size, self.blobs = self.manifest.digest, self.manifest.size, self.manifest.blobs
        if not all(_DIGEST.match(digest) for digest in self.blobs):
            raise ValueError("a layer without a SHA-256")

    @property
    def path(self):
        """Of the manifest in the bundle."""
        return "manifests/sha256-%s" % self.digest

    @property
    def files(self):
        """list of File: the layers and the manifest."""
        layers = [File(blob_path(digest), size, digest.partition(":")[2]) for digest, size in sorted(self.blobs.items())]
        return layers + [File(self.path, len(self.raw), self.digest)]


class Release:
    """One archive: `version`, `asset` (str), `files` (list of File: the archive, then sha256sum.txt)."""

    def __init__(self, version, asset, files):
        self.version, self.asset, self.files = version, asset, files


class Image:
    """One container image: `name` (str, as declared), `id` (as Docker told it when it was saved), `file` (File), `architecture` (as Docker
    names it, such as amd64; "" in a bundle that was made before this was told)."""

    def __init__(self, name, image_id, file, architecture=""):
        self.name, self.id, self.file, self.architecture = name, image_id, file, architecture

    @property
    def files(self):
        return [self.file]


class Bundle:
    """What a bundle holds: `models` {ModelName.key: Model}, `releases` {(version, asset): Release}, `images` {image_key: Image}; and `broken`
    {ModelName.key: Damaged}: models whose manifest is no good, which do not keep the others from being used."""

    def __init__(self, models=(), releases=(), images=(), broken=()):
        self.broken = dict(broken)
        self.models = {one.name.key: one for one in models}
        self.releases = {(one.version, one.asset): one for one in releases}
        self.images = {image_key(one.name): one for one in images}

    @property
    def files(self):
        """{path: File} of all that belongs to it."""
        parts = list(self.models.values()) + list(self.releases.values()) + list(self.images.values())
        return {file.path: file for part in parts for file in part.files}

    def document(self):
        """The text of bundle.json."""
        return json.dumps({
            "format": FORMAT,
            "version": VERSION,
            "models": [{"name": one.name.full, "manifest": one.path} for dummy, one in sorted(self.models.items())],
            "releases": [{"version": one.version, "asset": one.asset, "files": [file.path for file in one.files]}
                         for dummy, one in sorted(self.releases.items())],
            "images": [{"name": one.name, "id": one.id, "architecture": one.architecture, "file": one.file.path}
                       for dummy, one in sorted(self.images.items())],
            "files": {path: {"size": file.size, "sha256": file.sha256} for path, file in sorted(self.files.items())},
        }, indent=1) + "\n"

    def manifests(self):
        """{path: text} of the models' manifests. They are JSON, so text loses nothing."""
        return {one.path: one.raw.decode("utf-8") for one in self.models.values()}

    def carried(self):
        """All that a host has to know of a bundle on the controller (dict, JSON-able), for `of_carried`."""
        return {"document": self.document(), "manifests": self.manifests(),
                "broken": {key: [problem.what, problem.mend] for key, problem in self.broken.items()}}

    def lines(self):
        """What a person reads in a diff, one line a thing."""
        lines = ["model %s %s %s" % (one.name.short, one.digest[:12], size_text(one.size)) for dummy, one in sorted(self.models.items())]
        lines += ["release %s %s %s" % (one.version, one.asset, _size(one.files[0])) for dummy, one in sorted(self.releases.items())]
        lines += ["image %s %s %s" % (one.name, one.id.rpartition(":")[2][:12], _size(one.file))
                  for dummy, one in sorted(self.images.items())]
        return "".join(line + "\n" for line in lines)


def parse(document, manifest_text, where):
    """The Bundle of a bundle.json. manifest_text: callable(path) -> str. where: the bundle for messages (str). Raises LocalModelsError."""
    try:
        parsed = json.loads(document)
    except ValueError as problem:
        raise _damaged(where, "%s is no JSON" % INDEX) from problem
    if not isinstance(parsed, dict) or parsed.get("format") != FORMAT:
        raise LocalModelsError("%s in %s is not that of a bundle" % (INDEX, where), "Name the folder that playbook bundle wrote")
    if parsed.get("version") != VERSION:
        raise LocalModelsError("The bundle in %s has version %s of the format, and this collection reads version %d"
                               % (where, parsed.get("version"), VERSION), "Use the same version of the collection on both sides")
    try:
        files = {path: _file(path, said) for path, said in parsed["files"].items()}
        models, broken = [], {}
        for one in parsed["models"]:
            try:
                models.append(_model(one, files, manifest_text, where))
            except Damaged as problem:
                broken[ModelName.parse(one["name"]).key] = problem
        return Bundle(
            models,
            [Release(one["version"], one["asset"], [files[path] for path in one["files"]]) for one in parsed["releases"]],
            [Image(one["name"], one["id"], files[one["file"]], one.get("architecture", "")) for one in parsed["images"]], broken)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise _damaged(where, "%s says something that cannot be (%r)" % (INDEX, problem)) from problem


def of_carried(contents, where):
    """The Bundle of what `carried` told. where: as for parse. Raises LocalModelsError."""
    bundle = parse(contents["document"], contents["manifests"].__getitem__, where)
    bundle.broken = {key: Damaged(*told) for key, told in contents["broken"].items()}
    return bundle


def read(folder):
    """The Bundle in a folder (str). Raises LocalModelsError."""
    def text(path):
        try:
            with open(os.path.join(folder, path), "rb") as content:
                return content.read().decode("utf-8")
        except PermissionError as problem:
            raise _forbidden(folder, path) from problem
        except (OSError, ValueError) as problem:
            raise _damaged(folder, "%s cannot be read (%s)" % (path, problem)) from problem

    if not there(folder):
        raise LocalModelsError("There is no bundle in %s: %s is missing" % (folder, INDEX),
                               "Name its folder with ollama_bundle; playbook bundle makes one on a machine with internet. If the bundle lies"
                               " on the managed host and not beside the playbook, set ollama_bundle_remote_src: true")
    return parse(text(INDEX), text, folder)


def there(folder):
    """Whether a folder (str) holds a bundle. Raises LocalModelsError where this user may not look."""
    try:
        os.stat(os.path.join(folder, INDEX))
    except PermissionError as problem:
        raise _forbidden(folder, INDEX) from problem
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def refuse_relative(folder):
    """Raise LocalModelsError for a folder (str) that means something else on each machine and in each playbook."""
    if not os.path.isabs(folder):
        raise LocalModelsError("The folder of the bundle %r is no absolute path" % folder, "Begin it with a slash")


def blob_path(digest):
    """Where a layer ("sha256:hex") lies in the bundle."""
    return "blobs/%s" % digest.replace(":", "-")


def image_key(name):
    """What two spellings of one image have in common: docker.io/library/x is x:latest."""
    for prefix in ("docker.io/", "index.docker.io/", "library/"):
        if name.startswith(prefix):
            name = name[len(prefix):]
    return name if ":" in name.rpartition("/")[2] else name + ":latest"


def refuse_incomplete(folder, files):
    """Raise LocalModelsError where one of the files (iterable of File) is not in the folder, or not as large as it was."""
    wrong = []
    for file in files:
        try:
            size = os.stat(os.path.join(folder, file.path)).st_size
        except FileNotFoundError:
            wrong.append("%s is missing" % file.path)
            continue
        except PermissionError as problem:
            raise _forbidden(folder, file.path) from problem
        if size != file.size:
            wrong.append("%s has %d bytes instead of %d" % (file.path, size, file.size))
    if wrong:
        raise _damaged(folder, "; ".join(wrong[:3]) + ("; and %d more" % (len(wrong) - 3) if wrong[3:] else ""))


def _size(file):
    return size_text(file.size) if file.size else "(size not known yet)"


def _forbidden(folder, path):
    return LocalModelsError("%s of the bundle in %s cannot be read by this user" % (path, folder), MEND_READING)


def _damaged(where, what):
    return Damaged("The bundle in %s is damaged: %s" % (where, what),
                   "Copy it again, or run playbook bundle again, which brings only what is missing; nothing was changed here")


def _file(path, said):
    if not _PATH.match(path) or not _HEX.match(said["sha256"]):
        raise ValueError(path)
    return File(path, int(said["size"]), said["sha256"])


def _model(one, files, manifest_text, where):
    raw = manifest_text(one["manifest"]).encode("utf-8")
    if hashlib.sha256(raw).hexdigest() != files[one["manifest"]].sha256:
        raise _damaged(where, "%s, the manifest of %s, is not what it was" % (one["manifest"], one["name"]))
    return Model(ModelName.parse(one["name"]), raw)
