# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models made from files, with a server that exists in memory only: any models found, any declared, uploads that break anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _apply, _made, _notes, _prepare, _report, _upload
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Refused
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found, read_wanted
from ansible_collections.localmodels.fastgpt.plugins.module_utils._progress import Progress
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned
from hypothesis import given, settings
from hypothesis import strategies as st


class Server:
    """`held`: {short name: digest}, `blobs`: set. What is made has a digest that stands for all that was asked. `cuts`: set of numbers of
    uploads that break. `sent`: digests, each time one arrives as a whole."""

    def __init__(self, version="0.32.15"):
        self.client = Client("http://ollama.lan:11434", "Ollama")  # elsewhere: what runs on this machine changes no test
        self._version = version
        self.held, self.blobs, self.cuts, self.sent, self.uploads, self.writes, self.asked = {}, set(), set(), [], 0, [], []
        self.systems, self.parameters = {}, {}

    def version(self):
        return self._version

    def found(self):
        self.asked.append("list")
        return [Found(ModelName.parse(name), digest, 100) for name, digest in self.held.items()]

    def show(self, name):
        self.asked.append("show")
        if name not in self.held:
            raise Refused("Ollama", "http://x", "answered 404", status=404)
        return {"system": self.systems.get(name, ""), "modelfile": "FROM /x/sha256-%s" % self.held[name],
                "parameters": "\n".join("%s %s" % pair for pair in self.parameters.get(name, {}).items())}

    def has_blob(self, digest):
        return digest in self.blobs

    def put_blob(self, digest, body, size, timeout):
        self.writes.append("blob")
        self.uploads += 1
        pieces = []
        while True:
            if self.uploads in self.cuts:
                body.read()
                raise self.client.unreachable(ConnectionResetError("cut"))
            piece = body.read(8192)
            if not piece:
                break
            pieces.append(piece)
        content = b"".join(pieces)
        assert len(content) == size and "sha256:" + hashlib.sha256(content).hexdigest() == digest
        self.sent.append(digest)
        self.blobs.add(digest)

    def create(self, name, request, on_status=None):
        self.writes.append("create")
        files = dict(request.get("files") or {}, **request.get("adapters") or {})
        assert set(files.values()) <= self.blobs
        what = dict(request, base=self.held.get(request.get("from")), files=sorted((request.get("files") or {}).values()))
        self.held[name] = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        self.systems[name], self.parameters[name] = request.get("system", ""), request.get("parameters", {})
        if on_status:
            on_status("writing manifest")


def gguf(content):
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + content


def safetensors(content):
    return struct.pack("<Q", 8) + b'{"a":1} ' + content


def run(server, items, notes, retries=0, check=False, progress=None):
    """(report, outcomes) of one run, as the module does it."""
    wanted = read_wanted(items)
    prepared = _prepare.prepare(server, wanted, assume_empty=check, notes=notes)
    if check:
        outcomes, found = _report.planned(prepared)
        return _report.report(outcomes, found, True), outcomes
    job = _apply.Run(server, prepared, progress or Progress(None, 1), retries=retries, sleep=lambda seconds: None)
    job.carry_out()
    notes.save()
    return _report.report(job.outcomes, job.found), job.outcomes


def write(folder, files):
    """{name: path} of what models are made from: "x" a GGUF file, "x/" a folder of safetensors. files: {name: bytes}."""
    paths = {}
    for name, content in files.items():
        path = os.path.join(folder, name.strip("/"))
        if name.endswith("/"):
            os.makedirs(path, exist_ok=True)
            parts = {"config.json": b"{}", "model-1.safetensors": safetensors(content), "model-2.safetensors": safetensors(b"the same in all")}
        else:
            parts = {"": gguf(content)}
        for part, raw in parts.items():
            with open(os.path.join(path, part) if part else path, "wb") as out:
                out.write(raw)
        paths[name] = path
    return paths


def listing(folder):
    """Every file below a folder, with what would change if it were written."""
    return sorted((path, name, os.stat(os.path.join(path, name)).st_mtime_ns) for path, dummy, names in os.walk(folder) for name in names)


CONTENT = st.sampled_from([b"one", b"two", b"three"])
FILES = st.fixed_dictionaries({"a.gguf": CONTENT, "b.gguf": CONTENT, "c/": CONTENT, "d/": CONTENT})
ITEM = st.fixed_dictionaries({"from": st.sampled_from(["a.gguf", "b.gguf", "c/", "d/"]), "system": st.sampled_from(["", "Be kind"]),
                              "quantize": st.sampled_from(["", "q8_0"]), "parameters": st.sampled_from([{}, {"seed": 1}, {"seed": "1", "top_k": 2}])})
DECLARED = st.dictionaries(st.sampled_from(["m", "n", "o"]), ITEM, min_size=1)


@pytest.mark.thorough
@settings(max_examples=60)
@given(st.lists(st.tuples(FILES, DECLARED, st.booleans(), st.sets(st.integers(1, 12))), min_size=1, max_size=4))
def test_whatever_was_there_and_wherever_it_breaks_the_declared_models_are_made_and_nothing_is_sent_twice(steps):
    server = Server()
    with tempfile.TemporaryDirectory() as folder:
        for files, declared, lost, cuts in steps:
            paths = write(folder, files)
            items = [dict(item, **{"name": name, "from": paths[item["from"]]}) for name, item in declared.items()]
            if lost:
                server.blobs.clear()  # as a start of Ollama does with what no manifest names
                server.sent.clear()
            cache = os.path.join(folder, "cache%d" % lost)
            server.uploads, server.cuts, server.writes = 0, cuts, []
            before, noted = dict(server.held), listing(folder)
            planned, dummy = run(server, items, _notes.Notes(cache), check=True)
            assert server.writes == [] and server.held == before and listing(folder) == noted
            for dummy in range(len(cuts) + 1):
                report, outcomes = run(server, items, _notes.Notes(cache))
                assert bool(_report.failure(outcomes)) == any(one["action"] == "failed" for one in report["models"])
                if not _report.failure(outcomes):
                    break
            else:
                raise AssertionError(report)
            assert len(server.sent) == len(set(server.sent))
            fresh = Server()
            fresh.blobs = server.blobs
            run(fresh, items, _notes.Notes(os.path.join(folder, "nowhere")))
            assert all(server.held[name] == digest for name, digest in fresh.held.items())
            for one in planned["models"]:
                same = before.get(one["name"]) == server.held[one["name"]]
                assert one["action"] == "recheck" or (one["action"] == "none") == same
            server.asked, server.writes = [], []
            report, dummy = run(server, items, _notes.Notes(cache))
            assert server.asked == ["list"] and server.writes == [] and not report["changed"] and report["actions"] == []


def test_a_second_try_in_the_same_run_sends_only_what_lacks(tmp_path):
    server, paths = Server(), write(str(tmp_path), {"c/": b"one"})
    server.cuts = {2}
    report, dummy = run(server, [{"name": "m", "from": paths["c/"]}], _notes.Notes(str(tmp_path / "cache")), retries=1)
    assert report["models"][0]["action"] == "create" and server.uploads == 4 and len(server.sent) == 3


def test_a_file_that_grows_or_shrinks_while_it_is_sent_is_an_error_that_says_so(tmp_path):
    for size in (5, 0):
        path = write(str(tmp_path), {"a.gguf": b"x" * 100})["a.gguf"]
        server, real = Server(), Server.put_blob

        def changed(self, digest, body, count, timeout, path=path, size=size, real=real):
            os.truncate(path, size)
            return real(self, digest, body, count, timeout)

        Server.put_blob = changed
        try:
            report, outcomes = run(server, [{"name": "m", "from": path}], _notes.Notes(str(tmp_path / "cache")), retries=3)
        finally:
            Server.put_blob = real
        assert "was changed while it was read" in str(_report.failure(outcomes)) and not report["changed"] and server.uploads <= 1


def test_when_nobody_waits_any_more_the_upload_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(_upload, "_LOOK_EVERY", 0)
    path = write(str(tmp_path), {"a.gguf": b"x" * (3 << 20)})["a.gguf"]
    server, progress = Server(), Progress(None, 1)
    progress.abandoned = lambda: "blob" in server.writes
    with pytest.raises(Abandoned):
        run(server, [{"name": "m", "from": path}], _notes.Notes(str(tmp_path / "cache")), progress=progress)
    assert server.held == {} and server.sent == []


def test_what_waits_for_a_change_of_its_base_is_made_anew(tmp_path):
    paths = write(str(tmp_path), {"a.gguf": b"one"})
    items = [{"name": "base", "from": paths["a.gguf"]}, {"name": "small", "from": "base", "quantize": "q8_0"}]
    server, cache = Server(), str(tmp_path / "cache")
    run(server, items, _notes.Notes(cache))
    first = dict(server.held)
    write(str(tmp_path), {"a.gguf": b"two"})
    report, dummy = run(server, items, _notes.Notes(cache))
    assert [one["action"] for one in report["models"]] == ["recreate", "recreate"] and server.held["small:latest"] != first["small:latest"]
    assert not run(server, items, _notes.Notes(cache))[0]["changed"]


@pytest.mark.parametrize("version, item, said", [
    ("0.34.1", {"adapter": True}, "takes no adapters"), ("0.34.1", {"quantize": "q8_0"}, "quantizes no GGUF"),
    ("0.34.0", {"quantize": "nvfp4"}, "Choose from f32"), ("0.34.4-rc1", {"from": "c/", "quantize": "q8_0"}, "Choose from int4"),
    ("0.34.0", {"adapter": True, "quantize": "q8_0"}, ""), ("0.34.1", {"from": "c/", "quantize": "int4"}, "")])
def test_what_a_server_of_that_version_cannot_make_is_refused_before_anything_is_sent(tmp_path, version, item, said):
    paths = write(str(tmp_path), {"a.gguf": b"one", "c/": b"two"})
    adapter = tmp_path / "lora.gguf"
    key, word = b"general.type", b"adapter"
    adapter.write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(key)) + key + struct.pack("<IQ", 8, len(word)) + word)
    item = dict(item, name="m", **{"from": paths[item.get("from", "a.gguf")]})
    if item.get("adapter"):
        item["adapter"] = str(adapter)
    server, cache = Server(version), str(tmp_path / "cache")
    if not said:
        assert run(server, [item], _notes.Notes(cache))[0]["models"][0]["action"] == "create"
        return
    for check in (True, False):
        with pytest.raises(LocalModelsError, match=said + ".*nothing was changed"):
            run(server, [item], _notes.Notes(cache), check=check)
    assert server.writes == []


def test_room_counts_what_is_sent_and_what_ollama_writes_of_it(tmp_path):
    paths = write(str(tmp_path), {"a.gguf": b"x" * 976, "c/": b"x" * 976})
    made = [_made.Made(one) for one in read_wanted([{"name": "m", "from": paths["a.gguf"]}, {"name": "n", "from": paths["c/"]}])]
    sizes = [one.size for one in made]
    assert sizes[0] == 1000
    assert _made.room("0.32.15", made, lambda one: 0) == 2 * sum(sizes) + max(sizes)
    assert _made.room("0.34.1", made, lambda one: 0) == sizes[0] + 2 * sizes[1]
    assert _made.room("0.34.1", made[:1], lambda one: one.size) == 0 and _made.room("", made[:1], lambda one: 0) == 1000


def test_notes_are_believed_only_if_nobody_else_can_write_them(tmp_path):
    path = write(str(tmp_path), {"a.gguf": b"one"})["a.gguf"]
    file, folder = _made._files.LocalFile("a.gguf", path), str(tmp_path / "cache")
    notes = _notes.Notes(folder)
    notes.note_digest(file, "sha256:racy", file.quiet_since + 1)
    assert notes.digest(file) == "", "a file that changed just now may change again under the same stamp"
    notes.note_digest(file, "sha256:x", file.quiet_since + 10)
    notes.note_recipe("d", {"from": ["x"]})
    notes.note_recipe("d", {"from": ["y"]})
    notes.save()
    assert _notes.Notes(folder).digest(file) == "sha256:x" and _notes.Notes(folder).recipes("d") == [{"from": ["y"]}, {"from": ["x"]}]
    assert os.stat(notes.path).st_mode & 0o777 == 0o600 and os.stat(folder).st_mode & 0o777 == 0o700
    os.utime(path, ns=(1, file.stamp[1]))
    assert _notes.Notes(folder).digest(_made._files.LocalFile("a.gguf", path)) == "", "its times were put back, and the inode tells"
    os.chmod(notes.path, 0o666)
    assert _notes.Notes(folder).recipes("d") == []
    for damaged in ("", "[]", '{"files": [], "models": {}}', '{"files": {"x": 1}, "models": {"d": 1}}'):
        os.chmod(notes.path, 0o600)
        with open(notes.path, "w", encoding="utf-8") as out:
            out.write(damaged)
        assert _notes.Notes(folder).recipes("d") == []


def test_two_modules_that_note_at_the_same_time_lose_nothing(tmp_path):
    one, other = _notes.Notes(str(tmp_path)), _notes.Notes(str(tmp_path))
    one.note_recipe("a", {"from": ["x"]})
    other.note_recipe("b", {"from": ["y"]})
    one.save()
    other.save()
    assert _notes.Notes(str(tmp_path)).recipes("a") and _notes.Notes(str(tmp_path)).recipes("b")


def test_notes_that_cannot_be_written_are_a_problem_to_tell(tmp_path):
    (tmp_path / "file").write_text("in the way")
    notes = _notes.Notes(str(tmp_path / "file" / "folder"))
    notes.save()  # nothing to write
    notes.note_recipe("d", {"from": ["x"]})
    with pytest.raises(LocalModelsError, match="could not be remembered.*each run reads them anew"):
        notes.save()


def test_a_body_never_holds_more_than_a_piece(tmp_path):
    path = write(str(tmp_path), {"a.gguf": b"x" * (5 << 20)})["a.gguf"]
    file, counted = _made._files.LocalFile("a.gguf", path), []
    with open(path, "rb") as content:
        body = _upload.Body(file, content, counted.append)
        pieces = [len(piece) for piece in iter(body.read, b"")]
    assert max(pieces) <= 1 << 20 and sum(pieces) == sum(counted) == file.size
