# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab comes and goes: what is missing is said or installed, and what was made is removed, and nothing else."""

from __future__ import annotations

import importlib
import os
import pathlib
import re
import subprocess

import pytest

from ansible_collections.localmodels.fastgpt.tests.lab.world import cleaning, images, shell
from ansible_collections.localmodels.fastgpt.tests.lab.world.shell import LabError

from test_ci import recipe

ROOT = pathlib.Path(__file__).resolve().parents[2]
LABEL = "label=localmodels.lab"


class Docker:
    """A docker command over things that are there: {kind: {id: whether it has the lab's label}}; names of images: {name: id}."""

    def __init__(self):
        self.things = {kind: {"ours": True, "theirs": False} for kind in ("container", "volume", "network")}
        self.images = {"i1": True, "i2": True, "stage": True, "base": False, "i9": False}
        self.names = {"lab-host:1": "i1", "lab-base:1": "base", "127.0.0.1:49153/labring/fastgpt:v4.9.14": "i2", "postgres:16": "i9", "lab/other:1": "i9"}

    def __call__(self, *words):
        if words[0] == "images":
            return "\n".join(self.names if "--format" in words else [one for one, labelled in self.images.items() if labelled])
        if words[0] == "rmi":
            assert words[1] == "-f"
            for word in words[2:]:
                image = self.names.pop(word, word)
                self.names = {name: one for name, one in self.names.items() if word != one}
                if image not in self.names.values():
                    del self.images[image]
            return ""
        kind = "container" if words[0] in ("ps", "rm") else words[0]
        if "--filter" in words:
            assert words[-1] == LABEL
            return "\n".join(one for one, labelled in self.things[kind].items() if labelled)
        del self.things[kind][words[-1]]
        return ""


def test_clean_removes_all_that_was_made_and_nothing_of_others(tmp_path, monkeypatch):
    docker, said = Docker(), []
    (tmp_path / "lab" / "demo").mkdir(parents=True)
    (tmp_path / "lab" / "demo" / "ssh_config").write_text("")
    monkeypatch.setattr(cleaning, "docker", docker)
    monkeypatch.setattr(cleaning, "CACHE", tmp_path / "lab")
    monkeypatch.setattr(cleaning.engine, "answers", lambda: True)
    monkeypatch.setattr(cleaning.engine, "stop", lambda: said.append("engine stopped"))
    monkeypatch.setattr(cleaning.connections, "forget", lambda sockets: said.append(sockets.name))
    cleaning.clean()
    assert docker.things == {kind: {"theirs": False} for kind in docker.things}
    assert docker.images == {"i9": False} and sorted(docker.names) == ["lab/other:1", "postgres:16"]
    assert said == ["lab-%d-demo" % os.getuid(), "engine stopped"] and not (tmp_path / "lab").exists()


def test_clean_works_where_no_engine_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(cleaning, "CACHE", tmp_path / "none")
    monkeypatch.setattr(cleaning.engine, "answers", lambda: False)
    monkeypatch.setattr(cleaning.engine, "stop", lambda: None)
    monkeypatch.setattr(cleaning, "docker", lambda *words: pytest.fail("asked a docker that is not there"))
    cleaning.clean()


def test_make_clean_removes_each_folder_that_the_project_ignores():
    lines = recipe("clean")
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line and line[0] not in "#!*"]
    assert ".cache" in ignored and lines[0] == "$(LAB) clean"
    assert [name for name in ignored if name not in " ".join(lines).split()] == []


def test_a_stage_of_a_build_leaves_nothing_that_is_not_found_again():
    """The builder keeps the image of an earlier stage, without a name, and gives the label of the build to the last one only."""
    stages = []
    for path in (ROOT / "tests" / "lab" / "images").glob("*/Dockerfile"):
        stages += re.split(r"(?m)^FROM ", path.read_text())[1:-1]
    assert len(stages) == 1
    for stage in stages:
        instructions = [line for line in stage.splitlines() if re.match("[A-Z]+ ", line)]
        assert instructions[-1].split("=")[0] == "LABEL " + shell.LABEL


@pytest.mark.parametrize("had", [True, False])
def test_an_image_that_was_only_needed_to_build_ours_goes(monkeypatch, tmp_path, had):
    asked = []
    monkeypatch.setattr(images, "exists", lambda tag: had and tag == "debian:12")
    monkeypatch.setattr(images, "_docker_hub_answers", lambda: True)
    monkeypatch.setattr(images, "_docker_build", lambda tag, context, arguments: asked.append("build"))
    monkeypatch.setattr(images, "succeeds", lambda *words, **options: asked.append(" ".join(words)) or True)
    monkeypatch.setattr(shell, "CACHE", tmp_path)
    images.base.cache_clear()
    images.base()
    images.base.cache_clear()
    assert asked == ["docker pull -q debian:12", "build"] + ([] if had else ["docker rmi debian:12"])


# -- where it cannot be done, it is said what is missing

@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """Not root, and nothing may run."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shell, "CACHE", tmp_path)
    for module in (shell, images):
        monkeypatch.setattr(module, "run", lambda *words, **options: pytest.fail("ran %s" % (words,)))


def test_no_engine_and_not_root(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "lab"))
    lab = importlib.import_module("lab")  # a program of its own, with modules of its own
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(lab.engine, "answers", lambda: False)
    monkeypatch.setattr(lab.engine, "_start", lambda: pytest.fail("started an engine"))
    monkeypatch.setattr(importlib.import_module("world.shell"), "CACHE", tmp_path)
    monkeypatch.setattr("sys.argv", ["lab.py", "up"])
    assert lab.main() == 1
    assert capsys.readouterr().err == "lab: no Docker engine answers, and only root can start one: run as root, or start Docker first\n"


@pytest.mark.parametrize("user, apt", [(1000, True), (0, False)])
def test_programs_that_cannot_be_installed_are_named_with_their_packages(nobody, monkeypatch, user, apt):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(shell.shutil, "which", lambda name, path=None: "/usr/bin/apt-get" if name == "apt-get" and apt else None)
    with pytest.raises(LabError, match="dockerd, iptables not found. On Debian, as root: apt-get install docker.io iptables"):
        shell.need(("dockerd", "docker.io"), ("iptables", "iptables"))
    monkeypatch.setattr(shell.shutil, "which", lambda name, path=None: "/usr/bin/" + name)
    shell.need(("dockerd", "docker.io"))


def test_what_is_missing_is_installed_in_one_go_and_said_in_one_line(nobody, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shell.shutil, "which", lambda name, path=None: "/usr/bin/apt-get" if name == "apt-get" else None)
    monkeypatch.setattr(shell, "run", lambda *words, **options: ran.append(words))
    shell.need(("dockerd", "docker.io"), ("docker", "docker.io"), ("iptables", "iptables"))
    assert [words[1] for words in ran] == ["update", "install"] and ran[1][-2:] == ("docker.io", "iptables")
    assert capsys.readouterr().err == "lab: installing from Debian: docker.io iptables\n"


def test_no_hub_and_not_root(nobody, monkeypatch):
    monkeypatch.setattr(images, "exists", lambda tag: False)
    monkeypatch.setattr(images, "_docker_hub_answers", lambda: False)
    monkeypatch.setattr(images, "need", lambda *programs: pytest.fail("installed %s" % (programs,)))
    images.base.cache_clear()
    with pytest.raises(LabError, match="Docker Hub is out of reach, and only root can build a base image"):
        images.base()


@pytest.mark.parametrize("python, said", [
    ("exit 1", "Python 3.11 or newer is needed (python3 on PATH)"),
    ('case "$2" in *version_info*) exit 0 ;; esac; exit 1', "python3 -m venv does not work here. On Debian, as root: apt-get install python3-venv"),
])
def test_a_python_that_will_not_do(tmp_path, python, said):
    for name, text in (("python3", python), ("id", "echo 1000")):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n%s\n" % text)
        program.chmod(0o755)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "prepare").write_bytes((ROOT / "tests" / "prepare").read_bytes())
    done = subprocess.run(["bash", str(tmp_path / "tests" / "prepare"), "all", "images"], capture_output=True, text=True, check=False,
                          env={**os.environ, "PATH": "%s:%s" % (tmp_path / "bin", os.environ["PATH"])})
    assert (done.returncode, done.stderr) == (1, said + "\n")
