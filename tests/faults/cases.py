# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases of the campaign: each fault at each moment of a pull where it can happen, once and for good, for each shape of a list."""

from __future__ import annotations

import collections
from dataclasses import dataclass

WEIGHTS = 400_000   # bytes of a model
PACE = 800_000      # bytes a second of the registry, so that a pull has a middle

# What the models of a case have: a letter stands for the weights, so models with the same letter share a layer. The first is hit.
SHAPES = {"one": "a", "shared": "aab", "parallel": "abc"}

REGISTRY_MOMENTS = {
    "module reads": {"path": "/v2/{first}", "agent": "*localmodels*"},
    "manifest": {"path": "/v2/{first}", "agent": "*Go/go*"},
    "size": {"path": "/v2/*/{weights}", "method": "HEAD"},
    "address": {"path": "/v2/*/{weights}", "method": "GET", "ranged": False},
    "bytes": {"path": "/v2/*/{weights}", "ranged": True},
    "small layer": {"path": "/v2/*/{config}"},
}
STREAM_MOMENTS = ("manifest", "first bytes", "middle", "verify", "write manifest", "success")

DOWN = "cannot reach the registry|no byte more came|in trouble"
STALLED = "no byte more came"
ENDED = "ended the answer before the pull was done"
BUSY = "asks to slow down"
TROUBLE = "is in trouble"
CLOSED_DOOR = "does not let Ollama in"
WRONG = "other bytes than its digest promises"
DISK_FULL = "the disk of the model store is full"
GONE = "Ollama at http://[^ ]+ (closed the connection|refuses the connection|cannot be reached)"

RETRY = {"headers": {"Retry-After": "1"}}
# fault -> what the registry does
ANSWERS = {
    "429 with Retry-After": {"status": 429, "body": "slow down", **RETRY},
    "503 with Retry-After": {"status": 503, "body": "later", **RETRY},
    "500": {"status": 500, "body": "broken"},
    "404": {"status": 404, "body": "404 page not found"},
    "403": {"status": 403, "body": "denied"},
    "401": {"status": 401, "body": "who are you"},
    "412": {"status": 412, "body": "requires a newer version of Ollama."},
    "login page": {"status": 200, "body": "<html>please log in</html>"},
    "other JSON": {"status": 200, "body": {}},
    "closes": {"drop": "close"},
    "resets": {"drop": "reset"},
    "hangs": {"delay": 3600},
    "slow": {"delay": 1},
}
# moment -> fault -> (what a fault that happens once leads to, what one that stays leads to): "ok", or what the message says
AT_REGISTRY = {
    "module reads": {
        "429 with Retry-After": ("ok", "ok"), "503 with Retry-After": ("ok", "ok"), "500": ("ok", "ok"), "403": ("ok", "ok"),
        "401": ("ok", "ok"), "closes": ("ok", "ok"), "resets": ("ok", "ok"), "slow": ("ok", "ok"),
        "404": (None, "does not exist|has no|no such|not exist|unknown"), "412": (None, "only to a newer Ollama"),
        "login page": (None, "something that is no model"), "other JSON": (None, "something that is no model"), "hangs": (None, "ok")},
    "manifest": {
        "429 with Retry-After": ("ok", BUSY), "503 with Retry-After": ("ok", TROUBLE), "500": ("ok", TROUBLE), "403": (None, CLOSED_DOOR),
        "401": (None, CLOSED_DOOR), "404": (None, "no such model"), "412": (None, "needs a newer Ollama"),
        "login page": (None, "what answers there is no registry"), "other JSON": (None, "what the registry sent is no model"),
        "closes": ("ok", DOWN), "resets": ("ok", DOWN), "hangs": ("ok", STALLED), "slow": ("ok", "ok")},
    "size": {
        "429 with Retry-After": ("ok", BUSY), "503 with Retry-After": ("ok", TROUBLE), "500": ("ok", TROUBLE), "403": (None, CLOSED_DOOR),
        "401": (None, CLOSED_DOOR), "404": (None, "lists a layer that it does not have"),
        "closes": ("ok", DOWN), "resets": ("ok", DOWN), "hangs": ("ok", STALLED), "slow": ("ok", "ok")},
    "address": {
        "429 with Retry-After": ("ok", STALLED), "503 with Retry-After": ("ok", STALLED), "500": ("ok", STALLED), "403": ("ok", STALLED),
        "404": ("ok", STALLED), "login page": (None, "does not answer as Ollama needs it"),
        "closes": ("ok", STALLED), "resets": ("ok", STALLED), "hangs": ("ok", STALLED), "slow": ("ok", "ok")},
    "bytes": {
        "503 with Retry-After": ("ok", DOWN), "429 with Retry-After": ("ok", DOWN), "404": ("ok", DOWN), "closes": ("ok", DOWN),
        "resets": ("ok", DOWN), "hangs": ("ok", STALLED), "slow": ("ok", "ok")},
    "small layer": {
        "503 with Retry-After": ("ok", TROUBLE), "404": (None, "lists a layer that it does not have"), "closes": ("ok", DOWN),
        "hangs": ("ok", STALLED)},
}
# Within the bytes: fault -> (what the registry does, once, for good)
AT_BYTES = {
    "cut at the first bytes": ({"cut_after": 0}, "ok", DOWN), "cut in the middle": ({"cut_after": WEIGHTS // 2}, "ok", "ok"),
    "cut at the last bytes": ({"cut_after": WEIGHTS - 1}, "ok", "ok"),
    "stalls at the first bytes": ({"stall_after": 0}, "ok", STALLED), "stalls in the middle": ({"stall_after": WEIGHTS // 2}, "ok", None),
    "stalls at the last bytes": ({"stall_after": WEIGHTS - 1}, "ok", None), "wrong bytes": ({"wrong_bytes": True}, "ok", WRONG),
    "slow bytes": ({"rate": WEIGHTS // 3}, None, "ok"),
}
# On the way between module and Ollama, and in Ollama: fault -> (once, for good)
AT_STREAM = {
    "cut": ("ok", ENDED), "reset": ("ok", ENDED), "ends without success": ("ok", ENDED), "stalls": ("ok", STALLED),
    "passing error in 200": ("ok", "cannot reach the registry"), "final error in 200": (DISK_FULL, DISK_FULL),
    "no JSON in between": ("ok", "ok"), "killed, starts again": ("ok", None), "ended, starts again": ("ok", None), "killed": (None, ENDED + "|" + GONE),
}
# A proxy before Ollama: fault -> (answer, once, for good)
AT_PROXY = {
    "503 with Retry-After": ({"status": 503, **RETRY}, "ok", "answered 503"), "429 with Retry-After": ({"status": 429, **RETRY}, "ok", "answered 429"),
    "502 page": ({"status": 502, "body": "<html>bad gateway</html>"}, "ok", "answered 502"),
    "401": ({"status": 401}, None, "asks for credentials"), "404": ({"status": 404, "body": "404 page not found"}, None, "answered 404"),
}
# Ollama is killed while it writes down how far a download is: the note is empty, and Ollama pulls that layer no more.
HALF_A_NOTE = "killed in mid-note, starts again"
# A module ends while Ollama meets this at the registry: it waits before it asks again, or it waits for an answer.
TROUBLES = {"Ollama waits to try again": {**REGISTRY_MOMENTS["bytes"], "status": 503, "body": "later"},
            "the registry hangs": {**REGISTRY_MOMENTS["bytes"], "stall_after": 0}}
PROXY_MOMENTS = {"before the state is read": "/api/tags", "before the pull": "/api/pull", "after the pull": "/api/tags"}


@dataclass(frozen=True)
class Case:
    """fault and moment: for people. where: registry, disk, stream, proxy or module. how: what its injector needs (dict).

    lasting: the fault stays to the end of the run. expected: "ok", or a regular expression that the message must fit.
    """

    where: str
    fault: str
    moment: str
    shape: str
    lasting: bool
    how: dict
    expected: str

    @property
    def name(self):
        return "%s: %s, %s, %s, %s" % (self.where, self.fault, self.moment, "for good" if self.lasting else "once", self.shape)

    @property
    def hit(self):
        """Indices (set of int) of the models that may fail, if any."""
        weights = SHAPES[self.shape]
        if self.where == "module" or self.how.get("all") or self.fault.startswith(("killed", "ended")):
            return set(range(len(weights)))
        if self.where == "registry" and "{first}" in self.how["path"] or self.where == "stream" or self.where == "proxy":
            return {0}
        return {number for number, letter in enumerate(weights) if letter == weights[0]}


def all_cases():
    """Every Case (list), in an order that does not change."""
    return [case for shape in SHAPES for case in _of(shape)]


def sample(found):
    """Some of these cases (list), for a minute: each fault in each shape once, at the moment that was met least until then."""
    groups, met = collections.defaultdict(list), collections.Counter()
    for case in found:
        groups[case.where, case.fault, case.shape].append(case)
    chosen = []
    for group in groups.values():
        case = min(group, key=lambda one: (met[one.where, one.moment], one.lasting))
        met[case.where, case.moment] += 1
        chosen.append(case)
    return chosen


def _of(shape):
    """One model meets everything. Of several it matters who fails and who does not, so they meet what stays, at fewer moments."""
    alone = shape == "one"
    moments = STREAM_MOMENTS if alone else ("middle", "success")

    def both(where, fault, moment, how, once, good):
        for lasting, expected in ((False, once), (True, good)):
            if expected is not None and (alone or lasting or where == "stream"):
                yield Case(where, fault, moment, shape, lasting, how, expected)

    for moment, faults in AT_REGISTRY.items():
        for fault, (once, good) in faults.items():
            yield from both("registry", fault, moment, {**REGISTRY_MOMENTS[moment], **ANSWERS[fault]}, once, good)
    for fault, (what, once, good) in AT_BYTES.items():
        yield from both("registry", fault, "bytes", {**REGISTRY_MOMENTS["bytes"], **what}, once, good)
    yield Case("disk", "disk full", "middle", shape, True, {"disk_full": WEIGHTS // 2, "all": True}, DISK_FULL)
    yield Case("registry", "not there at all", "throughout", shape, True, {"path": "*", "drop": "down", "all": True}, "cannot reach the registry")
    for moment in moments:
        for fault, (once, good) in AT_STREAM.items():
            yield from both("stream", fault, moment, {}, once, good)
    yield Case("stream", HALF_A_NOTE, "middle", shape, False, {}, "ok")
    for fault, (what, once, good) in AT_PROXY.items():
        for moment, path in PROXY_MOMENTS.items():
            how = {"path": path, "all": path == "/api/tags", **what}
            yield from both("proxy", fault, moment, how, once, good)
    for moment in (*STREAM_MOMENTS[:3], *TROUBLES) if alone else ("middle", *TROUBLES):
        for fault in ("SIGTERM", "SIGKILL", "nobody watches"):
            yield Case("module", fault, moment, shape, False, TROUBLES.get(moment, {}), "cancelled")
