# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the docker command, and what its answers mean."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker import BrokenProject, Docker
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker_engine import DockerError, Surroundings, compose_version, is_rootless
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

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


def surroundings(found=(), sockets=(), **environ):
    """What decides which engine is meant. found: {name: path} of commands."""
    return Surroundings(dict(environ, HOME=environ.get("HOME", "/nobody")), dict(found).get, lambda: list(sockets))


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
    assert fake.env == {"COMPOSE_FILE": "a.yml:b.yml", "COMPOSE_PATH_SEPARATOR": ":", "PWD": project}


def test_a_project_in_a_linked_folder_has_the_links_name(project, tmp_path):
    (tmp_path / "link").symlink_to(project)
    fake = Fake(("config", (0, "{}", "")))
    Docker(fake, str(tmp_path / "link")).config()
    assert fake.env["PWD"] == str(tmp_path / "link")


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


def test_a_folder_of_somebody_else(project, monkeypatch):
    def run(arguments, cwd=None, env=None):
        raise PermissionError(13, "Permission denied", cwd)
    with pytest.raises(DockerError, match=r"This user may not call docker in %s \(Permission denied\). Use become: true" % project):
        Docker(run, project).containers()
    os.remove(os.path.join(project, "docker-compose.yml"))
    monkeypatch.setattr(os, "listdir", lambda path: run([], path))
    with pytest.raises(LocalModelsError, match="%s, of the project in %s, cannot be used: Permission denied. Use become: true" % (project, project)):
        Docker(Fake(), project).refuse_missing_files()


@pytest.mark.parametrize("err", ["docker: unknown command: docker compose\n\nRun 'docker --help'", "docker: 'compose' is not a docker command.",
                                 "unknown shorthand flag: 'p' in -p", "unknown flag: --profile"])
def test_no_compose_plugin(project, err):
    with pytest.raises(DockerError, match="no compose plugin of version 2"):
        Docker(Fake(("compose", (125, "", err))), project, surroundings()).config()


@pytest.mark.parametrize("err, said", [
    ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "engine does not answer"),
    ("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock", "may not talk"),
    ("permission denied while trying to connect to the docker API at unix:///var/run/docker.sock", "may not talk"),
    ("failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct and if the daemon is running", "does not answer"),
    ("Cannot connect to the Docker daemon at unix:///run/user/1000/docker.sock.", "systemctl --user start docker"),
])
def test_engine_trouble(project, err, said):
    with pytest.raises(DockerError, match=said):
        Docker(Fake(("ps", (1, "", err))), project).containers()


def test_a_rootless_engine_beside_one_that_does_not_run_is_named(project):
    err = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
    with pytest.raises(DockerError, match="systemctl start docker. Or is the rootless engine at /run/user/1000/docker.sock meant"):
        Docker(Fake(("ps", (1, "", err))), project, surroundings(sockets=["/run/user/1000/docker.sock"])).containers()


@pytest.mark.parametrize("address", ["tcp://192.0.2.7:2376", "ssh://root@gpu1.example.org", "tcp://[2001:db8::7]:2375", "https://build:2376"])
def test_an_engine_of_another_machine_is_refused_before_anything_is_asked(project, address):
    with pytest.raises(DockerError, match=r"engine of another machine \(DOCKER_HOST is set: .*Point the play at that machine") as caught:
        Docker(Fake(), project, surroundings(DOCKER_HOST=address)).config()
    assert "root@" not in str(caught.value)


@pytest.mark.parametrize("address", ["unix:///run/user/1000/docker.sock", "tcp://127.0.0.1:2375", "tcp://localhost:2375", "tcp://:2375", "tcp://[::1]:2375",
                                     "fd://", "unix:///var/run/docker.sock"])
def test_an_engine_of_this_machine_is_followed_wherever_it_listens(project, address):
    assert Docker(Fake(("config", (0, "{}", ""))), project, surroundings(DOCKER_HOST=address)).config() == {}


def test_the_context_in_force_is_the_one_that_docker_itself_takes(project, tmp_path):
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "gpu"}')
    remote = ("context gpu", (0, "ssh://gpu1\n", "")), ("context lab", (0, "unix:///run/lab.sock\n", "")), ("config", (0, "{}", ""))
    with pytest.raises(DockerError, match="context gpu is chosen: ssh://gpu1"):
        Docker(Fake(*remote), project, surroundings(HOME=str(tmp_path))).config()
    assert Docker(Fake(*remote), project, surroundings(HOME=str(tmp_path), DOCKER_CONTEXT="lab")).config() == {}
    assert Docker(Fake(*remote), project, surroundings(HOME=str(tmp_path), DOCKER_CONTEXT="default")).config() == {}
    assert Docker(Fake(*remote), project, surroundings(HOME=str(tmp_path), DOCKER_HOST="unix:///var/run/docker.sock")).config() == {}
    (tmp_path / ".docker" / "config.json").write_text("no JSON")
    assert Docker(Fake(*remote), project, surroundings(HOME=str(tmp_path))).config() == {}


def test_a_context_that_is_gone(project):
    with pytest.raises(DockerError, match="cannot use its context old .*context \"old\": context not found"):
        Docker(Fake(("context", (1, "", 'context "old": context not found'))), project, surroundings(DOCKER_CONTEXT="old")).config()


def test_the_engine_is_looked_at_once(project):
    fake = Fake(("context", (0, "unix:///run/user/7/docker.sock\n", "")), ("config", (0, "{}", "")))
    docker = Docker(fake, project, surroundings(DOCKER_CONTEXT="rootless"))
    docker.config()
    docker.config()
    assert docker.rootless() and [call for call, dummy in fake.calls].count("docker context inspect --format {{.Endpoints.docker.Host}} rootless") == 1


@pytest.mark.parametrize("address, without_root", [
    ("", False), ("unix:///var/run/docker.sock", False), ("unix:///run/user/1000/docker.sock", True), ("unix:///home/a/.docker/run/docker.sock", True)])
def test_a_rootless_engine_is_known_by_its_socket(address, without_root):
    assert is_rootless(address) is without_root


def test_podman_under_dockers_name(project, tmp_path):
    script, link = tmp_path / "docker", tmp_path / "linked"
    script.write_text('#!/bin/sh\n[ -e /etc/containers/nodocker ] || echo "Emulate Docker CLI using podman." >&2\nexec /usr/bin/podman "$@"\n')
    (tmp_path / "podman").write_bytes(b"\x7fELF")
    link.symlink_to(tmp_path / "podman")
    for path in (script, link):
        with pytest.raises(DockerError, match="The docker command on this host is Podman. FastGPT's project needs Docker Engine"):
            Docker(Fake(), project, surroundings({"docker": str(path)})).config()
    with pytest.raises(DockerError, match="talks to Podman .DOCKER_HOST is set: unix:///run/podman/podman.sock"):
        Docker(Fake(), project, surroundings(DOCKER_HOST="unix:///run/podman/podman.sock")).config()
    said = '>>>> Executing external compose provider "/usr/bin/podman-compose". Please see podman-compose(1) for how to disable this message. <<<<'
    with pytest.raises(DockerError, match="is Podman .>>>> Executing"):
        Docker(Fake(("config", (0, "{}", said))), project, surroundings()).config()


def test_a_script_around_docker_is_no_podman(project, tmp_path):
    script = tmp_path / "docker"
    script.write_text('#!/bin/sh\nexec /usr/local/lib/docker "$@"\n')
    assert Docker(Fake(("config", (0, "{}", ""))), project, surroundings({"docker": str(script)})).config() == {}


@pytest.mark.parametrize("said, mend", [
    ("docker-compose version 1.29.2, build unknown\n", "the old docker-compose 1.29.2 that is here is not enough"),
    ("1.25.0\n", "the old docker-compose 1.25.0 that is here is not enough"),
    ("2.24.6\n", "docker-compose 2.24.6 is here and only has to be found as a plugin: mkdir -p .* ln -s /usr/bin/docker-compose "),
    ("", "the old docker-compose that is here is not enough"),
])
def test_a_docker_compose_that_stands_alone(project, said, mend):
    fake = Fake(("/usr/bin/docker-compose", (0, said, "")), ("compose", (1, "", "docker: 'compose' is not a docker command.")))
    with pytest.raises(DockerError, match=mend):
        Docker(fake, project, surroundings({"docker-compose": "/usr/bin/docker-compose"})).config()


@pytest.mark.parametrize("said, known", [
    ("v2.17.3\n", (2, 17, 3)), ("2.26.1-4", (2, 26, 1)), ("2.40.3-desktop.1", (2, 40, 3)), ("5.0.0", (5, 0, 0)), ("dev", ())])
def test_versions_of_compose(said, known):
    assert compose_version(said) == known


@pytest.mark.parametrize("said", ["2.16.0", "v2.2.3"])
def test_too_old_a_compose_is_told_before_its_misreading(project, said):
    fake = Fake(("config", (15, "", "services.a.networks.b must be a mapping")), ("version", (0, said, "")))
    with pytest.raises(DockerError, match="Docker Compose on this host is 2.* and FastGPT needs 2.17 or newer. Upgrade it"):
        Docker(fake, project).config()


def test_no_folder_and_no_file(tmp_path):
    with pytest.raises(BrokenProject, match="/nowhere is no folder"):
        Docker(Fake(), "/nowhere").config()
    with pytest.raises(BrokenProject, match="Nobody says where FastGPT's compose project lies on this host. Set fastgpt_project_dir"):
        Docker(Fake(), "").config()
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
        Docker(Fake(("config", (15, "", REFUSED[name])), ("version", (0, "2.26.1-4\n", ""))), project).config()
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


@pytest.mark.parametrize("raw", ["# \u6570\u636e\u5e93\nCOMPOSE_FILE=a.yml\n".encode("gbk"),
                                 b"\xef\xbb\xbfCOMPOSE_FILE=a.yml\n", b"X=caf\xe9\nCOMPOSE_FILE=a.yml"])
def test_an_env_file_in_another_encoding_is_read_as_compose_reads_it(tmp_path, raw):
    (tmp_path / ".env").write_bytes(raw)
    assert _docker.dotenv_value(str(tmp_path), "COMPOSE_FILE") == "a.yml"


def test_version_from_inside():
    assert Docker(Fake(("exec", (0, '{"version": "4.15.4"}', "")))).package_version("fastgpt-app") == "4.15.4"
    assert Docker(Fake(("exec", (1, "", "No such file")))).package_version("fastgpt-app") is None
    assert Docker(Fake(("exec", (0, "[]", "")))).package_version("fastgpt-app") is None
