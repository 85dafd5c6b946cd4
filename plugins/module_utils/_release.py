# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release archive of Ollama: its name, its checksum, the folder it is unpacked into. Internal to this collection.

Facts: Ollama's release workflow and scripts/install.sh, 0.13 to 0.33.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _unzstd
from ansible_collections.localmodels.fastgpt.plugins.module_utils._alone import alone
from ansible_collections.localmodels.fastgpt.plugins.module_utils._download import Download, fetch_text
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError, scrub

ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
CHECKSUMS = "sha256sum.txt"
_SHA256 = re.compile(r"^(?:sha256:)?([0-9a-fA-F]{64})\Z")
_FOLDER = re.compile(r"^\d+\.\d+\.\d+(-rc\d+)?\Z")


def asset(version, machine):
    """The archive's file name for `version` (str) on `machine` (as uname tells it). Raises LocalModelsError."""
    if machine not in ARCHITECTURES:
        raise LocalModelsError("Ollama publishes no Linux release for the architecture %s" % machine,
                               "It does for %s" % " and ".join(sorted(set(ARCHITECTURES.values()))))
    return "ollama-linux-%s.%s" % (ARCHITECTURES[machine], "tar.zst" if packed_with_zstd(version) else "tgz")


def packed_with_zstd(version):
    """Whether the archives of `version` are .tar.zst: since 0.14.0, .tgz before."""
    return tuple(int(number) for number in version.partition("-")[0].split(".")) >= (0, 14, 0)


def parse_checksums(text, name):
    """The SHA-256 (64 hex digits) of file `name` in a sha256sum.txt, or None. Lines are `HEX  ./NAME`."""
    match = re.search(r"(?m)^([0-9a-fA-F]{64})[ \t]+\*?(?:\./)?%s[ \t]*\r?$" % re.escape(name), text)
    return match.group(1).lower() if match else None


def read_checksum(text):
    """`HEX` or `sha256:HEX` -> 64 hex digits. Raises LocalModelsError."""
    match = _SHA256.match(text.strip())
    if not match:
        raise LocalModelsError("%r is no SHA-256 checksum" % text, "Give 64 hexadecimal digits, with or without sha256: before them")
    return match.group(1).lower()


class Release:
    """One version below `install_dir`.

    run: callable(list of str) -> (rc, stdout, stderr). url: folder of the releases, without the version.
    checksum: "" takes it from the release's own list. machine: as uname tells it.
    """

    def __init__(self, run, version, install_dir, url, checksum, machine):
        self._run = run
        self.version = version
        self.install_dir = install_dir
        self.asset = asset(version, machine)
        self.folder_url = "%s%s/v%s" % ("file://" if url.startswith("/") else "", url.rstrip("/"), version)
        self.url = "%s/%s" % (self.folder_url, self.asset)
        self.path = folder(install_dir, version)
        self._given = read_checksum(checksum) if checksum else ""

    def present(self):
        """Whether it is unpacked. Its folder gets its name as the last step, so what has the name is whole."""
        return os.access(program(self.install_dir, self.version), os.X_OK)

    def checksum(self):
        """Which SHA-256 the archive must have, and who says so: (64 hex digits, str). Raises LocalModelsError."""
        if self._given:
            return self._given, "ollama_checksum"
        source = "%s/%s" % (self.folder_url, CHECKSUMS)
        found = parse_checksums(fetch_text(source, missing="There is probably no Ollama release %s" % self.version), self.asset)
        if not found:
            raise LocalModelsError("%s has no line for %s" % (scrub(source), self.asset),
                                   "Check ollama_version, or give the checksum yourself as ollama_checksum")
        return found, source

    def install(self):
        """Download, check, unpack beside, rename. Returns the bytes received. Raises LocalModelsError; then nothing is in place."""
        wanted, source = self.checksum()
        os.makedirs(self.install_dir, mode=0o755, exist_ok=True)
        archive = os.path.join(self.install_dir, ".%s-%s.part" % (self.version, self.asset))
        download = Download(self.url, archive)
        with alone(self.install_dir):
            if self.present():
                return 0
            download.run(wanted, source)
            try:
                self.put_in_place(archive)
            finally:
                os.unlink(archive)
        return download.received

    def put_in_place(self, archive):
        """Unpack an archive whose checksum was compared: beside its place, then a rename. To be called alone() in install_dir. Raises LocalModelsError;
        then nothing is in place."""
        beside = os.path.join(self.install_dir, ".%s.unpacked" % self.version)
        shutil.rmtree(beside, ignore_errors=True)
        try:
            self._unpack(archive, beside)
            # A folder of that name without a program in it is what someone left; it is in the way of the rename.
            shutil.rmtree(self.path, ignore_errors=True)
            os.sync()  # else a power cut may leave the name and not what is in it
            os.rename(beside, self.path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _unpack(self, archive, target):
        os.makedirs(target, mode=0o755)
        extract = ["tar", "--extract", "--no-same-owner", "--directory", target]
        if self.asset.endswith("zst") and not shutil.which("zstd"):
            rc, err = _unpack_by_library(archive, extract + ["--file", "-"])
        else:
            packer = "zstd" if self.asset.endswith("zst") else "gzip"
            rc, dummy, err = self._run(extract + ["--use-compress-program", packer, "--file", archive])
        if rc:
            raise LocalModelsError("%s cannot be unpacked into %s: %s" % (self.asset, target, " ".join(err.split())[-300:]),
                                   "Check the free space there")
        if not os.access(os.path.join(target, "bin", "ollama"), os.X_OK):
            raise LocalModelsError("%s holds no bin/ollama" % scrub(self.url), "Check ollama_release_url")


def can_unpack_zstd():
    """Whether this host can unpack .tar.zst: by the command, or by the library alone."""
    return shutil.which("zstd") is not None or _unzstd.available()


def _unpack_by_library(archive, extract):
    """Run the command `extract` (list of str), which reads a tar file from its input. Returns (rc, stderr)."""
    with tempfile.TemporaryFile() as said, open(archive, "rb") as packed:
        tar = subprocess.Popen(extract, stdin=subprocess.PIPE, stderr=said)
        problem = ""
        try:
            with tar.stdin:
                _unzstd.unpack(packed, tar.stdin)
        except (OSError, _unzstd.Damaged) as stopped:  # where tar ended first, it says itself why
            problem = str(stopped)
        rc = tar.wait()
        said.seek(0)
        return rc or bool(problem), said.read().decode("utf-8", "replace") or problem


def folder(install_dir, version):
    """Where a version lies."""
    return os.path.join(install_dir, version)


def program(install_dir, version):
    """Its executable."""
    return os.path.join(folder(install_dir, version), "bin", "ollama")


def installed(install_dir):
    """The versions (sorted list of str) that have a folder below `install_dir`."""
    try:
        return sorted(name for name in os.listdir(install_dir) if _FOLDER.match(name))
    except OSError:
        return []
