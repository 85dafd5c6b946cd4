# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a pull failed, from the words of Ollama, and what to do about it. Internal to this collection.

The texts are those of Ollama 0.32 and 0.34 (recorded: tests/contract/transcripts), most of them Go's own.
"""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub


class PullFailed(LocalModelsError):
    """One try to pull one model failed.

    `kind` (str) names the cause; `passing` (bool): the same request may well succeed later; `said` (str): Ollama's words.
    secrets: texts that a proxy before Ollama may repeat in them.
    """

    def __init__(self, name, cause, said, secrets=()):
        self.kind = cause.kind
        self.passing = cause.passing
        self.said = " ".join(scrub(said, secrets).split())[:200]
        quoted = ' (Ollama said: "%s")' % self.said if self.said else ""
        super().__init__("%s could not be pulled: %s%s" % (name, cause.problem, quoted), cause.mend)


class Cause:
    """`kind`, `problem` and `mend` (str), `passing` (bool); see PullFailed."""

    def __init__(self, kind, problem, mend, passing=False):
        self.kind, self.problem, self.mend, self.passing = kind, problem, mend, passing


INTERRUPTED, UNREADABLE = "interrupted", "unreadable-note"  # kinds
STALLED = Cause("stalled", "no byte more came for %d s",
                "Run again: it resumes where it stopped. If it stalls again look at the line to the registry", passing=True)
TRUNCATED = Cause("truncated", "Ollama ended the answer before the pull was done",
                  "It was stopped or restarted in mid-pull: look at its log, then run again", passing=True)
BOGUS = Cause("bogus", "what the registry sent is no model, although Ollama reported success; it was deleted again",
              "Something stands between Ollama and the registry: a login page or a proxy that answers every request")
_OTHER = Cause("other", "Ollama reports an error", "Look at the log of Ollama on its host")

_NETWORK_MEND = ("Ollama itself, not this module, must reach the registry: check its DNS, routes and firewall, and"
                 " HTTPS_PROXY in the environment of its service; or name a mirror")
# First match wins, so what is special stands before what is general.
_CAUSES = tuple((re.compile(pattern, re.IGNORECASE), cause) for pattern, cause in (
    (r"^pull model manifest: file does not exist", Cause(
        "unknown", "the registry has no such model", "Correct the name or its tag")),
    (r"^file does not exist", Cause(
        "incomplete", "the registry lists a layer that it does not have", "Take another tag, or push the model to that registry again")),
    (r"manifest: 412:|requires a newer version", Cause(
        "too-old", "it needs a newer Ollama", "Upgrade Ollama on its host and restart it: the version of the running server counts")),
    # A pull that comes while Ollama is still cancelling an earlier one of the same layer is cancelled with it.
    (r"context canceled$", Cause(
        INTERRUPTED, "Ollama cancelled it together with an earlier pull that was just ending", "Run again: it resumes", passing=True)),
    # Without a prefix these come from reading such a note only; of a broken request Ollama says that an object key is wrong.
    (r"^(unexpected )?EOF$|^invalid character .* looking for beginning of value|^unexpected end of JSON", Cause(
        UNREADABLE, "Ollama cannot read what it noted of an earlier pull of it, for it was killed while it wrote that down",
        "Delete the files *-partial-* in the folder blobs of its model store, then run again: the layer is fetched anew")),
    (r"(^|manifest: )429:", Cause("busy", "the registry asks to slow down", "Run again later, or name a mirror", passing=True)),
    (r"(^|manifest: )5\d\d:|: Bad Gateway$|: Service Unavailable$|: Gateway Time-?out$", Cause(
        "registry-broken", "the registry, or a proxy before it, is in trouble", _NETWORK_MEND, passing=True)),
    (r"plain HTTP request was sent to HTTPS port", Cause(
        "speaks-tls", "its registry speaks TLS, and insecure asks for plain HTTP", "Leave out insecure for this model")),
    (r"first record does not look like a TLS handshake|gave HTTP response to HTTPS client", Cause(
        "speaks-plain", "its registry speaks plain HTTP", "Set insecure: true for this model")),
    (r"x509|failed to verify certificate", Cause(
        "certificate", "Ollama does not trust the certificate of the registry",
        "Add its authority to the certificates of Ollama's host, or name it by SSL_CERT_FILE in the environment of its service, and restart Ollama")),
    (r"realm host|unauthorized|access denied|(^|manifest: )40[134]:", Cause(
        "forbidden", "the registry does not let Ollama in",
        "Ollama knows no user name and password for registries: make the model public there, or let the registry know the public"
        " key of the server (id_ed25519.pub)")),
    (r"no Location header|unexpected status code 30\d", Cause(
        "no-location", "its registry does not answer as Ollama needs it",
        "Let the registry add a Location header to the answers for blobs (Docker's: http.headers.Location: [\"?\"])")),
    (r"no space left on device|disk quota exceeded", Cause(
        "disk-full", "the disk of the model store is full", "Free space there or move the store; what was downloaded stays and is resumed")),
    (r"permission denied|read-only file system", Cause(
        "store-not-writable", "Ollama may not write to its model store", "Give the folder to the user that runs Ollama")),
    (r"digest mismatch", Cause(
        "wrong-bytes", "the registry, or something before it, sent other bytes than its digest promises",
        "Run again; if it stays so a cache or a proxy on the way is corrupt", passing=True)),
    (r"no such host|server misbehaving", Cause("unresolvable", "Ollama cannot resolve the name of the registry", _NETWORK_MEND)),
    (r"connection refused|no route to host|network is unreachable|timeout|deadline exceeded|connection reset|broken pipe"
     r"|max retries exceeded|\bEOF\b|dial tcp|http2:", Cause(
         "unreachable", "Ollama cannot reach the registry", _NETWORK_MEND, passing=True)),
    (r"manifest: (invalid character|unexpected end of JSON)", Cause(
        "no-registry", "what answers there is no registry", "Check the host in the name, and for a login page or a proxy on the way")),
    (r"MLX", Cause("needs-mlx", "it needs Apple's MLX, which this server does not have", "Take a GGUF tag of this model")),
    (r"cloud is disabled", Cause("cloud-off", "cloud models are switched off on this server", "Unset OLLAMA_NO_CLOUD, or take a local model")),
    (r"invalid model name", Cause("bad-name", "this Ollama does not take the name", "Write it as host/namespace/model:tag")),
))


def cause_of(said):
    """The Cause behind an error text (str) of a pull."""
    for pattern, cause in _CAUSES:
        if pattern.search(said):
            return cause
    return _OTHER
