# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom FastGPT asks for models: read from its variables as its version reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.localmodels.fastgpt.plugins.module_utils._project import Service
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_route import AIPROXY, DIRECT, NOWHERE, ONE_API, route_of, trouble_in

OLLAMAS = [{"url": "http://gpu1.lan:8080"}]
AIPROXY_SET = {"AIPROXY_API_ENDPOINT": "http://aiproxy:3000", "AIPROXY_API_TOKEN": "aiproxy-token"}
OPENAI_SET = {"OPENAI_BASE_URL": "http://one-api:3000/v1", "CHAT_API_KEY": "sk-chat"}


def route(version, **variables):
    return route_of(Service("fastgpt", {"environment": variables}, {}, []), version, "/opt/fastgpt", OLLAMAS)


@pytest.mark.parametrize("version, variables, path, base, key", [
    # reference of FastGPT, section 2; `direct-*` and `directnokey-*` of the transcripts
    ("4.9.14", {**AIPROXY_SET, **OPENAI_SET}, AIPROXY, "", None),
    ("4.8.22", {**AIPROXY_SET, **OPENAI_SET}, ONE_API, "http://one-api:3000/v1", "sk-chat"),      # does not know AI Proxy yet
    ("4.8.23-fix", {**AIPROXY_SET, **OPENAI_SET}, AIPROXY, "", None),
    ("4.11.1", {**AIPROXY_SET, "AIPROXY_API_ENDPOINT": "", **OPENAI_SET}, ONE_API, "http://one-api:3000/v1", "aiproxy-token"),
    ("4.14.17", {"AIPROXY_API_TOKEN": "aiproxy-token", **OPENAI_SET}, ONE_API, "http://one-api:3000/v1", "aiproxy-token"),
    ("4.14.18", {"AIPROXY_API_TOKEN": "aiproxy-token", **OPENAI_SET}, ONE_API, "http://one-api:3000/v1", "sk-chat"),
    ("4.16.0", {"OPENAI_BASE_URL": "http://ollama:11434/v1/"}, DIRECT, "http://ollama:11434/v1", None),
    ("4.16.0", {"OPENAI_BASE_URL": "http://gpu1.lan:8080/v1"}, DIRECT, "http://gpu1.lan:8080/v1", None),
    ("4.16.0", {"OPENAI_BASE_URL": "http://gpu1.lan/v1"}, ONE_API, "http://gpu1.lan/v1", None),
    ("4.8.11", {**OPENAI_SET, "ONEAPI_URL": "http://old:3000/v1"}, ONE_API, "http://old:3000/v1", "sk-chat"),
    ("4.8.20", {**OPENAI_SET, "ONEAPI_URL": "http://old:3000/v1"}, ONE_API, "http://one-api:3000/v1", "sk-chat"),
    ("4.17.0", OPENAI_SET, AIPROXY, "", None),
    ("4.9.14", {}, AIPROXY, "", None),
    ("4.8.11", {}, None, NOWHERE, None),
    (None, {**AIPROXY_SET, **OPENAI_SET}, AIPROXY, "", None),
    (None, OPENAI_SET, ONE_API, "http://one-api:3000/v1", "sk-chat"),
])
def test_the_variables_mean_what_they_mean_to_that_version(version, variables, path, base, key):
    found = route(version, **variables)
    assert (found.path, found.base, found.key.value if found.key else None) == (path, base, key)


def test_only_later_versions_send_nothing_without_a_key():
    assert route("4.16.0", OPENAI_BASE_URL="http://x/v1").needs_key and not route("4.11.1", OPENAI_BASE_URL="http://x/v1").needs_key


def test_what_is_told_of_a_route_holds_no_password():
    told = route("4.11.1", OPENAI_BASE_URL="http://user:secret@one-api:3000/v1").told
    assert told == "one-api at http://***@one-api:3000/v1 (OPENAI_BASE_URL)"


@pytest.mark.parametrize("base, mode, words", [
    ("http://localhost:11434/v1", "", "names localhost, and from a container that is the container itself"),
    ("http://127.0.0.1:3000/v1", "", "its port 3000 is FastGPT's own page"),
    ("http://0.0.0.0:3000/v1", "host", "names 0.0.0.0"),
    ("one-api:3000/v1", "", "is no address"), ("'http://one-api:3000/v1'", "", "is no address"), ("http://one api/v1", "", "is no address"),
    ("http://", "", "is no address"), ("http://[::1/v1", "", "is no address"),
])
def test_a_base_url_that_cannot_work_is_told(base, mode, words):
    cause, mend = trouble_in(route("4.11.1", OPENAI_BASE_URL=base), mode)
    assert words in cause and mend


@pytest.mark.parametrize("base, mode", [("http://localhost:3001/v1", "host"), ("http://one-api:3000/v1", ""), ("https://[2001:db8::1]/api/v1", "")])
def test_a_base_url_that_can_work_is_let_through(base, mode):
    assert trouble_in(route("4.11.1", OPENAI_BASE_URL=base), mode) is None


@given(base=st.text(min_size=1), version=st.sampled_from(["4.8.11", "4.11.1", "4.16.0", None]))
def test_no_text_in_the_variable_ends_in_a_traceback(base, version):
    found = route(version, OPENAI_BASE_URL=base)
    trouble_in(found, "")
    assert found.path in (ONE_API, DIRECT) and not found.base.endswith("/")
