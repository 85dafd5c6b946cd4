# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that an operator can act on. Internal to this collection."""

from __future__ import annotations

import re

_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^/@\s]+@")
_URL_PASSWORD = re.compile(r"://[^/@:\s]*:([^/@\s]+)@")
_BEARER = re.compile(r"(?i)\b(bearer\s+)[^\s\"',}\\]+")


def scrub(text, secrets=()):
    """`text` (str) without the given secrets (iterable of str), user info of URLs and bearer tokens.

    Servers echo credentials: FastGPT's bridge returns AI Proxy's admin key inside a failed request (reference, section 5).
    """
    for secret in sorted((s for s in secrets if s), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = _USERINFO.sub(r"\g<scheme>***@", text)
    return _BEARER.sub(r"\1***", text)


def url_passwords(text):
    """The passwords (list of str) in the URLs of `text` (str)."""
    return _URL_PASSWORD.findall(text)


def passwords_in(options):
    """The passwords (set of str) in all URLs of a module's options: a value, or a dict or list of such. Ansible shows options from -vvv on."""
    if isinstance(options, (dict, list)):
        return set().union(*map(passwords_in, options.values() if isinstance(options, dict) else options))
    return set(url_passwords(options)) if isinstance(options, str) else set()


# Too many requests; and what a proxy says of a server behind it that restarts.
BUSY = (429, 502, 503, 504)


class LocalModelsError(Exception):
    """Base of every error that ends a module with a message instead of a traceback.

    `what` says what failed and where; `mend` (may be empty) says what to do about it. Both are plain sentences.
    `passing` (bool): the same may well succeed later; `retry_after`: seconds that a server asked to wait until then, or None.
    """

    passing = False
    retry_after = None

    def __init__(self, what, mend=""):
        self.what = what.rstrip(". ")
        self.mend = mend.rstrip(". ")
        super().__init__("%s. %s." % (self.what, self.mend) if self.mend else "%s." % self.what)


class HopError(LocalModelsError):
    """A server on the way did not do what it was asked. `hop` is its name for people, such as "AI Proxy"."""

    def __init__(self, hop, url, problem, mend="", status=None):
        self.hop = hop
        self.url = scrub(url)
        self.problem = problem
        self.status = status
        super().__init__("%s at %s %s" % (hop, self.url, problem), mend)


class Unreachable(HopError):
    """No answer at all: refused, unknown name, time-out, TLS failure."""

    passing = True


class Refused(HopError):
    """The server answered, and the answer is an error."""

    @property
    def passing(self):
        return self.status in BUSY


def refuse_less(params, **least):
    """Raise LocalModelsError for one of a module's options (dict) that is smaller than it may be. least: {option: int}."""
    for name, smallest in least.items():
        if params[name] < smallest:
            raise LocalModelsError("%s is %s, which is too little" % (name, params[name]), "Set it to %d or more" % smallest)
