# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a newcomer reads first: both languages say the same, each link leads somewhere, the picture is a run's own text."""

from __future__ import annotations

import pathlib
import re
import xml.etree.ElementTree

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.localmodels.fastgpt.tests.lab.demo import recording

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOTH = ("README.md", "README.zh.md")


def text(name):
    return (ROOT / name).read_text()


def blocks(name):
    """Code blocks, without comments: they are translated."""
    return [re.sub(r"(?m)\s*#.*$", "", block) for block in re.findall(r"```\w+\n(.*?)```", text(name), re.S)]


def test_both_languages_have_the_same_commands_inventories_and_output():
    assert blocks("README.md") == blocks("README.zh.md")


def test_both_languages_have_the_same_chapters_rows_and_links():
    def shape(name):
        found = text(name)
        links = sorted(set(re.findall(r"\]\(((?!http|README)[^)]+)\)", found)))
        return len(re.findall(r"(?m)^## ", found)), len(re.findall(r"(?m)^\| ", found)), links
    assert shape("README.md") == shape("README.zh.md")


@pytest.mark.parametrize("name", BOTH)
def test_each_role_and_module_is_named(name):
    there = [path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")] + [path.name for path in (ROOT / "roles").iterdir()]
    assert [one for one in there if "`%s`" % one not in text(name) and "[%s](" % one not in text(name)] == []


@pytest.mark.parametrize("name", BOTH)
def test_each_link_leads_to_a_file(name):
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)|<img [^>]*src=\"([^\"]+)\"", text(name)):
        assert (ROOT / (link[0] or link[1])).exists(), link


@pytest.mark.parametrize("name", BOTH)
def test_the_first_screen_has_the_two_commands_and_a_first_inventory(name):
    first = "\n".join(text(name).splitlines()[:40])
    assert "$ make demo" in first and "$ make test" in first
    inventory = yaml_load(re.search(r"```yaml\n(.*?)```", first, re.S).group(1))
    (host,) = inventory["all"]["hosts"].values()
    assert set(host) == {"fastgpt_project_dir", "local_models"}


def test_the_picture_has_the_text_as_it_was_printed():
    idle = "TASK [From the bundle] ***\nskipping: [box]\n\nTASK [More] ***\nincluded: /a/b.yml for box\n\n"
    printed = idle + "\x1b[0;32mok: [box] => <a & b>\x1b[0m\n\n\nPLAY RECAP *****\n" + "x" * 200
    lines = recording.shown(printed)
    assert lines == ["ok: [box] => <a & b>", "", "PLAY RECAP", "x" * 149 + recording.CUT]
    drawn = [one.text for one in xml.etree.ElementTree.fromstring(recording.svg(lines)).iter("{http://www.w3.org/2000/svg}text")]
    assert drawn == [line for line in lines if line]
