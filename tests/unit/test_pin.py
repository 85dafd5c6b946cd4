# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F811  # a fixture that comes from another file
"""A model that is pinned to one content: looked at before the first byte, and after the pull."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _plan, _prepare, _registry, _report
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import read_wanted
from ansible_collections.localmodels.fastgpt.tests.unit.test_apply import NEW, OLD, Server, by_name, registry, run  # noqa: F401

PINNED = {"name": "x", "digest": "SHA256:" + NEW.upper()}


def test_a_pin_is_read_with_or_without_its_prefix():
    assert [one.digest for one in read_wanted([PINNED, "y"])] == [NEW, ""]


@pytest.mark.parametrize("item, said", [
    (dict(PINNED, digest="abc"), "the digest 'abc', which is none. Write all 64 hex digits"),
    (dict(PINNED, digest=12), "which is none"),
    (dict(PINNED, state="latest"), "has a digest and the state latest"),
    (dict(PINNED, state="absent"), "has a digest and the state absent"),
    (dict(PINNED, **{"from": "y"}), "has a digest and is made here. What a server makes has another digest with each version of Ollama"),
])
def test_pins_that_cannot_be_meant_so(item, said):
    with pytest.raises(LocalModelsError) as caught:
        read_wanted([item])
    assert said in str(caught.value)


def test_two_pins_of_one_model_contradict_each_other():
    with pytest.raises(LocalModelsError, match="x:latest is declared twice, with digest eee.* and with digest aaa"):
        read_wanted([PINNED, {"name": "X:latest", "digest": OLD}])


def test_what_is_there_as_pinned_costs_one_request(registry, tmp_path):
    registry["x:latest"] = AssertionError("the registry was asked")
    server = Server({"x:latest": NEW})
    assert not run(server, [PINNED], tmp_path)[1]["changed"] and server.done == ["list"]


def test_what_is_there_as_another_one_is_pulled(registry, tmp_path):
    server = Server({"x:latest": OLD}, {"x:latest": [NEW]})
    prepared = _prepare.prepare(server, read_wanted([PINNED]), str(tmp_path))
    assert _report.report(*_report.planned(prepared), check=True)["actions"] == ["Pull x:latest with the declared digest (100 B)"]
    report = run(server, [PINNED], tmp_path)[1]
    assert report["actions"] == ["Pulled x:latest with the declared digest, 100 B in 0 s"] and by_name(report)["x:latest"]["action"] == "update"


@pytest.mark.parametrize("held", [{}, {"x:latest": "b" * 64}])
def test_a_registry_that_has_another_one_is_refused_before_the_first_byte(registry, tmp_path, held):
    server = Server(held)
    with pytest.raises(LocalModelsError) as caught:
        run(server, [dict(PINNED, digest=OLD), {"name": "gone", "state": "absent"}], tmp_path)
    assert str(caught.value) == (
        "x:latest is declared with the digest aaaaaaaaaaaa, and registry.ollama.ai now has eeeeeeeeeeee under this name. Look at what changed, then"
        " declare digest: %s; the old one can no longer be pulled; nothing was changed." % NEW)
    assert server.done == ["list"]


def test_servers_that_show_another_digest_of_the_same_content_are_believed(registry, tmp_path):
    """Before 0.19 Ollama wrote manifests anew; the registry's header and bytes name the pin."""
    manifest = _registry.Manifest(b'{"config": {"digest": "sha256:c", "size": 1}, "layers": []}', "sha256:" + NEW)
    rewritten = sorted(manifest.digests - {NEW, manifest.digest})[0]
    registry["x:latest"] = manifest
    assert not run(Server({"x:latest": rewritten}), [PINNED], tmp_path)[1]["changed"]
    report = run(Server({}, {"x:latest": [rewritten]}), [PINNED], tmp_path)[1]
    assert report["changed"] and "msg" not in report["models"][0]


def test_a_pull_that_brings_another_one_is_a_failure_and_goes_again(registry, tmp_path):
    registry["x:latest"] = _registry.Unreadable("no way")
    server = Server({}, {"x:latest": ["b" * 64]})
    job, report, dummy = run(server, [PINNED], tmp_path)
    assert "was pulled and has the digest bbbbbbbbbbbb, and eeeeeeeeeeee is declared" in str(_report.failure(job.outcomes))
    assert not report["changed"] and server.held == {} and report["models"][0]["action"] == "failed"


def test_what_was_there_before_is_not_deleted_for_it(registry, tmp_path):
    registry["x:latest"] = _registry.Unreadable("no way")
    server = Server({"x:latest": OLD}, {"x:latest": ["b" * 64]})
    job, report, dummy = run(server, [PINNED], tmp_path)
    assert _report.failure(job.outcomes) and "x:latest" in server.held and report["changed"]


def test_offline_a_pin_is_checked_as_well(registry, tmp_path):
    with pytest.raises(LocalModelsError, match="x:latest: not on this server with the declared digest, and no registry may be asked"):
        _prepare.prepare(Server({"x:latest": OLD}), read_wanted([PINNED]), str(tmp_path), offline=True)
    assert _prepare.prepare(Server({"x:latest": NEW}), read_wanted([PINNED]), str(tmp_path), offline=True).actions[0].verb == "none"


def test_the_registry_is_asked_about_what_is_not_as_pinned():
    held = Server({"x:latest": OLD}).found()
    assert [(one.name.short, one.digest) for one in _plan.to_ask_for(held, read_wanted([PINNED]))] == [("x:latest", NEW)]
