# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that lack what their files say, which docker compose does not see: made anew, and a failure if that does not help."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _compose_wait
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from test_compose_apply import Engine, connect, files, networks, site


@pytest.fixture
def engine(tmp_path, monkeypatch):
    (tmp_path / "docker-compose.yml").write_text("the operator's own\n")
    monkeypatch.setattr(_compose_wait, "_silent", lambda *dummy: None)
    return Engine(str(tmp_path))


@pytest.mark.parametrize(("network", "service"), [("ollama", "aiproxy"), ("fastgpt_fastgpt", "aiproxy"), ("fastgpt_fastgpt", "fastgpt")])
def test_a_container_that_left_a_network_by_hand_is_made_anew_and_no_other(engine, network, service):
    connect(engine)
    before, text = {name: one["Id"] for name, one in engine.made.items()}, files(engine)
    engine.leave(network, service)
    decided = connect(engine)
    assert decided["changed"] and decided["actions"] == ["Let %s join the Docker network %s" % (service, network)]
    assert network in engine.made[service]["NetworkSettings"]["Networks"] and files(engine) == text
    assert {name for name, one in engine.made.items() if one["Id"] != before[name]} == {service}
    assert [call for call in engine.calls if "--force-recreate" in call] == ["compose -p fastgpt --ansi never up -d --force-recreate %s" % service]
    assert not connect(engine)["changed"]


def test_a_network_that_only_the_operators_file_names_is_joined_again(engine):
    engine.config["networks"]["models"] = {"name": "ollama", "external": True}
    engine.config["services"]["aiproxy"]["networks"]["models"] = None
    engine.up("aiproxy")
    assert not connect(engine)["changed"]
    engine.leave("ollama", "aiproxy")
    assert connect(engine)["actions"] == ["Let aiproxy join the Docker network ollama"]
    assert networks(engine) == ["fastgpt_fastgpt", "ollama"] and not connect(engine)["changed"]


def test_a_container_that_came_back_by_hand_without_its_names_is_made_anew(engine):
    engine.config["services"]["aiproxy"]["container_name"] = "gateway"
    engine.made["aiproxy"]["Name"] = "/gateway"
    assert connect(engine)["actions"][-1] == "Let gateway be called aiproxy in the Docker network fastgpt_fastgpt"
    assert "compose -p fastgpt --ansi never up -d aiproxy" in engine.calls


@pytest.mark.parametrize("came", [True, False])
def test_a_network_that_is_not_joined_is_a_failure_and_no_change(engine, came):
    """Whether it was there before or the file is new."""
    if came:
        connect(engine)
        engine.leave("ollama", "aiproxy")
    before = files(engine)
    engine.never_joins = "ollama"
    for dummy in range(2):
        with pytest.raises(LocalModelsError, match="made the container anew, and it still lacks what the files say: Let aiproxy join the Docker "
                                                   "network ollama.*docker inspect.*Files and containers are as before, and FastGPT answers again"):
            connect(engine)
        assert files(engine) == before and networks(engine) == ["fastgpt_fastgpt"] and not site(engine).backup.unfinished()


def test_a_gateway_that_does_not_get_well_in_a_network_it_had_left_leaves_it_again(engine):
    connect(engine)
    engine.leave("ollama", "aiproxy")
    before, engine.sick_in = files(engine), "ollama"
    leave = engine.leave

    def leave_and_get_well(network, service):
        leave(network, service)
        engine.made[service]["State"]["Health"]["Status"] = "healthy"
    engine.leave = leave_and_get_well
    with pytest.raises(LocalModelsError, match="(?s)its health check says unhealthy.*Files and containers are as before, and FastGPT answers again"):
        connect(engine)
    assert files(engine) == before and networks(engine) == ["fastgpt_fastgpt"]


def test_who_shares_the_network_of_a_container_is_made_anew_with_it(engine):
    engine.config["services"]["aiproxy_pg"].update(environment={}, networks={"fastgpt": None})
    engine.config["services"]["aiproxy"].update(network_mode="service:aiproxy_pg")
    engine.up("aiproxy_pg", "aiproxy")
    connect(engine)
    engine.leave("ollama", "aiproxy_pg")
    connect(engine)
    assert [call.partition("up -d ")[2] for call in engine.calls if "--force-recreate" in call] == ["--force-recreate aiproxy aiproxy_pg"]


def test_a_variable_that_the_image_brings_is_no_difference(engine):
    connect(engine)
    engine.made["fastgpt"]["Config"]["Env"].append("ONEAPI_URL=http://of-the-image")
    engine.brings = ["ONEAPI_URL=http://of-the-image"]
    assert not connect(engine)["changed"]
    engine.brings = ["ONEAPI_URL=http://another"]
    assert site(engine).found()["containers"]["fastgpt"]["other"] == ["ONEAPI_URL"]
