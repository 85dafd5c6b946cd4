# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a project's compose files is edited for what. Internal to this collection. Pure."""

from __future__ import annotations

import yaml

from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import CannotEdit
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit_read import Source, direct, target


def shared_out(texts, intents):
    """{name: list of Intent} for the files that change.

    texts: {name: the operator's own text (str)}, in the order in which compose merges them. A service is edited in the last file
    that writes it, for that one has the last word; a network is declared where it is joined first. Raises CannotEdit.
    """
    if len(texts) == 1:
        return {name: list(intents) for name in texts if intents}
    written = {name: _services(name, text) for name, text in texts.items()}
    names = list(texts)
    found, declared = {}, []
    for one in intents:
        if not one.service:
            declared.append(one)
            continue
        place = next((name for name in reversed(names) if one.service in written[name]), None)
        if place is None:
            raise CannotEdit("Service %s is written in none of the files %s" % (one.service, ", ".join(names)),
                             "Use the strategy override (fastgpt_compose_strategy), which leaves these files as they are")
        found.setdefault(place, []).extend(declared if one.kind == "network" else [])
        declared = [] if one.kind == "network" else declared
        found[place].append(one)
    return found


def _services(name, text):
    try:
        services = direct(Source(text).root).get("services")
    except CannotEdit as problem:
        problem.path = name
        raise
    return direct(services[1]) if services and isinstance(target(services[1]), yaml.MappingNode) else {}
