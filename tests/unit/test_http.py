# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import socket
import ssl
import threading
import time
import urllib.error
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, Unreachable, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt_answer import ERROR, understand
from ansible_collections.localmodels.fastgpt.plugins.module_utils._http import Answer, Client, _Patient, _tls_context, explain


class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        status = int(self.path.strip("/") or 200)
        self.send_response(status)
        if status == 307:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "15")
        self.end_headers()
        self.wfile.write(b'{"said":"hallo"}'[:15])

    def log_message(self, *args):
        pass


@pytest.fixture()
def server():
    echo = HTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=echo.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True).start()
    yield "http://127.0.0.1:%d" % echo.server_port
    echo.shutdown()
    echo.server_close()


@pytest.mark.parametrize("status", [200, 404, 500, 307])
def test_every_status_is_an_answer_and_redirects_are_not_followed(server, status):
    assert Client(server, "Ollama").request("GET", "/%d" % status).status == status


def test_a_proxy_variable_does_not_catch_local_calls(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert Client(server, "Ollama").request("GET", "/200").status == 200
    with pytest.raises(Unreachable):
        Client(server, "Ollama", use_proxy=True).request("GET", "/200")


def test_nobody_listens_is_said_with_address_and_mend():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unreachable) as said:
        Client("http://127.0.0.1:%d" % port, "AI Proxy").request("GET", "/")
    assert str(said.value).startswith("AI Proxy at http://127.0.0.1:%d refuses the connection. " % port)
    assert said.value.mend


@pytest.mark.parametrize("url", ["localhost:11434", "ftp://x", "", "http://", "http://[::1", "http://[x]", "http://a..b:1", "http://%s.org" % ("a" * 64),
                                 "http://h:port", "http://h:65536", "http://h h", "http://h:1\n", "http://h/a b"])
def test_an_address_that_is_none(url):
    with pytest.raises(LocalModelsError, match="is no address of Ollama. Give scheme, host and port, such as http://192.0.2.10:11434.$"):
        Client(url, "Ollama")


@pytest.mark.parametrize("url, shown", [
    ("http://me:s3/cret@gpu:11434", "'http://***@gpu:11434' is no address"), ("http://me:12/s3cret@gpu", "'http://***@gpu' is no address"),
    ("me:s3cret@gpu:11434", "'***@gpu:11434' is no address"), ("http//me:s3cret@gpu", "'***@gpu' is no address"),
    ("http://s3cret/x@gpu", "'http://***@gpu' is no address"), ("http://me:s3cret@[gpu", "'http://[gpu' is no address")])
def test_a_password_is_not_shown_where_it_makes_an_address_none(url, shown):
    with pytest.raises(LocalModelsError) as caught:
        Client(url, "Ollama")
    assert shown in str(caught.value) and "s3" not in str(caught.value) and "cret" not in str(caught.value)
    assert ("each / is written as %2F" in str(caught.value)) == ("***" in shown)


@pytest.fixture
def bare(monkeypatch):
    """Without the certificates of this host, which take long to read."""
    def context(cafile=None):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if cafile:
            made.load_verify_locations(cafile)
        return made

    monkeypatch.setattr(ssl, "create_default_context", context)


@pytest.mark.parametrize("url", ["http://h", "HTTPS://h:443/", "http://[::1]:11434", "http://h_1.example.org./prefix/", "http://\u00e9.example.org"])
def test_an_address_of_any_form_is_taken(url, bare):
    assert Client(url, "Ollama").base_url == url.rstrip("/")


@pytest.mark.parametrize("problem, said, mend", [
    (socket.gaierror(-2, "x"), "the name does not resolve", "DNS"), (ConnectionRefusedError(), "refuses the connection", "Nothing listens there"),
    (socket.timeout(), "did not answer in time", "longer timeout"), (urllib.error.URLError(TimeoutError()), "did not answer in time", "longer timeout"),
    (ConnectionResetError("cut"), "closed the connection in mid-answer (cut)", "may be restarting"),
    (http.client.IncompleteRead(b""), "closed the connection in mid-answer", "may be restarting"),
    (http.client.RemoteDisconnected("gone"), "closed the connection in mid-answer (gone)", "may be restarting"),
    (ssl.SSLEOFError(8, "eof"), "closes the connection instead of a TLS handshake", "http:// or https://"),
    (ssl.SSLError(1, "wrong version number"), "does not speak TLS as asked", "http:// or https://"),
    (OSError("Tunnel connection failed: 407 who"), "is not reached by way of the proxy", "use_proxy: false"),
    (OSError(113, "No route to host"), "cannot be reached ([Errno 113] No route to host)", "")])
def test_what_an_error_of_the_network_means(problem, said, mend):
    what, todo = explain(problem)
    assert said in what and mend in todo and bool(todo) == bool(mend)


def test_of_secrets_that_begin_alike_the_longest_is_hidden_as_a_whole():
    assert scrub("key-long and key", ["", "key", "key-long"]) == "*** and ***"


def test_scrub_hides_given_secrets_user_info_and_bearer_tokens():
    text = scrub('http://me:pw@gpu1/ failed, {"Authorization": "Bearer abc-123"}, key=s3cret', ["s3cret"])
    assert text == 'http://***@gpu1/ failed, {"Authorization": "Bearer ***"}, key=***'


@pytest.mark.parametrize("said, seconds", [("7", 7), (" 7 ", 7), ("0", 0), ("", None), ("soon", None), ("-3", None), ("\u00b2", None),
                                           (email.utils.formatdate(0), 0)])
def test_how_long_a_server_asks_to_wait(said, seconds):
    assert Answer(503, {"retry-after": said}, b"").retry_after == seconds


def test_a_server_may_ask_to_wait_until_a_time():
    until = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 50 < Answer(429, {"retry-after": until}, b"").retry_after <= 60


@pytest.mark.parametrize("body, words", [
    (b"<html>\r\n<head><title>401 Authorization Required</title><style>a {}</style></head>\r\n<body><hr>nginx</body></html>",
     "answered 401: 401 Authorization Required nginx"),
    (b'{"error": "a <b> c"}', 'answered 401: {"error": "a <b> c"}'), (b"<html></html>", "answered 401: an empty body"),
])
def test_the_page_of_a_proxy_is_told_by_its_words(body, words):
    assert words in str(Client("http://h", "Ollama").refused(Answer(401, {}, body)))



@pytest.mark.parametrize("status, passing", [(429, True), (502, True), (503, True), (504, True), (500, False), (404, False)])
def test_what_is_busy_may_pass(status, passing):
    refused = Client("http://h", "Ollama").refused(Answer(status, {"retry-after": "7"}, b""))
    assert (refused.passing, refused.retry_after) == (passing, 7)


class Endless:
    """A body of `size` bytes that is sent in large pieces. `sent`: bytes so far."""

    def __init__(self, size):
        self.left, self.sent = size, 0

    def read(self, dummy=-1):
        piece = b"x" * min(1 << 20, self.left)
        self.left -= len(piece)
        self.sent += len(piece)
        return piece


def test_a_server_that_answers_before_it_has_the_whole_body_is_heard():
    def refuse(listener):
        connection = listener.accept()[0]
        connection.recv(100000)
        said = b'{"error":"no space left on device"}'
        connection.sendall(b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
        connection.shutdown(socket.SHUT_WR)
        for dummy in range(3):
            connection.recv(1 << 20)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=(listener,), daemon=True)
        thread.start()
        body, client = Endless(1 << 30), Client("http://127.0.0.1:%d" % listener.getsockname()[1], "Ollama")
        answer = client.request("POST", "/x", body, {"Content-Length": str(1 << 30)})
        thread.join(10)
    assert (answer.status, answer.json()) == (500, {"error": "no space left on device"}) and body.sent < 1 << 28


def test_a_server_that_cuts_an_upload_without_a_word_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True)
        thread.start()
        client = Client("http://127.0.0.1:%d" % listener.getsockname()[1], "Ollama")
        with pytest.raises(Unreachable) as caught:
            client.request("POST", "/x", Endless(1 << 26), {"Content-Length": str(1 << 26)})
        thread.join(10)
    assert caught.value.passing


@pytest.mark.parametrize("key", ["s3cret\n", "s3cret\u2014", "s3\r\ncret"])
def test_a_key_that_http_does_not_carry_is_refused_without_being_shown(server, key):
    """Python's own error repeats the whole header."""
    client = Client(server, "AI Proxy", headers={"Authorization": "Bearer " + key}, secrets=[key])
    with pytest.raises(LocalModelsError, match="Look for a line end behind a key") as caught:
        client.request("GET", "/200")
    assert "cret" not in str(caught.value) and caught.value.__cause__ is None and caught.value.__suppress_context__


def test_text_that_is_none_is_refused_before_it_is_sent(server):
    with pytest.raises(LocalModelsError, match="cannot be sent"):
        Client(server, "Ollama").request("POST", "/200", {"files": {"model-\udcff.gguf": "sha256:0"}})


def test_an_address_of_other_letters_is_sent_in_the_form_that_http_knows():
    request = sent(Client("http://\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444:11434/\u043e/%20", "Ollama"), "GET", "/api/tags")[0]
    assert request.full_url == "http://xn--e1afmkfd.xn--p1ai:11434/%D0%BE/%20/api/tags" and request.host == "xn--e1afmkfd.xn--p1ai:11434"
    assert sent(Client("http://[::1]:1/\u00e9", "Ollama"), "GET", "/x")[0].full_url == "http://[::1]:1/%C3%A9/x"
    assert sent(Client("http://h/\u00e9", "Ollama"), "GET", "/x")[0].full_url == "http://h/%C3%A9/x"


def slow(listener, begin, pause):
    """Answers the first who knocks: `begin` at once, the rest `pause` seconds later."""
    connection = listener.accept()[0]
    connection.recv(100000)
    connection.sendall(begin)
    time.sleep(pause)
    with contextlib.suppress(OSError):
        connection.sendall(b"ab"[len(begin.partition(b"\r\n\r\n")[2]):])
    connection.close()


@pytest.mark.parametrize("silence, comes", [(5, True), (None, False)])
def test_an_answer_that_has_begun_may_be_silent_for_another_time(silence, comes):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begin = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\na"
        thread = threading.Thread(target=slow, args=(listener, begin, 0.4), daemon=True)
        thread.start()
        client = Client("http://127.0.0.1:%d" % listener.getsockname()[1], "Ollama", timeout=0.2)
        response = client.open("GET", "/x", silence=silence)
        with response, contextlib.nullcontext() if comes else pytest.raises(Unreachable, match="did not answer in time"):
            assert client.answer_in(response).body == b"ab"
        thread.join(10)


def sent(client, *args):
    """The urllib Request that a Client sends for open(*args), and its timeout."""
    class Opener:
        def open(self, request, timeout):
            self.got = request, timeout
            return "answer"

    client._opener = Opener()
    assert client.open(*args) == "answer"
    return client._opener.got


def test_what_is_sent():
    client = Client("http://h:1/prefix/", "Ollama", headers={"X-Key": "k", "Content-type": "text/plain"}, timeout=7)
    request, timeout = sent(client, "POST", "/api/x", {"a": "\u00e9"})
    assert (request.full_url, request.get_method(), request.data, timeout) == ("http://h:1/prefix/api/x", "POST", '{"a": "\u00e9"}'.encode(), 7)
    assert dict(request.header_items())["X-key"] == "k" and request.get_header("Content-type") == "application/json"
    request, timeout = sent(client, "PUT", "/y", b"raw", {"X-Key": "other"}, 9)
    assert (request.data, request.get_header("X-key"), request.get_header("Content-type"), timeout) == (b"raw", "other", "text/plain", 9)
    body = Endless(5)
    assert sent(client, "POST", "/y", body)[0].data is body and sent(client, "GET", "/y")[0].data is None and client.headers["X-Key"] == "k"
    assert sent(client, "POST", "/y", [])[0].data == b"[]", "an empty body is one"


@pytest.mark.parametrize("url, options, pair, base, secrets", [
    ("http://h:1", {}, None, "http://h:1", ()), ("http://me:p%40s@h:1/x", {}, "me:p@s", "http://h:1/x", {"p@s", "me:p@s"}),
    ("http://token@h", {}, "token:", "http://h", {"token:"}), ("http://h", {"username": "me"}, "me:", "http://h", {"me:"}),
    ("http://h", {"password": "pw"}, ":pw", "http://h", {"pw", ":pw"}),
    ("http://a:b@h", {"username": "me", "password": "pw"}, "me:pw", "http://h", {"pw", "me:pw"}),
    ("http://a:b@h", {"password": ""}, "a:", "http://h", {"a:"}), ("http://h", {"username": "\u00e9"}, "\u00e9:", "http://h", {"\u00e9:"})])
def test_who_asks_is_told_by_a_header_and_kept_secret(url, options, pair, base, secrets):
    client = Client(url, "Ollama", secrets=["key"], **options)
    encoded = base64.b64encode(pair.encode()).decode() if pair else None
    assert client.base_url == base and client.headers == ({"Authorization": "Basic " + encoded} if pair else {})
    assert set(client.secrets) == {"key"} | set(secrets) | ({encoded} if pair else set())
    assert Client(url, "Ollama", headers={"Authorization": "Bearer x"}, **options).headers == {"Authorization": "Bearer x"}


def test_a_refusal_is_told_in_one_line_without_secrets():
    client = Client("http://h", "Ollama", secrets=["s3cret"])
    refused = client.refused(Answer(500, {}, b"a\n  b s3cret " + b"x" * 400), mend="Do this")
    assert str(refused) == "Ollama at http://h answered 500: a b *** %s. Do this." % ("x" * 292) and refused.status == 500
    assert str(client.refused(Answer(500, {}, b"body"), "said s3cret")) == "Ollama at http://h answered 500: said ***."
    assert str(client.refused(Answer(500, {}, b"body"), "")) == "Ollama at http://h answered 500: an empty body."


def test_a_connection_that_just_ends_may_want_a_certificate_where_there_is_tls(bare):
    for url, hint in (("https://h", True), ("http://h", False)):
        said = Client(url, "Ollama", secrets=["s3cret"]).unreachable(ConnectionResetError("s3cret"))
        assert ("whether a client certificate is asked for (client_cert)" in str(said)) == hint and "s3cret" not in str(said)
    assert "client certificate" not in str(Client("https://h", "Ollama").unreachable(socket.timeout()))


def untrusted():
    problem = ssl.SSLCertVerificationError(1, "certificate verify failed")
    problem.verify_message = "self-signed certificate"
    return problem


@pytest.mark.parametrize("problem, said, mend", [
    (untrusted(), "shows a certificate that is not trusted (self-signed certificate)", "ca_path"),
    (urllib.error.URLError(untrusted()), "shows a certificate that is not trusted (self-signed certificate)", "ca_path"),
    (ssl.SSLError(1, "TLSV13_ALERT_CERTIFICATE_REQUIRED"), "asks for a client certificate", "client_cert and client_key"),
    (ssl.SSLZeroReturnError(6, "closed"), "closes the connection instead of a TLS handshake", "client_cert")])
def test_what_an_error_of_tls_means(problem, said, mend):
    assert said in explain(problem)[0] and mend in explain(problem)[1]


def test_a_certificate_that_cannot_be_used_is_named(tmp_path, bare):
    (tmp_path / "no.pem").write_text("no certificate")
    ours = str(tmp_path / "no.pem")
    for options, said in (({"ca_path": "/nowhere/ca"}, "ca_path /nowhere/ca cannot be used: No such file or directory. Both lie on the host"),
                          ({"ca_path": ours, "client_cert": "/nowhere/c"}, "ca_path %s cannot be used: " % ours),
                          ({"client_cert": "/nowhere/c"}, "client_cert /nowhere/c with client_key in the same file cannot be used: No such file or directory"),
                          ({"client_cert": ours, "client_key": "/nowhere/k"}, "client_cert %s with client_key /nowhere/k cannot be used: " % ours)):
        for scheme in ("https", "HTTPS"):
            with pytest.raises(LocalModelsError) as caught:
                Client(scheme + "://h", "Ollama", **options)
            assert said in str(caught.value)
        Client("http://h", "Ollama", **options)


def test_a_key_with_a_password_is_named_and_no_terminal_is_asked(monkeypatch):
    class Context:
        def load_cert_chain(self, cert, key, password):
            assert (cert, key) == ("/c", "/k")
            password()

    monkeypatch.setattr(ssl, "create_default_context", lambda cafile=None: Context())
    with pytest.raises(LocalModelsError, match="client_cert /c with client_key /k cannot be used: the key is protected by a password. Both lie on the host"):
        Client("https://h", "Ollama", client_cert="/c", client_key="/k")


@pytest.mark.parametrize("validate, mode", [(True, ssl.CERT_REQUIRED), (False, ssl.CERT_NONE)])
def test_certificates_are_proven_unless_it_is_said_not_to(bare, validate, mode):
    context = _tls_context(validate, None, None, None)
    assert (context.verify_mode, context.check_hostname) == (mode, validate)


@pytest.mark.parametrize("problem", [BrokenPipeError(), ConnectionResetError()])
def test_a_pipe_that_breaks_is_no_error_while_an_answer_may_be_there(problem):
    class Broken:
        sock = None

        def request(self):
            raise problem

    class Connection(_Patient, Broken):
        pass

    with pytest.raises(type(problem)):
        Connection().request()
    connection = Connection()
    connection.sock = "open"
    assert connection.request() is None


def test_what_is_nested_too_deep_is_no_answer():
    assert Answer(200, {}, b"[" * 200000).json() is None
    assert understand(200, {}, b"[" * 200000).kind == ERROR and understand(200, {"content-type": "text/event-stream"}, b"data: " + b"[" * 200000).kind == ERROR


def test_bytes_that_are_no_text_are_shown_all_the_same():
    assert Answer(500, {}, b"caf\xe9").text == "caf\ufffd" and Answer(500, {}, b"\xff").json() is None
