# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models made from files of this host, with an adapter, or quantized: as declared or not, and the making. Internal to this collection."""

from __future__ import annotations

import re
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _files, _recipe, _upload
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Refused

# Since then Ollama keeps GGUF as it comes, quantizes none, takes no adapters, and imports safetensors by MLX (server/create.go).
_BY_MLX = (0, 34, 1)
# general.file_type of what llama-quantize starts from, as Ollama until 0.34.0 reads it: F16 and BF16; 0, which means F32, reads as unknown.
_UNQUANTIZED = (1, 32)


class Made:
    """One declared model (_plan.Wanted) into which more goes than another model and texts. `source`, `adapter`: _files.Source or None."""

    def __init__(self, wanted):
        self.name, self.recipe = wanted.name, wanted.recipe
        self.source = _files.model(self.recipe.path) if self.recipe.path else None
        self.adapter = _files.adapter(self.recipe.adapter) if self.recipe.adapter else None
        self._digests = {}

    @property
    def files(self):
        return [file for source in (self.source, self.adapter) if source for file in source.files]

    @property
    def size(self):
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def read(self, notes, on_bytes=None):
        """See to it that the digest of each file is known; files that the notes (_notes.Notes) know are not read."""
        for file in self.files:
            if file.path in self._digests:
                continue
            digest = notes.digest(file)
            if not digest:
                began = time.time()
                digest = _files.digest(file, on_bytes)
                notes.note_digest(file, digest, began)
            self._digests[file.path] = digest

    def digest(self, file):
        return self._digests[file.path]

    def identity(self, base_digest):
        """What the model is made from (dict, JSON-able): digests in place of names and paths. base_digest: hex of the base, or None."""
        made = dict(self.recipe.own())
        made["from"] = self._told(self.source) if self.source else base_digest
        if self.adapter:
            made["adapter"] = self._told(self.adapter)
        if self.recipe.quantize:
            made["quantize"] = self.recipe.quantize
        return made

    def _told(self, source):
        """A GGUF file may be called as one likes; what the files of a folder of safetensors are for is told by their names."""
        if source.kind == _files.GGUF:
            return sorted(self.digest(file) for file in source.files)
        return {file.name: self.digest(file) for file in source.files}

    def request(self, base_name):
        """The body (dict) of POST /api/create, without the model's name. base_name: as the server spells it, or None."""
        body = dict(self.recipe.own())
        if self.source:
            body["files"] = {file.name: self.digest(file) for file in self.source.files}
        else:
            body["from"] = base_name
        if self.adapter:
            body["adapters"] = {file.name: self.digest(file) for file in self.adapter.files}
        if self.recipe.quantize:
            body["quantize"] = self.recipe.quantize
        return body


def look(wanted):
    """{ModelName.key: Made} of the declared models (list of _plan.Wanted). Looks at their files, and raises LocalModelsError for those that
    are missing or not what they should be."""
    made = {}
    for one in wanted:
        if one.recipe and one.recipe.of_files:
            try:
                made[one.name.key] = Made(one)
            except LocalModelsError as problem:
                raise LocalModelsError("%s: %s" % (one.name.short, problem.what), (problem.mend or "Correct it") + "; nothing was changed") from problem
    return made


def differences(ollama, found, made, notes):
    """{ModelName.key: list of (key, is, should be), or None where nobody knows} of the models that are there.

    ollama: _ollama.Ollama; asked only about a model of which nothing was noted. found: list of _plan.Found. made: {ModelName.key: Made}.
    """
    held = {one.name: one for one in found}
    return {key: _differences(ollama, held, one, notes) for key, one in made.items() if one.name in held}


def _differences(ollama, held, one, notes):
    base = one.recipe.base
    if base and base not in held:
        return []  # it is pulled, and then the model is made anew in any case
    past = notes.recipes(held[one.name].digest)
    if not past:
        return _seen(ollama, held, one)
    one.read(notes)
    wanted = one.identity(held[base].digest if base else None)
    return [] if wanted in past else _unlike(past[0], wanted)


def _unlike(now, wanted):
    return [(key, now.get(key, ""), wanted.get(key, "")) for key in _recipe.KEYS if now.get(key) != wanted.get(key)]


def _seen(ollama, held, one):
    """Differences that a server itself can show, or None where there are none of these: where the weights come from it does not tell."""
    try:
        shown = ollama.show(held[one.name].name.short)
        base = ollama.show(held[one.recipe.base].name.short) if one.recipe.base else {}
    except Refused:
        return None
    now, wanted = _recipe.held(shown), _recipe.made(one.recipe, base)
    # Ollama adds a template and parameters that it knows for the weights, so only what is declared can be compared.
    keys = ["system", "license", "messages"] + ["template"] * bool(one.recipe.template)
    unlike = [(key, now[key], wanted[key]) for key in keys if now[key] != wanted[key]]
    other = {key: value for key, value in one.recipe.parameters.items() if now["parameters"].get(key) != value}
    if other:
        unlike.append(("parameters", {key: now["parameters"][key] for key in other if key in now["parameters"]}, other))
    return unlike or None


def parsed_version(text):
    """A version (str) such as 0.34.1-rc2 as tuple of three int."""
    numbers = [int(number) for number in re.findall(r"\d+", text)[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))


def refuse_unfit(version, made):
    """Raises LocalModelsError for a model (one of Made) that a server of this version (str) would refuse after all was sent."""
    by_mlx, recipe = parsed_version(version) >= _BY_MLX, made.recipe
    says = "%s cannot be made by Ollama %s: " % (made.name.short, version)
    gguf = made.source is None or made.source.kind == _files.GGUF
    if by_mlx and recipe.adapter:
        raise LocalModelsError(says + "since 0.34.1 it takes no adapters",
                               "Merge the adapter into its base and declare the result by from; nothing was changed")
    if by_mlx and recipe.quantize and gguf:
        raise LocalModelsError(says + "since 0.34.1 it quantizes no GGUF", "Quantize the file with llama-quantize of llama.cpp, name the result by from"
                               " and leave out quantize; nothing was changed")
    known = _recipe.MLX_TYPES if by_mlx else _recipe.GGUF_TYPES
    if recipe.quantize and recipe.quantize not in known:
        raise LocalModelsError(says + "it does not know quantize: %s" % recipe.quantize, "Choose from %s; nothing was changed" % ", ".join(known))
    kinds = {file.file_type for file in made.source.files if file.file_type is not None} if made.source and gguf else set()
    if recipe.quantize and kinds - set(_UNQUANTIZED):
        raise LocalModelsError(says + "it quantizes only F16 and BF16, and %s is neither" % recipe.path,
                               "Name the file that was not quantized, or leave out quantize; nothing was changed")


def room(version, made, is_there):
    """Bytes (int) that the making of models (list of Made) needs on the disk of the store at its peak.

    version: of the server, "" where none answers, which counts the least. is_there: function that says of a Made how many bytes of its
    files are in the store. What is sent stays until the next start of Ollama. Until 0.34.0 GGUF is
    written anew: what comes of it, and while it is being written a second copy. MLX writes safetensors anew once.
    """
    by_mlx = not version or parsed_version(version) >= _BY_MLX
    stays = written = 0
    for one in made:
        source = one.source.size if one.source else 0
        copies = 1 if by_mlx and one.source and one.source.kind == _files.SAFETENSORS else 0 if by_mlx else 1
        stays += one.size - is_there(one) + copies * source
        written = max(written, 0 if by_mlx else source)
    return stays + written


def carry_out(ollama, action, made, base, notes, steps, stall_timeout):
    """Send what the server lacks and have it make the model of an action (_plan.Action).

    base: the name (str) of the base as the server spells it, or None. steps: _upload.Steps. Raises LocalModelsError, _pull.Abandoned.
    """
    steps.status("reading")
    made.read(notes, steps.look)
    for file in made.files:
        _upload.send(ollama, file, made.digest(file), steps, stall_timeout)
    steps.status("creating")
    ollama.create(action.shown, made.request(base), on_status=steps.status)
    held = {one.name: one.digest for one in ollama.found()}
    if action.name in held:
        notes.note_recipe(held[action.name], made.identity(held.get(made.recipe.base)))
