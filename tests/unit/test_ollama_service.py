# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service on a host of its own: files in a folder, systemd and processes made up, the API a real web server."""

from __future__ import annotations

import os
import shutil

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _ollama_service_apply as apply_
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _systemd
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_service import Wanted, differences, file_diffs
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama_settings import parse_listen
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving

VENDOR_UNIT = """[Unit]
Description=Ollama Service
After=network-online.target

[Service]
ExecStart=%s serve
User=root
Group=root
Restart=always
RestartSec=3
Environment="PATH=/usr/bin:/bin"

[Install]
WantedBy=default.target
"""


class Host:
    """A made-up machine below `root`. It starts what the unit's link leads to; versions in `broken` die at once."""

    def __init__(self, root, server):
        self.root = root
        self.server = server
        self.url = server.url
        self.broken = ()
        self.calls = []
        self.loaded = ("", "")
        self.active = "inactive"
        self.enabled = ""
        self.pid = 0
        self.next_pid = 100
        for name in ("units", "opt", "bin", "proc/net"):
            (root / name).mkdir(parents=True)

    def install(self, version):
        program = self.root / "opt" / version / "bin" / "ollama"
        program.parent.mkdir(parents=True)
        program.write_text(version)
        program.chmod(0o755)

    def wanted(self, version, **environment):
        return Wanted(version, str(self.root / "opt"), str(self.root / "bin"), "root", "root",
                      parse_listen(self.url[len("http://"):]), "", environment, 5, str(self.root / "units"))

    def converge(self, version, **environment):
        """(what differed, whether it was restarted)."""
        if not (self.root / "opt" / version).exists():
            self.install(version)
        host = apply_.ServiceHost(self.run, self.wanted(version, **environment), str(self.root / "proc"))
        found = host.read()
        different = differences(host.wanted, found)
        return sorted(different), bool(different) and host.apply(found)

    def run(self, arguments):
        self.calls.append(" ".join(arguments))
        if arguments[0] == "journalctl":
            return 0, "first line\nlast line with https://me:s3cret@proxy\n", ""
        if arguments[0] == "runuser":
            return 0, "", ""
        assert arguments[0] == "systemctl", arguments
        answer = getattr(self, "_" + arguments[1].replace("-", "_"))()
        return 0, answer or "", ""

    @property
    def unit(self):
        return self.root / "units" / "ollama.service"

    @property
    def drop_in(self):
        return self.root / "units" / "ollama.service.d" / _systemd.DROP_IN_NAME

    def texts(self):
        return tuple(path.read_text() if path.exists() else "" for path in (self.unit, self.drop_in))

    def version_running(self):
        return self.server.answers.get(("GET", "/api/version"), (0, {}))[1].get("version")

    def _show(self):
        properties = {"LoadState": "loaded" if self.loaded[0] else "not-found", "ActiveState": self.active,
                      "SubState": "auto-restart" if self.active == "activating" else "", "MainPID": str(self.pid),
                      "UnitFileState": self.enabled, "NeedDaemonReload": "yes" if self.loaded != self.texts() else "no",
                      "ExecMainStatus": "1"}
        return "".join("%s=%s\n" % pair for pair in properties.items())

    def _daemon_reload(self):
        self.loaded = self.texts()

    def _enable(self):
        self.enabled = "enabled"

    def _disable(self):
        self.enabled = ""

    def _stop(self):
        if self.pid:
            shutil.rmtree(self.root / "proc" / str(self.pid))
        self.pid, self.active = 0, "inactive"
        self.server.answers.clear()

    def _restart(self):
        self._stop()
        program = os.path.realpath(self.root / "bin" / "ollama")
        version = open(program, encoding="utf-8").read()
        if version in self.broken:
            self.active = "activating"
            return
        self.pid, self.active = self.next_pid, "active"
        self.next_pid += 1
        folder = self.root / "proc" / str(self.pid)
        folder.mkdir()
        pairs = [line[len('Environment="'):-1] for text in self.loaded for line in text.splitlines()
                 if line.startswith("Environment=")]
        (folder / "environ").write_text("\0".join(pairs))
        (folder / "status").write_text("Groups:\t44 105 106 107 109 992 993\n")
        (folder / "exe").symlink_to(program)
        self.server.answers[("GET", "/api/version")] = (200, {"version": version})


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(apply_, "_device_groups", dict)
    with serving({}) as server:
        yield Host(tmp_path, server)


def test_a_fresh_host(host):
    different, restarted = host.converge("0.32.15")
    assert different == ["drop_in", "enabled", "link", "process", "unit"]
    assert restarted and host.version_running() == "0.32.15" and host.enabled == "enabled"
    assert not (host.root / "opt" / "undo.json").exists()


def test_a_second_run_changes_nothing_and_asks_systemd_once(host):
    host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h")
    host.calls.clear()
    assert host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h") == ([], False)
    assert [call.split()[1] for call in host.calls] == ["show"]


@pytest.mark.parametrize("before, after", [("0.32.14", "0.32.15"), ("0.32.15", "0.32.14")])
def test_upgrade_and_downgrade(host, before, after):
    host.converge(before)
    host.calls.clear()
    assert host.converge(after) == (["link", "process"], True)
    assert host.version_running() == after
    assert "systemctl daemon-reload" not in host.calls
    assert host.converge(after) == ([], False)


def test_a_release_two_versions_back_is_removed(host):
    for version in ("0.32.13", "0.32.14", "0.32.15"):
        host.converge(version)
    assert sorted(name for name in os.listdir(host.root / "opt") if name[0] == "0") == ["0.32.14", "0.32.15"]


def test_changed_settings_restart_the_server_once(host):
    host.converge("0.32.15")
    host.calls.clear()
    assert host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h") == (["drop_in", "process"], True)
    assert [call.split()[1] for call in host.calls].count("daemon-reload") == 1
    assert host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h") == ([], False)


def test_a_setting_that_is_no_longer_declared_goes(host):
    host.converge("0.32.15", HTTPS_PROXY="http://p")
    assert host.converge("0.32.15") == (["drop_in", "process"], True)
    assert "HTTPS_PROXY" not in host.drop_in.read_text()


def test_the_installer_rewrites_the_unit_and_settings_survive(host):
    host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h")
    host.unit.write_text(VENDOR_UNIT % (host.root / "bin" / "ollama"))
    host._daemon_reload()
    host._restart()
    assert "OLLAMA_KEEP_ALIVE=1h" in (host.root / "proc" / str(host.pid) / "environ").read_text()
    host.calls.clear()
    assert host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h") == (["unit"], False)
    assert "systemctl restart ollama.service" not in host.calls
    assert host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h") == ([], False)


def test_the_installer_put_its_program_in_the_place_of_the_link(host):
    host.converge("0.32.15")
    link = host.root / "bin" / "ollama"
    link.unlink()
    link.write_bytes(b"0.33.0")
    host._restart()
    assert host.converge("0.32.15") == (["link", "process"], True)
    assert host.version_running() == "0.32.15"
    assert (host.root / "opt" / "replaced" / "ollama").read_bytes() == b"0.33.0"


@pytest.mark.parametrize("moment", ["daemon-reload", "enable", "restart"])
def test_a_play_killed_before_a_step_is_made_good_by_the_next(host, moment):
    host.converge("0.32.14")
    host.enabled = ""
    real = host.run

    def killed(arguments):
        if arguments[:2] == ["systemctl", moment]:
            raise KeyboardInterrupt
        return real(arguments)
    host.run = killed
    with pytest.raises(KeyboardInterrupt):
        host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h")
    assert host.version_running() == "0.32.14"
    host.run = real
    different, restarted = host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h")
    assert "interrupted" in different and restarted and host.version_running() == "0.32.15"
    assert host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h") == ([], False)


def test_a_play_killed_after_the_restart_restarts_no_second_time(host):
    host.converge("0.32.14")
    host.converge("0.32.15")
    apply_.ServiceHost(host.run, host.wanted("0.32.15")).undo.begin({"active": "active", "enabled": "enabled"})
    host.calls.clear()
    assert host.converge("0.32.15") == (["interrupted"], False)
    assert host.converge("0.32.15") == ([], False)


def test_a_server_that_dies_at_once_brings_back_what_ran(host):
    host.converge("0.32.14")
    before = host.texts()
    host.broken = ("0.32.15",)
    with pytest.raises(LocalModelsError) as said:
        host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h")
    assert "ends as soon as it starts" in str(said.value) and "ran before were put back" in str(said.value)
    assert "last line" in str(said.value) and "s3cret" not in str(said.value)
    assert host.version_running() == "0.32.14" and host.texts() == before
    assert host.converge("0.32.14") == ([], False)


def test_what_ran_before_a_killed_play_comes_back_too(host):
    host.converge("0.32.14")
    before = host.texts()
    real = host.run

    def killed(arguments):
        if arguments[:2] == ["systemctl", "restart"]:
            raise KeyboardInterrupt
        return real(arguments)
    host.run = killed
    with pytest.raises(KeyboardInterrupt):
        host.converge("0.32.15")
    host.run, host.broken = real, ("0.32.15",)
    with pytest.raises(LocalModelsError):
        host.converge("0.32.15")
    assert host.version_running() == "0.32.14" and host.texts() == before


def test_a_first_start_that_fails_leaves_nothing_behind(host):
    host.broken = ("0.32.15",)
    with pytest.raises(LocalModelsError, match="Nothing ran before"):
        host.converge("0.32.15")
    assert (host.texts(), host.active, host.enabled) == (("", ""), "inactive", "")
    assert not os.path.lexists(host.root / "bin" / "ollama")


def test_a_disk_that_is_full_half_way_is_told_and_undone(host, monkeypatch):
    host.converge("0.32.14")
    before = host.texts()
    monkeypatch.setattr(apply_._undo, "link", lambda target, path: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(LocalModelsError, match="No space left on device"):
        host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h")
    monkeypatch.undo()
    assert host.version_running() == "0.32.14" and host.texts() == before


def test_settings_that_something_else_overrides(host):
    host.converge("0.32.15")
    real = host._restart

    def override():
        real()
        environ = host.root / "proc" / str(host.pid) / "environ"
        environ.write_text(environ.read_text().replace("KEEP_ALIVE=1h", "KEEP_ALIVE=5m"))
    host._restart = override
    with pytest.raises(LocalModelsError, match="OLLAMA_KEEP_ALIVE.* even after a restart"):
        host.converge("0.32.15", OLLAMA_KEEP_ALIVE="1h")
    assert host.version_running() == "0.32.15"


def test_a_stopped_server_is_started(host):
    host.converge("0.32.15")
    host._stop()
    assert host.converge("0.32.15") == (["process"], True)


def test_a_masked_service_is_left_alone(host):
    one = apply_.ServiceHost(host.run, host.wanted("0.32.15"), str(host.root / "proc"))
    host.enabled = "masked"
    with pytest.raises(LocalModelsError, match="masked"):
        one.refuse(one.read())


def test_a_taken_port_is_refused_by_name(host):
    table = "header\n   0: 0100007F:%04X 00000000:0000 0A 0:0 0:0 0 0 0 4711 1 0 100 0 0 10 0\n" % int(host.url.rsplit(":", 1)[1])
    (host.root / "proc" / "net" / "tcp").write_text(table)
    folder = host.root / "proc" / "77"
    (folder / "fd").mkdir(parents=True)
    (folder / "fd" / "3").symlink_to("socket:[4711]")
    (folder / "comm").write_text("nginx\n")
    (folder / "cgroup").write_text("0::/system.slice/nginx.service\n")
    one = apply_.ServiceHost(host.run, host.wanted("0.32.15"), str(host.root / "proc"))
    with pytest.raises(LocalModelsError, match=r"Port \d+ on 127.0.0.1 is taken by nginx \(process 77, nginx.service\)"):
        one.refuse(one.read())


def test_a_port_that_its_own_server_holds_is_free_to_it(host):
    host.converge("0.32.15")
    uid = 4242
    table = "header\n   0: 0100007F:%04X 00000000:0000 0A 0:0 0:0 0 %d 0 4711 1 0 100 0 0 10 0\n" % (
        int(host.url.rsplit(":", 1)[1]), uid)
    (host.root / "proc" / "net" / "tcp").write_text(table)
    own = host.root / "proc" / str(host.pid)
    one = apply_.ServiceHost(host.run, host.wanted("0.32.14"), str(host.root / "proc"))
    one.refuse(one.read())
    # Bound elsewhere so far, and in a container where not even root sees whose socket it is: the user tells.
    (own / "environ").write_text("OLLAMA_HOST=192.0.2.1:1")
    with pytest.raises(LocalModelsError, match="taken by a process of user 4242"):
        one.refuse(one.read())
    (own / "status").write_text("Uid:\t4242\t4242\n")
    one.refuse(one.read())


def test_a_store_that_the_user_may_not_enter_is_named(host):
    one = apply_.ServiceHost(lambda arguments: (int(arguments[-2:] == ["-x", "/root"]), "", ""), host.wanted("0.32.15"))
    with pytest.raises(LocalModelsError, match="may not enter /root, so it cannot use the model store /root/.ollama/models"):
        one._refuse_closed_store("/root/.ollama/models")


def test_diffs_show_unit_drop_in_and_link(host):
    one = apply_.ServiceHost(host.run, host.wanted("0.32.15", HTTPS_PROXY="http://me:s3cret@proxy"))
    shown = file_diffs(one.wanted, one.read())
    assert [os.path.basename(diff["after_header"]) for diff in shown] == ["ollama.service", _systemd.DROP_IN_NAME, "ollama"]
    assert "s3cret" not in str(shown) and "***@proxy" in shown[1]["after"]
    assert shown[2]["before"] == "" and "0.32.15" in shown[2]["after"]


@pytest.mark.parametrize("arguments, says", [
    (dict(system="Darwin"), "this is Darwin"),
    (dict(system="Linux", booted="/nonexistent"), "not started by systemd"),
    (dict(system="Linux", booted="/", euid=1000), "become: true"),
])
def test_unfit_hosts(arguments, says):
    with pytest.raises(LocalModelsError, match=says):
        apply_.refuse_unfit_host(**arguments)


def test_values_in_a_drop_in_are_escaped():
    assert 'Environment="A=100%% \\"x\\" C:\\\\y"' in _systemd.drop_in_text({"A": '100% "x" C:\\y'})
