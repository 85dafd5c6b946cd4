# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network, its small internet, and the managed hosts, as containers of one Docker engine."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import subprocess
import tempfile

from . import catalogue, connections, engine, images, inventory, models, secrets
from .shell import CACHE, CHECKOUT, LABEL, LabError, docker, lock, run, say, succeeds, wait_for

COMPOSE_FILES = CHECKOUT / "tests" / "fixtures" / "compose"
PROJECT_DIR = "/opt/fastgpt"


@dataclasses.dataclass(frozen=True)
class Host:
    """A managed host. ``number``: last byte of its address. ``compose``: FastGPT's compose file there (None: no Docker)."""

    number: int
    compose: str | None = None


HOSTS = {
    "box": Host(11, "v4.15.4__f88b51b5c__pub-v4.15-global-docker-compose.pg.yml"),
    "old": Host(12, "v4.9.14__1eb98ef0f__deploy-docker-docker-compose-pgvector.yml"),
    "gpu1": Host(13),
}
FASTGPT_CONFIG = CHECKOUT / "tests" / "fixtures" / "config-json" / "v4.9.14-fix__config.json"


class Lab:
    """One lab: everything it makes carries its name, so that several live side by side."""

    def __init__(self, name: str):
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
            raise LabError(f"LAB_NAME={name!r}: lower-case letters, digits and hyphens only")
        self.name = name
        self.place = CACHE / name
        self.internet = f"{name}-internet"

    def container(self, host: str) -> str:
        return f"{self.name}-{host}"

    def address(self, host: str) -> str:
        return self._subnet() + str(HOSTS[host].number)

    # --- bringing up ---------------------------------------------------------------------------------------------

    def up(self, hosts) -> None:
        secrets.ensure()
        with lock("lab-" + self.name):
            self._network()
            inventory.write(self, HOSTS, PROJECT_DIR)
            offered = catalogue.offered([COMPOSE_FILES / host.compose for host in HOSTS.values() if host.compose])
            self._internet(offered)
            for host in hosts:
                self._host(host, catalogue.content_hash(offered))

    def reset(self, hosts) -> None:
        """Hosts with a fresh file system, and no others of this lab, whose health checks would go on; an engine inside keeps its images."""
        with lock("lab-" + self.name):
            for host in HOSTS:
                self._remove_host(host)
        self.up(hosts)

    def down(self) -> None:
        for kind, remove in (("container", ("rm", "-f", "-v")), ("volume", ("volume", "rm", "-f")),
                             ("network", ("network", "rm"))):
            listing = ("ps", "-aq") if kind == "container" else (kind, "ls", "-q")
            found = docker(*listing, "--filter", f"label={LABEL}={self.name}").split()
            if found:
                docker(*remove, *found)
        for host in HOSTS:
            (self.place / f"{host}.up").unlink(missing_ok=True)
        connections.forget(self.control_path())

    # --- network and internet --------------------------------------------------------------------------------------

    def _network(self) -> None:
        if succeeds("docker", "network", "inspect", self.name):
            return
        for third in range(50):  # the first free one: labs side by side get one each
            subnet = f"10.213.{third}.0/24"
            if succeeds("docker", "network", "create", "--label", f"{LABEL}={self.name}", "--subnet", subnet, self.name):
                return
        docker("network", "create", "--label", f"{LABEL}={self.name}", "--subnet", "10.214.0.0/24", self.name)

    def _subnet(self) -> str:
        """The network's first three bytes with a dot behind them."""
        config = json.loads(docker("network", "inspect", self.name))[0]["IPAM"]["Config"][0]
        return config["Subnet"].rsplit(".", 1)[0] + "."

    def _internet(self, offered: dict) -> None:
        image = images.internet()
        store = f"lab-registry-{catalogue.content_hash(offered)}"
        served = models.ensure()
        if self._is(self.internet, f"{image} {store} {served.name}"):
            return
        say("starting the small internet")
        self._remove(self.internet)
        address = self._subnet() + "2"
        hosts = " ".join(f"{name}={self.address(name)}" for name in HOSTS)
        docker("volume", "create", "--label", LABEL, store)
        docker(
            "run", "-d", "--name", self.internet, "--hostname", "internet", "--network", self.name, "--ip", address,
            "--label", f"{LABEL}={self.name}", "--label", f"{LABEL}.made-of={image} {store} {served.name}",
            "-p", "127.0.0.1::5000", "-v", f"{store}:/var/lib/registry", "-v", f"{served}:/srv/models:ro",
            "-e", f"LAB_ADDRESS={address}", "-e", "LAB_NAMES=" + " ".join(secrets.INTERNET_NAMES), "-e", f"LAB_HOSTS={hosts}",
            image,
        )
        inside = ("docker", "exec", self.internet)
        # Both registries, TLS before them, and the name server (port 53 is 0035 there).
        ready = ("sh", "-c", "curl -fs http://127.0.0.1:5001/_lab/faults && curl -fsk https://127.0.0.1/v2/ && grep -q ':0035 ' /proc/net/udp")
        wait_for(f"the lab's internet (docker logs {self.internet})", lambda: succeeds(*inside, *ready), 60)
        with lock(store):
            if not succeeds(*inside, "test", "-e", "/var/lib/registry/complete"):
                catalogue.push(offered, docker("port", self.internet, "5000").splitlines()[0].strip())
                run(*inside, "touch", "/var/lib/registry/complete")

    # --- managed hosts -----------------------------------------------------------------------------------------------

    def _host(self, name: str, offered_hash: str) -> None:
        host = HOSTS[name]
        image = images.docker_host() if host.compose else images.host()
        done = self.place / f"{name}.up"
        if done.exists() and self._is(self.container(name), image):
            return
        done.unlink(missing_ok=True)
        say(f"starting managed host {name}")
        self._remove_host(name)
        self._start_host(name, host, image)
        connections.forget(self.control_path(), self.address(name))
        wait_for(f"ssh on {name}", lambda: succeeds(*self.ssh(name, "true"), timeout=10), 60)
        if host.compose:
            self._bring_up_fastgpt(name, host, offered_hash)
        done.touch()

    def _start_host(self, name: str, host: Host, image: str) -> None:
        if engine.cgroup_version() == "2":
            systemd = ["--privileged", "--cgroupns=private"]
        else:
            systemd = ["--cgroupns=host", "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN",
                       "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
                       "-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]
        storage = []
        if host.compose:
            volume = self._volume(name)
            docker("volume", "create", "--label", f"{LABEL}={self.name}", volume)
            storage = ["-v", f"{volume}:/var/lib/docker"]
        dns = self._subnet() + "2"
        # Asked directly: an engine inside flushes the rules by which Docker's own name server would be reached.
        resolver = self.place / "resolv.conf"
        resolver.write_text(f"nameserver {dns}\n")
        docker(
            "create", "--name", self.container(name), "--hostname", name, "--network", self.name, "--ip", self.address(name),
            "-v", f"{resolver}:/etc/resolv.conf", "--label", f"{LABEL}={self.name}", "--label", f"{LABEL}.made-of={image}",
            *systemd, *storage, "--tmpfs", "/run", "--tmpfs", "/run/lock", image,
        )
        if host.compose:
            self._put_project(name, host, dns)
        docker("start", self.container(name))

    def _put_project(self, name: str, host: Host, dns: str) -> None:
        """FastGPT's compose project as its manual has it; the engine inside asks the lab's name server."""
        with tempfile.TemporaryDirectory() as place:
            tree = pathlib.Path(place)
            project = tree / PROJECT_DIR.lstrip("/")
            project.mkdir(parents=True)
            (project / "docker-compose.yml").write_bytes((COMPOSE_FILES / host.compose).read_bytes())
            (project / "config.json").write_bytes(FASTGPT_CONFIG.read_bytes())
            (tree / "etc/docker").mkdir(parents=True)
            (tree / "etc/docker/daemon.json").write_text(json.dumps({"dns": [dns]}) + "\n")
            archive = subprocess.run(["tar", "-C", place, "--owner=0", "--group=0", "-c", "opt", "etc"],
                                     check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["docker", "cp", "-", f"{self.container(name)}:/"], check=True, input=archive,
                       stdout=subprocess.DEVNULL)

    def _bring_up_fastgpt(self, name: str, host: Host, offered_hash: str) -> None:
        inside = ("docker", "exec", self.container(name))
        wait_for(f"the Docker engine on {name}", lambda: succeeds(*inside, "docker", "version"), 60)
        self._refresh_images(inside, offered_hash)
        say(f"bringing FastGPT up on {name}")
        # Created and then started at once: compose itself would wait for health checks that come every 30 seconds.
        run(*inside, "docker", "compose", "--project-directory", PROJECT_DIR, "create", timeout=600)
        run(*inside, "sh", "-c", "docker start $(docker ps -aq)")
        fine = ("curl", "-fs", "-o", "/dev/null", "http://127.0.0.1:3000/")
        wait_for(f"FastGPT on {name}", lambda: succeeds(*inside, *fine), 60, pause=0.5)

    def _refresh_images(self, inside, offered_hash: str) -> None:
        """Images pulled from an older lab are pulled again, so that they are the ones that the registry offers now."""
        marker = "/var/lib/docker/lab-images"
        if not succeeds(*inside, "grep", "-qx", offered_hash, marker):
            for image in run(*inside, "docker", "images", "--format", "{{.Repository}}:{{.Tag}}").split():
                succeeds(*inside, "docker", "pull", "-q", image, timeout=300)
            run(*inside, "sh", "-c", f"docker image prune -f && echo {offered_hash} > {marker}")

    def _volume(self, host: str) -> str:
        return f"{self.name}-{host}-docker"

    def _remove_host(self, name: str) -> None:
        container = self.container(name)
        if not succeeds("docker", "container", "inspect", container):
            return
        if HOSTS[name].compose and not self._empty_engine(container):
            self._remove(container)
            docker("volume", "rm", "-f", self._volume(name))  # its engine does not answer: give up its images too
        self._remove(container)

    def _empty_engine(self, container: str) -> bool:
        """Remove containers, volumes and networks of the engine inside. False when that is not possible."""
        script = "docker ps -aq | xargs -r docker rm -fv && docker volume prune -f && docker network prune -f"
        return succeeds("docker", "exec", container, "sh", "-c", script, timeout=120)

    # --- small things ------------------------------------------------------------------------------------------------

    def ssh(self, host: str, *command: str) -> list:
        return ["ssh", "-F", str(self.place / "ssh_config"), "-o", "ControlMaster=no", "-o", "ControlPath=none",
                "-o", "ConnectTimeout=5", host, *command]

    def control_path(self) -> pathlib.Path:
        return connections.folder(self.name)

    def _is(self, container: str, made_of: str) -> bool:
        """Whether this container runs and was made of just that."""
        question = f'{{{{.State.Running}}}} {{{{index .Config.Labels "{LABEL}.made-of"}}}}'
        try:
            return docker("inspect", "--format", question, container).strip() == f"true {made_of}"
        except LabError:
            return False

    @staticmethod
    def _remove(container: str) -> None:
        if succeeds("docker", "container", "inspect", container):
            docker("rm", "-f", "-v", container)
