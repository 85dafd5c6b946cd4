# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the docker command, and what its answers mean."""

from __future__ import annotations

import json
import pathlib

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import BrokenProject, Docker, DockerError

REFUSED = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "compose-config" / "refused.json").read_text())


class Fake:
    """A docker command that answers from a table of (words that must be in the call, answer)."""

    def __init__(self, *answers):
        self.answers = answers
        self.calls = []

    def __call__(self, arguments, cwd=None, env=None):
        self.calls.append((" ".join(arguments), cwd))
        self.env = env
        for words, answer in self.answers:
            if all(word in arguments for word in words.split()):
                return answer
        raise AssertionError("not expected: %s" % arguments)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    return str(tmp_path)


def test_it_works_in_the_folder_so_that_env_files_count(project):
    fake = Fake(("config", (0, '{"name": "x", "services": {}}', "")))
    assert Docker(fake, project).config() == {"name": "x", "services": {}}
    assert fake.calls == [("docker compose --profile * config --format json", project)]


def test_other_files_are_named_by_the_variable_so_that_the_same_env_file_counts(project):
    fake = Fake(("config", (0, "{}", "")))
    Docker(fake, project).config(files=["a.yml", "b.yml"])
    assert fake.env == {"COMPOSE_FILE": "a.yml:b.yml", "COMPOSE_PATH_SEPARATOR": ":"}


def test_dollars_come_back_single(project):
    fake = Fake(("config", (0, '{"services": {"a": {"environment": {"P": "pa$$word$$$$"}, "command": ["$$x"]}}}', "")))
    service = Docker(fake, project).config()["services"]["a"]
    assert service == {"environment": {"P": "pa$word$$"}, "command": ["$x"]}


def test_a_project_started_under_another_name_is_called_by_it(project):
    rows = "1\tmine\t%s\t\n2\tmine\t%s\tTrue\n3\tother\t/elsewhere\t\n" % (project, project)
    fake = Fake(("ps", (0, rows, "")), ("inspect", (0, '[{"Name": "/a"}]', "")), ("config", (0, '{"name": "mine"}', "")))
    docker = Docker(fake, project)
    assert docker.containers() == [{"Name": "/a"}]
    docker.config()
    assert [call for call, dummy in fake.calls][1:] == [
        "docker inspect --type container 1", "docker compose -p mine --profile * config --format json"]


def test_a_moved_folder_is_found_by_the_projects_name(project):
    fake = Fake(("ps", (0, "1\tfastgpt\t/old/place\t\n", "")), ("inspect", (0, '[{"Name": "/a"}]', "")),
                ("config", (0, '{"name": "fastgpt"}', "")))
    assert Docker(fake, project).containers() == [{"Name": "/a"}]


def test_nothing_was_ever_started(project):
    fake = Fake(("ps", (0, "", "")), ("config", (0, '{"name": "fastgpt"}', "")))
    assert Docker(fake, project).containers() == []


def test_no_docker(project):
    def run(arguments, cwd=None, env=None):
        raise FileNotFoundError("docker")
    with pytest.raises(DockerError, match="There is no docker command on this host. FastGPT runs on Docker"):
        Docker(run, project).config()


@pytest.mark.parametrize("err", ["docker: unknown command: docker compose\n\nRun 'docker --help'", "docker: 'compose' is not a docker command.",
                                 "unknown shorthand flag: 'p' in -p", "unknown flag: --profile"])
def test_no_compose_plugin(project, err):
    with pytest.raises(DockerError, match="no compose plugin of version 2"):
        Docker(Fake(("compose", (125, "", err))), project).config()


@pytest.mark.parametrize("err, said", [
    ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "engine does not answer"),
    ("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock", "may not talk"),
])
def test_engine_trouble(project, err, said):
    with pytest.raises(DockerError, match=said):
        Docker(Fake(("ps", (1, "", err))), project).containers()


def test_no_folder_and_no_file(tmp_path):
    with pytest.raises(BrokenProject, match="/nowhere is no folder"):
        Docker(Fake(), "/nowhere").config()
    (tmp_path / "fastgpt.yaml").write_text("")
    with pytest.raises(BrokenProject, match=r"no compose file in .*found only fastgpt.yaml.*COMPOSE_FILE="):
        Docker(Fake(), str(tmp_path)).config()
    (tmp_path / ".env").write_text("COMPOSE_FILE=fastgpt.yaml\n")
    assert Docker(Fake(("config", (0, "{}", ""))), str(tmp_path)).config() == {}


@pytest.mark.parametrize("name, reason", [
    ("v4.13.0__32a3b9216__deploy-docker-cn-docker-compose.milvus", 'line 51: mapping key "image" already defined at line 50'),
    ("v4.13.0__32a3b9216__deploy-docker-cn-docker-compose.oceanbase", "could not find expected ':'"),
    ("v4.14.26__f88b51b5c__pub-v4.14-global-docker-compose.milvus", "refers to undefined network vector"),
    ("v4.15.2__9601a1a8c__BROKEN-YAML", "map merge requires map"),
    ("v4.9.3__b943d05d5__deploy-docker-docker-compose-oceanbase-docker-compose", r"environment.\[2\]: unexpected type <nil>"),
])
def test_official_files_that_compose_refuses(project, name, reason):
    with pytest.raises(BrokenProject, match="cannot read the project in .*" + reason) as caught:
        Docker(Fake(("config", (15, "", REFUSED[name]))), project).config()
    assert "level=warning" not in str(caught.value)


@pytest.mark.parametrize("said", [
    "invalid interpolation format for services.a.environment.P.\nYou may need to escape any $ with another $.\npa$s3cret${\n",
    "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `s3cret...` into cli.named\n",
])
def test_values_that_compose_quotes_are_not_repeated(said):
    assert "s3cret" not in str(_docker.broken_project("/opt/fastgpt", said))


@pytest.mark.parametrize("text, value", [
    ("", ""), ("COMPOSE_FILE=a.yml:b.yml\n", "a.yml:b.yml"), ("# COMPOSE_FILE=x\n", ""), ("export COMPOSE_FILE=a.yml\r\n", "a.yml"),
    ("COMPOSE_FILE='a b.yml' # why\n", "a b.yml"), ('COMPOSE_FILE="a.yml"\n', "a.yml"), ("COMPOSE_FILE=a.yml # why\n", "a.yml"),
    ("COMPOSE_FILE=a.yml\nCOMPOSE_FILE=b.yml", "b.yml"), ("MY_COMPOSE_FILE=a.yml", ""), ("COMPOSE_FILE=\nOTHER=x\n", ""),
])
def test_a_variable_of_the_env_file(tmp_path, text, value):
    (tmp_path / ".env").write_bytes(text.encode())
    assert _docker.dotenv_value(str(tmp_path), "COMPOSE_FILE") == value


def test_version_from_inside():
    assert Docker(Fake(("exec", (0, '{"version": "4.15.4"}', "")))).package_version("fastgpt-app") == "4.15.4"
    assert Docker(Fake(("exec", (1, "", "No such file")))).package_version("fastgpt-app") is None
    assert Docker(Fake(("exec", (0, "[]", "")))).package_version("fastgpt-app") is None
