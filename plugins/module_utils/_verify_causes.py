# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the words of an error to its cause and what to do. Pure. Internal to this collection.

The words are those of the servers themselves (tests/contract/transcripts) and of users who met them (tests/fixtures/field-failures.yml).
The first pattern that fits wins, so the more exact ones come first.
"""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_causes_paths import BY_PATH

# Whatever the way: the words of Ollama and of FastGPT itself.
_CAUSES = (
    (r"model ['\"`].*['\"`] not found|try pulling it",
     "Ollama does not have this model",
     "Run role ollama_models: it pulls what local_models declares"),
    (r"does not support (chat|generate)",
     "This is an embedding model, and it was asked to chat",
     "Leave type of the item out of local_models, so that Ollama says what the model is, and run role fastgpt_models"),
    (r"does not support embeddings",
     "This is a chat model, and it was asked for embeddings",
     "Leave type of the item out of local_models, so that Ollama says what the model is, and run role fastgpt_models"),
    (r"does not support tools",
     "FastGPT sends tools to a model that cannot use them",
     "Leave tools of the item out of local_models, or set it to false, and run role fastgpt_models"),
    (r"unknown model architecture",
     "This Ollama is older than the model, or dropped its architecture",
     "Set ollama_version to a release that knows it"),
    (r"more system memory|out of memory|cudaMalloc|runner process has terminated|llama-server process has terminated",
     "Ollama cannot load the model: most likely there is too little memory",
     "Take a smaller model or a smaller context, or free memory on Ollama's host; its log says more"),
    (r"maximum pending requests",
     "Ollama's queue is full",
     "Wait, or raise OLLAMA_NUM_PARALLEL and OLLAMA_MAX_QUEUE"),
    (r"\bNaN\b",
     "This build of the model computes nonsense for this text",
     "Take another quantization or another embedding model"),
    (r"Model not found|Model type not supported",
     "FastGPT does not have this model, or not as one it can ask",
     "Run role fastgpt_models"),
    (r"empty answer|response empty|Response_Empty",
     "The model's answer is empty; FastGPT reports a failed call to a model in this way too",
     "Look at the log of the gateway and of Ollama at this time; AI Proxy before v0.1.3 and one-api 0.6.8 lose streams of Ollama"),
)


def cause_of(words, path="aiproxy"):
    """(cause, mend) for the words (str) of an error that came back on one of the paths; an empty cause where it is not known."""
    for pattern, cause, mend in BY_PATH[path] + _CAUSES if path else _CAUSES:
        if re.search(pattern, words):
            return cause, mend
    return "", "The words are those of the server that failed: look at its log at this time"


# What `curl` means by its exit status (its man page).
_CURL = {5: "proxy", 6: "name", 7: "refused", 28: "time", 52: "closed", 56: "closed"}


def trouble_of(rc, said):
    """Which trouble (name, refused, time, closed, proxy, tool, container, other) a request from within a container had.

    rc: exit status of `docker exec`. said: its error stream (str).
    """
    if re.search(r"is not running|No such container|is restarting|is paused", said):
        return "container"
    if rc in (126, 127) or "executable file not found" in said:
        return "tool"
    if rc in _CURL and "curl:" in said:
        return _CURL[rc]
    for pattern, trouble in ((r"bad address|ENOTFOUND|EAI_AGAIN|not known", "name"),
                             (r"refused|ECONNREFUSED", "refused"), (r"timed out|ETIMEDOUT|timeout", "time")):
        if re.search(pattern, said):
            return trouble
    return "other"


def gateway_trouble(trouble, caller, url, gateway="AI Proxy", variable="AIPROXY_API_ENDPOINT"):
    """(cause, mend) where FastGPT's container `caller` does not reach its gateway (name for people) at `url`, as its `variable` says."""
    return {
        "name": ("The container %s does not know the host in %s" % (caller, url),
                 "%s must name the service or container of %s, FastGPT and it must share a Docker network, "
                 "and it must run: `docker compose up -d`, then `docker compose ps`. Playbook connect brings back a container that left its network"
                 % (variable, gateway)),
        "refused": ("Nothing listens at %s" % url,
                    "%s may still be starting. The port is its inner one (3000), not one that is published on the host" % gateway),
        "time": ("%s does not answer within the time" % url, "Look at the log of %s; a firewall between Docker networks drops calls as well" % gateway),
        "closed": ("%s closes the connection" % url, "%s may be starting: look at its log" % gateway),
        "proxy": ("A proxy variable of the container %s catches the call" % caller, "Name the host of %s in NO_PROXY of FastGPT's service" % gateway),
        "container": ("The container %s does not run" % caller, "`docker compose up -d`, then look at `docker compose logs`"),
    }.get(trouble, ("", "Look at the logs of both containers"))


def ollama_trouble(trouble, caller, url):
    """(cause, mend) where the container `caller` (the gateway's, or FastGPT's own) does not reach Ollama at `url`."""
    return {
        "name": ("The container %s does not know the host in %s" % (caller, url),
                 "Run role fastgpt_compose (playbook connect): it lets the container join Ollama's network, or gives it "
                 "the name host.docker.internal. If that is done, Ollama's container does not run: role ollama starts it"),
        "refused": ("Nothing listens at %s" % url,
                    "Start Ollama (role ollama). If it runs, it listens on 127.0.0.1 only, which is its own machine: set ollama_listen to "
                    "an address that containers reach"),
        "time": ("%s does not answer within the time" % url,
                 "A firewall drops the call, or the address is that of another machine: allow port 11434 from the FastGPT host"),
        "closed": ("%s closes the connection" % url, "Ollama may be starting, or something else listens on its port"),
        "proxy": ("A proxy variable of the container %s catches the call" % caller, "Name Ollama's host in NO_PROXY of that container's service"),
        "container": ("The container %s does not run" % caller, "`docker compose up -d`, then look at `docker compose logs`"),
    }.get(trouble, ("", "Look at the logs of %s and Ollama" % caller))
