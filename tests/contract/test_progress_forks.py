# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts pull at the same time, each in a worker process of its own: both show themselves while they run."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_world import SERVERS, registry_with
from ansible_collections.localmodels.fastgpt.tests.contract.wire import Server, send

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
PLAY = [{"hosts": "all", "gather_facts": False, "tasks": [{"localmodels.fastgpt.ollama_models": {
    "url": "{{ url }}", "models": ["{{ model }}"], "insecure": True}}]}]


@pytest.fixture(name="world")
def _world(tmp_path):
    registry = registry_with(tmp_path, "library/slow:latest", 14_000_000)
    ollamas = [Server([sys.executable, str(SERVERS / "ollama.py"), "serve"], tmp_path / name,
                      env={"OLLAMA_HOST": "127.0.0.1:{port}"}, ready="/api/version") for name in ("left", "right")]
    for server in ollamas:
        server.start()
    send(registry.url, "PUT", "/_lab/faults", {}, [{"path": "/v2/library/slow/blobs/*", "rate": 1_000_000}])
    yield registry, ollamas
    for server in [registry, *ollamas]:
        server.stop()


def test_pulls_of_two_hosts_show_themselves_while_they_run(world, tmp_path):
    registry, ollamas = world
    model = "127.0.0.1:%d/library/slow:latest" % registry.port
    hosts = {name: {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "url": ollama.url, "model": model}
             for name, ollama in zip(("left", "right"), ollamas)}
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (tmp_path / "inventory.json").rename(tmp_path / "inventory.yml")
    (tmp_path / "play.yml").write_text(json.dumps(PLAY))
    place = tmp_path / "collections" / "ansible_collections" / "localmodels"
    place.mkdir(parents=True)
    (place / "fastgpt").symlink_to(CHECKOUT)
    done = subprocess.run(
        [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory.yml", "--forks", "2", "play.yml"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"), "ANSIBLE_HOME": str(tmp_path / "home")})
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    for name in hosts:
        running = re.search(r"^%s: \S+slow:latest, \d+ %%, .*/s, .* left$" % name, said, re.M)
        assert running, said
        assert running.start() < said.index("changed: ["), "it was shown only when all was over:\n" + said
        assert re.search(r"^%s: Pulled \S+slow:latest, 14[.]0 MB in \d+ s, [\d.]+ [kM]B/s$" % name, said, re.M), said
