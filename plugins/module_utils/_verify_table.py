# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hops as lines that a person can read in a terminal and in a CI log. Pure. Internal to this collection."""

from __future__ import annotations

WIDEST = 110  # what was asked and what came back share a line


def table(hops):
    """One line a hop (list of str): state, hop, time, what was asked, what came back. hops: see _verify.Walk.hops."""
    width = max([len(hop["hop"]) for hop in hops] or [0])
    return ["%-7s  %s  %8s  %s" % (hop["status"], hop["hop"].ljust(width), _time(hop), _story(hop)) for hop in hops]


def verdict(hop):
    """The sentence (str) for the first broken hop (dict)."""
    parts = ["First broken hop: %s" % hop["hop"], "asked %s, got: %s" % (hop["asked"], hop["answered"])]
    return ". ".join(parts + [part for part in (hop["cause"], hop["mend"]) if part]) + "."


def _time(hop):
    return "%d ms" % hop["ms"] if hop["ms"] is not None else "-"


def _story(hop):
    return "%s -> %s" % (hop["asked"], shorten(hop["answered"])) if hop["asked"] else shorten(hop["answered"])


def shorten(text, width=WIDEST):
    """`text` (str) on one line, cut at `width` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= width else line[:width - 3] + "..."
