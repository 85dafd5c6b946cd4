# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Examples use what is there, groups hold who shares options, and files can be read in one go."""

from __future__ import annotations

import functools
import importlib
import pathlib
import re

import pytest
from ansible.module_utils.common.yaml import yaml_load

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMESPACE = "localmodels.fastgpt."
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
RUNTIME = yaml_load((ROOT / "meta" / "runtime.yml").read_text())
GROUPS = RUNTIME["action_groups"]
# They make a server, a bundle or FastGPT's project instead of talking to a server, and are told nothing of its address; see meta/runtime.yml.
NO_SERVER = {"ollama_container", "ollama_release", "ollama_service", "ollama_bundle_export", "one_api_container", "fastgpt_compose", "fastgpt_info"}
MEMBERS = [(group, name) for group, names in GROUPS.items() for name in names]


def module(name):
    return importlib.import_module("ansible_collections.localmodels.fastgpt.plugins.modules." + name)


@functools.lru_cache(maxsize=None)
def documentation(name):
    return yaml_load(module(name).DOCUMENTATION)


@functools.lru_cache(maxsize=None)
def fragment(name):
    found = importlib.import_module("ansible_collections.localmodels.fastgpt.plugins.doc_fragments." + name)
    return yaml_load(found.ModuleDocFragment.DOCUMENTATION)["options"]


def options(name):
    """All options (dict) that the documentation of a module tells, those of its fragments included."""
    doc = documentation(name)
    found = dict(doc.get("options", {}))
    for part in doc.get("extends_documentation_fragment", []):
        found.update(fragment(part[len(NAMESPACE):]))
    return found


def unknown(given, known, where=""):
    """Paths (list of str) in `given`, as somebody typed it, that `known` (documented options) does not have."""
    found = []
    for key, value in given.items():
        if key not in known:
            found.append(where + key)
        elif "suboptions" in known[key]:
            for item in value if isinstance(value, list) else [value]:
                found += unknown(item, known[key]["suboptions"], where + key + ".") if isinstance(item, dict) else []
    return found


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_tasks_with_options_that_exist(name):
    tasks = yaml_load(module(name).EXAMPLES)
    # The collection depends on no other one, so its examples do not either.
    foreign = re.findall(r"\| *(\w+\.\w+\.)\w+", module(name).EXAMPLES) + [key for task in tasks for key in task if "." in key]
    assert [one for one in foreign if not one.startswith((NAMESPACE, "ansible.builtin."))] == []
    calls = [task for task in tasks if NAMESPACE + name in task]
    assert calls
    for task in tasks:
        assert task["name"]
        (action,) = [key for key in task if "." in key]
        if action.startswith(NAMESPACE):
            known = options(action[len(NAMESPACE):])
            given = task[action] or {}
            assert unknown(given, known) == []
            assert [key for key, option in known.items() if option.get("required") and key not in given] == []


def test_an_unknown_option_is_seen():
    known = {"channels": {"suboptions": {"name": {}}}}
    assert unknown({"chanels": 1, "channels": [{"nmae": "x"}]}, known) == ["chanels", "channels.nmae"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_returns_and_how_it_behaves(name):
    doc, returned = documentation(name), yaml_load(module(name).RETURN)
    assert {"check_mode", "diff_mode"} <= set(doc["attributes"]) and doc["version_added"] == "0.1.0"
    for key, value in returned.items():
        assert value["description"] and value["returned"] and value["type"], key


def test_each_module_is_in_an_action_group_or_talks_to_no_server():
    grouped = [name for group in GROUPS.values() for name in group]
    assert sorted(set(grouped) | NO_SERVER) == MODULES and not NO_SERVER & set(grouped)
    assert RUNTIME["requires_ansible"] == ">=2.17.0"


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_documentation_names_its_groups(name):
    told = documentation(name)["attributes"].get("action_group", {"membership": []})
    assert told["membership"] == sorted(NAMESPACE + group for group, names in GROUPS.items() if name in names)
    assert [group for group in told["membership"] if "group/" + group not in str(told["description"])] == []


class Declared(Exception):
    """What a module declares to Ansible: the argument spec (dict)."""


def argument_spec(name, monkeypatch):
    def declares(argument_spec, **more):
        raise Declared(argument_spec)
    found = module(name)
    monkeypatch.setattr(found, "AnsibleModule", declares)
    with pytest.raises(Declared) as caught:
        found.main()
    return caught.value.args[0]


@pytest.mark.parametrize("group, name", MEMBERS)
def test_each_default_of_a_group_is_an_option_of_each_module_in_it_and_hidden_where_it_is_secret(group, name, monkeypatch):
    """Ansible refuses an option that a module does not have, and shows its value from -vvv on."""
    (shared,) = {tuple(documentation(other)["extends_documentation_fragment"]) for other in GROUPS[group]}
    given, declared = fragment(shared[0][len(NAMESPACE):]), argument_spec(name, monkeypatch)
    assert set(given) <= set(declared)
    secret = {option for option in given if re.search("password|token|admin_key|headers", option)}
    hidden = {option for option in given if declared[option].get("no_log")}
    assert hidden == secret and secret


def test_what_is_shipped_can_be_read_in_one_go():
    shipped = [path for folder in ("plugins", "roles", "playbooks", "meta") for path in (ROOT / folder).rglob("*")
               if path.suffix in (".py", ".yml")]
    assert len(shipped) > 60
    assert [str(path) for path in shipped if len(path.read_text().splitlines()) > 400] == []
    code = [path for path in shipped if path.suffix == ".py"]
    assert [str(path) for path in code if "SPDX-License-Identifier: GPL-3.0-or-later" not in path.read_text()[:400]] == []


def test_nothing_that_is_shipped_knows_of_the_lab():
    word = re.compile(r"(?i)\bstand-?ins?\b|\bLAB_|/_lab|\bregistry\.lab\b|molecule|/work/|/tmp/")
    shipped = [path for folder in ("plugins", "roles", "playbooks", "meta") for path in (ROOT / folder).rglob("*")
               if path.suffix in (".py", ".yml", ".md")]
    assert [(str(path), word.search(path.read_text()).group()) for path in shipped if word.search(path.read_text())] == []


def test_the_pipeline_of_docs_gitops_uses_what_role_and_files_have():
    text = (ROOT / "docs" / "gitops.md").read_text()
    (play,) = yaml_load(re.search(r"(?s)```yaml\n(.*?)```", text).group(1))
    (role,) = play["roles"]
    known = yaml_load((ROOT / "roles" / "fastgpt_compose" / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert role["role"] == NAMESPACE + "fastgpt_compose" and role["vars"]["fastgpt_compose_apply"] is False
    named = set(role["vars"]) | set(re.findall(r"fastgpt_compose_\w+", text))
    assert sorted(named - set(known)) == []


def words_of_the_code():
    """All texts of plugins (str), joined as Python joins them."""
    code = "\n".join(path.read_text() for path in (ROOT / "plugins").rglob("*.py"))
    return re.sub(r'"\s*\n\s*"', "", code)


def test_the_messages_of_docs_airgapped_are_those_of_the_code():
    text, code = (ROOT / "docs" / "airgapped.md").read_text(), words_of_the_code()
    rows = re.search(r"(?s)\| message \| what to do \|\n\|---\|---\|\n(.*?)\n\n", text).group(1).splitlines()
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(messages) > 12
    for message in messages:
        # The system's own words, and a number of bytes, are not in the code.
        said = re.sub(r"\((File too large|Read-only file system)\)", "(%s)", message.replace("100 bytes", "%d bytes"))
        assert [part for part in said.split("...") if part.strip() not in code] == [], message


def test_docs_airgapped_tells_the_variables_of_playbook_bundle_with_their_defaults():
    text, playbook = (ROOT / "docs" / "airgapped.md").read_text(), (ROOT / "playbooks" / "bundle.yml").read_text()
    rows = dict(re.findall(r"(?m)^\| `(ollama_bundle\w*)` \| (.+?) \|", text))
    used = dict(re.findall(r"\b(ollama_bundle\w*) \| default\((.+?)\)", playbook), ollama_bundle="(needed)")
    assert set(rows) == set(used)
    assert {name: default.strip("`").replace("'", "") for name, default in rows.items()} == {
        name: default.replace("'", "") for name, default in used.items()}
    roles = (ROOT / "roles").glob("ollama*/defaults/main.yml")
    known = {name for path in roles for name in yaml_load(path.read_text())}
    assert set(re.findall(r"\bollama_(?:models_)?bundle_?\w*", text)) - known - set(used) - {"ollama_bundle_import"} == set()


def test_plays_and_inventories_of_docs_airgapped_are_yaml_with_options_that_exist():
    blocks = re.findall(r"(?s)```yaml\n(.*?)```", (ROOT / "docs" / "airgapped.md").read_text())
    inventory, play = [yaml_load(block) for block in blocks]
    assert set(inventory["all"]["vars"]) == {"ollama_bundle_images"}
    ((task,),) = [one["tasks"] for one in play]
    assert unknown(task[NAMESPACE + "ollama_bundle_import"], options("ollama_bundle_import")) == []


def fragments():
    return sorted((ROOT / "changelogs" / "fragments").glob("*.yml"))


@pytest.mark.parametrize("path", fragments(), ids=lambda path: path.stem)
def test_a_changelog_fragment_is_rst_in_sections_that_exist(path):
    """The changelog is reStructuredText, which would show C(this) as it stands here."""
    config, found = yaml_load((ROOT / "changelogs" / "config.yaml").read_text()), yaml_load(path.read_text())
    known = [section for section, dummy in config["sections"]]
    summary = found.pop(config["prelude_section_name"], "")
    assert isinstance(summary, str) and [section for section in found if section not in known] == []
    texts = [summary] + [text for lines in found.values() for text in lines]
    assert [text for text in texts if not isinstance(text, str) or re.search(r"\b[BCEILMOPRUV]+\(", text)] == []
