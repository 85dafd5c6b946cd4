# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compose files held against docker compose itself: official ones, layouts of projects, and mutants."""

from __future__ import annotations

import os
import subprocess

from . import scenarios
from .common import BIN, CACHE, CHECKOUT, StageFailed, call, environment

FOLDER = CHECKOUT / "tests" / "corpus"
SAMPLES = CHECKOUT / "tests" / "fixtures" / "compose"
PLUGIN = CACHE / "compose" / "cli-plugins" / "docker-compose"
IN_IMAGE = "/usr/libexec/docker/cli-plugins/docker-compose"
SHORT = 60  # mutants in `make test`; `make mutants` makes 1200


def corpus() -> None:
    """every official compose file x path x strategy x kind of Ollama, layouts of whole projects, and some mutants"""
    bring_compose()
    call(BIN / "python", FOLDER / "run.py", SAMPLES)
    call(BIN / "python", FOLDER / "shapes.py")
    call(BIN / "python", FOLDER / "mutate.py", SAMPLES, "--mutants", SHORT)


def mutants() -> None:
    """the whole mutation campaign: MUTANTS of them (1200), SEED"""
    bring_compose()
    seed = ["--seed", os.environ["SEED"]] if os.environ.get("SEED") else []
    call(BIN / "python", FOLDER / "mutate.py", SAMPLES, "--mutants", os.environ.get("MUTANTS", "1200"), *seed)


def bring_compose() -> None:
    """Docker Compose is in .cache/compose: the one that the lab's Docker hosts have. No engine is needed once it is there."""
    if PLUGIN.exists() or os.environ.get("DOCKER_COMPOSE"):
        return
    scenarios.images()
    image = _said("docker", "images", "-q", "lab-docker-host").split()
    PLUGIN.parent.mkdir(parents=True, exist_ok=True)
    part = PLUGIN.with_suffix(".part")
    with open(part, "wb") as target:
        done = subprocess.run(["docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", image[0], IN_IMAGE], stdout=target, env=environment())
    if done.returncode:
        raise StageFailed("docker compose cannot be taken out of the image lab-docker-host")
    part.chmod(0o755)
    part.rename(PLUGIN)


def _said(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment()).stdout
