# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small JSON-over-HTTP client on the standard library, shared by every server client. Internal to this collection."""

from __future__ import annotations

import base64
import email.utils
import http.client
import json
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import (
    LocalModelsError,
    Refused,
    Unreachable,
    scrub,
)

# TLS alerts by which a server says so, in OpenSSL's words.
_WANTS_CERTIFICATE = re.compile(r"(?i)certificate required|bad certificate|unknown ca|alert certificate|certificate_required|handshake failure")
NETWORK_ERRORS = (OSError, http.client.HTTPException)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class Answer:
    """One HTTP answer: `status` (int), `headers` (dict, lower-case names), `body` (bytes)."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    def json(self):
        """The parsed body, or None where it is no JSON: HTML of a reverse proxy, plain text of a router."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None

    @property
    def retry_after(self):
        """Seconds (float, 0 or more) that the server asks to wait (RFC 9110, 10.2.3: a number, or a date), or None."""
        said = self.headers.get("retry-after", "").strip()
        if said.isascii() and said.isdigit():
            return float(said)
        try:
            when = email.utils.parsedate_to_datetime(said)
            return max(0.0, when.timestamp() - time.time())
        except (TypeError, ValueError):
            return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is shown, not followed: it would resend the admin key, and a 307 loses the body's meaning."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        return None


class _Patient:
    """A connection on which a server may answer before it has taken the whole body, and close: its answer is the cause, the broken pipe is not.

    silence: seconds without a byte that count from the first line of the answer on, or None where they are those from before.
    """

    def __init__(self, *args, **kwargs):
        self._silence = kwargs.pop("silence", None)
        super().__init__(*args, **kwargs)

    def getresponse(self):
        connected = self.sock  # it is let go of when the answer is the last one
        response = super().getresponse()
        if self._silence is not None:
            connected.settimeout(self._silence)
        return response

    def request(self, *args, **kwargs):
        try:
            super().request(*args, **kwargs)
        except (BrokenPipeError, ConnectionResetError):
            if self.sock is None:
                raise  # there was no connection yet, so there is no answer either


class _Plain(_Patient, http.client.HTTPConnection):
    pass


class _Secure(_Patient, http.client.HTTPSConnection):
    pass


class _PlainHandler(urllib.request.HTTPHandler):
    def http_open(self, req):
        return self.do_open(_Plain, req, silence=req.silence)


class _SecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, context):
        super().__init__(context=context)
        self._tls = context

    def https_open(self, req):
        return self.do_open(_Secure, req, context=self._tls, silence=req.silence)


class Client:
    """Requests to one server.

    base_url: scheme://host[:port][/prefix], without a trailing slash being needed.
    hop: the server's name in messages, such as "Ollama".
    headers: sent with each request. secrets: texts that must never appear in a message.
    timeout: seconds without a byte before a request fails.
    use_proxy: whether HTTP_PROXY and its kin apply; off by default, for these servers are neighbours (field failure:
    a proxy variable that catches local calls).
    username, password: for HTTP's basic authentication; user info in base_url does the same, and is taken out of it.
    """

    def __init__(self, base_url, hop, headers=None, secrets=(), timeout=30, use_proxy=False,
                 validate_certs=True, ca_path=None, client_cert=None, client_key=None, username=None, password=None):
        if timeout <= 0:  # to the system 0 is not to wait at all, and less is an error
            raise LocalModelsError("timeout is %s, and %s needs some time to answer" % (timeout, hop), "Set it to 1 second or more")
        base_url, basic = _basic(base_url, username, password)
        headers, secrets = dict(basic[0], **(headers or {})), tuple(secrets) + basic[1]
        if not _is_address(base_url):
            raise LocalModelsError("%r is no address of %s" % (masked(base_url), hop), "Give scheme, host and port, such as http://192.0.2.10:11434" + (
                "; of a user and a password each / is written as %2F" if without_user(base_url)[1] else ""))
        self.base_url = base_url.rstrip("/")
        self._sent_url = _sendable(self.base_url)
        self.hop = hop
        self.headers = headers
        self.secrets = secrets
        self.timeout = timeout
        handlers = [_NoRedirect(), _PlainHandler()]
        if not use_proxy:
            handlers.append(urllib.request.ProxyHandler({}))
        if base_url.lower().startswith("https:"):
            handlers.append(_SecureHandler(_tls_context(validate_certs, ca_path, client_cert, client_key)))
        self._opener = urllib.request.build_opener(*handlers)

    def open(self, method, path, body=None, headers=None, timeout=None, silence=None):
        """Send a request and return the open response, whatever its status; the caller reads and closes it.

        body: None, bytes, what has read() (an open binary file), or anything that JSON can hold. silence: seconds without a byte once the
        answer has begun, where these are others than timeout. Raises Unreachable, and LocalModelsError for what HTTP cannot carry.
        """
        sent = dict(self.headers)
        data = body
        try:
            if body is not None and not isinstance(body, bytes) and not hasattr(body, "read"):
                data = json.dumps(body, ensure_ascii=False).encode("utf-8")
                sent["Content-Type"] = "application/json"
            sent.update(headers or {})
            request = urllib.request.Request(self._sent_url + path, data=data, headers=sent, method=method)
            request.silence = silence
            return self._opener.open(request, timeout=timeout or self.timeout)
        except urllib.error.HTTPError as answered:
            return answered
        except NETWORK_ERRORS as problem:
            raise self.unreachable(problem) from problem
        except ValueError:
            # Python's own words show the header, which is a key, so they are not kept.
            raise LocalModelsError("A request to %s at %s cannot be sent: a key, another header, the address or a name holds a line break or a"
                                   " letter that HTTP does not carry" % (self.hop, scrub(self.base_url)),
                                   "Look for a line end behind a key, and for letters that are not ASCII") from None

    def request(self, method, path, body=None, headers=None, timeout=None):
        """Send a request, read the whole answer, return it as Answer. Raises Unreachable."""
        with self.open(method, path, body, headers, timeout) as response:
            return self.answer_in(response)

    def answer_in(self, response):
        """The rest of an open response, as Answer. Raises Unreachable."""
        try:
            return Answer(response.getcode(), {k.lower(): v for k, v in response.headers.items()}, response.read())
        except NETWORK_ERRORS as problem:
            raise self.unreachable(problem) from problem

    def unreachable(self, problem):
        """The Unreachable that tells an operator what a socket error means."""
        said, mend = explain(problem)
        if self.base_url.startswith("https") and isinstance(problem, ConnectionError):
            mend += ", and whether a client certificate is asked for (client_cert)"  # some servers just hang up then
        return Unreachable(self.hop, self.base_url, scrub(said, self.secrets), mend)

    def refused(self, answer, said=None, mend=""):
        """The Refused for an Answer; `said` is the server's own text where the caller found one."""
        text = said if said is not None else answer.text
        text = scrub(text, self.secrets)
        if text.lstrip().startswith("<"):
            text = _MARKUP.sub(" ", text[:20000])  # the page of a proxy: its words are enough
        text = " ".join(text.split())[:300] or "an empty body"
        refused = Refused(self.hop, self.base_url, "answered %d: %s" % (answer.status, text), mend, status=answer.status)
        refused.retry_after = answer.retry_after
        return refused


def explain(problem):
    """(what happened, what to do) for an error of the socket, TLS or HTTP layer; both str, the second may be empty."""
    # An SSLError has a reason of its own, which is a word of OpenSSL.
    reason = problem if isinstance(problem, ssl.SSLError) else getattr(problem, "reason", problem)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ("shows a certificate that is not trusted (%s)" % reason.verify_message,
                "Add its authority with ca_path, or to this host's certificate store")
    if isinstance(reason, ssl.SSLError) and _WANTS_CERTIFICATE.search(str(reason)):
        return "asks for a client certificate, or for another one (%s)" % reason, "Give it with client_cert and client_key"
    if isinstance(reason, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return ("closes the connection instead of a TLS handshake (%s)" % reason,
                "Check whether the address wants http:// or https://, and whether a client certificate is asked for (client_cert)")
    if isinstance(reason, ssl.SSLError):
        return "does not speak TLS as asked (%s)" % reason, "Check whether the address wants http:// or https://"
    if isinstance(reason, socket.gaierror):
        return "cannot be found: the name does not resolve", "Check the host name, and DNS where this was asked from"
    if isinstance(reason, ConnectionRefusedError):
        return "refuses the connection", "Nothing listens there: check that it runs, its port, and its listen address"
    if isinstance(reason, (socket.timeout, TimeoutError)):
        return "did not answer in time", "Check firewalls on the way, or give it a longer timeout"
    if "Tunnel connection failed" in str(reason):
        return ("is not reached by way of the proxy (%s)" % reason,
                "Look at HTTPS_PROXY and NO_PROXY in the environment of this task, or go without (use_proxy: false)")
    if isinstance(reason, (ConnectionError, http.client.IncompleteRead, http.client.RemoteDisconnected)):
        return "closed the connection in mid-answer (%s)" % reason, "It may be restarting: look at its log"
    return "cannot be reached (%s)" % reason, ""


def _tls_context(validate_certs, ca_path, client_cert, client_key):
    context = ssl.create_default_context()
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if ca_path:
            context.load_verify_locations(ca_path)
        if client_cert:
            context.load_cert_chain(client_cert, client_key, password=_no_password)
    except (OSError, ValueError) as problem:  # SSLError is an OSError
        what = "ca_path %s" % ca_path if not client_cert or not _readable(ca_path) else "client_cert %s with client_key %s" % (
            client_cert, client_key or "in the same file")
        raise LocalModelsError("%s cannot be used: %s" % (what, problem.strerror if isinstance(problem, FileNotFoundError) else problem),
                               "Both lie on the host that runs the module, in PEM form, and a key has no password") from problem
    return context


def _no_password():
    """Without this OpenSSL asks a terminal for the password of a key."""
    raise ValueError("the key is protected by a password")


def _readable(path):
    """Whether the certificates at `path` (str, or None) are fine, so that a failure is about something else."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError:
        return False
    return True


def _is_address(url):
    """Whether requests can be sent to a URL (str) without user info."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, dummy = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:  # of brackets, of a label, of a port
        return False
    return bool(parts.scheme in ("http", "https") and host and "@" not in url and not re.search(r"\s", url))


def _sendable(url):
    """An address (str) as a request carries it: a host of other letters than ASCII in its own form for that (RFC 3490), a path in percent."""
    if url.isascii():
        return url
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname.encode("idna").decode("ascii")
    place = "[%s]" % host if ":" in host else host
    return urllib.parse.urlunsplit(parts._replace(
        netloc="%s:%d" % (place, parts.port) if parts.port else place, path=urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=")))


def without_user(url):
    """(a URL or what should be one, without the user info, the user info) of a str: all that stands before the last @ may be secret."""
    scheme, mark, rest = url.partition("://")
    user, dummy, place = (rest if mark else url).rpartition("@")
    return (scheme + mark if mark else "") + place, user


def masked(url):
    """A URL or what should be one (str) as it may be shown."""
    place, user = without_user(url)
    return place if not user else place.replace("://", "://***@") if "://" in place else "***@" + place


def _basic(base_url, username, password):
    """(base_url without user info, ({header}, (secrets))) for HTTP's basic authentication."""
    scheme, mark, rest = base_url.partition("://")
    place, slash, path = rest.partition("/")
    if mark and "@" in place:
        user, dummy, place = place.rpartition("@")
        base_url = scheme + mark + place + slash + path
        name, dummy, word = user.partition(":")
        username = username if username is not None else urllib.parse.unquote(name)
        password = password if password is not None else urllib.parse.unquote(word)
    if username is None and password is None:
        return base_url, ({}, ())
    pair = "%s:%s" % (username or "", password or "")
    encoded = base64.b64encode(pair.encode("utf-8")).decode("ascii")
    return base_url, ({"Authorization": "Basic " + encoded}, tuple(one for one in (password, pair, encoded) if one))
