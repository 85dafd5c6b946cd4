# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Ollama somewhere else: TLS, client certificates, users, proxies. What is secret is never shown."""

from __future__ import annotations

import base64
import json
import os
from types import SimpleNamespace

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _ollama_options
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Client
from ansible_collections.localmodels.fastgpt.plugins.module_utils._ollama import Ollama
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_info, ollama_models
from ansible_collections.localmodels.fastgpt.tests.unit.gate import standing
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import call
from ansible_collections.localmodels.fastgpt.tests.unit.small_server import serving, streaming
from ansible_collections.localmodels.fastgpt.tests.unit.test_ollama_modules import MANIFEST, tags

PASSWORD = "p@ss:w/rd %hidden"
WRITTEN = "p%40ss%3Aw%2Frd%20%25hidden"
ANSWERS = {("GET", "/api/tags"): tags("x:latest"), ("GET", "/api/ps"): (200, {"models": []}), ("GET", "/api/version"): (200, {"version": "0.32.15"})}


@pytest.fixture()
def gate(tmp_path):
    with serving(dict(ANSWERS)) as server, standing(tmp_path, server.url, "ops", PASSWORD, client_certs=True) as found:
        yield found


def secrets():
    pairs = [base64.b64encode(("ops:" + word).encode()).decode() for word in (PASSWORD, "wrong-hidden")]
    return [PASSWORD, WRITTEN, "hidden"] + pairs


def ask(capsys, module=ollama_models, **options):
    """The result, after nothing secret was found in what was printed."""
    result = call(module, capsys, **options)
    assert not [one for one in secrets() if one in json.dumps(result)]
    return result


def ways(gate):
    return {"url": gate.url, "ca_path": gate.ca, "client_cert": gate.cert, "client_key": gate.key, "models": ["x"]}


@pytest.mark.parametrize("module", [ollama_models, pytest.param(ollama_info, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("who", ["options", "url", "header"])
def test_a_server_behind_tls_a_client_certificate_and_a_password(capsys, gate, module, who):
    options = ways(gate)
    if who == "options":
        options.update(url_username="ops", url_password=PASSWORD)
    elif who == "url":
        options["url"] = gate.url.replace("://", "://ops:%s@" % WRITTEN)
    else:
        options["headers"] = {"Authorization": "Basic " + secrets()[3]}
    result = ask(capsys, module, **options)
    assert not result.get("failed") and gate.passed[0] == "GET /api/tags"
    if module is ollama_models:
        assert result["diff"]["before_header"] == ("models at %s" % gate.url if who != "url" else "models at https://***@" + gate.host)


def test_options_of_the_way_to_the_server_reach_its_client():
    params = {name: option.get("default") for name, option in _ollama_options.ARGUMENT_SPEC.items()}
    module = SimpleNamespace(params=dict(params, url="https://ops:hidden@h", timeout=7, headers={"X-Key": "key-hidden", "X-Number": 5}), no_log_values=set())
    client = _ollama_options.ollama_for(module).client
    assert (client.timeout, client.base_url, module.no_log_values) == (7, "https://h", {"hidden"})
    assert {"key-hidden", "5", "hidden"} <= set(client.secrets) and client.headers["X-Number"] == "5"


def test_a_key_in_the_same_file_as_the_certificate(capsys, gate, tmp_path):
    with open(gate.cert, encoding="ascii") as cert, open(gate.key, encoding="ascii") as key:
        (tmp_path / "both.pem").write_text(cert.read() + key.read())
    options = dict(ways(gate), client_cert=str(tmp_path / "both.pem"), url_username="ops", url_password=PASSWORD)
    del options["client_key"]
    assert not ask(capsys, **options).get("failed")


@pytest.mark.parametrize("change, said", [
    ({"url_password": "wrong-hidden"}, "answered 401: 401 Authorization Required: Basic ***. Something before Ollama asks for credentials,"
                                       " which Ollama itself never does: give them with url_username and url_password, or with headers."),
    ({"url_username": None, "url_password": None}, "answered 401"),
    ({"client_cert": None, "client_key": None}, "client certificate"),
    ({"client_cert": "stranger_cert", "client_key": "stranger_key"}, "client certificate"),
    ({"ca_path": None}, "shows a certificate that is not trusted"),
    ({"ca_path": "stranger_cert"}, "shows a certificate that is not trusted"),
    ({"ca_path": "/nowhere/ca.pem"}, "ca_path /nowhere/ca.pem cannot be used: No such file or directory"),
    ({"client_cert": "/nowhere/c.pem"}, "client_cert /nowhere/c.pem with client_key"),
    ({"client_key": "stranger_key"}, "cannot be used: [X509: KEY_VALUES_MISMATCH]"),
])
def test_what_is_wrong_is_named(capsys, gate, change, said):
    change = {key: getattr(gate, value) if value in ("stranger_cert", "stranger_key") else value for key, value in change.items()}
    options = dict(ways(gate), url_username="ops", url_password=PASSWORD, **{})
    options.update(change)
    result = ask(capsys, **{key: value for key, value in options.items() if value is not None})
    assert result["failed"] and said in result["msg"], result["msg"]
    assert gate.passed == []


def test_certificates_need_not_be_checked(capsys, gate):
    options = dict(ways(gate), url_username="ops", url_password=PASSWORD, validate_certs=False)
    del options["ca_path"]
    assert not ask(capsys, **options).get("failed")


@pytest.mark.parametrize("answer, said", [
    ((301, "", {"Location": "https://ops:hidden@elsewhere/"}), "it is elsewhere, at https://***@elsewhere/. Use the address of Ollama itself"),
    ((400, "<html>400 No required SSL certificate was sent</html>"), "a client certificate is missing or not accepted. Give it with client_cert"),
])
def test_answers_of_a_proxy_before_ollama(capsys, answer, said):
    with serving({("GET", "/api/tags"): answer}) as server:
        assert said in ask(capsys, url=server.url, models=["x"])["msg"]


def test_a_proxy_is_used_only_if_that_is_said(capsys, monkeypatch):
    with serving({("GET", "http://gpu.example.org:11434/api/tags"): tags("x:latest")}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://me:hidden@"))
        result = ask(capsys, url="http://gpu.example.org:11434", models=["x"], use_proxy=True)
        assert result["changed"] is False and len(proxy.asked) == 1
        assert proxy.headers[0]["Proxy-Authorization"].startswith("Basic ")
        assert ask(capsys, url="http://127.0.0.1:9", models=["x"])["failed"] and len(proxy.asked) == 1


def test_a_proxy_that_refuses_is_named(capsys, monkeypatch):
    with serving({}) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("://", "://me:hidden@"))
        result = ask(capsys, url="https://gpu.example.org", models=["x"], use_proxy=True)
    assert "is not reached by way of the proxy" in result["msg"] and "use_proxy: false" in result["msg"]


@pytest.mark.parametrize("item, path, said", [
    ("x", "/api/pull", streaming([{"status": "pulling manifest"}, {"error": "you sent hidden-key and %s" % PASSWORD}])),
    ("x", "/api/pull", (500, {"error": "you sent hidden-key and %s" % PASSWORD})),
    ({"name": "x", "from": "base"}, "/api/create", streaming([{"error": "you sent hidden-key and %s" % PASSWORD}])),
    ({"name": "base", "state": "loaded"}, "/api/generate", (500, {"error": "failed to load model: hidden-key"}))])
def test_what_a_proxy_repeats_of_a_secret_stands_in_no_result_and_in_no_progress(capsys, tmp_path, item, path, said):
    answers = dict(ANSWERS)
    answers.update({("POST", path): said, ("GET", "/api/tags"): tags("base:latest"), ("GET", "/v2/library/x/manifests/latest"): (200, MANIFEST)})
    with serving(answers) as server:
        item = "%s/library/x" % server.host if item == "x" else item
        result = ask(capsys, url=server.url, models=[item], headers={"X-Key": "hidden-key"}, url_username="ops", url_password=PASSWORD,
                     insecure=True, capacity="ignore", retries=0, progress_path=str(tmp_path / "progress"))
    assert result["failed"] and "***" in result["msg"]
    for name in os.listdir(tmp_path):
        text = (tmp_path / name).read_text()
        assert not [one for one in secrets() if one in text], text


@pytest.mark.parametrize("call_it", [
    lambda ollama: ollama.create("x", {"from": "y"}), lambda ollama: ollama.load("x", -1), lambda ollama: ollama.pull("x"),
    lambda ollama: ollama.put_blob("sha256:a", b"1", 1, 5), lambda ollama: ollama.show("x"), lambda ollama: ollama.delete("x")])
def test_no_error_repeats_what_is_secret(call_it):
    """Progress is written before Ansible takes secrets out of a result."""
    asked = [("DELETE", "/api/delete"), ("POST", "/api/blobs/sha256:a")] + [("POST", "/api/" + one) for one in ("create", "generate", "pull", "show")]
    with serving(dict.fromkeys(asked, (500, {"error": "failed to load model: hidden-key"}))) as server:
        with pytest.raises(LocalModelsError) as caught:
            call_it(Ollama(Client(server.url, "Ollama", secrets=["hidden-key"])))
    assert "***" in str(caught.value) and "hidden-key" not in str(caught.value)


@pytest.mark.parametrize("url, secret", [
    ("http://h:1", set()), ("https://ops:p%40ss@h", {"p%40ss", "p@ss"}), ("https://token@h", {"token"}), ("http://[::1", set()), ("https://me:@h", {"me"}),
    ("https://me:p/w#x@h", {"p/w#x"}), ("me:pw@h", {"pw"}),
])
def test_what_is_secret_in_an_address(url, secret):
    assert _ollama_options.in_url(url) == secret
