# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that are valid and probably not meant: another tag, the other host of Hugging Face. Pure. Internal to this collection."""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import (
    DEFAULT_TAG, HUGGING_FACE, ModelName, is_hugging_face, other_tags, suggest)


def told(wanted, found):
    """Sentences (list of str) about declared models (list of _plan.Wanted) and what the server holds (list of _plan.Found)."""
    held = {one.name for one in found}
    said = []
    for one in wanted:
        others = sorted(other.short for other in other_tags(one.name, held))
        if one.state == "absent" and one.name not in held and one.name.tag == DEFAULT_TAG and others:
            said.append("%s is declared absent, and is; the server holds %s, which a name without a tag does not mean."
                        % (one.name.short, " and ".join(others)))
        if one.state != "absent" and is_hugging_face(one.name):
            said += _by_both_hosts(one.name, wanted, held)
    return said


def _by_both_hosts(name, wanted, held):
    """One sentence where this model comes by the other host name of Hugging Face as well: Ollama keeps it as another model."""
    other = [ModelName(host, name.namespace, name.model, name.tag) for host in HUGGING_FACE if host != name.host.lower()][0]
    declared = [one.name for one in wanted if one.state != "absent"]
    if other in declared and name.host.lower() != HUGGING_FACE[0]:
        return []  # the other one of the two says it
    if other not in declared and not (other in held and name not in held):
        return []
    return ["%s and %s are the same model at Hugging Face, and two models to Ollama: %s"
            % (name.short, other.short, "declare one of them." if other in declared else "the server holds the second one.")]


def unknown_model(name, found, wanted):
    """The LocalModelsError for a model (ModelName) that the registry does not have; with the name that was probably meant."""
    others = [one.name.short for one in wanted if one.name != name] + [one.name.short for one in found]
    meant = suggest(name.short, others)
    tags = sorted(other.short for other in other_tags(name, [one.name for one in found] + [one.name for one in wanted]))
    if is_hugging_face(name):
        mend = "The repository must hold GGUF files, and the tag must be one of their quantizations, such as Q4_K_M"
        mend += ". Probably %s is meant" % meant if meant else ""
    elif name.full != name.key:
        mend = "Registries tell upper from lower case: try %s" % ModelName.parse(name.key).short
    elif name.tag == DEFAULT_TAG and tags:
        mend = "A name without a tag means %s; probably %s is meant" % (DEFAULT_TAG, tags[0])
    elif meant:
        mend = "Probably %s is meant" % meant
    else:
        mend = "Correct the name or its tag"
    where = name.host if name.namespace.lower() == "library" else "%s/%s" % (name.host, name.namespace)
    return LocalModelsError("%s has no model %s:%s" % (where, name.model, name.tag), mend)
