# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry, a Docker and a store for tests of bundles: real files, no network but loopback."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _bundle_export, _bundle_plan
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import as_documented, printed
from small_server import serving

ARCHIVE = b"an archive" * 1000


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Registry:
    """Serves models {"name": [layer bytes]} of namespace library, and one release."""

    def __init__(self, small):
        self.small = small
        self.host = small.host
        checksums = "%s  ./ollama-linux-amd64.tar.zst\n%s  ./ollama-linux-arm64.tar.zst\n" % (digest(ARCHIVE), digest(b"arm"))
        small.answers.update({("GET", "/ollama/v0.32.15/sha256sum.txt"): (200, checksums),
                              ("GET", "/ollama/v0.32.15/ollama-linux-amd64.tar.zst"): (200, ARCHIVE),
                              ("HEAD", "/ollama/v0.32.15/ollama-linux-amd64.tar.zst"): self._head,
                              ("GET", "/ollama/v0.32.15/ollama-linux-arm64.tar.zst"): (200, b"arm")})

    def serve(self, name, layers, config=b"config"):
        self.small.answers["GET", "/v2/library/%s/manifests/latest" % name] = (200, json.dumps({
            "config": {"digest": "sha256:" + digest(config), "size": len(config)},
            "layers": [{"digest": "sha256:" + digest(one), "size": len(one)} for one in layers]}, indent=2))
        for one in layers + [config]:
            self.small.answers["GET", "/v2/library/%s/blobs/sha256:%s" % (name, digest(one))] = (200, one)

    def _head(self, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(ARCHIVE)))
        handler.end_headers()

    def name(self, model):
        return {"name": "%s/library/%s" % (self.host, model), "insecure": True}

    def asked(self):
        asked, self.small.asked[:] = self.small.paths(), []
        return [path.replace("GET /v2/library/", "") for path in asked]


@contextlib.contextmanager
def serving_two_models():
    """A Registry with the models tiny and other, which share a layer and their config."""
    with serving({}) as small:
        one = Registry(small)
        one.serve("tiny", [b"weights" * 1000, b"licence"])
        one.serve("other", [b"other weights", b"licence"])
        yield one


class Docker:
    """Knows images {name: id} of `arch`; writes and reads archives as docker save and load do."""

    def __init__(self, images=(), can_pull=True, arch="amd64", size=10):
        self.images, self.arch, self.size = dict(images), arch, size
        self.can_pull = can_pull
        self.calls = []

    def call(self, *arguments, **options):
        self.calls.append(arguments[0])
        name = arguments[-1]
        if arguments[0] == "version":
            return 0, self.arch + "\n", ""
        if arguments[0] == "pull":
            if not self.can_pull:
                return 1, "", "manifest unknown"
            self.images[name] = "sha256:" + digest(name.encode())
        elif arguments[0] == "save":
            with open(os.open(arguments[2], os.O_CREAT | os.O_WRONLY, 0o600), "w") as out:  # as docker does it
                out.write(json.dumps({name: self.images[name]}))
        elif arguments[0] == "load":
            with open(arguments[-1]) as archive:
                self.images.update(json.load(archive))
        elif name not in self.images:
            return 1, "", "No such image"
        elif arguments[:4] == ("image", "inspect", "--format", "{{.Id}} {{.Architecture}} {{.Size}}"):
            return 0, "%s %s %d\n" % (self.images[name], self.arch, self.size), ""
        return 0, self.images.get(name, ""), ""


def export(registry, folder, *models, **more):
    """Run an export; (Export, Bundle)."""
    job = _bundle_export.Export(str(folder), more.get("docker"), retries=0, sleep=lambda seconds: None)
    job.want_models(_bundle_plan.read_models([registry.name(one) if isinstance(one, str) else one for one in models])[0])
    job.want_releases(more.get("versions", []), ["amd64"], "http://%s/ollama" % registry.host)
    job.want_images(more.get("images", []))
    job.refuse_unfit_disk()
    return job, job.carry_out(more.get("exclusive", False), more.get("on_bytes"))


def files_of(folder):
    return sorted(os.path.relpath(os.path.join(base, name), str(folder)) for base, dummy, names in os.walk(str(folder)) for name in names)


def listed(store):
    """The models as a server finds them in a store: list of Found."""
    top = os.path.join(store.path, "manifests")
    found = []
    for path in files_of(top):
        with open(os.path.join(top, path), "rb") as manifest:
            raw = manifest.read()
        assert all(os.path.exists(os.path.join(store.path, "blobs", blob.replace(":", "-"))) for blob in store.blobs_of(name_of(path)))
        found.append(Found(name_of(path), digest(raw), 1))
    return found


def name_of(path):
    return ModelName.parse("%s:%s" % tuple(path.rsplit("/", 1)))


def call(module, capsys, check=False, **options):
    """Result of a module, run as on a host."""
    result = json.loads(printed(module, capsys, check, **options))
    result.pop("needed", None)  # for the action plugin, which takes it out
    return as_documented(module, result)


def manifest_digest(registry, model):
    return digest(registry.small.answers["GET", "/v2/library/%s/manifests/latest" % model][1].encode())


def pinned(registry, model, to):
    return dict(registry.name(model), digest=to)


def in_order(events):
    """Whether at no moment more names were given than contents written."""
    return all(events[:number].count("name") <= events[:number].count("sync") for number in range(len(events) + 1))
