# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry says about models before they are pulled."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from types import SimpleNamespace

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _registry
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found, read_wanted
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving

MANIFEST = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": "sha256:" + "c" * 64, "size": 561},
            "layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + "a" * 64, "size": 2019377376},
                       {"mediaType": "application/vnd.ollama.image.params", "digest": "sha256:" + "b" * 64, "size": 96,
                        "from": "base:latest"}]}
COMPACT = json.dumps(MANIFEST, separators=(",", ":")).encode()
PATH = "/v2/library/tiny/manifests/latest"


def name_at(host):
    return ModelName.parse("%s/library/tiny" % host)


def test_a_manifest_tells_digest_blobs_and_size():
    with serving({("GET", PATH): (200, COMPACT)}) as registry:
        manifest = _registry.read(name_at(registry.host), insecure=True, version="0.32.15")
        assert manifest.digest == hashlib.sha256(COMPACT).hexdigest()
        assert manifest.size == 2019377376 + 96 + 561
        assert manifest.weights == "sha256:" + "a" * 64
        assert set(manifest.blobs) == {"sha256:" + letter * 64 for letter in "abc"}
        assert registry.headers[0]["Accept"] == _registry.ACCEPT
        assert registry.headers[0]["User-Agent"].startswith("ollama/0.32.15 (")


def test_one_model_has_one_identity_however_its_manifest_is_written():
    """Servers before 0.19 wrote manifests anew; the registry names the digest in a header; layers decide in the end."""
    spaced = json.dumps(dict(reversed(list(MANIFEST.items()))), indent=1).encode()
    manifest = _registry.Manifest(spaced, "sha256:" + "d" * 64)
    name = ModelName.parse("tiny")
    assert hashlib.sha256(spaced).hexdigest() != hashlib.sha256(COMPACT).hexdigest()
    made_here_and_pushed = hashlib.sha256(COMPACT + b"\n").hexdigest()
    for digest in (hashlib.sha256(spaced).hexdigest(), hashlib.sha256(COMPACT).hexdigest(), "d" * 64, made_here_and_pushed):
        assert manifest.is_the_same(Found(name, digest))
    other = Found(name, "e" * 64)
    assert not manifest.is_the_same(other)
    other.blobs = set(manifest.blobs)
    assert manifest.is_the_same(other)
    other.blobs = set(manifest.blobs) - {"sha256:" + "b" * 64}
    assert not manifest.is_the_same(other)


@pytest.mark.parametrize("answer, kind, said", [
    ((404, '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'), _registry.Unknown, "has no model tiny:latest"),
    ((412, "requires a newer version"), _registry.Unfit, "only to a newer Ollama than 0.32.15"),
    ((200, "{}"), _registry.Unfit, "something that is no model"),
    ((200, '{"errors":[]}'), _registry.Unfit, "something that is no model"),
    ((200, "[]"), _registry.Unfit, "something that is no model"),
    ((200, "<html>Please log in</html>"), _registry.Unfit, "something that is no model"),
    ((401, "who are you"), _registry.Unreadable, "answered 401"),
    ((429, "slow down"), _registry.Unreadable, "answered 429"),
    ((502, "<html>"), _registry.Unreadable, "answered 502"),
    ((307, "", {"Location": PATH}), _registry.Unreadable, "answered 307"),
])
def test_answers_that_are_no_manifest(answer, kind, said):
    with serving({("GET", PATH): answer}) as registry:
        with pytest.raises(kind) as caught:
            _registry.read(name_at(registry.host), insecure=True, version="0.32.15", sleep=lambda seconds: None)
    assert said in str(caught.value)


def test_redirects_are_followed_as_ollama_follows_them():
    with serving({("GET", PATH): (307, "", {"Location": "/elsewhere?x=1"}), ("GET", "/elsewhere?x=1"): (200, COMPACT)}) as registry:
        assert _registry.read(name_at(registry.host), insecure=True).size > 0


def test_a_cloud_model_is_a_config_without_layers():
    assert _registry.Manifest(json.dumps(dict(MANIFEST, layers=None)).encode()).size == 561


def test_a_registry_that_is_down_is_no_verdict_about_the_model():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(_registry.Unreadable) as caught:
        _registry.read(name_at("127.0.0.1:%d" % port), insecure=True)
    assert "refuses the connection" in caught.value.what


def test_a_whole_list_is_asked_for_at_once():
    """20 models cost as long as the slowest answer: nobody answers before the last one has asked."""
    together = threading.Barrier(20, timeout=10)

    def answer(handler):
        together.wait()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(COMPACT)))
        handler.end_headers()
        handler.wfile.write(COMPACT)

    with serving({("GET", "/v2/library/m%d/manifests/latest" % number): answer for number in range(20)}) as registry:
        wanted = read_wanted([{"name": "%s/library/m%d" % (registry.host, number), "insecure": True} for number in range(20)])
        manifests, problems = _registry.read_all(wanted)
    assert len(manifests) == 20 and problems == {}


def test_many_models_are_asked_for_at_once_and_each_gets_its_own_answer():
    with serving({("GET", PATH): (200, COMPACT), ("GET", "/v2/library/odd/manifests/v1"): (500, "oops")}) as registry:
        wanted = read_wanted([{"name": "%s/library/%s" % (registry.host, model), "insecure": True} for model in ("tiny", "odd:v1", "none")])
        manifests, problems = _registry.read_all(wanted)
    assert list(manifests) == [wanted[0].name.key]
    assert {key: type(problem) for key, problem in problems.items()} == {
        wanted[1].name.key: _registry.Unreadable, wanted[2].name.key: _registry.Unknown}


@pytest.mark.parametrize("insecure, scheme", [(False, "https"), (True, "http")])
def test_a_registry_is_asked_by_tls_unless_it_is_insecure_through_the_proxy_of_the_environment_and_not_for_ever(monkeypatch, insecure, scheme):
    made = []

    class Client:
        def __init__(self, url, hop, headers, timeout, use_proxy):
            made.append((url, timeout, use_proxy))

        def request(self, method, path):
            return SimpleNamespace(status=200, headers={}, body=COMPACT)

    monkeypatch.setattr(_registry, "Client", Client)
    wanted = read_wanted([{"name": "r.example/lab/tiny", "insecure": insecure}])
    assert len(_registry.read_all(wanted, timeout=3)[0]) == 1
    assert made == [(scheme + "://r.example", 3, True)]


@pytest.mark.parametrize("hops, found", [(4, True), (5, False)])
def test_a_registry_that_leads_in_circles_is_followed_five_times(hops, found):
    answers = {("GET", "/%d" % number): (307, "", {"Location": "/%d" % (number + 1)}) for number in range(1, hops)}
    answers.update({("GET", PATH): (307, "", {"Location": "/1"}), ("GET", "/%d" % hops): (200, COMPACT)})
    with serving(answers) as registry:
        if found:
            assert _registry.read(name_at(registry.host), insecure=True).size > 0
        else:
            with pytest.raises(_registry.Unreadable, match="answered 307"):
                _registry.read(name_at(registry.host), insecure=True)


def test_a_registry_that_is_busy_is_asked_again_when_it_says():
    answers = [(503, "busy", {"Retry-After": "3"}), (429, "busy"), (200, COMPACT)]
    slept = []
    with serving({("GET", PATH): lambda handler: None}) as registry:
        registry.answers[("GET", PATH)] = lambda handler: reply(handler, *answers.pop(0))
        assert _registry.read(name_at(registry.host), insecure=True, sleep=slept.append).size
    assert slept == [3, 2]


def test_a_registry_that_stays_busy_is_no_verdict_about_the_model():
    slept = []
    with serving({("GET", PATH): (429, "busy", {"Retry-After": "3600"})}) as registry:
        with pytest.raises(_registry.Unreadable, match="answered 429"):
            _registry.read(name_at(registry.host), insecure=True, sleep=slept.append)
    assert slept == [_registry.LONGEST_PAUSE] * 2


def reply(handler, status, body, headers=()):
    body = body if isinstance(body, bytes) else body.encode()
    handler.send_response(status)
    for name, value in dict(headers, **{"Content-Length": str(len(body))}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
