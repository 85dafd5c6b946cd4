# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the words of an error to its cause and what to do. Pure. Internal to this collection.

The words are those of the servers themselves (tests/contract/transcripts) and of users who met them (tests/fixtures/field-failures.yml).
The first pattern that fits wins, so the more exact ones come first.
"""

from __future__ import annotations

import re

_CAUSES = (
    (r"model config not found",
     "AI Proxy knows no configuration of this model",
     "Set DISABLE_MODEL_CONFIG=true for AI Proxy, as FastGPT's own compose files do, and recreate it"),
    (r"does not exist on this endpoint",
     "AI Proxy holds a configuration of this model with another type: chat models and embedding models answer on different paths",
     "Run role fastgpt_models again, or delete the model's configuration in AI Proxy"),
    (r"does not exist or you do not have access",
     "No enabled channel of AI Proxy serves a model of this name",
     "Run role fastgpt_models: it makes a channel with exactly the names of local_models"),
    (r"upstream load is saturated",
     "AI Proxy's channel is gone, or cannot do what was asked",
     "Run role fastgpt_models: it makes the channel with type Ollama again"),
    (r"proxyconnect|lookup https? ",
     "A proxy variable of the AI Proxy container catches calls to Ollama, or is malformed",
     "Correct HTTP_PROXY and HTTPS_PROXY of the AI Proxy service, or name Ollama's host in NO_PROXY, and recreate it"),
    (r"model ['\"`].*['\"`] not found|try pulling it",
     "Ollama does not have this model",
     "Run role ollama_models: it pulls what local_models declares"),
    (r"[Mm]ismatch type ollama|unmarshal_response_body_failed",
     "What answers at the channel's address is not Ollama's own API",
     "The channel's base_url is Ollama's address without /v1: run role fastgpt_models"),
    (r"404 page not found|404 404",
     "FastGPT asks AI Proxy at a path that it does not have",
     "AIPROXY_API_ENDPOINT of FastGPT must end neither in / nor in /v1: correct it and recreate FastGPT's container; "
     "a requestUrl of the model must be empty"),
    (r"invalid token|no access token provided|401 Unauthorized",
     "AI Proxy does not accept FastGPT's key",
     "AIPROXY_API_TOKEN of FastGPT and ADMIN_KEY of AI Proxy must be the same: correct the compose file and recreate both"),
    (r"request error.*connection refused",
     "Nothing listens at the address by which AI Proxy calls Ollama",
     "Start Ollama, and let it listen on an address that containers reach: on 127.0.0.1 it hears only its own machine"),
    (r"request error.*(no such host|server misbehaving)",
     "AI Proxy's container does not know the name by which it calls Ollama",
     "Run role fastgpt_compose (playbook connect): it gives the container the network or the host name it needs"),
    (r"timeout with deadline exceeded|i/o timeout|Request timed out",
     "Ollama did not answer in time: it still loads the model, is overloaded, or a firewall drops what AI Proxy sends",
     "Ask again; if it stays so, look at Ollama's log and at the firewall between the two"),
    (r"Connection error|fetch failed|ECONNREFUSED|ENOTFOUND|EAI_AGAIN",
     "FastGPT cannot reach AI Proxy",
     "Check AIPROXY_API_ENDPOINT of FastGPT: AI Proxy's service name and its inner port, such as http://aiproxy:3000"),
    (r"Missing credentials|is not set",
     "FastGPT has no gateway: AIPROXY_API_ENDPOINT or AIPROXY_API_TOKEN is empty",
     "Set both in the compose file and recreate FastGPT's container"),
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
     "Look at the log of AI Proxy and of Ollama at this time; AI Proxy before v0.1.3 loses streams of Ollama"),
)


def cause_of(words):
    """(cause, mend) for the words (str) of an error that came back through FastGPT or AI Proxy; two empty texts where it is not known."""
    for pattern, cause, mend in _CAUSES:
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


def gateway_trouble(trouble, caller, endpoint):
    """(cause, mend) where FastGPT's container `caller` does not reach AI Proxy at `endpoint`."""
    return {
        "name": ("The container %s does not know the host in %s" % (caller, endpoint),
                 "AIPROXY_API_ENDPOINT must name AI Proxy's service, FastGPT and AI Proxy must share a Docker network, "
                 "and AI Proxy must run: `docker compose up -d`, then `docker compose ps`"),
        "refused": ("Nothing listens at %s" % endpoint,
                    "AI Proxy may still be starting. The port is its inner one (3000), not one that is published on the host"),
        "time": ("%s does not answer within the time" % endpoint, "Look at AI Proxy's log; a firewall between Docker networks drops calls as well"),
        "closed": ("%s closes the connection" % endpoint, "AI Proxy may be starting: look at its log"),
        "proxy": ("A proxy variable of the container %s catches the call" % caller, "Name AI Proxy's host in NO_PROXY of FastGPT's service"),
        "container": ("The container %s does not run" % caller, "`docker compose up -d`, then look at `docker compose logs`"),
    }.get(trouble, ("", "Look at the logs of both containers"))


def ollama_trouble(trouble, caller, url):
    """(cause, mend) where AI Proxy's container `caller` does not reach Ollama at `url`."""
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
        "proxy": ("A proxy variable of the container %s catches the call" % caller, "Name Ollama's host in NO_PROXY of AI Proxy's service"),
        "container": ("The container %s does not run" % caller, "`docker compose up -d`, then look at `docker compose logs`"),
    }.get(trouble, ("", "Look at the logs of AI Proxy and Ollama"))
