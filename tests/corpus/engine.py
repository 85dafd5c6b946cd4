# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docker compose on this machine, and the collection importable by its name."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(CHECKOUT / "tests"))
from stages import common  # noqa: E402

common.find_collection()

PLACES = ("~/.docker/cli-plugins", "/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins",
          "/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins")
SECONDS = 120


class Rejected(Exception):
    """Compose does not take the files; its words are the text."""


def find():
    """The command (list) of docker compose of version 2 or newer. Neither an engine nor a container is needed. Exits where there is none.

    DOCKER_COMPOSE names it; else `docker compose`, a plugin where plugins lie, one in .cache, or docker-compose in PATH.
    """
    named = os.environ.get("DOCKER_COMPOSE")
    found = [named.split()] if named else [["docker", "compose"]]
    if not named:
        found += [[str(path)] for place in PLACES for path in [pathlib.Path(place).expanduser() / "docker-compose"] if path.is_file()]
        found += [[str(path)] for path in sorted((CHECKOUT / ".cache").glob("compose/**/cli-plugins/docker-compose"))]
        found += [["docker-compose"]]
    for command in found:
        if shutil.which(command[0]):
            said = subprocess.run(command + ["version", "--short"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
            if said.returncode == 0 and said.stdout.decode().strip().lstrip("v").partition(".")[0] not in ("", "1"):
                return command
    sys.exit("There is no docker compose of version 2 on this machine, and without it nothing can be proved. Install it, or name "
             "it as DOCKER_COMPOSE; on Debian: apt-get download docker-compose && dpkg -x docker-compose_*.deb .cache/compose")


class Compose:
    """`docker compose config` of files, answers remembered: many results are the same text."""

    def __init__(self, command):
        self.command = command
        self._config = functools.lru_cache(maxsize=64)(self._run)

    def config(self, folder, texts):
        """The effective project as dict. folder: where `.env` and other files of the project lie. texts: list of bytes.

        Raises Rejected.
        """
        out = self._config(str(folder), tuple(texts))
        if isinstance(out, Rejected):
            raise out
        return undoubled(json.loads(out))

    def _run(self, folder, texts):
        with tempfile.TemporaryDirectory(prefix="corpus-") as place:
            files = []
            for number, text in enumerate(texts):
                files += ["-f", os.path.join(place, "%d.yml" % number)]
                with open(files[-1], "wb") as target:
                    target.write(text)
            command = self.command + ["-p", "fastgpt", "--project-directory", folder] + files
            env = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
            try:
                said = subprocess.run(command + ["--profile", "*", "config", "--format", "json"], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False, env=env)
            except subprocess.TimeoutExpired:
                return Rejected("docker compose config gives no answer in %d s" % SECONDS)
            if said.returncode:
                lines = said.stderr.decode("utf-8", "replace").replace(place + "/", "").splitlines()
                return Rejected("\n".join(line for line in lines if line.strip() and "level=warning" not in line) or "no reason given")
            return said.stdout


def undoubled(node):
    """Compose doubles each $ so that its output can be read as a compose file again."""
    if isinstance(node, dict):
        return {key: undoubled(value) for key, value in node.items()}
    if isinstance(node, list):
        return [undoubled(value) for value in node]
    return node.replace("$$", "$") if isinstance(node, str) else node
