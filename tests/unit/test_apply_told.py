# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F811  # a fixture that comes from another file
"""What is told of a run: sentences while it goes on, seconds, bytes and rates at its end, one message for each model that failed; and that it
stops when nobody listens."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _apply, _notes, _prepare, _report
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Unreachable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import read_wanted
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull_causes import PullFailed, cause_of
from ansible_collections.localmodels.fastgpt.tests.unit.test_apply import (  # noqa: F401
    OLD, Manifest, Server, by_name, failing, registry)
from ansible_collections.localmodels.fastgpt.tests.unit.test_made import Server as FileServer
from ansible_collections.localmodels.fastgpt.tests.unit.test_made import gguf

MB = 1000 * 1000


class Slow(Server):
    """Each pull, deletion and load takes as long as `takes` says ({name: seconds}, 0 for others)."""

    now = 1000.0

    def __init__(self, held=(), troubles=None, **takes):
        super().__init__(held, troubles)
        self.takes = takes

    def clock(self):
        return self.now

    def wait(self, name):
        self.now += self.takes.get(name.partition(":")[0], 0)

    def pull(self, name, *rest):
        self.wait(name)
        return super().pull(name, *rest)

    def delete(self, name):
        self.wait(name)
        return super().delete(name)

    def load(self, name, keep_alive):
        self.wait(name)
        super().load(name, keep_alive)


class Listener:
    """A _progress.Progress that keeps what it is told. `gone`: whether nobody listens any more."""

    def __init__(self, gone=False):
        self.started, self.ended, self.said, self.closed, self.gone = [], [], [], False, gone
        self.moved = lambda layers, status: None

    def start(self, name, total):
        self.started.append((name, total))
        return self

    def end(self, name, sentence):
        self.ended.append((name, sentence))

    def say(self, sentence):
        self.said.append(sentence)

    def close(self):
        self.closed = True

    def abandoned(self):
        return self.gone


def run(server, models, tmp_path, listener=None, retries=0):
    prepared = _prepare.prepare(server, read_wanted(models), str(tmp_path))
    listener = listener or Listener()
    job = _apply.Run(server, prepared, listener, retries, 300, 1, lambda seconds: None, server.clock)
    job.carry_out()
    return job, _report.report(job.outcomes, job.found), listener


def sized(digest, size):
    return type("Manifest", (Manifest,), {"blobs": {digest: size}, "size": size})()


def test_each_model_has_its_seconds_and_all_together_theirs(registry, tmp_path):
    registry.update({"a:latest": sized("a", 90 * MB), "b:latest": sized("b", 30 * MB)})
    server = Slow({"old:latest": OLD, "warm:latest": OLD}, a=40, b=20, old=3, warm=7)
    models = ["a", "b", {"name": "old", "state": "absent"}, {"name": "warm", "state": "loaded"}]
    job, report, listener = run(server, models, tmp_path)
    assert {name: one["seconds"] for name, one in by_name(report).items()} == {"a:latest": 40, "b:latest": 20, "old:latest": 3, "warm:latest": 7}
    assert job.pulled == {"bytes": 120 * MB, "seconds": 60.0, "bytes_per_second": 2 * MB}
    assert listener.started == [("a:latest", 90 * MB), ("b:latest", 30 * MB)]
    assert listener.ended == [("a:latest", "Pulled a:latest, 90.0 MB in 40 s, 2.2 MB/s"), ("b:latest", "Pulled b:latest, 30.0 MB in 20 s, 1.5 MB/s")]
    assert listener.said == ["Pulled 2 models, 120.0 MB in 1 min 0 s, 2.0 MB/s"] and listener.closed


def test_one_pull_is_its_own_sum_and_a_quick_one_has_no_rate(registry, tmp_path):
    registry["a:latest"] = sized("a", 5 * MB)
    dummy, report, listener = run(Slow(), ["a"], tmp_path)
    assert (listener.ended, listener.said) == ([("a:latest", "Pulled a:latest, 5.0 MB in 0 s")], [])
    assert report["models"][0]["seconds"] == 0


def test_seconds_are_told_to_a_tenth(registry, tmp_path):
    job, report, dummy = run(Slow(a=1.2345), ["a"], tmp_path)
    assert report["models"][0]["seconds"] == job.pulled["seconds"] == 1.2
    assert run(Slow({"a:latest": OLD}), ["a"], tmp_path)[0].pulled == {"bytes": 0, "seconds": 0, "bytes_per_second": 0}


def test_what_was_there_already_has_no_rate(registry, tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "sha256-a").write_bytes(b"x" * 100)
    job, dummy, listener = run(Slow(a=10), ["a"], tmp_path)
    assert job.fetched == 0 and listener.ended == [("a:latest", "Pulled a:latest, 100 B in 10 s")]


def test_one_that_failed_is_told_of_when_it_fails_and_is_not_among_those_pulled(registry, tmp_path):
    registry.update({name + ":latest": sized(name, 10) for name in ("a", "bad", "b")})
    server = Slow(troubles={"bad:latest": [failing("no space left on device")]}, a=2, bad=2, b=2)
    job, dummy, listener = run(server, ["a", "bad", "b"], tmp_path)
    assert [name for name, dummy2 in listener.ended] == ["a:latest", "bad:latest", "b:latest"]
    assert listener.ended[1][1] == str(_report.failure(job.outcomes)).partition(": ")[2].replace(" The other 2 are as declared.", "")
    assert listener.said == ["Pulled 2 models, 20 B in 6 s, 3 B/s"]


def test_one_message_names_each_that_failed_once_and_counts_the_others(registry, tmp_path):
    away = Unreachable("Ollama", "http://h", "refuses the connection", "Start it")
    server = Slow({"kept:latest": OLD}, {"a:latest": [PullFailed("a:latest", cause_of("403: no"), "403: no")], "b:latest": [away]})
    job, report, dummy = run(server, ["a", "b", "kept", "c"], tmp_path)
    said = str(_report.failure(job.outcomes))
    assert said.startswith("2 of 4 models failed: a:latest could not be pulled: the registry does not let Ollama in (Ollama said: ")
    assert "b:latest could not be pulled: Ollama at http://h refuses the connection. Start it." in said
    assert said.count("a:latest") == said.count("b:latest") == 1, "what names the model is not named again"
    assert said.endswith("The other 2 are as declared.")
    assert [one["action"] for one in report["models"]] == ["failed", "failed", "none", "pull"] and report["changed"]


@pytest.mark.parametrize("models, said", [(["a"], "a:latest could"), (["a", "b"], "2 of 2 models failed: a:latest could")])
def test_where_all_failed_none_is_said_to_be_as_declared(registry, tmp_path, models, said):
    server = Slow(troubles={name + ":latest": [failing("403: denied")] for name in ("a", "b")})
    problem = str(_report.failure(run(server, models, tmp_path)[0].outcomes))
    assert problem.startswith(said) and "as declared" not in problem


def test_a_model_that_does_not_exist_takes_no_try_from_the_others_of_its_registry(registry, tmp_path):
    server = Slow(troubles={"a:latest": [failing("pull model manifest: 403: denied")], "b:latest": [failing("503: later"), OLD]})
    report = run(server, ["a", "b"], tmp_path, retries=1)[1]
    assert [one["action"] for one in report["models"]] == ["failed", "pull"]


def test_registries_are_in_trouble_one_by_one(registry, tmp_path):
    down = [failing("pull model manifest: 503: later")] * 2
    server = Slow(troubles={"a:latest": list(down), "r.example/lab/b:latest": [down[0], OLD]})
    report = run(server, ["a", "r.example/lab/b"], tmp_path, retries=1)[1]
    assert [one["action"] for one in report["models"]] == ["failed", "pull"]


def test_a_play_that_was_cancelled_stops_in_the_pause_before_the_next_try(registry, tmp_path):
    server, listener = Slow(troubles={"a:latest": [failing("503: later")]}), Listener(gone=True)
    with pytest.raises(Abandoned, match="nobody waits for it any more. Run again: it resumes"):
        run(server, ["a", "b"], tmp_path, listener, retries=3)
    assert [call for call in server.done if call.startswith("pull")] == ["pull a:latest"] and listener.closed


def test_a_cancelled_pull_starts_no_other_one(registry, tmp_path):
    server = Slow(troubles={"a:latest": [Abandoned("The pull of a was cancelled")]})
    with pytest.raises(Abandoned):
        run(server, ["a", "b"], tmp_path, Listener(), retries=3)
    assert [call for call in server.done if call.startswith("pull")] == ["pull a:latest"]


@pytest.mark.parametrize("models, broken, said", [
    ([{"name": "x", "from": "base"}], "create", "x:latest could not be created: trouble"),
    ([{"name": "x", "from": "base"}], "create", "x:latest could not be made: Ollama hangs up"),
    ([{"name": "base", "state": "loaded"}], "load", "base:latest could not be loaded: Ollama hangs up"),
    ([{"name": "base", "state": "loaded"}], "load", "base:latest could not be loaded: it needs more memory"),
    ([{"name": "base", "state": "unloaded"}], "unload", "base:latest could not be unloaded: Ollama hangs up"),
    ([{"name": "base", "state": "absent"}], "delete", "base:latest could not be deleted: disk trouble")])
def test_whatever_fails_is_told_of_its_model_and_the_others_go_on(registry, tmp_path, models, broken, said):
    server = Slow({"base:latest": OLD})
    server.loaded.add("base:latest") if broken == "unload" else None

    def fail(*dummy):
        raise LocalModelsError(said.partition(": ")[2] if "hangs up" in said or "disk" in said else said)

    setattr(server, broken, fail)
    job, report, dummy = run(server, models + ["other"], tmp_path)
    failed = [one for one in report["models"] if one["action"] == "failed"]
    assert [one["msg"] for one in failed] == [said + "."] and said in str(_report.failure(job.outcomes))
    assert by_name(report)["other:latest"]["action"] == "pull"


@pytest.mark.parametrize("models, step", [([{"name": "x", "from": "base"}], "create"), ([{"name": "base", "state": "absent"}], "delete")])
@pytest.mark.parametrize("breaks, retries, fails", [(2, 2, False), (2, 1, True)])
def test_a_server_that_restarts_is_waited_for_at_each_step(registry, tmp_path, models, step, breaks, retries, fails):
    server, slept = Slow({"base:latest": OLD}), []
    away, real = [Unreachable("Ollama", "http://h", "refuses the connection")] * breaks, getattr(server, step)

    def work(*arguments):
        if away:
            raise away.pop()
        return real(*arguments)

    setattr(server, step, work)
    prepared = _prepare.prepare(server, read_wanted(models), str(tmp_path))
    job = _apply.Run(server, prepared, Listener(), retries, sleep=slept.append)
    job.carry_out()
    report = _report.report(job.outcomes, job.found)
    assert [one["action"] for one in report["models"] if one["action"] != "none"] == ["failed" if fails else step]
    assert sum(slept) == (2 if fails else 2 + 4)
    assert str(_report.failure(job.outcomes) or "").count("Ollama at http://h refuses the connection") == fails


def test_a_model_that_failed_is_not_loaded(registry, tmp_path):
    server = Slow(troubles={"a:latest": [failing("403: denied")]})
    report = run(server, [{"name": "a", "state": "loaded"}], tmp_path)[1]
    assert [one for one in server.done if one.startswith("load")] == [] and report["models"][0]["action"] == "failed"


def test_what_is_loaded_is_asked_once_for_all_deletions(registry, tmp_path):
    server = Slow({"a:latest": OLD, "b:latest": OLD})
    server.loaded.add("b:latest")
    run(server, [{"name": "a", "state": "absent"}, {"name": "b", "state": "absent"}], tmp_path)
    assert server.done[1:-1] == ["running", "delete a:latest", "unload b:latest", "delete b:latest"]


def test_what_is_loaded_by_a_name_that_goes_is_unloaded_before_it_is_loaded_by_its_own(registry, tmp_path):
    server = Slow({"mine:latest": OLD, "stray:latest": OLD})
    server.loaded.add("stray:latest")
    run(server, [{"name": "mine", "state": "loaded"}, {"name": "stray", "state": "absent"}], tmp_path)
    assert server.done[-2:] == ["unload mine:latest", "load mine:latest -1"]


def test_of_two_with_the_same_weights_the_one_that_stays_for_ever_comes_last(registry, tmp_path):
    server = Slow({"base:latest": OLD, "mine:latest": OLD})
    models = [{"name": "base", "state": "loaded"}, {"name": "mine", "from": "base", "state": "loaded", "keep_alive": "10m"}]
    run(server, models, tmp_path)
    assert [one for one in server.done if one.startswith("load")] == ["load mine:latest 10m", "load base:latest -1"]


@pytest.mark.parametrize("cuts, said", [({1}, "Created house:latest, 2.0 kB in 0 s"), ({1, 2}, "house:latest could not be made: ")])
def test_an_upload_is_told_of_as_a_pull_is_and_each_byte_of_each_try_counts_for_its_rate(tmp_path, cuts, said):
    (tmp_path / "x.gguf").write_bytes(gguf(b"y" * 976))
    server, listener, notes = FileServer(), Listener(), _notes.Notes(str(tmp_path / "notes"))
    server.cuts = cuts
    wanted = read_wanted([{"name": "house", "from": str(tmp_path / "x.gguf")}])
    job = _apply.Run(server, _prepare.prepare(server, wanted, notes=notes), listener, 1, sleep=lambda seconds: None)
    job.carry_out()
    (name, sentence), = listener.ended
    assert name == "house:latest" and sentence.startswith(said) and len(listener.started) == 2
    assert job.outcomes[0].fetched == 2000, "what breaks has been sent as well"
