# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong about a run, judged by the server's files and not by what the module said of them. Pure, but for reading files."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re


def lacking(store, name, manifest):
    """Why the model is not in the store (str), or "" where it is there to the last byte.

    store: path of the model store. name: HOST/NAMESPACE/MODEL:TAG. manifest: the registry's (bytes).
    """
    path, _colon, tag = name.rpartition(":")
    file = pathlib.Path(store, "manifests", path, tag)
    if not file.is_file():
        return "%s has no manifest in the store" % name
    if json.loads(file.read_bytes()) != json.loads(manifest):
        return "the manifest of %s in the store is another one" % name
    parsed = json.loads(manifest)
    for blob in parsed["layers"] + [parsed["config"]]:
        kept = pathlib.Path(store, "blobs", blob["digest"].replace(":", "-"))
        if not kept.is_file():
            return "%s lacks the layer %s" % (name, blob["digest"])
        if "sha256:" + hashlib.sha256(kept.read_bytes()).hexdigest() != blob["digest"]:
            return "the layer %s of %s has other bytes than its digest says" % (blob["digest"], name)
    return ""


def faults_of_run(result, missing, expected, hit):
    """What is wrong (list of str) about what the module said of its run under a fault.

    result: the module's (dict). missing: {model: why it is not there, or ""}, in the order declared. expected: "ok", or what the
    message must fit. hit: indices of the models that may fail.
    """
    wrong = []
    if not result.get("failed"):
        wrong += ["says ok, but " + why for why in missing.values() if why]
        if expected != "ok":
            wrong.append("says ok, and should have said: " + expected)
        return wrong
    said = result.get("msg", "")
    if expected == "ok":
        return ["should have come through, and failed: " + said]
    if not re.search(expected, said):
        wrong.append("its message does not name the cause (%s): %s" % (expected, said))
    entries = {one["name"]: one for one in result.get("models", [])}
    for number, (name, why) in enumerate(missing.items()):
        entry = entries.get(name)
        if entry is None:
            continue
        if entry["action"] != "failed" and why:
            wrong.append("says %s of a model, but %s" % (entry["action"], why))
        if entry["action"] == "failed" and number not in hit:
            wrong.append("a model that was not hit failed: %s" % entry["msg"])
        if entry["action"] == "failed" and name not in said:
            wrong.append("the message does not name %s: %s" % (name, said))
    return wrong


def overlaps(pulls, blobs):
    """Pairs of models (list of str) that were pulled at the same time although they share a layer.

    pulls: list of (model, from, to), seconds; blobs: {model: set of digests}.
    """
    found = []
    for number, (one, began, ended) in enumerate(pulls):
        for other, later, last in pulls[number + 1:]:
            if one != other and began < last and later < ended and blobs[one] & blobs[other]:
                found.append("%s and %s, which share a layer, were pulled at the same time" % (one, other))
    return found
