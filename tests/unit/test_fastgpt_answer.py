# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer of FastGPT means, whatever its status says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import DATA, ERROR, NO_ROUTE, chat_of, understand

JSON, HTML = {"content-type": "application/json"}, {"content-type": "text/html"}
STREAM = {"content-type": "text/event-stream;charset=utf-8"}


def said(status, body, headers=None):
    return understand(status, JSON if headers is None else headers, (body if isinstance(body, str) else json.dumps(body)).encode())


@pytest.mark.parametrize("status, body, headers, kind, message", [
    (404, "<!DOCTYPE html>", HTML, NO_ROUTE, "no such route"),
    (500, "<!DOCTYPE html>", HTML, ERROR, "a web page instead of JSON"),
    (200, "<!DOCTYPE html>", HTML, ERROR, "a web page instead of JSON"),
    (404, "404 page not found\n", {"content-type": "text/plain"}, NO_ROUTE, "no such route"),
    (200, {"code": 200, "data": {}}, None, DATA, ""),
    (500, {"code": 403, "statusText": "unAuthorization", "message": "m", "data": None}, None, ERROR, "m"),
    (200, {"code": 500, "message": "in a 200", "data": None}, None, ERROR, "in a 200"),
    (200, {"success": False, "message": "no"}, None, ERROR, "no"),
    (200, {"success": True, "data": 1}, None, DATA, ""),
    (200, {"errno": -111, "code": "ECONNREFUSED", "syscall": "connect"}, None, ERROR, "connect ECONNREFUSED"),
    (200, {"choices": [{"message": {"content": ""}}]}, None, ERROR, "an empty answer"),
    (200, {"choices": [{"message": {"content": "hi"}}], "error": "Connection error."}, None, ERROR, "Connection error."),
    (200, {"choices": [{"message": {"content": [{"type": "text", "text": {"content": "hi"}}]}}]}, None, DATA, ""),
    (200, "event: error\ndata: {\"message\":\"appId is empty\"}\n\n", {}, ERROR, "appId is empty"),
    (200, "data: {\"choices\":[{\"delta\":{\"content\":null}}]}\n\ndata: [DONE]\n\n", STREAM, ERROR, "an empty answer"),
    (200, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n", STREAM, DATA, ""),
    (200, "", {}, ERROR, "an empty body"),
])
def test_judged_by_content_type_and_body(status, body, headers, kind, message):
    found = said(status, body, headers)
    assert (found.kind, found.message) == (kind, message)


def test_a_failure_of_the_bridge_never_gives_its_data_away():
    found = said(200, {"success": False, "message": "x", "data": {"config": {"headers": {"Authorization": "Bearer hush"}}}})
    assert found.data is None and "hush" not in repr(found) + found.message


def test_a_chat_names_its_model_and_the_error_of_its_steps():
    steps = [{"moduleType": "workflowStart"}, {"moduleType": "chatNode", "model": "m", "errorText": "down"}]
    chat = chat_of({"choices": [{"message": {"content": ""}}], "responseData": steps})
    assert (chat.model, chat.error, chat.ok) == ("m", "down", False)


@given(status=some.integers(100, 599), body=some.one_of(some.binary(max_size=80), some.recursive(
    some.one_of(some.none(), some.booleans(), some.integers(), some.text(max_size=5)),
    lambda inner: some.one_of(some.lists(inner, max_size=3), some.dictionaries(some.sampled_from(
        ["code", "data", "message", "success", "choices", "error", "delta", "content", "responseData"]), inner, max_size=4))).map(
            lambda thing: json.dumps(thing).encode())), kind=some.sampled_from([JSON, HTML, STREAM, {}]))
def test_never_raises(status, body, kind):
    assert understand(status, kind, body).kind in (DATA, ERROR, NO_ROUTE)
