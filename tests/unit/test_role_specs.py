# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role's files say about its variables agrees: defaults, argument_specs, README, and the tasks that use them."""

from __future__ import annotations

import pathlib
import re

import jinja2
import pytest
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _ollama_options

ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())
HEADINGS = ["Requirements", "Role Variables", "Example Playbook", "Idempotency", "Roll-back", "Check mode"]
SHARED = {"local_models"}  # the one list that people type; it has no default


def load(role, path):
    return yaml_load((ROLES / role / path).read_text())


def options(role):
    return load(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]


def secret_options(role):
    return {name: option for name, option in options(role).items() if option.get("no_log")}


@pytest.mark.parametrize("role", NAMES)
def test_the_default_of_a_secret_is_no_other_variable(role):
    """Ansible reads a role's argument spec and shows it, defaults and all, when it refuses one of the role's variables."""
    assert [name for name in options(role) if re.search("password|token|admin_key|_key$|headers", name) and not name.endswith(("_client_key", "_token_name"))
            and name not in secret_options(role)] == []
    assert [name for name, option in secret_options(role).items() if option["default"]] == []


def calls_of(role, path="tasks/main.yml"):
    """{module of this collection: its arguments} of a file of tasks."""
    return {key.rpartition(".")[2]: task[key] for task in load(role, path) for key in task if key.startswith("localmodels.fastgpt.")}


@pytest.mark.parametrize("module, given", [
    ("aiproxy_channel", ("fastgpt_url", "root_password", "aiproxy_url", "admin_key")),
    ("fastgpt_models", ("fastgpt_url", "root_password")), ("fastgpt_app", ("fastgpt_url", "root_password"))])
def test_what_the_project_does_not_tell_of_its_servers_comes_from_a_variable(module, given):
    for option in given:
        assert calls_of("fastgpt_models")[module][option] == "{{ fastgpt_models_%s | default(omit, true) }}" % option


@pytest.mark.parametrize("option", ["fastgpt_url", "root_password", "aiproxy_url", "admin_key", "one_api_url", "one_api_access_token"])
@pytest.mark.parametrize("own, other, seen", [("", None, "omitted"), ("", "", "omitted"), ("", "theirs", "theirs"), ("mine", "theirs", "mine")])
def test_the_walk_takes_over_what_role_fastgpt_models_was_given(option, own, other, seen):
    reader = jinja2.Environment(undefined=jinja2.StrictUndefined)
    known = {} if other is None else {"fastgpt_models_" + option: other}
    name = "fastgpt_verify_" + option
    known[name] = own or reader.from_string(load("fastgpt_verify", "defaults/main.yml")[name]).render(known)
    assert reader.from_string(calls_of("fastgpt_verify")["fastgpt_verify"][option]).render(known, omit="omitted") == seen


def test_roles_are_found():
    assert "ollama" in NAMES and len(NAMES) >= 5


@pytest.mark.parametrize("role", NAMES)
def test_argument_specs_hold_the_very_defaults(role):
    declared = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert load(role, "defaults/main.yml") == declared


@pytest.mark.parametrize("role", NAMES)
def test_a_default_needs_no_variable_that_is_not_there(role):
    """All defaults are read when a role begins, also of options that are given, so that an undefined variable in one would stop the role."""
    defaults = load(role, "defaults/main.yml")
    reader = jinja2.Environment(undefined=jinja2.StrictUndefined)
    reader.filters.update(dict.fromkeys(("localmodels.fastgpt.ollama_near_url", "localmodels.fastgpt.ollama_places"), lambda *given: "read"))
    known = dict(defaults, inventory_hostname="box", hostvars={}, **{"__%s_here" % role: {}})
    for value in defaults.values():
        reader.from_string(str(value)).render(known)


@pytest.mark.parametrize("role", NAMES)
def test_an_option_without_default_is_required_and_told(role):
    for name, option in options(role).items():
        assert ("default" in option) != option.get("required", False), name
        assert option.get("description"), name


@pytest.mark.parametrize("role", NAMES)
def test_variables_carry_the_roles_name(role):
    assert [name for name in options(role) if not name.startswith(role + "_") and name not in SHARED] == []


@pytest.mark.parametrize("role", NAMES)
def test_readme_tells_of_each_variable_once_and_of_no_other(role):
    text = (ROLES / role / "README.md").read_text()
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `")]
    told = [name for row in rows for name in re.findall(r"`(%s_\w+|local_models)`" % role, row)]
    assert sorted(told) == sorted(options(role))


@pytest.mark.parametrize("role", NAMES)
def test_readme_has_the_headings_in_their_order(role):
    text = (ROLES / role / "README.md").read_text()
    assert re.findall(r"(?m)^## (.*)$", text) == HEADINGS


@pytest.mark.parametrize("role", NAMES)
def test_plain_defaults_stand_in_the_readme_as_they_are(role):
    text = (ROLES / role / "README.md").read_text()
    for name, value in load(role, "defaults/main.yml").items():
        row = re.search(r"(?m)^\| [^|]*`%s`[^|]*\| ([^|]*) \|" % name, text).group(1)
        if isinstance(value, (bool, int)):
            assert row == "`%s`" % str(value).lower(), name


@pytest.mark.parametrize("role", NAMES)
def test_meta_says_what_galaxy_wants_to_know(role):
    info = load(role, "meta/main.yml")["galaxy_info"]
    assert info["license"] == "GPL-3.0-or-later" and str(info["min_ansible_version"]).startswith("2.17") and info["description"]


@pytest.mark.parametrize("role", NAMES)
def test_every_variable_is_used(role):
    tasks = "".join(path.read_text() for path in (ROLES / role / "tasks").glob("*.yml"))
    defaults = (ROLES / role / "defaults" / "main.yml").read_text()
    words = set(re.findall(r"\w+", tasks)) | set(re.findall(r"\w+", " ".join(re.findall(r"{{.*?}}", defaults))))
    assert sorted(set(load(role, "defaults/main.yml")) - words) == []


def tasks_in(tasks):
    """All tasks (dict) of a list, those in blocks included."""
    for one in tasks:
        yield one
        for part in ("block", "rescue", "always"):
            yield from tasks_in(one.get(part) or [])


@pytest.mark.parametrize("role", NAMES)
def test_a_module_is_called_once_for_a_whole_list(role):
    """Twenty calls cost thirteen times as much as one with twenty items. Each Ollama of a fleet is a machine of its own, and asked there."""
    looped = [one for path in (ROLES / role / "tasks").glob("*.yml") for one in tasks_in(yaml_load(path.read_text()))
              if any(key == "loop" or key.startswith("with_") for key in one)]
    assert [one["name"] for one in looped if "delegate_to" not in one] == []


def test_the_models_of_a_host_are_one_list_of_one_call():
    tasks = [one for one in load("ollama_models", "tasks/main.yml") if "localmodels.fastgpt.ollama_models" in one]
    assert [one["localmodels.fastgpt.ollama_models"]["models"] for one in tasks] == ["{{ local_models }}"]


def test_an_ollama_is_asked_for_fastgpt_as_role_ollama_models_asks_it():
    (asked,) = [one["localmodels.fastgpt.ollama_info"] for one in load("fastgpt_models", "tasks/look.yml") if "localmodels.fastgpt.ollama_info" in one]
    assert set(_ollama_options.ARGUMENT_SPEC) <= set(asked)
    for name in _ollama_options.ARGUMENT_SPEC:
        assert "ollama_models_" + name in options("ollama_models") and "__fastgpt_models_theirs.ollama_models_%s" % name in asked[name], name


@pytest.mark.parametrize("provider", options("ollama")["ollama_provider"]["choices"])
def test_each_provider_has_its_tasks(provider):
    assert load("ollama", "tasks/%s.yml" % provider)


def test_the_table_and_the_answer_are_shown_before_a_broken_hop_fails():
    walked, shown, judged = load("fastgpt_verify", "tasks/main.yml")[-3:]
    assert walked["register"] == "__fastgpt_verify_walk" and "failed_when" not in walked
    message = shown["ansible.builtin.debug"]["msg"]
    assert "__fastgpt_verify_walk.hops | localmodels.fastgpt.hop_table + __fastgpt_verify_answer" in message
    assert "'Answer: ' ~ __fastgpt_verify_walk.answer" in shown["vars"]["__fastgpt_verify_answer"] and "when" not in shown
    assert judged["ansible.builtin.assert"]["that"] == "__fastgpt_verify_walk.healthy" and judged["when"] == judged["ansible.builtin.assert"]["that"] + (
        " or not ansible_check_mode")
    assert judged["ansible.builtin.assert"]["fail_msg"] == "{{ __fastgpt_verify_walk.verdict }}"


@pytest.mark.parametrize("healthy, check, told", [(False, True, True), (True, True, False), (False, False, False), (True, False, False)])
def test_what_check_mode_could_not_walk_is_told_and_not_judged(healthy, check, told):
    dummy, shown, judged = load("fastgpt_verify", "tasks/main.yml")[-3:]
    reader = jinja2.Environment(undefined=jinja2.StrictUndefined)
    hops = [{"status": "ok"}] if healthy else [{"status": "ok"}, {"status": "failed"}, {"status": "skipped"}]
    known = {"__fastgpt_verify_walk": {"healthy": healthy, "hops": hops}, "ansible_check_mode": check}
    known["__fastgpt_verify_why"] = reader.from_string(shown["vars"]["__fastgpt_verify_why"]).render(known)
    assert "Check mode: what is not set up yet cannot be walked; %d hops were not reached." % (0 if healthy else 2) in known["__fastgpt_verify_why"]
    lines = reader.compile_expression(shown["vars"]["__fastgpt_verify_unjudged"].strip("{} "))(known)
    assert lines == ([known["__fastgpt_verify_why"]] if told else [])
    assert reader.compile_expression(judged["when"])(known) is not told


@pytest.mark.parametrize("playbook, roles", [
    ("ollama", ["ollama"]), ("models", ["ollama_models"]), ("connect", ["one_api", "fastgpt_compose", "fastgpt_models"]), ("verify", ["fastgpt_verify"])])
def test_what_each_playbook_applies(playbook, roles):
    (play,) = yaml_load((ROLES.parent / "playbooks" / (playbook + ".yml")).read_text())
    applied = [one if isinstance(one, str) else one["role"] for one in play["roles"]]
    assert applied == ["localmodels.fastgpt." + role for role in roles]
    assert play["gather_facts"] is False and ("fastgpt" if "fastgpt" in roles[-1] else "ollama") in play["hosts"]


def test_the_whole_is_all_four_in_their_order():
    declared, *plays = yaml_load((ROLES.parent / "playbooks" / "site.yml").read_text())
    assert [set(task) & {"ansible.builtin.assert"} for task in declared["tasks"]] == [{"ansible.builtin.assert"}] * 2 and declared["any_errors_fatal"] is True
    assert [one["ansible.builtin.import_playbook"] for one in plays] == ["localmodels.fastgpt." + name for name in ("ollama", "models", "connect", "verify")]
