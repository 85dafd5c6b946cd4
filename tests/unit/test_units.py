# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils._units import size_text, time_text


@pytest.mark.parametrize("count, text", [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (397821319, "397.8 MB"), (999960000, "1.0 GB"),
                                         (4661211424, "4.7 GB"), (2.5e12, "2.5 TB"), (2.5e15, "2500.0 TB")])
def test_bytes(count, text):
    assert size_text(count) == text


@pytest.mark.parametrize("seconds, text", [(0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (125, "2 min 5 s"), (11520, "3 h 12 min")])
def test_seconds(seconds, text):
    assert time_text(seconds) == text
