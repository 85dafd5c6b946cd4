# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Causes that belong to one way from FastGPT to Ollama, each with what to do. Pure data. Internal to this collection.

(pattern, cause, mend); the first one that fits wins, so the more exact ones come first. See _verify_causes. one-api's words are Chinese; what
Ollama says to it is lost, and only the status is left (tests/contract/transcripts/one-api-0.6.jsonl, `relay-*`).
"""

from __future__ import annotations

_NO_KEY = (r"Missing credentials|is not set",
           "FastGPT sends no request, for it has no key: CHAT_API_KEY is empty",
           "Run role fastgpt_compose (playbook connect), or set CHAT_API_KEY in the compose file, and recreate FastGPT's container")
# FastGPT keeps such an address in its database or config.json, where its pages and old versions set it.
_ELSEWHERE = ("If the hops above are well, FastGPT calls another address than OPENAI_BASE_URL: systemEnv.oneapiUrl in its settings or config.json "
              "goes before it")

AIPROXY = (
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
)

ONE_API = (
    (r"[无無]效的令牌|未提供令牌|user id is empty",
     "one-api does not know FastGPT's key",
     "CHAT_API_KEY of FastGPT must be a token of this one-api: run roles one_api and fastgpt_compose (playbook connect). A key with a dash "
     "behind sk- is cut there"),
    (r"令牌已[过過]期|令牌状态不可用|令牌狀態不可用",
     "FastGPT's token in one-api has expired or is switched off",
     "Run role one_api (playbook connect), which puts its own token right, or change the token in one-api's pages"),
    (r"令牌[额額]度已用尽|令牌額度已用盡|quota is not enough|insufficient_user_quota",
     "The quota of FastGPT's token, or of the user whom it belongs to, is used up",
     "Give the token no limit and the user a quota in one-api's pages: a token without limit still needs a user with quota"),
    (r"令牌[无無][权權]使用模型",
     "FastGPT's token in one-api has a list of models, and this one is not in it",
     "Add the name to the token's list, or empty the list, in one-api's pages (module one_api_token)"),
    (r"[无無]可用渠道|[数數]据库一致性",
     "No enabled channel of one-api serves a model of exactly this name in the group that is named",
     "Run role fastgpt_models (playbook connect): it makes a channel with exactly the names of local_models. The owner of FastGPT's token "
     "must be in a group of the channel. With MEMORY_CACHE_ENABLED or Redis a new channel works after SYNC_FREQUENCY seconds"),
    (r"do request failed.*connection refused",
     "Nothing listens at the address by which one-api calls Ollama",
     "Start Ollama, and let it listen on an address that containers reach: on 127.0.0.1 it hears only its own machine"),
    (r"do request failed.*(no such host|server misbehaving)",
     "one-api's container does not know the name by which it calls Ollama",
     "Run role one_api (playbook connect): it gives the container the network or the host name it needs"),
    (r"do request failed.*proxyconnect",
     "A proxy variable of one-api's container catches calls to Ollama",
     "Name Ollama's host in NO_PROXY of one-api's service (one_api_environment)"),
    (r"do request failed",
     "one-api does not reach Ollama",
     "Look at one-api's log and at the firewall between the two"),
    (r"answered 307|answered 404: \(request id|^404 ?\(request id|bad_response_status_code.*404",
     "Ollama answered one-api that it has no such model or no such path; one-api drops the words",
     "Run role ollama_models (the model), and role fastgpt_models (the channel's address has neither /v1 nor / at its end)"),
    (r"answered 4\d\d: \(request id|answered 501: \(request id",
     "Ollama refused what was asked, and one-api drops its words: mostly an embedding model that was asked to chat, or the other way round",
     "Leave type of the item out of local_models, so that Ollama says what the model is, and run role fastgpt_models; Ollama's log says more"),
    (r"answered 5\d\d: \(request id",
     "Ollama failed, and one-api drops its words: most likely there is too little memory for the model",
     "Look at Ollama's log; take a smaller model or a smaller context"),
    (r"new request failed|invalid character '<'|answered 404: Not Found",
     "What answers at the channel's address is not Ollama's own API, or the address is none",
     "The channel's base_url is Ollama's address, http:// included and without /v1: run role fastgpt_models (playbook connect)"),
    (r"[负負][载載]已[饱飽]和",
     "Ollama's queue is full",
     "Wait, or raise OLLAMA_NUM_PARALLEL and OLLAMA_MAX_QUEUE"),
    (r"^\s*\(request id",
     "Ollama refused what one-api asked, and one-api drops its words",
     "Look at Ollama's log at this time: a missing model, an embedding model that was asked to chat, too little memory"),
    (r"Invalid URL \(|404 404|a web page instead of JSON|<!doctype|<html",
     "FastGPT asks one-api at a path that it does not have",
     "OPENAI_BASE_URL of FastGPT must be one-api's address with /v1 behind, and a requestUrl of the model must be empty: run role "
     "fastgpt_compose (playbook connect)"),
    (r"Connection error|fetch failed|ECONNREFUSED|ENOTFOUND|EAI_AGAIN|Invalid URL", "FastGPT cannot reach one-api", _ELSEWHERE),
    _NO_KEY,
)

DIRECT = (
    (r"404 page not found|404 404|no such route",
     "FastGPT asks Ollama at a path that it does not have",
     "OPENAI_BASE_URL of FastGPT must be Ollama's address with /v1 behind, and a requestUrl of the model must be empty: run role "
     "fastgpt_compose (playbook connect)"),
    (r"Connection error|fetch failed|ECONNREFUSED|ENOTFOUND|EAI_AGAIN|Invalid URL", "FastGPT cannot reach Ollama", _ELSEWHERE),
    (r"Request timed out|i/o timeout",
     "Ollama did not answer in time: it still loads the model, is overloaded, or a firewall drops what FastGPT sends",
     "Ask again; if it stays so, look at Ollama's log and at the firewall between the two"),
    _NO_KEY,
)

BY_PATH = {"aiproxy": AIPROXY, "one_api": ONE_API, "direct": DIRECT}
