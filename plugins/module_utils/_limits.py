# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits that an Ollama server works with, from the environment of its process. Pure. Internal to this collection.

No part of the API tells them. Defaults and rules: envconfig/config.go and server/routes.go of Ollama 0.32.
"""

from __future__ import annotations

import re

GIB = 1024 ** 3
# key: (variable, its default)
_COUNTS = {"num_parallel": ("OLLAMA_NUM_PARALLEL", 1), "max_queue": ("OLLAMA_MAX_QUEUE", 512),
           "context_length": ("OLLAMA_CONTEXT_LENGTH", 0), "max_loaded_models": ("OLLAMA_MAX_LOADED_MODELS", 0)}
_TEXTS = {"keep_alive": ("OLLAMA_KEEP_ALIVE", "5m"), "load_timeout": ("OLLAMA_LOAD_TIMEOUT", "5m"),
          "kv_cache_type": ("OLLAMA_KV_CACHE_TYPE", "f16")}
KEYS = tuple(_COUNTS) + tuple(_TEXTS)
_DURATION = re.compile(r"-?\d+\Z|-?(\d+(\.\d*)?(ns|us|ms|s|m|h))+\Z")
_PER_GPU = 3  # models loaded at once, and so many without a GPU


def effective(environment, vram=None, gpus=None):
    """{key: value} for KEYS; null (None) is what nobody knows from here.

    environment: {variable: value} of the server's process, or None where it may not be read or runs elsewhere. vram: bytes of video
    memory (0: none), gpus: how many GPUs; None: unknown.
    """
    if environment is None:
        return dict.fromkeys(KEYS)
    found = {key: _count(environment.get(name), default) for key, (name, default) in _COUNTS.items()}
    found.update((key, _text(environment.get(name), default, key != "kv_cache_type")) for key, (name, default) in _TEXTS.items())
    if not found["context_length"]:
        found["context_length"] = None if vram is None else 262144 if vram >= 47 * GIB else 32768 if vram >= 23 * GIB else 4096
    if not found["max_loaded_models"]:
        found["max_loaded_models"] = None if gpus is None else _PER_GPU * max(1, gpus)
    return found


def _count(value, default):
    """As the server reads a count: what is none counts as not set."""
    value = _bare(value)
    return int(value) if value.isdigit() else default


def _text(value, default, is_time):
    value = _bare(value)
    return default if not value or is_time and not _DURATION.match(value) else value


def _bare(value):
    return (value or "").strip().strip("\"'")
