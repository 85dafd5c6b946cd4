# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only the lines that must change change, in every style of YAML; what cannot be proved right is refused with its place."""

from __future__ import annotations

import difflib
import textwrap

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_intents import (
    Intent,
    differences,
    document,
    fulfilled,
)
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_mask import masked
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import CannotEdit, reverted
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit import edited, edits
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit_read import Source

SET = Intent("variable", "app", "URL", "http://o:1/v1")
EMPTY = Intent("variable", "app", "TOKEN", "")
JOIN = [Intent("declared", "", "ollama", "ollama"), Intent("network", "app", "ollama")]
HOST = Intent("host", "app", "host.docker.internal", "host-gateway")
LONGER = Intent("listed", "app", "no_proxy", "a,b,ollama", ",ollama")


def changed(text, *intents):
    """The lines that came, without their marks, and how many lines of the operator's became comments."""
    text = textwrap.dedent(text).lstrip("\n")
    new = edited(text, intents)
    assert reverted(new) == text
    assert edited(new, intents) == new
    assert edits(masked(text, ["ollama"]), intents) == edits(text, intents)
    came = [line[2:] for line in difflib.ndiff(text.splitlines(), new.splitlines()) if line.startswith("+ ")]
    return [line.rpartition("  # localmodels.fastgpt:")[0] for line in came if "fastgpt was:" not in line]


def refused(text, *intents, **more):
    text = textwrap.dedent(text).lstrip("\n")
    with pytest.raises(CannotEdit) as problem:
        edited(text, intents, "compose.yml")
    found = problem.value
    assert str(found).startswith("compose.yml:%d:%d: " % (found.line, found.column))
    assert found.mend
    return found.line, found.column, found.what


LIST = """
    services:
      app:
        environment:
          # the token
          - TOKEN=secret # why
          -   "URL=http://old"
          - no_proxy=a,b
        networks: [one]
    networks:
      one:
    """
MAP = """
    x-all: &all
      URL: http://old
      no_proxy: a,b
    x-token: &token 'secret'
    services:
      app:
        environment:
          <<: [*all]
          TOKEN: *token
        networks:
          - one
    networks:
      one:
    """


def test_list_style():
    assert changed(LIST, EMPTY, SET, LONGER) == [
        "      - TOKEN= # why", '      -   "URL=http://o:1/v1"', "      - no_proxy=a,b,ollama"]


def test_map_style_with_variables_in_anchors_only():
    assert changed(MAP, EMPTY, SET, LONGER) == [
        "      URL: http://o:1/v1", "      no_proxy: a,b,ollama", '      TOKEN: ""']


def test_networks_join_in_brackets_and_in_blocks():
    assert changed(LIST, *JOIN) == ['    networks: ["ollama", one]', '  ollama: {name: "ollama", external: true}']
    assert changed(MAP, *JOIN) == ["      - ollama", '  ollama: {name: "ollama", external: true}']


def test_missing_sections_are_made_and_default_is_kept():
    text = """
        services:
            app:
                image: x
        """
    assert changed(text, SET, HOST, Intent("network", "app", "default"), *JOIN) == [
        "networks:", '  ollama: {name: "ollama", external: true}',
        "        environment:", "            URL: http://o:1/v1",
        "        extra_hosts:", '            - "host.docker.internal:host-gateway"',
        "        networks:", "            - default", "            - ollama"]


@pytest.mark.parametrize("nothing", ["", " # nothing", " ~", " null"])
def test_empty_sections_are_filled(nothing):
    text = "services:\n  app:\n    environment:%s\n    networks:%s\n    image: x\nnetworks:%s\n" % (nothing, nothing, nothing)
    lines = changed(text, SET, *JOIN)
    for line in ("      URL: http://o:1/v1", "      - ollama", '  ollama: {name: "ollama", external: true}'):
        assert line in lines


@pytest.mark.parametrize("text", [
    "services: {app: {environment: {TOKEN: a, URL: b}, networks: {one: null}, extra_hosts: []}, db: {}}\n",
    '{"services": {"app": {"environment": ["TOKEN=a", "URL=b"], "networks": ["one"], "extra_hosts": {"a": "1.1.1.1"}}}}',
    "services:\n  app: {image: x}\n",
    "services:\n  app:\n    environment: {\n      TOKEN: a,\n      URL: b\n    }\n    networks: []\n",
])
def test_brackets(text):
    assert changed(text, EMPTY, SET, HOST, *JOIN)


@pytest.mark.parametrize(("former", "new"), [
    ("'a b'", "'http://o:1/v1'"), ('"a" # why', '"http://o:1/v1" # why'), ("", " http://o:1/v1"), ("30", "http://o:1/v1"),
    ("${X:-y}", "http://o:1/v1"), ("!!str a", "http://o:1/v1"), ("&lonely a", "http://o:1/v1")])
def test_only_the_value_changes(former, new):
    text = "services:\n  app:\n    environment:\n      URL:%s\n" % (" " + former if former else "")
    assert changed(text, SET) == ["      URL:%s" % (new if new.startswith(" ") else " " + new)]


def test_variables_inside_a_list_stay_variables():
    text = "services:\n  app:\n    environment:\n      no_proxy: ${MINE},b\n      NO_PROXY:\n"
    assert changed(text, LONGER, LONGER._replace(name="NO_PROXY")) == [
        '      no_proxy: "${MINE},b,ollama"', '      NO_PROXY: "${NO_PROXY},ollama"']


def test_a_dollar_stays_a_dollar():
    assert changed("services:\n  app:\n    environment: [URL=x]\n", Intent("variable", "app", "URL", "a$b")) == [
        '    environment: ["URL=a$$b"]']


def test_a_common_map_is_taken_up_and_added_to():
    text = """
        x-env: &env
          TOKEN: a
        services:
          app:
            environment: *env
          other:
            environment: *env
        """
    assert changed(text, EMPTY) == ["    environment:", "      <<: *env", '      TOKEN: ""']


def test_two_services_that_are_one_mapping_change_together():
    text = "services:\n  app: &app\n    environment:\n      TOKEN: a\n  copy: *app\n"
    assert changed(text, EMPTY, EMPTY._replace(service="copy")) == ['      TOKEN: ""']
    assert "services.copy" in refused(text, EMPTY)[2]


def test_bytes_around_stay():
    text = ("\ufeffservices:\r\n  app: # \u4e2d\u6587\ttab\r\n    environment:\t# tab\r\n      - TOKEN=a\t# b\r\n"
            "    networks:\r\n    - one\r\nnetworks:\r\n  one:")
    new = edited(text, [EMPTY, HOST] + JOIN)
    assert reverted(new) == text
    assert edits(masked(text, ["ollama"]), [EMPTY, HOST] + JOIN) == edits(text, [EMPTY, HOST] + JOIN)
    assert new.startswith("\ufeffservices:\r\n")
    assert new.count("\n") == new.count("\r\n")
    assert not new.endswith("\n")
    assert "    - ollama  # localmodels" in new


def test_switching_forth_and_back_is_as_if_it_had_never_been():
    text = textwrap.dedent(LIST)
    first = edited(text, [EMPTY, SET])
    assert edited(edited(first, JOIN), [EMPTY, SET]) == first
    assert edited(first, []) == text


def test_what_stands_already_is_no_change():
    text = "services:\n  app:\n    extra_hosts: [host.docker.internal:host-gateway]\n    networks: [ollama]\n"
    text += "networks:\n  ollama: {name: ollama, external: true}\n"
    assert changed(text, HOST, *JOIN) == []


@pytest.mark.parametrize(("text", "line", "column", "said"), [
    ("services:\n  app:\n   environment:\n  - a: [\n", 4, 3, "no YAML"),
    ("services:\n  app:\n    image: x\n    image: y\n", 4, 5, "second time"),
    ("services:\n  app: {a: 1, a: 2}\n", 2, 15, "second time"),
    ("services:\n  app:\n    environment:\n    - TOKEN=a\n    - TOKEN=b\n", 5, 7, "second time"),
    ("services:\n  app:\n    environment:\n      TOKEN: |\n        a\n", 4, 14, "several lines"),
    ("services:\n  app:\n    environment:\n      TOKEN: 'a\n        b'\n", 4, 14, "several lines"),
    ("services:\n  app:\n    environment:\n      TOKEN: [a]\n", 4, 14, "a list"),
    ("services:\n  app:\n    environment: text\n", 3, 18, "list or a map"),
    ("services:\n  app:\n    environment:\n      TOKEN: &t a\n  b:\n    labels: {x: *t}\n", 4, 14, "anchor"),
    ("services:\n  app:\n    environment: &e\n      - TOKEN=a\n  b:\n    environment: *e\n", 6, 5, "services.b"),
    ("services:\n  b: &b\n    environment:\n      A: a\n  app:\n    <<: *b\n", 3, 5, "services.b"),
    ("services:\n  app:\n    environment: &e\n      TOKEN: a\nx-b: *e\n", 4, 7, "x-b"),
    ("x: &x [1]\nservices:\n  app:\n    <<: *x\n", 4, 5, "no mapping"),
    ("services:\n  other: {}\n", 1, 1, "not written in this file"),
    ("services:\n", 1, 1, "No services"),
    ("- a\n", 1, 1, "no compose file"),
    ("", 1, 1, "empty"),
    ("a: 1\n---\nb: 2\n", 2, 1, "more than one document"),
    ("services:\n  app:\n    environment:\n  b: &b\n    c: *b\n", 1, 1, "holds itself"),
    ("# made\n# Ansible managed\nservices:\n  app: {}\n", 2, 1, "kept by something else"),
    ("services:\n  app: {}\n# \u2028 x\n", 3, 3, "line break"),
    ("services:\n  app: {}\n# \x07\n", 3, 3, "U+0007"),
    ("services:\n  app: \udcca\n", 2, 8, "U+DCCA"),
    ("services:\r  app: {}\r", 1, 10, "carriage return"),
    ("services:\n  app:\n    image: *gone\n", 3, 12, "undefined alias"),
])
def test_refusals_say_where_why_and_what_to_do(text, line, column, said):
    with pytest.raises(CannotEdit) as problem:
        edited(text, [EMPTY], "f.yml")
    assert said in str(problem.value)
    assert (problem.value.line, problem.value.column) == (line, column)
    assert problem.value.mend


def test_another_network_of_that_name_is_refused():
    assert refused("services:\n  app: {}\nnetworks:\n  ollama: {driver: bridge}\n", *JOIN)[:2] == (4, 3)


CONFIG = {"services": {"app": {"environment": {"A": "1"}, "networks": {"one": None}}, "db": {}}, "networks": {"one": {"name": "p_one", "ipam": {}}}}


def test_the_override_and_the_effective_project_say_the_same():
    intents = [SET, EMPTY, HOST] + JOIN
    assert document(intents) == {
        "services": {"app": {"environment": {"URL": "http://o:1/v1", "TOKEN": ""}, "networks": {"ollama": None},
                             "extra_hosts": ["host.docker.internal:host-gateway"]}},
        "networks": {"ollama": {"name": "ollama", "external": True}}}
    after = fulfilled(CONFIG, intents)
    assert sorted(differences(CONFIG, after)) == [
        "networks.ollama", "services.app.environment.TOKEN", "services.app.environment.URL",
        "services.app.extra_hosts.host.docker.internal", "services.app.networks.ollama"]
    assert document([]) == {}


def test_a_difference_that_nobody_wants_is_seen():
    after = fulfilled(CONFIG, [SET])
    after["services"]["app"]["environment"]["A"] = "2"
    after["services"]["db"]["networks"] = {"default": None}
    del after["services"]["app"]["networks"]["one"]
    assert sorted(differences(fulfilled(CONFIG, [SET]), after)) == [
        "services.app.environment.A", "services.app.networks.one", "services.db.networks.default"]


def test_a_tab_before_a_comment_is_read_as_compose_reads_it():
    assert Source("a: b\t# c\n").meaning() == {"a": "b", "networks": {}}
