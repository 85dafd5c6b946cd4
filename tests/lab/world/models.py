# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models that the lab's registries offer: small generated GGUF files under names that people would type."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import pathlib
import shutil
import tempfile

from .shell import CACHE, CHECKOUT, LAB, LabError, lock, run, say, succeeds

MIB = 1 << 20
# Name -> architecture, seed, size to pad the file to (bytes; 0: as generated, 0.3 MB).
MODELS = {
    "qwen2.5:0.5b": ("llama", 1, 0),
    "qwen2.5:7b": ("llama", 2, 0),
    "llama3.2:1b": ("llama", 3, 0),
    "bge-m3:latest": ("bert", 4, 0),
    "nomic-embed-text:latest": ("bert", 5, 0),
    "lab/tiny-GGUF:F16": ("llama", 7, 0),
    "bulky:200m": ("llama", 6, 200 * MIB),
    "twin-a:latest": ("llama", 8, 0),
    "twin-b:latest": ("llama", 8, 0),  # the same layers
    **{f"small-{number:02}:latest": ("llama", 100 + number, 0) for number in range(1, 21)},
}
# With room for tools: by this Ollama tells that a model can use them.
CHAT_TEMPLATE = """{{- if .System }}{{ .System }}
{{ end }}{{- if .Tools }}Tools: {{ .Tools }}
{{ end }}{{- range .Messages }}{{ .Role }}: {{ .Content }}
{{ end }}assistant: """
# Weights that are random never say that the answer is over: a real Ollama would talk until the context is full.
PARAMETERS = '{"num_predict": 24}'
GENERATOR = LAB / "make_gguf.py"
REGISTRY = LAB / "servers" / "registry.py"


def ensure() -> pathlib.Path:
    """The folder that the model registry serves. Made once."""
    recipe = repr((sorted(MODELS.items()), CHAT_TEMPLATE, PARAMETERS)).encode() + GENERATOR.read_bytes() + REGISTRY.read_bytes()
    folder = CACHE / f"models-{hashlib.sha256(recipe).hexdigest()[:12]}"
    with lock("models"):
        if not folder.exists():
            say(f"generating {len(MODELS)} small models")
            unfinished = folder.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            python = _python_with_gguf()
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(lambda item: _add(python, unfinished, *item), MODELS.items()))
            unfinished.rename(folder)
    return folder


def _add(python: str, folder: pathlib.Path, name: str, recipe: tuple) -> None:
    architecture, seed, size = recipe
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        file = pathlib.Path(place, "model.gguf")
        run(python, str(GENERATOR), str(file), str(seed), "f16", architecture)
        if size:
            os.truncate(file, size)  # readers of GGUF ignore what follows the last tensor
        talks = ("--template", CHAT_TEMPLATE, "--params", PARAMETERS) if architecture == "llama" else ()
        run(python, str(REGISTRY), "add", str(folder), name, str(file), "--license", "Made for tests.", *talks)


def _python_with_gguf() -> str:
    for python in (CHECKOUT / ".cache" / "venv" / "bin" / "python", pathlib.Path("/usr/bin/python3")):
        if succeeds(str(python), "-c", "import aiohttp, gguf, numpy"):
            return str(python)
    raise LabError("the Python packages aiohttp, gguf and numpy are missing: run 'make venv' first")
