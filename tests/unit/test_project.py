# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is who in FastGPT's compose project: every usable official file, and what people make of them."""

from __future__ import annotations

import copy
import json
import pathlib

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _project
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import NoSuchService, Secret, describe

CONFIGS = pathlib.Path(__file__).parents[1] / "fixtures" / "compose-config"
FOLDER = "/opt/fastgpt"
LIST_STYLE = "v4.9.14__1eb98ef0f__deploy-docker-docker-compose-pgvector"
MAP_STYLE = "v4.15.4__f88b51b5c__pub-v4.15-global-docker-compose.pg"

# file -> (FastGPT's version, its service, AI Proxy's service, a network that the two share)
OFFICIAL = {
    "latest__cd2fd77df__OLDEST-host-network": (None, "fastgpt", None, None),
    "v4.6.9__911512b36__FIRST-with-oneapi": ("4.6.9", "fastgpt", None, None),
    "v4.8.2__1e48922bc__files-deploy-fastgpt-docker-compose": ("4.8.2", "fastgpt", None, None),
    "v4.8.9__13401294a__files-docker-docker-compose-pgvector": ("4.8.9", "fastgpt", None, None),
    "v4.8.20-fix__d857a391b__files-docker-docker-compose-pgvector": ("4.8.20-fix", "fastgpt", None, None),
    "v4.8.21-fix__ca5717936__files-docker-docker-compose-milvus": ("4.8.21-fix", "fastgpt", None, None),
    "v4.8.23-fix__e860c56b7__deploy-docker-docker-compose-pgvector": ("4.8.23-fix", "fastgpt", None, None),
    "v4.8.23-fix__e1aa06885__TRANSITION-both-OPENAI-and-AIPROXY": ("4.8.23-fix", "fastgpt", "aiproxy", "fastgpt_fastgpt"),
    "v4.9.0__9523ba92f__deploy-docker-docker-compose-pgvector": ("4.9.0", "fastgpt", "aiproxy", "fastgpt_fastgpt"),
    "v4.9.8__2d2d0fffe__deploy-docker-docker-compose-pgvector": ("4.9.8", "fastgpt", "aiproxy", "fastgpt_fastgpt"),
    LIST_STYLE: ("4.9.14", "fastgpt", "aiproxy", "fastgpt_fastgpt"),
    "v4.9.14__1eb98ef0f__deploy-docker-docker-compose-zilliz": ("4.9.14", "fastgpt", "aiproxy", "fastgpt_fastgpt"),
    "v4.10.1-fix3__d0730e665__deploy-docker-docker-compose-pgvector": ("4.10.1-fix3", "fastgpt", "aiproxy", "fastgpt_fastgpt"),
    "v4.12.0__c166a5739__deploy-docker-docker-compose-pgvector": ("4.12.0", "fastgpt", "aiproxy", "fastgpt_fastgpt"),
    "v4.12.4__cb7d1a320__LAST-list-style": ("4.12.4", "fastgpt", "aiproxy", "fastgpt_fastgpt"),
    "v4.13.0__32a3b9216__deploy-docker-cn-docker-compose.pg": ("4.13.0", "fastgpt", "aiproxy", "fastgpt_fastgpt"),
    "v4.14.0__45869fa05__deploy-docker-global-docker-compose.pg": ("4.14.0", "fastgpt", "aiproxy", "fastgpt_fastgpt"),
    "v4.14.8__8eb841cc9__deploy-docker-cn-docker-compose.pg": ("4.14.8", "fastgpt", "aiproxy", "fastgpt_fastgpt"),
    "v4.14.10__fbbe85259__fastgpt-app-but-aiproxy-oldname": ("4.14.10", "fastgpt-app", "aiproxy", "fastgpt_fastgpt"),
    "v4.14.10.1__0e46ccc72__all-renamed": ("4.14.10.1", "fastgpt-app", "fastgpt-aiproxy", "fastgpt_fastgpt"),
    "v4.14.20__0591d1834__deploy-docker-global-docker-compose.pg": ("4.14.20", "fastgpt-app", "fastgpt-aiproxy", "fastgpt_aiproxy"),
    "v4.14.26__f88b51b5c__pub-v4.14-global-docker-compose.pg": ("4.14.26", "fastgpt-app", "fastgpt-aiproxy", "fastgpt_aiproxy"),
    "v4.15.4__f88b51b5c__pub-main-global-docker-compose.milvus": ("4.15.4", "fastgpt-app", "fastgpt-aiproxy", "fastgpt_aiproxy"),
    "v4.15.4__f88b51b5c__pub-main-global-docker-compose.pg": ("4.15.4", "fastgpt-app", "fastgpt-aiproxy", "fastgpt_aiproxy"),
    MAP_STYLE: ("4.15.4", "fastgpt-app", "fastgpt-aiproxy", "fastgpt_aiproxy"),
}


def load(name):
    return json.loads((CONFIGS / (name + ".json")).read_text())


def container(service, name=None, state="running", networks=None, env=(), ports=None, image="", **more):
    """What `docker inspect` says, cut to what is read from it."""
    return {
        "Name": "/" + (name or service),
        "Config": {"Labels": {"com.docker.compose.service": service}, "Env": list(env), "Image": image},
        "State": dict({"Status": state}, **more.get("State", {})),
        "HostConfig": {"ExtraHosts": more.get("extra_hosts")},
        "NetworkSettings": {
            "Ports": ports or {},
            "Networks": {net: {"IPAddress": address, "GlobalIPv6Address": "", "Aliases": more.get("aliases")} for net, address in (networks or {}).items()},
        },
    }


def test_every_usable_official_file_is_in_the_table():
    assert set(OFFICIAL) == {path.stem for path in CONFIGS.glob("*.json")} - {"refused"}


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_official_file_before_it_was_ever_started(name):
    version, app, gateway, shared = OFFICIAL[name]
    project = describe(load(name), [], FOLDER)
    assert project.version == version
    assert [one.name for one in project.apps] == [app]
    assert (project.gateway and project.gateway.name) == gateway
    if gateway:
        assert shared in set(project.app.networks) & set(project.gateway.networks)
        assert project.admin_key().value in ("aiproxy", "token")
        assert project.admin_key().found_in == "ADMIN_KEY of service %s in %s" % (gateway, FOLDER)
        assert not project.keys_differ()
    assert project.fastgpt_url() == "http://127.0.0.1:3000"
    assert project.app.state == "missing"


@pytest.mark.parametrize("name, password", [(LIST_STYLE, "1234"), (MAP_STYLE, "1234"),
                                            ("latest__cd2fd77df__OLDEST-host-network", "123456")])
def test_root_password_and_where_it_is(name, password):
    found = describe(load(name), [], FOLDER).root_password()
    assert found.value == password
    assert "DEFAULT_ROOT_PSW" in found.found_in and FOLDER in found.found_in


def test_a_secret_cannot_be_printed_by_accident():
    secret = Secret("s3cret-value", "a place")
    assert "s3cret" not in repr(secret) + str(secret) + "%s" % secret + "{}".format(secret)
    project = describe(load(MAP_STYLE), [], FOLDER)
    project.gateway._declared["ADMIN_KEY"] = "s3cret-value"
    project.app._declared["DEFAULT_ROOT_PSW"] = "s3cret-value"
    assert "s3cret" not in json.dumps([one.public() for one in project.services.values()]) + repr(vars(project))


def test_a_running_container_is_believed_before_its_file():
    running = [
        container("fastgpt-app", "fastgpt-app", image="ghcr.io/labring/fastgpt:v4.15.2",
                  env=["DEFAULT_ROOT_PSW=in=the=container", "AIPROXY_API_ENDPOINT=http://fastgpt-aiproxy:3000"],
                  ports={"3000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]},
                  networks={"fastgpt_app": "172.20.0.3"}),
        container("fastgpt-aiproxy", env=["ADMIN_KEY=changed"], networks={"fastgpt_aiproxy": "172.21.0.4"},
                  State={"Health": {"Status": "healthy"}}),
    ]
    project = describe(load(MAP_STYLE), running, FOLDER)
    assert project.version == "4.15.2"
    assert project.fastgpt_url() == "http://127.0.0.1:8080"
    assert project.gateway_url() == "http://172.21.0.4:3000"
    assert project.root_password().value == "in=the=container"
    assert "running container fastgpt-app" in project.root_password().found_in
    assert project.admin_key().value == "changed"
    assert project.gateway.health == "healthy"


def test_keys_that_differ_are_noticed():
    config = load(MAP_STYLE)
    config["services"]["fastgpt-aiproxy"]["environment"]["ADMIN_KEY"] = "other"
    assert describe(config, [], FOLDER).keys_differ()


@pytest.mark.parametrize("binding, url", [
    ({"HostIp": "", "HostPort": "3000"}, "http://127.0.0.1:3000"),
    ({"HostIp": "127.0.0.1", "HostPort": "13000"}, "http://127.0.0.1:13000"),
    ({"HostIp": "192.0.2.7", "HostPort": "80"}, "http://192.0.2.7:80"),
    ({"HostIp": "::", "HostPort": "3000"}, "http://[::1]:3000"),
])
def test_published_port_of_fastgpt(binding, url):
    running = [container("fastgpt", ports={"3000/tcp": [binding]}, image="labring/fastgpt:v4.9.14")]
    assert describe(load(LIST_STYLE), running, FOLDER).fastgpt_url() == url


def test_fastgpt_without_a_published_port_is_reached_by_its_container():
    config = load(LIST_STYLE)
    del config["services"]["fastgpt"]["ports"]
    running = [container("fastgpt", networks={"fastgpt_fastgpt": "172.18.0.9"}, ports={"3000/tcp": None})]
    assert describe(config, running, FOLDER).fastgpt_url() == "http://172.18.0.9:3000"
    running = [container("fastgpt", state="exited", networks={"fastgpt_fastgpt": ""})]
    assert describe(config, running, FOLDER).fastgpt_url() is None


def test_ipv6_only_container():
    running = [container("aiproxy")]
    running[0]["NetworkSettings"]["Networks"] = {"fastgpt_fastgpt": {"IPAddress": "", "GlobalIPv6Address": "fd00::9"}}
    assert describe(load(LIST_STYLE), running, FOLDER).gateway_url() == "http://[fd00::9]:3000"


def test_host_network_mode():
    config = load(LIST_STYLE)
    app = config["services"]["fastgpt"]
    app.update(network_mode="host")
    del app["networks"], app["ports"]
    app["environment"]["PORT"] = "3100"
    assert describe(config, [], FOLDER).fastgpt_url() == "http://127.0.0.1:3100"


def renamed(name, changes):
    config = load(name)
    for old, new in changes.items():
        config["services"][new] = config["services"].pop(old)
    return config


def test_renamed_services_and_private_images():
    config = renamed(LIST_STYLE, {"fastgpt": "web", "aiproxy": "llm-gateway"})
    config["services"]["web"]["image"] = "registry.corp:5000/ai/our-build:2024"
    config["services"]["web"]["environment"]["AIPROXY_API_ENDPOINT"] = "http://llm-gateway:3000"
    config["services"]["llm-gateway"]["image"] = "registry.corp:5000/ai/relay:1"
    project = describe(config, [], FOLDER)
    assert (project.app.name, project.gateway.name, project.version) == ("web", "llm-gateway", None)


@pytest.mark.parametrize("where", ["container_name", "hostname", "alias"])
def test_the_gateway_is_whom_fastgpt_calls_under_any_of_its_names(where):
    config = renamed(LIST_STYLE, {"aiproxy": "relay"})
    relay = config["services"]["relay"]
    relay["image"] = "corp/relay"
    relay.pop("container_name")
    if where == "alias":
        relay["networks"]["fastgpt"] = {"aliases": ["aiproxy"]}
    else:
        relay[where] = "aiproxy"
    assert describe(config, [], FOLDER).gateway.name == "relay"


def test_a_gateway_elsewhere_is_not_replaced_by_one_that_only_looks_like_it():
    config = load(LIST_STYLE)
    config["services"]["fastgpt"]["environment"]["AIPROXY_API_ENDPOINT"] = "http://192.0.2.20:3000/"
    project = describe(config, [], FOLDER)
    assert project.gateway is None
    assert project.gateway_url() == "http://192.0.2.20:3000"


def test_a_gateway_called_by_its_published_port():
    config = load(LIST_STYLE)
    config["services"]["fastgpt"]["environment"]["AIPROXY_API_ENDPOINT"] = "http://192.0.2.2:3010"
    config["services"]["aiproxy"]["ports"] = [{"mode": "ingress", "target": 3000, "published": "3010", "protocol": "tcp"}]
    project = describe(config, [], FOLDER)
    assert project.gateway.name == "aiproxy"
    assert project.gateway_url() == "http://127.0.0.1:3010"


def test_no_fastgpt():
    config = load(LIST_STYLE)
    del config["services"]["fastgpt"]
    with pytest.raises(NoSuchService, match=r"No service in /opt/fastgpt is FastGPT.*aiproxy, aiproxy_pg"):
        describe(config, [], FOLDER)


def test_two_gateways_and_no_word_which():
    config = load(LIST_STYLE)
    config["services"]["fastgpt"]["environment"].pop("AIPROXY_API_ENDPOINT")
    config["services"]["aiproxy2"] = copy.deepcopy(config["services"]["aiproxy"])
    with pytest.raises(NoSuchService, match=r"could be AI Proxy: aiproxy \(.*\), aiproxy2 \("):
        describe(config, [], FOLDER)


def test_copies_of_one_fastgpt_are_one_and_two_databases_are_two():
    config = load(LIST_STYLE)
    config["services"]["a-second"] = copy.deepcopy(config["services"]["fastgpt"])
    config["services"]["a-second"].pop("ports")
    project = describe(config, [], FOLDER)
    assert [one.name for one in project.apps] == ["fastgpt", "a-second"]
    assert project.app.name == "fastgpt"
    config["services"]["a-second"]["environment"]["MONGODB_URI"] = "mongodb://elsewhere/fastgpt"
    with pytest.raises(NoSuchService, match="More than one FastGPT"):
        describe(config, [], FOLDER)


def test_of_several_containers_of_a_service_a_running_one_speaks():
    running = [container("aiproxy", "fastgpt-aiproxy-1", state="exited"),
               container("aiproxy", "fastgpt-aiproxy-2", networks={"fastgpt_fastgpt": "172.18.0.3"})]
    gateway = describe(load(LIST_STYLE), running, FOLDER).gateway
    assert (gateway.container, gateway.copies) == ("fastgpt-aiproxy-2", 2)


@pytest.mark.parametrize("image, name, version", [
    ("ghcr.io/labring/fastgpt:v4.14.10.1", "fastgpt", "4.14.10.1"),
    ("ghcr.io/labring/fastgpt:v4.15.0-beta1", "fastgpt", "4.15.0-beta1"),
    ("registry.corp:5000/fastgpt", "fastgpt", None),
    ("fastgpt:latest", "fastgpt", None),
    ("ghcr.io/labring/fastgpt:v4.9.14@sha256:0123", "fastgpt", "4.9.14"),
    ("ghcr.io/labring/fastgpt@sha256:0123", "fastgpt", None),
    ("ghcr.io/labring/fastgpt-sandbox:v4.9.14", "fastgpt-sandbox", "4.9.14"),
])
def test_images(image, name, version):
    assert (_project.image_name(image), _project.version_of(image)) == (name, version)


@pytest.mark.parametrize("image, flavour", [("fastgpt:v4.8.9", "none"), ("fastgpt:v4.8.20-fix", "A"), ("fastgpt:v4.16.2", "A"),
                                            ("fastgpt:v4.17.0", "B"), ("fastgpt:latest", None)])
def test_flavour_is_guessed_from_the_version(image, flavour):
    config = load(LIST_STYLE)
    config["services"]["fastgpt"]["image"] = image
    assert describe(config, [], FOLDER).flavour() == flavour


@pytest.mark.parametrize("entries", [["a=1.2.3.4", "b=host-gateway", "six=::1"], ["a:1.2.3.4", "b:host-gateway", "six:[::1]"],
                                     {"a": "1.2.3.4", "b": "host-gateway", "six": ["::1"]}])
def test_every_spelling_of_extra_hosts(entries):
    assert _project.split_extra_hosts(entries) == {"a": "1.2.3.4", "b": "host-gateway", "six": "::1"}


def test_what_a_container_is_called_is_told_by_network():
    made = container("aiproxy", name="Gateway", networks={"a": "1.1.1.1"}, aliases=["aiproxy", "0123456789ab"])
    made["NetworkSettings"]["Networks"]["b"] = {"Aliases": None, "DNSNames": ["Gateway", "host"]}
    found = describe(load(LIST_STYLE), [made], FOLDER).services["aiproxy"].names
    assert found == {"a": ["0123456789ab", "aiproxy", "gateway"], "b": ["gateway", "host"]}
