# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A compose file whose values cannot be read any more, and whose every part is where it was. Internal to this collection. Pure.

Compose files hold passwords, which must not leave the host. Edits are planned on the controller, which has a YAML parser,
on this text: keys, names of variables, anchors and what stands in no_proxy are kept, and so are all columns.
"""

from __future__ import annotations

import re

from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import BOM

# Words that edits depend on and that are no secrets.
_WORDS = frozenset(("null", "true", "false", "default", "external", "AIPROXY_API_ENDPOINT", "AIPROXY_API_TOKEN",
                    "OPENAI_BASE_URL", "CHAT_API_KEY", "ONEAPI_URL", "NO_PROXY", "no_proxy", "host.docker.internal", "host-gateway"))
# What stands in no_proxy is kept to its end: in a block that may be words with spaces between, but no further entry of a list or map.
_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s"'#,}\]]*)""", r"""(?:"[^"]*"|'[^']*'|[^\s"'#]*(?:[ \t]+(?!\S*[:=](?:\s|$)|\S*=)[^\s"'#]+)*)"""
_TOKEN = r"""(?P<code>\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}))|(?P<escape>\\.)
    |(?P<list>["']?(?:NO_PROXY|no_proxy)["']?(?:[ \t]*:[ \t]+|=)(?:[&!][\w.-]+[ \t]+)?%(value)s%(named)s)
    |(?P<key>(?:"[\w./-]+"|'[\w./-]+')(?=[ \t]*:)|[\w./-]+(?=[ \t]*:(?:[ \t\r]|$)))
    |(?P<mark>(?:(?<=[\s,\[])|^)[&*!][\w.-]+)
    |(?P<word>[\w.-]+)"""
_NAMED = re.compile(r"(?:NO_PROXY|no_proxy)[\"']?[ \t]*:[ \t]+\*([\w.-]+)")
_BLOCK = re.compile(r"^(?P<indent>[ ]*(?:-[ ]+)*)(?P<key>[^\s#'\"{\[][^#'\"{\[]*?[ \t]*:[ \t]+)?"
                    r"(?:[&!]\S+[ \t]+)*[|>][0-9+-]{0,2}[ \t]*(?:#.*)?$")


def masked(text, keep=()):
    """The text (str), each letter and digit of a value as `x`; as many characters in as many lines, at the same places.

    keep: words (iterable of str) that stay too, such as names of networks.
    """
    words = _WORDS | set(keep)
    tokens = [_tokens(text, value) for value in _VALUE]
    lines, block = [], None
    for line in text.lstrip(BOM).split("\n"):
        bare = line.strip()
        indent = len(line) - len(line.lstrip(" "))
        if block is not None and (not bare or indent > block):
            lines.append(re.sub(r"\w", "x", line))
            continue
        block = None
        if bare.startswith("#"):
            lines.append(re.sub(r"\w", "x", line))
            continue
        header = _BLOCK.match(line.rstrip("\r"))
        if header:
            block = len(header.group("indent")) if header.group("key") else max(header.group("indent").rfind("-"), 0)
            lines.append(line)
            continue
        token = tokens[0 if re.search(r"(?<!\$)[{\[]", line) else 1]
        lines.append(line if line.startswith("%") else token.sub(lambda found: _shown(found, words), line))
    return (BOM if text.startswith(BOM) else "") + "\n".join(lines)


def _tokens(text, value):
    """The pattern of what is told apart in a line. A list in no_proxy may stand at an anchor: that one is kept too."""
    names = sorted({re.escape(found.group(1)) for found in _NAMED.finditer(text)})
    named = r"|&(?:%s)[ \t]+%s" % ("|".join(names), value) if names else ""
    return re.compile(_TOKEN % {"value": value, "named": named}, re.VERBOSE)


def _shown(found, words):
    said = found.group()
    if found.lastgroup == "code":
        return said[:2] + "7" * (len(said) - 2)
    if found.lastgroup != "word" or said in words:
        return said
    before = found.string[:found.start()].rstrip()
    before = before[:-1].rstrip() if before.endswith(('"', "'")) else before
    named = found.string[found.end():found.end() + 1] == "=" and before.endswith(("-", "[", ","))
    return said if named else re.sub(r"\w", "x", said)
