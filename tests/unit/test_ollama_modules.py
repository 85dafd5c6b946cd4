# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules ollama_models and ollama_info against a small web server: what they ask, what they answer."""

from __future__ import annotations

import hashlib
import json

import pytest
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _look, _machine, _ollama_facts, _ollama_options
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Refused
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama import Ollama
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_info, ollama_models
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import call
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving, streaming

BLOB = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + "a" * 64, "size": 90}
MANIFEST = json.dumps({"config": dict(BLOB, digest="sha256:" + "c" * 64, size=10), "layers": [BLOB]}).encode()
DIGEST = hashlib.sha256(MANIFEST).hexdigest()


def tags(*names):
    return 200, {"models": [{"name": name, "model": name, "digest": DIGEST, "size": 100, "details": {}} for name in names]}


def test_twenty_models_that_are_there_cost_exactly_one_request(capsys):
    names = ["m%d" % number for number in range(20)]
    with serving({("GET", "/api/tags"): tags(*[name + ":latest" for name in names])}) as server:
        result = call(ollama_models, capsys, url=server.url, models=names + ["M1", "library/m2:latest"])
        assert server.paths() == ["GET /api/tags"]
    assert result["changed"] is False and len(result["models"]) == 20
    assert result["diff"]["before"] == result["diff"]["after"] != ""


def test_twenty_latest_models_cost_one_request_more_and_each_manifest_once(capsys):
    answers = {("GET", "/v2/library/m%d/manifests/latest" % number): (200, MANIFEST) for number in range(20)}
    with serving(answers) as server:
        models = [{"name": "%s/library/m%d" % (server.host, number), "state": "latest", "insecure": True} for number in range(20)]
        answers["GET", "/api/tags"] = tags(*[model["name"] + ":latest" for model in models])
        answers["GET", "/api/version"] = (200, {"version": "0.32.15"})
        result = call(ollama_models, capsys, url=server.url, models=models)
        assert sorted(server.paths()) == sorted(["%s %s" % key for key in answers])
    assert result["changed"] is False


@pytest.mark.parametrize("check", [True, False])
def test_a_pull_and_its_check(capsys, tmp_path, check):
    answers = {("GET", "/v2/library/tiny/manifests/v1"): (200, MANIFEST), ("GET", "/api/tags"): tags(),
               ("GET", "/api/version"): (200, {"version": "0.32.15"})}
    with serving(answers) as server:
        name = "%s/library/tiny:v1" % server.host

        def pulled(handler):
            answers["GET", "/api/tags"] = tags(name)
            streaming([{"status": "pulling manifest"}, {"status": "success"}])(handler)

        answers["POST", "/api/pull"] = pulled
        result = call(ollama_models, capsys, check=check, url=server.url, models=[name], insecure=True, store_path=str(tmp_path))
        pulls = [body for method, path, body in server.asked if path == "/api/pull"]
    assert pulls == ([] if check else [{"model": name, "insecure": True}])
    assert result["changed"] is True and result["models"][0]["action"] == "pull"
    assert (result["models"][0]["digest_before"], result["models"][0]["digest_after"]) == (None, DIGEST)
    assert result["diff"]["before"] == "" and result["diff"]["after"] == "%s %s 100 B\n" % (name, DIGEST[:12])
    assert result["reachable"] is True and result["freed"] == {"bytes": 0, "exact": True}
    assert result.get("pulled", {}).get("bytes") == (None if check else 100), "both layers, though Ollama tells of none"
    told = {key for key, entry in yaml_load(ollama_models.RETURN).items() if not (check and key == "pulled")}
    assert set(result) >= told, "all that is told is returned"
    each = yaml_load(ollama_models.RETURN)["models"]["contains"]
    assert set(result["models"][0]) == set(each) - {"msg"}


def test_without_diff_mode_there_is_no_diff(capsys):
    with serving({("GET", "/api/tags"): tags("x:latest")}) as server:
        assert "diff" not in call(ollama_models, capsys, diff=False, url=server.url, models=["x"])


@pytest.mark.parametrize("check", [True, False])
def test_where_nobody_listens_yet_only_check_mode_goes_on(capsys, check):
    result = call(ollama_models, capsys, check=check, url="http://127.0.0.1:9", models=[{"name": "x", "state": "absent"}])
    assert bool(result.get("failed")) is not check and result.get("reachable") is (False if check else None)
    assert "refuses the connection" in (str(result["warnings"]) if check else result["msg"])


def test_offline_asks_no_registry(capsys):
    with serving({("GET", "/api/tags"): tags("x:latest")}) as server:
        name = "%s/library/y" % server.host
        assert not call(ollama_models, capsys, url=server.url, models=[{"name": "x", "state": "latest"}], offline=True)["changed"]
        assert "no registry may be asked" in call(ollama_models, capsys, url=server.url, models=[name], insecure=True, offline=True)["msg"]
        assert server.paths() == ["GET /api/tags"] * 2


def test_numbers_that_are_too_small_are_refused_before_anything_is_asked(capsys):
    with serving({("GET", "/api/tags"): tags("x:latest")}) as server:
        for name, value, least in (("parallel", 0, 1), ("retries", -1, 0), ("stall_timeout", 0, 1)):
            told = call(ollama_models, capsys, url=server.url, models=["x"], **{name: value})["msg"]
            assert told == "%s is %d, which is too little. Set it to %d or more." % (name, value, least) and server.asked == []
        for module in (ollama_models, ollama_info):
            extra = {"models": ["x"]} if module is ollama_models else {}
            assert "timeout is -1, and Ollama needs some time" in call(module, capsys, url=server.url, timeout=-1, **extra)["msg"] and server.asked == []
        assert not call(ollama_models, capsys, url=server.url, models=["x"], parallel=1).get("failed")


def test_what_was_not_deleted_is_not_freed(capsys):
    answers = {("GET", "/api/tags"): tags("x:latest", "stray:latest"), ("GET", "/api/ps"): (200, {"models": []}),
               ("DELETE", "/api/delete"): (500, {"error": "no"})}
    with serving(answers) as server:
        asked = call(ollama_models, capsys, check=True, url=server.url, models=["x"], exclusive=True)
        result = call(ollama_models, capsys, url=server.url, models=["x"], exclusive=True)
    assert "stray:latest %s 100 B frees at most 100 B\n" % DIGEST[:12] in asked["diff"]["before"], "its manifests cannot be read"
    assert result["failed"] and result["freed"] == {"bytes": 0, "exact": False} and result["diff"]["before"] == result["diff"]["after"]


def test_progress_counts_what_is_pulled_and_what_is_made_of_files(capsys, monkeypatch, tmp_path):
    counted = []
    monkeypatch.setattr(ollama_models, "Progress", lambda path, of: counted.append((path, of)))
    monkeypatch.setattr(ollama_models._apply, "Run", lambda *arguments, **more: (_ for _ in ()).throw(LocalModelsError("enough")))
    (tmp_path / "x.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\0" * 16)
    answers = {("GET", "/api/tags"): tags("old:latest", "there:latest"), ("GET", "/api/version"): (200, {"version": "0.32.15"})}
    with serving(answers) as server:
        answers["GET", "/v2/library/tiny/manifests/v1"] = 200, MANIFEST
        models = ["%s/library/tiny:v1" % server.host, {"name": "mine", "from": str(tmp_path / "x.gguf")}, {"name": "old", "state": "absent"}, "there",
                  {"name": "ours", "from": "there"}]
        answers["POST", "/api/show"] = 200, {}
        call(ollama_models, capsys, url=server.url, models=models, insecure=True, capacity="ignore", progress_path="/nowhere/progress")
    assert counted == [("/nowhere/progress", 2)]


def test_a_run_that_nobody_waits_for_any_more_ends_and_says_so(capsys, monkeypatch):
    monkeypatch.setattr(ollama_models._apply.Run, "carry_out", lambda run: (_ for _ in ()).throw(Abandoned("The pull was cancelled")))
    with serving({("GET", "/api/tags"): tags("x:latest")}) as server:
        result = call(ollama_models, capsys, url=server.url, models=["x"])
    assert result["failed"] and result["msg"] == "The pull was cancelled." and result["pulled"]["bytes"] == 0


@pytest.mark.parametrize("check, remember, kept", [(False, False, True), (True, False, False), (True, True, True)])
def test_what_was_read_of_files_is_kept_unless_somebody_only_asks(capsys, monkeypatch, check, remember, kept):
    saved = []
    monkeypatch.setattr(ollama_models._notes.Notes, "save", lambda notes: saved.append(notes.path))
    with serving({("GET", "/api/tags"): tags("x:latest")}) as server:
        call(ollama_models, capsys, check=check, url=server.url, models=["x"], remember=remember)
    assert bool(saved) is kept and (len(saved) == 2 if not check else True), "before and after something is done"


def test_notes_that_cannot_be_kept_are_a_warning(capsys, monkeypatch):
    def save(notes):
        raise LocalModelsError("No room for notes")

    monkeypatch.setattr(ollama_models._notes.Notes, "save", save)
    with serving({("GET", "/api/tags"): tags("x:latest")}) as server:
        result = call(ollama_models, capsys, url=server.url, models=["x"])
    assert not result.get("failed") and "No room for notes" in str(result["warnings"])


@pytest.mark.parametrize("capacity", ["enforce", "warn", "ignore"])
def test_a_model_that_can_never_be_loaded(capsys, tmp_path, monkeypatch, capacity):
    monkeypatch.setattr(_machine, "below", lambda url, run: (_machine.Memory(50), {}) if url == server.url else None)
    answers = {("GET", "/v2/library/tiny/manifests/v1"): (200, MANIFEST), ("GET", "/api/tags"): tags(), ("GET", "/api/version"): (200, {"version": "0.32.15"})}
    with serving(answers) as server:
        name = "%s/library/tiny:v1" % server.host
        result = call(ollama_models, capsys, check=True, url=server.url, models=[name], insecure=True, store_path=str(tmp_path), capacity=capacity)
    said = "%s can never be loaded here: its weights alone are 90 B, and this host has 50 B of memory" % name
    assert (said in result.get("msg", ""), said in str(result.get("warnings"))) == (capacity == "enforce", capacity == "warn")
    assert bool(result.get("failed")) == (capacity == "enforce")


def test_a_failure_tells_what_was_done_before_it(capsys):
    answers = {("GET", "/api/tags"): tags("old:latest"), ("GET", "/api/ps"): (200, {"models": []}), ("DELETE", "/api/delete"): (500, {"error": "disk trouble"})}
    with serving(answers) as server:
        result = call(ollama_models, capsys, url=server.url, models=[{"name": "old", "state": "absent"}])
    assert result["failed"] is True and result["changed"] is False
    assert "disk trouble" in result["msg"] and result["models"][0]["action"] == "failed"


@pytest.mark.parametrize("models, said", [(["!bad"], "'!bad' is no model name"), ([{"name": "x", "state": "there"}], "state 'there'")])
def test_a_bad_list_is_refused_before_anybody_is_asked(capsys, models, said):
    with serving({}) as server:
        result = call(ollama_models, capsys, url=server.url, models=models)
        assert server.asked == []
    assert result["failed"] is True and said in result["msg"] and result["changed"] is False


def test_credentials_in_headers_are_sent_and_never_shown(capsys):
    with serving({("GET", "/api/tags"): (401, "no entry for Bearer s3cret-token")}) as server:
        result = call(ollama_models, capsys, url=server.url, models=["x"], headers={"Authorization": "Bearer s3cret-token"})
        assert server.headers[0]["Authorization"] == "Bearer s3cret-token"
    assert result["failed"] is True and "s3cret-token" not in json.dumps(result)


@pytest.mark.parametrize("answer, said", [((200, "<html>hello</html>"), "is no Ollama"), ((200, {"object": "list"}), "is no Ollama"),
                                          ((403, ""), "Host: localhost:11434"), ((404, "404 page not found"), "whether Ollama itself listens")])
def test_something_else_answers(capsys, answer, said):
    with serving({("GET", "/api/tags"): answer}) as server:
        result = call(ollama_models, capsys, url=server.url, models=["x"])
    assert said in result["msg"]


SHOW = {"parameters": 'stop                           "num_ctx 5"\nnum_ctx                        1024', "capabilities": ["completion", "tools"],
        "details": {"family": "llama", "parameter_size": "123K", "quantization_level": "F16"},
        "model_info": {"general.architecture": "llama", "llama.context_length": 2048, "llama.embedding_length": 64}}


def test_what_a_server_holds_and_runs(capsys):
    listed = {"name": "Tiny:latest", "digest": DIGEST, "size": 100, "modified_at": "2026-11-23T19:36:13Z", "details": {"family": "llama"}}
    running = {"name": "Tiny:latest", "digest": DIGEST, "size": 4592762, "size_vram": 0, "expires_at": "2026-11-23T19:41:35Z",
               "context_length": 4096, "details": {}}
    answers = {("GET", "/api/tags"): (200, {"models": [listed, dict(listed, name="other:latest")]}), ("POST", "/api/show"): (200, SHOW),
               ("GET", "/api/ps"): (200, {"models": [running]}), ("GET", "/api/version"): (200, {"version": "0.32.15"})}
    with serving(answers) as server:
        result = call(ollama_info, capsys, url=server.url, models=["tiny", "nosuch"])
        assert [body for dummy, path, body in server.asked if path == "/api/show"] == [{"model": "Tiny:latest"}]
    assert result["changed"] is False and result["version"] == "0.32.15" and result["missing"] == ["nosuch"]
    assert result["models"] == [{
        "name": "Tiny:latest", "digest": DIGEST, "size": 100, "modified_at": "2026-11-23T19:36:13Z", "family": "llama",
        "parameter_size": "123K", "quantization": "F16", "capabilities": ["completion", "tools"], "context_length": 2048,
        "embedding_length": 64, "num_ctx": 1024, "running_context_length": 4096}]
    assert result["local_models"] == ["Tiny:latest"]
    assert result["running"] == [{key: running[key] for key in result["running"][0]}] and len(result["running"][0]) == 6


def test_what_its_machine_gives(capsys, monkeypatch):
    answers = {("GET", "/api/tags"): tags(), ("GET", "/api/ps"): (200, {"models": []}), ("GET", "/api/version"): (200, {"version": "0.32.15"})}
    limits = _machine._limits.effective({"OLLAMA_NUM_PARALLEL": "3"}, 4, 1)
    with serving(answers) as server:
        monkeypatch.setattr(_machine, "below", lambda url, run: (_machine.Memory(8, 2, 4, True, 1), limits) if url == server.url else None)
        result = call(ollama_info, capsys, url=server.url)
        assert result["memory"] == {"ram": 8, "swap": 2, "vram": 4, "limited": True, "gpus": 1}
        assert result["limits"] == limits and limits["num_parallel"] == 3
        monkeypatch.undo()
        monkeypatch.setattr(_machine, "at", lambda url, root: None)
        result = call(ollama_info, capsys, url=server.url)
        assert result["memory"] is None and set(result["limits"].values()) == {None}


def test_what_a_server_holds_can_be_declared_and_nothing_changes(capsys, monkeypatch):
    for module in (_look, _ollama_facts):
        monkeypatch.setattr(module, "AT_ONCE", 1)  # this server answers what was asked last
    base = {"modelfile": "FROM /x/sha256-" + "d" * 64, "parameters": "stop    \"x\"", "details": {}}
    shows = {"base:latest": base, "mine:latest": dict(base, system="Be kind", details={"parent_model": "base:latest"}),
             "gguf:latest": dict(base, details={"parent_model": "a file.gguf"})}
    answers = {("GET", "/api/tags"): tags(*shows), ("GET", "/api/ps"): (200, {"models": []}), ("GET", "/api/version"): (200, {"version": "0.32.15"})}

    with serving(answers) as server:
        def show(handler):
            raw = json.dumps(shows[server.asked[-1][2]["model"]]).encode()
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(raw)))
            handler.end_headers()
            handler.wfile.write(raw)

        answers["POST", "/api/show"] = show
        result = call(ollama_info, capsys, url=server.url)
        assert result["local_models"] == ["base:latest", "gguf:latest", {"name": "mine:latest", "from": "base:latest", "system": "Be kind"}]
        again = call(ollama_models, capsys, url=server.url, models=result["local_models"], exclusive=True)
    assert again["changed"] is False and again["actions"] == [] and again["freed"] == {"bytes": 0, "exact": False}


def test_without_details_no_model_is_asked(capsys):
    answers = {("GET", "/api/tags"): tags("a:latest", "b:latest"), ("GET", "/api/ps"): (200, {"models": None}),
               ("GET", "/api/version"): (200, {"version": "0.32.15"})}
    with serving(answers) as server:
        result = call(ollama_info, capsys, url=server.url, details=False)
        assert len(server.asked) == 3
    assert [one["name"] for one in result["models"]] == ["a:latest", "b:latest"]


@pytest.mark.parametrize("parent, shown, declared", [
    ("base:latest", {"base:latest": {"system": "x"}}, {"name": "mine:latest", "from": "base:latest"}),
    ("base:latest", {"base:latest": {}}, "mine:latest"), ("base:latest", {}, "mine:latest"), ("mine", {"mine:latest": {"system": "x"}}, "mine:latest"),
    ("", {}, "mine:latest"), ("/a file", {}, "mine:latest")])
def test_only_a_base_that_is_here_and_can_be_read_is_declared(parent, shown, declared):
    said = {ModelName.parse(name): show for name, show in shown.items()}
    assert _ollama_facts._declared("mine:latest", {"details": {"parent_model": parent}, "system": "x"}, said) == declared


def test_what_a_model_runs_with_is_told_of_its_own_content_only():
    running = [{"digest": "other", "context_length": 1}, {"digest": "d", "context_length": 2}]
    assert _ollama_facts.model({"name": "x:latest", "digest": "d"}, {}, running)["running_context_length"] == 2
    assert _ollama_facts.model({"name": "x:latest", "digest": "e"}, {}, running)["running_context_length"] is None


def test_what_the_list_says_counts_before_what_older_servers_tell_of_each_model():
    listed = {"name": "x:latest", "capabilities": ["tools"], "details": {"context_length": 5, "embedding_length": 6, "family": "a"}}
    facts = _ollama_facts.model(listed, {"capabilities": ["vision"], "details": {"family": "b", "parameter_size": "7B"}, "model_info": {
        "general.architecture": "a", "a.context_length": 1, "a.embedding_length": 2}})
    assert (facts["capabilities"], facts["context_length"], facts["embedding_length"], facts["family"], facts["parameter_size"]) == (["tools"], 5, 6, "a", "7B")


def test_a_model_that_cannot_be_shown_is_still_listed():
    assert _ollama_facts.model({"name": "x:latest", "digest": "d"}, {})["capabilities"] == []


def test_the_documented_options_are_those_of_the_modules():
    from ansible_collections.localmodels.fastgpt.plugins.doc_fragments.ollama import ModuleDocFragment
    documented = yaml_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert {name: (option["type"], option.get("default")) for name, option in documented.items()} == {
        name: (option["type"], option.get("default")) for name, option in _ollama_options.ARGUMENT_SPEC.items()}


@pytest.mark.parametrize("status, wish, pauses", [(503, "3", [3]), (429, "86400", [10]), (502, None, [1])])
def test_a_proxy_before_ollama_that_is_busy_is_asked_again(status, wish, pauses):
    answers, slept = [(status, "busy", {"Retry-After": wish} if wish else {})], []

    def tags_later(handler):
        said = answers.pop() if answers else tags("m:latest")
        raw = json.dumps(said[1]).encode()
        handler.send_response(said[0])
        for name, value in (said[2] if len(said) > 2 else {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    with serving({("GET", "/api/tags"): tags_later}) as server:
        found = Ollama(Client(server.url, "Ollama"), slept.append).found()
    assert [one.name.short for one in found] == ["m:latest"] and slept == pauses


def test_a_proxy_that_stays_busy_is_an_error_after_three_questions():
    with serving({("GET", "/api/tags"): (503, "busy")}) as server:
        with pytest.raises(Refused, match="answered 503"):
            Ollama(Client(server.url, "Ollama"), lambda seconds: None).found()
        assert server.paths() == ["GET /api/tags"] * 3


def test_facts_are_given_in_check_mode_too(capsys):
    answers = {("GET", "/api/tags"): tags("a:latest"), ("GET", "/api/ps"): (200, {"models": []}), ("GET", "/api/version"): (200, {"version": "0.32.15"})}
    with serving(answers) as server:
        result = call(ollama_info, capsys, check=True, url=server.url, details=False)
    assert result["version"] == "0.32.15" and result["changed"] is False and "skipped" not in result


@pytest.mark.parametrize("module, models", [(ollama_info, None), (ollama_models, ["x"])])
@pytest.mark.parametrize("url", ["http://me:s3/cret@h:1", "http://me:s3/cret@[h", "me:s3/cret@h:1"])
def test_an_address_that_is_none_is_told_without_its_password(capsys, module, models, url):
    result = call(module, capsys, url=url, models=models)
    assert result["failed"] and "is no address of Ollama" in result["msg"] and "cret" not in json.dumps(result)
    assert result["invocation"]["module_args"]["url"]


def test_a_server_that_does_not_answer_need_not_be_an_error(capsys):
    result = call(ollama_info, capsys, url="http://127.0.0.1:9", models=["x"], must_answer=False)
    assert "failed" not in result and (result["reachable"], result["models"], result["missing"]) == (False, [], ["x"])
    (warning,) = result["warnings"]
    assert "refuses the connection" in str(warning), warning
    assert "refuses the connection" in call(ollama_info, capsys, url="http://127.0.0.1:9", models=["x"])["msg"]


def test_one_that_answers_with_an_error_is_one_all_the_same(capsys):
    with serving({("GET", "/api/tags"): (401, {"error": "unauthorized"})}) as server:
        assert "answered 401" in call(ollama_info, capsys, url=server.url, must_answer=False)["msg"]
