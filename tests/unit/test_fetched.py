# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes that come over the wire: also those of which Ollama says nothing, none of those that were there, over all tries of a pull."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import Refused
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fetched import Fetched
from ansible_collections.localmodels.fastgpt.plugins.module_utils._pull import Layers

MANIFEST = SimpleNamespace(blobs={"weights": 1000, "license": 10, "config": 1})


class Store:
    """there: {digest: bytes of it that are on the disk}, or a problem."""

    def __init__(self, **there):
        self.held = there

    def there(self, digest, size):
        if isinstance(self.held.get(digest), Exception):
            raise self.held[digest]
        return self.held.get(digest, 0)


class Server:
    """held: what it has as a whole; None: a proxy before it refuses the question."""

    def __init__(self, *held):
        self.held, self.asked = held, []

    def has_blob(self, digest):
        self.asked.append(digest)
        if self.held == (None,):
            raise Refused("Ollama", "http://h", "answered 405", status=405)
        return digest in self.held


def pulled(fetched, *tries, done=True):
    """Bytes after tries, each a list of (digest, completed of total)."""
    for lines in tries:
        layers = Layers()
        for digest, completed in lines:
            layers.take({"digest": digest, "completed": completed, "total": MANIFEST.blobs[digest]})
            fetched.note(layers)
    return fetched.bytes(done)


SMALL_ARE_SILENT = [("weights", 200), ("weights", 1000)]
ALL_AT_ONCE = [("weights", 1000), ("license", 10), ("config", 1)]


@pytest.mark.parametrize("there, lines, came", [
    ({}, SMALL_ARE_SILENT, 1011), ({}, ALL_AT_ONCE, 1011), ({}, [], 1011),
    ({"license": 10}, SMALL_ARE_SILENT, 1001), ({"weights": 300}, [("weights", 310), ("weights", 1000)], 711),
    ({"weights": 1000, "license": 10, "config": 1}, ALL_AT_ONCE, 0)])
def test_who_sees_the_store_knows_what_was_lacking(there, lines, came):
    assert pulled(Fetched(MANIFEST, Store(**there), None), lines) == came


@pytest.mark.parametrize("held, lines, came", [
    ((), SMALL_ARE_SILENT, 811), ((), ALL_AT_ONCE, 1011), ((), [], 1011), ((), [("weights", 0), ("weights", 900)], 1011),
    (("license", "config"), ALL_AT_ONCE, 1000), (("weights",), ALL_AT_ONCE, 11)])
def test_who_does_not_see_it_asks_the_server_for_each_layer(held, lines, came):
    """Of a layer that comes in several lines the first one may be the rest of a broken pull."""
    server = Server(*held)
    assert pulled(Fetched(MANIFEST, None, server), lines) == came and sorted(server.asked) == sorted(MANIFEST.blobs)
    assert pulled(Fetched(MANIFEST, Store(license=PermissionError("no entry")), Server(*held)), lines) == came


@pytest.mark.parametrize("manifest, server", [(None, None), (MANIFEST, Server(None))])
def test_where_nobody_knows_the_lines_are_counted(manifest, server):
    assert pulled(Fetched(manifest, None, server), SMALL_ARE_SILENT + [("license", 10)]) == 800


def test_what_came_in_a_broken_try_counts_once():
    broken, rest = [("weights", 0), ("weights", 700), ("weights", 650)], [("weights", 700), ("weights", 1000)]
    assert pulled(Fetched(MANIFEST, Store(), None), broken, rest) == 1011
    assert pulled(Fetched(MANIFEST, None, Server()), broken, rest) == 1011
    assert pulled(Fetched(None, None, None), broken, rest) == 1000
    assert pulled(Fetched(MANIFEST, Store(), None), broken, done=False) == 700, "a pull that failed brought something too"
