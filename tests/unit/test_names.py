# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names: what Ollama takes, what it refuses, and which spellings are one model (Ollama's types/model/name.go)."""

from __future__ import annotations

import string

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName, is_hugging_face, other_tags, same, suggest
from hypothesis import given
from hypothesis import strategies as st

LONGEST = "%s/%s/%s:%s" % ("h" * 350, "n" * 80, "m" * 80, "t" * 80)
FIRST = string.ascii_letters + string.digits + "_"


def part(more, longest=80):
    return st.builds(lambda a, b: a + b, st.sampled_from(FIRST), st.text(FIRST + more, max_size=longest - 1))


def not_a_source(tag):
    return tag.lower() not in ("local", "cloud") and not tag.lower().endswith("-cloud")


tags = part(".-").filter(not_a_source)
names = st.builds(ModelName, part(".:-", 60), part("-"), part(".-"), tags)
library = st.builds(lambda m, t: ModelName("registry.ollama.ai", "library", m, t), part(".-"), tags)


@pytest.mark.parametrize("text, full, short", [
    ("qwen2.5", "registry.ollama.ai/library/qwen2.5:latest", "qwen2.5:latest"),
    (" qwen2.5:0.5b ", "registry.ollama.ai/library/qwen2.5:0.5b", "qwen2.5:0.5b"),
    ("registry.ollama.ai/library/x", "registry.ollama.ai/library/x:latest", "x:latest"),
    ("REGISTRY.OLLAMA.AI/Library/X", "REGISTRY.OLLAMA.AI/Library/X:latest", "X:latest"),
    ("me/x:v1", "registry.ollama.ai/me/x:v1", "me/x:v1"),
    ("hf.co/user/Repo-GGUF:Q4_K_M", "hf.co/user/Repo-GGUF:Q4_K_M", "hf.co/user/Repo-GGUF:Q4_K_M"),
    ("127.0.0.1:5001/library/tiny", "127.0.0.1:5001/library/tiny:latest", "127.0.0.1:5001/library/tiny:latest"),
    ("localhost:5000/ns/x:v", "localhost:5000/ns/x:v", "localhost:5000/ns/x:v"),
    ("https://hf.co/user/repo", "hf.co/user/repo:latest", "hf.co/user/repo:latest"),
    ("x:local", "registry.ollama.ai/library/x:latest", "x:latest"),
    ("gpt-oss:20b:cloud", "registry.ollama.ai/library/gpt-oss:20b-cloud", "gpt-oss:20b-cloud"),
    ("gpt-oss:cloud", "registry.ollama.ai/library/gpt-oss:cloud", "gpt-oss:cloud"),
    ("gpt-oss:20b:CLOUD", "registry.ollama.ai/library/gpt-oss:20b-cloud", "gpt-oss:20b-cloud"),
    ("localhost:5000/ns/x:cloud", "localhost:5000/ns/x:cloud", "localhost:5000/ns/x:cloud"), ("x:v1:LOCAL", "registry.ollama.ai/library/x:v1", "x:v1"),
    ("HTTPS://hf.co/user/repo:Q4", "hf.co/user/repo:Q4", "hf.co/user/repo:Q4"),
    ("localhost:5000/ns/x", "localhost:5000/ns/x:latest", "localhost:5000/ns/x:latest"),
    (LONGEST, LONGEST, LONGEST),
])
def test_a_name_and_its_normal_form(text, full, short):
    name = ModelName.parse(text)
    assert (name.full, name.short, name.key) == (full, short, full.lower())


@pytest.mark.parametrize("text, why", [
    ("", "it is empty"),
    ("   ", "it is empty"),
    ("!bad", "begins with '!'"),
    ("-x", "begins with '-'"),
    ("x:", "its tag is empty"),
    ("/x", "its namespace is empty"),
    ("x/", "its model is empty"),
    ("a b", "a blank inside"),
    ("qwen2.5:7b qwen3:8b", "a blank inside"),
    ("x@sha256:" + "a" * 64, "no digest"),
    ("http://host/ns/x", "carries no http://"),
    ("oci://host/ns/x", "carries no oci://"),
    ("a/b/c/d", "4 parts"),
    ("hf.co/repo", "a namespace holds no dot"),
    ("hf.co/user.name/repo", "its namespace 'user.name' may hold only"),
    ("x:a:b:c", "its model 'x:a:b' may hold only"),
    ("modèle", "may hold only"),
    ("x\n:y", "a blank inside"),
    ("m" * 81, "longer than 80"),
    ("x:" + "t" * 81, "its tag is longer than 80 characters"), ("%s/x" % ("n" * 81), "its namespace is longer than 80"),
    ("%s/n/x" % ("h" * 351), "its host is longer than 350"), ("m" * 81, "'%s...' is no model name: its model is longer" % ("m" * 60)),
    ("x:a b", "a blank inside"), ("x:-v", "its tag '-v' begins with '-'"), ("x:a/b", "its namespace 'x:a' may hold only letters, digits, _ -"),
    (7, "a name is text"),
    (None, "a name is text"),
])
def test_what_is_no_name_and_why(text, why):
    with pytest.raises(LocalModelsError) as caught:
        ModelName.parse(text)
    assert why in str(caught.value)
    assert "is no model name" in caught.value.what
    assert caught.value.mend


@given(names)
def test_short_and_full_read_back_as_the_same_name(name):
    assert ModelName.parse(name.full).full == name.full
    assert ModelName.parse(name.short) == name


@given(library)
def test_the_defaults_may_be_written_or_left_out(name):
    spellings = ["%s:%s" % (name.model, name.tag), "library/%s:%s" % (name.model, name.tag), name.full, name.full.upper()]
    assert {ModelName.parse(text) for text in spellings} == {name}
    assert same(name.model, name.model + ":latest")
    assert same(name.model, "registry.ollama.ai/library/%s" % name.model)


@given(names)
def test_case_is_kept_for_showing_and_ignored_for_comparing(name):
    swapped = ModelName(name.host.swapcase(), name.namespace.swapcase(), name.model.swapcase(), name.tag.swapcase())
    assert swapped == name and hash(swapped) == hash(name)
    assert ModelName.parse(swapped.full).full == swapped.full


@given(names, names)
def test_different_models_stay_different(one, other):
    parts = [[getattr(n, p).lower() for p in ModelName.__slots__] for n in (one, other)]
    assert (one == other) == (parts[0] == parts[1])


@given(st.text(max_size=30))
def test_any_text_is_a_name_or_is_refused_with_words(text):
    try:
        name = ModelName.parse(text)
    except LocalModelsError as refused:
        assert "is no model name" in str(refused)
    else:
        assert ModelName.parse(name.full).full == name.full


@pytest.mark.parametrize("typo, candidates, meant", [
    ("qwen2.5:05b", (), "qwen2.5:0.5b"),
    ("gpt-oss:20bn", (), "gpt-oss:20b"),
    ("lama3.2", (), "llama3.2"),
    ("houseblend:v1", ("house-blend:v1", "tiny:latest"), "house-blend:v1"),
    ("zzzzzz", ("tiny:latest",), ""),
])
def test_a_typo_gets_a_suggestion(typo, candidates, meant):
    assert suggest(typo, candidates) == meant


def test_whoever_writes_a_digest_into_a_name_is_told_how_to_pin():
    with pytest.raises(LocalModelsError) as caught:
        ModelName.parse("tiny:v1@sha256:" + "a" * 64)
    assert caught.value.mend == 'To pin a model write a map: {name: tiny:v1, digest: "sha256:%s"}' % ("a" * 64)


@given(names, tags)
def test_other_tags_are_those_of_the_same_model(name, tag):
    other = ModelName(name.host.swapcase(), name.namespace, name.model, tag)
    assert other_tags(name, [name, other]) == ([other] if tag.lower() != name.tag.lower() else [])
    assert other_tags(name, [ModelName(name.host, name.namespace, name.model + "x", tag)]) == []


def test_a_name_is_never_its_own_suggestion():
    assert suggest("Tiny:latest", ("tiny", "tiny:latest")) == ""


@pytest.mark.parametrize("text", ["https://me:s3cret@registry.example/ns/x", "http://me:s3cret@registry.example/ns/x", "https://s3cret@h/ns/x@sha256:1"])
def test_a_password_in_a_name_is_refused_and_not_shown(text):
    with pytest.raises(LocalModelsError, match="://[*]{3}@.*is no model name: it carries a user or a password. Leave them out") as caught:
        ModelName.parse(text)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text, mend", [
    ("hf.co/repo", "To name another registry write all three parts: hf.co/<namespace>/repo"), ("a/b/c/d", "Write host/namespace/model:tag"),
    ("http://h/n/x", "Leave it out; for a registry without TLS set insecure: true"),
    ("@", "To pin a model write a map: {name: model:tag, digest: \"64 hex digits\"}"),
    ("x@sha256", "To pin a model write a map: {name: x, digest: \"sha256\"}")])
def test_what_to_write_in_place_of_what_is_no_name(text, mend):
    with pytest.raises(LocalModelsError) as caught:
        ModelName.parse(text)
    assert caught.value.mend == mend


def test_both_hosts_of_hugging_face_are_known_in_any_case():
    assert [is_hugging_face(ModelName.parse(text)) for text in ("HF.co/u/r", "huggingface.co/u/r", "hf.com/u/r", "hf/co")] == [True, True, False, False]


def test_a_name_is_equal_to_names_only():
    name = ModelName.parse("Tiny")
    assert name != "registry.ollama.ai/library/tiny:latest" and repr(name) == "ModelName('registry.ollama.ai/library/Tiny:latest')"


def test_what_is_at_hand_is_suggested_before_what_everybody_knows_and_as_it_is_spelt():
    assert suggest("qwen2.5:05b", ["QWEN2.5:5b"]) == "QWEN2.5:5b" and suggest(" Tinny ", ["Tiny:latest"]) == "Tiny:latest"
