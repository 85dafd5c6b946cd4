#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A world for the collection on one machine without internet: managed hosts, registries, a release mirror, FastGPT.

    lab.py up [HOST..]      the small internet and these hosts (default: all) run; what runs already stays as it is
    lab.py up internet      the small internet alone runs
    lab.py reset HOST..     these hosts are fresh again, others are gone (an engine inside keeps its pulled images)
    lab.py status           what runs
    lab.py down             containers, networks and volumes of this lab are gone
    lab.py images           only build the images
    lab.py stop-engine      the Docker engine that was started here (and only that) is stopped
    lab.py clean            all labs of this machine, all images, and the Docker engine started here are gone

LAB_NAME (default: lab) separates several labs. LAB_OLLAMA=/path/to/ollama (which may hold {version}; and
LAB_LLAMA_DIR=/folder/of/llama-server) and LAB_AIPROXY=/path/to/aiproxy, LAB_ONE_API=/path/to/one-api put real programs in the
place of the stand-ins.
"""

from __future__ import annotations

import argparse
import os
import sys

from world import cleaning, engine, images, secrets
from world.machines import HOSTS, Lab
from world.shell import CHECKOUT, LabError, docker


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("up", "reset", "status", "down", "images", "stop-engine", "clean"))
    parser.add_argument("hosts", nargs="*", metavar="HOST", help=", ".join(HOSTS))
    arguments = parser.parse_args()
    unknown = [host for host in arguments.hosts if host not in HOSTS and (host, arguments.command) != ("internet", "up")]
    if unknown:
        parser.error(f"no host {unknown[0]!r} in this lab; there are {', '.join(HOSTS)}")
    if arguments.command == "reset" and not arguments.hosts:
        parser.error("reset which host?")
    try:
        lab = Lab(os.environ.get("LAB_NAME", "lab"))
        act(lab, arguments.command, arguments.hosts)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


def act(lab: Lab, command: str, hosts: list) -> None:
    if command == "clean":
        cleaning.clean()
        return
    if command == "stop-engine":
        engine.stop()
        return
    engine.ensure()
    if command == "down":
        lab.down()
    elif command == "images":
        secrets.ensure()
        for build in (images.server, images.docker_host, images.internet):
            build()
    elif command == "status":
        print(docker("ps", "-a", "--filter", f"label=localmodels.lab={lab.name}",
                     "--format", "table {{.Names}}\t{{.Status}}\t{{.Image}}"), end="")
    else:
        if command == "up":
            lab.up([host for host in hosts or HOSTS if host != "internet"])
        else:
            lab.reset(hosts)
        print(f"inventory: {(lab.place / 'inventory.yml').relative_to(CHECKOUT)}")


if __name__ == "__main__":
    sys.exit(main())
