# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where our file belongs in a project, and how it is listed in .env without touching anything else there."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_files import (
    MARK,
    NO_END,
    joined_dotenv,
    layout,
    masked_dotenv,
    parted_dotenv,
)

FREE, OWN = "docker-compose.override.yml", "docker-compose.localmodels.yml"


@pytest.mark.parametrize("names, listed, ours, base, place, joined, left_over", [
    # nobody has an override: compose's own place
    (["docker-compose.yml"], [], [], ["docker-compose.yml"], FREE, True, []),
    (["compose.yaml", "docker-compose.yml"], [], [], ["compose.yaml"], FREE, True, []),
    (["docker-compose.yml", FREE], [], [FREE], ["docker-compose.yml"], FREE, True, []),
    # the operator has one: ours beside it, listed in COMPOSE_FILE
    (["docker-compose.yml", FREE], [], [], ["docker-compose.yml", FREE], OWN, False, []),
    (["docker-compose.yml", "compose.override.yaml"], [], [], ["docker-compose.yml", "compose.override.yaml"], OWN, False, []),
    # compose would take the operator's and never look at ours
    (["docker-compose.yml", "compose.override.yml", FREE], [], [FREE], ["docker-compose.yml", "compose.override.yml"], OWN, False, [FREE]),
    # the operator lists his files
    (["a.yml", "b.yml"], ["a.yml", "b.yml"], [], ["a.yml", "b.yml"], OWN, False, []),
    (["a.yml", OWN], ["a.yml", OWN], [OWN], ["a.yml"], OWN, True, []),
    (["a.yml", FREE], ["a.yml", FREE], [FREE], ["a.yml"], FREE, True, []),
    (["a.yml", FREE], ["a.yml", FREE], [], ["a.yml", FREE], OWN, False, []),
    (["a.yml", FREE], ["a.yml"], [FREE], ["a.yml"], OWN, False, [FREE]),
])
def test_where_our_file_belongs(names, listed, ours, base, place, joined, left_over):
    found = layout(names, listed, ours)
    assert (found.base, found.place, found.joined, found.left_over) == (base, place, joined, left_over)


@pytest.mark.parametrize("before, after", [
    ("", MARK + "\nCOMPOSE_FILE=docker-compose.yml:docker-compose.localmodels.yml\n"),
    ("A=1", "A=1\n" + MARK + NO_END + "\nCOMPOSE_FILE=docker-compose.yml:docker-compose.localmodels.yml\n"),
    ("A=1\r\n", "A=1\r\n" + MARK + "\r\nCOMPOSE_FILE=docker-compose.yml:docker-compose.localmodels.yml\r\n"),
    ("COMPOSE_FILE=a.yml:b.yml\nA=1\n", "COMPOSE_FILE=a.yml:b.yml:docker-compose.localmodels.yml\nA=1\n"),
    ("COMPOSE_FILE='a.yml'  # mine\n", "COMPOSE_FILE='a.yml:docker-compose.localmodels.yml'  # mine\n"),
    ('export COMPOSE_FILE = "a.yml"\r\n', 'export COMPOSE_FILE = "a.yml:docker-compose.localmodels.yml"\r\n'),
    ("#COMPOSE_FILE=x\nCOMPOSE_FILE=a.yml # why", "#COMPOSE_FILE=x\nCOMPOSE_FILE=a.yml:docker-compose.localmodels.yml # why"),
    ("COMPOSE_FILE=\n", "COMPOSE_FILE=docker-compose.yml:docker-compose.localmodels.yml\n"),
])
def test_joining_touches_one_line(before, after):
    assert joined_dotenv(before, ["docker-compose.yml"]) == after


def test_another_separator():
    assert joined_dotenv("COMPOSE_FILE=a.yml;b.yml\n", [], ";") == "COMPOSE_FILE=a.yml;b.yml;docker-compose.localmodels.yml\n"
    assert parted_dotenv("COMPOSE_FILE=a.yml;docker-compose.localmodels.yml;b.yml\n", ";") == "COMPOSE_FILE=a.yml;b.yml\n"


lines = st.lists(st.sampled_from(["A=1", "# why", "", "PASSWORD='x#y'", "COMPOSE_PROJECT_NAME=f", "COMPOSE_FILE=a.yml:b.yml", "COMPOSE_FILE='a.yml' # mine"]))


@given(lines, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_parting_gives_back_what_joining_took(content, newline, ended):
    text = "".join(line + newline for line in content) if ended else newline.join(content)
    joined = joined_dotenv(text, ["docker-compose.yml"])
    assert joined.count(OWN) == (1 if MARK not in joined else 2)
    assert parted_dotenv(joined) == text


def test_what_somebody_wrote_below_our_line_keeps_its_own():
    joined = joined_dotenv("A=1", ["docker-compose.yml"])
    assert parted_dotenv(joined + "B=2\n") == "A=1\nB=2\n"


def test_a_masked_dotenv_tells_names_and_no_values():
    joined = joined_dotenv("# pass word\nexport PASSWORD='x#y'\r\nKEY=\"-----BEGIN\nMIIE7==\nab=\"\nCOMPOSE_PROFILES=a\nLAST=se cret", ["a.yml"])
    assert masked_dotenv(joined) == (
        "# xxxx xxxx\nexport PASSWORD='x#x'\r\nKEY=\"-----xxxxx\nxxxxx==\nxx=\"\nCOMPOSE_PROFILES=a\nLAST=xx xxxx\n"
        + MARK + NO_END + "\nCOMPOSE_FILE=a.yml:docker-compose.localmodels.yml\n")
