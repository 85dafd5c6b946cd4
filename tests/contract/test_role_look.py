# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role fastgpt_models reads of several Ollamas before it changes anything, and role fastgpt_verify before it walks: one that does not answer keeps
nobody from the others, and FastGPT is promised no longer context than each process works with."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ansible_collections.localmodels.fastgpt.tests.contract.test_ollama import start_ollama
from ansible_collections.localmodels.fastgpt.tests.contract.wire import Server, free_port, send

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
SERVERS = CHECKOUT / "tests" / "lab" / "servers"

@pytest.fixture(name="world", scope="module")
def _world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("look")
    registry = Server([sys.executable, str(SERVERS / "registry.py"), "serve", "{state}", "--listen", "127.0.0.1:{port}"],
                      folder / "registry", ready="/_lab/faults")
    weights = folder / "weights"
    weights.write_bytes(os.urandom(1000))
    subprocess.run([sys.executable, str(SERVERS / "registry.py"), "add", registry.state, "library/small:latest", str(weights)],
                   check=True, stdout=subprocess.DEVNULL)
    registry.start()
    ollama = start_ollama(folder / "ollama", "0.32.15", OLLAMA_CONTEXT_LENGTH="2048")
    model = "127.0.0.1:%d/library/small:latest" % registry.port
    assert send(ollama.url, "POST", "/api/pull", {}, {"model": model, "insecure": True, "stream": False})["status"] == 200
    place = folder / "collections" / "ansible_collections" / "localmodels"
    place.mkdir(parents=True)
    (place / "fastgpt").symlink_to(CHECKOUT)
    yield SimpleNamespace(folder=folder, model=model, url=ollama.url, silent="http://127.0.0.1:%d" % free_port())
    ollama.stop()
    registry.stop()


def play(world, hosts, tasks_from="look", **variables):
    """(return code, what was printed, fact fastgpt_models_setup). hosts: {inventory name: variables} of those that run Ollama."""
    folder, setup = world.folder, world.folder / "setup.json"
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (folder / "inventory.yml").write_text(json.dumps({"all": {"hosts": {name: dict(here, **more) for name, more in dict(hosts, chat01={}).items()}}}))
    given = {"fastgpt_models_project_dir": str(folder), "fastgpt_models_ollama_hosts": list(hosts), "local_models": [world.model],
             "fastgpt_ollama_urls": {name: "http://%s:11434" % name for name in hosts}}
    (folder / "play.yml").write_text(json.dumps([{"hosts": "chat01", "gather_facts": False, "vars": dict(given, **variables), "tasks": [
        {"ansible.builtin.include_role": {"name": "localmodels.fastgpt.fastgpt_models", "tasks_from": tasks_from}},
        {"ansible.builtin.copy": {"content": "{{ fastgpt_models_setup | to_json }}", "dest": str(setup), "mode": "0600"}}]}]))
    done = subprocess.run(
        [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory.yml", "play.yml"], cwd=folder, capture_output=True, text=True,
        check=False, timeout=300, env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(folder / "collections"), "ANSIBLE_HOME": str(folder / "home")})
    return done.returncode, " ".join((done.stdout + done.stderr).split()), json.loads(setup.read_text()) if done.returncode == 0 else None


def test_an_ollama_that_does_not_answer_keeps_nobody_from_the_others(world):
    code, said, setup = play(world, {"gpu-1": {"ollama_url": world.url}, "gpu-2": {"ollama_url": world.silent}})
    assert code == 0 and "[WARNING]" in said and "%s refuses the connection" % world.silent in said, said
    assert setup["missing"] == [] and [one["name"] for one in setup["channels"]] == ["ollama-gpu-1", "ollama-gpu-2"]


def test_a_lone_one_that_does_not_answer_is_left_to_the_walk_and_stops_the_setup(world):
    code, said, setup = play(world, {"gpu-2": {"ollama_url": world.silent}})
    assert code == 0 and setup["missing"] == [world.model], said
    code, said, setup = play(world, {"gpu-2": {"ollama_url": world.silent}}, tasks_from="main")
    assert code == 2 and "No Ollama of gpu-2 holds %s. There is no answer from gpu-2; the cause is told above." % world.model in said, said


@pytest.mark.parametrize("declared, promised", [(4096, 2048), (1024, 1024)])
def test_no_more_context_is_promised_than_the_process_works_with(world, declared, promised):
    code, said, setup = play(world, {"gpu-1": {"ollama_url": world.url}}, fastgpt_models_context=declared)
    assert code == 0 and setup["records"][0]["metadata"]["maxContext"] == promised, (said, setup)


def test_a_text_in_the_place_of_the_list_is_read_alike_everywhere(world):
    code, said, setup = play(world, {"gpu-1": {"ollama_url": world.url}}, local_models=world.model)
    assert code == 0 and [one["name"] for one in setup["records"]] == [world.model], said


@pytest.mark.parametrize("wrong, words", [
    ([{"state": "present"}], "An item of the list of models has no name"),
    ([{"name": "small", "default_for": "embedding"}], "small:latest has default_for 'embedding', which is no list. Write default_for: [embedding]."),
])
def test_what_is_wrong_in_the_list_is_named(world, wrong, words):
    code, said, dummy = play(world, {"gpu-1": {"ollama_url": world.url}}, local_models=wrong)
    assert code == 2 and words in said, said
