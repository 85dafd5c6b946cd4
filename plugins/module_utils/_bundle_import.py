# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a bundle into a host: files on their way, and models into Ollama's own store. Internal to this collection.

Models go into the store and not through the API, for a model that is created there from the same layers has another digest
(POST /api/create writes a config and a manifest of its own). A running server reads its manifests anew at every request (0.32).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _bundle, _bundle_disk, _bundle_plan
from ansible_collections.localmodels.fastgpt.plugins.module_utils._alone import alone
from ansible_collections.localmodels.fastgpt.plugins.module_utils._download import digest as digest_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

# Files grow here. It is a folder of the place they will have, so that the last step is a rename; Ollama looks only into blobs and
# manifests, and neither lists what lies here nor clears it away.
INCOMING = ".incoming"
_CHUNK = 1 << 20
_BLOB = re.compile(r"sha256-([0-9a-f]{64})\Z")


class Needed:
    """A file of the bundle that this host needs. file: _bundle.File. of: whose it is (str). place: where it grows (str)."""

    def __init__(self, file, of, folder):
        self.file, self.of = file, of
        self.place = os.path.join(folder, INCOMING, "sha256-" + file.sha256)

    def there(self):
        """How many of its bytes have come already."""
        try:
            return min(os.stat(self.place).st_size, self.file.size)
        except FileNotFoundError:
            return 0


class OnThisHost:
    """Files of a bundle in a folder of this host."""

    def __init__(self, folder):
        self.folder = folder

    def take(self, needed):
        """Have a verified copy at `needed.place`. Returns that path (str). Raises LocalModelsError, OSError; then nothing is left there."""
        summed = hashlib.sha256()
        _make_private(os.path.dirname(needed.place))
        try:
            with open(needed.place, "wb") as target:
                for chunk in self._chunks(needed):
                    summed.update(chunk)
                    target.write(chunk)
            _compare(needed, summed.hexdigest())
        except BaseException:
            remove(needed.place)
            raise
        return needed.place

    def look(self, needed):
        """A verified file to read, not to keep: path (str)."""
        summed = hashlib.sha256()
        for chunk in self._chunks(needed):
            summed.update(chunk)
        _compare(needed, summed.hexdigest())
        return os.path.join(self.folder, needed.file.path)

    def _chunks(self, needed):
        """The content of a file of the bundle. What goes wrong here is the bundle's disk, and not that of the store."""
        try:
            with open(os.path.join(self.folder, needed.file.path), "rb") as source:
                yield from iter(lambda: source.read(_CHUNK), b"")
        except OSError as problem:
            raise LocalModelsError("%s of the bundle in %s, which belongs to %s, cannot be read (%s)"
                                   % (needed.file.path, self.folder, needed.of, problem.strerror or problem),
                                   _bundle.MEND_READING) from problem


class Sent:
    """Files that were sent to their places on this host."""

    def take(self, needed):
        """As OnThisHost.take."""
        if needed.there() < needed.file.size:
            raise LocalModelsError("%s, which belongs to %s, did not arrive as a whole" % (needed.file.path, needed.of), "Run again: it goes on")
        try:
            _compare(needed, digest_of(needed.place))
        except LocalModelsError:
            remove(needed.place)
            raise
        return needed.place

    look = take


class Models:
    """The models of a bundle in the store of a server.

    steps: list of _bundle_plan.Step. store: _store.Store, or None where it is not there yet (check mode). problems: {step: LocalModelsError}.
    """

    def __init__(self, steps, store):
        self.steps, self.store = steps, store
        self.problems = {}

    @property
    def todo(self):
        return [step for step in self.steps if step.changes]

    def sentences(self):
        return [step.sentence() for step in self.todo]

    def needed(self):
        """list of Needed: the layers to bring."""
        if self.store is None:
            return []
        found = {}
        for step in self.todo:
            for digest in sorted(step.missing):
                one = self._needed(step, digest)
                found.setdefault(one.place, one)
        return list(found.values())

    def refuse_if_too_small(self):
        """Raise LocalModelsError where the layers to bring do not fit the disk."""
        if self.store is None:
            return
        more = sum(one.file.size - one.there() for one in self.needed())
        _bundle_disk.refuse_too_small("The models of the bundle", more, self.store.path,
                                      "Free that much, move the store to a larger disk, or declare fewer or smaller models")

    def carry_out(self, source):
        """Import one model after the other; one that fails does not keep the others out. Returns the sentences of what was done."""
        done, tried = [], {}
        with alone(self.store.path):
            for step in self.todo:
                try:
                    self._import(step, source, tried)
                except LocalModelsError as problem:
                    self.problems[step] = problem
                except OSError as problem:
                    self.problems[step] = trouble(problem, step.shown, self.store.path)
                else:
                    done.append(step.sentence(done=True))
            clear(os.path.join(self.store.path, INCOMING), everything=not self.problems)
        return done

    def report(self):
        """list of dict: what happened to each model, or would happen."""
        entries = []
        for step in self.steps:
            failed = step in self.problems
            entry = {"name": step.shown, "action": "failed" if failed else step.verb, "digest_before": step.before,
                     "digest_after": step.before if failed else step.after, "bytes": 0 if failed else step.amount}
            if failed:
                entry["msg"] = str(self.problems[step])
            entries.append(entry)
        return entries

    def refuse_problems(self):
        """Raise one LocalModelsError for all models that failed."""
        if len(self.problems) == 1:
            raise list(self.problems.values())[0]
        if self.problems:
            raise LocalModelsError("%d models could not be imported: %s" % (
                len(self.problems), " ".join("%s: %s" % (step.shown, problem) for step, problem in self.problems.items())))

    def refuse_other_store(self, found):
        """Raise LocalModelsError where the server (found: what it holds now, list of _plan.Found) does not show what was put into the store."""
        held_now = {one.name.key: one.digest for one in found}
        unseen = [step.shown for step in self.todo if step not in self.problems and held_now.get(step.name.key) != step.after]
        if unseen:
            raise LocalModelsError("%s was put into %s, and Ollama does not show it: it keeps its models elsewhere, or may not read there"
                                   % (", ".join(unseen), self.store.path), "Name the folder of the running server with store_path (OLLAMA_MODELS)")

    def _import(self, step, source, tried):
        """All layers of a model are here and verified before the first of them is in place, and the manifest is the last: at any moment
        the server has the whole model, or that which it had before."""
        owner = _Owner(self.store.path)
        arrived = {digest: self._take(step, digest, source, tried) for digest in sorted(step.missing) if tried.get(digest) != "in place"}
        for digest, place in arrived.items():
            owner.put(place, self._blob(digest))
            tried[digest] = "in place"
        for digest in step.model.blobs:
            # A start of the server deletes layers without a manifest that are older than an hour.
            os.utime(self._blob(digest), None)
        if step.after != step.before:
            self._write_manifest(step, owner)

    def _take(self, step, digest, source, tried):
        """As source.take. A layer that is no good for one model is none for the next: `tried` remembers the problem."""
        if isinstance(tried.get(digest), LocalModelsError):
            raise tried[digest]
        try:
            return source.take(self._needed(step, digest))
        except LocalModelsError as problem:
            tried[digest] = problem
            raise

    def _write_manifest(self, step, owner):
        name = step.name
        # Not beside its place: Ollama takes any file there for a manifest.
        fresh = os.path.join(self.store.path, INCOMING, "sha256-" + step.model.digest)
        _make_private(os.path.dirname(fresh))
        try:
            with open(fresh, "wb") as target:
                target.write(step.model.raw)
            owner.put(fresh, os.path.join(self.store.path, "manifests", name.host, name.namespace, name.model, name.tag))
        except BaseException:
            remove(fresh)
            raise

    def _needed(self, step, digest):
        return Needed(_bundle.File(_bundle.blob_path(digest), step.missing[digest], digest.partition(":")[2]), step.shown, self.store.path)

    def _blob(self, digest):
        return os.path.join(self.store.path, "blobs", digest.replace(":", "-"))


def held(store, verify=()):
    """{"sha256:hex": bytes} of the blobs in a store. verify: those (iterable of digests) that are hashed; a damaged one is left out."""
    try:
        with os.scandir(os.path.join(store.path, "blobs")) as entries:
            found = {"sha256:" + _BLOB.match(one.name).group(1): one.stat().st_size for one in entries if _BLOB.match(one.name)}
    except FileNotFoundError:
        return {}
    except PermissionError as problem:
        raise trouble(problem, "the bundle", store.path) from problem
    for digest in verify:
        if digest in found and digest_of(os.path.join(store.path, "blobs", digest.replace(":", "-"))) != digest.partition(":")[2]:
            del found[digest]
    return found


def plan_models(items, bundle, found, store, verify=False):
    """Models for the declared `items`. found: list of _plan.Found of the server. store: _store.Store, or None. Raises LocalModelsError."""
    wanted = _bundle_plan.read_models(items)[0]
    if store is not None:
        # A server before 0.19 wrote manifests anew, so its digest of the same model is another one: its layers tell.
        for one in found:
            one.blobs = store.blobs_of(one.name)
    hashed = {digest for one in wanted if one.name.key in bundle.models for digest in bundle.models[one.name.key].blobs} if verify else ()
    return Models(_bundle_plan.plan(found, wanted, bundle, held(store, hashed) if store else {}), store)


def trouble(problem, what, where):
    """The LocalModelsError for an OSError while `what` was being written below `where` (str)."""
    if problem.errno == errno.ENOSPC:
        return LocalModelsError("The disk of %s became full while %s was being imported" % (where, what),
                                "Free space there and run again; what was there before is still there")
    if problem.errno in (errno.EACCES, errno.EPERM):
        return LocalModelsError("%s may not be read and written by this user (%s)" % (where, problem.strerror), "Use become: true")
    return LocalModelsError("%s could not be imported: %s" % (what, problem), "What was there before is still there")


class _Owner:
    """Whoever owns the store owns what is put into it: files 0644, folders 0755."""

    def __init__(self, store_path):
        self.top = os.path.abspath(store_path)
        of = os.stat(self.top)
        self.uid, self.gid = of.st_uid, of.st_gid

    def put(self, fresh, place):
        """Rename the finished file `fresh` to `place`; folders between are made."""
        self._folders(os.path.dirname(place))
        os.chmod(fresh, 0o644)
        self._own(fresh)
        with open(fresh, "rb") as written:
            os.fsync(written.fileno())  # else a power cut may leave the name and not the content
        os.replace(fresh, place)

    def _folders(self, path):
        if os.path.isdir(path):
            return
        self._folders(os.path.dirname(path))
        os.mkdir(path)
        os.chmod(path, 0o755)
        self._own(path)

    def _own(self, path):
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)


def _compare(needed, got):
    if got != needed.file.sha256:
        raise LocalModelsError(
            "%s, which belongs to %s, has the SHA-256 %s instead of %s: it is damaged in the bundle, or was on the way"
            % (needed.file.path, needed.of, got, needed.file.sha256),
            "Compare it with sha256sum where the bundle lies, and copy the file again or take it away and run playbook bundle again")


def _make_private(folder):
    os.makedirs(folder, mode=0o700, exist_ok=True)


def remove(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def clear(folder, everything=False):
    """Remove the folder in which files grew, if it is empty. everything: with what earlier plays began and nobody declares any more."""
    try:
        for name in os.listdir(folder) if everything else ():
            if name.startswith("sha256-"):
                remove(os.path.join(folder, name))
        os.rmdir(folder)
    except OSError:  # not there, or something in it has still to be completed
        pass
