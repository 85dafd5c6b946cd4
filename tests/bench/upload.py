#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A large GGUF file into Ollama on this machine: the module against `ollama create`, and the most memory that the module takes.

    upload.py [--size MEGABYTES] [--rounds N]       default: 2000 MB, 3 rounds

Both read the file for its digest, send it, and have the model made; in turn, each time into a server that has nothing. Against the lab's Ollama,
or against the real program in LAB_OLLAMA. A missed goal ends with status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
COLLECTIONS = CHECKOUT / ".cache" / "collections"
STAND_IN = CHECKOUT / "tests" / "lab" / "servers" / "ollama.py"
MOST_TIME, MOST_MEMORY = 1.25, 100  # times that of the command; MB, most of which are Python and Ansible's own
# The module as Ansible runs it, in a process whose memory can be told.
CHILD = """
import contextlib, io, json, sys
sys.path.insert(0, {collections!r})
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_models
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import patch_module_args
with patch_module_args(json.loads(sys.argv[1])), contextlib.redirect_stdout(io.StringIO()) as said:
    try:
        ollama_models.main()
    except SystemExit:
        pass
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({{"peak": peak * 1024, "result": json.loads(said.getvalue())}}))
"""


class Ollama:
    """A server with an empty store below `folder` until it is stopped."""

    def __init__(self, folder: pathlib.Path):
        sys.path.insert(0, str(COLLECTIONS))
        from ansible_collections.localmodels.fastgpt.tests.contract.wire import Server
        real = os.environ.get("LAB_OLLAMA")
        self.command = [real] if real else [sys.executable, str(STAND_IN)]
        self.server = Server([*self.command, "serve"], folder, env={"OLLAMA_HOST": "127.0.0.1:{port}", "OLLAMA_MODELS": "{state}/models",
                                                                    "OLLAMA_LAB_VERSION": "0.34.4"}).start()


def written(path: pathlib.Path, size: int) -> pathlib.Path:
    """A GGUF file of about `size` bytes: a tiny model, and behind it noise that no tensor names."""
    sys.path.insert(0, str(COLLECTIONS))
    from ansible_collections.localmodels.fastgpt.tests.contract import weights
    noise = os.urandom(1 << 20)
    with open(path, "wb") as file:
        file.write(weights.llama(1))
        for _ in range(size >> 20):
            file.write(noise)
    return path


def by_module(ollama: Ollama, file: pathlib.Path, scratch: pathlib.Path, expect: str = "create") -> tuple[float, int]:
    """(seconds, bytes of memory at most) of one run of the module. Ansible's own start is left out, as in the other rows; a run that does
    nothing is told whole."""
    options = {"models": [{"name": "bulky", "from": str(file)}], "url": ollama.server.url, "store_path": ollama.server.state + "/models"}
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CHILD.format(collections=str(COLLECTIONS)), json.dumps(options)], check=True, stdout=subprocess.PIPE,
                          env={**os.environ, "XDG_CACHE_HOME": str(scratch / "cache")})
    spent = time.monotonic() - start
    said = json.loads(done.stdout)
    if said["result"].get("failed") or said["result"]["models"][0]["action"] != expect:
        sys.exit(f"the module did not {expect}: {said['result']}")
    return said["result"]["models"][0]["seconds"] if expect == "create" else spent, said["peak"]


def by_command(ollama: Ollama, file: pathlib.Path, scratch: pathlib.Path) -> float:
    """Seconds of one `ollama create`."""
    modelfile = scratch / "Modelfile"
    modelfile.write_text(f"FROM {file}\n")
    start = time.monotonic()
    subprocess.run([*ollama.command, "create", "bulky", "-f", str(modelfile)], check=True, stderr=subprocess.DEVNULL,
                   env={**os.environ, "HOME": str(scratch), "OLLAMA_HOST": ollama.server.url.partition("//")[2]})
    return time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    pairs, peaks, again = [], [], []
    with tempfile.TemporaryDirectory(prefix="bench-upload-") as folder:
        scratch = pathlib.Path(folder)
        file = written(scratch / "bulky.gguf", arguments.size * 1000 * 1000)
        for _ in range(arguments.rounds):
            times = []
            for way in ("module", "command"):
                shutil.rmtree(scratch / "cache", ignore_errors=True)
                ollama = Ollama(scratch / way)
                try:
                    if way == "module":
                        spent, peak = by_module(ollama, file, scratch)
                        peaks.append(peak)
                        again.append(by_module(ollama, file, scratch, expect="none")[0])
                    else:
                        spent = by_command(ollama, file, scratch)
                finally:
                    ollama.server.stop()
                shutil.rmtree(scratch / way)
                times.append(spent)
            pairs.append(times)
    ratios = [ours / theirs for ours, theirs in pairs]
    ratio, peak = statistics.median(ratios), max(peaks) / 1e6
    met = ratio <= MOST_TIME and peak <= MOST_MEMORY
    ours, theirs = (statistics.median(column) for column in zip(*pairs))
    title = f"upload of a GGUF of {arguments.size} MB: the module / ollama create"
    print(f"{title:<66} {ours:8.2f} s {theirs:8.2f} s {ratio:7.2f} ({min(ratios):.2f}..{max(ratios):.2f})  "
          f"goal <= {MOST_TIME} times   {'met' if met else 'MISSED'}")
    print(f"    the module's memory: {peak:.0f} MB at most (goal <= {MOST_MEMORY}); run again, with nothing to do: {statistics.median(again):.2f} s")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
