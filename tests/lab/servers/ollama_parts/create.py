# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creating a model from another one or from uploaded files, layer by layer as Ollama does it."""

from __future__ import annotations

import os

from ollama_parts import convert, gguf, go, names
from ollama_parts.pull import PullError
from ollama_parts.store import IMAGE, Missing

QUANTIZED = {"F32": 0, "F16": 1, "Q4_K_S": 14, "Q4_K_M": 15, "Q8_0": 7}
NO_QUANTIZE = ("create-time quantization is only supported for safetensors imports; quantize GGUF models with llama.cpp tools"
               " before importing")
NO_ADAPTERS = "LoRA adapters are no longer supported"
NO_MLX = "MLX runtime is not available"  # this machine has none, as no machine of the lab has
MLX_TYPES = ("int4", "int8", "nvfp4", "mxfp4", "mxfp8")
UNPARSED = "template error: template: :1: unclosed action"


def check(request, modern):
    """What Ollama refuses before anything else; returns the Name. Raises go.Refusal."""
    for path in request.get("files") or {}:
        if path.startswith("/") or ".." in path.split("/"):
            raise go.Refusal(400, "file path must be relative" + (": " + path if modern else ""))
    if modern and request.get("adapters"):
        raise go.Refusal(400, NO_ADAPTERS)
    name = names.parse(request.get("model") or request.get("name") or "")
    if not name.valid:
        raise go.Refusal(400, "invalid model name")
    quantize = (request.get("quantize") or "").lower()
    if modern and quantize and not of_safetensors(request.get("files")):
        raise go.Refusal(400, NO_QUANTIZE)
    if modern and quantize and quantize not in MLX_TYPES:
        raise go.Refusal(400, "unsupported quantize type %s: supported types are %s" % (go.quoted(request["quantize"]), ", ".join(MLX_TYPES)))
    return name


def of_safetensors(files):
    return any(path.endswith(".safetensors") for path in files or {})


class Layers:
    """The layers a new model will have, and the status line of each."""

    def __init__(self, store):
        self.store, self.layers, self.statuses = store, [], {}

    def keep(self, media_type, digest, source):
        """A layer that exists already."""
        size = os.stat(self.store.blob(digest)).st_size
        entry = {"mediaType": media_type, "digest": digest, "size": size}
        if source:
            entry["from"] = source
        self.layers.append(entry)
        self.statuses[digest] = "using existing layer %s" % digest

    def new(self, kind, content, at=None):
        """A layer with this content (bytes), at the end or in the place of another."""
        digest, fresh = self.store.add(content)
        entry = {"mediaType": IMAGE + kind, "digest": digest, "size": len(content)}
        if at is None:
            self.layers.append(entry)
        else:
            self.layers[at] = entry
        self.statuses[digest] = "%s %s" % ("creating new layer" if fresh else "using existing layer", digest)

    def remove(self, kind):
        self.layers = [layer for layer in self.layers if layer["mediaType"] != IMAGE + kind]

    def lines(self):
        return [{"status": self.statuses[layer["digest"]]} for layer in self.layers]


async def create(store, puller, request, name, modern, can_quantize=True):
    """The lines of a create; raises go.Refusal with the status that a reply without lines would get, PullError from a pull."""
    layers, config = Layers(store), {}
    old = _digests(store, name)
    if request.get("from"):
        base_name, _source = names.reference(request["from"])
        if not base_name.valid:
            raise go.Refusal(400, "invalid model name")
        try:
            base = store.read(base_name)
        except Missing:
            try:
                async for line in puller.pull(base_name, insecure=False):
                    yield line
            except PullError:
                _own_layers(store, layers, request)  # the real server, too, leaves these blobs behind
                raise
            base = store.read(base_name)
        for layer in base.layers:
            layers.keep(layer["mediaType"], layer["digest"], base_name.short)
        config = {key: base.config[key] for key in ("renderer", "parser", "requires", "model_format", "capabilities")
                  if base.config.get(key)}
    elif of_safetensors(request.get("files")):
        if modern:
            raise go.Refusal(503, NO_MLX)
        yield {"status": "converting model"}
        layers.new("model", convert.model(store, request["files"]))
    elif request.get("files") is not None:
        for path, digest in request["files"].items():
            yield {"status": "parsing GGUF"}
            _add_file(store, layers, path, digest, modern)
    else:
        raise go.Refusal(400, "neither 'from' or 'files' was specified")
    if request.get("adapters"):
        async for line in _add_adapter(store, layers, request["adapters"]):
            yield line
    for at, layer in enumerate(layers.layers):
        if layer["mediaType"] == IMAGE + "model":
            if _rewrite(store, layers, at, request, modern, can_quantize):
                yield {"status": "verifying conversion"}
            _describe(config, gguf.read(str(store.blob(layers.layers[at]["digest"]))))
    _own_layers(store, layers, request)
    raw = _manifest(store, layers, config)
    for line in layers.lines():
        yield line
    yield {"status": "writing manifest"}
    store.write_manifest(name, raw)
    store.drop(old)
    yield {"status": "success"}


def _digests(store, name):
    try:
        model = store.read(name)
    except (Missing, ValueError, OSError, go.Refusal):
        return set()
    return {layer["digest"] for layer in model.layers} | {model.config_digest}


def _add_file(store, layers, path, digest, modern):
    blob = store.blob(digest)
    try:
        with open(blob, "rb") as file:
            head = file.read(4)
    except OSError as problem:
        raise go.Refusal(500, go.os_error(problem)) from problem
    if head != gguf.MAGIC:
        if modern:
            raise go.Refusal(500, "unsupported file type [%s]" % " ".join(str(byte) for byte in head))
        raise go.Refusal(400, "supplied file was not in GGUF format")
    layers.keep(IMAGE + "model", digest, path if modern else "")


async def _add_adapter(store, layers, files):
    if of_safetensors(files):
        yield {"status": "converting adapter"}
        base = next((layer["digest"] for layer in layers.layers if layer["mediaType"] == IMAGE + "model"), "")
        layers.new("adapter", convert.adapter(store, files, gguf.read(str(store.blob(base))).architecture))
        return
    if len(files) > 1:
        raise go.Refusal(400, "only one adapter is currently supported")
    for path, digest in files.items():
        yield {"status": "parsing GGUF"}
        kind = gguf.read(str(store.blob(digest))).values.get("general.type")
        layers.keep(IMAGE + ("adapter" if kind == "adapter" else "model"), digest, path)


def _rewrite(store, layers, at, request, modern, can_quantize):
    """Put what llama-quantize makes of the weights in their place; True where it ran. 0.34 leaves them as they are."""
    layer = layers.layers[at]
    wanted = (request.get("quantize") or "").upper()
    if modern or not (wanted or request.get("files")):
        return False
    path = str(store.blob(layer["digest"]))
    if wanted:
        if wanted not in QUANTIZED:
            raise go.Refusal(500, "unsupported quantization type %s - supported types are %s" % (wanted, ", ".join(QUANTIZED)))
        # a file type of 0 reads as unknown, although it means F32
        if gguf.read(path).values.get("general.file_type") not in (1, 32):
            raise go.Refusal(500, "quantization is only supported for F16, BF16 and F32 models")
    if not can_quantize:
        raise go.Refusal(500, "failed to validate GGUF with llama-quantize without compatibility patches: llama-quantize"
                              " unavailable: llama-quantize binary not found (checked: %s)" % ", ".join(helper_paths("llama-quantize")))
    layers.new("model", gguf.rewritten(path, QUANTIZED[wanted] if wanted else None), at)
    return True


def helper_paths(program):
    """Where Ollama looks for a program of its own; the stand-in says it looked below /usr."""
    return ["/usr/bin/" + program, "/usr/lib/ollama/" + program, "/usr/bin/build/lib/ollama/" + program]


def _describe(config, weights):
    families = config.pop("model_families", []) + [weights.architecture]
    defaults = {"model_format": "gguf", "model_family": weights.architecture, "model_type": go.human_number(weights.count),
                "file_type": weights.file_type}
    config.update({key: config.get(key) or value for key, value in defaults.items()}, model_families=families)


def _own_layers(store, layers, request):
    if request.get("template"):
        layers.remove("template")
        if request["template"].count("{{") != request["template"].count("}}"):
            raise go.Refusal(400, UNPARSED)
        layers.new("template", request["template"].encode())
    if request.get("system"):
        layers.remove("system")
        layers.new("system", request["system"].encode())
    licenses = request.get("license") or []
    for text in [licenses] if isinstance(licenses, str) else licenses:
        layers.new("license", text.encode())
    parameters = dict(request.get("parameters") or {})
    for layer in layers.layers:
        if layer["mediaType"] == IMAGE + "params":
            parameters = {**go.decode(store.blob(layer["digest"]).read_text("utf-8")), **parameters}
    if parameters:
        layers.remove("params")
        layers.new("params", (go.marshal(dict(sorted(parameters.items()))) + "\n").encode())
    if request.get("messages"):
        layers.remove("messages")
        messages = [{"role": message["role"], "content": message["content"]} for message in request["messages"]]
        layers.new("messages", (go.marshal(messages) + "\n").encode())


def _manifest(store, layers, config):
    order = ("model_format", "model_family", "model_families", "model_type", "file_type", "renderer", "parser", "requires",
             "capabilities")
    text = go.marshal({**{key: config[key] for key in order if key in config}, "architecture": "amd64", "os": "linux"}) + "\n"
    digest, _fresh = store.add(text.encode())
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest, "size": len(text.encode())},
                "layers": layers.layers}
    return (go.marshal(manifest) + "\n").encode()
