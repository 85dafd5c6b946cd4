# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.localmodels.fastgpt.plugins.module_utils._yaml_text import doubled, emit
from hypothesis import given
from hypothesis import strategies as st

SCALARS = st.one_of(st.text(max_size=12), st.integers(), st.booleans())
NODES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(st.one_of(SCALARS, st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=3)), max_size=3),
                            st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=3)),
    max_leaves=12)


@given(st.dictionaries(st.text(min_size=1, max_size=6), NODES, max_size=4))
def test_a_yaml_reader_reads_what_was_meant(node):
    assert yaml_load(emit(node)) == node if node else True


@pytest.mark.parametrize("word", ["no", "Yes", "null", "~", "1", "0x1", "1e3", "a: b", "- a", "#a", "", "a\nb", "2026-01-01", "=", "y", "a\n", "no\n"])
def test_words_that_yaml_reads_otherwise_are_quoted(word):
    assert yaml_load(emit({"key": word, "list": [word]})) == {"key": word, "list": [word]}


def test_plain_words_stay_plain():
    assert emit({"a": {"b": ["c/d-e.f", {"g": "h", "i": 1}]}}) == "a:\n  b:\n    - c/d-e.f\n    - g: h\n      i: 1\n"


def test_dollars_are_doubled():
    assert doubled("a$b$$") == "a$$b$$$$"
