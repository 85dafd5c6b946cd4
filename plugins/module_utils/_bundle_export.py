# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills a bundle on a machine with internet: what is there already is never fetched again. Internal to this collection.

Models come from their registries directly, so no Ollama is needed. A blob is asked for at GET /v2/<namespace>/<model>/blobs/<digest>, which
Ollama's registry answers with a redirect to its store (0.32, server/download.go).
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _bundle, _bundle_disk, _mixups, _pin, _registry, _release
from ansible_collections.localmodels.fastgpt.plugins.module_utils._download import Advice, Download, digest, fetch_text, length
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text

AT_ONCE = 4
ADVICE = Advice("Check the line and its proxy, and run again: what came stays", "Check the name, and whether its registry wants credentials",
                "Make room there, or name another folder")


class Fetch:
    """One file to bring. file: _bundle.File, whose size is 0 where it is not known yet. url: where it is. source: who told its checksum.
    about: bytes that it probably has."""

    def __init__(self, file, url, source, about=0):
        self.file, self.url, self.source = file, url, source
        self.about = about or file.size


class Part:
    """One thing the bundle shall hold. what: its name for people. fetches: list of Fetch. make: callable() -> _bundle.Model, Release or Image,
    called when everything is there. expected: what that will be, as far as it is known before. about: bytes that it probably writes beside
    the fetches. problem: LocalModelsError where it could not be had."""

    def __init__(self, what, fetches, make, sentence, expected, about=0):
        self.what, self.fetches, self.make, self.sentence, self.expected, self.about = what, fetches, make, sentence, expected, about
        self.problem = None


class Export:
    """folder: of the bundle. docker: _docker.Docker, needed for images. retries: further tries of a registry.

    damage: LocalModelsError where the index, or the manifest of a model, could not be read; that counts as nothing then."""

    def __init__(self, folder, docker=None, retries=3, sleep=time.sleep):
        self.folder, self.docker, self.retries, self.sleep = folder, docker, retries, sleep
        self.old, self.damage = _bundle.Bundle(), None
        if _bundle.there(folder):
            try:
                self.old = _bundle.read(folder)
                self.damage = next(iter(self.old.broken.values()), None)
            except _bundle.Damaged as problem:
                self.damage = problem  # files that are whole are found all the same
        self.kept, self.parts = [], []
        self.received = 0

    def want_models(self, wanted, version="", timeout=10):
        """wanted: list of _plan.Wanted. version: the newest Ollama of the closed hosts (str), for a registry refuses models to old ones."""
        to_ask = []
        for one in wanted:
            entry = self.old.models.get(one.name.key)
            if entry and (one.digest == entry.digest if one.digest else one.state != "latest"):
                self._model(entry, one)
            else:
                to_ask.append(one)
        manifests = self._ask(to_ask, version, timeout)
        for one in to_ask:
            self._model(_bundle.Model(one.name, manifests[one.name.key].raw), one)

    def want_releases(self, versions, architectures, url):
        """versions, architectures: lists of str. url: folder of the releases. Raises LocalModelsError for one that does not exist."""
        for version in versions:
            for architecture in architectures:
                asset = _release.asset(version, architecture)
                entry = self.old.releases.get((version, asset))
                if entry and all(self._there(file) for file in entry.files):
                    self.kept.append(entry)
                else:
                    self._release(version, asset, "%s/v%s" % (url.rstrip("/"), version))

    def want_images(self, names):
        """names: list of str. One that Docker does not have here is pulled; one that it has with another id is saved again."""
        for name in {_bundle.image_key(name): name for name in names}.values():
            if "@" in name:
                raise LocalModelsError("The image %s is named by its digest, which docker save does not keep" % name,
                                       "Name it by a tag; the bundle has its SHA-256 and the hosts get just that image")
            image_id, architecture, size = self._inspected(name)
            entry = self.old.images.get(_bundle.image_key(name))
            if entry and self._there(entry.file) and image_id in ("", entry.id):
                self.kept.append(entry)
            else:
                expected = _bundle.Image(name, image_id or "unknown", _bundle.File("images/" + _file_name(name), 0, ""), architecture)
                self._want(name, [], lambda name=name: self._save(name),
                           "%s the image %s" % ("Save" if image_id else "Pull and save", name), expected, size + size // 20)  # of its archive

    def _inspected(self, name):
        """(id, architecture, bytes) of an image that Docker has here, else ("", "", 0)."""
        rc, out, dummy = self.docker.call("image", "inspect", "--format", "{{.Id}} {{.Architecture}} {{.Size}}", name)
        image_id, architecture, size = ("", "", 0) if rc else out.split()
        return image_id, architecture, int(size)

    def missing(self):
        """Bytes to download as far as they are known; a layer that models share counts once."""
        return sum(one.about - self._begun(one) for one in self._fetches())

    def refuse_unfit_disk(self):
        """Raise LocalModelsError where the disk of the bundle cannot take what is known to come."""
        files = [(one.file.path, one.about, one.about - self._begun(one)) for one in self._fetches()]
        files += [(part.expected.file.path, part.about, part.about) for part in self.parts if isinstance(part.expected, _bundle.Image)]
        _bundle_disk.refuse_unfit(self.folder, files, ADVICE.room)

    def carry_out(self, exclusive=False, on_bytes=None):
        """Bring what is missing, then write what the bundle holds now. Returns that _bundle.Bundle; look into `parts` for problems.

        exclusive: what is not asked for leaves the bundle. on_bytes: callable(int).
        """
        try:
            os.makedirs(self.folder, exist_ok=True)
            self._download(on_bytes)
            made = list(self.kept)
            for part in self.parts:
                if part.problem is None:
                    with _told(part, self.folder):
                        made.append(part.make())
            new = self.result(made, exclusive)
            for path, text in new.manifests().items():
                self._write(path, text)
            if self.changes(new):
                self._write(_bundle.INDEX, new.document())
            self._clear(set(self.old.files) - set(new.files), new if exclusive and not any(part.problem for part in self.parts) else None)
        except OSError as problem:
            raise _bundle_disk.unwritable("The bundle", self.folder, problem.errno, problem.strerror or str(problem)) from problem
        return new

    def _clear(self, gone, whole):
        """Remove files that belong to the bundle no more. gone: their paths. whole: the Bundle beside which nothing shall be left of an
        earlier export that was killed, or None."""
        left = []
        for folder in _bundle.FOLDERS if whole else ():
            for base, dummy, names in os.walk(self._path(folder)):
                left += [os.path.relpath(os.path.join(base, name), self.folder) for name in names]
        for path in gone | {path for path in left if path not in whole.files}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(path))

    def changes(self, new):
        """Whether bundle.json has to be written for the Bundle `new`."""
        return bool(self.damage) or new.document() != self.old.document()

    def planned(self, exclusive=False):
        """The Bundle as it would be; sizes that are not known yet are 0."""
        return self.result(self.kept + [part.expected for part in self.parts], exclusive)

    def result(self, made, exclusive):
        """The Bundle of what was made (list of Model, Release, Image); of what failed, or was not asked for, that which was there before."""
        old = _bundle.Bundle() if exclusive and not any(part.problem for part in self.parts) else self.old
        new = _bundle.Bundle(old.models.values(), old.releases.values(), old.images.values())
        asked = _bundle.Bundle([one for one in made if isinstance(one, _bundle.Model)], [one for one in made if isinstance(one, _bundle.Release)],
                               [one for one in made if isinstance(one, _bundle.Image)])
        for kind in ("models", "releases", "images"):
            getattr(new, kind).update(getattr(asked, kind))
        return new

    def _want(self, *arguments):
        self.parts.append(Part(*arguments))

    def _model(self, model, wanted):
        scheme = "http" if wanted.insecure else "https"
        base = "%s://%s/v2/%s/%s/blobs/" % (scheme, model.name.host, model.name.namespace, model.name.model)
        fetches = [Fetch(file, base + file.path.rpartition("/")[2].replace("-", ":"), "its manifest")
                   for file in model.files[:-1] if not self._there(file)]
        entry = self.old.models.get(model.name.key)
        if not fetches and entry and entry.digest == model.digest:
            self.kept.append(entry)
            return
        with_others = {one.file.path for one in self._fetches()}
        amount = sum(one.file.size for one in fetches if one.file.path not in with_others)
        sentence = "%s %s (%s)" % ("Replace" if entry and entry.digest != model.digest else "Add", model.name.short,
                                   "%s to download" % size_text(amount) if amount else "its layers come with others" if fetches else "its layers are there")
        self._want(model.name.short, fetches, lambda: model, sentence, model)

    def _ask(self, wanted, version, timeout):
        """{ModelName.key: Manifest}. Raises one LocalModelsError for all that cannot be had."""
        manifests, problems, rest = {}, {}, wanted
        for this_try in range(self.retries + 1):
            found, problems = _registry.read_all(rest, version, timeout)
            manifests.update(found)
            rest = [one for one in rest if isinstance(problems.get(one.name.key), _registry.Unreadable)]
            if not rest:
                break
            if this_try < self.retries:
                self.sleep(2 ** (this_try + 1))
        told = [_mixups.unknown_model(one.name, [], wanted) if isinstance(problems[one.name.key], _registry.Unknown) else problems[one.name.key]
                for one in wanted if one.name.key in problems]
        told += [problem for one in wanted if one.name.key in manifests for problem in [self._of_no_use(one, manifests[one.name.key])] if problem]
        if len(told) == 1:
            raise told[0]
        if told:
            raise LocalModelsError("%d models cannot be had: %s" % (len(told), " ".join(str(one) for one in told)), "Nothing was changed")
        return manifests

    def _of_no_use(self, wanted, manifest):
        """The LocalModelsError for a model (_plan.Wanted) that is not the pinned one any more, or none that runs without internet, else None."""
        if not manifest.layers:
            return LocalModelsError("%s runs in Ollama's cloud and has no weights, so it is of no use without internet" % wanted.name.short,
                                    "Declare a model that runs on the hosts, such as the same one under another tag")
        entry = self.old.models.get(wanted.name.key)
        return _pin.elsewhere(wanted, manifest, exactly=True, also="; the bundle holds %s" % entry.digest[:12] if entry else "")

    def _release(self, version, asset, url):
        source = "%s/%s" % (url, _release.CHECKSUMS)
        text = fetch_text(source, missing="There is probably no Ollama release %s" % version)
        sha256 = _release.parse_checksums(text, asset)
        if not sha256:
            raise LocalModelsError("%s has no line for %s" % (scrub(source), asset), "Check the version and the architecture")
        folder = "releases/v%s/" % version
        archive = _bundle.File(folder + asset, 0, sha256)

        def make():
            # Between two releases of one list of checksums others may have been written: the whole text is kept.
            self._write(folder + _release.CHECKSUMS, text)
            checksums = self._measured(folder + _release.CHECKSUMS)
            return _bundle.Release(version, asset, [_bundle.File(archive.path, self._size(archive.path), sha256), checksums])

        address = "%s/%s" % (url, asset)
        fetches = [] if self._hashes_to(archive) else [Fetch(archive, address, source, length(address))]
        self._want("Ollama %s" % version, fetches, make, "Add %s of Ollama %s" % (asset, version), _bundle.Release(version, asset, [archive]))

    def _save(self, name):
        """Save an image, pulled before if need be. Returns its _bundle.Image."""
        if not self._inspected(name)[0]:
            self._docker("The image %s cannot be pulled" % name, "pull", "--quiet", name)
        image_id, architecture, dummy = self._inspected(name)
        path = "images/%s-%s.tar" % (_file_name(name), image_id.rpartition(":")[2][:12])
        os.makedirs(os.path.dirname(self._path(path)), exist_ok=True)
        self._docker("The image %s cannot be saved" % name, "save", "--output", self._path(path) + ".part", name)
        self._as_others(self._path(path) + ".part")
        os.replace(self._path(path) + ".part", self._path(path))
        return _bundle.Image(name, image_id, self._measured(path), architecture)

    def _as_others(self, path):
        """Docker makes a file that only its owner may read, who is often root and not the one that carries the bundle on."""
        mask = os.umask(0o077)
        os.umask(mask)
        with contextlib.suppress(PermissionError):  # FAT and its like know no modes
            os.chmod(path, 0o666 & ~mask)
        with open(path, "rb") as saved:
            os.fsync(saved.fileno())

    def _docker(self, what, *arguments):
        rc, dummy, err = self.docker.call(*arguments)
        if rc:
            raise LocalModelsError("%s: %s" % (what, scrub(" ".join(err.split()))[-300:]), "Check its name, and the way to its registry")

    def _fetches(self):
        """list of Fetch, each file once."""
        return list({one.file.path: one for part in self.parts for one in part.fetches}.values())

    def _download(self, on_bytes):
        lock = threading.Lock()

        def count(received):
            with lock:
                self.received += received
                if on_bytes:
                    on_bytes(received)

        def bring(one):
            try:
                self._bring(one, count)
            except Abandoned:
                raise
            except (LocalModelsError, OSError) as problem:
                return problem
            return None

        todo = self._fetches()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            problems = {one.file.path: problem for one, problem in zip(todo, pool.map(bring, todo)) if problem}
        for part in self.parts:
            for one in part.fetches:
                if one.file.path in problems and part.problem is None:
                    with _told(part, self.folder):
                        raise problems[one.file.path]

    def _bring(self, one, count):
        part = self._path(one.file.path) + ".part"
        os.makedirs(os.path.dirname(part), exist_ok=True)
        Download(one.url, part, self.sleep, advice=ADVICE, on_bytes=count).run(one.file.sha256, one.source)
        if one.file.size and os.path.getsize(part) != one.file.size:
            os.unlink(part)
            raise LocalModelsError("%s is not as large as its manifest says" % scrub(one.url), "Its registry is in disorder")
        with open(part, "rb") as done:
            os.fsync(done.fileno())  # sticks are drawn out early
        os.replace(part, self._path(one.file.path))

    def _write(self, path, text):
        """A small file, whole or not at all; left alone where it is as it shall be."""
        place = self._path(path)
        raw = text.encode("utf-8")
        with contextlib.suppress(FileNotFoundError):
            with open(place, "rb") as there:
                if there.read() == raw:
                    return
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place + ".part", "wb") as fresh:
            fresh.write(raw)
            fresh.flush()
            os.fsync(fresh.fileno())
        os.replace(place + ".part", place)

    def _path(self, path):
        return os.path.join(self.folder, path)

    def _size(self, path):
        return os.path.getsize(self._path(path))

    def _measured(self, path):
        return _bundle.File(path, self._size(path), digest(self._path(path)))

    def _there(self, file):
        """Whether a file is there as a whole: it gets its name only after its checksum was compared."""
        return os.path.exists(self._path(file.path)) and self._size(file.path) == file.size

    def _hashes_to(self, file):
        return os.path.exists(self._path(file.path)) and digest(self._path(file.path)) == file.sha256

    def _begun(self, fetch):
        """How many bytes of it an earlier try brought."""
        part = self._path(fetch.file.path) + ".part"
        return min(fetch.about, os.path.getsize(part)) if os.path.exists(part) else 0


def _file_name(image):
    return re.sub(r"[^A-Za-z0-9.]+", "_", image).strip("_.")


@contextlib.contextmanager
def _told(part, folder):
    """What fails in the block is the part's problem."""
    try:
        yield
    except LocalModelsError as problem:
        part.problem = problem
    except OSError as problem:
        part.problem = _bundle_disk.unwritable(part.what, folder, problem.errno, problem.strerror or str(problem))
