#!/usr/bin/env python3
# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for Ollama: the same commands, store, registry protocol, API and error texts; canned answers for inference.

    ollama.py serve | list | ps | pull | rm | cp | show | stop | --version
    ollama.py --bundle OUT        write this and ollama_parts/ into one executable file, to be installed as bin/ollama

It plays the version in OLLAMA_LAB_VERSION, else in a file named like itself with .version behind (bin/ollama.version),
else 0.32.15. Needs Python >= 3.9 and, for serve only, aiohttp >= 3.8.
"""

from __future__ import annotations

import pathlib
import sys

if __name__ == "__main__":
    HERE = pathlib.Path(__file__).resolve()
    sys.path.insert(0, str(HERE.parent))
    if sys.argv[1:2] == ["--bundle"]:
        from ollama_parts.bundle import bundle
        bundle(HERE.parent / "ollama_parts", sys.argv[2])
    else:
        from ollama_parts.cli import main
        sys.exit(main(sys.argv[1:], HERE))
