# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The campaign of faults has the cases it must have, and its judge sees what is wrong."""

from __future__ import annotations

import hashlib
import json

import pytest
from ansible_collections.localmodels.fastgpt.tests.faults import between, cases, judge

NAME = "127.0.0.1:5000/c1/m0:latest"
OTHER = "127.0.0.1:5000/c1/m1:latest"
WELL = {"failed": False, "changed": True, "models": []}


def failed(msg, *models):
    return {"failed": True, "msg": msg, "models": [{"name": name, "action": action, "msg": msg} for name, action in models]}


def test_there_are_enough_cases_and_each_is_there_once():
    found = cases.all_cases()
    assert len(found) == len({case.name for case in found}) >= 200
    assert len({(case.where, case.fault) for case in found}) >= 12
    assert {case.shape for case in found} == set(cases.SHAPES)
    for shape in cases.SHAPES:
        assert {case.expected == "ok" for case in found if case.shape == shape} == {True, False}


def test_the_sample_meets_each_fault_in_each_shape_and_each_moment():
    found = cases.all_cases()
    some = cases.sample(found)
    assert some == cases.sample(found) and all(case in found for case in some), "the same cases each time, all of them known to the campaign"
    for seen in (lambda case: (case.where, case.fault, case.shape), lambda case: (case.where, case.moment)):
        assert {seen(case) for case in some} == {seen(case) for case in found}
    assert {(case.shape, case.lasting) for case in some} == {(shape, lasting) for shape in cases.SHAPES for lasting in (True, False)}
    assert len(some) <= len(found) / 3, "a sample is what make test has time for"


def test_a_fault_of_one_model_may_not_fail_another():
    hit = {(case.fault, case.moment, case.shape): case.hit for case in cases.all_cases()}
    assert hit["404", "manifest", "shared"] == {0} and hit["wrong bytes", "bytes", "shared"] == {0, 1}
    assert hit["wrong bytes", "bytes", "parallel"] == {0} and hit["killed", "middle", "parallel"] == {0, 1, 2}


@pytest.mark.parametrize("result, why, expected, complaint", [
    (WELL, "", "ok", None),
    (WELL, "has no manifest", "ok", "says ok, but has no manifest"),
    (WELL, "", "disk is full", "says ok, and should have said: disk is full"),
    (failed(NAME + ": disk is full", (NAME, "failed")), "x", "disk is full", None),
    (failed(NAME + ": no route", (NAME, "failed")), "x", "disk is full", "does not name the cause"),
    (failed(NAME + ": no route", (NAME, "failed")), "", "ok", "should have come through"),
    (failed("disk is full", (NAME, "failed")), "x", "disk is full", "does not name " + NAME),
    (failed(NAME + ": disk is full", (NAME, "pull")), "has no manifest", "disk is full", "says pull of a model, but has no manifest"),
    (failed(NAME + OTHER + ": disk is full", (NAME, "failed"), (OTHER, "failed")), "", "disk is full", "a model that was not hit failed"),
])
def test_the_judge_sees_what_is_wrong(result, why, expected, complaint):
    wrong = judge.faults_of_run(result, {NAME: why, OTHER: ""}, expected, {0})
    assert (wrong == []) if complaint is None else complaint in " ".join(wrong)


def test_pulls_of_the_same_layer_at_the_same_time_are_seen():
    blobs = {"a": {"w", "x"}, "b": {"w"}, "c": {"z"}}
    assert judge.overlaps([("a", 0, 2), ("b", 1, 3), ("c", 0, 3)], blobs) == ["a and b, which share a layer, were pulled at the same time"]
    assert judge.overlaps([("a", 0, 1), ("a", 0.5, 2), ("b", 2, 3), ("c", 0, 3)], blobs) == []


@pytest.fixture(name="store")
def _store(tmp_path):
    content = {"sha256:" + hashlib.sha256(text).hexdigest(): text for text in (b"weights", b"config")}
    weights, config = content
    manifest = json.dumps({"layers": [{"digest": weights}], "config": {"digest": config}}).encode()
    file = tmp_path / "manifests" / "127.0.0.1:5000" / "c1" / "m0" / "latest"
    file.parent.mkdir(parents=True)
    file.write_bytes(manifest)
    (tmp_path / "blobs").mkdir()
    for digest, text in content.items():
        (tmp_path / "blobs" / digest.replace(":", "-")).write_bytes(text)
    return tmp_path, manifest, file, sorted((tmp_path / "blobs").iterdir())


def test_a_store_that_holds_the_model(store):
    assert judge.lacking(store[0], NAME, store[1]) == ""


def test_a_store_that_lacks_something(store):
    place, manifest, file, blobs = store
    blobs[0].write_bytes(b"other")
    assert "other bytes" in judge.lacking(place, NAME, manifest)
    blobs[0].unlink()
    assert "lacks the layer" in judge.lacking(place, NAME, manifest)
    file.write_bytes(b"{}")
    assert "another one" in judge.lacking(place, NAME, manifest)
    file.unlink()
    assert "no manifest" in judge.lacking(place, NAME, manifest)


@pytest.mark.parametrize("line, far", [
    ({"status": "pulling manifest"}, 1), ({"status": "pulling 0a", "digest": "sha256:0a", "total": 400_000}, 0),
    ({"status": "pulling 0a", "total": 400_000, "completed": 1}, 2), ({"status": "pulling 0a", "total": 400_000, "completed": 300_000}, 3),
    ({"status": "pulling 0a", "total": 100, "completed": 100}, 0), ({"status": "verifying sha256 digest"}, 4),
    ({"status": "writing manifest"}, 5), ({"status": "success"}, 6)])
def test_how_far_a_pull_is(line, far):
    assert between.rank(line) == far
