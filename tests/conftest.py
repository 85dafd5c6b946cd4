# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets tests import the collection by its real name, from this checkout, wherever that lies."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile

from ansible.utils.collection_loader import _collection_finder
from hypothesis import HealthCheck, settings

# A busy machine is no failure: how long an example takes proves nothing.
settings.register_profile("many", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("few", settings.get_profile("many"), max_examples=20)
settings.load_profile(os.environ.get("EXAMPLES", "many"))
CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


def import_by_name() -> pathlib.Path:
    """The checkout can be imported as the collection; returns the folder that makes it so, which the caller takes away at the end."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="collections-"))
    place = root / "ansible_collections" / "localmodels"
    place.mkdir(parents=True)
    (place / "fastgpt").symlink_to(CHECKOUT)
    _collection_finder._AnsibleCollectionFinder(paths=[str(root)])._install()
    return root


def pytest_configure(config):
    config.addinivalue_line("markers", "thorough: takes seconds, for it tries very many cases; only `make thorough` runs it")
    root = import_by_name()
    config.add_cleanup(lambda: shutil.rmtree(root, ignore_errors=True))
