# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a tarball: built, installed into an empty place, and used by its name."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

from .common import BIN, CACHE, CHECKOUT, StageFailed, call, environment

PLACE = CACHE / "installed"  # of the demo: ansible_collections/ with nothing but the installed tarball
DIST = CACHE / "dist"
CONTENT = ("plugins", "roles", "playbooks", "meta", "docs", "changelogs")
# For playbook models in check mode, on a host where no Ollama listens.
NOTHING_TO_DO = {"local_models": [{"name": "nobody", "state": "absent"}], "ollama_listen": "127.0.0.1:9", "ansible_python_interpreter": sys.executable}
GALAXY_LIMIT = 20 * 1000 * 1000
SHIPPED = {"MANIFEST.json", "FILES.json", "README.md", "README.zh.md", "CHANGELOG.rst", "LICENSE", "changelogs", "docs", "meta",
           "playbooks", "plugins", "roles"}


def build(target: pathlib.Path) -> pathlib.Path:
    """Path of the freshly built tarball, in this folder."""
    call(BIN / "ansible-galaxy", "collection", "build", "--force", "--output-path", target)
    (tarball,) = target.glob("localmodels-fastgpt-*.tar.gz")
    return tarball


def install() -> None:
    """the tarball of this checkout is installed in .cache/installed; again only when something has changed"""
    with tempfile.TemporaryDirectory() as fresh:
        tarball = build(pathlib.Path(fresh))
        content = hashlib.sha256(_file_list(tarball)).hexdigest()
        marker = PLACE / "made-of"
        if not marker.exists() or marker.read_text() != content:
            shutil.rmtree(PLACE, ignore_errors=True)
            _install(tarball, PLACE)
            marker.write_text(content)


def _install(tarball: pathlib.Path, place: pathlib.Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    call(BIN / "ansible-galaxy", "collection", "install", "--offline", "--no-deps", "--collections-path", place, tarball,
         ANSIBLE_COLLECTIONS_PATH=str(place))


def _file_list(tarball: pathlib.Path) -> bytes:
    with tarfile.open(tarball) as archive:
        return archive.extractfile("FILES.json").read()


def package() -> None:
    """the tarball (left in .cache/dist) installs into an empty place and works by FQCN; Galaxy's importer would take it"""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir(parents=True)
    tarball = build(DIST)
    with tempfile.TemporaryDirectory() as empty:  # no ansible.cfg, no checkout around
        place = pathlib.Path(empty, "collections")
        _install(tarball, place)
        root = place / "ansible_collections" / "localmodels" / "fastgpt"
        _galaxy_would_take(tarball, root)
        _holds_all(root)
        modules = sorted(f"localmodels.fastgpt.{path.stem}" for path in (root / "plugins" / "modules").glob("*.py"))
        described = _ansible_doc(modules, empty, place)
        if sorted(described) != modules:
            raise StageFailed(f"ansible-doc knows {sorted(described)}, not {modules}")
        for name, text in described.items():
            for part in ("doc", "examples", "return"):
                if not text.get(part):
                    raise StageFailed(f"{name} has no {part}")
        for playbook in sorted((root / "playbooks").glob("*.yml")):
            call(BIN / "ansible-playbook", "--syntax-check", "-i", "localhost,", f"localmodels.fastgpt.{playbook.stem}",
                 cwd=empty, ANSIBLE_COLLECTIONS_PATH=str(place))
        # One of them runs: role, filter, action plugin and module are found, and with them what they import.
        call(BIN / "ansible-playbook", "--check", "-i", "localhost,", "-c", "local", "-e", json.dumps(NOTHING_TO_DO), "localmodels.fastgpt.models",
             cwd=empty, ANSIBLE_COLLECTIONS_PATH=str(place))
    print(f"{len(modules)} modules, playbooks and roles work from the installed tarball")


def _ansible_doc(modules, cwd, place) -> dict:
    done = subprocess.run([BIN / "ansible-doc", "--json", "-t", "module", *modules], cwd=cwd, text=True, capture_output=True,
                          env=environment(ANSIBLE_COLLECTIONS_PATH=str(place)))
    if done.returncode:
        raise StageFailed(f"ansible-doc: {done.stderr.strip()}")
    return json.loads(done.stdout)


def _holds_all(root: pathlib.Path) -> None:
    """What the project has of the collection's folders is in the tarball: a pattern in build_ignore may take more than it is meant to."""
    listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *CONTENT)
    names = subprocess.run(listing, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.split("\0")
    lost = [name for name in names if name and (CHECKOUT / name).is_file() and not (root / name).is_file()]
    if lost or not any(names):
        raise StageFailed("not in the tarball (see build_ignore in galaxy.yml): " + (", ".join(lost) or "nothing is known of the project"))


def _galaxy_would_take(tarball: pathlib.Path, root: pathlib.Path) -> None:
    """What the importer of Galaxy refuses: a role without README or meta, no changelog, no licence, too large a tarball."""
    missing = [str(path.relative_to(root)) for path in (root / "README.md", root / "LICENSE", root / "meta" / "runtime.yml",
                                                         root / "changelogs" / "config.yaml") if not path.exists()]
    for role in sorted((root / "roles").iterdir()):
        missing += [f"roles/{role.name}/{part}" for part in ("README.md", "meta/main.yml", "meta/argument_specs.yml",
                                                              "defaults/main.yml") if not (role / part).exists()]
    if missing:
        raise StageFailed("missing in the tarball: " + ", ".join(missing))
    if tarball.stat().st_size > GALAXY_LIMIT:
        raise StageFailed(f"{tarball.name} has {tarball.stat().st_size} bytes; Galaxy takes {GALAXY_LIMIT}")
    unwanted = sorted({path.name for path in root.iterdir()} - SHIPPED)
    if unwanted:
        raise StageFailed("should not be in the tarball (see build_ignore in galaxy.yml): " + ", ".join(unwanted))
