# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models made from other models: what may be declared, and when one is as declared."""

from __future__ import annotations

import random

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _recipe
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from hypothesis import given
from hypothesis import strategies as st

NAME = ModelName.parse("clerk")
WEIGHTS = "a" * 64


def go_text(value):
    """A text as Go's %#v writes it."""
    named = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\", '"': '\\"'}

    def one(character):
        if character in named:
            return named[character]
        if ord(character) < 32 or ord(character) == 127:
            return "\\x%02x" % ord(character)
        if character.isprintable():
            return character
        return "\\u%04x" % ord(character) if ord(character) < 0x10000 else "\\U%08x" % ord(character)

    return '"%s"' % "".join(map(one, value))


def go_number(value):
    """A number as Go's %#v writes a float64, exponents aside."""
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") else text


def shown(fields):
    """What POST /api/show says of a model, from system, template, license (str), parameters (dict), messages, from."""
    fields = dict({"system": "", "template": "", "license": "", "parameters": {}, "messages": [], "from": "sha256:" + WEIGHTS}, **fields)
    blocks = []
    for key, value in fields["parameters"].items():
        values = value if isinstance(value, list) else [value]
        said = [go_text(one) if isinstance(one, str) else str(one).lower() if isinstance(one, bool) else go_number(one) for one in values]
        blocks.append(["%-30s %s" % (key, one) for one in said])
    random.Random(1).shuffle(blocks)  # Go walks through a map in no order
    return {"system": fields["system"], "template": fields["template"], "license": fields["license"], "messages": fields["messages"],
            "parameters": "\n".join(sum(blocks, [])), "modelfile": "# hello\nFROM /srv/blobs/%s\nTEMPLATE x" % fields["from"].replace(":", "-")}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = {"a whole number": st.integers(-2 ** 40, 2 ** 40), "a number": st.floats(-1e6, 1e6).map(lambda x: x + 0.0), "true or false": st.booleans(),
          "a list of texts": st.lists(texts, min_size=1, max_size=3)}
parameters = st.fixed_dictionaries({}, optional={key: VALUES[kind] for key, kind in _recipe.PARAMETERS.items()})
messages = st.lists(st.fixed_dictionaries({"role": st.sampled_from(_recipe.ROLES), "content": texts}), max_size=2)
recipes = st.builds(_recipe.Recipe, st.just(ModelName.parse("tiny")), texts, texts, parameters, st.lists(texts.filter(bool), max_size=2), messages)
bases = st.builds(lambda **fields: shown(fields), system=texts, template=texts, license=texts, parameters=parameters, messages=messages)


@given(recipes, bases)
def test_what_is_made_by_a_recipe_is_as_declared_and_each_difference_is_seen(recipe, base):
    made = shown(_recipe.made(recipe, base))
    assert _recipe.differences(recipe, made, base) == []
    for key, other in (("system", "?!"), ("template", "?!"), ("license", "?!"), ("messages", [{"role": "user", "content": "?!"}]),
                       ("parameters", {"seed": 2 ** 50}), ("from", "sha256:" + "b" * 64)):
        assert [one[0] for one in _recipe.differences(recipe, shown(dict(_recipe.made(recipe, base), **{key: other})), base)] == [key]


@given(parameters)
def test_parameters_survive_the_text_that_ollama_makes_of_them(declared):
    assert _recipe.parameters_in(shown({"parameters": declared})["parameters"]) == declared


def test_the_text_of_a_real_server():
    """Taken from Ollama 0.32.15."""
    text = ('seed                           -1\nstop                           "a b"\nstop                           "\\"q\\"\\n"\n'
            'stop                           "\u00e9\\x01"\nuse_mmap                       true\nmin_p                          1e-07\n'
            'num_predict                    1e+06\nrepeat_penalty                 1e+21\nnum_ctx                        2048')
    assert _recipe.parameters_in(text) == {"seed": -1, "stop": ["a b", '"q"\n', "\u00e9\x01"], "use_mmap": True, "min_p": 1e-7,
                                           "num_predict": 1000000, "repeat_penalty": 1e21, "num_ctx": 2048}


def test_what_is_not_declared_is_the_bases():
    base = shown({"system": "Be kind", "license": "MIT", "parameters": {"stop": ["x"], "top_k": 5, "seed": 3}})
    recipe = _recipe.read(NAME, {"from": "tiny", "license": "own", "parameters": {"stop": [], "seed": "4"}, "template": ""})
    assert _recipe.made(recipe, base) == {"from": "sha256:" + WEIGHTS, "adapter": [], "system": "Be kind", "template": "", "license": "MIT\nown",
                                          "parameters": {"top_k": 5, "seed": 4}, "messages": []}


def test_what_makes_the_difference_is_sent_and_what_is_left_out_or_empty_is_not():
    own = {"system": "Be kind", "template": "{{ .Prompt }}", "parameters": {"num_ctx": 512}, "license": ["MIT", "Of the house"],
           "messages": [{"role": "user", "content": "hi"}]}
    assert _recipe.read(NAME, dict(own, **{"from": "base", "quantize": "q8_0"})).own() == own
    assert _recipe.read(NAME, dict(dict.fromkeys(own, None), **{"from": "base", "system": "", "license": [], "parameters": {}})).own() == {}


def test_a_renamed_base_is_the_same_base():
    base = shown({})
    assert _recipe.differences(_recipe.read(NAME, {"from": "another-name-of-tiny"}), base, base) == []


def test_values_that_templates_made_texts_of_get_their_types_back():
    recipe = _recipe.read(NAME, {"from": "tiny", "parameters": {"num_ctx": "8192", "temperature": "0.5", "use_mmap": "False", "stop": "x", "top_p": 1}})
    assert recipe.parameters == {"num_ctx": 8192, "temperature": 0.5, "use_mmap": False, "stop": ["x"], "top_p": 1.0}
    assert recipe.own() == {"parameters": recipe.parameters}


@pytest.mark.parametrize("item, said", [
    ({"system": "x"}, "clerk:latest has system, and no model that it is made from. Add the key from"),
    ({"from": "clerk"}, "is made from itself"),
    ({"from": "!bad"}, "is no model name"),
    ({"from": "x", "parameters": {"temprature": 1}}, "the parameter 'temprature', which Ollama does not know. Probably temperature is meant"),
    ({"from": "x", "parameters": {"zzz": 1}}, "Choose from draft_num_predict, "),
    ({"from": "x", "parameters": {"temperature": "hot"}}, "temperature: 'hot', which is not a number"),
    ({"from": "x", "parameters": {"temperature": "nan"}}, "which is not a number"),
    ({"from": "x", "parameters": {"num_ctx": 1.5}}, "num_ctx: 1.5, which is not a whole number"),
    ({"from": "x", "parameters": {"num_ctx": True}}, "which is not a whole number"),
    ({"from": "x", "parameters": {"num_ctx": None}}, "which is not a whole number"),
    ({"from": "x", "parameters": {"use_mmap": 1}}, "which is not true or false"),
    ({"from": "x", "parameters": {"stop": [1]}}, "which is not a list of texts"),
    ({"from": "x", "parameters": "seed 1"}, "parameters that are no map"),
    ({"from": "x", "system": ["y"]}, "a system that is no text"),
    ({"from": "x", "license": {}, "template": 1}, "a template that is no text"),
    ({"from": "x", "license": 5}, "neither a text nor a list of texts"),
    ({"from": "x", "messages": [{"role": "robot", "content": "x"}]}, "a message that is none"),
    ({"from": "x", "messages": "hi"}, "a message that is none"),
])
def test_what_ollama_would_take_and_break_on_is_refused(item, said):
    with pytest.raises(LocalModelsError) as caught:
        _recipe.read(NAME, item)
    assert said in str(caught.value)


@given(recipes, bases)
def test_a_model_that_is_adopted_is_as_declared(recipe, base):
    made = shown(_recipe.made(recipe, base))
    item = _recipe.adopt("clerk:latest", made, "tiny:latest", base)
    assert isinstance(item, dict)
    assert _recipe.differences(_recipe.read(NAME, item), made, base) == []


def test_what_no_recipe_makes_is_adopted_by_its_name():
    base = shown({"system": "Be kind"})
    assert _recipe.adopt("clerk", shown({}), "tiny", base) == "clerk"
    assert _recipe.adopt("clerk", shown({"system": "Be kind", "parameters": {"nosuch": 1}}), "tiny", base) == "clerk"
    assert _recipe.adopt("clerk", shown({"system": "Be kind", "parameters": {"seed": 1}}), "tiny", base) == {
        "name": "clerk", "from": "tiny", "parameters": {"seed": 1}}


@pytest.mark.parametrize("item, said", [
    ({"from": "./here.gguf"}, "which is no absolute path. Write the whole path"), ({"from": "~/x.gguf"}, "which is no absolute path"),
    ({"from": "../x"}, "which is no absolute path"), ({"from": "base", "adapter": "lora.gguf"}, "x:latest has adapter: 'lora.gguf', which is no absolute path"),
    ({"from": "base", "adapter": 7}, "which is no absolute path"),
    ({"from": "base", "quantize": "q4_k"}, "which Ollama does not know. Probably q4_k_"), ({"from": "base", "quantize": "zzz"}, "Choose from f32, f16, q4_k_s"),
    ({"from": "base", "messages": ["x"]}, "message"),
    ({"from": "base", "messages": [{"role": "boss", "content": "x"}]}, "message"), ({"from": "base", "messages": [{"role": "user"}]}, "message"),
    ({"from": "base", "messages": [{"role": "user", "content": "x", "name": "y"}]}, "message"),
    ({"from": "base", "messages": [{"role": "user", "content": 7}]}, "message"),
    ({"from": "base", "parameters": {"temperature": "1e39"}}, "which is not a number"),
    ({"from": "base", "parameters": {"seed": 2 ** 53}}, "which is not a whole number"), ({"from": "base", "parameters": {"stop": [1]}}, "not a list of texts"),
    ({"from": "base", "parameters": {"stop": 1}}, "not a list of texts"), ({"from": "base", "license": 7}, "neither a text nor a list"),
])
def test_what_cannot_be_made_is_refused_with_words(item, said):
    with pytest.raises(LocalModelsError) as caught:
        _recipe.read(ModelName.parse("x"), item)
    assert said in str(caught.value)


def test_paths_licenses_and_values_are_read_as_they_are_meant():
    recipe = _recipe.read(ModelName.parse("x"), {"from": " /srv/m/ ", "license": ["a", "", "b"], "quantize": "Q8_0", "parameters": {
        "stop": "one", "use_mmap": "False", "seed": "7", "temperature": 1}})
    assert (recipe.path, recipe.license, recipe.quantize) == ("/srv/m", ["a", "b"], "q8_0") and str(recipe) == "from /srv/m"
    assert recipe.parameters == {"stop": ["one"], "use_mmap": False, "seed": 7, "temperature": 1.0}
    for item, of_files, shares in [({"from": "b"}, False, True), ({"from": "b", "quantize": "q8_0"}, True, False), ({"from": "b", "adapter": "/a"}, True, True),
                                   ({"from": "/b"}, True, False)]:
        recipe = _recipe.read(ModelName.parse("x"), item)
        assert (recipe.of_files, recipe.shares_weights) == (of_files, shares)


def test_licenses_and_messages_in_another_order_are_another_model_and_parameters_are_not():
    base = {"license": "base's", "parameters": "stop \"x\"\ntemperature 0.5"}
    hello, bye = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "bye"}
    recipe = _recipe.read(ModelName.parse("x"), {"from": "b", "license": ["a", "b"], "messages": [hello, bye], "parameters": {"top_k": 5, "seed": "1"}})
    shown = {"license": "base's\na\nb", "messages": [hello, bye], "parameters": "seed 1\ntemperature 0.5\ntop_k 5\nstop \"x\""}
    assert _recipe.differences(recipe, shown, base) == []
    for key, value in (("license", "base's\nb\na"), ("license", "a\nb"), ("messages", [bye, hello]),
                       ("parameters", shown["parameters"].replace("seed 1", "seed 2"))):
        assert [one[0] for one in _recipe.differences(recipe, dict(shown, **{key: value}), base)] == [key]


def test_the_adapters_of_a_model_are_a_difference():
    base = {"modelfile": "FROM /x/sha256-%s\n" % ("a" * 64)}
    shown = {"modelfile": base["modelfile"] + "ADAPTER /x/sha256-%s\n" % ("b" * 64)}
    recipe = _recipe.read(ModelName.parse("x"), {"from": "b"})
    assert _recipe.differences(recipe, shown, base) == [("adapter", ["sha256:" + "b" * 64], [])] and _recipe.differences(recipe, base, base) == []


@pytest.mark.parametrize("value, text", [("plain", "plain"), ("two\nlines", '"two\\nlines"'), (" blank", '" blank"'), ("\u00e9\n", '"\u00e9\\n"'),
                                         ({"b": 1, "a": "\u00e9"}, '{"a": "\u00e9", "b": 1}'), ([], "[]")])
def test_a_difference_is_shown_on_one_line(value, text):
    assert _recipe.as_text(value) == text
