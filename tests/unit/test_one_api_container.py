# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""one-api's container, its secrets on the host, and the doors: through a made-up docker command and a made-up server."""

from __future__ import annotations

import copy
import json
import os
import re

import pytest
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _one_api, _one_api_container_apply as apply_
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _one_api_place as place
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import Docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Refused, Unreachable
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api_container import (
    Api,
    Wanted,
    differences,
    network_of,
    read_listen,
    read_variables,
)
from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import describe

IMAGE = "ghcr.io/songquanpeng/one-api:v0.6.10"
GOOD = {"id": 1, "name": "fastgpt", "key": "k", "status": 1, "unlimited_quota": True, "expired_time": -1}


def wanted(**other):
    options = dict(image=IMAGE, container="one-api", volume="one-api", project_dir="/opt/one-api", networks=["fastgpt_fastgpt", "ollama"],
                   extra_hosts={}, listen=None, environment={}, restart_policy="unless-stopped", timeout=2)
    return Wanted(**dict(options, **other))


def container(one, **state):
    return {
        "Name": "/one-api",
        "Config": {"Labels": {"localmodels.fastgpt.settings": one.mark, "com.docker.compose.project": "one-api"}, "Image": one.image},
        "State": dict({"Status": "running", "ExitCode": 0}, **state), "HostConfig": {"RestartPolicy": {"Name": one.restart_policy}},
        "NetworkSettings": {"Networks": {name: {"IPAddress": "127.0.0.%d" % (7 + i)} for i, name in enumerate(one.networks)}}, "Mounts": []}


def api(**other):
    return Api(**dict({"answers": True, "access": True, "token": GOOD}, **other))


def test_the_file_says_what_was_declared_and_holds_no_secret():
    one = wanted(listen=read_listen("127.0.0.1:3001"), extra_hosts={"host.docker.internal": "host-gateway"}, environment={"SQL_DSN": "a$b"})
    project = yaml_load(one.text)
    service = project["services"]["one-api"]
    assert service["environment"] == {"SQL_DSN": "a$$b", "TIKTOKEN_CACHE_DIR": "/tiktoken", "INITIAL_ROOT_ACCESS_TOKEN": "${ONE_API_ACCESS_TOKEN}",
                                      "INITIAL_ROOT_TOKEN": "${ONE_API_CLIENT_KEY}", "SESSION_SECRET": "${ONE_API_SESSION_SECRET}"}
    assert service["ports"] == ["127.0.0.1:3001:3000"] and service["extra_hosts"] == ["host.docker.internal:host-gateway"]
    assert service["volumes"] == ["one-api:/data", "/opt/one-api/tiktoken:/tiktoken:ro"]
    assert service["networks"] == ["fastgpt_fastgpt", "ollama"] and service["labels"] == {"localmodels.fastgpt.settings": one.mark}
    assert project["networks"]["ollama"] == {"name": "ollama", "external": True}
    assert project["volumes"] == {"one-api": {"name": "one-api", "external": True}}
    assert one.url == "http://one-api:3000"


def test_nothing_is_published_unless_asked():
    assert "ports" not in yaml_load(wanted().text)["services"]["one-api"]
    assert "volumes" not in yaml_load(wanted(volume="/data/one-api").text)


@pytest.mark.parametrize("other", [{"image": "x:1"}, {"environment": {"A": "1"}}, {"networks": ["x"]}, {"volume": "/d"}, {"container": "y"},
                                   {"listen": read_listen("0.0.0.0:1")}, {"restart_policy": "no"}, {"extra_hosts": {"a": "b"}}])
def test_every_setting_changes_the_mark(other):
    assert wanted(**other).mark != wanted().mark


def test_nothing_differs():
    one = wanted()
    assert differences(one, one.text, container(one), [], api()) == {}


@pytest.mark.parametrize("found, what, says", [
    (Api(), "api", "does not answer"), (api(access=False), "access", "does not know the access token in /opt/one-api/.env"),
    (api(default_password=True), "password", "well-known"), (api(registration=True), "registration", "sign up"),
    (api(token=None), "client_token", "does not know FastGPT's"), (api(token=dict(GOOD, status=2)), "client_token", "is disabled"),
    (api(token=dict(GOOD, status=4)), "client_token", "is used up"), (api(token=dict(GOOD, expired_time=0)), "client_token", "has limits"),
    (api(token=dict(GOOD, name="Initial Root Token")), "client_token", "another name than fastgpt"),
])
def test_what_one_api_says_counts(found, what, says):
    one = wanted()
    different = differences(one, one.text, container(one), [], found)
    assert list(different) == [what] and says in different[what]


def test_a_fresh_host():
    assert list(differences(wanted(), "", None, ["A in /x", "/y"], Api())) == ["file", "container", "secrets"]


@pytest.mark.parametrize("text, says", [("127.0.0.1", "no port"), ("box:3001", "is a name"), ("127.0.0.1:99999", "no valid port")])
def test_addresses_that_are_none(text, says):
    with pytest.raises(LocalModelsError, match=says):
        read_listen(text)


def test_the_environment_keeps_its_words():
    assert read_variables({"DEBUG": True, "A": False, "B": 7, "C": ["x", "y"]}) == {"DEBUG": "true", "A": "false", "B": "7", "C": "x,y"}
    with pytest.raises(LocalModelsError, match="INITIAL_ROOT_TOKEN does not belong"):
        read_variables({"INITIAL_ROOT_TOKEN": "x"})


def project(app, gateway=None, version="4.9.14", **more):
    services = {"fastgpt": dict({"image": "ghcr.io/labring/fastgpt:v" + version, "environment": {}, "networks": dict.fromkeys(app)}, **more)}
    if gateway is not None:
        services["aiproxy"] = {"image": "ghcr.io/labring/aiproxy:v0.1.7", "environment": {}, "networks": dict.fromkeys(gateway)}
    keys = set(app) | set(gateway or ())
    return describe({"name": "fastgpt", "services": services, "networks": {key: {"name": "fastgpt_" + key} for key in keys}}, [], "/opt/fastgpt")


@pytest.mark.parametrize("found, network", [
    (project(["fastgpt"]), "fastgpt_fastgpt"), (project(["fastgpt"], ["fastgpt", "aiproxy"]), "fastgpt_fastgpt"),
    (project(["data", "app", "aiproxy"], ["aiproxy"], "4.16.0"), "fastgpt_aiproxy"), (project(["b", "a"]), "fastgpt_a"),
    (project(["fastgpt"], version="latest"), "fastgpt_fastgpt"),
])
def test_the_network_that_fastgpt_reaches_a_gateway_in(found, network):
    assert network_of(found) == network


@pytest.mark.parametrize("found, says", [
    (project(["a"], ["a"], "4.17.0"), "FastGPT 4.17.0 works with AI Proxy only.*roles fastgpt_compose"), (project(["a"], ["b"]), "no Docker network"),
    (project([], network_mode="host"), "service fastgpt in /opt/fastgpt.*one_api_networks"),
])
def test_a_fastgpt_that_does_not_work_with_one_api(found, says):
    with pytest.raises(LocalModelsError, match=says):
        network_of(found)


# -- the secrets ---------------------------------------------------------------------------------------------------------------


def test_secrets_are_made_once_as_long_as_one_api_wants_them(tmp_path):
    place.write_secrets(str(tmp_path), place.missing({}))
    found = place.read_secrets(str(tmp_path))
    assert {name: len(value) for name, value in found.items()} == place.LENGTHS == {
        "ONE_API_ACCESS_TOKEN": 32, "ONE_API_CLIENT_KEY": 48, "ONE_API_SESSION_SECRET": 32, "ONE_API_ROOT_PASSWORD": 20}
    assert all(re.fullmatch("[A-Za-z0-9]+", value) for value in found.values()) and len(set(found.values())) == 4
    assert os.stat(tmp_path / ".env").st_mode & 0o777 == 0o600
    assert place.missing(found) == {} and place.missing({}) != place.missing({})
    key = place.client_key(str(tmp_path))
    assert key.value == "sk-" + found["ONE_API_CLIENT_KEY"] and key.value not in repr(key) and key.found_in.endswith("ONE_API_CLIENT_KEY in %s/.env" % tmp_path)


def test_lines_of_other_people_stay(tmp_path):
    (tmp_path / ".env").write_text("# mine\nCOMPOSE_PROFILES=x\nONE_API_ACCESS_TOKEN=old")
    place.write_secrets(str(tmp_path), {"ONE_API_ACCESS_TOKEN": "new", "ONE_API_CLIENT_KEY": "key"})
    assert (tmp_path / ".env").read_text() == "# mine\nCOMPOSE_PROFILES=x\nONE_API_ACCESS_TOKEN=new\nONE_API_CLIENT_KEY=key\n"


def test_a_line_in_another_encoding_stays_too(tmp_path):
    mine = "# \u6570\u636e\u5e93\r\nA=1\r\n".encode("gbk")
    (tmp_path / ".env").write_bytes(mine)
    place.write_secrets(str(tmp_path), {"ONE_API_ACCESS_TOKEN": "new"})
    assert (tmp_path / ".env").read_bytes() == mine + b"ONE_API_ACCESS_TOKEN=new\n" and place.read_secrets(str(tmp_path)) == {"ONE_API_ACCESS_TOKEN": "new"}


def test_without_secrets_there_is_no_client_key(tmp_path):
    with pytest.raises(LocalModelsError, match="Run role one_api first"):
        place.client_key(str(tmp_path))


def connect(run=None, read_only=False, **params):
    return place.connect(dict({"project_dir": None, "url": None, "access_token": None, "timeout": 5}, **params), run, read_only)


def test_options_go_before_what_the_folder_says(tmp_path):
    one_api, shown = connect(url="http://192.0.2.1:3000", access_token="s3cret-token")
    assert one_api.client.base_url == "http://192.0.2.1:3000" and "s3cret" not in str(shown)
    place.write_secrets(str(tmp_path), {"ONE_API_ACCESS_TOKEN": "a" * 32})
    found = container(wanted())
    answers = {"ps": "id1\n", "inspect": json.dumps([found])}
    one_api, shown = connect(lambda arguments, cwd=None, env=None: (0, answers[arguments[1]], ""), project_dir=str(tmp_path))
    assert shown["url"] == one_api.client.base_url == "http://127.0.0.7:3000" and "a" * 32 not in str(shown)


def test_nowhere_to_go(tmp_path):
    with pytest.raises(LocalModelsError, match="project_dir is not set.*url with access_token"):
        connect(url="http://192.0.2.1:3000")
    with pytest.raises(LocalModelsError, match="no ONE_API_ACCESS_TOKEN in"):
        connect(project_dir=str(tmp_path))
    one_api, dummy = connect(project_dir=str(tmp_path), read_only=True)
    assert one_api.channels() == one_api.tokens() == []  # check mode on a fresh host
    place.write_secrets(str(tmp_path), {"ONE_API_ACCESS_TOKEN": "a" * 32})
    with pytest.raises(LocalModelsError, match="one-api does not run"):
        connect(lambda arguments, cwd=None, env=None: (0, "", ""), project_dir=str(tmp_path))


# -- making it so --------------------------------------------------------------------------------------------------------------


class Server:
    """A made-up one-api behind a made-up docker command. Its database (`volume`) outlives its container."""

    def __init__(self, folder):
        self.folder = folder
        self.things = {("network", "fastgpt_fastgpt"), ("network", "ollama"), ("image", IMAGE), ("image", "other:1")}
        self.container, self.volume, self.calls, self.silent, self.limited = None, None, [], (), False

    # docker

    def __call__(self, arguments, cwd=None, env=None):
        words = arguments[1:]
        self.calls.append(" ".join(words))
        if words[0] == "inspect":
            return (0, json.dumps([self.container]), "") if self.container else (1, "[]", "No such object")
        if words[0] in ("network", "volume", "image"):
            if words[1] == "create":
                self.things.add((words[0], words[-1]))
            return int((words[0], words[-1]) not in self.things), "", ""
        if words[0] == "rm":
            self.container = None
        if words[0] == "logs":
            return 0, "", "my token is %s\n" % self.secrets()["ONE_API_ACCESS_TOKEN"]
        if "up" in words:
            self.up()
        return 0, "", ""

    def up(self):
        service = yaml_load((self.folder / "compose.yml").read_text())["services"]["one-api"]
        one = wanted(image=service["image"], project_dir=str(self.folder))
        one.mark = service["labels"]["localmodels.fastgpt.settings"]
        self.container = container(one)
        if self.volume is None:
            kept = self.secrets()
            self.volume = {"token": kept["ONE_API_ACCESS_TOKEN"], "password": "123456", "RegisterEnabled": "true",
                           "tokens": [dict(GOOD, name="Initial Root Token", key=kept["ONE_API_CLIENT_KEY"])]}

    def secrets(self):
        return place.read_secrets(str(self.folder))

    # one-api, as its client shows it

    def direct(self, url, token, timeout):
        return Client(self, token)


class Client:
    def __init__(self, server, token):
        self.server, self.token = server, token

    def status(self):
        if self.server.limited:
            raise Refused("one-api", "http://x", "answered 429: too many requests", status=429)
        if self.server.container["Config"]["Image"] in self.server.silent:
            raise Unreachable("one-api", "http://x", "refuses the connection")

    def user(self):
        if self.token != self.server.volume["token"]:
            raise Refused("one-api", "http://x", "answered 200: no", status=200)
        return {"role": 100}

    def login(self, password):
        return "cookie" if password == self.server.volume["password"] else None

    def new_access_token(self, cookie):
        self.token = self.server.volume["token"] = "n" * 32
        return self.token

    def set_password(self, password):
        self.server.volume["password"] = password

    def options(self):
        return self.server.volume

    def set_option(self, name, value):
        self.server.volume[name] = value

    def tokens(self):
        return copy.deepcopy(self.server.volume["tokens"])

    def create_token(self, settings):
        self.server.volume["tokens"].append(dict(settings, id=9, key="c" * 48, status=1))
        return self.tokens()[-1]

    def update_token(self, row, changes):
        (mine,) = [each for each in self.server.volume["tokens"] if each["id"] == row["id"]]
        mine.update(changes)
        return dict(mine)

    def set_token_status(self, id, status):
        self.update_token({"id": id}, {"status": status})


@pytest.fixture
def server(tmp_path, monkeypatch):
    running = Server(tmp_path / "project")
    monkeypatch.setattr(_one_api, "direct", running.direct)
    return running


def converge(server, **other):
    one = wanted(**dict({"project_dir": str(server.folder)}, **other))
    host = apply_.ContainerHost(Docker(server), one)
    text, found, lacking, seen = host.read()
    different = differences(one, text, found, lacking, seen)
    if host.undo.unfinished() is not None:
        different["interrupted"] = "yes"
    server.calls.clear()
    if different:
        host.refuse(found)
        host.apply(different, found)
    return sorted(different)


def doors(server):
    kept = server.secrets()
    return (server.volume["password"] == kept["ONE_API_ROOT_PASSWORD"], server.volume["RegisterEnabled"],
            [(row["name"], row["key"] == kept["ONE_API_CLIENT_KEY"]) for row in server.volume["tokens"]])


SHUT = (True, "false", [("fastgpt", True)])


def test_from_nothing_to_an_answer_behind_shut_doors_and_not_a_step_more(server):
    assert converge(server) == ["container", "file", "secrets"]
    assert doors(server) == SHUT and ("volume", "one-api") in server.things
    assert sorted(os.listdir(server.folder)) == [".env", "compose.yml", "tiktoken"] and len(os.listdir(server.folder / "tiktoken")) == 2
    kept = server.secrets()
    assert not any(value in (server.folder / "compose.yml").read_text() for value in kept.values())
    assert converge(server) == [] and server.secrets() == kept


def test_an_upgrade_keeps_database_and_secrets(server):
    converge(server, image="other:1")
    kept, database = server.secrets(), copy.deepcopy(server.volume)
    assert converge(server) == ["container", "file"]
    assert server.secrets() == kept and server.volume == database and server.container["Config"]["Image"] == IMAGE


@pytest.mark.parametrize("harm, what", [
    (lambda server: server.volume.update(RegisterEnabled="true"), "registration"), (lambda server: server.volume.update(password="123456"), "password"),
    (lambda server: server.volume.update(token="made anew by a person"), "access"), (lambda server: server.volume["tokens"].clear(), "client_token"),
    (lambda server: server.volume["tokens"][0].update(expired_time=0, status=3), "client_token"),
    (lambda server: server.volume["tokens"][0].update(key="of a token made anew"), "client_token"),
])
def test_open_doors_are_shut_without_a_new_container(server, harm, what):
    converge(server)
    harm(server)
    assert converge(server) == [what] and not [call for call in server.calls if " up " in call]
    assert doors(server) == SHUT and converge(server) == []


def test_a_play_killed_before_the_doors_were_shut_is_made_good(server, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt
    with monkeypatch.context() as patched:
        patched.setattr(apply_, "settle", killed)
        with pytest.raises(KeyboardInterrupt):
            converge(server)
    assert doors(server)[0] is False
    assert converge(server) == ["client_token", "interrupted", "password", "registration"] and doors(server) == SHUT
    assert converge(server) == []


def test_a_release_that_does_not_come_up_brings_back_what_ran(server):
    converge(server)
    kept = server.secrets()
    server.silent = ("other:1",)
    with pytest.raises(LocalModelsError, match="does not come up.*refuses the connection after 0 s.*were put back") as said:
        converge(server, image="other:1", timeout=0)
    assert kept["ONE_API_ACCESS_TOKEN"] not in str(said.value) and "my token is ***" in str(said.value)
    assert converge(server) == [] and server.secrets() == kept


def test_a_first_start_that_fails_keeps_the_secrets_that_its_database_now_has(server):
    server.silent = (IMAGE,)
    with pytest.raises(LocalModelsError, match="container was removed.*data and network stay"):
        converge(server, timeout=0)
    server.silent = ()
    assert converge(server) == ["container", "file"] and doors(server) == SHUT


def test_a_database_of_other_secrets_is_left_alone(server):
    converge(server)
    database = copy.deepcopy(server.volume)
    os.unlink(server.folder / ".env")
    with pytest.raises(LocalModelsError, match="its database was made with others"):
        converge(server)
    assert server.volume == database


def test_too_many_requests_are_no_reason_for_a_new_container(server):
    converge(server)
    server.limited = True
    server.calls.clear()
    with pytest.raises(Refused, match="too many requests"):
        converge(server)
    assert not [call for call in server.calls if " up " in call]


def test_a_container_of_someone_else_is_left_alone(server):
    server.container = container(wanted())
    del server.container["Config"]["Labels"]["com.docker.compose.project"]
    server.container["Mounts"] = [{"Name": "theirs", "Destination": "/data"}]
    with pytest.raises(LocalModelsError, match="did not make.*one_api_volume to theirs.*docker rm -f one-api"):
        apply_.ContainerHost(Docker(server), wanted()).refuse(server.container)


def test_no_docker(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(LocalModelsError, match="Docker is absent"):
        apply_.refuse_unfit_host()
