# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client tokens of one-api: declared + found -> steps, sentences and a diff. Internal to this collection.

Everything but carry_out() is pure. Facts about the server: see _one_api.
"""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api import DISABLED, ENABLED, NEVER, one_named
from ansible_collections.localmodels.fastgpt.plugins.module_utils._one_api_plan import refuse_commas, refuse_twice

STATES = {ENABLED: "enabled", DISABLED: "disabled", 3: "expired", 4: "used up"}
LONGEST_NAME = 30  # bytes
# A token without a limit of its own: the price of a local model means nothing. one-api's way to say that it lives for ever is -1;
# where it is left out when a token changes, the token has expired.
ENDLESS = {"unlimited_quota": True, "expired_time": NEVER}


class Wanted:
    """One declared token. enabled: bool. models: sorted list of str, [] for all, None where not declared. key_file: path or None."""

    def __init__(self, name, state="present", enabled=True, models=None, key_file=None):
        self.name = name
        self.state = state
        self.status = ENABLED if enabled else DISABLED
        self.models = models
        self.key_file = key_file

    @property
    def present(self):
        return self.state == "present"

    def settings(self):
        """Everything declared but the status, in the API's names."""
        return dict(ENDLESS, **({} if self.models is None else {"models": ",".join(self.models)}))


def read_wanted(items):
    """list of Wanted from the option `tokens` (list of dict). Raises LocalModelsError for what cannot work."""
    wanted = [_read_item(item) for item in items]
    refuse_twice("token", [one.name for one in wanted])
    return wanted


def _read_item(item):
    name = item["name"]
    if not name.strip():
        raise LocalModelsError("A token has an empty name", "Give it one, such as fastgpt")
    if len(name.encode("utf-8")) > LONGEST_NAME:
        raise LocalModelsError("The name %s of a token has %d bytes, and one-api keeps %d" % (name, len(name.encode("utf-8")), LONGEST_NAME),
                               "Shorten it")
    if item["state"] == "absent":
        return Wanted(name, "absent")
    models = None
    if item["models"] is not None:
        refuse_commas("Token %s" % name, item["models"])
        models = sorted(set(item["models"]))
    return Wanted(name, "present", item["enabled"], models, item["key_file"])


def view(row):
    """A token's row (dict, the API's names) for people (dict), without its key."""
    return {"status": STATES.get(row["status"], "status %s" % row["status"]), "unlimited_quota": row["unlimited_quota"],
            "expires": "never" if row["expired_time"] == NEVER else row["expired_time"], "models": _models(row) or "all"}


def _models(row):
    return sorted(set((row.get("models") or "").split(",")) - {""})


class Step:
    """What happens to one token.

    row: the token (dict) as found, or None. verb: none, create, update or delete. changes: settings (dict, the API's names) that
    get another value. new_status: bool. held: what its key file holds (str, "" where there is none).
    """

    def __init__(self, wanted, row, held=""):
        self.wanted = wanted
        self.row = row
        self.changes, self.new_status, self.new_file = {}, False, False
        if not wanted.present:
            self.verb = "delete" if row else "none"
            return
        if row is None:
            self.verb, self.changes = "create", wanted.settings()
            self.new_status = wanted.status != ENABLED  # made by a second request: a new one is always enabled
        else:
            self.changes = {name: value for name, value in wanted.settings().items() if self._found(name) != value}
            self.new_status = row["status"] != wanted.status
            self.verb = "update" if self.changes or self.new_status else "none"
        self.new_file = bool(wanted.key_file) and (row is None or held != key_text(row))

    def _found(self, name):
        return ",".join(_models(self.row)) if name == "models" else self.row[name]

    @property
    def changed(self):
        return self.verb != "none" or self.new_file

    def sentences(self):
        """What is done, for people."""
        name, words = self.wanted.name, []
        if self.verb == "create":
            words.append("Create token %s" % name)
        if self.verb == "delete":
            words.append("Delete token %s" % name)
        if self.verb == "update" and self.changes:
            words.append("Change token %s: %s" % (name, ", ".join(sorted(self.changes))))
        if self.new_status:
            words.append("%s token %s" % ("Enable" if self.wanted.status == ENABLED else "Disable", name))
        if self.new_file:
            words.append("Write the key of token %s into %s" % (name, self.wanted.key_file))
        return words

    def before(self):
        """The token as found, for people (dict), or None."""
        return None if self.row is None else view(self.row)

    def after(self):
        """The token as it will be, likewise."""
        if not self.wanted.present:
            return None
        after = view(dict(self.row or {}, **dict(self.changes, status=self.wanted.status)))
        if self.new_file:
            after["key_file"] = "%s (written)" % self.wanted.key_file
        return after

    def result(self, id):
        """The module's result for this token. id: int or None."""
        return {"name": self.wanted.name, "id": id, "state": self.wanted.state, "action": self.verb}


def key_text(row):
    """The key of a token's row as programs show it: str."""
    return "sk-" + row["key"]


def plan(rows, wanted, held):
    """list of Step. rows: tokens as found. wanted: list of Wanted. held: callable(path) -> text of a key file, "" where there is none."""
    return [Step(one, one_named("token", one.name, rows), held(one.key_file) if one.key_file else "") for one in wanted]


def carry_out(one_api, step, write):
    """Take one step that changes something. write: callable(path, text). Returns the token's id (int), None where it is gone."""
    row = step.row
    if step.verb == "delete":
        one_api.delete_token(row["id"])
        return None
    if step.verb == "create":
        row = one_api.create_token(dict({"remain_quota": 0, "models": "", "subnet": ""}, name=step.wanted.name, **step.changes))
    if step.changes and step.verb == "update":
        row = one_api.update_token(row, step.changes)
    # After the change of its limits: one-api does not enable a token that they would end at once.
    if step.new_status:
        one_api.set_token_status(row["id"], step.wanted.status)
    if step.new_file:
        write(step.wanted.key_file, key_text(row) + "\n")
    return row["id"]
