# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From Ollama's words to FastGPT's records: never more promised than given."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.localmodels.fastgpt.plugins.filter.fastgpt import model_names
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_model import record, records, setup

CHAT = {"name": "qwen2.5:0.5b", "capabilities": ["completion", "tools"], "context_length": 32768, "num_ctx": None}
EMBED = {"name": "bge-m3:latest", "capabilities": ["embedding"], "context_length": 8192, "num_ctx": None}


def metadata(item, shown, context=None):
    return record(item, shown, context)["metadata"]


def test_a_chat_model_as_ollama_describes_it():
    assert record("qwen2.5:0.5b", CHAT) == {
        "name": "qwen2.5:0.5b", "state": "present",
        "metadata": {
            "type": "llm", "provider": "Ollama", "model": "qwen2.5:0.5b", "name": "qwen2.5:0.5b", "isActive": True,
            "requestUrl": None, "requestAuth": None, "maxContext": 4096, "maxResponse": 2048, "quoteMaxToken": 1536,
            "functionCall": False, "defaultConfig": {"num_ctx": None}, "vision": False, "toolChoice": True, "reasoning": False},
        "initial": {"maxTemperature": 1.2, "showTopP": True, "showStopSign": True, "censor": False}}


def test_an_embedding_model_as_ollama_describes_it():
    found = record("bge-m3", EMBED)
    assert found["name"] == "bge-m3:latest", "with its tag, so that it never meets FastGPT's own bge-m3"
    assert {key: found["metadata"][key] for key in ("type", "maxToken", "defaultToken")} == {
        "type": "embedding", "maxToken": 4096, "defaultToken": 512}
    assert "defaultConfig" not in found["metadata"]


@pytest.mark.parametrize("spelling", ["bge-m3", "bge-m3:latest", "registry.ollama.ai/library/bge-m3", "library/bge-m3:latest"])
def test_every_spelling_gives_one_id(spelling):
    assert record(spelling, EMBED)["name"] == "bge-m3:latest"


@pytest.mark.parametrize("item, shown, server, expected", [
    ({"name": "m"}, CHAT, None, 4096),                                   # Ollama's own default
    ({"name": "m"}, CHAT, 8192, 8192),                                   # OLLAMA_CONTEXT_LENGTH
    ({"name": "m"}, CHAT, 65536, 32768),                                 # no more than the model was made for
    ({"name": "m"}, dict(CHAT, num_ctx=16384), 8192, 16384),             # the model's own parameter
    ({"name": "m", "context": 20000}, dict(CHAT, num_ctx=16384), 8192, 20000),
    ({"name": "m", "context": 999999}, CHAT, 8192, 32768),
    ({"name": "m"}, dict(CHAT, context_length=None), None, 4096),
    ({"name": "m", "context": "8192"}, CHAT, None, 8192),                # inventories bring numbers as text
])
def test_context(item, shown, server, expected):
    assert metadata(item, shown, server)["maxContext"] == expected


@pytest.mark.parametrize("path, context, num_ctx, tools", [("aiproxy", 8192, 8192, True), ("one_api", 8192, 8192, False), ("direct", 4096, None, True)])
def test_what_does_not_come_through_on_a_path_is_not_promised(path, context, num_ctx, tools):
    (found,) = records([{"name": "m", "context": 8192}], [dict(CHAT, name="m:latest")], None, path)
    assert (found["metadata"]["maxContext"], found["metadata"]["defaultConfig"]["num_ctx"], found["metadata"]["toolChoice"]) == (context, num_ctx, tools)
    lower = record({"name": "m", "context": 1024, "tools": True}, CHAT, None, path)["metadata"]
    assert (lower["maxContext"], lower["toolChoice"]) == (1024, True)


def test_setup_knows_the_path():
    places = [{"host": "a", "url": "http://x:11434", "models": ["qwen2.5:0.5b"]}]
    assert [setup(places, [CHAT], path=path)["records"][0]["metadata"]["toolChoice"] for path in ("aiproxy", "one_api")] == [True, False]


def test_a_declared_context_is_sent_to_ollama_with_every_chat():
    assert metadata({"name": "m", "context": 999999}, CHAT)["defaultConfig"] == {"num_ctx": 32768}


def test_a_declared_context_cannot_raise_what_an_embedding_model_gets():
    assert metadata({"name": "m", "context": 8192}, EMBED)["maxToken"] == 4096
    assert metadata({"name": "m", "context": 1024}, EMBED)["maxToken"] == 1024


@pytest.mark.parametrize("word, key, capability", [("vision", "vision", "vision"), ("tools", "toolChoice", "tools"),
                                                   ("reasoning", "reasoning", "thinking")])
def test_abilities_come_from_ollama_and_can_be_overridden(word, key, capability):
    able = dict(CHAT, capabilities=["completion", capability])
    unable = dict(CHAT, capabilities=["completion"])
    assert metadata("m", able)[key] is True and metadata("m", unable)[key] is False
    assert metadata({"name": "m", word: False}, able)[key] is False
    assert metadata({"name": "m", word: True}, unable)[key] is True


def test_overrides_of_name_type_and_response():
    assert metadata({"name": "m", "display_name": "House model"}, CHAT)["name"] == "House model"
    assert metadata({"name": "m", "type": "embedding"}, CHAT)["type"] == "embedding"
    assert metadata({"name": "m", "max_response": 100}, CHAT)["maxResponse"] == 100
    assert metadata({"name": "m", "max_response": 999999}, CHAT)["maxResponse"] == 4096


@pytest.mark.parametrize("item, words", [
    ({"name": "m", "type": "rerank"}, "type 'rerank'"), ({"name": "m", "context": 0}, "no number of tokens"),
    ({"name": "m", "context": "many"}, "no number of tokens"), ({"name": "m", "max_response": True}, "no number of tokens")])
def test_nonsense_is_refused(item, words):
    with pytest.raises(LocalModelsError, match=words):
        record(item, CHAT)


tokens = some.one_of(some.none(), some.integers(1, 2_000_000))


@given(context=tokens, response=tokens, trained=tokens, own=tokens, server=tokens, kind=some.sampled_from(["llm", "embedding"]))
def test_never_promises_more_than_is_given(context, response, trained, own, server, kind):
    shown = {"name": "m", "capabilities": [], "context_length": trained, "num_ctx": own}
    item = {"name": "m", "context": context, "max_response": response, "type": kind}
    found = metadata(item, shown, server)
    gives = own or server or 4096
    if kind == "embedding":
        gives = min([gives] + [one for one in (trained, context) if one])
        assert 0 < found["defaultToken"] <= found["maxToken"] <= gives
        return
    sent = (found["defaultConfig"])["num_ctx"]
    gives = min(one for one in (sent or gives, trained) if one)
    assert found["maxContext"] == gives and 0 < found["maxContext"]
    assert 0 <= found["maxResponse"] <= found["maxContext"] and 0 <= found["quoteMaxToken"] <= found["maxContext"]
    assert (sent is None) == (context is None)
    if response is None:
        assert found["maxResponse"] + found["quoteMaxToken"] <= found["maxContext"]


@given(one=some.tuples(tokens, tokens), two=some.tuples(tokens, tokens), server=tokens)
def test_several_servers_are_promised_what_each_of_them_gives(one, two, server):
    shown = [dict(CHAT, context_length=trained, num_ctx=own) for trained, own in (one, two)]
    both = records(["qwen2.5:0.5b"], shown, server)[0]["metadata"]["maxContext"]
    assert both == min(metadata("qwen2.5:0.5b", each, server)["maxContext"] for each in shown)


def test_several_servers_share_the_abilities_of_each():
    shown = [CHAT, dict(CHAT, capabilities=["completion"])]
    assert records(["qwen2.5:0.5b"], shown)[0]["metadata"]["toolChoice"] is False


def place(models, host="box"):
    return {"host": host, "url": "http://%s:11434" % host, "models": models}


def test_setup_of_one_server():
    found = setup([place(["qwen2.5:0.5b", {"name": "bge-m3", "default_for": ["embedding"]}, {"name": "old:7b", "state": "absent"}])],
                  [CHAT, EMBED])
    assert found["defaults"] == {"embedding": "bge-m3:latest"}
    assert found["fallback_defaults"] == {"llm": "qwen2.5:0.5b", "datasetTextLLM": "qwen2.5:0.5b"}
    assert found["chat_model"] == "qwen2.5:0.5b" and found["missing"] == []
    assert found["ollamas"] == [{"name": "ollama", "url": "http://box:11434", "models": [
        {"name": "qwen2.5:0.5b", "type": "llm"}, {"name": "bge-m3:latest", "type": "embedding"}]}]
    assert found["channels"] == [{"name": "ollama", "base_url": "http://box:11434", "models": [
        {"name": "qwen2.5:0.5b", "type": "chat"}, {"name": "bge-m3:latest", "type": "embedding"}]}]
    assert [one["state"] for one in found["records"]] == ["present", "present", "absent"]


def test_setup_of_several_servers_names_a_channel_for_each():
    found = setup([place(["qwen2.5:0.5b"], "one"), place([{"name": "old", "state": "absent"}], "two")], [CHAT])
    assert [(one["name"], one.get("state")) for one in found["channels"]] == [("ollama-one", None), ("ollama-two", "absent")]


def test_two_spellings_of_one_model_are_one():
    found = setup([place(["qwen2.5:0.5b", {"name": "library/qwen2.5:0.5b", "default_for": ["llm"]}])], [CHAT])
    assert len(found["records"]) == len(found["ollamas"][0]["models"]) == 1 and found["defaults"] == {"llm": "qwen2.5:0.5b"}


@pytest.mark.parametrize("one, two, served", [
    (["qwen2.5:0.5b"], [{"name": "qwen2.5:0.5b", "state": "absent", "context": 1}], [True, False]),
    ([{"name": "qwen2.5:0.5b", "state": "absent", "context": 1}], ["qwen2.5:0.5b"], [False, True]),
    ([{"name": "qwen2.5:0.5b", "state": "absent"}], [{"name": "qwen2.5:0.5b", "state": "absent"}], [False, False])])
def test_a_model_that_one_host_no_longer_holds_stays_while_another_one_serves_it(one, two, served):
    found = setup([place(one, "one"), place(two, "two")], [CHAT])
    (kept,) = found["records"]
    assert [channel.get("state") != "absent" for channel in found["channels"]] == served
    assert kept["state"] == ("present" if any(served) else "absent") and kept["metadata"].get("maxContext", 4096) == 4096


def test_hosts_may_spell_a_model_in_their_own_way():
    found = setup([place(["Qwen2.5:0.5B"], "one"), place([{"name": "qwen2.5:0.5b", "default_for": ["llm"]}], "two")], [CHAT])
    names = [model["name"] for one in found["ollamas"] for model in one["models"]] + [one["name"] for one in found["records"]] + [found["chat_model"]]
    assert names == ["qwen2.5:0.5b"] * 4 and found["missing"] == []


def test_setup_before_anything_was_pulled():
    found = setup([place(["qwen2.5:0.5b", {"name": "bge-m3", "default_for": ["embedding"]}])], [])
    assert found["missing"] == ["qwen2.5:0.5b", "bge-m3:latest"]
    assert [one["metadata"]["type"] for one in found["records"]] == ["llm", "embedding"]


@pytest.mark.parametrize("models, words", [
    ([{"name": "bge-m3", "default_for": ["llm"]}], "cannot be FastGPT's default for llm"),
    ([{"name": "qwen2.5:0.5b", "default_for": ["chat"]}], "default_for 'chat', which is unknown"),
    ([{"name": "qwen2.5:0.5b", "default_for": ["llm"]}, {"name": "other", "default_for": ["llm"]}], "Both qwen2.5:0.5b and other:latest")])
def test_defaults_that_contradict_are_refused(models, words):
    with pytest.raises(LocalModelsError, match=words):
        setup([place(models)], [CHAT, EMBED])


@pytest.mark.parametrize("known", [[], [EMBED]])
def test_a_text_in_the_place_of_a_list_of_uses_is_told(known):
    with pytest.raises(LocalModelsError, match=r"bge-m3:latest has default_for 'embedding', which is no list. Write default_for: \[embedding\]"):
        setup([place([{"name": "bge-m3", "default_for": "embedding"}])], known)


def test_the_names_in_a_list_of_models():
    assert model_names(["qwen2.5", {"name": "Bge-M3", "default_for": ["embedding"]}]) == ["qwen2.5:latest", "Bge-M3:latest"]
    assert model_names("a:1, b") == ["a:1", "b:latest"]
    with pytest.raises(AnsibleFilterError, match="has no name"):
        model_names([{"state": "absent"}])


@pytest.mark.parametrize("word, can", [("false", False), ("no", False), ("true", True), (True, True), ("", True), (None, True)])
def test_a_word_for_what_a_model_can_do_is_read_as_it_is_meant(word, can):
    (found,) = records([{"name": "qwen2.5:0.5b", "tools": word}], [CHAT])
    assert found["metadata"]["toolChoice"] is can
