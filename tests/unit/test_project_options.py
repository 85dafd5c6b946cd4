# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From module options to addresses and secrets."""

from __future__ import annotations

import json

import pytest

from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.plugins.doc_fragments.project import ModuleDocFragment
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _project_options as options
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Unreachable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt import open_fastgpt

from test_docker import Fake
from test_project import LIST_STYLE, container, load


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    return str(tmp_path)


def docker(folder, containers, config=None):
    rows = "".join("%d\tfastgpt\t%s\t\n" % (number, folder) for number, dummy in enumerate(containers))
    return Fake(("ps", (0, rows, "")), ("inspect", (0, json.dumps(containers), "")),
                ("config", (0, json.dumps(config or load(LIST_STYLE)), "")), ("exec", (0, '{"version": "4.15.1"}', "")))


UP = [container("fastgpt", ports={"3000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "3000"}]}, image="labring/fastgpt:v4.9.14",
                env=["DEFAULT_ROOT_PSW=1234", "AIPROXY_API_ENDPOINT=http://aiproxy:3000"]),
      container("aiproxy", networks={"fastgpt_fastgpt": "172.18.0.4"}, env=["ADMIN_KEY=aiproxy"])]


def test_documented_options_are_the_options():
    documented = yaml_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert {name: (item["type"], item.get("default")) for name, item in documented.items()} == {
        name: (item["type"], item.get("default")) for name, item in options.ARGUMENT_SPEC.items()}


def test_everything_given_asks_docker_nothing():
    given = {"fastgpt_url": "http://f:3000/", "root_password": "r", "aiproxy_url": "http://g:3000", "admin_key": "k"}
    one, two = options.fastgpt(given, None), options.gateway(given, None)
    assert (one.url, one.secret.value, two.url, two.secret.value) == ("http://f:3000", "r", "http://g:3000", "k")


def test_nothing_given():
    with pytest.raises(LocalModelsError, match="project_dir is not set"):
        options.fastgpt({}, None)


def test_everything_from_the_project(folder):
    found = options.fastgpt({"project_dir": folder}, docker(folder, UP))
    assert (found.url, found.secret.value) == ("http://127.0.0.1:3000", "1234")
    assert found.public() == {"url": "http://127.0.0.1:3000", "url_found_in": "service fastgpt in " + folder,
                              "secret_found_in": "DEFAULT_ROOT_PSW of service fastgpt in " + folder}
    found = options.gateway({"project_dir": folder}, docker(folder, UP), reaches=lambda host, port: True)
    assert (found.url, found.secret.value, found.bridged) == ("http://172.18.0.4:3000", "aiproxy", False)


def test_an_option_goes_before_the_project(folder):
    given = {"project_dir": folder, "root_password": "mine", "aiproxy_url": "http://127.0.0.1:9000"}
    assert options.fastgpt(given, docker(folder, UP)).secret.value == "mine"
    found = options.gateway(given, docker(folder, UP))
    assert (found.url, found.secret.value) == ("http://127.0.0.1:9000", "aiproxy")


def test_a_container_address_that_leads_nowhere_is_crossed_by_the_bridge(folder):
    asked = []
    found = options.gateway({"project_dir": folder}, docker(folder, UP), reaches=lambda *where: asked.append(where))
    assert asked == [("172.18.0.4", 3000)]
    assert (found.url, found.bridged, found.secret.value) == ("http://127.0.0.1:3000/api/aiproxy", True, "1234")


def test_what_does_not_run_is_said(folder):
    down = [container("fastgpt", state="exited"), container("aiproxy", state="created")]
    config = load(LIST_STYLE)
    del config["services"]["fastgpt"]["ports"]
    with pytest.raises(LocalModelsError, match=r"FastGPT \(service fastgpt .* is exited"):
        options.fastgpt({"project_dir": folder}, docker(folder, down, config))
    with pytest.raises(LocalModelsError, match=r"AI Proxy \(service aiproxy .* is created"):
        options.gateway({"project_dir": folder}, docker(folder, down))


@pytest.mark.parametrize("state, words", [
    ("exited", "The container fg of service fastgpt is exited. Start it with `docker compose up -d` in {}; `docker logs fg` tells why it ended"),
    ("restarting", "The container fg of service fastgpt is restarting. Docker starts it again and again; `docker logs fg` tells why it ended"),
    (None, "Service fastgpt has no container. Make and start it with `docker compose up -d` in {}"),
    ("running", "Nothing listens there: check that it runs, its port, and its listen address")])
def test_a_fastgpt_that_does_not_answer_is_told_by_its_container(folder, state, words):
    config = load(LIST_STYLE)
    config["services"]["fastgpt"]["ports"] = [{"target": 3000, "published": "1"}]  # nothing listens there
    ports = {"3000/tcp": [{"HostIp": "", "HostPort": "1"}]}
    containers = [container("fastgpt", name="fg", state=state, ports=ports)] if state else []
    with pytest.raises(Unreachable) as caught:
        open_fastgpt({"project_dir": folder, "timeout": 1}, docker(folder, containers, config)).init_data()
    assert str(caught.value) == "FastGPT at http://127.0.0.1:1 refuses the connection. %s." % words.format(folder)
    assert caught.value.asked == "http://127.0.0.1:1/api/common/system/getInitData"


@pytest.mark.parametrize("endpoint", ["", "https://localhost:3010"])
def test_no_gateway(folder, endpoint):
    config = load(LIST_STYLE)
    del config["services"]["aiproxy"]
    config["services"]["fastgpt"]["environment"]["AIPROXY_API_ENDPOINT"] = endpoint
    with pytest.raises(LocalModelsError, match="No service in .* is AI Proxy"):
        options.gateway({"project_dir": folder}, docker(folder, [], config))


def test_no_admin_key(folder):
    config = load(LIST_STYLE)
    config["services"]["fastgpt"]["environment"].pop("AIPROXY_API_TOKEN")
    containers = [UP[0], container("aiproxy", networks={"fastgpt_fastgpt": "172.18.0.4"})]
    with pytest.raises(LocalModelsError, match="admin key is nowhere"):
        options.gateway({"project_dir": folder}, docker(folder, containers, config), reaches=lambda *where: True)


def test_latest_is_asked_inside(folder):
    latest = [dict(UP[0], Config=dict(UP[0]["Config"], Image="labring/fastgpt:latest")), UP[1]]
    assert options.read_project({"project_dir": folder}, docker(folder, latest)).version == "4.15.1"
