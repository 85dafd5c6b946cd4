# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the house is true: what it names is there, and what is there is named. The same for what others are told to install."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys

from ansible.module_utils.common.yaml import yaml_load

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLAN = (ROOT / "docs" / "architecture.md").read_text()
ROOMS = PLAN.split("## Rooms", 1)[1].split("```")[1].strip("\n").splitlines()
# Names on the controller that come with ansible-core or Python.
GIVEN = {"ansible", "ansible_collections", "yaml"} | set(sys.stdlib_module_names)


def rooms():
    """Paths (list of str) that stand at the beginning of a line, and parts of module_utils that stand indented."""
    paths, parts = [], []
    for line in ROOMS:
        if line.startswith(" " * 5):  # a description that goes on
            continue
        words = re.split(r"  +", line.strip())[0].split()
        (parts if line.startswith(" ") else paths).extend(word.rstrip(",") for word in words)
    return paths, parts


def tracked():
    """All files of the project (list of str)."""
    done = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).exists()]


def test_each_room_that_is_named_is_there():
    paths, parts = rooms()
    assert len(paths) > 15 and len(parts) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []
    utils = ROOT / "plugins" / "module_utils"
    assert [part for part in parts if not list(utils.glob(part + "*.py"))] == []


def test_each_room_that_is_there_is_named():
    paths, _ = rooms()
    there = {"/".join(name.split("/")[:2]) for name in tracked() if name.count("/") > 1}
    there |= {name.split("/")[0] for name in tracked() if "/" in name} - {"roles", "plugins", "tests", "extensions"}
    named = {path.rstrip("/") for path in paths}
    assert sorted(room for room in there if room not in named and room.split("/")[0] not in named) == []


def test_each_playbook_is_named():
    (line,) = [line for line in ROOMS if line.startswith("playbooks/")]
    assert [path.stem for path in (ROOT / "playbooks").glob("*.yml") if path.stem not in line] == []


def test_an_execution_environment_gets_what_the_controller_imports():
    wanted = yaml_load((ROOT / "meta" / "execution-environment.yml").read_text())["dependencies"]
    assert all((ROOT / path).read_text().strip() for path in wanted.values()) and set(wanted) == {"python", "system"}
    listed = {re.split(r"[<>=\[ ]", line)[0].lower() for line in (ROOT / wanted["python"]).read_text().splitlines() if line[:1] not in ("", "#")}
    assert listed == {"pyyaml"}
    for folder in ("action", "filter", "plugin_utils"):
        for path in (ROOT / "plugins" / folder).glob("*.py"):
            imported = set()
            for node in ast.walk(ast.parse(path.read_text())):
                imported |= {one.name.split(".")[0] for one in node.names} if isinstance(node, ast.Import) else set()
                imported |= {node.module.split(".")[0]} if isinstance(node, ast.ImportFrom) and node.module else set()
            assert imported <= GIVEN, path


def test_managed_hosts_need_the_standard_library_only():
    for folder in ("modules", "module_utils"):
        for path in (ROOT / "plugins" / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 7))):
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
                assert [name for name in names if name and name.split(".")[0] not in (GIVEN - {"yaml"})] == [], path


def test_the_oldest_ansible_that_is_tested_is_the_one_that_is_promised():
    promised = yaml_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    tested = re.search(r"(?m)^ansible-core==(\d+\.\d+)\.\d+$", (ROOT / "tests" / "requirements-oldest.txt").read_text()).group(1)
    assert promised == f">={tested}.0"


def test_what_galaxy_ships_includes_what_it_names():
    galaxy = yaml_load((ROOT / "galaxy.yml").read_text())
    ignored = galaxy["build_ignore"]
    assert (galaxy["namespace"], galaxy["name"], galaxy["license"]) == ("localmodels", "fastgpt", ["GPL-3.0-or-later"])
    assert "GNU GENERAL PUBLIC LICENSE" in (ROOT / "LICENSE").read_text() and "Version 3" in (ROOT / "LICENSE").read_text()
    assert not {"meta", "docs", "README.md", "README.zh.md", "LICENSE"} & set(ignored)


def test_each_change_is_told_in_a_section_that_the_changelog_has():
    config = yaml_load((ROOT / "changelogs" / "config.yaml").read_text())
    sections = {name for name, dummy in config["sections"]} | {config["trivial_section_name"]}
    fragments = sorted((ROOT / "changelogs" / config["notesdir"]).iterdir())
    assert len(fragments) > 10
    for path in fragments:
        for section, said in yaml_load(path.read_text()).items():
            if section == config["prelude_section_name"]:
                assert isinstance(said, str), path
            else:
                assert section in sections and said and all(isinstance(one, str) for one in said), (path, section)
