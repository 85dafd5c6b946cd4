# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own certificate authority and SSH key: made once a checkout, kept in the cache, never committed."""

from __future__ import annotations

import pathlib

from .shell import CACHE, lock, need, run

AUTHORITY = CACHE / "ca"
SSH_KEY = CACHE / "ssh" / "id_ed25519"

# Every public name that the lab's small internet answers for.
INTERNET_NAMES = (
    "registry.ollama.ai", "ollama.com", "hf.co", "huggingface.co",
    "github.com", "objects.githubusercontent.com",
    "registry-1.docker.io", "index.docker.io", "auth.docker.io", "ghcr.io", "quay.io",
    "registry.cn-hangzhou.aliyuncs.com",
    "registry.lab",
    "ollama.lab",  # a proxy before the Ollama of gpu1
)


def ensure() -> None:
    """The authority, a certificate for all names above, and the SSH key exist."""
    need(("openssl", "openssl"), ("ssh", "openssh-client"), ("ssh-keygen", "openssh-client"))
    with lock("secrets"):
        if not SSH_KEY.exists():
            SSH_KEY.parent.mkdir(parents=True, exist_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(SSH_KEY))
        if not (AUTHORITY / "ca.crt").exists():
            _make_authority()
        names = "subjectAltName=" + ",".join(f"DNS:{name}" for name in INTERNET_NAMES) + "\n"
        certified = AUTHORITY / "server.ext"
        if not certified.exists() or certified.read_text() != names:
            _certify(names).rename(certified)


def _make_authority() -> None:
    AUTHORITY.mkdir(parents=True, exist_ok=True)
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=Lab CA",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-keyout", str(AUTHORITY / "ca.key"), "-out", str(AUTHORITY / "new.crt"))
    (AUTHORITY / "new.crt").rename(AUTHORITY / "ca.crt")  # there when its key is


def _certify(names: str) -> pathlib.Path:
    """A key and a certificate for these names (a line of openssl's), and the file that says which."""
    key, request, said = AUTHORITY / "server.key", AUTHORITY / "server.csr", AUTHORITY / "new.ext"
    said.write_text(names)
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=lab", "-keyout", str(key), "-out", str(request))
    run("openssl", "x509", "-req", "-in", str(request), "-CA", str(AUTHORITY / "ca.crt"), "-CAkey", str(AUTHORITY / "ca.key"),
        "-CAcreateserial", "-days", "3650", "-extfile", str(said), "-out", str(AUTHORITY / "server.crt"))
    return said
