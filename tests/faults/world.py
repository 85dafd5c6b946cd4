# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Ollama, one registry and what is between them and the module; one case after the other is played in it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _progress
from ansible_collections.localmodels.fastgpt.plugins.modules import ollama_models
from ansible_collections.localmodels.fastgpt.tests.contract.ollama_world import SERVERS, registry_program
from ansible_collections.localmodels.fastgpt.tests.contract.wire import Server, send
from ansible_collections.localmodels.fastgpt.tests.faults import cases, judge
from ansible_collections.localmodels.fastgpt.tests.faults.between import Between, Fault
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import patch_module_args

REAL = os.environ.get("LAB_OLLAMA")
STARTS_AFTER = 0.5      # seconds from the end of an Ollama to its next start
SLOW = 25_000           # bytes a second of a pull that will be cancelled: it could not end by itself in the meantime
STARTED_WITHIN = 200    # seconds for a module in a process of its own, on a machine that has much else to do
IN_TROUBLE = 1.5        # seconds after the manifest: Ollama has tried twice, and waits 2 s before it does again
CANCELLED_WITHIN = 6    # seconds
QUIET = 2.5             # seconds in which nothing may come of a cancelled pull any more; what waits to try again has tried by then
_progress.GONE_AFTER = 1  # a minute, shortened


class Model:
    """name: HOST/NAMESPACE/MODEL:TAG. manifest: bytes. blobs: set of digests. weights, config: digests. path: of its manifest."""

    def __init__(self, host, path, manifest):
        self.name, self.path, self.manifest = "%s/%s:latest" % (host, path), path + "/manifests/latest", manifest
        parsed = json.loads(manifest)
        self.weights, self.config = parsed["layers"][0]["digest"], parsed["config"]["digest"]
        self.blobs = {blob["digest"] for blob in parsed["layers"]} | {self.config}


class World:
    """folder: pathlib.Path, for all state."""

    def __init__(self, folder):
        self.folder = folder
        self.registry = Server([sys.executable, str(SERVERS / "registry.py"), "serve", "{state}", "--listen", "127.0.0.1:{port}"],
                               folder / "registry", ready="/_lab/faults")
        argv = [REAL, "serve"] if REAL else [sys.executable, str(SERVERS / "ollama.py"), "serve"]
        self.ollama = Server(argv, folder / "ollama", env={"OLLAMA_HOST": "127.0.0.1:{port}", "OLLAMA_MODELS": "{state}/models"},
                             ready="/api/version")
        self.between = None
        self._again = None

    def start(self):
        self.registry.start()
        self.ollama.start()
        self.between = Between(self.ollama.port)
        return self

    def stop(self):
        self.registry.stop()
        self.ollama.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def store(self):
        return os.path.join(self.ollama.state, "models")

    def play(self, case, number):
        """What is wrong (list of str) about one case; `number` makes its models its own."""
        models = self._publish(case, number)
        self.between.pulls.clear()
        self._registry_does()
        if case.where == "module":
            wrong = self._cancelled(case, models)
        else:
            self._hurt(case, models)
            # A server that starts again may take its time on a busy machine.
            result = self._module(models, retries=3 if case.fault.endswith("starts again") else 1)
            self._heal()
            wrong = judge.faults_of_run(result, self._missing(models), case.expected, case.hit)
        wrong += judge.overlaps(self.between.pulls, {model.name: model.blobs for model in models})
        wrong += self._afterwards(models)
        self._forget(models)
        return wrong

    def _afterwards(self, models):
        """Without the fault the next run reaches the declared state, and the one after that finds nothing to do."""
        result = self._module(models)
        wrong = ["the run after it: " + what for what in judge.faults_of_run(result, self._missing(models), "ok", set())]
        check = self._module(models, check=True)
        if check.get("failed") or check["changed"]:
            wrong.append("the check after that would change something: %s" % (check.get("msg") or check["actions"]))
        return wrong

    def _publish(self, case, number):
        letters, found = {}, []
        for place, letter in enumerate(cases.SHAPES[case.shape]):
            weights = letters.setdefault(letter, random.randbytes(cases.WEIGHTS))
            file = self.folder / "weights"
            file.write_bytes(weights)
            path = "c%d/m%d" % (number, place)
            mark = "%d of %d" % (place, number)
            registry_program().add(self.registry.state, path + ":latest", file, {"template": "{{ .Prompt }} " + mark}, {"model_type": mark})
            manifest = (pathlib.Path(self.registry.state) / "manifests" / path / "latest").read_bytes()
            found.append(Model("127.0.0.1:%d" % self.registry.port, path, manifest))
        return found

    def _forget(self, models):
        for model in models:
            send(self.ollama.url, "DELETE", "/api/delete", {}, {"model": model.name})
            for digest in model.blobs:
                (pathlib.Path(self.registry.state) / "blobs" / digest.replace(":", "-")).unlink(missing_ok=True)
        self.registry_requests()

    def registry_requests(self):
        """What the registry was asked since this was called last."""
        return send(self.registry.url, "DELETE", "/_lab/requests", {}, None)["body"]

    def _missing(self, models):
        return {model.name: judge.lacking(self.store, model.name, model.manifest) for model in models}

    def _registry_does(self, *rules, pace=cases.PACE):
        send(self.registry.url, "PUT", "/_lab/faults", {}, [*rules, {"path": "/v2/*/blobs/*", "rate": pace}])

    def _hurt(self, case, models):
        first, times = models[0], None if case.lasting else 1
        if case.how.get("drop") == "down":
            self.registry.stop()
        elif case.where == "registry":
            rule = {"rate": cases.PACE, **case.how}
            rule["path"] = rule["path"].format(first=first.path, weights="blobs/" + first.weights, config="blobs/" + first.config)
            self._registry_does({**rule, "times": times} if times else rule)
        elif case.where == "disk":
            send(self.ollama.url, "PUT", "/_lab/faults", {}, {"disk_full": case.how["disk_full"]})
        elif case.where == "stream":
            self.between.fault = Fault(case.moment, first.name, lambda handler: self._act(case.fault, handler), times)
        else:
            model = first.name if case.how["path"] == "/api/pull" else ""
            self.between.fault = Fault(path=case.how["path"], model=model, times=times, answer=case.how, after_pull="after" in case.moment)

    def _act(self, fault, handler):
        if fault == "cut":
            handler.hang_up()
        elif fault == "reset":
            handler.hang_up(reset=True)
        elif fault == "ends without success":
            handler.finish_politely()
        elif fault == "stalls":
            handler.fall_silent()
        elif fault == "passing error in 200":
            handler.finish_politely(b'{"error":"max retries exceeded: EOF"}\n')
        elif fault == "final error in 200":
            handler.finish_politely(b'{"error":"write /models/blobs/sha256-0-partial: no space left on device"}\n')
        elif fault == "no JSON in between":
            handler.pass_on(b"<html>\n")
        else:
            self._end_ollama(signal.SIGTERM if fault.startswith("ended") else signal.SIGKILL, fault.endswith("again"), fault == cases.HALF_A_NOTE)

    def _end_ollama(self, how, again, half_a_note=False):
        self.ollama.stop(how)
        if half_a_note:
            for note in pathlib.Path(self.store, "blobs").glob("*-partial-*"):
                note.write_bytes(b"")

        def start():
            time.sleep(STARTS_AFTER)
            self.ollama.start()

        if again:
            self._again = threading.Thread(target=start)
            self._again.start()

    def _heal(self):
        self.between.fault = None
        if self._again:
            self._again.join()
            self._again = None
        for server in (self.registry, self.ollama):
            if not server.running:
                server.start()
        self._registry_does()
        if not REAL:
            send(self.ollama.url, "PUT", "/_lab/faults", {}, {})

    def _options(self, models):
        return {"url": self.between.url, "models": [model.name for model in models], "insecure": True, "retries": 1, "stall_timeout": 3,
                "store_path": self.store}

    def _module(self, models, check=False, **more):
        """The result (dict) of the module, run in this process."""
        said = io.StringIO()
        options = {**self._options(models), **more, "_ansible_check_mode": check}
        with patch_module_args(options), contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            ollama_models.main()
        return json.loads(said.getvalue())

    def _cancelled(self, case, models):
        """A module that is killed, or that nobody watches any more, leaves no pull behind, and none that would go on later."""
        reached = threading.Event()
        if case.how:
            self._registry_does({**case.how, "path": case.how["path"].format(weights="blobs/" + models[0].weights)}, pace=SLOW)
        else:
            self._registry_does(pace=SLOW)
        after, moment = (IN_TROUBLE, "manifest") if case.how else (0, case.moment)
        self.between.fault = Fault(moment, models[0].name, lambda handler: threading.Timer(after, reached.set).start(), 1)
        wrong = []
        if case.fault == "nobody watches":
            result = self._unwatched(models, reached)
            if "nobody waits" not in result.get("msg", ""):
                wrong.append("nobody watched, and it said: %s" % result)
        else:
            command = [sys.executable, str(pathlib.Path(__file__).parent / "run.py"), "--module", json.dumps(self._options(models))]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as module:
                if not reached.wait(STARTED_WITHIN):
                    wrong.append("the module did not come as far as to be killed")
                module.send_signal(getattr(signal, case.fault))
        if "status" in case.how and case.how["status"] not in [one["answered"] for one in self.registry_requests()]:
            wrong.append("the registry was in no trouble")
        until = time.monotonic() + CANCELLED_WITHIN
        while self._busy() and time.monotonic() < until:
            time.sleep(0.1)
        if self._busy():
            wrong.append("%d s after it Ollama still pulls: %s" % (CANCELLED_WITHIN, self._busy()))
        lacked = self._missing(models)
        self._heal()
        for dummy in range(2):  # on a busy machine Ollama may have begun a layer before it noticed; if it goes on a model is whole then, or it asks again
            self.registry_requests()
            time.sleep(QUIET)
            asked = [one["path"] for one in self.registry_requests()] + self._busy()
            if not asked:
                break
        else:
            wrong.append("nobody waits for it, and Ollama goes on with the pull: %s" % asked)
        lacks = self._missing(models)
        whole = [name for name in lacks if lacked[name] and not lacks[name]]
        if whole:
            wrong.append("nobody waited for it, and Ollama went on until it had %s" % ", ".join(whole))
        if not any(lacks.values()):
            wrong.append("the pull had ended before it could be cancelled")
        return wrong

    def _busy(self):
        """What is on its way (list of str): answers of Ollama to the module, layers from the registry to Ollama."""
        return ["an answer of Ollama"] * self.between.open + send(self.registry.url, "GET", "/_lab/sending", {}, None)["body"]

    def _unwatched(self, models, reached):
        progress = self.folder / "progress"
        progress.mkdir(exist_ok=True)
        watched = progress / "state.watched"

        def watch():
            while not reached.wait(0.2):
                watched.touch()

        threading.Thread(target=watch, daemon=True).start()
        return self._module(models, progress_path=str(progress / "state"))
