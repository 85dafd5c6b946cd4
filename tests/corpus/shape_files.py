# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layouts of compose projects that were met in the field, reduced to what matters. Nothing here is anybody's file.

A shape: `files` {name: text, bytes, or ("link", where to)}; `in` the folder that is the project, default the top; what is expected: `right` or a pattern
of the refusal, for `override`, `in_place` or `both`; `path`, default aiproxy.
"""

from __future__ import annotations

VARIABLES = """\
    environment:
      - MONGODB_URI=mongodb://mongo/fastgpt
      - AIPROXY_API_ENDPOINT=http://aiproxy:3000
      - AIPROXY_API_TOKEN=token
"""
APP = """\
  fastgpt:
    image: ghcr.io/labring/fastgpt:v4.12.4
    networks: [fastgpt]
""" + VARIABLES
GATEWAY = """\
  aiproxy:
    image: ghcr.io/labring/aiproxy:v0.2.2
    networks:
      - fastgpt
    environment:
      ADMIN_KEY: token
"""
APP_ENV = "MONGODB_URI=x\nAIPROXY_API_ENDPOINT=http://aiproxy:3000\nAIPROXY_API_TOKEN=token\n"
NETWORKS = "networks:\n  fastgpt:\n"
MAIN = "services:\n" + APP + GATEWAY + NETWORKS
OTHER = "services:\n  aiproxy:\n    restart: always\n"
MINE = "services:\n  aiproxy:\n    environment:\n      BILLING_ENABLED: 'false'\n"
MAIN_NAME = "docker-compose.yml"
OVERRIDE = "docker-compose.override.yml"


def lay_out(shape, top):
    """The project's folder (str) with the shape's files below `top` (pathlib.Path)."""
    for name, content in shape["files"].items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            path.symlink_to(content[1])
        else:
            path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return str(top / shape["in"]) if "in" in shape else str(top)


def _main(text, name=MAIN_NAME, **more):
    return dict({"files": {name: text}}, **more)


SHAPES = {
    "plain": _main(MAIN),
    "compose.yaml": _main(MAIN, "compose.yaml"),
    "compose.yml": _main(MAIN, "compose.yml"),
    "docker-compose.yaml": _main(MAIN, "docker-compose.yaml"),
    "two-main-files": {"files": {"compose.yml": MAIN, MAIN_NAME: "services:\n  web:\n    image: nginx\n"}},
    "other-main-first": {"files": {"compose.yaml": "services:\n  web:\n    image: nginx\n", MAIN_NAME: MAIN},
                         "both": "refused: .*No service in PROJECT is FastGPT"},
    "own-override": {"files": {MAIN_NAME: MAIN, OVERRIDE: MINE}},
    "own-override-yaml": {"files": {"compose.yaml": MAIN, "compose.override.yaml": MINE}},
    "empty-override": {"files": {MAIN_NAME: MAIN, OVERRIDE: "services: {}\n"}},
    "compose-file": {"files": {"fastgpt.yml": MAIN, "more.yml": OTHER, ".env": "COMPOSE_FILE=fastgpt.yml:more.yml\n"}},
    "compose-file-one": {"files": {"fastgpt.yml": MAIN, ".env": "A=1\nCOMPOSE_FILE='fastgpt.yml' # ours\nB=2"}},
    "compose-file-separator": {"files": {"fastgpt.yml": MAIN, "more.yml": OTHER,
                                         ".env": "COMPOSE_PATH_SEPARATOR=;\r\nCOMPOSE_FILE=fastgpt.yml;more.yml\r\n"}},
    "compose-file-below": {"files": {"deploy/fastgpt.yml": MAIN, ".env": "COMPOSE_FILE=deploy/fastgpt.yml\n"},
                           "in_place": "refused: .*lies outside of PROJECT"},
    "compose-file-missing": {"files": {"a.yml": MAIN, ".env": "COMPOSE_FILE=a.yml:gone.yml\n"}, "both": "refused: .*gone.yml"},
    "include": {"files": {MAIN_NAME: "include:\n  - fastgpt.yml\n", "fastgpt.yml": MAIN}, "in_place": "refused: .*docker-compose.yml:1:1: "},
    "include-and-override": {"files": {MAIN_NAME: "include:\n  - path: fastgpt.yml\nservices:\n  web:\n    image: nginx\n", "fastgpt.yml": MAIN,
                                       OVERRIDE: MINE}},
    "profiles": _main(MAIN.replace("    image: ghcr.io/labring/aiproxy", "    profiles: [gateway]\n    image: ghcr.io/labring/aiproxy")),
    "profiles-in-env": {"files": {MAIN_NAME: MAIN.replace("  aiproxy:\n", "  aiproxy:\n    profiles: ['gateway']\n", 1), ".env": "COMPOSE_PROFILES=gateway\n"}},
    "extends-here": _main(MAIN.replace("  aiproxy:\n    image", "  base:\n    restart: always\n    image: busybox\n"
                                       "  aiproxy:\n    extends: {service: base}\n    image")),
    "extends-file": {"files": {MAIN_NAME: "services:\n" + APP + "  aiproxy:\n    extends:\n      file: base.yml\n      service: aiproxy\n" + NETWORKS,
                               "base.yml": "services:\n" + GATEWAY + NETWORKS}},
    "env-defaults": {"files": {MAIN_NAME: MAIN.replace("v4.12.4", "${TAG:-v4.12.4}").replace("=http://aiproxy:3000", "=${GATEWAY:-http://aiproxy:3000}"),
                               ".env": "TAG=v4.11.0\n"}},
    "env-needed": {"files": {MAIN_NAME: MAIN.replace("v4.12.4", "${TAG:?set it}"), ".env": "TAG=v4.11.0\n"}},
    "env-not-set": _main(MAIN.replace("v4.12.4", "${TAG:?set it}"), both=r"refused: .*required variable TAG is missing"),
    "env_file-text": {"files": {MAIN_NAME: MAIN.replace(VARIABLES, "    env_file: app.env\n"), "app.env": APP_ENV}},
    "env_file-list-direct": {"files": {MAIN_NAME: MAIN.replace(
        VARIABLES, "    env_file:\n      - app.env\n      - path: gone.env\n        required: false\n"), "app.env": APP_ENV}, "path": "direct"},
    "env_file-gone": _main(MAIN.replace("    environment:\n      ADMIN", "    env_file: gone.env\n    environment:\n      ADMIN"),
                           both="refused: .*gone.env not found"),
    "name": _main("name: kb\n" + MAIN),
    "name-in-env": {"files": {MAIN_NAME: MAIN, ".env": "COMPOSE_PROJECT_NAME=kb-prod\n"}},
    "linked-folder": {"files": {"real/" + MAIN_NAME: MAIN, "fastgpt": ("link", "real")}, "in": "fastgpt"},
    "linked-file": {"files": {"p/" + MAIN_NAME: ("link", "../store/fastgpt.yml"), "store/fastgpt.yml": MAIN}, "in": "p"},
    "bom": _main("\ufeff" + MAIN),
    "crlf": _main(MAIN.replace("\n", "\r\n")),
    "tabs-in-comments": _main(MAIN.replace("    networks:\n", "    networks:\t# one\ttwo\n#\tthree\n")),
    "no-last-newline": _main(MAIN.rstrip("\n")),
    "chinese": _main(MAIN.replace("  aiproxy:\n", "  # AI 代理：请按需修改\n  aiproxy: # 网关\n")),
    "flow": _main("services: {fastgpt: {image: 'labring/fastgpt:v4.12.4', environment: {AIPROXY_API_ENDPOINT: 'http://aiproxy:3000', AIPROXY_API_TOKEN: t}},\n"
                  "  aiproxy: {image: 'labring/aiproxy:v0.2.2'}}\n"),
    "one-line-services": _main("services:\n  fastgpt: {image: 'a/fastgpt:v4.12.4', "
                               "environment: [AIPROXY_API_ENDPOINT=http://aiproxy:3000, AIPROXY_API_TOKEN=t]}\n"
                               "  aiproxy: {image: 'a/aiproxy:v0.2.2'}\n"),
    "json": _main('{"services": {"fastgpt": {"image": "a/fastgpt:v4.12.4", '
                  '"environment": {"AIPROXY_API_ENDPOINT": "http://aiproxy:3000", "AIPROXY_API_TOKEN": "t"}},'
                  ' "aiproxy": {"image": "a/aiproxy:v0.2.2"}}}'),
    "huge": _main("# " + "x" * 200000 + "\nservices:\n" + APP + GATEWAY
                  + "".join("  other%d:\n    image: nginx\n" % number for number in range(1500)) + NETWORKS),
    "twice-the-same-key": _main(MAIN.replace("    environment:\n      ADMIN_KEY", "    image: x\n    environment:\n      ADMIN_KEY"),
                                both=r"refused: .*already defined"),
    "twice-the-same-variable": _main(MAIN.replace("      - AIPROXY_API_TOKEN=token\n", "      - AIPROXY_API_TOKEN=token\n      - AIPROXY_API_TOKEN=other\n"),
                                     path="direct",
                                     in_place="refused: .*AIPROXY_API_TOKEN stands in this list a second time"),
    "two-fastgpts": _main(MAIN.replace("services:\n", "services:\n" + APP.replace("fastgpt:\n", "second:\n", 1)
                                         .replace("mongo/fastgpt", "mongo/other"), 1),
                          both="refused: .*More than one FastGPT"),
    "copies": _main(MAIN.replace("services:\n", "services:\n" + APP.replace("fastgpt:\n", "second:\n", 1), 1)),
    "two-gateways": _main(MAIN.replace("  aiproxy:\n", "  gateway:\n    image: a/aiproxy:v0.2.2\n  aiproxy:\n", 1)
                          .replace("=http://aiproxy:3000", "="),
                          both="refused: .*More than one service in PROJECT could be AI Proxy"),
    "renamed": _main(MAIN.replace("  fastgpt:\n    image", "  kb:\n    container_name: KB-App\n    image", 1)
                     .replace("  aiproxy:\n", "  llm:\n    container_name: LLM.gw\n", 1)
                     .replace("//aiproxy:", "//llm.gw:")),
    "anchors-only": _main("x-app: &app\n  AIPROXY_API_ENDPOINT: http://aiproxy:3000\n  AIPROXY_API_TOKEN: token\n  MONGODB_URI: m\nservices:\n  fastgpt:\n"
                          "    image: a/fastgpt:v4.15.4\n    networks: [fastgpt]\n    environment:\n      <<: [*app]\n" + GATEWAY + NETWORKS, path="direct"),
    "managed": _main("# Ansible managed\n" + MAIN, in_place="refused: .*docker-compose.yml:1:1: This file is kept by something else"),
    "no-services": _main("x: 1\n", both="refused: "),
    "empty": _main("", both="refused: "),
    "not-utf8": _main(MAIN.encode() + b"# \xff\xfe\n", both="refused: "),
    "4.17": _main(MAIN.replace("v4.12.4", "v4.17.2"), path="direct", both="refused: .*docker-compose.yml:3:5: FastGPT 4.17.2 calls AI Proxy only"),
    "proxies": _main(MAIN.replace("      ADMIN_KEY", "      HTTPS_PROXY: http://proxy:3128\n      NO_PROXY: localhost\n      ADMIN_KEY")),
    "proxies-in-anchor": _main("x-p: &p\n  http_proxy: http://proxy:3128\n  no_proxy: localhost,aiproxy\nservices:\n" + APP +
                               GATEWAY.replace("      ADMIN_KEY", "      <<: *p\n      ADMIN_KEY") + NETWORKS),
}
