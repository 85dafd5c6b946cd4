# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A play that dies at any step: nothing of the operator's is lost, and the next one ends where an undisturbed one would.

A step is each call that changes a file or a folder, and each call of docker; the play dies before it, after it, or, where docker
brings up several containers, between them.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose_files, _compose_wait
from ansible_collections.localmodels.fastgpt.plugins.module_utils._backup import Backup
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import reverted
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_restore import Restoring
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_compose_apply import OVERRIDE, Clock, files
from test_compose_strategies import MAIN, WAYS, FileEngine, connect

pytestmark = pytest.mark.thorough
# As much as is needed to be FastGPT: every file is read many times here.
TEXT = b"""\
services:
  fastgpt:
    image: ghcr.io/labring/fastgpt:v4.9.14 # \xe9\x98\xbf\xe9\x87\x8c\xe4\xba\x91
    networks:
      - fastgpt
    environment:
      - MONGODB_URI=mongodb://myusername:mypassword@mongo:27017/fastgpt
      - DEFAULT_ROOT_PSW=1234\r
      - AIPROXY_API_ENDPOINT=http://aiproxy:3000
      - AIPROXY_API_TOKEN=aiproxy
  aiproxy:
    image: ghcr.io/labring/aiproxy:v0.1.7
    networks: [fastgpt]
    environment:
      - ADMIN_KEY=aiproxy
      - SQL_DSN=postgres://postgres:aiproxy@aiproxy_pg:5432/aiproxy
networks:
  fastgpt:"""
STEPS = ("rename", "unlink", "rmdir", "mkdir", "chmod", "chown", "fsync")
NONE_OF_HIS = {}
OVERRIDE_OF_HIS = {OVERRIDE: b"services: {}\r\n", ".env": b"PASSWORD='x#y'\r\nLAST=1"}
LISTED_BY_HIM = {"mine.yml": b"services: {fastgpt: {environment: {A: b}}}\n", ".env": b"COMPOSE_FILE=docker-compose.yml:mine.yml\n"}


class Death(BaseException):
    """kill -9: nobody cleans up."""


class Reaper:
    """Counts steps, and kills at one of them: `left` (int) steps may be taken before, None for all."""

    def __init__(self, patch):
        self.left, self.dead, self.steps = None, False, 0
        for name in STEPS:
            patch.setattr(os, name, self._deadly(getattr(os, name) if name != "fsync" else lambda handle: None))

    def _deadly(self, function):
        def call(*arguments, **options):
            self.step()
            found = function(*arguments, **options)
            self.step()
            return found
        return call

    def step(self):
        if self.dead or self.left == 0:
            self.dead = True
            raise Death
        self.steps += 1
        if self.left is not None:
            self.left -= 1

    @contextlib.contextmanager
    def at(self, left):
        """Kill after so many steps; gives a list that tells afterwards whether it came to that."""
        self.left, self.steps, came = left, 0, []
        try:
            yield came
        except Death:
            came.append(True)
        finally:
            self.left, self.dead = None, False


class MortalEngine(FileEngine):
    """An engine whose caller may die before a call, after it, and between two containers."""

    reaper = None

    def recover(self):
        """What was sick is well, wherever it is."""
        self.sick_in = None
        for one in self.made.values():
            one["State"]["Health"]["Status"] = "healthy"

    def __call__(self, arguments, cwd=None, env=None):
        if not self.reaper:
            return super().__call__(arguments, cwd, env)
        self.reaper.step()
        found = super().__call__(arguments, cwd, env)
        self.reaper.step()
        return found

    def up(self, *services):
        for service in services:
            super().up(service)
            if self.reaper:
                self.reaper.step()


@contextlib.contextmanager
def world(his=None):
    """An engine with the operator's project up, and the reaper that stands behind it."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        folder = pathlib.Path(place, "fastgpt")
        for made in (folder, pathlib.Path(place, "one-api"), pathlib.Path(place, "tmp")):
            made.mkdir()
        pathlib.Path(place, "one-api", ".env").write_text("ONE_API_CLIENT_KEY=very0Secret\n")
        for name, raw in dict({MAIN: TEXT}, **(his or {})).items():
            (folder / name).write_bytes(raw)
        patch.setattr(tempfile, "tempdir", str(pathlib.Path(place, "tmp")))
        patch.setattr(_compose_wait, "_silent", lambda *dummy: None)
        engine = MortalEngine(str(folder), ("fastgpt", "aiproxy"))
        engine.reaper = Reaper(patch)
        yield engine


def outcome(engine):
    """What counts in the end: files, what runs, and that nobody has to come back."""
    return files(engine), {name: one["wanted"] for name, one in engine.made.items()}, Backup(engine.folder).unfinished()


def assert_nothing_lost(engine, his):
    """Each file of the operator's is there, and without our lines it is his to the byte."""
    found = files(engine)
    assert reverted(found[MAIN].decode()).encode() == TEXT
    for name, raw in his.items():
        text = found[name].decode()
        assert (_compose_files.parted_dotenv(text) if name == ".env" else reverted(text)).encode() == raw, name


def assert_nothing_left_over(engine, changed=True):
    """Where a play died before it changed anything and the next one has nothing to do, our own folder is swept at the next change."""
    place = pathlib.Path(engine.folder)
    assert [path.name for path in place.iterdir() if path.name.startswith(".localmodels-")] == []
    left = {path.name for path in (place / ".localmodels").iterdir()} - {".gitignore", "backups"}
    assert not left if changed else "undo" not in left


def restored(engine, number="newest"):
    found = Restoring(Docker(engine, engine.folder), number)
    if found.changed():
        found.apply(10, 5, Clock())
        return True
    return False


def steps_of(play, *before, his=None):
    """How many steps a play takes, and the outcome of it undisturbed."""
    with world(his) as engine:
        for one in before:
            one(engine)
        with engine.reaper.at(None):
            play(engine)
        return engine.reaper.steps, outcome(engine)


def way(path, strategy):
    return lambda engine: connect(engine, path, strategy)


@pytest.mark.parametrize(("first", "second", "his"), [
    (("aiproxy", "override"), ("direct", "in_place"), NONE_OF_HIS),
    (("one_api", "in_place"), ("aiproxy", "override"), OVERRIDE_OF_HIS),
    (("direct", "override"), ("one_api", "override"), LISTED_BY_HIM),
])
def test_dying_at_every_single_step(first, second, his):
    count, wanted = steps_of(way(*second), way(*first), his=his)
    assert count > 50
    for step in range(count):
        with world(his) as engine:
            connect(engine, *first)
            with engine.reaper.at(step) as died:
                connect(engine, *second)
            assert died
            assert_nothing_lost(engine, his)
            connect(engine, *second)
            assert outcome(engine) == wanted, step
            assert_nothing_left_over(engine)
            assert not connect(engine, *second)


@settings(max_examples=50, phases=[Phase.reuse, Phase.generate])  # a smaller example is not worth minutes
@given(st.sampled_from(WAYS), st.sampled_from(WAYS), st.sampled_from(WAYS), st.sampled_from([NONE_OF_HIS, OVERRIDE_OF_HIS, LISTED_BY_HIM]),
       st.lists(st.integers(0, 150), min_size=1, max_size=3), st.booleans())
def test_dying_again_and_again_with_the_mind_changed_between(first, second, third, his, steps, failing):
    """Plays that die in a row, wanting now this and now that; one of them may be in its roll-back."""
    dummy, wanted = steps_of(way(*third), his=his)
    with world(his) as engine:
        connect(engine, *first)
        engine.sick_in = "ollama" if failing else None
        for number, step in enumerate(steps):
            with engine.reaper.at(step), contextlib.suppress(LocalModelsError):
                connect(engine, *(second, third)[number % 2])
            assert_nothing_lost(engine, his)
        engine.recover()
        changed = connect(engine, *third)
        assert outcome(engine) == wanted
        assert_nothing_left_over(engine, changed)
        assert not connect(engine, *third)


def test_dying_at_every_step_of_a_roll_back():
    def failing(engine):
        engine.sick_in = "ollama"
        with contextlib.suppress(LocalModelsError):
            connect(engine, "aiproxy", "in_place")
        engine.recover()
    first = way("one_api", "override")
    count, before = steps_of(failing, first)
    assert count > 100
    for step in range(count):
        with world() as engine:
            first(engine)
            with engine.reaper.at(step) as died:
                failing(engine)
            assert died
            assert_nothing_lost(engine, {})
            engine.recover()
            changed = first(engine)
            assert outcome(engine) == before, step
            assert_nothing_left_over(engine, changed)


@pytest.mark.parametrize("number", ["newest", "1"])
def test_dying_at_every_step_of_bringing_a_backup_back(number):
    plays = way("aiproxy", "override"), way("direct", "in_place")
    count, wanted = steps_of(lambda engine: restored(engine, number), *plays)
    assert count > 40
    for step in range(count):
        with world() as engine:
            for one in plays:
                one(engine)
            with engine.reaper.at(step) as died:
                restored(engine, number)
            assert died
            assert_nothing_lost(engine, {})
            restored(engine, number)
            assert outcome(engine) == wanted, step
            assert_nothing_left_over(engine)
            assert not restored(engine, number)
