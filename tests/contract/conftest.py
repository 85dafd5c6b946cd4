# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says at the end how many recorded exchanges were replayed: `N passed` counts what the clients make of them, and all else, too."""

from __future__ import annotations


def pytest_terminal_summary(terminalreporter):
    from ansible_collections.localmodels.fastgpt.tests.contract import replay  # found by its name since pytest was configured
    said = replay.told([report.nodeid for report in terminalreporter.stats.get("passed", ())])
    if said:
        terminalreporter.write_line(said)
