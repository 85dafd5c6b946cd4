# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ollama_models and a registry in trouble: when it is asked again, when no more, and what is said of each model.

Against a server and a registry: the stand-in, or the real program in LAB_OLLAMA. Each fault at each moment: tests/faults.
"""

from __future__ import annotations

import time

import pytest
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_models
from ansible_collections.localmodels.fastgpt.tests.contract import weights
from ansible_collections.localmodels.fastgpt.tests.contract.test_exactly import Lab
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import call

OLLAMA = "*Go/go*"  # how Ollama, and not the module, names itself to a registry


@pytest.fixture(name="lab", scope="module")
def _lab(tmp_path_factory):
    with Lab(tmp_path_factory.mktemp("trouble")) as lab:
        yield lab


@pytest.fixture(name="new")
def _new(lab):
    """A model (its name, and the path of it in the registry) that nobody has pulled yet. Afterwards the registry is well."""
    lab.known["count"] = lab.known.get("count", 20) + 1
    model = "new-%d" % lab.known["count"]
    lab.world.publish(model + ":latest", weights.llama(lab.known["count"]), {"template": "{{ .Prompt }} " + model})
    lab.world.requests()
    yield "%s/library/%s" % (lab.host, model), "/v2/library/" + model
    lab.world.faults()


@pytest.fixture(name="run")
def _run(lab, capsys):
    return lambda *models, check=False, **options: call(ollama_models, capsys, check=check, url=lab.server.url, models=list(models), insecure=True, **options)


def moments(lab, path):
    """When the manifest was asked for, since this was called last."""
    return [one["at"] for one in lab.world.requests() if one["path"].startswith(path + "/manifests/")]


def test_a_registry_is_asked_again_when_it_says(lab, run, new):
    name, path = new
    lab.world.faults({"path": path + "/*", "status": 429, "headers": {"Retry-After": "3"}, "body": "slow down", "times": 1})
    assert run(name, check=True)["changed"]
    first, second = moments(lab, path)
    assert second - first >= 3


def test_a_pull_is_tried_again_after_a_pause_and_then_no_more(lab, run, new):
    name, path = new
    lab.world.faults({"path": path + "/manifests/*", "agent": OLLAMA, "status": 503, "body": "later"})
    failed = run(name, retries=1)
    asked = moments(lab, path)
    assert failed["failed"] and "the registry, or a proxy before it, is in trouble" in failed["msg"] and not failed["changed"]
    assert len(asked) == 3 and asked[2] - asked[1] >= 2, "by the module, and two times by Ollama"
    lab.world.faults({"path": path + "/manifests/*", "agent": OLLAMA, "status": 503, "body": "later", "times": 1})
    assert run(name, retries=1)["models"][0]["action"] == "pull"


def test_a_pull_without_a_byte_more_is_cancelled_and_goes_on_the_next_time(lab, run, new):
    name, path = new
    lab.world.faults({"path": path + "/blobs/*", "ranged": True, "stall_after": 100_000})
    began = time.monotonic()
    stalled = run(name, retries=0, stall_timeout=1)
    assert time.monotonic() - began < 15, "Ollama itself would begin anew, again and again"
    assert stalled["failed"] and "no byte more came for 1 s" in stalled["msg"]
    lab.world.faults()
    came = run(name)
    assert came["models"][0]["action"] == "pull" and 0 < came["pulled"]["bytes"] <= came["models"][0]["bytes"]


@pytest.mark.parametrize("status, said", [(412, "only to a newer Ollama than 0.3"), (404, "has no model ")])
def test_what_cannot_be_had_is_told_before_anything_is_changed(lab, run, new, status, said):
    name, path = new
    lab.world.faults({"path": path + "/manifests/*", "status": status, "body": "requires a newer version of Ollama."})
    refused = run(name, lab.tiny()["name"])
    assert refused["failed"] and said in refused["msg"] and "nothing was changed" in refused["msg"] and refused.get("models") is None


def test_each_model_that_failed_is_named_and_the_others_are_there(lab, run, new):
    name, path = new
    lab.world.faults({"path": "/v2/library/mid/manifests/*", "status": 403, "body": "denied"}, {"path": path + "/blobs/*", "ranged": True, "wrong_bytes": True})
    result = run(name, lab.tiny()["name"], lab.host + "/library/mid", retries=0)
    assert [one["action"] for one in result["models"]] == ["failed", "pull", "failed"] and result["changed"]
    assert result["msg"].startswith("2 of 3 models failed: ") and result["msg"].endswith("The other 1 is as declared.")
    for words in (name + ":latest could not be pulled: the registry, or something before it, sent other bytes than its digest promises",
                  "mid:latest could not be pulled: the registry does not let Ollama in"):
        assert words in result["msg"]
