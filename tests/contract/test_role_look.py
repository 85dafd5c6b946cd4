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
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_world import registry_with
from ansible_collections.localmodels.fastgpt.tests.contract.test_ollama import start_ollama
from ansible_collections.localmodels.fastgpt.tests.contract.wire import free_port, send

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(name="world", scope="module")
def _world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("look")
    registry = registry_with(folder, "library/small:latest", 1000)
    ollama = start_ollama(folder / "ollama", "0.32.15", OLLAMA_CONTEXT_LENGTH="2048")
    model = "127.0.0.1:%d/library/small:latest" % registry.port
    assert send(ollama.url, "POST", "/api/pull", {}, {"model": model, "insecure": True, "stream": False})["status"] == 200
    place = folder / "collections" / "ansible_collections" / "localmodels"
    place.mkdir(parents=True)
    (place / "fastgpt").symlink_to(CHECKOUT)
    yield SimpleNamespace(folder=folder, model=model, url=ollama.url, silent="http://127.0.0.1:%d" % free_port())
    ollama.stop()
    registry.stop()


def inventory(world, ollama, fastgpt):
    """ollama, fastgpt: {inventory name: variables} of the hosts in these groups. All are this machine."""
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (world.folder / "inventory.yml").write_text(json.dumps({"all": {"vars": here, "children": {
        "ollama": {"hosts": ollama}, "fastgpt": {"hosts": fastgpt}}}}))


def run(world, *plays, words=()):
    """(return code, what was printed, in one line) of ansible-playbook, called with these words too."""
    (world.folder / "plays.yml").write_text(json.dumps(plays))
    done = subprocess.run(
        [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory.yml", "plays.yml", *words], cwd=world.folder, capture_output=True,
        text=True, check=False, timeout=300,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(world.folder / "collections"), "ANSIBLE_HOME": str(world.folder / "home")})
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def play(world, hosts, tasks_from="look", words=()):
    """(return code, what was printed, fact fastgpt_models_setup). hosts: {inventory name: variables} of those that run Ollama. The list of models is
    a text, as after -e local_models=NAME, and nothing but the role's own variables is given."""
    setup = world.folder / "setup.json"
    inventory(world, hosts, {"chat01": {}})
    given = {"fastgpt_models_project_dir": str(world.folder), "fastgpt_models_ollama_hosts": list(hosts), "local_models": world.model,
             "fastgpt_ollama_urls": {name: "http://%s:11434" % name for name in hosts}}
    code, said = run(world, {"hosts": "fastgpt", "gather_facts": False, "vars": given, "tasks": [
        {"ansible.builtin.include_role": {"name": "localmodels.fastgpt.fastgpt_models", "tasks_from": tasks_from}},
        {"ansible.builtin.copy": {"content": "{{ fastgpt_models_setup | to_json }}", "dest": str(setup), "mode": "0600"}, "check_mode": False}]}, words=words)
    return code, said, json.loads(setup.read_text()) if code == 0 else None


def test_an_ollama_that_does_not_answer_keeps_nobody_from_the_others(world):
    code, said, setup = play(world, {"gpu-1": {"ollama_url": world.url}, "gpu-2": {"ollama_url": world.silent}})
    assert code == 0 and "[WARNING]" in said and "%s refuses the connection" % world.silent in said, said
    assert setup["missing"] == [] and [one["name"] for one in setup["channels"]] == ["ollama-gpu-1", "ollama-gpu-2"]
    (record,) = setup["records"]
    assert record["name"] == world.model and record["metadata"]["maxContext"] == 2048, "the process works with no more"


def test_a_lone_one_that_does_not_answer_is_left_to_the_walk_and_stops_the_setup(world):
    code, said, dummy = play(world, {"gpu-2": {"ollama_url": world.silent}}, tasks_from="main")
    assert code == 2 and "TASK [localmodels.fastgpt.fastgpt_models : Look | What follows from both]" in said, said
    assert "No Ollama of gpu-2 holds %s. There is no answer from gpu-2; the cause is told above." % world.model in said, said


def test_check_mode_goes_on_where_there_is_no_ollama_yet_and_fails_where_the_run_would(world):
    code, said, setup = play(world, {"gpu-2": {"ollama_url": world.silent}}, words=["--check"])
    assert code == 0 and setup["missing"] == [world.model] and "refuses the connection" in said, said
    assert "Check mode goes on as if it ran and held no models. Where role ollama comes before in the same run, it would start it. Otherwise:" in said
    code, said, dummy = play(world, {"gpu-2": {"ollama_url": world.silent}}, tasks_from="main", words=["--check"])
    assert "Check mode: type and limits of %s are read from Ollama once it holds them." % world.model in said, said
    code, said, dummy = play(world, {"gpu-1": {"ollama_url": world.url}}, tasks_from="main", words=["--check"])
    assert "Ollama holds every declared model] *" in said and "Check mode: type and limits" not in said, said
    code, said, dummy = play(world, {"gpu-2": {"ollama_url": "ftp://gpu-2"}}, words=["--check"])
    assert code == 2 and "ftp://gpu-2" in said, said


def test_no_secret_is_among_the_defaults_that_ansible_shows_of_a_refused_role(world):
    inventory(world, {}, {"chat01": {"fastgpt_models_%s" % name: "hidden-%s" % name for name in ("root_password", "admin_key", "one_api_access_token")}})
    for role in ("fastgpt_models", "fastgpt_verify"):
        code, said = run(world, {"hosts": "fastgpt", "gather_facts": False, "vars": {"local_models": [], role + "_timeout": "soon"},
                                 "roles": ["localmodels.fastgpt." + role]}, words=["-vvv"])
        assert code == 2 and "argument '%s_timeout'" % role in said and "argument_spec_data" in said, said
        assert "hidden-" not in said, said


WORDS = {"local_models": "Nobody says which models chat01 is to have. Set local_models", "fastgpt_project_dir": "Set fastgpt_project_dir of that host"}


@pytest.mark.parametrize("hosts, lacks", [
    ({"chat01": {}}, "local_models"), ({"chat01": {"local_models": []}}, "fastgpt_project_dir"),
    ({"chat01": {"local_models": [], "fastgpt_project_dir": ""}}, "fastgpt_project_dir"),
    ({"chat01": {"local_models": [], "fastgpt_project_dir": "/opt/fastgpt"}}, None),
    ({"chat01": {"local_models": [], "fastgpt_compose_project_dir": "/opt/fastgpt"}}, None)])
def test_the_whole_begins_with_what_is_not_declared(world, hosts, lacks):
    declared = yaml_load((CHECKOUT / "playbooks" / "site.yml").read_text())[0]
    then = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.debug": {"msg": "now {{ inventory_hostname }} is changed"}}]}
    inventory(world, {"gpu-1": {"local_models": []}}, hosts)
    code, said = run(world, declared, then)
    assert code == (2 if lacks else 0) and ("is changed" in said) == (not lacks), "a fleet is left alone as a whole: " + said
    assert [name for name, words in WORDS.items() if words in said] == ([lacks] if lacks else [])
    if lacks == "fastgpt_project_dir":
        assert run(world, declared, then, words=["--limit", "gpu-1"])[0] == 0, "who is not meant is not asked"


def test_a_host_may_say_which_of_the_ollamas_its_fastgpt_uses(world):
    plays = [yaml_load((CHECKOUT / "playbooks" / (name + ".yml")).read_text()) for name in ("connect", "verify")]
    given, same = [one["vars"] for (one,) in plays]
    assert given == same
    inventory(world, {"gpu-1": {}, "gpu-2": {}}, {"chat01": {"fastgpt_compose_ollama_hosts": ["gpu-2"]}, "chat02": {}})
    tasks = [{"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} uses {{ fastgpt_compose_ollama_hosts | join(' and ') }}."}}]
    code, said = run(world, {"hosts": "fastgpt", "gather_facts": False, "vars": given, "tasks": tasks})
    assert code == 0 and "chat01 uses gpu-2." in said and "chat02 uses gpu-1 and gpu-2." in said, said
