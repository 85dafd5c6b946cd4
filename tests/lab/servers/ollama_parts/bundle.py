# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One executable file from this package, so that it can be installed like the real program."""

from __future__ import annotations

import pathlib
import zipfile

START = '''import pathlib
import sys

from ollama_parts.cli import main

sys.exit(main(sys.argv[1:], pathlib.Path(sys.argv[0]).resolve()))
'''
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same input makes the same file, so its checksum can be published


def bundle(package, out):
    """Write the package as an executable zip archive to the path `out`."""
    out = pathlib.Path(out)
    with open(out, "wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("__main__.py", EPOCH), START)
            for part in sorted(package.glob("*.py")):
                archive.writestr(zipfile.ZipInfo("ollama_parts/" + part.name, EPOCH), part.read_text(encoding="utf-8"))
    out.chmod(0o755)
