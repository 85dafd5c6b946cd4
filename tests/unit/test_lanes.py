# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several pulls at a time: all of them run, never two that fetch the same layer, never more than asked for."""

from __future__ import annotations

import threading

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _lanes
from hypothesis import given
from hypothesis import strategies as st


class Item:
    def __init__(self, number, blobs):
        self.number, self.blobs = number, blobs


class Watched:
    """work() for carry_out, which looks who runs at the same time. fails: numbers whose blobs do not arrive. here: digests on the disk."""

    def __init__(self, fails=(), here=()):
        self.fails, self.here = fails, set(here)
        self.running, self.order, self.most, self.wrong = [], [], 0, []
        self._lock = threading.Lock()
        self._some = threading.Event()

    def __call__(self, item):
        with self._lock:
            for other in self.running:
                shared = None in (item.blobs, other.blobs) or (item.blobs & other.blobs) - self.here
                if shared:
                    self.wrong.append((item.number, other.number))
            self.running.append(item)
            self.order.append(item.number)
            self.most = max(self.most, len(self.running))
        self._some.wait(0.001)  # lets others start meanwhile
        with self._lock:
            self.running.remove(item)
            if item.number not in self.fails:
                self.here |= item.blobs or set()
        return item.number not in self.fails


blob_sets = st.one_of(st.none(), st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=4))


@given(st.lists(blob_sets, max_size=8), st.integers(1, 4), st.sets(st.sampled_from("abcdefgh"), max_size=3), st.sets(st.integers(0, 7)))
def test_all_run_and_no_layer_is_fetched_twice_at_once(sets, at_once, here, fails):
    work = Watched(fails, here)
    _lanes.carry_out([Item(number, blobs) for number, blobs in enumerate(sets)], work, at_once, here)
    assert sorted(work.order) == list(range(len(sets))) and not work.wrong and work.most <= at_once


def test_one_at_a_time_keeps_the_order():
    work = Watched()
    _lanes.carry_out([Item(number, {str(number)}) for number in range(5)], work, 1)
    assert work.order == [0, 1, 2, 3, 4]


def test_what_shares_nothing_runs_at_once():
    meet = threading.Barrier(3, timeout=10)
    _lanes.carry_out([Item(number, {str(number)}) for number in range(3)], lambda item: meet.wait() >= 0, 3)


def test_a_layer_that_is_there_keeps_nobody_apart():
    meet = threading.Barrier(2, timeout=10)
    _lanes.carry_out([Item(1, {"licence", "a"}), Item(2, {"licence", "b"})], lambda item: meet.wait() >= 0, 2, {"licence"})


def test_a_layer_that_the_first_pull_brought_keeps_the_next_ones_no_longer_apart():
    meet = threading.Barrier(2, timeout=10)

    def work(item):
        return item.number == 0 or meet.wait() >= 0

    _lanes.carry_out([Item(number, {"licence", str(number)}) for number in range(3)], work, 3)


def test_after_an_exception_nothing_more_starts_and_the_running_ones_end():
    begun, ended, seen = [], [], threading.Event()
    meet = threading.Barrier(2, timeout=10)

    def work(item):
        begun.append(item.number)
        meet.wait()
        if item.number == 0:
            raise RuntimeError("nobody waits")
        seen.wait(0.1)  # long enough for the exception to be seen
        ended.append(item.number)
        return True

    with pytest.raises(RuntimeError, match="nobody waits"):
        _lanes.carry_out([Item(number, {str(number)}) for number in range(4)], work, 2)
    assert sorted(begun) == [0, 1] and ended == [1]
