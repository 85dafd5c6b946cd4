# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models made from files: how those that are there differ from what is declared, with notes and without, and what is asked of Ollama."""

from __future__ import annotations

import struct

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _made, _notes, _upload
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Refused
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found, read_wanted
from ansible_collections.localmodels.fastgpt.tests.unit.test_files import lay
from ansible_collections.localmodels.fastgpt.tests.unit.test_upload import Track

NAME = ModelName.parse("m")
HI, BYE = {"role": "user", "content": "hi"}, {"role": "user", "content": "bye"}


class Shows:
    """An Ollama that shows `shown` ({short name: dict}); `asked`: names."""

    def __init__(self, **shown):
        self.shown, self.asked = {"%s:latest" % name: one for name, one in shown.items()}, []

    def show(self, name):
        self.asked.append(name)
        if name not in self.shown:
            raise Refused("Ollama", "http://x", "answered 404", status=404)
        return self.shown[name]


def made_of(tmp_path, **item):
    """{key: Made} of one model m, from x.gguf unless it says otherwise."""
    lay(tmp_path, "x.gguf", "lora.gguf")
    return _made.look(read_wanted([dict({"name": "m", "from": str(tmp_path / "x.gguf")}, **item)]))


def differing(tmp_path, ollama, held=("m", "base"), notes=None, **item):
    found = [Found(ModelName.parse(name), "digest of " + name, 1) for name in held]
    return _made.differences(ollama, found, made_of(tmp_path, **item), notes or _notes.Notes(str(tmp_path / "cache")))


@pytest.mark.parametrize("item, shown, differs", [
    ({}, {}, None), ({"system": "a"}, {"system": "a"}, None), ({"system": "a"}, {"system": "b"}, [("system", "b", "a")]),
    ({}, {"system": "b"}, [("system", "b", "")]),
    ({"license": "a"}, {"license": "b"}, [("license", "b", "a")]), ({"messages": [HI]}, {"messages": [BYE]}, [("messages", [BYE], [HI])]),
    ({}, {"template": "of the weights"}, None), ({"template": "a"}, {"template": "b"}, [("template", "b", "a")]), ({}, {"parameters": "seed 1"}, None),
    ({"parameters": {"seed": 1}}, {"parameters": "seed 1\ntop_k 2"}, None),
    ({"parameters": {"seed": 1, "top_k": 2, "top_p": 0.5}}, {"parameters": "seed 7\ntop_k 2"}, [("parameters", {"seed": 7}, {"seed": 1, "top_p": 0.5})])])
def test_without_notes_what_a_server_shows_is_compared_and_nothing_is_guessed(tmp_path, item, shown, differs):
    ollama = Shows(m=shown)
    assert differing(tmp_path, ollama, **item) == {NAME.key: differs} and ollama.asked == ["m:latest"]


@pytest.mark.parametrize("shown, differs", [({"system": "of the base"}, None), ({"system": "b"}, [("system", "b", "of the base")])])
def test_without_notes_what_is_not_declared_is_the_bases(tmp_path, shown, differs):
    ollama = Shows(m=shown, base={"system": "of the base"})
    assert differing(tmp_path, ollama, **{"from": "base", "quantize": "q8_0"}) == {NAME.key: differs} and ollama.asked == ["m:latest", "base:latest"]


def test_what_a_server_does_not_show_is_not_known_to_differ(tmp_path):
    assert differing(tmp_path, Shows()) == {NAME.key: None}
    assert differing(tmp_path, Shows(), held=["other"]) == {}, "it is not there"
    assert differing(tmp_path, Shows(), held=["m"], **{"from": "base", "quantize": "q8_0"}) == {NAME.key: []}, "its base is not there"


def test_with_notes_nothing_is_asked_and_each_difference_is_named(tmp_path):
    notes, item = _notes.Notes(str(tmp_path / "cache")), {"from": "base", "adapter": str(tmp_path / "lora.gguf"), "quantize": "q8_0", "system": "a"}
    one = made_of(tmp_path, **item)[NAME.key]
    one.read(notes)
    recipe = {"system": "a", "from": "digest of base", "adapter": [one.digest(one.adapter.files[0])], "quantize": "q8_0"}
    assert one.identity("digest of base") == recipe
    notes.note_recipe("digest of m", dict(recipe, quantize="f16"))
    notes.note_recipe("digest of m", recipe)
    notes.note_recipe("digest of m", {"system": "b", "from": "another", "adapter": ["x"], "parameters": {"seed": 1}})
    ollama = Shows()
    assert differing(tmp_path, ollama, notes=notes, **item) == {NAME.key: []}, "an earlier recipe made the same"
    assert differing(tmp_path, ollama, notes=notes, **dict(item, system="c")) == {NAME.key: [
        ("from", "another", "digest of base"), ("adapter", ["x"], recipe["adapter"]), ("quantize", "", "q8_0"), ("system", "b", "c"),
        ("parameters", {"seed": 1}, "")]}
    assert ollama.asked == []


def test_a_file_that_the_notes_know_is_not_read_again(tmp_path):
    class Known(_notes.Notes):
        def digest(self, file):
            return "sha256:known"

    one, read = made_of(tmp_path)[NAME.key], []
    one.read(Known(str(tmp_path / "cache")), read.append)
    assert one.digest(one.files[0]) == "sha256:known" and read == []
    one = made_of(tmp_path)[NAME.key]
    for dummy in range(2):
        one.read(_notes.Notes(str(tmp_path / "cache")), read.append)
    assert read == [one.size] == [24]


def test_what_is_wrong_with_a_file_is_told_of_its_model(tmp_path):
    for item, said in (({"from": "/nowhere/x"}, r"m:latest: /nowhere/x, which from names, .*; bring the file there first, .*; nothing was changed\."),
                       ({"adapter": str(tmp_path / "x.gguf")}, "m:latest: .*holds no adapter but a model. Make a LoRA file .*; nothing was changed")):
        with pytest.raises(LocalModelsError, match=said):
            made_of(tmp_path, **item)
    assert _made.look(read_wanted(["m", {"name": "n", "from": "m", "system": "x"}])) == {}


@pytest.mark.parametrize("there", [True, False])
def test_what_is_sent_and_asked_and_noted(tmp_path, there):
    class Server:
        requests, sent = [], []

        def has_blob(self, digest):
            return False

        def put_blob(self, digest, body, size, timeout):
            self.sent.append((digest, len(body.read(99)), timeout))

        def create(self, name, request, on_status):
            self.requests.append((name, request))
            on_status("writing manifest")

        def found(self):
            return [Found(ModelName.parse("base"), "b", 1)] + [Found(NAME, "d", 1)] * there

    class Action:
        name, shown = NAME, "M"

    server, track, notes = Server(), Track(), _notes.Notes(str(tmp_path / "cache"))
    server.requests, server.sent = [], []
    one = made_of(tmp_path, **{"from": "base", "adapter": str(tmp_path / "lora.gguf"), "quantize": "q8_0", "system": "a"})[NAME.key]
    _made.carry_out(server, Action(), one, "Base", notes, _upload.Steps(track, lambda: False, one.size), 7)
    digest = one.digest(one.files[0])
    assert server.sent == [(digest, one.size, 7)]
    assert server.requests == [("M", {"from": "Base", "adapters": {"lora.gguf": digest}, "quantize": "q8_0", "system": "a"})]
    statuses = [told[0] for told in track.told]
    assert statuses[0] == "reading" and statuses[-2:] == ["creating", "writing manifest"]
    assert notes.recipes("d") == ([one.identity("b")] if there else [])


@pytest.mark.parametrize("text, numbers", [("0.34.1", (0, 34, 1)), ("0.34.10-rc2", (0, 34, 10)), ("v1.2", (1, 2, 0)), ("", (0, 0, 0)), ("1.2.3.4", (1, 2, 3))])
def test_the_numbers_of_a_version(text, numbers):
    assert _made.parsed_version(text) == numbers


@pytest.mark.parametrize("file_type, item, refused", [
    (1, {"quantize": "q8_0"}, False), (32, {"quantize": "q8_0"}, False), (7, {"quantize": "q8_0"}, True), (0, {"quantize": "q8_0"}, True), (7, {}, False)])
def test_only_what_was_not_quantized_is_quantized(tmp_path, file_type, item, refused):
    key = b"general.file_type"
    (tmp_path / "q.gguf").write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(key)) + key + struct.pack("<II", 4, file_type))
    one = made_of(tmp_path, **dict(item, **{"from": str(tmp_path / "q.gguf")}))[NAME.key]
    if not refused:
        return _made.refuse_unfit("0.34.0", one)
    with pytest.raises(LocalModelsError, match="m:latest cannot be made by Ollama 0.34.0: it quantizes only F16 and BF16, and .*q.gguf is neither"):
        _made.refuse_unfit("0.34.0", one)


def test_what_is_quantized_from_a_base_on_the_server_is_for_the_server_to_judge(tmp_path):
    one = made_of(tmp_path, **{"from": "base", "quantize": "q8_0"})[NAME.key]
    _made.refuse_unfit("0.34.0", one)
    with pytest.raises(LocalModelsError, match="since 0.34.1 it quantizes no GGUF"):
        _made.refuse_unfit("0.34.1", one)
