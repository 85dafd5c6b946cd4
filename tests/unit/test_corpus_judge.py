# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The corpus calls wrong what is wrong: a judge that finds nothing proves nothing."""

from __future__ import annotations

import copy
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parents[1] / "corpus"))
from judge import complaints

BEFORE = {
    "name": "fastgpt",
    "services": {
        "fastgpt": {"image": "ghcr.io/labring/fastgpt:v4.9.14", "networks": {"one": None}, "environment": {
            "AIPROXY_API_ENDPOINT": "http://aiproxy:3000", "AIPROXY_API_TOKEN": "t", "DB_MAX_LINK": "30"}},
        "aiproxy": {"image": "x/aiproxy:v0.1.7", "networks": {"one": None}, "extra_hosts": ["a=1.2.3.4"]},
    },
    "networks": {"one": {"name": "fastgpt_one"}},
}
OLLAMA = {"name": "ollama", "external": True}


def after(path):
    config = copy.deepcopy(BEFORE)
    config["networks"]["ollama"] = dict(OLLAMA)
    if path == "aiproxy":
        config["services"]["aiproxy"]["networks"]["ollama"] = None
    else:
        config["services"]["fastgpt"]["networks"]["ollama"] = None
        config["services"]["fastgpt"]["environment"].update(
            AIPROXY_API_ENDPOINT="", AIPROXY_API_TOKEN="", OPENAI_BASE_URL="http://ollama:11434/v1", CHAT_API_KEY="ollama")
    return config


def test_right_is_right():
    assert complaints(BEFORE, after("aiproxy"), "aiproxy", "container") == []
    assert complaints(BEFORE, after("direct"), "direct", "container") == []


@pytest.mark.parametrize(("path", "keys", "value"), [
    ("aiproxy", "services.aiproxy.networks", {"one": None}),
    ("aiproxy", "services.aiproxy.networks", {"ollama": None}),
    ("aiproxy", "services.aiproxy.networks", {"one": {"aliases": ["x"]}, "ollama": None}),
    ("aiproxy", "services.aiproxy.image", "x/aiproxy:v2"),
    ("aiproxy", "services.aiproxy.extra_hosts", []),
    ("aiproxy", "services.aiproxy.extra_hosts", ["a=1.2.3.4", "b=1.2.3.4"]),
    ("aiproxy", "services.aiproxy.environment", {"HTTP_PROXY": "http://p"}),
    ("aiproxy", "services.fastgpt.environment.AIPROXY_API_ENDPOINT", ""),
    ("aiproxy", "services.fastgpt.environment.AIPROXY_API_ENDPOINT", "http://elsewhere:3000"),
    ("aiproxy", "services.fastgpt.environment.DB_MAX_LINK", "31"),
    ("aiproxy", "services.fastgpt.environment.NO_PROXY", "a"),
    ("aiproxy", "services.new", {}),
    ("aiproxy", "networks.one", {"name": "other"}),
    ("aiproxy", "networks.other", {"name": "other", "external": True}),
    ("aiproxy", "name", "other"),
    ("direct", "services.fastgpt.environment.AIPROXY_API_ENDPOINT", "http://aiproxy:3000"),
    ("direct", "services.fastgpt.environment.AIPROXY_API_TOKEN", "t"),
    ("direct", "services.fastgpt.environment.OPENAI_BASE_URL", "http://ollama:11434"),
    ("direct", "services.fastgpt.environment.OPENAI_BASE_URL", "http://localhost:11434/v1"),
    ("direct", "services.fastgpt.environment.CHAT_API_KEY", ""),
    ("direct", "services.fastgpt.networks", {"one": None}),
    ("direct", "services.fastgpt.environment.HTTP_PROXY", "http://p"),
])
def test_each_mistake_is_found(path, keys, value):
    config = after(path)
    *nested, last = keys.split(".")
    part = config
    for key in nested:
        part = part[key]
    part[last] = value
    assert complaints(BEFORE, config, path, "container")


@pytest.mark.parametrize(("version", "path"), [("v4.17.0", "direct"), ("latest", "direct"), ("v4.8.22", "aiproxy")])
def test_a_path_that_this_version_has_not_is_wrong(version, path):
    before, config = copy.deepcopy(BEFORE), after(path)
    for one in (before, config):
        one["services"]["fastgpt"]["image"] = "ghcr.io/labring/fastgpt:" + version
    assert complaints(before, config, path, "container")


def test_the_machine_needs_a_name():
    assert complaints(BEFORE, BEFORE, "aiproxy", "host") == ["aiproxy does not know host.docker.internal"]
