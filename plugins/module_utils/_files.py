# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of this host that a model is made from: which they are, what is wrong with them, their digests. Internal to this collection.

Which files of a folder belong to a model is what Ollama's own client takes (parser/parser.go, filesForModel, 0.32).
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _gguf
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

GGUF, SAFETENSORS = "gguf", "safetensors"
_CHUNK = 1 << 20
_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf\Z")
_BESIDE = ("*.json", "chat_template.jinja", "tokenizer.model")
_MODEL = ("model*.safetensors", "consolidated*.safetensors")
_ADAPTER = ("adapter*.safetensors", "*.safetensors")


class LocalFile:
    """A file of this host. `name`: as Ollama is told it, relative. `path`, `size` (bytes). `stamp`: list of numbers that change when the
    file does; even a change that puts the time of the file back moves the time of its inode. `file_type`: of a GGUF file, see _gguf."""

    def __init__(self, name, path):
        # 0.34 takes no name with these.
        self.name, self.path = name.replace("\\", "_").replace(":", "_"), path
        self.file_type = None
        found = os.stat(path)
        self.size = found.st_size
        self.stamp = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]

    @property
    def quiet_since(self):
        """The time (seconds since 1970) of the last change that the stamp can tell of."""
        return max(self.stamp[1:3]) / 1e9


class Source:
    """What a model, or an adapter, is made from. `path` (str, as declared), `kind` (GGUF or SAFETENSORS), `files` (list of LocalFile)."""

    def __init__(self, path, kind, files):
        self.path, self.kind, self.files = path, kind, files

    @property
    def size(self):
        return sum(file.size for file in self.files)


def model(path):
    """The Source at an absolute path (str): a GGUF file, the first of several parts of one, or a folder. Raises LocalModelsError."""
    return _read(path, "from", _MODEL, "config.json", _refuse_adapter)


def adapter(path):
    """The Source of an adapter at an absolute path (str). Raises LocalModelsError."""
    source = _read(path, "adapter", _ADAPTER, "adapter_config.json", _refuse_model)
    if source.kind == GGUF and len(source.files) > 1:
        raise LocalModelsError("%s holds %d GGUF files, and Ollama takes one adapter" % (path, len(source.files)), "Name one of them")
    return source


def _read(path, key, patterns, config, refuse):
    try:
        if os.path.isdir(path):
            source = _folder(path, patterns, config)
        else:
            source = Source(path, GGUF, _parts(path))
        for file in source.files:
            if source.kind == GGUF:
                kind, file.file_type = _gguf.gguf_facts(file.path)
                refuse(file.path, kind)
            elif file.name.endswith(".safetensors"):
                _gguf.refuse_no_safetensors(file.path, file.size)
        if source.kind == SAFETENSORS:
            _gguf.refuse_no_json(os.path.join(path, config))
    except OSError as problem:
        raise LocalModelsError("%s, which %s names, cannot be read: %s" % (problem.filename or path, key, problem.strerror or problem),
                               "The path is that of the host on which the module runs; bring the file there first, or correct the path") from problem
    return source


def _folder(path, patterns, config):
    names = sorted(name for name in os.listdir(path) if os.path.isfile(os.path.join(path, name)))
    weights = next((found for found in (fnmatch.filter(names, pattern) for pattern in patterns) if found), [])
    if weights:
        if config not in names:
            raise LocalModelsError("The folder %s has safetensors and no %s, which says what they are" % (path, config),
                                   "Copy the whole folder, as it comes from where the model was published")
        beside = [name for pattern in _BESIDE for name in fnmatch.filter(names, pattern)]
        return Source(path, SAFETENSORS, [LocalFile(name, os.path.join(path, name)) for name in dict.fromkeys(weights + beside)])
    weights = fnmatch.filter(names, "*.gguf")
    if not weights:
        raise LocalModelsError("The folder %s holds neither %s nor *.gguf" % (path, patterns[0]), "Name the folder that holds the weights themselves")
    return Source(path, GGUF, [LocalFile(name, os.path.join(path, name)) for name in weights])


def _parts(path):
    """The LocalFiles of a GGUF file: itself, or all parts of which it is one. Ollama reads the number of a part from its name."""
    folder, name = os.path.split(path)
    match = _SHARD.match(name)
    count = match.group("count") if match else "0"
    names = ["%s-%05d-of-%s.gguf" % (match.group("stem"), number + 1, count) for number in range(int(count))]
    if name not in names:  # no part, or one that its own name says there cannot be
        return [LocalFile(name, path)]
    missing = [one for one in names if not os.path.exists(os.path.join(folder, one))]
    if missing and os.path.exists(path):
        are = "is" if len(missing) == 1 else "are"
        raise LocalModelsError("%s is one of %d parts, and %s %s not beside it" % (path, len(names), " and ".join(missing[:3]), are),
                               "Bring all parts into one folder")
    return [LocalFile(one, os.path.join(folder, one)) for one in names]


def _refuse_adapter(path, kind):
    if kind == "adapter":
        raise LocalModelsError("%s holds an adapter, and no model" % path, "Name it by adapter, and by from the model that it belongs to")


def _refuse_model(path, kind):
    if kind != "adapter":
        raise LocalModelsError("%s holds no adapter but a %s" % (path, kind), "Make a LoRA file with llama.cpp's convert_lora_to_gguf.py,"
                               " or name a model by from")


def digest(file, on_bytes=None):
    """"sha256:hex" of a LocalFile, read in pieces. on_bytes: called with the length of each piece; what it raises ends the reading.

    Raises LocalModelsError where the file changes meanwhile, or cannot be read.
    """
    summed = hashlib.sha256()
    try:
        with open(file.path, "rb", buffering=0) as content:
            for chunk in iter(lambda: content.read(_CHUNK), b""):
                summed.update(chunk)
                if on_bytes:
                    on_bytes(len(chunk))
        after = LocalFile(file.name, file.path)
    except OSError as problem:
        raise LocalModelsError("%s cannot be read: %s" % (file.path, problem.strerror or problem), "Look at the disk it is on") from problem
    if after.stamp != file.stamp:
        raise changed(file)
    return "sha256:" + summed.hexdigest()


def changed(file):
    """The LocalModelsError for a LocalFile that changes while it is used."""
    return LocalModelsError("%s was changed while it was read" % file.path, "Something still writes it: run again when it is complete")
