# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads Docker and compose projects through the docker command. Internal to this collection.

Only the command line is used: it follows the operator's context, rootless socket and DOCKER_HOST. Which engine that is: _docker_engine.
"""

from __future__ import annotations

import json
import os
import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _docker_engine
from ansible_collections.localmodels.fastgpt.plugins.module_utils._docker_engine import DockerError, first_line
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError

# The order in which compose itself looks for them (compose-go, cli/options.go).
DEFAULT_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")

AS_OWNER = "Use become: true, or run the play as the user whose project it is"
LABEL = "com.docker.compose."
_SEPARATOR = "\t"
_ROW = _SEPARATOR.join(["{{.ID}}"] + ['{{.Label "%s%s"}}' % (LABEL, name)
                                      for name in ("project", "project.working_dir", "oneoff")])


class BrokenProject(LocalModelsError):
    """Compose cannot read the project's files. `said` (str, may be empty): its reason, without values."""

    def __init__(self, what, mend="", said=""):
        self.said = said
        super().__init__(what, mend)


def runner(module):
    """AnsibleModule -> the callable that Docker wants: run(arguments, cwd=None, env=None, data=None) -> (rc, stdout, stderr)."""
    def run(arguments, cwd=None, env=None, data=None):
        return module.run_command(arguments, cwd=cwd, environ_update=env, data=data, expand_user_and_vars=False, handle_exceptions=False)
    return run


class Docker:
    """The docker command on this host.

    run: callable(list of str, cwd=str or None, env=dict or None) -> (rc (int), stdout (str), stderr (str)); raises
    FileNotFoundError where there is no docker. It takes data=str, the standard input, where somebody gives any.
    project_dir: the folder in which the operator calls `docker compose`: COMPOSE_FILE and
    COMPOSE_PROFILES in its .env count, because every call is made in there. around: _docker_engine.Surroundings.
    """

    def __init__(self, run, project_dir=None, around=None):
        self._run = run
        self.project_dir = project_dir
        self._around = around or _docker_engine.Surroundings()
        self._address = None
        self._project_name = None

    def call(self, *arguments, **options):
        """`docker ARGUMENTS...` in the project's folder -> (rc (int), stdout, stderr). env: dict. data: str for its standard input.
        Raises DockerError."""
        more = {"data": options["data"]} if "data" in options else {}
        try:
            self.address()
            # PWD as a shell has it: a project in a linked folder has the link's name, and not that of the folder behind it.
            env = dict(options.get("env") or {}, PWD=self.project_dir) if self.project_dir else options.get("env")
            rc, out, err = self._run(["docker"] + list(arguments), cwd=self.project_dir, env=env, **more)
        except FileNotFoundError as problem:
            raise DockerError("There is no docker command on this host",
                              "FastGPT runs on Docker: install Docker Engine with the compose plugin (version 2.17 or newer) "
                              "here, or point the play at the host where FastGPT runs") from problem
        except PermissionError as problem:
            raise DockerError("This user may not call docker in %s (%s)" % (self.project_dir or "any folder", problem.strerror), AS_OWNER) from problem
        _docker_engine.refuse_trouble(rc, err, self._around)
        return rc, out, err

    def address(self):
        """The address (str) of the engine, "" for its usual socket. Raises DockerError where that is none of this machine."""
        if self._address is None:
            self._address = _docker_engine.refuse_foreign(self._run, self._around)
        return self._address

    def rootless(self):
        """Whether the engine runs without root: the machine of its containers' host-gateway is then none of its own addresses."""
        return _docker_engine.is_rootless(self.address())

    def refuse_old_compose(self):
        """Raise DockerError where docker compose is older than what everything here was tried with."""
        _docker_engine.refuse_old_compose(self.compose("version", "--short")[1])

    def compose(self, *arguments, **options):
        """`docker compose ARGUMENTS...` for the project -> (rc, stdout, stderr).

        files: list of str, the compose files to use in place of those that compose would find. Raises DockerError.
        """
        command = ["compose"]
        if self._project_name:
            command += ["-p", self._project_name]
        # Not by -f: compose would then look for .env beside the first file, and not where the operator calls it.
        files = options.get("files")
        env = {"COMPOSE_FILE": ":".join(files), "COMPOSE_PATH_SEPARATOR": ":"} if files else None
        if files and os.path.isabs(files[0]):
            # A copy that lies elsewhere is read as if it lay in the project's folder.
            command += ["--project-directory", self.project_dir]
        rc, out, err = self.call(*(command + list(arguments)), env=env)
        _docker_engine.refuse_no_compose(rc, err, self._run, self._around)
        return rc, out, err

    def containers(self):
        """`docker inspect` of every container of the project, running or not: list of dict.

        Compose files its containers under the project's name, which `-p` may have changed: the label with the folder
        tells, and the name found there is used for every later call.
        """
        rc, out, err = self.call("ps", "-a", "--no-trunc", "--filter", "label=%sproject" % LABEL, "--format", _ROW)
        if rc:
            raise DockerError("docker ps fails: %s" % first_line(err), "Look at Docker's log: journalctl -u docker")
        rows = [line.split(_SEPARATOR) for line in out.splitlines() if line.count(_SEPARATOR) == 3]
        here = os.path.realpath(self.project_dir)
        names = {row[1] for row in rows if row[2] and os.path.realpath(row[2]) == here}
        if len(names) == 1:
            self._project_name = names.pop()
        wanted = self._project_name or self.config()["name"]
        return self.inspect([row[0] for row in rows if row[1] == wanted and row[3] != "True"])

    def config(self, files=None):
        """The effective project (`docker compose config --format json`), all profiles, as dict.

        Raises BrokenProject where compose refuses the files.
        """
        self.refuse_missing_files()
        # Profiles are switched on so that a service in one is seen; whether it runs is asked of its container.
        rc, out, err = self.compose("--profile", "*", "config", "--format", "json", files=files)
        if rc:
            self.refuse_old_compose()
            raise broken_project(self.project_dir, err)
        # compose doubles each $ so that its output can be read as a compose file again.
        return _undouble(json.loads(out))

    def inspect(self, names):
        """`docker inspect` of containers by name or id -> list of dict; those that are gone are left out."""
        if not names:
            return []
        out = self.call("inspect", "--type", "container", *names)[1]
        return json.loads(out or "[]")

    def network_exists(self, name):
        """Whether a Docker network of that name exists."""
        return self.call("network", "inspect", name)[0] == 0

    def package_version(self, container):
        """FastGPT's version (str) from /app/package.json in a running container, or None (reference, section 7)."""
        rc, out, dummy = self.call("exec", container, "cat", "/app/package.json")
        try:
            return json.loads(out)["version"] if rc == 0 else None
        except (ValueError, KeyError, TypeError):
            return None

    def logs(self, container, lines):
        """The container's last `lines` (int) log lines, both streams, as list of str."""
        dummy, out, err = self.call("logs", "--tail", str(lines), container)
        return (out + err).splitlines()[-lines:]

    def refuse_missing_files(self):
        """compose would search the parent folders and could take up another project: refuse before it does."""
        folder = self.project_dir
        if not os.path.isdir(folder):
            raise BrokenProject("%s is no folder on this host" % folder if folder else "Nobody says where FastGPT's compose project lies on this host",
                                "Set fastgpt_project_dir (project_dir) to the folder that holds FastGPT's docker-compose.yml")
        if dotenv_value(folder, "COMPOSE_FILE") or os.environ.get("COMPOSE_FILE"):
            return
        if not any(os.path.exists(os.path.join(folder, name)) for name in DEFAULT_FILES):
            try:
                others = sorted(name for name in os.listdir(folder) if name.endswith((".yml", ".yaml")))
            except PermissionError as problem:
                raise unreadable(folder, problem) from problem
            raise BrokenProject(
                "There is no compose file in %s (looked for %s%s)" % (
                    folder, ", ".join(DEFAULT_FILES), "; found only %s" % ", ".join(others) if others else ""),
                "Name the folder of FastGPT's docker-compose.yml, or name its file as COMPOSE_FILE=... in %s/.env" % folder)


def unreadable(folder, problem):
    """The LocalModelsError for an OSError that met the files of the project in `folder` (str)."""
    return LocalModelsError("%s, of the project in %s, cannot be used: %s" % (problem.filename or "A file", folder, problem.strerror or problem),
                            AS_OWNER if isinstance(problem, PermissionError) else "Look at that file and at the disk it is on")


def dotenv_value(folder, name):
    """The value (str) of variable `name` in FOLDER/.env, or "" where it is not set there. The last line wins.

    Compose takes any bytes there, such as a comment in GBK, and passes over a byte order mark (compose-go, dotenv/godotenv.go).
    """
    try:
        with open(os.path.join(folder, ".env"), encoding="utf-8-sig", errors="surrogateescape") as lines:
            text = lines.read()
    except OSError:
        return ""
    found = re.findall(r"(?m)^[ \t]*(?:export[ \t]+)?%s[ \t]*=[ \t]*(.*?)[ \t]*\r?$" % re.escape(name), text)
    return _unquote(found[-1]) if found else ""


def broken_project(folder, said):
    """The BrokenProject for what `docker compose config` wrote to its error stream.

    Values are left out of the sentence: compose quotes the offending text, and that may be a password.
    """
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("time=")]
    text = " ".join(lines[:1] if said.count("invalid interpolation format") else lines[:3])
    text = re.sub(r"`[^`]*`", "`...`", text) or "no reason given"
    mend = ("Put it right in that folder until `docker compose config -q` says nothing; "
            "nothing was changed here")
    return BrokenProject("Docker compose cannot read the project in %s: %s" % (folder, text), mend,
                         said=text)


def _unquote(value):
    if value[:1] in ("'", '"'):
        return value[1:].partition(value[0])[0]
    return re.split(r"\s+#", value)[0].strip()


def _undouble(node):
    if isinstance(node, dict):
        return {key: _undouble(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_undouble(value) for value in node]
    return node.replace("$$", "$") if isinstance(node, str) else node
