# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Ollama server in memory that keeps the rules which matter for what ends up there: weights shared by names, layers shared by models,
models that run although they were deleted, names found whatever their case, creations that give the same digest for the same recipe."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _registry
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Layers

FOREVER = "2319-03-06T10:00:00Z"
SOON = "2026-11-26T10:00:00Z"


def digest_of(*what):
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def content(number):
    """The manifest (_registry.Manifest) of a model in a registry; contents with neighbouring even numbers share their license."""
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + digest_of("weights", number), "size": 100 + number},
              {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + digest_of("license", number // 2), "size": 7}]
    config = {"digest": "sha256:" + digest_of("config", number), "size": 1}
    return _registry.Manifest(json.dumps({"config": config, "layers": layers}).encode())


class FakeOllama:
    """`registry`: {ModelName.key: number of a content}. `held`: {ModelName: dict}. `memory`: {weights: entry of GET /api/ps}.
    `writes`: what was asked of it beyond reading."""

    def __init__(self, registry):
        self.client = SimpleNamespace(base_url="http://192.0.2.1:11434")
        self.registry, self.held, self.memory, self.writes = registry, {}, {}, []

    def hold(self, text, number):
        """It pulled this model (str) when the registry had this content."""
        manifest = content(number)
        name = next((one for one in self.held if one == ModelName.parse(text)), ModelName.parse(text))
        weights = [digest for digest in manifest.blobs if digest == "sha256:" + digest_of("weights", number)][0]
        self.held[name] = {"digest": manifest.digest, "blobs": manifest.blobs, "weights": weights, "system": ""}

    def _model(self, text):
        name = ModelName.parse(text)
        if name not in self.held:
            raise LocalModelsError("model %r not found" % text)
        return self.held[name]

    def version(self):
        return "0.32.15"

    def found(self):
        return [Found(name, one["digest"], sum(one["blobs"].values())) for name, one in self.held.items()]

    def running(self):
        return [dict(entry) for entry in self.memory.values()]

    def show(self, text):
        one = self._model(text)
        return {"system": one["system"], "modelfile": "FROM /x/blobs/" + one["weights"].replace(":", "-")}

    def has_blob(self, digest):
        return any(digest in one["blobs"] for one in self.held.values())

    def delete(self, text):
        self.writes.append("delete " + text)
        return self.held.pop(ModelName.parse(text), None) is not None

    def pull(self, text, insecure, on_progress, stall_timeout, abandoned):
        self.writes.append("pull " + text)
        self.hold(text, self.registry[ModelName.parse(text).key])
        return Layers()

    def create(self, text, request):
        self.writes.append("create " + text)
        base, name = self._model(request["from"]), ModelName.parse(text)
        system = request.get("system") or base["system"]
        blobs = {digest: size for digest, size in base["blobs"].items() if not digest.startswith("sha256:sys")}
        blobs["sha256:sys" + digest_of(system)] = len(system)
        name = next((one for one in self.held if one == name), name)
        self.held[name] = {"digest": digest_of(sorted(blobs)), "blobs": blobs, "weights": base["weights"], "system": system}

    def load(self, text, keep_alive):
        self.writes.append("load " + text)
        one = self._model(text)
        entry = self.memory.setdefault(one["weights"], {"name": ModelName.parse(text).short, "digest": one["digest"]})
        entry["expires_at"] = FOREVER if str(keep_alive).startswith("-") else SOON

    def unload(self, text):
        self.writes.append("unload " + text)
        self.memory.pop(self._model(text)["weights"], None)

    def forget_the_old(self):
        """Time passes: what runs with weights that the model of its name no longer has is asked by nobody, and ends."""
        self.memory = {weights: entry for weights, entry in self.memory.items()
                       if self.held.get(ModelName.parse(entry["name"]), {}).get("weights") == weights}

    def is_loaded(self, text):
        return self._model(text)["weights"] in self.memory


class FakeStore:
    """The manifests of a FakeOllama, for those who may read them."""

    path = "/models"

    def __init__(self, server):
        self.server = server

    def sizes_of(self, name):
        return self.server.held[name]["blobs"] if name in self.server.held else None

    def blobs_of(self, name):
        return set(self.sizes_of(name))

    def there(self, digest, size):
        return size if self.server.has_blob(digest) else 0

    def missing(self, manifests):
        return 0

    def whole(self, manifests):
        return set()

    def free(self):
        return 1
