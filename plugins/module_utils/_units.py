# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes and seconds as people write them. Internal to this collection."""

from __future__ import annotations


def size_text(count):
    """`count` (bytes) in decimal units, as Ollama and disk makers count: 397.8 MB."""
    if abs(count) < 1000:
        return "%d B" % count
    units = ["kB", "MB", "GB", "TB"]
    count /= 1000.0
    while abs(count) >= 999.95 and len(units) > 1:
        count /= 1000.0
        units.pop(0)
    return "%.1f %s" % (count, units[0])


def time_text(seconds):
    """`seconds` as 8 s, 2 min 5 s, 3 h 12 min."""
    seconds = int(seconds + 0.5)
    if seconds < 60:
        return "%d s" % seconds
    if seconds < 3600:
        return "%d min %d s" % divmod(seconds, 60)
    return "%d h %d min" % divmod(seconds // 60, 60)
