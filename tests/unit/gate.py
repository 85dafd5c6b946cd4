# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator puts before Ollama: TLS, a client certificate, a user name with a password. It passes on what may pass, streams included."""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.client
import ipaddress
import ssl
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Gate:
    """`url`, and the files (str) `ca`, `cert`, `key`, `stranger_cert`, `stranger_key`. `passed`: list of "METHOD path"."""

    def __init__(self, folder):
        self.passed = []
        authority, stranger = (_certificate(folder, name) for name in ("authority", "stranger"))
        self.ca = authority[0]
        self.server = _certificate(folder, "server", authority)
        self.cert, self.key = _certificate(folder, "client", authority)
        self.stranger_cert, self.stranger_key = stranger


def _certificate(folder, name, signer=None):
    """(certificate, key): paths (str). signer: the pair of an authority, or None for one that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signing = key
    if signer:
        with open(signer[0], "rb") as certificate, open(signer[1], "rb") as private:
            issuer = x509.load_pem_x509_certificate(certificate.read()).subject
            signing = serialization.load_pem_private_key(private.read(), None)
    alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    start = datetime.datetime(2020, 1, 1)
    signed = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key()) \
        .serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(start.replace(year=2090)) \
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True) \
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False).sign(signing, hashes.SHA256())
    paths = [str(folder / (name + end)) for end in (".pem", ".key")]
    contents = signed.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, content in zip(paths, contents):
        with open(path, "wb") as file:
            file.write(content)
    return tuple(paths)


@contextlib.contextmanager
def standing(folder, upstream, user="", password="", client_certs=False):
    """A Gate before `upstream` (URL) until the block ends; what it needs lies in `folder` (Path)."""
    gate = Gate(folder)
    allowed = "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()
    to = urllib.parse.urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.close_connection = True
            if password and self.headers.get("Authorization") != allowed:
                said = b"<html>401 Authorization Required: %s</html>" % (self.headers.get("Authorization") or "").encode()
                self.send_response(401)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)
                return
            gate.passed.append("%s %s" % (self.command, self.path))
            connection = http.client.HTTPConnection(to.hostname, to.port, timeout=60)
            connection.request(self.command, self.path, body=body or None, headers={"Content-Type": "application/json", "Host": "localhost:11434"})
            answered = connection.getresponse()
            self.send_response(answered.status)
            self.send_header("Content-Type", answered.getheader("Content-Type", ""))
            self.send_header("Connection", "close")
            self.end_headers()
            with contextlib.suppress(OSError):  # the client has gone
                for line in answered:
                    self.wfile.write(line)
            connection.close()

        do_GET = do_POST = do_DELETE = do_HEAD = answer

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass  # a handshake that failed, which is what some tests are about

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*gate.server)
    if client_certs:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(gate.ca)
    listener = Server(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    # Handshakes happen in the thread of their request, so that a bad one keeps nobody else waiting.
    listener.socket = context.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    gate.host = "localhost:%d" % listener.server_port
    gate.url = "https://" + gate.host
    try:
        yield gate
    finally:
        listener.shutdown()
        listener.server_close()
