# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that the context of a model takes (its KV cache), as Ollama itself reckons before it loads a model beside another one: PredictServerVRAM
in llm/llama_server.go and effectiveLlamaServerContext in server/sched.go, 0.32. Pure. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _recipe

_BYTES = 2  # of a number, as f16; Ollama reckons so whatever OLLAMA_KV_CACHE_TYPE says


def size(shown, asked, limits):
    """Bytes (int), 0 where they cannot be known. shown: what POST /api/show says of the model (dict). asked: tokens (int) that are asked for
    with each request, 0 where none are. limits: as _limits.effective gives them."""
    info = shown.get("model_info") or {}
    architecture = info.get("general.architecture", "")

    def figures(key, default):
        """The numbers (list of int) of a key; show leaves long lists empty."""
        value = info.get("%s.%s" % (architecture, key), default)
        return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int)]

    layers, width, heads = figures("block_count", 0), figures("embedding_length", 0), figures("attention.head_count", 0)
    heads_kv, trained = figures("attention.head_count_kv", 1), figures("context_length", 0)
    tokens = asked or _recipe.parameters_in(shown.get("parameters")).get("num_ctx") or limits.get("context_length")
    if not (layers and width and heads and heads_kv and max(heads) and isinstance(tokens, int)):
        return 0
    tokens = min([tokens] + [one for one in trained if one]) * max(limits.get("num_parallel") or 1, 1)
    return 2 * layers[0] * max(1, min(heads_kv)) * (width[0] // max(heads)) * tokens * _BYTES
