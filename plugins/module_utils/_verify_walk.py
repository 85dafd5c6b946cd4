# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hops that were walked, and what came of each. Internal to this collection."""

from __future__ import annotations

import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import HopError, LocalModelsError, scrub
from ansible_collections.localmodels.fastgpt.plugins.module_utils._verify_table import shorten

OK, FAILED, SKIPPED = "ok", "failed", "skipped"
SHORTEST_SECRET = 8
ODD = "What answers there is something else than it should be, or a version of it that nobody tried: look at its address, its version and its log"


class Broken(Exception):
    """A hop does not do what it should. answered: what came back; cause, mend: plain sentences, may be empty. All str."""

    def __init__(self, answered, cause="", mend=""):
        super().__init__(answered)
        self.answered = answered
        self.cause = cause
        self.mend = mend


class CannotAsk(Exception):
    """A hop that cannot be asked, for a reason (str) that is no failure."""


class Walk:
    """The hops that were walked. secrets: texts that must not appear. asks: False in check mode, where no model is asked.

    hops: list of dict with hop, asked, answered, ms (int or None), status (OK, FAILED, SKIPPED), cause, mend.
    """

    def __init__(self, secrets=(), asks=True, clock=time.monotonic):
        self.hops = []
        # Shorter ones are placeholders such as "aiproxy" or "1234": they would blacken ordinary words, and nobody sends them back.
        self.secrets = [secret for secret in secrets if secret and len(secret) >= SHORTEST_SECRET]
        self.asks = asks
        self._clock = clock
        self._stage = self._broken_stage = None

    @property
    def broken(self):
        """The first broken hop (dict), or None."""
        return next((hop for hop in self.hops if hop["status"] == FAILED), None)

    def stage(self, number):
        """The hops from now on belong together: if one is broken, the others of its stage are still asked."""
        self._stage = number

    def hop(self, name, asked, function, asks_model=False):
        """Walk one hop. function: callable() -> what came back (str); raises Broken, CannotAsk or LocalModelsError. Returns whether it
        is well."""
        if self._broken_stage not in (None, self._stage):
            return self._add(name, "", "not asked, for the hop above is broken", SKIPPED)
        if asks_model and not self.asks:
            return self._add(name, "", "check mode: would ask %s" % asked, SKIPPED)
        start = self._clock()
        try:
            answered, status, cause, mend = function(), OK, "", ""
        except CannotAsk as reason:
            return self._add(name, "", str(reason), SKIPPED)
        except Broken as problem:
            answered, status, cause, mend = problem.answered, FAILED, problem.cause, problem.mend
        except HopError as problem:
            answered, status, cause, mend = problem.problem, FAILED, "", problem.mend
        except LocalModelsError as problem:
            answered, status, cause, mend = problem.what, FAILED, "", problem.mend
        except (AttributeError, LookupError, TypeError, ValueError) as problem:
            # What a broken server sends can be anything, and to find it is what this walk is for.
            answered, status, cause, mend = "something that is no answer to that (%r)" % problem, FAILED, "", ODD
        return self._add(name, asked, answered, status, int((self._clock() - start) * 1000), cause, mend)

    def skip(self, name, why):
        """A hop that cannot be asked, for a reason (str) that is no failure."""
        return self._add(name, "", why, SKIPPED)

    def _add(self, name, asked, answered, status, ms=None, cause="", mend=""):
        clean = [scrub(str(text), self.secrets) for text in (asked, answered, cause, mend)]
        self.hops.append({"hop": name, "asked": clean[0], "answered": shorten(clean[1], 400), "ms": ms, "status": status,
                          "cause": clean[2], "mend": clean[3]})
        if status == FAILED:
            self._broken_stage = self._stage
        return status == OK


def chosen(models, every):
    """One model (dict with `type`) of each type, or every one: a model has to be loaded before it answers."""
    if every:
        return models
    firsts = {}
    for model in models:
        firsts.setdefault(model["type"], model)
    return list(firsts.values())


def stopped(service, folder):
    """(cause, mend) for a service (_project.Service) of the compose project in `folder` that does not run."""
    return ("The container of service %s is %s" % (service.name, service.state),
            "Start it with `docker compose up -d` in %s, and look at `docker compose logs %s` if it stops again" % (folder, service.name))
