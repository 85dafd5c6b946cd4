# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that need no host of the lab: the module beside an Ollama and a registry on loopback."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from stages import common  # noqa: E402

MANY, SEVERAL = 20, 8
WEIGHTS = 2_000_000     # bytes of each of the several
PACE = 500_000          # bytes a second that the slow registry sends on a connection
GOALS = {"present": 1, "latest": 2}  # requests to Ollama for MANY models that are there


class Local:
    """A registry with MANY small and SEVERAL larger models, an Ollama that holds the small ones, and a proxy that counts requests."""

    def __init__(self):
        common.find_collection()
        from ansible_collections.localmodels.fastgpt.tests.contract.ollama_world import SERVERS, registry_program
        from ansible_collections.localmodels.fastgpt.tests.contract.wire import Server, send
        from ansible_collections.localmodels.fastgpt.tests.faults.between import Between
        self.send, self.folder = send, tempfile.TemporaryDirectory(prefix="bench-")
        place = pathlib.Path(self.folder.name)
        self.registry = Server([sys.executable, str(SERVERS / "registry.py"), "serve", "{state}", "--listen", "127.0.0.1:{port}"],
                               place / "registry", ready="/_lab/faults").start()
        ollama = [os.environ["LAB_OLLAMA"]] if "LAB_OLLAMA" in os.environ else [sys.executable, str(SERVERS / "ollama.py")]
        self.ollama = Server([*ollama, "serve"], place / "ollama", env={"OLLAMA_HOST": "127.0.0.1:{port}", "OLLAMA_MODELS": "{state}/models"}).start()
        self.between = Between(self.ollama.port)
        weights = place / "weights"
        for name, size in [(f"many-{n}", 20_000) for n in range(MANY)] + [(f"several-{n}", WEIGHTS) for n in range(SEVERAL)]:
            weights.write_bytes(os.urandom(size))
            registry_program().add(self.registry.state, f"library/{name}:latest", weights, {"template": name}, {"model_type": name})
        for number in range(MANY):
            send(self.ollama.url, "POST", "/api/pull", {}, {"model": self.named(f"many-{number}"), "insecure": True})

    def named(self, name: str) -> str:
        return f"127.0.0.1:{self.registry.port}/library/{name}:latest"

    def slow(self, rate: int) -> None:
        self.send(self.registry.url, "PUT", "/_lab/faults", {}, [{"path": "/v2/*/blobs/*", "rate": rate}])

    def stop(self) -> None:
        self.between.shutdown()
        for server in (self.registry, self.ollama):
            server.stop()
        self.folder.cleanup()


class Requests:
    """One figure: how many requests a server gets for models that are there. state: present, or latest."""

    needs_lab = False

    def __init__(self, local, play, state):
        self.local, self.play, self.state = local, play, state

    def run(self, _rounds: int) -> bool:
        local = self.local()
        local.between.asked.clear()
        local.send(local.registry.url, "DELETE", "/_lab/requests", {}, None)
        models = [{"name": local.named(f"many-{number}"), "state": self.state} for number in range(MANY)]
        spent = self.play("models_local", "localhost", url=local.between.url, models=models, expect_no_change=True)
        asked = len(local.between.asked)
        manifests = len(local.send(local.registry.url, "DELETE", "/_lab/requests", {}, None)["body"])
        met = asked <= GOALS[self.state] and manifests == (MANY if self.state == "latest" else 0)
        title = f"{MANY} models {self.state}, on the host itself: requests to Ollama / registry"
        print(f"{title:<66} {spent:8.2f} s {'':8}   {asked:7} / {manifests:<13} goal {f'<= {GOALS[self.state]}':<15} {'met' if met else 'MISSED'}",
              flush=True)
        return met


def rows(row, play) -> dict:
    """Name -> row. row: the class bench.Row; play: its function that runs a playbook."""
    begun = []

    def local() -> Local:
        if not begun:
            begun.append(Local())
        return begun[0]

    def pulled(at_once: int) -> float:
        local().slow(PACE)
        result = common.CACHE / "bench-slow.json"
        models = [local().named(f"several-{number}") for number in range(SEVERAL)]
        play("models_slow", "localhost", url=local().ollama.url, models=models, parallel=at_once, result=str(result))
        return json.loads(result.read_text())["seconds"]

    return {
        "requests": Requests(local, play, "present"),
        "requests_latest": Requests(local, play, "latest"),
        "models_local": row(f"{MANY} models present, on the host itself: one call / a bare ping",
                            lambda: play("models_local", "localhost", url=local().ollama.url, expect_no_change=True,
                                         models=[local().named(f"many-{number}") for number in range(MANY)]),
                            lambda: play("ping_local", "localhost"), most=2.5, needs_lab=False),
        "slow_registry": row(f"{SEVERAL} models from a slow registry: together / one after the other",
                             lambda: pulled(4), lambda: pulled(1), least=3, warm=0, needs_lab=False),
    }, lambda: [one.stop() for one in begun]
