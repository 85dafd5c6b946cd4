# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that nobody logs in to (one on Windows), behind TLS, a client certificate and a password: playbook `models` brings it its models from
the controller. The secrets are in nothing that is printed, at -vvvv."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_world import registry_with
from ansible_collections.localmodels.fastgpt.tests.contract.test_ollama import start_ollama
from ansible_collections.localmodels.fastgpt.tests.contract.wire import send
from ansible_collections.localmodels.fastgpt.tests.unit.gate import standing
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
PASSWORD, TOKEN = "p@ss:w/rd-hidden", "token-hidden"
SECRETS = ("hidden", "p%40ss", base64.b64encode(("ops:" + PASSWORD).encode()).decode())
WAYS = {"ca_path": "{{ ollama_models_ca_path }}", "client_cert": "{{ ollama_models_client_cert }}", "client_key": "{{ ollama_models_client_key }}"}
INFO = [{"hosts": "ollama", "gather_facts": False, "tasks": [
    {"localmodels.fastgpt.ollama_info": dict(WAYS, url="{{ ollama_models_url }}", headers={"Authorization": "Basic " + SECRETS[2]}),
     "delegate_to": "localhost"},
    {"localmodels.fastgpt.ollama_info": {"url": "http://gpu.example.org:11434", "use_proxy": True}, "delegate_to": "localhost",
     "environment": {"http_proxy": "{{ proxy }}"}},
    {"localmodels.fastgpt.ollama_info": dict(WAYS, url="{{ ollama_models_url.replace('://', '://ops:p%40ss%3Aw%2Frd-hidden@') }}"),
     "delegate_to": "localhost", "register": "info"},
    {"ansible.builtin.assert": {"that": [
        "info.models | community.general.json_query('[?size > `1000`].name') == [model]",
        "info | community.general.json_query('models[0].family') is string",
        "info.models | selectattr('capabilities', 'contains', 'completion') | map(attribute='name') | list is iterable",
        "info.limits.num_parallel is none and info.memory is none or info.limits.num_parallel == 1",
        "'info: %s %s' | format(info.version, info.running | length) is match('info: 0[.]')"]}}]}]
LOOK = [{"hosts": "localhost", "gather_facts": False, "vars": {
    "fastgpt_models_project_dir": "/nowhere", "fastgpt_models_ollama_hosts": ["gpu-win1"], "fastgpt_ollama_urls": {"gpu-win1": "http://192.0.2.1:11434"},
    "local_models": "{{ hostvars['gpu-win1'].local_models }}"}, "tasks": [
        {"ansible.builtin.include_role": {"name": "localmodels.fastgpt.fastgpt_models", "tasks_from": "look"}},
        {"ansible.builtin.assert": {"that": ["fastgpt_models_setup.missing == []", "fastgpt_models_setup.channels[0].models | length == 1"]}}]}]


@pytest.fixture(name="world", scope="module")
def _world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote")
    registry = registry_with(folder, "library/slow:latest", 9_000_000)
    ollama = start_ollama(folder / "ollama", "0.32.15")
    forward = serving({("GET", "http://gpu.example.org:11434" + path): (200, said) for path, said in (
        ("/api/tags", {"models": []}), ("/api/ps", {"models": []}), ("/api/version", {"version": "0.32.15"}))})
    silent, waits = socket.create_server(("127.0.0.1", 0)), []
    threading.Thread(target=listen, args=(silent, waits), daemon=True).start()
    send(registry.url, "PUT", "/_lab/faults", {}, [{"path": "/v2/library/slow/blobs/*", "rate": 800_000}])
    place = folder / "collections" / "ansible_collections" / "localmodels"
    place.mkdir(parents=True)
    (place / "fastgpt").symlink_to(CHECKOUT)
    (folder / "info.yml").write_text(json.dumps(INFO))
    (folder / "look.yml").write_text(json.dumps(LOOK))
    with silent, forward as proxy, standing(folder, ollama.url, "ops", PASSWORD, client_certs=True) as gate:
        yield SimpleNamespace(folder=folder, gate=gate, model="127.0.0.1:%d/library/slow:latest" % registry.port, proxy=proxy,
                              silent="http://127.0.0.1:%d" % silent.getsockname()[1], waits=waits)
    ollama.stop()
    registry.stop()


def listen(server, waits):
    """Takes requests and says nothing. waits: how long each client bore that (list of seconds)."""
    with contextlib.suppress(OSError):  # the end of the test closes the socket
        while True:
            client, began = server.accept()[0], time.monotonic()
            with client:
                while client.recv(1 << 16):
                    pass
            waits.append(time.monotonic() - began)


def play(world, *words, **variables):
    """(return code, what was printed) of ansible-playbook; no secret is in it."""
    folder, gate, model = world.folder, world.gate, world.model
    windows = {"ansible_connection": "winrm", "ansible_host": "192.0.2.1", "ollama_models_delegate_to": "localhost", "ollama_models_url": gate.url,
               "ollama_models_url_username": "ops", "ollama_models_url_password": PASSWORD, "ollama_models_headers": {"X-Token": TOKEN},
               "ollama_models_ca_path": gate.ca, "ollama_models_client_cert": gate.cert, "ollama_models_client_key": gate.key,
               "ollama_models_insecure": True, "ollama_models_retries": 0, "model": model, "local_models": [model],
               "proxy": world.proxy.url, "silent": world.silent}
    hosts = {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
    inventory = {"all": {"hosts": hosts, "children": {"ollama": {"hosts": {"gpu-win1": {**windows, **variables}}}}}}
    (folder / "inventory.yml").write_text(json.dumps(inventory))
    done = subprocess.run(
        [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory.yml", "-vvvv", *words],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(folder / "collections"), "ANSIBLE_HOME": str(folder / "home")})
    said = done.stdout + done.stderr
    assert not [secret for secret in SECRETS if secret in said], [line for line in said.splitlines() if any(one in line for one in SECRETS)]
    assert "module_args" in said, "what Ansible shows at -vvvv was not shown"
    return done.returncode, said


MODELS = "localmodels.fastgpt.models"


@pytest.mark.parametrize("wrong, words", [
    ({"ollama_models_url_password": "wrong-hidden"}, "answered 401"),
    ({"ollama_models_client_cert": "", "ollama_models_client_key": ""}, "client certificate"),
    ({"ollama_models_ca_path": ""}, "shows a certificate that is not trusted"),
    ({"ollama_models_url": "https://ops:hidden@localhost:9"}, "refuses the connection"),
    ({"ollama_models_url": "{{ silent }}", "ollama_models_timeout": 1}, "did not answer in time"),
])
def test_what_is_wrong_is_named_without_its_secrets(world, wrong, words):
    code, said = play(world, MODELS, **wrong)
    assert code == 2 and words in said
    assert max(world.waits, default=0) < 15, "it is given up when that is declared, and not later"


def test_models_come_to_a_server_nobody_logs_in_to(world):
    code, said = play(world, MODELS, "--check", "--diff")
    assert code == 0 and "changed=1" in said and "slow:latest" in said
    code, said = play(world, MODELS, "--diff")
    assert code == 0 and "changed=1" in said, said
    assert re.search(r"(?m)^gpu-win1 -> localhost: \S+slow:latest, \d+ %, ", said), said
    code, said = play(world, MODELS)
    assert code == 0 and "changed=0" in said
    code, said = play(world, "info.yml")
    assert code == 0 and len(world.proxy.asked) == 3, said
    code, said = play(world, "look.yml")
    assert code == 0, "FastGPT's host learns from the same server what it declares: %s" % said
