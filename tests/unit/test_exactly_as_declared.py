# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a server holds and runs, and whatever is declared: afterwards it is so, check mode had said it, and a second run does nothing.

All of the way from the list to the server, with every state, models made from others, pins, and exclusive; only the wire is left out.
"""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _apply, _plan, _prepare, _prune, _registry, _report, _store
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._progress import Progress
from ansible_collections.localmodels.fastgpt.tests.unit.fake_ollama import FakeOllama, FakeStore, content
from hypothesis import assume, given, settings
from hypothesis import strategies as st

PULLED = ["a", "A:latest", "library/b", "registry.ollama.ai/library/b:latest", "c:v1", "hf.co/u/r:Q4_K_M"]
MADE = ["mine", "deputy"]
NUMBERS = st.integers(0, 3)


@st.composite
def servers(draw):
    server = FakeOllama({ModelName.parse(name).key: draw(NUMBERS) for name in PULLED + MADE})
    for name in draw(st.lists(st.sampled_from(PULLED + ["Stray:V1", "house-1"]), unique=True)):
        server.hold(name, draw(NUMBERS))
    for name in draw(st.lists(st.sampled_from(MADE), unique=True)):
        bases = sorted(one.short for one in server.held)
        if bases:
            server.create(name, {"from": draw(st.sampled_from(bases)), "system": draw(st.sampled_from(["", "Be kind"]))})
    for name in sorted(server.held, key=lambda one: one.key):
        if draw(st.booleans()):
            server.load(name.short, draw(st.sampled_from([-1, "5m"])))
    server.writes = []
    return server


@st.composite
def items(draw, server):
    name = draw(st.sampled_from(PULLED + MADE))
    item = {"name": name, "state": draw(st.sampled_from(_plan.STATES))}
    if name in MADE:
        item.update({"from": draw(st.sampled_from(PULLED[:4] + [one for one in MADE if one != name])),
                     "system": draw(st.sampled_from(["", "Be kind", "Be terse"]))})
    elif item["state"] not in ("absent", "latest") and draw(st.booleans()):
        item["digest"] = content(server.registry[ModelName.parse(name).key]).digest
    if item["state"] == "loaded":
        item["keep_alive"] = draw(st.sampled_from([-1, "10m"]))
    return item


@st.composite
def cases(draw):
    server = draw(servers())
    models = draw(st.lists(items(server), max_size=6))
    try:
        wanted = _plan.read_wanted(models)
    except LocalModelsError:
        assume(False)  # a list that contradicts itself
    exclusive = draw(st.sampled_from([None, _prepare.Exclusive(["house-*"], allow_empty=True)]))
    return server, models, wanted, exclusive, draw(st.booleans())


@pytest.fixture(scope="module")
def world():
    """Registry and store of the server that is looked at."""
    patch, now = pytest.MonkeyPatch(), {}

    def read_all(wanted, version="", timeout=10):
        return {one.name.key: content(now["server"].registry[one.name.key]) for one in wanted}, {}

    patch.setattr(_registry, "read_all", read_all)
    patch.setattr(_store, "find", lambda host, found: FakeStore(now["server"]) if now["readable"] else None)
    patch.setattr(_store, "of_process", lambda url, found: None)
    patch.setattr(_store, "elsewhere", lambda name, store: "")
    yield now
    patch.undo()


def prepared_for(server, models, exclusive):
    try:
        return _prepare.prepare(server, _plan.read_wanted(models), exclusive=exclusive)
    except LocalModelsError as refused:
        assert "both have the same weights" in str(refused)
        assume(False)  # one of them loaded and the other not


def plain(report):
    """A report without what nobody knows before."""
    return [(one["name"], one["action"], one["bytes"]) for one in report["models"]], report["changed"]


@pytest.mark.thorough
@settings(max_examples=250, deadline=None, report_multiple_bugs=False)
@given(cases())
def test_it_becomes_as_declared_as_announced_and_then_nothing_is_left_to_do(world, case):
    server, models, wanted, exclusive, world["readable"] = case
    world["server"] = server
    before = {name: one["digest"] for name, one in server.held.items()}
    prepared = prepared_for(server, models, exclusive)
    assert server.writes == [], "looking changes nothing"
    announced = _report.report(*_report.planned(prepared), check=True)
    job = _apply.Run(server, prepared, Progress(None, 1), sleep=lambda seconds: None)
    job.carry_out()
    done = _report.report(job.outcomes, job.found)
    assert not [one["msg"] for one in done["models"] if "msg" in one]
    check_what_is_there(server, wanted, exclusive, before)
    check_what_was_announced(announced, done)

    server.writes = []
    server.forget_the_old()
    prepared = prepared_for(server, models, exclusive)
    assert _report.report(*_report.planned(prepared), check=True)["actions"] == []
    job = _apply.Run(server, prepared, Progress(None, 1), sleep=lambda seconds: None)
    job.carry_out()
    assert server.writes == [] and _report.report(job.outcomes, job.found)["changed"] is False


def check_what_is_there(server, wanted, exclusive, before):
    declared = {one.name for one in wanted}
    for one in wanted:
        assert (one.name in server.held) == (one.state != "absent")
        if one.state == "absent":
            continue
        if one.state == "latest" and not one.recipe or one.digest:
            assert server.held[one.name]["digest"] == content(server.registry[one.name.key]).digest
        if one.recipe:
            base = server.held[one.recipe.base]
            assert server.held[one.name]["weights"] == base["weights"]
            assert server.held[one.name]["system"] == (one.recipe.system or base["system"])
        if one.state in ("loaded", "unloaded"):
            assert server.is_loaded(one.name.short) == (one.state == "loaded")
        if one.state == "loaded" and one.keep_alive == -1:
            assert server.memory[server.held[one.name]["weights"]]["expires_at"].startswith("2319")
    protected = _prune.protection(exclusive.protect if exclusive else ["*"])
    for name, digest in before.items():
        if name not in declared:
            assert (name in server.held) == protected(name)
            assert name not in server.held or server.held[name]["digest"] == digest


def check_what_was_announced(announced, done):
    said, was = plain(announced), plain(done)
    for (name, action, size), (other, real, really) in zip(said[0], was[0]):
        # Making it again may give what was there: then nothing had to be said.
        assert name == other and (action == real or action == "recreate" and real in ("none", "load", "unload"))
        assert size == really
    assert len(said[0]) == len(was[0])
    assert said[1] >= was[1]
    if not any(action == "recreate" for dummy, action, dummy2 in said[0]):
        assert said == was and len(announced["actions"]) == len(done["actions"])
