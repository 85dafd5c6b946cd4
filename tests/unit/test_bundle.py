# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle's index, and the plan of an import: any server, any bundle, any declaration."""

from __future__ import annotations

import hashlib
import json

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _bundle, _bundle_plan, _plan
from ansible_collections.localmodels.fastgpt.plugins.module_utils._bundle_plan import read_models
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from hypothesis import given
from hypothesis import strategies as st

LAYERS = {digit: "sha256:" + hashlib.sha256(digit.encode()).hexdigest() for digit in "0123456789"}


def model(name, layers, spaces=0):
    """A model whose config is layer 0; `spaces` make another manifest, so another digest, of the same layers."""
    said = {"schemaVersion": 2, "config": {"digest": LAYERS["0"], "size": 10},
            "layers": [{"digest": LAYERS[one], "size": 100 + int(one)} for one in layers]}
    return _bundle.Model(ModelName.parse(name), (json.dumps(said) + " " * spaces).encode())


NAMES = ["tiny", "Tiny:LATEST", "qwen2.5:0.5b", "hf.co/u/r:Q4", "me/x:v1", "registry.lab:5000/a/b:c"]
models = st.builds(model, st.sampled_from(NAMES), st.text("123456789", max_size=4), st.integers(0, 2))
bundles = st.lists(models, max_size=5).map(lambda made: _bundle.Bundle(made))
items = st.lists(st.builds(lambda name, state: {"name": name, "state": state}, st.sampled_from(NAMES), st.sampled_from(_plan.STATES)))
digests = st.builds(lambda made: made.digest, models)
pins = st.dictionaries(st.sampled_from(NAMES[2:]), digests, max_size=3).map(
    lambda known: [{"name": name, "digest": digest} for name, digest in known.items()])
founds = st.dictionaries(st.sampled_from([ModelName.parse(name).key for name in NAMES]), models).map(
    lambda known: [_plan.Found(ModelName.parse(key), one.digest, one.size) for key, one in known.items()])
stores = st.dictionaries(st.sampled_from(sorted(LAYERS.values())), st.sampled_from([10, 101, 102, 103, 7]))


@given(founds, items, bundles, stores)
def test_importing_gives_what_was_declared_and_a_second_plan_is_empty(found, declared, bundle, held):
    wanted = read_models(declared)[0]
    known = set(bundle.models) | {one.name.key for one in found}
    if any(one.name.key not in known for one in wanted):
        with pytest.raises(LocalModelsError, match="The bundle does not hold "):
            _bundle_plan.plan(found, wanted, bundle, held)
        return
    steps = _bundle_plan.plan(found, wanted, bundle, held)
    after = _plan.apply(found, [step for step in steps if step.changes])
    filled = dict(held, **_bundle_plan.missing(steps))
    digests = {one.name.key: one.digest for one in after}
    for one in wanted:
        assert one.name.key in digests
        if one.state == "latest" and one.name.key in bundle.models:
            assert bundle.models[one.name.key].manifest.is_the_same(next(f for f in after if f.name == one.name))
    for one in found:
        if one.name.key not in {step.name.key for step in steps if step.changes}:
            assert digests[one.name.key] == one.digest
    for step in steps:
        if step.after == step.model.digest:
            assert all(filled[digest] == size for digest, size in step.model.blobs.items())
    again = _bundle_plan.plan(after, wanted, bundle, filled)
    assert not any(step.changes for step in again)


@given(founds, items, bundles, stores)
def test_nothing_is_brought_that_is_there(found, declared, bundle, held):
    wanted = [one for one in read_models(declared)[0] if one.name.key in bundle.models]
    for digest, size in _bundle_plan.missing(_bundle_plan.plan(found, wanted, bundle, held)).items():
        assert held.get(digest) != size


@given(founds, pins, bundles, stores)
def test_what_is_pinned_has_that_digest_or_nothing_is_done(found, pinned, bundle, held):
    wanted = read_models(pinned)[0]
    there = {one.name.key: one.digest for one in found}
    offered = {key: one.digest for key, one in bundle.models.items()}
    if any(one.digest not in (there.get(one.name.key), offered.get(one.name.key)) for one in wanted):
        with pytest.raises(LocalModelsError, match="The bundle does not hold |is declared with the digest"):
            _bundle_plan.plan(found, wanted, bundle, held)
        return
    steps = _bundle_plan.plan(found, wanted, bundle, held)
    after = _plan.apply(found, [step for step in steps if step.changes])
    assert {one.name.key: one.digest for one in wanted}.items() <= {one.name.key: one.digest for one in after}.items()
    assert not any(step.changes for step in _bundle_plan.plan(after, wanted, bundle, dict(held, **_bundle_plan.missing(steps))))


def test_a_pin_that_the_bundle_does_not_keep_names_all_three():
    mine, theirs = model("tiny", "1"), model("tiny", "2")
    wanted = read_models([{"name": "tiny", "digest": "d" * 64}])[0]
    with pytest.raises(LocalModelsError) as refused:
        _bundle_plan.plan([_plan.Found(mine.name, mine.digest)], wanted, _bundle.Bundle([theirs]), {})
    assert str(refused.value).startswith("tiny:latest is declared with the digest %s; the bundle holds %s, and this server %s. Run playbook bundle"
                                         % ("d" * 12, theirs.digest[:12], mine.digest[:12]))


def test_the_latest_model_by_the_digest_of_an_old_server_is_the_same_one():
    theirs = model("tiny", "12")
    found = _plan.Found(theirs.name, "f" * 64)
    for blobs, verb in ((set(theirs.blobs), "none"), (set(list(theirs.blobs)[:1]), "update")):
        found.blobs = blobs
        step, = _bundle_plan.plan([found], read_models([{"name": "tiny", "state": "latest"}])[0], _bundle.Bundle([theirs]), dict(theirs.blobs))
        assert step.verb == verb


def test_a_pin_that_the_server_has_stays_whatever_the_bundle_holds():
    mine, theirs = model("tiny", "1"), model("tiny", "2")
    wanted = read_models([{"name": "tiny", "digest": mine.digest}])[0]
    assert _bundle_plan.plan([_plan.Found(mine.name, mine.digest)], wanted, _bundle.Bundle([theirs]), {}) == []
    assert _bundle_plan.plan([_plan.Found(mine.name, mine.digest)], wanted, _bundle.Bundle([]), {}) == []


def test_a_pin_replaces_what_the_server_has_under_the_name_even_if_only_the_digest_is_another_one():
    old, pinned = model("tiny", "12", spaces=1), model("tiny", "12")
    found = _plan.Found(old.name, old.digest)
    found.blobs = set(pinned.blobs)  # as of a server that wrote the manifest anew
    step, = _bundle_plan.plan([found], read_models([{"name": "tiny", "digest": pinned.digest}])[0], _bundle.Bundle([pinned]), dict(pinned.blobs))
    assert (step.verb, step.after) == ("update", pinned.digest)
    assert step.sentence() == "Import tiny:latest with the declared digest (all layers are there)"


@given(bundles)
def test_the_index_says_all_that_is_needed(bundle):
    again = _bundle.parse(bundle.document(), bundle.manifests().__getitem__, "here")
    assert again.document() == bundle.document() and again.manifests() == bundle.manifests()
    assert {path: (file.size, file.sha256) for path, file in again.files.items()} == \
        {path: (file.size, file.sha256) for path, file in bundle.files.items()}


def test_releases_and_images_are_in_the_index_too():
    archive = _bundle.File("releases/v0.32.15/ollama-linux-amd64.tar.zst", 5, "a" * 64)
    image = _bundle.File("images/ollama_ollama_0.32.15-abc.tar", 7, "b" * 64)
    bundle = _bundle.Bundle([], [_bundle.Release("0.32.15", "ollama-linux-amd64.tar.zst", [archive])],
                            [_bundle.Image("ollama/ollama:0.32.15", "sha256:abc", image)])
    again = _bundle.parse(bundle.document(), None, "here")
    assert again.releases["0.32.15", "ollama-linux-amd64.tar.zst"].files[0].sha256 == "a" * 64
    assert again.images[_bundle.image_key("docker.io/ollama/ollama:0.32.15")].file.size == 7
    assert again.lines() == "release 0.32.15 ollama-linux-amd64.tar.zst 5 B\nimage ollama/ollama:0.32.15 abc 7 B\n"


@pytest.mark.parametrize(("name", "key"), [
    ("nginx", "nginx:latest"), ("library/nginx:1", "nginx:1"), ("docker.io/library/nginx:1", "nginx:1"), ("index.docker.io/nginx:1", "nginx:1"),
    ("docker.io/ollama/ollama:0.32.15", "ollama/ollama:0.32.15"), ("mirror.lan:5000/ollama", "mirror.lan:5000/ollama:latest"),
    ("ghcr.io/library/x:1", "ghcr.io/library/x:1")])
def test_spellings_of_one_image_have_one_key(name, key):
    assert _bundle.image_key(name) == key


def spoilt(change):
    bundle = _bundle.Bundle([model("tiny", "12")])
    said = json.loads(bundle.document())
    change(said)
    return json.dumps(said), bundle.manifests()


@pytest.mark.parametrize(("change", "says"), [
    (lambda said: said.update(format="cake"), "is not that of a bundle"),
    (lambda said: said.update(version=2), "has version 2 of the format, and this collection reads version 1"),
    (lambda said: said.pop("models"), "says something that cannot be"),
    (lambda said: said["files"].update({"../../etc/passwd": {"size": 1, "sha256": "a" * 64}}), "says something that cannot be"),
    (lambda said: said["files"].update({"blobs/../x": {"size": 1, "sha256": "a" * 64}}), "says something that cannot be"),
    (lambda said: said["files"].update({"blobs/x": {"size": 1, "sha256": "a; rm -rf /"}}), "says something that cannot be"),
    (lambda said: said["models"][0].update(name="../up"), "no model name"),
])
def test_what_cannot_be_is_refused(change, says):
    document, manifests = spoilt(change)
    with pytest.raises(LocalModelsError, match=says):
        _bundle.parse(document, manifests.__getitem__, "here")


@pytest.mark.parametrize(("there", "declared", "refused"), [
    ([], "tiny", True), ([model("tiny", "3")], "tiny", False), ([model("tiny", "3")], {"name": "tiny", "state": "latest"}, True),
    ([model("tiny", "3")], {"name": "tiny", "digest": "d" * 64}, True), ([], "qwen2.5:0.5b", False),
    ([model("tiny", "3")], {"name": "tiny", "digest": model("tiny", "3").digest}, False)])
@pytest.mark.parametrize("sent", [True, False])
def test_a_spoilt_manifest_keeps_out_its_own_model_and_is_named(there, declared, refused, sent):
    bundle = _bundle.Bundle([model("tiny", "12"), model("qwen2.5:0.5b", "1")])
    said = json.loads(bundle.document())
    said["files"][bundle.models["registry.ollama.ai/library/tiny:latest"].path].update(sha256="a" * 64)
    spoilt_one = _bundle.parse(json.dumps(said), bundle.manifests().__getitem__, "here")
    if sent:
        spoilt_one = _bundle.of_carried(json.loads(json.dumps(spoilt_one.carried())), "here")
    found = [_plan.Found(one.name, one.digest) for one in there]
    if refused:
        with pytest.raises(_bundle.Damaged, match="the manifest of registry.ollama.ai/library/tiny:latest, is not what it was. Copy it again"):
            _bundle_plan.plan(found, read_models([declared])[0], spoilt_one, {})
    else:
        _bundle_plan.plan(found, read_models([declared])[0], spoilt_one, {})


def test_a_layer_with_a_name_that_is_no_digest_is_refused():
    raw = json.dumps({"config": {"digest": "sha256:../../x", "size": 1}, "layers": []}).encode()
    with pytest.raises(ValueError, match="a layer without a SHA-256"):
        _bundle.Model(ModelName.parse("tiny"), raw)


def test_files_that_are_missing_or_short_are_named(tmp_path):
    one = model("tiny", "12")
    (tmp_path / "blobs").mkdir()
    for file in one.files[:2]:
        (tmp_path / file.path).write_bytes(b"x" * file.size)
    (tmp_path / one.files[1].path).write_bytes(b"x")
    with pytest.raises(LocalModelsError) as refused:
        _bundle.refuse_incomplete(str(tmp_path), one.files[:3])
    with pytest.raises(LocalModelsError, match="is missing; and 2 more. Copy it again"):
        _bundle.refuse_incomplete(str(tmp_path / "nowhere"), (one.files + one.files)[:5])
    assert "%s has 1 bytes instead of %d; %s is missing" % (one.files[1].path, one.files[1].size, one.files[2].path) in str(refused.value)


@pytest.mark.parametrize(("given_items", "names", "left_out"), [
    (["a", "A:latest", {"name": "b", "state": "absent"}], ["a:latest"], ["b:latest is declared absent"]),
    ([{"name": "a", "state": "absent"}, {"name": "a", "state": "latest"}, "a"], ["a:latest"], ["a:latest is declared absent"]),
    ([{"name": "house", "from": "qwen2.5:7b", "system": "x"}, "qwen2.5:7b"], ["qwen2.5:7b"], ["house:latest is made on its host, from qwen2.5:7b"]),
    ([{"name": "house2", "from": "House"}, {"name": "house", "from": "a"}], ["a:latest"],
     ["house2:latest is made on its host, from House:latest", "house:latest is made on its host, from a:latest"]),
    ([{"name": "own", "from": "/srv/own.gguf"}], [],
     ["own:latest is made on its host, from /srv/own.gguf; bring /srv/own.gguf there, under the same path"]),
    ([{"name": "clerk", "from": "a", "adapter": "/srv/clerk"}], ["a:latest"],
     ["clerk:latest is made on its host, from a:latest; bring /srv/clerk there, under the same path"]),
    ([{"name": "a", "state": "loaded"}, {"name": "b", "state": "unloaded"}], ["a:latest", "b:latest"], []),
    (["hf.co/u/r:Q4_K_M", "HF.co/U/R:q4_k_m", {"name": "registry.lab:5000/a/b:c", "insecure": True}],
     ["hf.co/u/r:Q4_K_M", "registry.lab:5000/a/b:c"], []),
])
def test_which_models_are_meant(given_items, names, left_out):
    wanted, said = read_models(given_items)
    assert [one.name.short for one in wanted] == names and said == left_out


def test_latest_and_insecure_win_over_other_hosts():
    one, = read_models(["a", {"name": "a", "state": "latest"}, {"name": "a", "insecure": True}])[0]
    assert (one.state, one.insecure) == ("latest", True)


@pytest.mark.parametrize(("item", "says"), [
    (7, "7 in the list of models is neither a name nor a map"), (None, "neither a name nor a map"), (["a"], "neither a name nor a map"),
    ({"nam": "a"}, "has the key 'nam', which is unknown. Probably name is meant"), ({"state": "latest"}, "has no name"),
    ({"name": "a", "state": "newest"}, "has the state 'newest', which is unknown"),
    ({"name": "a", "insecure": "perhaps"}, "insecure 'perhaps', which is neither true nor false"),
    ({"name": "a", "from": "./a.gguf"}, "which is no absolute path"), ({"name": "a", "digest": "sha256:1"}, "which is none"),
    ({"name": "a", "digest": "1" * 64, "state": "latest"}, "has a digest and the state latest"),
])
def test_what_is_no_item_is_refused_as_where_it_is_pulled(item, says):
    with pytest.raises(LocalModelsError, match=says):
        read_models([item])
    with pytest.raises(LocalModelsError, match=says):
        _plan.read_wanted([item])


def test_a_word_for_no_is_no():
    assert read_models([{"name": "a", "insecure": "no"}], insecure=True)[0][0].insecure is False


def test_a_pin_holds_for_all_hosts_and_two_pins_are_two_bundles():
    one, = read_models(["a", {"name": "A:latest", "digest": "sha256:" + "B" * 64}, {"name": "a", "state": "latest"}])[0]
    assert (one.digest, one.state) == ("b" * 64, "latest")
    with pytest.raises(LocalModelsError, match="a:latest is declared with the digest b{12} and with the digest c{12}"):
        read_models([{"name": "a", "digest": "b" * 64}, {"name": "a", "digest": "c" * 64}])


def test_a_typo_gets_a_suggestion_from_the_bundle():
    with pytest.raises(LocalModelsError, match=r"does not hold qwen2\.5:05b\. Probably qwen2\.5:0\.5b is meant"):
        _bundle_plan.plan([], read_models(["qwen2.5:05b"])[0], _bundle.Bundle([model("qwen2.5:0.5b", "1")]), {})
