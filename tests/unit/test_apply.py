# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look, ask, check, do, look again: with a server that exists in memory only."""

from __future__ import annotations

import hashlib
import socket
import threading

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _apply, _prepare, _registry, _report
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Refused, Unreachable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found, read_wanted
from ansible_collections.localmodels.fastgpt.plugins.module_utils._progress import Progress
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned, Layers
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull_causes import PullFailed, cause_of

NEW, OLD = "e" * 64, "a" * 64


def failing(said):
    return PullFailed("x", cause_of(said), said)


class Server:
    """Models in memory. `troubles`: {short name: [what a pull meets, one after the other: an exception, or a digest]}."""

    def __init__(self, held=(), troubles=None):
        self.client = Client("http://ollama.lan:11434", "Ollama")  # elsewhere: what runs on this machine changes no test
        self.held = {name: (digest, 100) for name, digest in dict(held).items()}
        self.troubles = troubles or {}
        self.loaded, self.systems = set(), {}
        self.done = []

    def version(self):
        return "0.32.15"

    def found(self):
        self.done.append("list")
        return [Found(ModelName.parse(name), digest, size) for name, (digest, size) in self.held.items()]

    def running(self):
        self.done.append("running")
        return [{"name": name, "digest": self.held[name][0], "expires_at": "2319"} for name in self.loaded]

    def show(self, name):
        self.done.append("show " + name)
        weights = hashlib.sha256(("base:latest" if name == "mine:latest" else name).encode()).hexdigest()
        return {"system": self.systems.get(name, ""), "modelfile": "FROM /x/sha256-" + weights}

    def create(self, name, request):
        self.done.append("create " + name)
        if name in self.troubles:
            raise self.troubles[name].pop(0)
        self.systems[name] = request.get("system") or self.systems.get(request["from"], "")
        self.held[name] = (NEW, 100)

    def load(self, name, keep_alive):
        self.done.append("load %s %s" % (name, keep_alive))
        self.loaded.add(name)

    def unload(self, name):
        self.done.append("unload " + name)
        self.loaded.discard(name)

    def delete(self, name):
        self.done.append("delete " + name)
        return self.held.pop(name, None) is not None

    def pull(self, name, insecure, on_progress, stall_timeout, abandoned):
        self.done.append("pull " + name)
        trouble = (self.troubles.get(name) or [NEW]).pop(0)
        if isinstance(trouble, Exception):
            raise trouble
        layers = Layers()
        layers.take({"digest": "sha256:a", "total": 100, "completed": 100})
        on_progress(layers, "success")
        self.held[name] = (trouble, 0 if trouble == "bogus" else 100)
        return layers


class Manifest:
    digest, digests, size, blobs, weights, layers = NEW, {NEW}, 100, {"sha256:a": 100}, "", ()

    def is_the_same(self, found):
        return found.digest == NEW


@pytest.fixture()
def registry(monkeypatch):
    """What the registry answers: {short name: Manifest or problem}; a Manifest for all others."""
    answers = {}

    def read(name, insecure=False, version="", timeout=10):
        answer = answers.get(name.short, Manifest())
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(_registry, "read", read)
    return answers


def run(server, models, tmp_path, retries=3, exclusive=None, at_once=1):
    wanted = read_wanted(models)
    prepared = _prepare.prepare(server, wanted, str(tmp_path), exclusive=exclusive)
    slept = []
    warned = []
    job = _apply.Run(server, prepared, Progress(None, 1), retries, 300, at_once, slept.append, warn=warned.append)
    job.carry_out()
    job.warned = warned
    return job, _report.report(job.outcomes, job.found), slept


def by_name(report):
    return {one["name"]: one for one in report["models"]}


def test_nothing_to_do_asks_nobody_but_the_server_once(registry, tmp_path):
    registry["x:latest"] = AssertionError("the registry was asked")
    server = Server({"x:latest": OLD})
    dummy, report, dummy2 = run(server, ["x", {"name": "y", "state": "absent"}], tmp_path)
    assert server.done == ["list"]
    assert report == {"changed": False, "actions": [], "models": [
        {"name": "x:latest", "state": "present", "action": "none", "digest_before": OLD, "digest_after": OLD, "bytes": 0, "seconds": 0.0},
        {"name": "y:latest", "state": "absent", "action": "none", "digest_before": None, "digest_after": None, "bytes": 0, "seconds": 0.0}]}


def test_everything_at_once_in_the_right_order(registry, tmp_path):
    server = Server({"old:latest": OLD, "stale:latest": OLD, "fresh:latest": NEW})
    models = ["new", {"name": "stale", "state": "latest"}, {"name": "fresh", "state": "latest"}, {"name": "old", "state": "absent"}]
    dummy, report, dummy2 = run(server, models, tmp_path)
    assert server.done == ["list", "running", "delete old:latest", "pull new:latest", "pull stale:latest", "list"]
    assert report["changed"] is True
    assert report["actions"] == ["Deleted old:latest", "Pulled new:latest, 100 B in 0 s", "Pulled the newer stale:latest, 100 B in 0 s"]
    assert [one["action"] for one in report["models"]] == ["delete", "pull", "update", "none"]


def test_check_mode_says_what_the_real_run_then_does(registry, tmp_path):
    models = ["new", {"name": "stale", "state": "latest"}, {"name": "old", "state": "absent"}]
    held = {"old:latest": OLD, "stale:latest": OLD}
    prepared = _prepare.prepare(Server(held), read_wanted(models), str(tmp_path))
    planned = _report.report(*_report.planned(prepared), check=True)
    real = run(Server(held), models, tmp_path)[1]
    assert planned["models"] == real["models"] and planned["changed"] == real["changed"]
    assert planned["actions"] == ["Delete old:latest", "Pull new:latest (100 B)", "Pull the newer stale:latest (100 B)"]


@pytest.mark.parametrize("problem, said", [
    (_registry.Unknown("no"), "registry.ollama.ai has no model qwen2.5:05b. Probably qwen2.5:0.5b is meant; nothing was changed."),
    (_registry.Unfit("It is no model", "Ask the proxy"), "It is no model. Ask the proxy; nothing was changed."),
])
def test_what_cannot_be_had_is_found_out_before_anything_changes(registry, tmp_path, problem, said):
    registry["qwen2.5:05b"] = problem
    server = Server({"old:latest": OLD})
    with pytest.raises(LocalModelsError) as caught:
        run(server, ["good", "qwen2.5:05b", {"name": "old", "state": "absent"}], tmp_path)
    assert str(caught.value) == said
    assert server.done == ["list"]


def test_several_that_cannot_be_had_are_all_named(registry, tmp_path):
    registry.update({"zzzzzz:latest": _registry.Unknown("no"), "yyyyyy:latest": _registry.Unfit("bad")})
    with pytest.raises(LocalModelsError) as caught:
        run(Server(), ["zzzzzz", "yyyyyy", "fine"], tmp_path)
    assert "2 of the declared models cannot be had" in str(caught.value) and "no model zzzzzz:latest" in str(caught.value)


def test_a_disk_too_small_is_found_out_before_the_first_byte(registry, tmp_path):
    huge = Manifest()
    huge.blobs, huge.size = {"sha256:h": 10 ** 18}, 10 ** 18
    registry["huge:latest"] = huge
    server = Server()
    with pytest.raises(LocalModelsError) as caught:
        run(server, ["small", "huge"], tmp_path)
    assert "are missing" in str(caught.value) and server.done == ["list"]


def test_a_registry_that_cannot_be_asked_is_a_warning_and_the_pull_decides(registry, tmp_path):
    registry["x:latest"] = _registry.Unreadable("The registry refuses the connection")
    server = Server()
    prepared = _prepare.prepare(server, read_wanted(["x"]), str(tmp_path))
    assert len(prepared.warnings) == 1 and "The registry refuses the connection" in prepared.warnings[0]
    _apply.Run(server, prepared, Progress(None, 1)).carry_out()
    assert "x:latest" in server.held


@pytest.mark.parametrize("now, action, changed", [(OLD, "none", False), (NEW, "update", True)])
def test_latest_without_an_answer_of_the_registry_is_decided_by_a_pull(registry, tmp_path, now, action, changed):
    registry["x:latest"] = _registry.Unreadable("no answer")
    server = Server({"x:latest": OLD}, {"x:latest": [now]})
    prepared = _prepare.prepare(server, read_wanted([{"name": "x", "state": "latest"}]), str(tmp_path))
    check = _report.report(*_report.planned(prepared), check=True)
    assert (check["models"][0]["action"], check["changed"]) == ("ask", False)
    dummy, report, dummy2 = run(server, [{"name": "x", "state": "latest"}], tmp_path)
    assert (report["models"][0]["action"], report["changed"]) == (action, changed)


def test_what_may_pass_is_tried_again_with_growing_pauses(registry, tmp_path):
    server = Server(troubles={"x:latest": [failing("pull model manifest: 503: busy"), failing("max retries exceeded: EOF"), NEW]})
    dummy, report, slept = run(server, ["x"], tmp_path)
    assert server.done.count("pull x:latest") == 3 and sum(slept) == 2 + 4
    assert report["models"][0]["action"] == "pull"


def test_a_server_that_restarts_in_between_is_waited_for(registry, tmp_path):
    away = Unreachable("Ollama", "http://127.0.0.1:11434", "refuses the connection")
    server = Server(troubles={"x:latest": [away, away, NEW]})
    assert run(server, ["x"], tmp_path)[1]["changed"] is True


@pytest.mark.parametrize("said, kind, passing", [
    ("429: slow down", "busy", True), ("503: later", "registry-broken", True), ("403: denied", "forbidden", False),
    ("open /m/blobs/sha256-a-partial-0: permission denied", "store-not-writable", False), ("read-only file system", "store-not-writable", False),
    ("digest mismatch, file must be downloaded again: want sha256:a, got sha256:b", "wrong-bytes", True),
    ("this model requires MLX support, but the MLX runtime is not available", "needs-mlx", False),
    ("ollama cloud is disabled: remote model is unavailable", "cloud-off", False), ("something new", "other", False),
    ('Get "http://r/v2/c1/m0/blobs/sha256:1f": context canceled', "interrupted", True)])
def test_what_a_registry_says_of_a_layer_has_its_cause_too(said, kind, passing):
    cause = cause_of(said)
    assert (cause.kind, cause.passing) == (kind, passing)


DEAD = 'Get "http://r/v2/c1/m0/blobs/sha256:1f": context canceled'


@pytest.mark.parametrize("met, retries, pulls, action", [
    ([DEAD, NEW], 0, 2, "pull"),                                                    # it is no try
    ([DEAD, DEAD, NEW], 0, 2, "failed"), ([DEAD, DEAD, DEAD, NEW], 1, 4, "pull"),   # once in a row
    (["max retries exceeded: EOF", DEAD, "max retries exceeded: EOF", NEW], 1, 3, "failed"),
    (["max retries exceeded: EOF", DEAD, DEAD, NEW], 1, 3, "failed"),
])
def test_a_pull_that_dies_with_the_one_before_says_nothing_of_the_registry(registry, tmp_path, met, retries, pulls, action):
    server = Server(troubles={"x:latest": [failing(one) if one != NEW else NEW for one in met]})
    job, report, dummy = run(server, ["x"], tmp_path, retries=retries)
    assert (server.done.count("pull x:latest"), report["models"][0]["action"]) == (pulls, action)
    if action == "failed" and met[0] != DEAD:
        assert "Ollama cannot reach the registry" in str(_report.failure(job.outcomes)), "the cause is not hidden by what followed from it"


@pytest.mark.parametrize("said", ["EOF", "unexpected EOF", "invalid character '\\x00' looking for beginning of value", "unexpected end of JSON input"])
@pytest.mark.parametrize("there", [True, False])
def test_a_note_that_ollama_cannot_read_is_dropped_where_it_can_be(registry, tmp_path, said, there):
    note = tmp_path / "blobs" / "sha256-a-partial-0"
    if there:
        note.parent.mkdir()
        note.write_bytes(b"")
    server = Server(troubles={"x:latest": [failing(said), NEW]})
    job, report, dummy = run(server, ["x"], tmp_path)
    assert report["models"][0]["action"] == ("pull" if there else "failed") and not note.exists()
    assert len(job.warned) == there
    if not there:
        assert server.done.count("pull x:latest") == 1
        assert "Delete the files *-partial-* in the folder blobs of its model store" in str(_report.failure(job.outcomes))


def test_a_store_that_may_not_be_changed_is_left_to_the_operator(registry, tmp_path, monkeypatch):
    def refuse(self, digests):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ansible_collections.localmodels.fastgpt.plugins.module_utils._store.Store.drop_unreadable_notes", refuse)
    job, report, dummy = run(Server(troubles={"x:latest": [failing("EOF"), NEW]}), ["x"], tmp_path)
    assert report["models"][0]["action"] == "failed" and not job.warned and "Delete the files" in str(_report.failure(job.outcomes))


def test_a_server_that_restarts_just_after_the_pull_is_asked_again(registry, tmp_path):
    server, away = Server(), [Unreachable("Ollama", "http://h", "refuses the connection"), Refused("Ollama", "http://h", "answered 503", status=503)]
    look = server.found

    def found():
        if "pull x:latest" in server.done and away:
            raise away.pop()
        return look()

    server.found = found
    dummy, report, slept = run(server, ["x"], tmp_path)
    assert report["models"][0]["action"] == "pull" and sum(slept) == 2 + 4 and not away


def test_a_server_that_stays_away_after_the_pull_is_an_error(registry, tmp_path):
    server = Server()
    look = server.found

    def found():
        if "pull x:latest" in server.done:
            raise Unreachable("Ollama", "http://h", "refuses the connection")
        return look()

    server.found = found
    job, report, dummy = run(server, ["x"], tmp_path, retries=1)
    assert report["models"][0]["action"] == "failed" and report["changed"] is False
    assert str(_report.failure(job.outcomes)).startswith("x:latest may be as declared or not: Ollama at http://h refuses the connection")


@pytest.mark.parametrize("trouble", [failing("write x-partial: no space left on device"), failing("pull model manifest: 412: requires a newer version"),
                                     Refused("Ollama", "http://h", "answered 403: an empty body", status=403)])
def test_what_will_not_pass_is_not_tried_again(registry, tmp_path, trouble):
    server = Server(troubles={"x:latest": [trouble]})
    job, report, slept = run(server, ["x"], tmp_path)
    assert server.done.count("pull x:latest") == 1 and not slept
    assert report["models"][0]["action"] == "failed" and report["changed"] is False
    said = str(_report.failure(job.outcomes))
    assert said.startswith("x") and said.endswith(str(trouble))


def test_one_failure_does_not_keep_the_others_from_being_pulled(registry, tmp_path):
    server = Server(troubles={"bad:latest": [failing("pull model manifest: file does not exist")], "worse:latest": [failing("no space left on device")]})
    job, report, dummy = run(server, ["bad", "good", "worse"], tmp_path)
    assert {name: one["action"] for name, one in by_name(report).items()} == {
        "bad:latest": "failed", "good:latest": "pull", "worse:latest": "failed"}
    assert report["changed"] is True and "msg" in by_name(report)["bad:latest"]
    said = str(_report.failure(job.outcomes))
    assert said.startswith("2 of 3 models failed: ") and "the registry has no such model" in said and "disk of the model store is full" in said
    assert said.endswith("The other 1 is as declared.")


@pytest.mark.parametrize("wish, pause", [(7, 7), (0, 0), (0.2, 1), (86400, _apply.LONGEST_WISH)])
def test_a_server_that_says_when_it_wants_to_be_asked_again(registry, tmp_path, wish, pause):
    busy = Refused("Ollama", "http://h", "answered 503: busy", status=503)
    busy.retry_after = wish
    server = Server(troubles={"x:latest": [busy, NEW]})
    dummy, report, slept = run(server, ["x"], tmp_path)
    assert sum(slept) == pause and report["models"][0]["action"] == "pull"


def test_models_are_pulled_at_the_same_time_unless_they_share_a_layer(registry, tmp_path):
    for name, blobs in (("a", {"sha256:a": 1}), ("b", {"sha256:b": 1}), ("c", {"sha256:a": 1})):
        registry[name + ":latest"] = type("Manifest", (Manifest,), {"blobs": blobs})()
    registry["unknown:latest"] = _registry.Unreadable("no answer")
    meet = threading.Barrier(2, timeout=10)
    running, together = set(), set()

    class Waiting(Server):
        def pull(self, name, *arguments):
            running.add(name)
            if name in ("a:latest", "b:latest"):
                meet.wait()
            together.add(frozenset(running))
            try:
                return super().pull(name, *arguments)
            finally:
                running.discard(name)

    report = run(Waiting(), ["a", "c", "unknown", "b"], tmp_path, at_once=4)[1]
    assert [one["action"] for one in report["models"]] == ["pull"] * 4
    assert [one["name"] for one in report["models"]] == ["a:latest", "c:latest", "unknown:latest", "b:latest"], "as declared, not as they ended"
    assert not [names for names in together if {"a:latest", "c:latest"} <= names or "unknown:latest" in names and len(names) > 1]


def test_all_pulls_together_are_summed_up(registry, tmp_path):
    registry["b:latest"] = type("Manifest", (Manifest,), {"blobs": {"sha256:b": 1}})()
    prepared = _prepare.prepare(Server(), read_wanted(["a", "b"]), str(tmp_path))
    said = []
    progress = Progress(None, 2)
    progress.say = said.append
    job = _apply.Run(Server(), prepared, progress, clock=lambda: 0.0)
    job.carry_out()
    assert _apply._together(3, 90 * 10 ** 6, 45) == "Pulled 3 models, 90.0 MB in 45 s, 2.0 MB/s"
    assert said[-1] == "Pulled 2 models, 101 B in 0 s" and job.fetched == 101


def test_after_a_broken_pull_the_next_one_of_the_same_layer_waits_until_the_server_has_ended_it(registry, tmp_path):
    broken = {"a:latest": [failing("pull model manifest: file does not exist")]}
    assert sum(run(Server(troubles=dict(broken)), ["a", "b"], tmp_path)[2]) == _apply.SETTLING
    registry["b:latest"] = type("Manifest", (Manifest,), {"blobs": {"sha256:b": 1}})()
    assert run(Server(troubles={"a:latest": [failing("file does not exist")]}), ["a", "b"], tmp_path)[2] == [], "they share nothing"


def test_a_registry_that_is_down_costs_its_pauses_once(registry, tmp_path):
    down = "pull model manifest: Get \"https://r/v2\": dial tcp: connection refused"
    server = Server(troubles={name + ":latest": [failing(down)] * 9 for name in ("a", "b", "c")})
    dummy, dummy2, slept = run(server, ["a", "b", "c"], tmp_path)
    assert [call for call in server.done if call.startswith("pull")] == ["pull a:latest"] * 4 + ["pull b:latest", "pull c:latest"]
    assert sum(slept) == 2 + 4 + 8 + 3 * _apply.SETTLING, "all three have the same layer"


def test_something_that_is_no_model_is_deleted_again(registry, tmp_path):
    registry["x:latest"] = _registry.Unreadable("no answer")
    server = Server(troubles={"x:latest": ["bogus"]})
    job, report, dummy = run(server, ["x"], tmp_path)
    assert "x:latest" not in server.held and report["changed"] is False
    assert "is no model, although Ollama reported success" in str(_report.failure(job.outcomes))


def test_a_success_that_left_no_model_is_a_failure(registry, tmp_path):
    class Liar(Server):
        def pull(self, name, *more):
            layers = super().pull(name, *more)
            del self.held[name]
            return layers

    job, report, dummy = run(Liar(), ["x"], tmp_path)
    assert _report.failure(job.outcomes) and report["changed"] is False


def test_a_pull_that_nobody_watches_ends_the_run(registry, tmp_path):
    server = Server(troubles={"x:latest": [Abandoned("nobody waits")]})
    with pytest.raises(Abandoned):
        run(server, ["x", "y"], tmp_path)
    assert "pull y:latest" not in server.done


def test_only_check_mode_goes_on_where_nothing_listens_yet(registry, tmp_path):
    class Away(Server):
        def found(self):
            problem = self.client.unreachable(ConnectionRefusedError(111, "refused"))
            raise problem from ConnectionRefusedError(111, "refused")

    wanted = read_wanted(["x"])
    with pytest.raises(Unreachable):
        _prepare.prepare(Away(), wanted, str(tmp_path))
    prepared = _prepare.prepare(Away(), wanted, str(tmp_path), assume_empty=True)
    assert prepared.reachable is False and [a.verb for a in prepared.actions] == ["pull"]
    assert "refuses the connection" in prepared.warnings[0]


def test_a_name_that_does_not_resolve_is_no_fresh_host(registry, tmp_path):
    class Lost(Server):
        def found(self):
            problem = socket.gaierror(-2, "unknown")
            raise self.client.unreachable(problem) from problem

    with pytest.raises(Unreachable):
        _prepare.prepare(Lost(), read_wanted(["x"]), str(tmp_path), assume_empty=True)


def test_models_that_seem_to_have_vanished_are_told_of(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(_prepare._store, "elsewhere", lambda name, store: "/home/me/.ollama/models")
    prepared = _prepare.prepare(Server(), read_wanted(["x", {"name": "y", "state": "absent"}]), str(tmp_path))
    assert prepared.warnings == ["x:latest is in the model store /home/me/.ollama/models as well, which this server does not use;"
                                 " its own is %s." % tmp_path]


def test_offline_no_registry_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(_prepare._registry, "read_all", lambda *arguments: pytest.fail("a registry was asked"))
    wanted = read_wanted([{"name": "x", "state": "latest"}, {"name": "y", "state": "absent"}])
    server = Server([("x", "a" * 64), ("y", "b" * 64)])
    prepared = _prepare.prepare(server, wanted, str(tmp_path), offline=True)
    assert [(action.verb, action.shown) for action in prepared.actions] == [("delete", "y:latest"), ("none", "x:latest")]
    with pytest.raises(LocalModelsError, match="z:latest: not on this server, and no registry may be asked. Import a bundle"):
        _prepare.prepare(server, read_wanted(["x", "z"]), str(tmp_path), offline=True)
    asked = _prepare.prepare(server, read_wanted(["x", "z"]), str(tmp_path), assume_empty=True, offline=True)
    assert [action.shown for action in asked.actions] == ["x:latest"]
