# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Ollama transcripts were recorded in: a registry on several addresses, a proxy that refuses, tiny models."""

from __future__ import annotations

import datetime
import functools
import hashlib
import http.server
import importlib.util
import ipaddress
import os
import pathlib
import subprocess
import sys
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.localmodels.fastgpt.tests.contract import weights
from ansible_collections.localmodels.fastgpt.tests.contract.wire import Server, free_port, send

SERVERS = pathlib.Path(__file__).resolve().parent.parent / "lab" / "servers"
ADDRESSES = ("127.0.0.1:5001", "127.0.0.1:5002", "127.0.0.1:5010", "127.0.0.1:5011", "127.0.0.1:5012", "127.0.0.1:5020")
TLS = "localhost:5443"
CLOSED = "127.0.0.1:5999"
TEMPLATE = {"template": "{{ .Prompt }}"}
LAYERS = {**TEMPLATE, "system": "You are tiny.", "license": "MIT license text", "params": '{"stop":["<x>"]}'}
MID = 2_000_000     # bytes of the large model; the recorded one had 20,000,000
SLOW = 1_000_000    # bytes a second of the slow registry


class World:
    """values: recorded text -> what it is here. blobs: recorded digest -> bytes. folder: a scratch directory."""

    def __init__(self, folder):
        self.folder = folder
        self.blobs = {
            "6c0fb93d3a1fca300288573d6352104cde71e9a6f3f004079ed0bbd1271e27a0": weights.llama(1),
            "b939987d48e197dee26245bf909ea92c367ce5ccd69f951ef283fda7f96dab88": weights.llama(2),
            "1bd10ab2617af9959e13222adb91e11242f300570e729730fa474256fa6845ba": weights.llama(1, "F32"),
            "d57ddbc4405911b91ea45688abaf384f8c810ea261aa38ae9e8f9675595494df": weights.bert(1),
            "3dfb525e0dea042ccbff19a4e35abf515b59c4be841d45ef18f702c8b8e8b22d": b"this is no GGUF file\n",
        }
        self.values = {recorded: hashlib.sha256(content).hexdigest() for recorded, content in self.blobs.items()}
        self.values.update({address: "127.0.0.1:%d" % free_port() for address in ADDRESSES + (CLOSED,)})
        self.values[TLS] = "localhost:%d" % free_port()
        self.authority, certificate, key = certificates(folder)
        listen = [word for address in ADDRESSES for word in ("--listen", self.values[address])]
        self.registry = Server([sys.executable, str(SERVERS / "registry.py"), "serve", str(folder / "registry"), "--listen",
                                "127.0.0.1:{port}", *listen, "--tls", self.values[TLS].replace("localhost", "127.0.0.1"),
                                "--cert", str(certificate), "--key", str(key)], folder / "log", ready="/_lab/faults")
        self.proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), RefusingProxy)
        threading.Thread(target=self.proxy.serve_forever, daemon=True).start()

    @property
    def proxy_url(self):
        return "http://127.0.0.1:%d" % self.proxy.server_address[1]

    def start(self):
        self.fill()
        self.registry.start()
        return self

    def stop(self):
        self.registry.stop()
        self.proxy.shutdown()
        self.proxy.server_close()

    def fill(self):
        """The models as they were at the beginning."""
        tiny = list(self.blobs.values())
        for name in ("tiny:latest", "lab/tiny:latest"):
            self.publish(name, tiny[0])
        self.publish("Cased:Latest", tiny[0], TEMPLATE)
        self.publish("tiny:v2", tiny[1], TEMPLATE)
        self.publish("small:latest", bytes(256_000), {})
        for number, tag in enumerate(("latest", "m1", "m2", "m3")):
            self.publish("mid:" + tag, bytes([number, 1, 2, 3]) * (MID // 4), TEMPLATE)

    def publish(self, name, content, layers=None, config=None):
        """Put a model with these weights (bytes), layers (LAYERS) and configuration (map) into the registry, in place of what had its name."""
        file = self.folder / "weights"
        file.write_bytes(content)
        return registry_program().add(self.folder / "registry", name, file, LAYERS if layers is None else layers, config)

    def faults(self, *rules):
        """Replace the registry's faults; {"host"} is given in recorded words."""
        here = [{**rule, "host": self.values[rule["host"]]} if "host" in rule else rule for rule in rules]
        send(self.registry.url, "PUT", "/_lab/faults", {}, here)

    def requests(self):
        """What the registry was asked since this was called last."""
        return send(self.registry.url, "DELETE", "/_lab/requests", {}, None)["body"]


@functools.lru_cache(maxsize=1)
def registry_program():
    """The registry's module, which also knows how to fill its directory."""
    specification = importlib.util.spec_from_file_location("lab_registry", SERVERS / "registry.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def registry_with(folder, name, size):
    """A started registry (Server) that holds one model, `name` (str, such as library/small:latest), of `size` bytes. folder: pathlib.Path."""
    registry = Server([sys.executable, str(SERVERS / "registry.py"), "serve", "{state}", "--listen", "127.0.0.1:{port}"],
                      folder / "registry", ready="/_lab/faults")
    weights_file = folder / "weights"
    weights_file.write_bytes(os.urandom(size))
    subprocess.run([sys.executable, str(SERVERS / "registry.py"), "add", registry.state, name, str(weights_file)], check=True, stdout=subprocess.DEVNULL)
    registry.start()
    return registry


class RefusingProxy(http.server.BaseHTTPRequestHandler):
    """A proxy that answers everything with 502."""

    def refuse(self):
        self.send_response(502, "Bad Gateway")
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"no proxy\n")

    do_GET = do_CONNECT = refuse

    def log_message(self, *_words):
        """Say nothing."""


def certificates(folder):
    """Paths of a new private authority, and of a certificate and key for localhost that it signed."""
    start = datetime.datetime(2020, 1, 1)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "private authority")])
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]

    def signed(subject, key, is_authority):
        alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key()) \
            .serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(start.replace(year=2090)) \
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True) \
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False).sign(keys[0], hashes.SHA256())

    pem = serialization.Encoding.PEM
    files = {"authority.pem": signed(issuer, keys[0], True).public_bytes(pem), "server.pem": signed(name, keys[1], False).public_bytes(pem),
             "server.key": keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())}
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return [folder / file for file in files]
