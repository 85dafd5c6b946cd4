# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking everything away again."""

from __future__ import annotations

import shutil

from . import connections, engine
from .shell import CACHE, LABEL, docker, say


def clean() -> None:
    """All labs, all their images, the engine that was started here, and the lab's part of the cache are gone."""
    if engine.answers():
        _remove(("ps", "-aq"), ("rm", "-f", "-v"))
        _remove(("volume", "ls", "-q"), ("volume", "rm", "-f"))
        _remove(("network", "ls", "-q"), ("network", "rm"))
        images = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        ours = [image for image in images if image.startswith("lab-")]
        if ours:
            say(f"removing {len(ours)} images")
            docker("rmi", "-f", *ours)
        # Under other names: what was on its way into the lab's registry, and builds that were cut off.
        _remove(("images", "-q"), ("rmi", "-f"))
    for place in CACHE.glob("*/ssh_config"):
        connections.forget(connections.folder(place.parent.name))
    engine.stop()
    shutil.rmtree(CACHE, ignore_errors=True)


def _remove(listing, removing) -> None:
    found = docker(*listing, "--filter", f"label={LABEL}").split()
    if found:
        docker(*removing, *sorted(set(found)))
