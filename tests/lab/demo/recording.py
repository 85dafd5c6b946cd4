#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's output as a picture of a terminal, for the README: what was printed, word for word. Long lines are cut, with a mark; tasks that were
skipped or only include others are left out.

    make demo 2>&1 | tests/lab/demo/recording.py 'make demo' > docs/images/demo.svg
"""

from __future__ import annotations

import html
import re
import sys

WIDTH = 150  # characters
CUT = "\u2026"
LINE, LETTER, MARGIN = 17, 7.23, 14  # pixels, for letters of 12 pixels
BACKGROUND, TEXT = "#16181d", "#d6d9de"
COLOURS = ((re.compile(r"^\$ "), "#ffffff"), (re.compile(r'^ok\b|^ +"ok\b|^    "Answer'), "#7ec87e"), (re.compile(r"^changed"), "#e0b457"),
           (re.compile(r"^(fatal|failed)|failed=[1-9]"), "#e06c6c"), (re.compile(r"^(PLAY|demo:|lab:)"), "#8ab4f8"))
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
IDLE = re.compile(r"(?m)^TASK .*\n(?:skipping|included): .*\n\n?")


def shown(text: str) -> list:
    """Lines as they appear: no colours, no stars after a heading, no idle tasks, no two empty ones in a row, none longer than WIDTH."""
    lines = []
    for line in IDLE.sub("", ESCAPES.sub("", text)).expandtabs().splitlines():
        line = re.sub(r"(?<=[\]P]) \*{3,}$", "", line).rstrip()
        if line or (lines and lines[-1]):
            lines.append(line if len(line) <= WIDTH else line[:WIDTH - 1] + CUT)
    return lines


def svg(lines: list) -> str:
    """The picture of these lines."""
    width, height = round(WIDTH * LETTER + 2 * MARGIN), len(lines) * LINE + 2 * MARGIN
    rows = []
    for number, line in enumerate(lines):
        colour = next((colour for pattern, colour in COLOURS if pattern.search(line)), TEXT)
        if line:
            rows.append(f'<text x="{MARGIN}" y="{MARGIN + (number + 1) * LINE - 5}" fill="{colour}">{html.escape(line, quote=False)}</text>')
    return "\n".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-size="12"',
        ' font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,\'DejaVu Sans Mono\',monospace" xml:space="preserve">',
        f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>', *rows, "</svg>", ""))


if __name__ == "__main__":
    print(svg([f"$ {sys.argv[1]}", *shown(sys.stdin.read())]), end="")
