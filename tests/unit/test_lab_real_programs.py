# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real programs in the lab: which one stands behind which version."""

from __future__ import annotations

import pytest

from ansible_collections.localmodels.fastgpt.tests.lab.world import images
from ansible_collections.localmodels.fastgpt.tests.lab.world.shell import LabError


def program(path):
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_each_version_has_its_own_program_and_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_OLLAMA", str(tmp_path / "ollama-{version}/bin/ollama"))
    monkeypatch.delenv("LAB_LLAMA_DIR", raising=False)
    new = program(tmp_path / "ollama-0.32.15/bin/ollama")
    helper = program(tmp_path / "ollama-0.32.15/lib/ollama/inner/llama-server")
    assert images.real_ollama("0.32.15") == new
    assert images._real_ollama_tree("real/", "0.32.15") == {"real/bin/ollama": new, "real/lib/ollama/inner/llama-server": helper}
    with pytest.raises(LabError, match="ollama-0.32.14/bin/ollama: no such program"):
        images.real_ollama("0.32.14")


def test_without_one_the_stand_in_is_taken(monkeypatch):
    monkeypatch.delenv("LAB_OLLAMA", raising=False)
    assert images.real_ollama("0.32.15") is None and images._real_ollama_tree("real/", "0.32.15") == {}
