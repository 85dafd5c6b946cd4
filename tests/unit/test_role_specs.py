# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role says about its variables is what it does: options equal defaults, and every variable is used."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

ROLES = pathlib.Path(__file__).parents[2] / "roles"
# Names that all roles share; they have no prefix and no default in any of them.
SHARED = {"local_models", "fastgpt_project_dir"}


def load(role, part):
    return yaml.safe_load((ROLES / role / part / "main.yml").read_text()) or {}


def options(role):
    spec = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text())
    return spec["argument_specs"]["main"]["options"]


@pytest.fixture(params=sorted(path.name for path in ROLES.iterdir() if path.is_dir()))
def role(request):
    return request.param


def test_options_equal_defaults(role):
    declared = {name: option.get("default") for name, option in options(role).items() if name not in SHARED and not option.get("required")}
    assert declared == load(role, "defaults")


def test_variables_carry_the_name_of_the_role(role):
    assert [name for name in load(role, "defaults") if not name.startswith(role + "_")] == []


def test_every_variable_is_used(role):
    tasks = "".join(path.read_text() for path in (ROLES / role / "tasks").glob("*.yml"))
    defaults = (ROLES / role / "defaults" / "main.yml").read_text()
    words = set(re.findall(r"\w+", tasks)) | set(re.findall(r"\w+", " ".join(re.findall(r"{{.*?}}", defaults))))
    assert sorted(set(load(role, "defaults")) - words) == []
