# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers with exactly the headers the real server gives."""

from __future__ import annotations

import json

from aiohttp import web

JSON, BARE_JSON = "application/json; charset=utf-8", "application/json"
NDJSON, EVENTS, TEXT = "application/x-ndjson", "text/event-stream", "text/plain; charset=utf-8"


def as_json(request, body, status=200, content_type=JSON):
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return as_text(request, text, status, content_type)


def as_text(request, text, status=200, content_type=TEXT):
    headers = {**request.get("headers", {}), "Content-Type": content_type}
    return web.Response(body=text.encode("utf-8"), status=status, headers=headers)


def empty(request, status):
    return web.Response(status=status, headers=request.get("headers"))


async def stream(request, content_type):
    """An open answer that is sent piece by piece."""
    response = web.StreamResponse(headers={**request["headers"], "Content-Type": content_type})
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response


async def bare(_request, response):
    """An answer without a body has no content type; aiohttp would give it one."""
    if isinstance(response, web.Response) and not response.body:
        response.headers.popall("Content-Type", None)
    response.headers.popall("Server", None)
