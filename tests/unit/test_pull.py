# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pulls over real sockets: success only with the last word, and no wait without an end."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import threading
import time

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import Refused, Unreachable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama import Ollama
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Abandoned, Layers, _Watch
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull_causes import PullFailed
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving, streaming

START, END = {"status": "pulling manifest"}, {"status": "success"}


def layer(completed, total=100, digest="sha256:a"):
    line = {"status": "pulling aaa", "digest": digest, "total": total, "completed": completed}
    return {key: value for key, value in line.items() if value != 0}


def pull(answer, **more):
    with serving({("POST", "/api/pull"): answer}) as server:
        return Ollama(Client(server.url, "Ollama")).pull("tiny", **more)


def failure(answer, **more):
    with pytest.raises(PullFailed) as caught:
        pull(answer, **more)
    return caught.value


def test_a_pull_that_ends_with_success_and_what_it_told():
    seen = []
    lines = [START, layer(0), layer(40), layer(30), layer(90), layer(50, 50, "sha256:b"), {"status": "verifying sha256 digest"}, END]
    layers = pull(streaming(lines), on_progress=lambda layers, status: seen.append((layers.completed, layers.total, status)))
    assert seen[0] == (0, 0, "pulling manifest") and seen[-1] == (140, 150, "success")
    assert [done for done, dummy, dummy2 in seen[1:5]] == [0, 40, 30, 90]
    assert layers.fetched == 90, "a layer that was complete at its first line was there before"


@pytest.mark.parametrize("lines, end", [([START, layer(40)], True), ([START, layer(40)], False), ([], True), ([], False),
                                        ([START, b'{"status":"succ'], False), ([END, START], True)])
def test_an_answer_that_ends_without_success_is_a_failure_that_may_pass(lines, end):
    problem = failure(streaming(lines, end))
    assert (problem.kind, problem.passing) == ("truncated", True)


def test_a_connection_that_is_reset_in_mid_pull_is_a_failure_that_may_pass():
    def reset(handler):
        streaming([START, layer(40)], end=False)(handler)
        time.sleep(0.05)  # what was sent has arrived
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.rfile.close()
        handler.connection.close()

    problem = failure(reset)
    assert (problem.kind, problem.passing) == ("truncated", True)


def test_an_error_inside_status_200():
    problem = failure(streaming([START, {"error": "pull model manifest: file does not exist"}]))
    assert (problem.kind, problem.passing) == ("unknown", False)
    assert str(problem) == ('tiny could not be pulled: the registry has no such model (Ollama said: '
                            '"pull model manifest: file does not exist"). Correct the name or its tag.')


def test_success_of_an_inner_pull_is_not_the_end():
    assert failure(streaming([START, END, {"error": "write x-partial: no space left on device"}])).kind == "disk-full"


@pytest.mark.parametrize("answer, kind", [((500, {"error": "pull model manifest: 429: slow down"}), "busy"),
                                          ((400, {"error": "invalid model name"}), "bad-name")])
def test_an_error_with_a_status_of_its_own(answer, kind):
    assert failure(answer).kind == kind


@pytest.mark.parametrize("status, passing", [(429, True), (503, True), (504, True), (500, False)])
def test_a_proxy_that_is_too_busy_is_asked_again_when_it_says_whatever_its_words(status, passing):
    with pytest.raises((Refused, PullFailed)) as caught:
        pull((status, {"error": "come back"}, {"Retry-After": "7"}))
    assert (caught.value.passing, caught.value.retry_after) == (passing, 7 if passing else None)


@pytest.mark.parametrize("answer", [(404, "404 page not found"), (403, ""), (405, "405 method not allowed"), (502, "<html>bad</html>")])
def test_an_answer_of_something_else_than_ollama(answer):
    with pytest.raises(Refused) as caught:
        pull(answer)
    assert caught.value.status == answer[0]


def test_a_server_that_is_away():
    with serving({}) as server:
        gone = server.url
    with pytest.raises(Unreachable):
        Ollama(Client(gone, "Ollama")).pull("tiny")


def slowly(lines, pause=0.02):
    for line in lines:
        yield line
        time.sleep(pause)


@pytest.mark.parametrize("lines", [
    itertools.repeat({"status": "pulling aaa", "digest": "sha256:a"}, 100),  # ollama#17370: the same line for ever
    itertools.repeat(layer(40), 100),
    itertools.chain([layer(40)], itertools.repeat(layer(30), 100)),
])
def test_lines_that_come_without_progress_are_a_stall(lines):
    problem = failure(streaming(lambda: slowly(itertools.chain(lines, [END]))), stall_timeout=0.2)
    assert (problem.kind, problem.passing) == ("stalled", True)


def test_silence_is_a_stall():
    over = threading.Event()
    try:
        assert failure(streaming([START, layer(40)], hold=over), stall_timeout=0.1).kind == "stalled"
    finally:
        over.set()


@pytest.mark.thorough
def test_slow_is_no_stall():
    lines = [layer(done) for done in range(1, 50)] + [END]
    assert pull(streaming(lambda: slowly(lines, 0.05)), stall_timeout=2).fetched == 48


@pytest.mark.thorough
def test_hashing_a_large_model_takes_its_time():
    """Ollama is silent while it verifies; 40 MB may take two seconds more than any stall."""
    over = threading.Event()
    size = 40 * 1000 * 1000
    threading.Timer(0.8, over.set).start()
    with pytest.raises(PullFailed) as caught:
        pull(streaming([layer(1, size), {"status": "verifying sha256 digest"}], hold=over), stall_timeout=0.2)
    assert caught.value.kind == "truncated"


def test_a_pull_that_nobody_waits_for_is_cancelled():
    over = threading.Event()
    try:
        with pytest.raises(Abandoned) as caught:
            pull(streaming([START], hold=over), stall_timeout=1, abandoned=lambda: True)
    finally:
        over.set()
    assert "nobody waits" in str(caught.value)


def test_a_total_that_comes_later_or_not_again_is_kept():
    layers = Layers()
    for line in ({"digest": "a"}, {"digest": "a", "total": 7, "completed": 1}, {"digest": "a", "completed": 2}):
        layers.take(line)
    assert (layers.total, layers.completed) == (7, 2)


def test_what_is_no_line_of_a_pull_is_passed_over():
    assert pull(streaming([START, b"[1]\n", b"\n", b"7\n", END])).total == 0


def test_nothing_is_left_of_a_pull():
    """Neither the thread that watches nor the copy of its socket: a list may be long."""
    def left():
        return sum(isinstance(one, _Watch) for one in threading.enumerate()), len(os.listdir("/proc/self/fd"))

    with serving({("POST", "/api/pull"): streaming([START, END])}) as server:
        ollama, before = Ollama(Client(server.url, "Ollama")), left()
        for dummy in range(3):
            ollama.pull("tiny")
        assert left()[0] == 0 and left()[1] <= before[1] + 2, "those of the server's own ends may linger"


def test_what_counts_as_progress():
    layers = Layers()
    moved = [layers.take(line) for line in (START, layer(10), layer(10), layer(20), layer(5), layer(6), layer(0), layer(0), layer(1, digest="b"))]
    assert moved == [True, True, False, True, False, True, False, False, True]
