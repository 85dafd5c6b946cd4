# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One compose project, one path, one strategy, one kind of Ollama: what comes out, and whether it is right."""

from __future__ import annotations

import collections
import pathlib
import re

import engine  # first: it makes the collection importable
import judge
import yaml
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose, _compose_files, _compose_paths, _docker, _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_intents import differences, document, fulfilled
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_mask import masked
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import CannotEdit, reverted
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit import edited, edits
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit_files import shared_out
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit_read import Source, direct, target
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._yaml_place import place

PATHS = _compose_paths.PATHS
STRATEGIES = ("override", "in_place")
OLLAMAS = {
    "container": {"host": "box", "provider": "docker", "container": "ollama", "network": "ollama", "address": "", "port": 11434},
    "host": {"host": "box", "provider": "host", "container": "", "network": "", "address": "", "port": 11434, "listen": "0.0.0.0:11434"},
}
ONE_API = {"url": "http://one-api:3000", "network": "one-api", "key": "sk-of-the-corpus"}
OURS = "# localmodels.fastgpt:"

# verdict: `right`, `refused` or `WRONG`. reason: str. lines: how many of ours there are then. difference: sentence.
# files: {name: bytes} that stand in the project's folder then, those that are as before included; None where refused.
Outcome = collections.namedtuple("Outcome", "path strategy ollama verdict reason lines difference files")


class Project:
    """A compose project as somebody left it. files: {name: bytes} in the order compose merges them; folder: where they lie."""

    def __init__(self, compose, folder, files, dotenv=None):
        self.compose, self.folder, self.files, self.dotenv = compose, pathlib.Path(folder), files, dotenv
        self.problem, self.texts, self.config, self.facts = None, {}, None, None
        self.version, self.style = None, "?"
        try:
            self._read()
        except LocalModelsError as problem:
            self.problem = problem
        self.style = self._style()

    def tried(self, path, strategy, ollama):
        """Outcome. Never raises: what does is wrong."""
        try:
            return self._tried(path, strategy, ollama)
        except Exception as problem:  # a crash on a file never seen is what this looks for
            return Outcome(path, strategy, ollama, "WRONG", "%s: %s" % (type(problem).__name__, problem), 0, "", None)

    def intents(self, path, ollama):
        """List of Intent. Raises LocalModelsError."""
        if self.problem:
            raise self.problem
        one_api = None if self.facts["one_api"] else ONE_API
        return _compose_paths.wanted(self.facts, path, [OLLAMAS[ollama]], "box", one_api).intents

    def switched(self, ollama):
        """What is wrong with switching from each path to each other one and back, in the operator's own files: list of str."""
        results = {}
        for path in PATHS:
            try:
                results[path] = self._edited(self.intents(path, ollama), self.texts)
            except LocalModelsError:
                continue
        found = []
        for first, texts in results.items():
            if self._edited([], texts) != self.texts:
                found.append("%s is not taken back to the byte" % first)
            for second, expected in results.items():
                if self._edited(self.intents(second, ollama), texts) != expected:
                    found.append("%s after %s is not as %s alone" % (second, first, second))
        return found

    def _read(self):
        for name, raw in self.files.items():
            try:
                self.texts[name] = raw.decode("utf-8")
            except UnicodeDecodeError as problem:
                line = raw[:problem.start].count(b"\n") + 1
                raise CannotEdit("This file is not written in UTF-8", "Save it as UTF-8", line, 1, name) from problem
        try:
            own = [reverted(text).encode("utf-8") for text in self.texts.values()]
            self.config = self.compose.config(self.folder, own)
        except engine.Rejected as problem:
            raise self._broken(str(problem)) from problem
        try:
            project = _project.describe(self.config, [], str(self.folder))
            self.version = project.version
            self.facts = _compose_paths.facts(self.config, project)
        except LocalModelsError as problem:
            raise self._placed(problem, "services") from problem

    def _broken(self, said):
        """The refusal of files that compose itself does not take, with the place it means."""
        problem = _docker.broken_project(str(self.folder), said)
        for name, text in self.texts.items():
            where = place(text, said)
            if where:
                return CannotEdit(problem.what, problem.mend, where[0], where[1], name)
        return CannotEdit(problem.what, problem.mend, 1, 1, next(iter(self.texts)))

    def _placed(self, problem, *keys):
        """A refusal that is about the project, with the place in its files that it is about."""
        if isinstance(problem, CannotEdit):
            return problem
        for name, text in self.texts.items():
            try:
                line, column = Source(text).place_of(*keys)
            except CannotEdit:
                continue
            return CannotEdit(problem.what, problem.mend, line, column, name)
        return CannotEdit(problem.what, problem.mend, path=next(iter(self.texts)))

    def _tried(self, path, strategy, ollama):
        try:
            intents = self.intents(path, ollama)
            files = self._overridden(intents) if strategy == "override" else self._changed(intents)
        except LocalModelsError as problem:
            app = self.facts["apps"][0] if self.facts else ""
            problem = self._placed(problem, "services", app, "image")
            return Outcome(path, strategy, ollama, "refused", str(problem), 0, "", None)
        lines = sum(raw.count(OURS.encode()) for name, raw in files.items())
        if strategy == "override" and intents:
            lines = list(files.values())[-1].count(b"\n")
        try:
            after = self.compose.config(self.folder, [raw for name, raw in files.items()])
        except engine.Rejected as problem:
            return Outcome(path, strategy, ollama, "WRONG", "compose refuses the result: %s" % problem, lines, "", files)
        wrong = ["%s is %r instead of %r" % (key, is_, should) for key, (should, is_) in sorted(differences(fulfilled(self.config, intents), after).items())]
        wrong += judge.complaints(self.config, after, path, ollama)
        if strategy == "in_place":
            wrong += self._masked(intents)
        told = sentence(differences(self.config, after))
        return Outcome(path, strategy, ollama, "WRONG" if wrong else "right", "; ".join(wrong), lines, told, files)

    def _overridden(self, intents):
        files = dict(self.files)
        if intents:
            body = yaml.safe_dump(document(intents), sort_keys=False, default_flow_style=False)
            place_of_ours = _compose_files.FREE_PLACE if len(files) == 1 else _compose_files.OWN_PLACE
            files[place_of_ours] = _compose.with_header(body).encode("utf-8")
        return files

    def _changed(self, intents):
        return {name: text.encode("utf-8") for name, text in self._edited(intents, self.texts).items()}

    @staticmethod
    def _edited(intents, texts):
        own = {name: reverted(text) for name, text in texts.items()}
        parts = shared_out(own, intents)
        return {name: edited(text, parts.get(name, []), name) for name, text in texts.items()}

    def _masked(self, intents):
        """The controller plans on a text without values: it must come to the same edits."""
        own = {name: reverted(text) for name, text in self.texts.items()}
        hidden = {name: masked(text, ["ollama", "one-api"]) for name, text in own.items()}
        parts = shared_out(own, intents)
        try:
            same = parts == shared_out(hidden, intents) and all(edits(own[name], part) == edits(hidden[name], part) for name, part in parts.items())
        except CannotEdit as problem:
            return ["the masked text is refused: %s" % problem]
        return [] if same else ["the masked text gives other edits"]

    def _style(self):
        """How the variables of FastGPT are written: list, map, map with merge keys, in brackets."""
        if not self.facts:
            return "?"
        for text in self.texts.values():
            try:
                services = direct(Source(text).root)["services"][1]
                found = direct(direct(services)[self.facts["apps"][0]][1])["environment"][1]
            except (KeyError, AttributeError, CannotEdit):
                continue
            node = target(found)
            kind = "list" if isinstance(node, yaml.SequenceNode) else "map" if isinstance(node, yaml.MappingNode) else "none"
            merged = kind == "map" and any(target(key).value == "<<" for key, dummy in node.value)
            return kind + ("+anchors" if merged else "") + (" in brackets" if getattr(node, "flow_style", False) else "")
        return "none"


def sentence(found):
    """differences() in few words, without values, for they may be secrets."""
    short = [re.sub(r"^services\.", "", key).replace(".environment.", " ").replace(".networks.", " network ").replace(".extra_hosts.", " host ")
             for key in sorted(found)]
    return ", ".join(short) or "none"
