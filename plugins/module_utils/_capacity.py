# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the declared models fit the disk and the memory, before the first byte. Internal to this collection.

Of a model's need in memory only its weights are known before it is here, so what is refused does not fit whatever its context is. The
contexts of those that are here count where models are used by turns.
"""

from __future__ import annotations

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _context, _made, _store
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text

MODES = ("enforce", "warn", "ignore")
# What is loaded; the other layers are texts. Safetensors come as many layers of the type tensor.
_LOADED = tuple("application/vnd.ollama.image." + kind for kind in ("model", "projector", "adapter", "draft", "tensor"))


class Host:
    """Where the models have to fit. store: _store.Store, or None where it was not found. look: function without arguments, called at most
    once, that gives (_machine.Memory or None, limits) as _machine.below does. version: of the server (str), "" where none answers. show: function
    from a model's name (str) to what POST /api/show says of it (dict)."""

    def __init__(self, store=None, look=lambda: (None, {}), version="", show=lambda name: {}):
        self.store, self._look, self.version, self.show = store, look, version, show
        self._seen = None

    def _looked(self):
        if self._seen is None:
            self._seen = self._look()
        return self._seen

    @property
    def memory(self):
        return self._looked()[0]

    @property
    def limits(self):
        return self._looked()[1]

    @property
    def slots(self):
        """How many models the server keeps loaded at once, 0 where nobody knows."""
        return self.limits.get("max_loaded_models") or 0


def weights_size(manifest):
    """Bytes of a model (_registry.Manifest) that have to be in memory."""
    return sum(size for kind, size in manifest.layers if kind in _LOADED)


def judge(prepared, problems, host, mode):
    """What is wrong with the room that the models of `prepared` (_prepare.Prepared) need: list of str for warnings.

    problems: {ModelName.key: LocalModelsError} of registries that could not be asked. host: Host. mode: one of MODES.
    Raises LocalModelsError where models do not fit and mode is enforce.
    """
    if mode == "ignore":
        return []
    coming = [action for action in prepared.actions if action.pulls]
    said = ["The size of %s is unknown before it is pulled, and whether it fits the disk and the memory: this host could not ask the"
            " registry. %s" % (action.shown, problems[action.name.key]) for action in coming if action.name.key in problems]
    known = [(action, prepared.manifests[action.name.key]) for action in coming if action.name.key in prepared.manifests]
    made = prepared.to_make
    if known or made:
        weights = [(action.shown, weights_size(manifest)) for action, manifest in known]
        weights += [(one.name.short, one.size) for one in made if not one.recipe.quantize]
        refusals = _too_large(weights, host) + _disk(prepared, [manifest for dummy, manifest in known], made, host, said)
        if refusals and mode == "enforce":
            raise refusals[0] if len(refusals) == 1 else LocalModelsError(
                " ".join(one.what + "." for one in refusals), refusals[0].mend)
        said += [one.what + "." for one in refusals]
    return said + _together(prepared, host)


def _too_large(weights, host):
    """Models that no unloading of others makes room for. weights: list of (name (str), bytes)."""
    memory = host.memory if any(size for dummy, size in weights) else None
    if not memory or memory.total is None:
        return []
    return [LocalModelsError(
        "%s can never be loaded here: its weights alone are %s, and this host has %s: %s are missing"
        % (name, size_text(size), memory, size_text(size - memory.total)),
        "Declare a smaller model or quantization, or one for another host; capacity: warn goes on all the same. Nothing was changed")
        for name, size in weights if size > memory.total]


def _disk(prepared, manifests, made, host, said):
    """manifests: list of _registry.Manifest. made: list of _made.Made. said: list of str to which goes what could not be looked at."""
    if not host.store:
        if prepared.reachable:
            said.append("Whether %s more fit the disk was not checked, for the model store of this server was not found"
                        " on this host. Name it by store_path." % size_text(sum(one.size for one in manifests + made)))
        return []
    store = host.store
    try:
        missing, free = store.missing(manifests), store.free() + _freed_before(prepared, manifests, store)
        # Files are read for their digests only if it matters how much of them is there already.
        more = _made.room(host.version, made, lambda one: 0)
        if made and missing + more > free:
            for one in made:
                one.read(prepared.notes)
            more = _made.room(host.version, made, lambda one: sum(store.there(one.digest(file), file.size) for file in one.files))
    except PermissionError as problem:
        said.append("Whether the models fit the disk was not checked: %s" % problem)
        return []
    missing += more
    if missing <= free:
        return []
    return [LocalModelsError(
        "The declared models need %s more on the disk of %s, and %s are free: %s are missing"
        % (size_text(missing), store.path, size_text(free), size_text(missing - free)),
        "Free that much, move the store to a larger disk, or declare fewer or smaller models; nothing was changed")]


def note_other_stores(prepared, store):
    """A service and a login user have stores of their own; models seem to vanish when the other one's server runs."""
    for action in prepared.actions:
        other = _store.elsewhere(action.name, store) if store and action.verb == "pull" else ""
        if other:
            prepared.warnings.append("%s is in the model store %s as well, which this server does not use; its own is %s."
                                     % (action.shown, other, store.path))


def _freed_before(prepared, manifests, store):
    """Bytes that the deletion of models frees before anything is pulled; 0 where their manifests cannot be read."""
    going = {action.name for action in prepared.actions if action.verb == "delete"}
    blobs = {one.name: store.sizes_of(one.name) for one in prepared.found} if going else {}
    if None in blobs.values():
        return 0
    kept = {digest for name, listed in blobs.items() if name not in going for digest in listed}
    kept.update(digest for manifest in manifests for digest in manifest.blobs)
    return sum({digest: size for name in going for digest, size in blobs.get(name, {}).items() if digest not in kept}.values())


def _together(prepared, host):
    """Models that are used by turns and push each other out of memory: those declared loaded, and the defaults of FastGPT. Ollama unloads
    the one for the other, and each question waits for a load (field failure chat-and-embedding-evict-each-other)."""
    if not any(action.changes or action.memory == "load" for action in prepared.actions):
        return []
    needs = _needs(prepared)
    if len(needs) < 2:
        return []
    names = " and ".join(action.shown for action, dummy in needs.values())
    if host.slots and len(needs) > host.slots:
        return ["%s are used by turns, and this server keeps %d loaded (OLLAMA_MAX_LOADED_MODELS): it unloads one for the other, and each"
                " question waits for that. Raise it, or give one of them an Ollama of its own." % (names, host.slots)]
    if not host.memory or host.memory.fast is None:
        return []
    total, words = sum(size for dummy, size in needs.values()), "even without their contexts"
    if total <= host.memory.fast:
        total += sum(_context.size(host.show(action.shown), action.wanted.context, host.limits)
                     for action, dummy in needs.values() if action.before and not action.changes)
        words = "with the contexts of those that are here"
    if total <= host.memory.fast:
        return []
    return ["%s are used by turns and do not fit in memory together: they need %s %s, and this host has %s. Ollama unloads one for the other, and"
            " each question waits for that. Declare smaller ones, or give one of them an Ollama of its own." % (names, size_text(total), words, host.memory)]


def _needs(prepared):
    """{what is loaded together: (_plan.Action, bytes of its weights)} of the models that are used by turns."""
    actions = {action.name: action for action in prepared.actions}
    needs = {}
    for action in actions.values():
        if action.wanted.state == "absent" or not (action.wanted.state == "loaded" or action.wanted.used):
            continue
        root = action
        while root.wanted.recipe and root.wanted.recipe.shares_weights:
            root = actions[root.wanted.recipe.base]
        manifest = prepared.manifests.get(root.name.key)
        size = weights_size(manifest) if manifest and root.pulls else root.size or 0
        needs.setdefault(root.name, (action, size))
    return needs
