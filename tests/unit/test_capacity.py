# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether models fit disk and memory, before the first byte."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _capacity, _context, _made, _notes, _prepare, _registry
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._machine import Memory
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found, read_wanted
from hypothesis import given
from hypothesis import strategies as st

GB = 1000 ** 3
IMAGE = "application/vnd.ollama.image."


class Manifest:
    digest, digests = "e" * 64, {"e" * 64}

    def __init__(self, name="x", **layers):
        self.layers = [(IMAGE + kind, size) for kind, size in layers.items()]
        self.blobs = {"%s-%s" % (name, kind): size for kind, size in layers.items()}
        self.size, self.weights = sum(layers.values()), name

    def is_the_same(self, found):
        return False


class Store:
    path = "/models"

    def __init__(self, free, held=()):
        self._free, self.held = free, dict(held)

    def free(self):
        if isinstance(self._free, Exception):
            raise self._free
        return self._free

    def sizes_of(self, name):
        return self.held.get(name.short)

    def missing(self, manifests):
        return sum({digest: size for manifest in manifests for digest, size in manifest.blobs.items()}.values())


def judged(models, manifests, host, mode="enforce", found=(), problems=None):
    prepared = _prepare.Prepared([Found(ModelName.parse(name), "a" * 64, size) for name, size in dict(found).items()], read_wanted(models))
    prepared.manifests = {ModelName.parse(name).key: manifest for name, manifest in manifests.items()}
    prepared.decide()
    return _capacity.judge(prepared, {ModelName.parse(name).key: one for name, one in (problems or {}).items()}, host, mode)


def host(free=10 ** 15, memory=None, slots=0, **held):
    return _capacity.Host(Store(free, held), lambda: (memory, {"max_loaded_models": slots}))


SMALL = Memory(4 * GB, GB)


def test_a_disk_that_is_too_small_is_said_with_what_is_missing():
    with pytest.raises(LocalModelsError) as caught:
        judged(["x", "y"], {"x": Manifest("x", model=3 * GB), "y": Manifest("y", model=3 * GB)}, host(4 * GB))
    assert str(caught.value) == (
        "The declared models need 6.0 GB more on the disk of /models, and 4.0 GB are free: 2.0 GB are missing. Free that much, move the store to"
        " a larger disk, or declare fewer or smaller models; nothing was changed.")


def test_what_models_share_counts_once_and_what_goes_before_makes_room():
    shared = {"x": Manifest("w", model=3 * GB), "y": Manifest("w", model=3 * GB)}
    assert judged(["x", "y"], shared, host(3 * GB)) == []
    models = ["x", {"name": "old", "state": "absent"}, "kept"]
    held = {"old:latest": {"o": 2 * GB, "both": 5 * GB}, "kept:latest": {"both": 5 * GB}}
    found = {"old": 7 * GB, "kept": 5 * GB}
    assert judged(models, {"x": Manifest("x", model=3 * GB)}, host(GB, **held), found=found) == []
    with pytest.raises(LocalModelsError, match="3.0 GB are free: 1.0 GB are missing"):
        judged(models, {"x": Manifest("x", model=4 * GB)}, host(GB, **held), found=found)
    with pytest.raises(LocalModelsError, match="1.0 GB are free"):  # nobody knows what the deletion frees
        judged(models, {"x": Manifest("x", model=3 * GB)}, host(GB), found=found)


def test_a_model_that_can_never_be_loaded_is_refused_with_figures():
    with pytest.raises(LocalModelsError) as caught:
        judged(["x"], {"x": Manifest("x", model=40 * GB, projector=GB, license=GB)}, host(memory=Memory(32 * GB, 2 * GB, 4 * GB, limited=True)))
    assert str(caught.value) == (
        "x:latest can never be loaded here: its weights alone are 41.0 GB, and this host has 32.0 GB of memory, the limit of its container or"
        " service, 2.0 GB of swap, 4.0 GB of video memory: 3.0 GB are missing. Declare a smaller model or quantization, or one for another host;"
        " capacity: warn goes on all the same. Nothing was changed.")


def test_weights_are_what_is_loaded():
    assert _capacity.weights_size(Manifest(model=8, projector=4, adapter=2, tensor=1, license=100, params=100, template=100)) == 15


@given(st.integers(0, 10 ** 12), st.integers(0, 10 ** 12), st.integers(0, 10 ** 12), st.integers(0, 10 ** 12))
def test_what_may_fit_is_never_refused(size, ram, swap, vram):
    refused = False
    try:
        judged(["x"], {"x": Manifest("x", model=size)}, host(memory=Memory(ram, swap, vram)))
    except LocalModelsError:
        refused = True
    assert refused == (size > ram + swap + vram)


@pytest.mark.parametrize("memory", [None, Memory(GB, 0, None)])
def test_what_is_not_known_is_not_guessed(memory):
    assert judged(["x"], {"x": Manifest("x", model=40 * GB)}, host(memory=memory)) == []


def test_warn_says_it_and_goes_on_and_ignore_does_not_look():
    manifests = {"x": Manifest("x", model=40 * GB), "y": Manifest("y", model=GB)}
    said = judged(["x", "y"], manifests, host(GB, SMALL), "warn")
    assert [one[:40] for one in said] == ["x:latest can never be loaded here: its w", "The declared models need 41.0 GB more on"]
    looked = _capacity.Host(Store(OSError("looked")), lambda: pytest.fail("looked"))
    assert judged(["x", "y"], manifests, looked, "ignore") == []


def test_both_are_told_at_once():
    with pytest.raises(LocalModelsError) as caught:
        judged(["x"], {"x": Manifest("x", model=40 * GB)}, host(GB, SMALL))
    assert "can never be loaded" in str(caught.value) and "on the disk of /models" in str(caught.value)


def test_what_cannot_be_looked_at_is_said():
    manifests = {"x": Manifest("x", model=GB)}
    assert judged(["x"], manifests, _capacity.Host()) == [
        "Whether 1.0 GB more fit the disk was not checked, for the model store of this server was not found on this host. Name it by store_path."]
    assert "was not checked: no entry" in judged(["x"], manifests, _capacity.Host(Store(PermissionError("no entry"))))[0]
    said = judged(["x"], {}, host(), problems={"x": _registry.Unreadable("The registry refuses the connection")})
    assert said == ["The size of x:latest is unknown before it is pulled, and whether it fits the disk and the memory: this host could not ask"
                    " the registry. The registry refuses the connection."]


CHAT = {"name": "chat", "default_for": ["llm"]}
EMBED = {"name": "embed", "default_for": ["embedding"]}
BOTH = {"chat": Manifest("c", model=3 * GB), "embed": Manifest("e", model=2 * GB)}


@pytest.mark.parametrize("models", [[CHAT, EMBED], [{"name": "chat", "state": "loaded"}, EMBED],
                                    [{"name": "chat", "state": "loaded"}, {"name": "embed", "state": "loaded"}]])
def test_models_that_push_each_other_out_are_told_of(models):
    """Field failure chat-and-embedding-evict-each-other."""
    assert judged(models, BOTH, host(memory=SMALL)) == [
        "chat:latest and embed:latest are used by turns and do not fit in memory together: they need 5.0 GB even without their contexts, and this"
        " host has 4.0 GB of memory, 1.0 GB of swap, no GPU that says how much it has. Ollama unloads one for the other, and each question waits"
        " for that. Declare smaller ones, or give one of them an Ollama of its own."]


@pytest.mark.parametrize("models, memory", [
    ([CHAT, EMBED], Memory(5 * GB)), ([CHAT, EMBED], Memory(GB, 9 * GB, 5 * GB)), ([CHAT, EMBED], Memory(9 * GB, 0, None)), ([CHAT, EMBED], None),
    ([CHAT, "embed"], SMALL), ([CHAT, {"name": "mine", "from": "chat", "default_for": ["dataset_text"]}], SMALL),
])
def test_models_that_need_not_push_each_other_out(models, memory):
    assert judged(models, BOTH, host(memory=memory)) == []


def test_a_server_that_keeps_one_model_loaded_is_told_of():
    assert judged([CHAT, EMBED], BOTH, host(slots=1)) == [
        "chat:latest and embed:latest are used by turns, and this server keeps 1 loaded (OLLAMA_MAX_LOADED_MODELS): it unloads one for the other, and"
        " each question waits for that. Raise it, or give one of them an Ollama of its own."]


def test_nothing_to_do_looks_at_nothing():
    looked = _capacity.Host(None, lambda: pytest.fail("looked"))
    assert judged([CHAT, EMBED], {}, looked, found={"chat": 3 * GB, "embed": 2 * GB}) == []
    assert judged(["y"], {"y": Manifest("y", license=10)}, looked, "warn") != []


def test_what_is_held_counts_with_its_size():
    assert "they need 5.0 GB" in judged([CHAT, EMBED], {"embed": BOTH["embed"]}, host(memory=SMALL), found={"chat": 3 * GB})[0]


def test_a_layer_that_a_coming_model_needs_is_not_freed_before_it():
    models, held = ["x", {"name": "old", "state": "absent"}], {"old:latest": {"x-model": 3 * GB, "o": GB}}
    with pytest.raises(LocalModelsError, match="1.0 GB are free: 2.0 GB are missing"):
        judged(models, {"x": Manifest("x", model=3 * GB)}, host(0, **held), found={"old": 4 * GB})


@pytest.mark.parametrize("slots, told", [(0, False), (1, True), (2, False), (3, False)])
def test_only_a_server_that_is_known_to_keep_too_few_is_told_of(slots, told):
    assert bool(judged([CHAT, EMBED], BOTH, host(slots=slots))) == told


def test_models_with_the_same_weights_take_one_place_and_one_that_goes_takes_none():
    mine = {"name": "mine", "from": "chat", "default_for": ["dataset_text"]}
    assert judged([CHAT, mine], BOTH, host(slots=1)) == []
    gone = {"name": "embed", "state": "absent", "default_for": ["embedding"]}
    assert judged([CHAT, gone], {"chat": BOTH["chat"]}, host(slots=1), found={"embed": GB}) == []


def test_where_nobody_listens_yet_nobody_misses_the_store():
    prepared = _prepare.Prepared([], read_wanted(["x"]), reachable=False)
    prepared.manifests = {prepared.wanted[0].name.key: Manifest("x", model=GB)}
    assert _capacity.judge(prepared, {}, _capacity.Host(), "enforce") == []


def made(tmp_path, size, **item):
    (tmp_path / "x.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\0" * 16 + b"y" * (size - 24))
    prepared = _prepare.Prepared([], read_wanted([dict({"name": "x", "from": str(tmp_path / "x.gguf")}, **item)]))
    prepared.made = _made.look(prepared.wanted)
    prepared.notes = _notes.Notes(str(tmp_path / "notes"))
    prepared.decide()
    return prepared


@pytest.mark.parametrize("version, free, missing", [("0.34.4", 1000, 0), ("0.34.4", 999, 1), ("0.32.15", 3000, 0), ("0.32.15", 2999, 1)])
def test_what_is_made_from_files_has_to_fit_the_disk_too(tmp_path, version, free, missing):
    class Empty(Store):
        def there(self, digest, size):
            return 0

    def judge():
        return _capacity.judge(made(tmp_path, 1000), {}, _capacity.Host(Empty(free), version=version), "enforce")

    if missing:
        with pytest.raises(LocalModelsError, match="are free: %d B are missing" % missing):
            judge()
    else:
        assert judge() == []


def test_of_files_that_are_there_only_what_comes_of_them_counts_and_they_are_read_only_then(tmp_path):
    class Full(Store):
        def there(self, digest, size):
            return size

    prepared = made(tmp_path, 1000)
    assert _capacity.judge(prepared, {}, _capacity.Host(Full(2000), version="0.32.15"), "enforce") == []
    assert len(prepared.to_make[0]._digests) == 1
    prepared = made(tmp_path, 1000)
    assert _capacity.judge(prepared, {}, _capacity.Host(Full(3000), version="0.32.15"), "enforce") == [] and not prepared.to_make[0]._digests


@pytest.mark.parametrize("item, refused", [({}, True), ({"quantize": "q4_K_M"}, False)])
def test_what_is_made_from_files_has_to_fit_memory_unless_it_becomes_smaller(tmp_path, item, refused):
    here = _capacity.Host(Store(10 ** 9), lambda: (Memory(999), {}), "0.32.15")
    if refused:
        with pytest.raises(LocalModelsError, match="x:latest can never be loaded here: its weights alone are 1.0 kB"):
            _capacity.judge(made(tmp_path, 1000, **item), {}, here, "enforce")
    else:
        assert _capacity.judge(made(tmp_path, 1000, **item), {}, here, "enforce") == []


QWEN = {"general.architecture": "qwen2", "qwen2.block_count": 28, "qwen2.attention.head_count": 28, "qwen2.attention.head_count_kv": 4,
        "qwen2.embedding_length": 3584, "qwen2.context_length": 32768}
PER_TOKEN = 2 * 28 * 4 * 128 * 2  # keys and values, layers, heads, numbers of a head, bytes


@pytest.mark.parametrize("change, parameters, asked, limits, tokens", [
    ({}, "", 0, {"context_length": 4096}, 4096), ({}, "num_ctx 8192", 0, {"context_length": 4096}, 8192), ({}, "num_ctx 8192", 1024, {}, 1024),
    ({}, "", 10 ** 6, {}, 32768), ({}, "", 0, {"context_length": 4096, "num_parallel": 3}, 3 * 4096), ({}, "", 0, {"context_length": None}, 0),
    ({"qwen2.attention.head_count_kv": [8, 4]}, "", 1000, {}, 1000), ({"qwen2.attention.head_count_kv": []}, "", 1000, {}, 0),
    ({"qwen2.block_count": None}, "", 1000, {}, 0), ({"qwen2.attention.head_count": 0}, "", 1000, {}, 0), ({"qwen2.context_length": 0}, "", 99999, {}, 99999)])
def test_a_context_takes_what_ollama_reckons_with(change, parameters, asked, limits, tokens):
    assert _context.size({"model_info": dict(QWEN, **change), "parameters": parameters}, asked, limits) == tokens * PER_TOKEN


def test_of_a_model_that_says_nothing_no_context_is_reckoned_with():
    assert _context.size({}, 4096, {}) == 0 and PER_TOKEN == 57344


@pytest.mark.parametrize("context, ram, fits", [(1000, 5 * GB + 57343999, False), (1000, 5 * GB + 57344000, True), (0, 5 * GB + 1, True)])
def test_the_context_of_what_is_here_counts_where_models_are_used_by_turns(context, ram, fits):
    asked = []
    here = _capacity.Host(Store(10 ** 15), lambda: (Memory(ram), {"num_parallel": 1}), show=lambda name: asked.append(name) or {"model_info": QWEN})
    said = judged([dict(CHAT, context=str(context or "")), EMBED], {"embed": BOTH["embed"]}, here, found={"chat": 3 * GB})
    assert asked == ["chat:latest"], "what comes is not here yet"
    assert [("they need 5.1 GB with the contexts of those that are here, and this host has 5.1 GB" in one) for one in said] == [True] * (not fits)
