# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a bundle into a host: a release of Ollama unpacked, container images loaded. Internal to this collection."""

from __future__ import annotations

import os

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _bundle, _bundle_disk
from ansible_collections.localmodels.fastgpt.plugins.module_utils._alone import alone
from ansible_collections.localmodels.fastgpt.plugins.module_utils._bundle_import import INCOMING, Needed, clear, remove, trouble
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text


class ReleaseOf:
    """A release of Ollama from a bundle. release: _release.Release. bundle: _bundle.Bundle. Raises LocalModelsError where it is not in there."""

    def __init__(self, release, bundle, checksum=""):
        self.release = release
        self.present = release.present()
        self._needed = None
        if self.present:
            return
        entry = bundle.releases.get((release.version, release.asset))
        if entry is None:
            others = ", ".join("%s (%s)" % key for key in sorted(bundle.releases)) or "none"
            raise LocalModelsError("The bundle does not hold %s of Ollama %s; of releases it holds %s" % (release.asset, release.version, others),
                                   "Run playbook bundle with ollama_bundle_versions and ollama_bundle_architectures that name it")
        if checksum and checksum != entry.files[0].sha256:
            raise LocalModelsError("Checksum mismatch: %s of the bundle has the SHA-256 %s, but ollama_checksum says %s"
                                   % (release.asset, entry.files[0].sha256, checksum), "Nothing was installed")
        self._needed = Needed(entry.files[0], "Ollama %s" % release.version, release.install_dir)

    @property
    def todo(self):
        return [] if self.present else [self._needed]

    def needed(self):
        return self.todo

    def refuse_if_too_small(self, sent):
        """Raise LocalModelsError where the archive and what comes out of it, which is no less, do not fit. sent: it does not lie here yet."""
        for one in self.todo:
            more = one.file.size + (one.file.size - one.there() if sent else 0)
            _bundle_disk.refuse_too_small("The archive of Ollama %s and what is in it" % self.release.version, more, self.release.install_dir,
                                          "Free that much, or set ollama_install_dir to a larger disk")

    def sentences(self, done=False):
        return ["%s Ollama %s in %s" % ("Unpacked" if done else "Unpack", self.release.version, self.release.path)]

    def carry_out(self, source):
        os.makedirs(self.release.install_dir, mode=0o755, exist_ok=True)
        try:
            with alone(self.release.install_dir):
                if not self.release.present():
                    self.release.put_in_place(source.look(self._needed))
        except OSError as problem:
            raise trouble(problem, "Ollama %s" % self.release.version, self.release.install_dir) from problem
        finally:
            remove(self._needed.place)
            clear(os.path.join(self.release.install_dir, INCOMING))
        return self.sentences(done=True)


class Images:
    """Container images from a bundle: those that Docker does not have under their name. docker: _docker.Docker. names: list of str.
    folder: where archives grow (str). Raises LocalModelsError for one that is in neither place."""

    def __init__(self, docker, bundle, names, folder):
        self.docker, self.folder = docker, folder
        lacking = [name for name in names if docker.call("image", "inspect", "--format", "{{.Id}}", name)[0]]
        unknown = [name for name in lacking if _bundle.image_key(name) not in bundle.images]
        if unknown:
            raise LocalModelsError("This host has no image %s, and the bundle does not hold it" % ", ".join(unknown),
                                   "Run playbook bundle with ollama_bundle_images that name it; nothing was changed here")
        self._refuse_other_machine([bundle.images[_bundle.image_key(name)] for name in lacking])
        self.todo = {name: Needed(bundle.images[_bundle.image_key(name)].file, name, folder) for name in lacking}

    def _refuse_other_machine(self, images):
        """Docker loads an image of another architecture without a word, and its container dies at once."""
        here = self.docker.call("version", "--format", "{{.Server.Arch}}")[1].strip() if images else ""
        other = [one for one in images if one.architecture and here and one.architecture != here]
        if other:
            raise LocalModelsError("The bundle holds %s for %s, and Docker on this host runs %s" % (
                " and ".join(one.name for one in other), other[0].architecture, here),
                "Where the bundle is made run docker pull --platform linux/%s %s, then playbook bundle with a folder of its own for these hosts; "
                "nothing was changed here" % (here, other[0].name))

    def needed(self):
        return list(self.todo.values())

    def refuse_if_too_small(self, sent):
        """Raise LocalModelsError where the archives do not fit the scratch folder. sent: they do not lie on this host yet."""
        more = sum(one.file.size - one.there() for one in self.needed()) if sent else 0
        _bundle_disk.refuse_too_small("The archives of the images", more, self.folder, "Free that much, or set scratch_dir to a larger disk")

    def sentences(self, done=False):
        return ["%s the image %s (%s)" % ("Loaded" if done else "Load", name, size_text(one.file.size)) for name, one in self.todo.items()]

    def carry_out(self, source):
        for name, one in self.todo.items():
            try:
                rc, dummy, err = self.docker.call("load", "--quiet", "--input", source.look(one))
            finally:
                remove(one.place)
                clear(os.path.join(self.folder, INCOMING))
            if rc:
                raise LocalModelsError("The image %s cannot be loaded: %s" % (name, scrub(" ".join(err.split()))[-300:]),
                                       "Look for the free space where Docker keeps its images")
            if self.docker.call("image", "inspect", "--format", "{{.Id}}", name)[0]:
                raise LocalModelsError("%s was loaded, and Docker has no image %s all the same" % (one.file.path, name),
                                       "Make the bundle again: its archive holds another image")
        return self.sentences(done=True)
