# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states in which Ollama's lines were recorded, brought about before each of them."""

from __future__ import annotations

import fnmatch
import http.client
import json
import pathlib
import shutil
import signal
import socket
import threading
import time
import urllib.parse

from ansible_collections.localmodels.fastgpt.tests.contract import replay
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_world import MID, SLOW, TEMPLATE
from ansible_collections.localmodels.fastgpt.tests.contract.wire import parse, send

REGISTRY = "127.0.0.1:5001"
RECORDED = "ollama-0.32.jsonl"
UNRESOLVED = ("create-from-missing-*", "create-quantize-quantized", "pull-default-registry-unresolvable", "pull-hf",
              "pull-registry-ollama-ai", "pull-cloud-disabled")


def prepared(story, world):
    """The story with the states that the notes of its lines describe."""
    environment_hooks(story, world)     # first, for a restart forgets the switches that others set
    upload_hooks(story, world)
    registry_hooks(story, world)
    download_hooks(story, world)
    store_hooks(story, world)
    story.only_stand_in("needs a full disk", "pull-disk-full*")
    return story


def upload_hooks(story, world):
    @story.instead("blob-post-*")
    def post(story, exchange):
        recorded = exchange.path.rpartition(":")[2]
        content = world.blobs.get(recorded, next(iter(world.blobs.values())))
        return send(story.server.url, "POST", story.words(exchange.path), {}, content)

    @story.before("create-file-not-gguf", "create-quantize-stream", "create-embed-from-files", "create-from-files-no-llama-quantize")
    def upload(story, exchange):
        for digest in exchange.body["files"].values():
            send(story.server.url, "POST", story.words("/api/blobs/" + digest), {}, world.blobs[digest.partition(":")[2]])


def registry_hooks(story, world):
    """Faults of the registry, each for one line: what a glob of ids meets. "blob" rules are for mid's weights only."""
    manifest, blob = {"path": "*/library/m/manifests/x"}, {"path": "*/library/mid/blobs/*"}
    realm = 'Bearer realm="http://%s/token",service="registry",scope="repository:library/m:pull"'
    other = "http://localhost:%s" % urllib.parse.urlsplit(world.registry.url).port
    faults = {
        "pull-manifest-412": {**manifest, "status": 412,
                              "body": "The model you are attempting to pull requires a newer version of Ollama."},
        "pull-manifest-401-no-challenge": {**manifest, "status": 401},
        "pull-manifest-401-foreign-realm": {**manifest, **challenge(realm % world.values["127.0.0.1:5002"])},
        "pull-manifest-401-same-realm": {**manifest, **challenge(realm % world.values[REGISTRY])},
        "pull-manifest-401-basic": {**manifest, **challenge('Basic realm="registry"')},
        "pull-manifest-403": {**manifest, "status": 403, "body": "denied"},
        "pull-manifest-429": {**manifest, "status": 429, "body": "slow down", "headers": {"Retry-After": "5"}},
        "pull-manifest-500*": {**manifest, "status": 500, "body": "oops"},
        "pull-manifest-not-json": {**manifest, "status": 200, "body": "not json"},
        "pull-manifest-empty-object": {**manifest, "status": 200, "body": {}},
        "pull-manifest-error-object-200": {"path": "*/captive/*", "status": 200, "body": {"errors": [{"code": "PORTAL"}]}},
        "pull-blob-404": {**blob, "status": 404},
        "pull-digest-mismatch*": {**blob, "wrong_bytes": True},
        "pull-no-location-header*": {**blob, "no_location": True},
        "pull-no-range-support": {**blob, "no_range": True},
        "pull-connection-cut-retries": {**blob, "cut_after": MID * 2 // 3},
        "pull-distribution-registry-direct": {"host": "127.0.0.1:5010", "no_location": True},
        "pull-distribution-registry-static-location": {"host": "127.0.0.1:5012", "location": "?"},
        "pull-insecure-against-tls": {"path": "*/small/*", "status": 400, "body": plain_to_tls_page()},
    }
    for ids, fault in faults.items():
        @story.before(ids)
        def broken(_story, _exchange, fault=fault):
            world.faults(fault)

        @story.after(ids)
        def healthy(_story, _exchange, _answer):
            world.faults()

    @story.before("pull-redirect-30*")
    def redirected(story, exchange):
        status = int(exchange.id.split("-")[2])
        target = other if "other-host" in exchange.id else "http://" + world.values["127.0.0.1:5002"]
        name, digest = "library/mid", weights_digest(world, "mid", "m2")
        world.faults({"path": "*/blobs/" + digest, "host": REGISTRY, "method": "GET", "status": status,
                      "headers": {"Location": "%s/v2/%s/blobs/%s" % (target, name, digest)}})

    @story.after("pull-redirect-30*")
    def done(_story, _exchange, _answer):
        world.faults()

    # The recorded page is nginx's, which tells plain HTTP on a TLS port by itself; here the registry's plain address sends it.
    @story.instead("pull-insecure-against-tls")
    def plainly(story, exchange):
        body = {**exchange.body, "model": exchange.body["model"].replace("localhost:5443", REGISTRY)}
        return send(story.server.url, "POST", exchange.path, {}, story.words(body))


def challenge(text):
    """The part of a fault that asks for credentials."""
    return {"status": 401, "headers": {"WWW-Authenticate": text}}


def plain_to_tls_page():
    """The page that nginx answered, as recorded."""
    line = next(line for line in replay.load(RECORDED) if line.id == "pull-insecure-against-tls")
    return line.response["lines"][-1]["error"].partition("400: ")[2]


def weights_digest(world, model, tag):
    manifest = json.loads((world.folder / "registry/manifests/library" / model / tag).read_text())
    return manifest["layers"][0]["digest"]


def download_hooks(story, world):
    """Downloads that are cut, shared or taken up again, from a slow registry."""
    slow = {"path": "*/library/mid/blobs/*", "method": "GET", "rate": SLOW}
    mid = [m for m in replay.load(RECORDED) if m.id == "pull-resumed-after-disconnect"][0].body

    def cut(story):
        """Begin the pull of a model that is not there, and leave it in its middle."""
        send(story.server.url, "DELETE", "/api/delete", {}, story.words({"model": mid["model"]}))
        world.faults(slow)
        return begin(story.server, story.words(mid), until=MID // 4)

    @story.before("pull-resumed-after-disconnect")
    def disconnect(story, _exchange):
        cut(story).close()
        time.sleep(1.5)     # Ollama notices within a second

    @story.after("pull-resumed-after-disconnect")
    def resumed(_story, _exchange, answer):
        first = next(line["completed"] for line in answer["lines"] if line.get("total") == MID)
        assert first >= MID // 4, "the pull began again from the start"

    @story.before("pull-resumed-after-sig*")
    def killed(story, exchange):
        connection = cut(story)
        story.server.restart(signal.SIGKILL if exchange.id.endswith("kill") else signal.SIGTERM)
        connection.close()

    @story.instead("pull-concurrent-first", "pull-concurrent-survivor")
    def together(story, exchange):
        connection = cut(story)
        answers = []
        second = threading.Thread(target=lambda: answers.append(send(story.server.url, "POST", "/api/pull", {}, story.words(mid))))
        second.start()
        time.sleep(0.3)
        if exchange.id.endswith("survivor"):
            connection.close()
            second.join()
            return answers[0]
        first = rest(connection)
        second.join()
        story.second = answers[0]
        return first

    @story.instead("pull-concurrent-second")
    def second(story, _exchange):
        return story.second

    @story.instead("pull-second-waiter-hangs")
    def hang(story, exchange):
        world.publish("mid:m3", b"none of it arrives" * 1000)
        world.faults({"path": "*/library/mid/blobs/" + weights_digest(world, "mid", "m3"), "method": "HEAD", "delay": 1.5, "status": 404})
        first = threading.Thread(target=send, args=(story.server.url, "POST", "/api/pull", {}, story.words(mid)))
        first.start()
        time.sleep(0.5)
        connection = begin(story.server, story.words(mid), until=None)
        first.join()
        lines = [connection.answer.readline() for _ in exchange.response["lines"][1:]]
        story.server.stop(signal.SIGKILL)   # a second client that leaves makes the real server panic
        story.server.start()
        return {**answer_of(connection), **parse("".join(line.decode() for line in [connection.first, *lines]), "")}

    @story.before("pull-redirect-30*", "pull-connection-cut-retries", "pull-no-range-support", "pull-corrupt-local-blob")
    def absent(story, exchange):
        send(story.server.url, "DELETE", "/api/delete", {}, story.words({"model": exchange.body["model"]}))

    @story.before("pull-corrupt-local-blob")
    def corrupt(story, _exchange):
        blob = pathlib.Path(story.server.state, "models/blobs", weights_digest(world, "mid", "m1").replace(":", "-"))
        blob.write_bytes(b"garbage")

    @story.before("pull-disk-full*")
    def full(story, _exchange):
        send(story.server.url, "PUT", "/_lab/faults", {}, {"disk_full": MID // 2})

    @story.after("pull-disk-full-nonstream")
    def room_again(story, _exchange, _answer):
        send(story.server.url, "PUT", "/_lab/faults", {}, {})


def begin(server, body, until):
    """An open connection with a pull that has fetched `until` bytes; .answer is its answer, .first its first line."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.request("POST", "/api/pull", body=json.dumps(body))
    connection.answer = connection.getresponse()
    connection.first = connection.answer.readline()
    connection.lines = [connection.first]
    while until is not None:
        connection.lines.append(connection.answer.readline())
        if json.loads(connection.lines[-1]).get("completed", 0) >= until:
            break
    return connection


def answer_of(connection):
    return {"status": connection.answer.status, "headers": {k.lower(): v for k, v in connection.answer.getheaders()}}


def rest(connection):
    """What a begun pull answers to its end."""
    raw = b"".join(connection.lines) + connection.answer.read()
    return {**answer_of(connection), **parse(raw.decode(), "application/x-ndjson")}


def environment_hooks(story, world):
    """Lines that were recorded with another environment: the server is restarted where the next line wants another."""
    environments = {
        "cors-origins-set-*": {"OLLAMA_ORIGINS": "https://app.example"}, "cors-origins-star": {"OLLAMA_ORIGINS": "*"},
        "host-other-name-all-interfaces": {"OLLAMA_HOST": "0.0.0.0:{port}"},
        "pull-https-proxy-refuses": {"HTTPS_PROXY": world.proxy_url}, "pull-http-proxy-insecure": {"HTTP_PROXY": world.proxy_url},
        "pull-tls-private-ca": {"SSL_CERT_FILE": str(world.authority)},
        "create-from-remote-base-pulled": {"SSL_CERT_FILE": str(world.authority)},
        "create-from-remote-base-not-found*": {"SSL_CERT_FILE": str(world.authority)},
        "status-no-cloud": {"OLLAMA_NO_CLOUD": "1"}, "pull-cloud-disabled": {"OLLAMA_NO_CLOUD": "1"},
        "generate-cloud-disabled": {"OLLAMA_NO_CLOUD": "1"}, "pull-changed-upstream-noprune": {"OLLAMA_NOPRUNE": "1"},
    }
    story.environment = {}

    @story.before("*")
    def restarted(story, exchange):
        wanted = next((found for ids, found in environments.items() if fnmatch.fnmatchcase(exchange.id, ids)), {})
        if wanted != story.environment:
            story.server.restart(**wanted)
            story.environment = wanted

    story.only_stand_in("here the default registry can be found", *([] if nameless() else UNRESOLVED))

    @story.before(*UNRESOLVED)
    def no_names(story, _exchange):
        if not story.real:
            send(story.server.url, "PUT", "/_lab/faults", {}, {"no_dns": True})

    @story.after(*UNRESOLVED)
    def names_again(story, _exchange, _answer):
        if not story.real:
            send(story.server.url, "PUT", "/_lab/faults", {}, {})

    complete = story.server.argv

    @story.before("*-no-llama-*")
    def without_programs(story, _exchange):
        if story.real:
            alone = world.folder / "alone" / "ollama"
            alone.parent.mkdir(exist_ok=True)
            shutil.copy2(complete[0], alone)
            story.server.argv = [str(alone), *complete[1:]]
            story.server.restart(**story.environment)
        else:
            send(story.server.url, "PUT", "/_lab/faults", {}, {"no_llama_server": True})

    @story.after("*-no-llama-*")
    def with_programs(story, _exchange, _answer):
        if story.real:
            story.server.argv = complete
            story.server.restart(**story.environment)
        else:
            send(story.server.url, "PUT", "/_lab/faults", {}, {})


def nameless():
    """Is the default registry out of reach by name, as it was when the transcripts were recorded?"""
    try:
        socket.getaddrinfo("registry.ollama.ai", 443)
    except OSError:
        return True
    return False


def store_hooks(story, world):
    """Lines that were recorded with other models installed or published."""
    tiny = list(world.blobs.values())

    @story.before("pull-success-stream")
    def first_version(_story, _exchange):
        world.publish("tiny:latest", tiny[0])

    @story.before("pull-changed-upstream-stream")
    def moved(_story, _exchange):
        world.publish("tiny:latest", tiny[1], TEMPLATE)

    @story.before("pull-legacy-name", "pull-local-suffix", "pull-uppercase-name")
    def moved_back(_story, _exchange):
        world.publish("tiny:latest", tiny[0])

    @story.before("fleet-copy-mirror-name-to-plain")
    def three_models(story, _exchange):
        only(story, [REGISTRY + "/library/tiny:latest", "127.0.0.1:5012/lab/tiny:latest", REGISTRY + "/library/small:latest"])

    @story.before("fleet-tags")
    def without_mirror(story, _exchange):
        assert REGISTRY + "/library/tiny:latest" not in installed(story)

    @story.before("create-from-remote-base-insecure-name")
    def plain_tiny(story, _exchange):
        only(story, [])

    @story.before("generate-no-llama-server")
    def named_tiny(story, _exchange):
        only(story, [REGISTRY + "/library/tiny:latest"])
        send(story.server.url, "POST", "/api/copy", {}, story.words({"source": REGISTRY + "/library/tiny:latest", "destination": "tiny"}))

    @story.before("pull-changed-upstream-blob-404")
    def old_tiny(story, _exchange):
        world.faults()
        world.publish("tiny:latest", tiny[0])
        only(story, [REGISTRY + "/library/tiny:latest"])
        world.publish("tiny:latest", tiny[0] + bytes(32), TEMPLATE)
        world.faults({"path": "*/blobs/" + weights_digest(world, "tiny", "latest"), "status": 404})

    @story.before("pull-changed-upstream-noprune")
    def there_again(_story, _exchange):
        world.faults()

    @story.before("pull-distribution-registry-direct", "pull-distribution-registry-static-location", "pull-disk-full*")
    def nothing(story, _exchange):
        only(story, [])


def installed(story):
    return {model["name"] for model in story.recorded_words(send(story.server.url, "GET", "/api/tags", {}, None))["body"]["models"]}


def only(story, names):
    """Leave exactly these models installed, pulled again where they are missing."""
    for name in installed(story) - set(names):
        send(story.server.url, "DELETE", "/api/delete", {}, story.words({"model": name}))
    for name in set(names) - installed(story):
        answer = send(story.server.url, "POST", "/api/pull", {}, story.words({"model": name, "insecure": True, "stream": False}))
        assert answer["status"] == 200, answer
