# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress: what the module writes, what a person reads, and how the module notices that nobody does."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _progress
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Layers

MB = 1000 * 1000


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture()
def clock():
    return Clock()


@pytest.fixture()
def progress(tmp_path, clock):
    return _progress.Progress(str(tmp_path / "progress"), 2, clock)


def written(progress):
    with open(progress.path, encoding="utf-8") as state:
        return _progress.read(state.read())


def moved(track, layers, completed, total=100 * MB):
    layers.take({"digest": "sha256:a", "completed": completed, "total": total})
    track.moved(layers, "pulling aaa")


def test_a_pull_from_its_start_to_its_end(progress, clock):
    layers = Layers()
    track = progress.start("qwen2.5:7b", 100 * MB)
    assert _progress.line("gpu1", written(progress)) == "gpu1: qwen2.5:7b, 0 %, 0 B of 100.0 MB, waiting for the registry, starting, model 1 of 2"
    for second in range(11):
        clock.now += 1
        moved(track, layers, second * 2 * MB)
    assert _progress.line("gpu1", written(progress)) == "gpu1: qwen2.5:7b, 20 %, 20.0 MB of 100.0 MB, 2.0 MB/s, 40 s left, model 1 of 2"
    progress.end("qwen2.5:7b", "Pulled qwen2.5:7b")
    state = written(progress)
    assert _progress.line("gpu1", state) == "" and _progress.new_lines("gpu1", state, 0) == ["gpu1: Pulled qwen2.5:7b"]
    assert _progress.new_lines("gpu1", state, 1) == []
    progress.start("second", 0)
    assert _progress.line("gpu1", written(progress)) == "gpu1: second, starting, model 2 of 2"


def test_a_second_try_says_so(progress):
    for dummy in range(2):
        progress.start("x", 0)
    assert "try 2" in _progress.line("gpu1", written(progress))


def test_the_rate_is_that_of_the_last_seconds(progress, clock):
    layers = Layers()
    track = progress.start("x", 1000 * MB)
    for second in range(61):
        clock.now += 1
        moved(track, layers, second * (MB if second < 40 else 0) + (40 * MB + (second - 40) * 5 * MB if second >= 40 else 0))
    assert 4.9 * MB <= written(progress)["models"]["x"]["rate"] <= 5.1 * MB


def test_a_standstill_shows_no_rate(progress, clock):
    layers = Layers()
    track = progress.start("x", 0)
    for dummy in range(30):
        clock.now += 1
        moved(track, layers, 10 * MB)
    assert _progress.line("h", written(progress)) == "h: x, 10 %, 10.0 MB of 100.0 MB, waiting for the registry, model 1 of 2"


def test_the_file_is_written_at_most_once_a_second(progress, clock):
    layers = Layers()
    track = progress.start("x", 0)
    clock.now += 0.5
    moved(track, layers, MB)
    assert written(progress)["models"]["x"]["completed"] == 0
    clock.now += 0.6
    moved(track, layers, 2 * MB)
    assert written(progress)["models"]["x"]["completed"] == 2 * MB


def test_without_a_watcher_nothing_is_written_and_nobody_is_missed(tmp_path, clock):
    progress = _progress.Progress(None, 1, clock)
    progress.start("x", 0)
    progress.end("x", "done")
    progress.close()
    clock.now += 10 ** 6
    assert progress.abandoned() is False


@pytest.mark.parametrize("vanish", [False, True])
def test_a_watcher_that_no_longer_touches_its_file_is_gone(progress, clock, vanish):
    watched = progress.path + ".watched"
    with open(watched, "w", encoding="utf-8"):
        pass
    for second in range(5):
        clock.now += 50
        os.utime(watched, (second, second))
        assert progress.abandoned() is False
    if vanish:
        os.remove(watched)
        assert progress.abandoned() is False
    clock.now += _progress.GONE_AFTER - 1
    assert progress.abandoned() is False
    clock.now += 2
    assert progress.abandoned() is True
    progress.start("x", 0)
    folder = os.path.dirname(progress.path)
    progress.close()
    assert not os.path.exists(folder), "nothing is left behind"


def test_a_folder_that_was_taken_away_is_no_error(progress, tmp_path):
    progress.start("x", 0)
    for name in os.listdir(str(tmp_path)):
        os.remove(str(tmp_path / name))
    os.rmdir(str(tmp_path))
    progress.end("x", "done")
    progress.close()


def test_a_disk_that_takes_no_progress_does_not_end_what_it_is_about(progress, clock):
    """It would look like an answer of Ollama that was cut: both are errors of the system."""
    for name in (".new", ".ended"):
        os.mkdir(progress.path + name)  # whoever is root may write anywhere else
    track = progress.start("x", 0)
    clock.now += 2
    moved(track, Layers(), 1)
    progress.end("x", "done")
    progress.close()
    assert not os.path.exists(progress.path)


def test_the_end_can_be_seen(progress):
    progress.close()
    assert os.path.exists(progress.path + ".ended")


@pytest.mark.parametrize("text, read", [("", False), ("Welcome to gpu1\n", False), ('{"other": 1}', False), ("[]", False),
                                        ('motd\n%s\nended\n' % json.dumps({"models": {}}), True)])
def test_what_a_host_prints_around_it_does_not_matter(text, read):
    assert (_progress.read(text) is not None) == read


def test_several_pulls_are_one_line(tmp_path, clock):
    progress = _progress.Progress(str(tmp_path / "progress"), 8, clock)
    tracks, layers = {}, {}
    for name in ("a:1", "b:1", "c:1"):
        tracks[name], layers[name] = progress.start(name, 100 * MB), Layers()
    for second in range(11):
        clock.now += 1
        moved(tracks["a:1"], layers["a:1"], second * 6 * MB)
        moved(tracks["b:1"], layers["b:1"], second * 3 * MB)
    clock.now += 1
    layers["c:1"].take({"digest": "sha256:c", "completed": 0, "total": 100 * MB})
    tracks["c:1"].moved(layers["c:1"], "pulling manifest")
    assert _progress.line("gpu1", written(progress)) == (
        "gpu1: 3 of 8 models, 30 %, 90.0 MB of 300.0 MB, 9.0 MB/s, 23 s left: a:1 60 %, b:1 30 %, c:1 0 %")
    progress.end("a:1", "Pulled a:1")
    assert _progress.line("gpu1", written(progress)) == "gpu1: 2 of 8 models, 15 %, 30.0 MB of 200.0 MB, 3.0 MB/s, 57 s left: b:1 30 %, c:1 0 %; 1 done"
    progress.end("c:1", "c:1 failed")
    assert _progress.line("gpu1", written(progress)) == "gpu1: b:1, 30 %, 30.0 MB of 100.0 MB, 3.0 MB/s, 23 s left, model 3 of 8"


@pytest.mark.parametrize("models", [1, 2])
def test_nothing_moves_the_cursor_of_a_terminal_or_breaks_a_line(progress, models):
    for number in range(models):
        track = progress.start("m%d" % number, 0)
        track.moved(Layers(), "up\r\n\x1b[2K\u2028load")
        progress._write()
    progress.say("Pulled\rit\n")
    state = written(progress)
    for line in [_progress.line("h", state)] + _progress.new_lines("h", state, 0):
        assert line.isprintable() and line.startswith("h: ")


@pytest.mark.parametrize("models, said", [
    ({"m": {"completed": 5 * MB, "total": 0, "rate": 0, "status": "pulling a", "tries": 1}}, "h: m, 5.0 MB, model 2 of 3"),
    ({"m": {"completed": MB, "total": MB, "rate": 7, "status": "verifying", "tries": 1}}, "h: m, 100 %, 1.0 MB of 1.0 MB, 7 B/s, verifying, model 2 of 3"),
    ({"m": {"completed": 2 * MB, "total": MB, "rate": 0, "status": "pulling a", "tries": 1}}, "h: m, 100 %, 1.0 MB of 1.0 MB, model 2 of 3"),
    ({"m": {"completed": MB, "total": MB, "rate": 0, "status": "verifying", "tries": 1},
      "n": {"completed": 1, "total": 0, "rate": 0, "status": "creating", "tries": 1}},
     "h: 2 of 3 models, 100 %, 1.0 MB of 1.0 MB: m verifying, n creating; 1 done"),
])
def test_lines_of_odd_moments(models, said):
    line = _progress.line("h", {"done": 1, "of": 3, "models": models, "ended": []})
    assert line == said


def test_a_line_names_four_models_at_most(tmp_path, clock):
    progress = _progress.Progress(str(tmp_path / "progress"), 9, clock)
    for number in range(6):
        progress.start("m%d" % number, 0)
    assert _progress.line("h", written(progress)) == "h: 6 of 9 models: m0 starting, m1 starting, m2 starting, m3 starting, ..."


def test_an_upload_is_told_as_a_pull_is_and_waits_for_no_registry(tmp_path):
    class Sent:
        completed, total, fetched = 0, 100 * 1000 * 1000, 0

    clock = Clock()
    progress = _progress.Progress(str(tmp_path / "p"), 1, clock)
    track = progress.start("house", Sent.total)
    clock.now += 2
    track.moved(Sent, "reading")
    assert _progress.line("h", written(progress)) == "h: house, 0 %, 0 B of 100.0 MB, reading"
    Sent.completed = Sent.fetched = 50 * 1000 * 1000
    clock.now += 5
    track.moved(Sent, "uploading tiny.gguf")
    assert _progress.line("h", written(progress)) == "h: house, 50 %, 50.0 MB of 100.0 MB, 10.0 MB/s, 5 s left, uploading tiny.gguf"
