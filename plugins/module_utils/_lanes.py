# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several pulls at a time, but never two that fetch the same layer. Internal to this collection.

A real Ollama can crash when a pull asks for a blob that another pull is just fetching (ollama#17370). What is on the disk already is
not fetched, so models may share that.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait


def may_start(blobs, running, here):
    """Whether a pull may start beside others.

    blobs: the digests (set) that it needs, or None where nobody knows them: then it runs alone. running: the same (list) of the pulls
    that run. here: digests (set) that are on the disk.
    """
    if not running:
        return True
    if blobs is None or None in running:
        return False
    return all(not (blobs & others) - here for others in running)


def carry_out(items, work, at_once, here=()):
    """Call work(item) for each item, in threads, as many at a time as may be; returns when all have ended.

    items: list of objects with `blobs`, see may_start; they start in this order as far as possible. work: returns whether the item's
    blobs are on the disk now. at_once: int, at least 1. If work raises, nothing more is started, and the first such exception is
    raised when those that run have ended.
    """
    waiting, running, here = list(items), {}, set(here)
    problem = None
    with ThreadPoolExecutor(at_once) as pool:
        while waiting or running:
            while len(running) < at_once:
                blobs = [item.blobs for item in running.values()]
                fitting = next((item for item in waiting if may_start(item.blobs, blobs, here)), None)
                if fitting is None:
                    break
                waiting.remove(fitting)
                running[pool.submit(work, fitting)] = fitting
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(ended)
                if ended.exception():
                    problem = problem or ended.exception()
                    waiting = []
                elif ended.result():
                    here |= item.blobs or set()
    if problem:
        raise problem
