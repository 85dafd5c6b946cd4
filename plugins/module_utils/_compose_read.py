# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads FastGPT's compose project on its host: the operator's own files, ours, and what runs. Internal to this collection."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose, _compose_files, _compose_paths, _one_api_place, _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._backup import Backup, read
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_mask import masked
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import CannotEdit, managed_by, reverted
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import DEFAULT_FILES, BrokenProject, dotenv_value
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._outline import outline

DOTENV = ".env"
_KEY_LINE = re.compile(r"(?m)^([ ]+CHAT_API_KEY: ).*$")
_PLAIN_KEY = re.compile(r"[A-Za-z_][\w.+/=-]*\Z", re.ASCII)


class Reading:
    """One compose project on this host: docker (_docker.Docker) and what was read of it.

    layout: _compose_files.Layout. current, own: {name: bytes} of the operator's files as they lie there, and without our edits.
    config: dict, the effective project of his own files. declared: _project.Project of them alone; project: with the running containers.
    key: the key (str) that FastGPT shows to one-api, None where nobody knows any. With engine=False only files are read, and what they
    say is the same wherever they lie: no container is looked at.
    """

    def __init__(self, docker, key=None, one_api_dir=None, engine=True):
        self.docker = docker
        self.folder = docker.project_dir
        docker.refuse_missing_files()
        self.key = _key(key, one_api_dir)
        self.backup = Backup(self.folder)
        self.layout = self._layout()
        self.current = {name: read(os.path.join(self.folder, name)) for name in self.layout.base}
        self.own = {name: self._reverted(name, raw) for name, raw in self.current.items()}
        containers = docker.containers() if engine else []
        self.config = self.merged(self.own)
        self.declared = _project.describe(self.config, [], self.folder)
        self.project = _project.describe(self.config, containers, self.folder)
        if self.project.version is None and self.project.app.runs():
            self.project.version = docker.package_version(self.project.app.container)

    def found(self, keep=()):
        """What the controller has to know to decide: dict without secrets. keep: words (list of str) of files that are none."""
        texts = {name: (raw or b"").decode("utf-8", "replace") for name, raw in self.own.items()}
        managed = {name: managed_by(text) for name, text in texts.items()}
        return {
            "folder": self.folder,
            "facts": dict(_compose_paths.facts(self.config, self.declared), version=self.project.version),
            "place": self.layout.place,
            "text": shown(self._text(self.layout.place), self.key),
            "joined": self.layout.joined,
            "left_over": self.layout.left_over,
            "unfinished": self.backup.unfinished(),
            "dotenv": self._dotenv(),
            "files": {name: masked(text, keep) for name, text in texts.items()},
            "managed": {name: keeper for name, keeper in managed.items() if keeper},
            "rootless": self.docker.rootless(),
            "edited": [name for name, raw in self.own.items() if raw != self.current[name]],
            "key": self.key is not None,
            "containers": {name: self._container(service) for name, service in self.project.services.items()},
        }

    def merged(self, files, *more):
        """The effective project of these files of the operator's ({name: bytes}) and further ones (bytes), as dict."""
        with self._laid_out(files, more) as names:
            return self.docker.config(files=names)

    @contextlib.contextmanager
    def _laid_out(self, files, more):
        """Names by which compose reads the files; what differs from the project's folder lies elsewhere for that moment, for our eyes only."""
        place, names = tempfile.mkdtemp(prefix="localmodels-"), []
        try:
            texts = [(name, None if raw == self.current[name] else raw) for name, raw in files.items()]
            for number, (name, raw) in enumerate(texts + [(None, raw) for raw in more]):
                if raw is not None:
                    name = os.path.join(place, "%d.yml" % number)
                    with open(name, "wb") as target:
                        target.write(raw)
                names.append(name)
            yield names
        finally:
            shutil.rmtree(place)

    def _container(self, service):
        """What a running container has: dict without secrets."""
        variables = {}
        for name in _compose_paths.VARIABLES:
            value = scrub(service.variable(name) or "")
            hidden = name in _compose_paths.HIDDEN and value and value != _compose_paths.ANY_KEY
            variables[name] = (_compose_paths.KEY if value == self.key else "(set)") if hidden else value
        return {"name": service.container or service.name, "state": service.state, "networks": sorted(service.networks), "names": service.names,
                "extra_hosts": service.extra_hosts, "variables": variables, "other": self._other(service)}

    def _other(self, service):
        """Names (list) of variables that a running container has otherwise than the operator's files say: what we gave it, or a
        change of his that he has not brought up. A list in no_proxy that no file names is the engine's own (~/.docker/config.json).
        What the image itself brings is there however often the container is made."""
        declared = self.declared.services[service.name]
        other = [name for name in _compose_paths.VARIABLES if service.runs() and (service.variable(name) or "") != (declared.variable(name) or "")
                 and (name not in _compose_paths.LISTS or declared.variable(name) is not None)]
        unnamed = [name for name in other if declared.variable(name) is None]
        brought = self.docker.image_variables(service.image) if unnamed else {}
        return [name for name in other if name not in unnamed or service.variable(name) != brought.get(name)]

    def _dotenv(self):
        """.env as it is, with our file in it and without, as far as each may be seen: {"now", "joined", "parted"}."""
        text = self._text(DOTENV)
        separator = dotenv_value(self.folder, "COMPOSE_PATH_SEPARATOR") or ":"
        parted = _compose_files.parted_dotenv(text, separator)
        joined = _compose_files.joined_dotenv(parted if self.outlived else text, self.layout.base, separator)
        texts = {"now": text, "joined": joined if not self.layout.joined else parted if self.outlived else text, "parted": parted}
        return {name: _compose_files.masked_dotenv(one) for name, one in texts.items()}

    def _reverted(self, name, raw):
        try:
            text = (raw or b"").decode("utf-8")
        except UnicodeDecodeError:
            return raw  # compose itself decides whether it can read that; ours it is not
        try:
            return reverted(text).encode("utf-8") if raw is not None else None
        except CannotEdit as problem:
            problem.path = os.path.join(self.folder, name)
            raise

    def _layout(self):
        names = [name for name in os.listdir(self.folder) if os.path.isfile(os.path.join(self.folder, name))]
        ours = [name for name in (_compose_files.FREE_PLACE, _compose_files.OWN_PLACE)
                if name in names and _compose.is_ours(self._text(name))]
        if os.environ.get("COMPOSE_FILE"):
            raise BrokenProject("COMPOSE_FILE is set in the environment of the user who runs this",
                                "Set it in %s/.env instead, where it counts for everybody" % self.folder)
        separator = dotenv_value(self.folder, "COMPOSE_PATH_SEPARATOR") or ":"
        listed = [name.strip() for name in dotenv_value(self.folder, "COMPOSE_FILE").split(separator) if name.strip()]
        # Our own line names the operator's override too. Once he has taken that away, compose reads nothing until our line goes.
        self.outlived = _compose_files.MARK in self._text(DOTENV) and not all(os.path.exists(os.path.join(self.folder, name)) for name in listed)
        listed = [] if self.outlived else listed
        found = _compose_files.layout(names, listed, ours)
        if found.place == _compose_files.OWN_PLACE and found.place in names and found.place not in ours:
            raise BrokenProject(
                "%s was written by this role and edited since" % os.path.join(self.folder, found.place),
                "Move your own lines into a file of your own, list that in COMPOSE_FILE, and delete this one")
        return found

    def _text(self, name):
        return (read(os.path.join(self.folder, name)) or b"").decode("utf-8", "replace")


def shown(text, key=None):
    """Our file's text (str) as it may be seen: one-api's key by its placeholder, and the checksum fitting that again."""
    if not _compose.is_ours(text):
        return text
    body = _compose.body_of(text)
    if key:
        body = body.replace(key, _compose_paths.KEY)
    known = (_compose_paths.KEY, _compose_paths.ANY_KEY)
    return _compose.with_header(_KEY_LINE.sub(
        lambda found: found.group() if found.group().endswith(known) else found.group(1) + "(set)", body))


def _key(given, one_api_dir):
    """The key that FastGPT shows to one-api: as given, else from the folder that role one_api made."""
    if given is not None and not _PLAIN_KEY.match(given):
        raise LocalModelsError("The key of one-api holds characters that no key of one-api has", "Give a token of one-api, such as sk-...")
    if given is None and one_api_dir and dotenv_value(one_api_dir, _one_api_place.CLIENT_KEY):
        return _one_api_place.client_key(one_api_dir).value
    return given


def outlines(docker, problem):
    """[{path, text, said}] of the project's files without their values, for a problem that has a place to be told.

    problem: BrokenProject, told by compose's words, or NoSuchService, told by the key `services`.
    """
    said = getattr(problem, "said", "services.none") if isinstance(problem, (BrokenProject, _project.NoSuchService)) else ""
    if not said:
        return []
    separator = dotenv_value(docker.project_dir, "COMPOSE_PATH_SEPARATOR") or ":"
    listed = [name.strip() for name in dotenv_value(docker.project_dir, "COMPOSE_FILE").split(separator) if name.strip()]
    names = listed or list(DEFAULT_FILES + _compose_files.OVERRIDE_FILES)
    texts = [(os.path.join(docker.project_dir, name), read(os.path.join(docker.project_dir, name))) for name in names]
    return [{"path": path, "text": outline(text.decode("utf-8", "replace")), "said": said}
            for path, text in texts if text is not None]
