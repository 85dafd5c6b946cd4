# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images the lab's Docker registry offers: every name in the compose files of the lab's hosts, Ollama's and
one-api's."""

from __future__ import annotations

import concurrent.futures
import hashlib
import itertools
import re

from . import images
from .shell import docker, say

IMAGE_LINE = re.compile(r"^\s*image:\s*(\S+)", re.MULTILINE)


def offered(compose_files) -> dict:
    """Name that people type -> tag of the lab's image behind it."""
    catalogue = {f"ollama/ollama:{version}": images.ollama(version) for version in images.RELEASES}
    catalogue["ollama/ollama:latest"] = images.ollama(images.RELEASES[0])
    catalogue.update({f"ghcr.io/songquanpeng/one-api:v{version}": images.one_api(version) for version in images.ONE_API_RELEASES})
    for path in compose_files:
        for name in IMAGE_LINE.findall(path.read_text()):
            catalogue[name] = _image_for(name)
    return catalogue


def _image_for(name: str) -> str:
    repository, _, tag = name.rpartition(":")
    if repository.endswith("/fastgpt"):
        return images.fastgpt(tag.lstrip("v"))
    if repository.endswith("/aiproxy"):
        return images.aiproxy()
    return images.filler()


def content_hash(catalogue: dict) -> str:
    return hashlib.sha256(repr(sorted(catalogue.items())).encode()).hexdigest()[:12]


def repository(name: str) -> str:
    """The path by which a registry knows an image: its host left out, Docker's own images in library/."""
    first, slash, rest = name.partition("/")
    if not slash:
        return f"library/{name}"
    return rest if "." in first or ":" in first else name


def push(catalogue: dict, address: str) -> None:
    """Put all images into the registry at address (host:port)."""
    say(f"filling the Docker registry with {len(catalogue)} images")

    def put(items) -> None:
        for name, image in items:
            target = f"{address}/{repository(name)}"
            docker("tag", image, target)
            docker("push", "-q", target)
            docker("rmi", target)

    first, *others = by_repository(catalogue)
    put(first)  # carries the layers that all share; the others then find them there
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(put, others))


def by_repository(catalogue: dict) -> list:
    """Its items (list of lists), those of one repository together and so one after the other: docker-registry answers 500 where it
    reads the link of a layer that another push into the same repository is just writing."""
    def path(item):
        return repository(item[0]).rpartition(":")[0]
    return [sorted(items) for _, items in itertools.groupby(sorted(catalogue.items(), key=path), key=path)]
