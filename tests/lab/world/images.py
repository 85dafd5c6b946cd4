# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's images, each built once: its tag is the hash of everything that goes into it."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import shutil
import socket
import tempfile

from . import secrets
from .shell import CACHE, LAB, LABEL, LabError, docker, lock, need, run, say, succeeds

ONE_API_RELEASES = ("0.6.10", "0.6.9")
RELEASES = ("0.32.15", "0.32.14")  # Ollama's versions that the lab's internet offers, newest first
HUB_BASE = "debian:12"
BASE_PACKAGES = ("python3", "python3-aiohttp", "ca-certificates", "curl")
APT_SOURCES = """\
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://security.debian.org/debian-security bookworm-security main
"""
# Everything a container does not need: images are pulled by engines inside the lab, so they had better be small.
LEAN = "path-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\npath-exclude=/usr/share/info/*\n"


def exists(tag: str) -> bool:
    return succeeds("docker", "image", "inspect", tag)


def real_ollama(version: str) -> pathlib.Path | None:
    return _given("LAB_OLLAMA", version)


def real_aiproxy() -> pathlib.Path | None:
    return _given("LAB_AIPROXY")


def real_one_api() -> pathlib.Path | None:
    return _given("LAB_ONE_API")


def _given(variable: str, version: str = "") -> pathlib.Path | None:
    """The real program that an environment variable names; {version} in it stands for the version that is asked for."""
    path = os.environ.get(variable, "").replace("{version}", version)
    if not path:
        return None
    if not os.access(path, os.X_OK):
        raise LabError(f"{variable}={path}: no such program")
    return pathlib.Path(path).resolve()


# --- the base -------------------------------------------------------------------------------------------------------

@functools.cache
def base() -> str:
    """Debian 12 with Python and aiohttp: from Docker Hub's debian:12 where that is reachable, else by debootstrap."""
    wanted = hashlib.sha256("\n".join((*BASE_PACKAGES, APT_SOURCES, LEAN)).encode()).hexdigest()[:12]
    tag = f"lab-base:{wanted}"
    with lock("base"):
        if exists(tag):
            return tag
        had = exists(HUB_BASE)
        if _docker_hub_answers() and succeeds("docker", "pull", "-q", HUB_BASE, timeout=120):
            _base_from_hub(tag)
            if not had:
                succeeds("docker", "rmi", HUB_BASE)  # its layers stay below ours, and go with it
        else:
            _base_from_packages(tag)
    return tag


def _docker_hub_answers() -> bool:
    try:
        socket.create_connection(("registry-1.docker.io", 443), timeout=3).close()
        return True
    except OSError:
        return False


def _base_from_hub(tag: str) -> None:
    say(f"building the base image from {HUB_BASE}")
    dockerfile = "\n".join((
        f"FROM {HUB_BASE}", "COPY lean /etc/dpkg/dpkg.cfg.d/lean",
        "RUN rm -f /etc/apt/sources.list.d/*", "COPY sources.list /etc/apt/sources.list",
        "RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "
        + " ".join(BASE_PACKAGES) + " && apt-get clean && rm -rf /var/lib/apt/lists/*",
    ))
    with tempfile.TemporaryDirectory() as context:
        for name, text in (("Dockerfile", dockerfile), ("lean", LEAN), ("sources.list", APT_SOURCES)):
            pathlib.Path(context, name).write_text(text + "\n")
        _docker_build(tag, context, {})


def _base_from_packages(tag: str) -> None:
    if os.geteuid() != 0:
        raise LabError("Docker Hub is out of reach, and only root can build a base image with debootstrap: run as root")
    need(("debootstrap", "debootstrap"))
    say("building the base image with debootstrap from Debian's packages (about a minute)")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        root = pathlib.Path(place, "root")
        run("debootstrap", "--variant=minbase", "--include=" + ",".join(BASE_PACKAGES), "bookworm", str(root))
        (root / "etc/apt/sources.list").write_text(APT_SOURCES)
        (root / "etc/dpkg/dpkg.cfg.d/lean").write_text(LEAN)
        for waste in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt",
                      "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / waste, ignore_errors=True)
            (root / waste).mkdir()
        (root / "var/lib/apt/lists/partial").mkdir()
        run("sh", "-c", f"tar -C '{root}' -c . | docker import - {tag}")


# --- the others -----------------------------------------------------------------------------------------------------

@functools.cache
def server() -> str:
    servers = {inside: source for inside, source in _servers().items() if not inside.startswith("servers/registry")}
    return _image("server", {"BASE": base()}, {**servers, **_in_all_images()})


@functools.cache
def host() -> str:
    return _image("host", {"BASE": base()}, {
        **_in_all_images(), "authorized_keys": secrets.SSH_KEY.with_suffix(".pub"),
    })


def docker_host() -> str:
    return _image("docker-host", {"BASE": base(), "HOST": host()}, {})


def internet() -> str:
    files = _servers()
    files.update({f"tls/{name}": secrets.AUTHORITY / name for name in ("ca.crt", "server.crt", "server.key")})
    for version in RELEASES:
        files.update(_real_ollama_tree(f"real/{version}/", version))
    return _image("internet", {"BASE": base(), "RELEASES": " ".join(RELEASES)}, files)


def ollama(version: str) -> str:
    """The image ollama/ollama:VERSION."""
    if real_ollama(version):
        return _image("ollama-real", {"SERVER": server()}, _real_ollama_tree("ollama/", version))
    return _image("ollama", {"SERVER": server(), "VERSION": version}, {})


def aiproxy() -> str:
    real = real_aiproxy()
    if real:
        return _image("aiproxy-real", {"SERVER": server()}, {"aiproxy": real})
    return _image("aiproxy", {"SERVER": server()}, {})


def one_api(version: str) -> str:
    """The image ghcr.io/songquanpeng/one-api:vVERSION."""
    real = real_one_api()
    if real:
        return _image("one-api-real", {"SERVER": server()}, {"one-api": real})
    return _image("one-api", {"SERVER": server(), "VERSION": version}, {})


def fastgpt(version: str) -> str:
    """The image of FastGPT's app at this version."""
    return _image("fastgpt", {"SERVER": server(), "VERSION": version}, {})


def filler() -> str:
    return _image("filler", {"SERVER": server()}, {})


def _in_all_images() -> dict:
    return {"lab-ca.crt": secrets.AUTHORITY / "ca.crt", "lab_bytecode.py": LAB / "lab_bytecode.py"}


def _servers() -> dict:
    """The stand-ins, as files of a build context."""
    folder = LAB / "servers"
    return {f"servers/{path.relative_to(folder)}": path for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix != ".pyc"}


def _real_ollama_tree(prefix: str, version: str) -> dict:
    """What a real release of Ollama holds: bin/ollama, lib/ollama/*; as files of a build context. {} where none was given."""
    real = real_ollama(version)
    if not real:
        return {}
    files = {prefix + "bin/ollama": real}
    library = pathlib.Path(os.environ.get("LAB_LLAMA_DIR") or real.parent.parent / "lib" / "ollama")
    for path in sorted(library.rglob("*")):
        if path.is_file():
            files[f"{prefix}lib/ollama/{path.relative_to(library)}"] = path
    return files


def _image(name: str, arguments: dict, files: dict) -> str:
    """Tag of the image built from images/NAME, build arguments, and further files (path in the context -> source)."""
    folder = LAB / "images" / name
    content = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    content.update(files)
    digest = hashlib.sha256(repr(sorted(arguments.items())).encode())
    for inside, source in sorted(content.items()):
        digest.update(inside.encode() + b"\0" + hashlib.sha256(source.read_bytes()).digest())
    tag = f"lab-{name}:{digest.hexdigest()[:12]}"
    with lock("image-" + name):
        if not exists(tag):
            say(f"building image {name}")
            with tempfile.TemporaryDirectory() as context:
                for inside, source in content.items():
                    target = pathlib.Path(context, inside)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, target)
                _docker_build(tag, context, arguments)
    return tag


def _docker_build(tag: str, context: str, arguments: dict) -> None:
    options = [part for item in arguments.items() for part in ("--build-arg", "=".join(item))]
    docker("build", "-q", "--network", "host", "--label", LABEL, "-t", tag, *options, context, env={"DOCKER_BUILDKIT": "0"})
