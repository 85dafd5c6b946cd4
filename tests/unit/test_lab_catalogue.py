# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's Docker registry: what may be pushed at the same time."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.tests.lab.world import catalogue


def test_tags_of_one_repository_are_pushed_one_after_the_other():
    names = ("ollama/ollama:latest", "ghcr.io/labring/fastgpt:v4.9.14", "mongo:5.0.18", "ollama/ollama:0.32.15",
             "registry.example.com/labring/fastgpt:v4.15.4")
    groups = catalogue.by_repository(dict.fromkeys(names, "image"))
    assert sorted(name for group in groups for name, _ in group) == sorted(names)
    paths = [{catalogue.repository(name).rpartition(":")[0] for name, _ in group} for group in groups]
    assert paths == [{"labring/fastgpt"}, {"library/mongo"}, {"ollama/ollama"}]
