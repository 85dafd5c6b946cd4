# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F811  # a fixture that comes from another file
"""Models made from others, models nobody declared, models in memory: in the right order, with the server of test_apply."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _prepare, _registry, _report
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Unreachable
from ansible_collections.localmodels.fastgpt.tests.unit.test_apply import NEW, OLD, Server, by_name, failing, registry, run  # noqa: F401


MINE = {"name": "mine", "from": "base", "system": "Be kind"}


def test_a_base_is_pulled_and_then_what_is_made_from_it_and_a_second_run_only_looks(registry, tmp_path):
    server = Server()
    report = run(server, [MINE], tmp_path)[1]
    assert server.done == ["list", "pull base:latest", "create mine:latest", "list"]
    assert report["changed"] and report["actions"] == ["Pulled base:latest, 100 B in 0 s", "Created mine:latest"]
    server.done = []
    report = run(server, [MINE], tmp_path)[1]
    assert (server.done[0], sorted(server.done[1:])) == ("list", ["show base:latest", "show mine:latest"])
    assert not report["changed"] and report["actions"] == []


def test_a_base_is_named_as_the_server_spells_it(registry, tmp_path):
    server, asked = Server({"Base:latest": OLD}), []
    server.create = lambda name, request: asked.append(request["from"])
    run(server, [MINE], tmp_path)
    assert asked == ["Base:latest"]


def test_what_differs_is_made_anew(registry, tmp_path):
    server = Server({"base:latest": OLD, "mine:latest": OLD})
    report = run(server, [MINE], tmp_path)[1]
    assert server.done[-2:] == ["create mine:latest", "list"] and report["actions"] == ["Created mine:latest anew"]


def test_the_same_digest_after_a_creation_is_no_change(registry, tmp_path):
    server = Server({"base:latest": OLD, "mine:latest": NEW})
    report = run(server, [MINE], tmp_path)[1]
    assert "create mine:latest" in server.done and not report["changed"] and by_name(report)["mine:latest"]["action"] == "none"


def test_what_is_made_from_a_model_that_failed_is_not_tried(registry, tmp_path):
    server = Server({}, {"base:latest": [failing("pull model manifest: 403: denied")]})
    job, report, dummy = run(server, [MINE, "z"], tmp_path)
    assert server.done == ["list", "pull base:latest", "pull z:latest", "list"]
    assert "it is made from base:latest, which failed" in by_name(report)["mine:latest"]["msg"]
    assert "2 of 3 models failed" in str(_report.failure(job.outcomes))


def test_a_base_of_which_only_a_pull_can_tell_is_pulled_and_then_looked_at(registry, tmp_path):
    registry["base:latest"] = _registry.Unreadable("no way")
    held = {"base:latest": OLD, "mine:latest": OLD}
    server = Server(held, {"base:latest": [OLD]})
    server.systems["mine:latest"] = "Be kind"
    report = run(server, [dict(MINE, state="latest")], tmp_path)[1]
    assert server.done[3:] == ["pull base:latest"] + server.done[4:6] + ["list"] and "create" not in str(server.done)
    assert by_name(report)["mine:latest"]["action"] == "none" and not report["changed"]

    class Moved(Server):
        def pull(self, name, *rest):
            self.systems["base:latest"] = "moved"
            return super().pull(name, *rest)

    server, mine = Moved(held, {"base:latest": [NEW]}), {"name": "mine", "from": "base", "state": "latest"}
    report = run(server, [mine], tmp_path)[1]
    assert by_name(report)["mine:latest"]["action"] == "recreate" and server.systems["mine:latest"] == "moved"


def test_undeclared_models_go_last_and_are_unloaded_before(registry, tmp_path):
    server = Server({"stray:latest": OLD, "kept:latest": OLD})
    server.loaded.add("stray:latest")
    report = run(server, ["new"], tmp_path, exclusive=_prepare.Exclusive(["kept"]))[1]
    assert server.done == ["list", "pull new:latest", "list", "running", "unload stray:latest", "delete stray:latest", "list"]
    assert report["actions"][-1] == "Deleted stray:latest, which is not declared, 100 B" and by_name(report)["stray:latest"]["action"] == "prune"
    assert not run(server, ["new"], tmp_path, exclusive=_prepare.Exclusive(["kept"]))[1]["changed"]


@pytest.mark.parametrize("stays_away", [False, True])
def test_a_server_that_restarts_after_an_undeclared_model_went_is_waited_for(registry, tmp_path, stays_away):
    server = Server({"stray:latest": OLD, "new:latest": NEW})
    away, look = [Unreachable("Ollama", "http://h", "refuses the connection")], server.found

    def found():
        if "delete stray:latest" in server.done and away:
            raise away[0] if stays_away else away.pop()
        return look()

    server.found = found
    job, report, slept = run(server, ["new"], tmp_path, exclusive=_prepare.Exclusive())
    if stays_away:
        assert str(_report.failure(job.outcomes)).startswith("1 of 2 models failed: stray:latest may be as declared or not")
    else:
        assert report["changed"] and by_name(report)["stray:latest"]["action"] == "prune" and sum(slept) == 2


def test_nothing_undeclared_goes_when_something_failed(registry, tmp_path):
    server = Server({"stray:latest": OLD}, {"new:latest": [failing("pull model manifest: 403: denied")]})
    job, report, dummy = run(server, ["new"], tmp_path, exclusive=_prepare.Exclusive())
    assert "stray:latest" in server.held and "which is not declared, was kept" in by_name(report)["stray:latest"]["msg"]


def test_an_empty_list_deletes_nothing_unless_that_is_meant(registry, tmp_path):
    server = Server({"stray:latest": OLD})
    with pytest.raises(LocalModelsError):
        run(server, [], tmp_path, exclusive=_prepare.Exclusive())
    assert server.done == []
    run(server, [], tmp_path, exclusive=_prepare.Exclusive(allow_empty=True))
    assert server.held == {}


def test_memory_comes_last_and_what_goes_makes_room_first(registry, tmp_path):
    server = Server({"a:latest": OLD, "b:latest": NEW})
    server.loaded.add("b:latest")
    models = [{"name": "a", "state": "loaded", "keep_alive": "10m"}, {"name": "b", "state": "unloaded"}]
    report = run(server, models, tmp_path)[1]
    assert server.done[-2:] == ["unload b:latest", "load a:latest 10m"]
    assert report["changed"] and report["actions"] == ["Loaded a:latest", "Unloaded b:latest"]
    assert [one["action"] for one in report["models"]] == ["load", "unload"]
    server.done = []
    assert not run(server, models, tmp_path)[1]["changed"] and not [one for one in server.done if "load" in one.split()[0]]
