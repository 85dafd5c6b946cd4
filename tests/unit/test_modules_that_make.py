# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that make an Ollama, as a whole: check mode says what the run does and writes nothing, and results are as documented."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _container_apply, _ollama_service_apply, _release
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_container, ollama_release, ollama_service
from ansible_collections.localmodels.fastgpt.tests.unit import test_ollama_container, test_ollama_service, test_release
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import as_documented, printed
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving

host, engine, no_waiting = test_ollama_service.host, test_ollama_container.engine, test_release.no_waiting
VERSION = "0.32.15"
OF_A_PATH = ("uid", "gid", "owner", "group", "mode", "state", "size")  # what Ansible itself adds to a result with a path


def call(module, capsys, check=False, **options):
    """What a module prints (dict) when it is run with these options."""
    result = json.loads(printed(module, capsys, check, **options))
    for key in OF_A_PATH if "path" in result else ():
        result.pop(key, None)
    return as_documented(module, result)


def everything(folder):
    """Paths (list) of all that lies in a folder, its links as such."""
    return sorted(os.path.join(at, name) for at, folders, names in os.walk(folder) for name in folders + names)


@pytest.fixture
def contained(engine, monkeypatch, tmp_path):
    """callable(check) -> result of ollama_container with a made-up engine. No other program holds the port."""
    monkeypatch.setattr(ollama_container, "runner", lambda module: engine)
    monkeypatch.setattr(ollama_container, "refuse_unfit_host", lambda: None)
    monkeypatch.setattr(_container_apply._process, "holders", lambda *where: [])
    return lambda capsys, check=False: call(ollama_container, capsys, check, image="ollama/ollama:" + VERSION, listen=engine.server.host, timeout=5,
                                            project_dir=str(tmp_path / "project"), environment={"HTTPS_PROXY": "http://me:s3cret@proxy"})


def test_a_container_in_check_mode_and_then_in_truth(engine, contained, capsys, tmp_path):
    told = contained(capsys, check=True)
    assert engine.things == set() and engine.container is None and everything(tmp_path) == []
    done = contained(capsys)
    assert engine.container and os.listdir(tmp_path / "project") == ["compose.yml"]
    for key in ("changed", "differences", "url", "loopback_only", "diff"):
        assert told[key] == done[key]
    assert told["changed"] is True and list(told["differences"]) == ["file", "container"] and "s3cret" not in str(told)
    for check in (True, False):
        assert contained(capsys, check)["changed"] is False


@pytest.mark.parametrize("name, containers, said", [
    ("nginx", "", "is taken by nginx (process 77)"), ("docker-proxy", "squatter\n", "is taken by the Docker container squatter"),
    ("docker-proxy", "ollama\n", ""),
])
@pytest.mark.parametrize("check", [True, False])
def test_a_port_that_something_else_holds_is_refused_by_name(engine, contained, capsys, monkeypatch, tmp_path, name, containers, said, check):
    holder = SimpleNamespace(pid=77, name=lambda: name, unit=lambda: "", uid=0)
    monkeypatch.setattr(_container_apply._process, "holders", lambda port, address: [holder])
    monkeypatch.setattr(_container_apply._process, "describe", lambda process: "%s (process %d)" % (process.name(), process.pid))
    runs = engine.__call__
    monkeypatch.setattr(ollama_container, "runner", lambda module: lambda arguments, cwd=None, env=None: (
        (0, containers, "") if arguments[1] == "ps" else runs(arguments, cwd, env)))
    result = contained(capsys, check)
    assert bool(result.get("failed")) == bool(said) and said in result.get("msg", "")
    if said:
        assert "Stop it, or choose another ollama_listen" in result["msg"] and everything(tmp_path) == [] and engine.things == set()


def test_a_service_in_check_mode_and_then_in_truth(host, monkeypatch, capsys):
    host.install(VERSION)
    monkeypatch.setattr(ollama_service, "refuse_unfit_host", lambda: None)
    monkeypatch.setattr(ollama_service, "read_wanted", lambda params: host.wanted(VERSION))
    monkeypatch.setattr(ollama_service, "ServiceHost", lambda run, wanted: _ollama_service_apply.ServiceHost(host.run, wanted, str(host.root / "proc")))
    before = everything(host.root)
    told = call(ollama_service, capsys, True, version=VERSION)
    assert everything(host.root) == before and [one.split()[1] for one in host.calls if one.startswith("systemctl")] == ["show"]
    done = call(ollama_service, capsys, version=VERSION)
    assert host.version_running() == VERSION and told == dict(done, invocation=told["invocation"])
    assert told["changed"] is told["restarted"] is True and list(told["differences"]) == ["unit", "drop_in", "link", "enabled", "process"]
    user, program = "User=root\nGroup=root\n", "ExecStart=%s serve\n" % (host.root / "bin" / "ollama")
    assert user in host.unit.read_text() and program in host.unit.read_text()
    for check in (True, False):
        assert call(ollama_service, capsys, check, version=VERSION)["changed"] is False


def test_a_release_in_check_mode_and_then_in_truth(no_waiting, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(_release, "asset", lambda version, machine: test_release.ASSET)
    with serving(test_release.answers()) as mirror:
        options = {"version": test_release.VERSION, "url": mirror.url, "install_dir": str(tmp_path / "ollama")}
        told = call(ollama_release, capsys, True, **options)
        assert told["changed"] is True and everything(tmp_path) == [] and mirror.paths() == ["GET %s/sha256sum.txt" % test_release.FOLDER]
        done = call(ollama_release, capsys, **options)
        assert done["changed"] is True and os.listdir(tmp_path / "ollama") == [test_release.VERSION]
        for check in (True, False):
            assert call(ollama_release, capsys, check, **options)["changed"] is False
