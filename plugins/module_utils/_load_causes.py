# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why Ollama does not load a model, from its words, and what to do about it. Pure. Internal to this collection.

The words are those of Ollama 0.32 and 0.34 (recorded: tests/contract/transcripts), of llama.cpp, and of users who met them
(tests/fixtures/field-failures.yml, layer model). The first pattern that fits wins.
"""

from __future__ import annotations

import re

_CAUSES = tuple((re.compile(pattern, re.IGNORECASE), cause, mend) for pattern, cause, mend in (
    (r"unknown model architecture|unknown pre-tokenizer|unsupported model architecture",
     "this Ollama is older than the model, or dropped its architecture",
     "Upgrade Ollama on its host to a release that knows it (ollama_version) and restart it: the version of the running server counts"),
    (r"llama-server binary not found",
     "this Ollama was installed without llama-server, which does the work",
     "Install the whole release: role ollama, or lib/ollama of the release archive beside the program"),
    (r"more system memory|out of memory|cudaMalloc|insufficient memory|failed to allocate|unable to allocate",
     "it needs more memory than is free",
     "Take a smaller model, quantization or num_ctx, unload another model, or free memory on Ollama's host"),
    (r"maximum pending requests|server busy",
     "the queue of Ollama is full",
     "Run again later; raise OLLAMA_NUM_PARALLEL or OLLAMA_MAX_QUEUE, lower FastGPT's concurrency of indexing, or look for a load that hangs"),
    (r"before (llama-)?server finished loading|aborting load|timed out waiting for (llama )?(server|runner)",
     "the load was given up before it was done",
     "The disk or the memory of Ollama's host is slow for this model: run again, raise OLLAMA_LOAD_TIMEOUT, or take a smaller model"),
    (r"llama-server process has terminated|runner process has terminated|llama runner process",
     "the process that computes it ended",
     "Most likely there is too little memory, or the file is damaged: the log of Ollama says more. A smaller model or num_ctx helps, or pull it again"),
    (r"invalid file magic|failed to load model|unable to load model",
     "its file is no model that this Ollama can read",
     "Delete the model and pull it again; a file of one's own has to be GGUF"),
    (r"does not support tools",
     "its template has no tools",
     "Take tools out of the item of local_models, or declare a model whose capabilities hold tools; a file from elsewhere lacks the library's template"),
    (r"does not support (generate|chat)",
     "it is an embedding model, and was asked to chat",
     "Leave type out of the item of local_models: Ollama says what the model is"),
    (r"does not support embeddings|--embeddings",
     "it is a chat model, and was asked for embeddings",
     "Declare an embedding model for that, such as bge-m3"),
    (r"option \"?(?P<option>\w+)\"? must be of type",
     "one of its parameters has a value of the wrong type",
     "Declare the model with from and parameters of the right type; whoever made it did not check them"),
    (r"ollama cloud is disabled",
     "it runs in the cloud of Ollama, which is switched off on this server",
     "Declare a local model"),
))


def cause_of(said):
    """(cause, mend) for the words (str) of Ollama; two empty texts where they are not known."""
    for pattern, cause, mend in _CAUSES:
        if pattern.search(said):
            return cause, mend
    return "", ""
