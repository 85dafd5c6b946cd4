# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does Ollama answer, and with which version? Internal to this collection."""

from __future__ import annotations

import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client


def version_at(url, timeout=5):
    """The version (str) that GET /api/version tells at `url`, or None where no Ollama answers. timeout: seconds."""
    try:
        answer = Client(url, "Ollama", timeout=timeout).request("GET", "/api/version")
    except LocalModelsError:
        return None
    body = answer.json()
    return body.get("version") if answer.status == 200 and isinstance(body, dict) else None


def wait(url, seconds, trouble, clock=time.monotonic, sleep=time.sleep):
    """Wait until Ollama answers at `url`, at most `seconds`; its version (str).

    trouble: callable -> sentence why waiting is vain, or "". Raises LocalModelsError with that sentence, or at the end of time.
    """
    end = clock() + seconds
    pause = 0.05
    while True:
        version = version_at(url)
        if version is not None:
            return version
        why = trouble()
        if not why and clock() >= end:
            why = "nothing answers GET %s/api/version after %d s" % (url, seconds)
        if why:
            raise LocalModelsError("Ollama does not come up: %s" % why)
        sleep(pause)
        pause = min(pause * 2, 1.0)
