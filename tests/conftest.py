# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets tests import the collection by its real name, from this checkout, wherever that lies."""

from __future__ import annotations

import gc
import os
import pathlib
import sys

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from stages import common

gc.set_threshold(50_000)  # thousands of collected tests are no garbage: looking through them again and again takes a twentieth of the time

# A busy machine is no failure: how long an example takes proves nothing.
settings.register_profile("many", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("few", settings.get_profile("many"), max_examples=10)
settings.load_profile(os.environ.get("EXAMPLES", "many"))


def pytest_configure(config):
    config.addinivalue_line("markers", "thorough: takes seconds, for it tries very many cases; only `make thorough` runs it")
    common.find_collection()
