# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people and their editors do to compose files: each function takes a text and random.Random, and gives another text.

A mutant need not be a project that works, nor even YAML: then it has to be refused.
"""

from __future__ import annotations

import json
import re

import engine  # noqa: F401  first: it makes the collection importable
import yaml
from ansible_collections.localmodels.fastgpt.plugins.module_utils._compose_edit_text import CannotEdit
from ansible_collections.localmodels.fastgpt.plugins.plugin_utils._compose_edit_read import Alias, Source, direct, target

REMARKS = ("# note", "#", "# \u8fd9\u91cc\u662f\u4e2d\u6587\u6ce8\u91ca\uff1a\u8bf7\u52ff\u5220\u9664", "#\ttabs\tin here", "# - AIPROXY_API_TOKEN=old",
           "# key: value # more", "#AIPROXY_API_ENDPOINT: http://x", "# \U0001f999 'quote \"", "# {[*&!|>%@`")
VARIABLES = ("AIPROXY_API_ENDPOINT", "AIPROXY_API_TOKEN", "OPENAI_BASE_URL", "CHAT_API_KEY", "ONEAPI_URL", "NO_PROXY", "no_proxy")
LISTED = re.compile(r"^(\s*-\s+)([A-Za-z_]\w*)=(.*?)(\s+#.*)?$")
MAPPED = re.compile(r"^(\s+)([A-Z][A-Z0-9_]+):[ ]+([^\s#'\"&*|>\[{][^#]*?)(\s+#.*)?$")


def comments(text, rng):
    """Comments on lines of their own, however indented."""
    lines = text.split("\n")
    for dummy in range(rng.randint(1, 12)):
        lines.insert(rng.randint(0, len(lines) - 1), " " * rng.choice((0, 0, 2, 4, 6, 9)) + rng.choice(REMARKS))
    return "\n".join(lines)


def remarks(text, rng):
    """Comments behind what stands on a line, after spaces or tabs."""
    return _each(text, rng, 0.15, lambda line: line + rng.choice(("  ", " ", "\t", " \t ")) + rng.choice(REMARKS) if line.strip() else line)


def trailing(text, rng):
    """Spaces at the ends of lines."""
    return _each(text, rng, 0.3, lambda line: line + " " * rng.randint(1, 3))


def carriage_returns(text, rng):
    """Lines end as on Windows, all or some of them."""
    share = rng.choice((1, 1, 0.5))
    return re.sub(r"\r?\n", lambda found: "\r\n" if rng.random() < share else "\n", text)


def ends(text, rng):
    """A byte order mark, no last newline, empty lines at the end."""
    text = ("\ufeff" if rng.random() < 0.5 else "") + text.lstrip("\ufeff")
    return text.rstrip("\n") + rng.choice(("", "\n", "\n\n\n", "\n# the end"))


def reordered(text, rng):
    """Entries of some maps and lists in another order."""
    for dummy in range(rng.randint(1, 4)):
        text = _reordered(text, rng)
    return text


def renamed(text, rng):
    """Services and what refers to them under other names; sometimes only the key."""
    names = list(_services(text))
    for name in rng.sample(names, min(len(names), rng.randint(1, 3))):
        new = rng.choice(("kb", "llm-gw", "app_1", "\"quoted\"", "fast", "x.y")) + str(rng.randint(1, 99)).strip('"')
        new = new.replace('"', "")
        pattern = r"(?m)^(\s+)%s:" if rng.random() < 0.3 else r"(?<![\w./:-])()%s(?![\w./-])"
        text = re.sub(pattern % re.escape(name), lambda found, to=new: found.group(1) + to + (":" if found.group().endswith(":") else ""), text)
    return text


def quoting(text, rng):
    """Other quotes around values, or none."""
    def other(line):
        listed, mapped = LISTED.match(line), MAPPED.match(line)
        if listed:
            mark = rng.choice(("'", '"'))
            return listed.group(1) + mark + listed.group(2) + "=" + listed.group(3).replace(mark, "") + mark + (listed.group(4) or "")
        if mapped:
            mark = rng.choice(("'", '"'))
            return mapped.group(1) + rng.choice(("%s", "'%s'", '"%s"')) % mapped.group(2) + ": " + mark + mapped.group(3) + mark + (mapped.group(4) or "")
        return line if line.startswith("version") else re.sub(r"""(:[ ]+)(['"])([\w./-]+)\2""", r"\1\3", line)
    return _each(text, rng, 0.5, other)


def brackets(text, rng):
    """Some maps and lists in brackets, on one line; sometimes a whole service, or the whole file as JSON."""
    if rng.random() < 0.05:
        try:
            return json.dumps(yaml.safe_load(text), indent=rng.choice((None, 2)), ensure_ascii=False, default=str)
        except (yaml.YAMLError, TypeError, ValueError):
            return text
    for dummy in range(rng.randint(1, 3)):
        source = _source(text)
        if source is None:
            return text
        services = _services(text)
        blocks = [(key, value) for dummy, pair in services.items() for key, value in _sections(pair)] + (list(services.values()) if rng.random() < 0.2 else [])
        blocks = [(key, value) for key, value in blocks if isinstance(value, yaml.CollectionNode) and not value.flow_style and value.value]
        if not blocks:
            return text
        key, value = rng.choice(blocks)
        first, last = source.at(key.start_mark.index)[0], _last_line(source, value)
        lines = text.split("\n")
        column = key.start_mark.column
        lines[first:last + 1] = [lines[first][:column] + _flow(key) + ": " + _anchor(source, value) + _flow(value)]
        text = "\n".join(lines)
    return text


def indentation(text, rng):
    """Four spaces in place of two, or lists as far left as their keys."""
    if rng.random() < 0.6:
        factor = rng.choice((2, 2, 3))
        return re.sub(r"(?m)^ +", lambda found: found.group() * factor, text)
    lines, shift = [], None
    every = text.split("\n")
    for line, following in zip(every, every[1:] + [""]):
        indent = len(line) - len(line.lstrip(" "))
        if shift is not None and (indent > shift or (line.strip() and indent == shift and line.lstrip().startswith("-"))):
            lines.append(line[2:])
            continue
        shift = indent if re.match(r"^ +[\w-]+:\s*(#.*)?$", line) and following.startswith(" " * indent + "  - ") else None
        lines.append(line)
    return "\n".join(lines)


def styles(text, rng):
    """Lists of variables or networks as maps, and the other way round."""
    for pair in _services(text).values():
        for key, value in _sections(pair):
            source = _source(text)
            node = target(value)
            if rng.random() > 0.4 or not isinstance(value, yaml.CollectionNode) or source is None or key.value not in ("environment", "networks"):
                continue
            lines = source.text.split("\n")
            first, last = source.at(key.start_mark.index)[0], _last_line(source, node)
            pad = " " * (key.start_mark.column + 2)
            if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
                pairs = [item.value.partition("=") for item in node.value]
                body = ["%s%s: %s" % (pad, one[0], json.dumps(one[2], ensure_ascii=False) if one[1] else "") for one in pairs]
            elif isinstance(node, yaml.MappingNode) and all(isinstance(one, yaml.ScalarNode) and one.tag != "tag:yaml.org,2002:null"
                                                            and target(its).value != "<<" for its, one in node.value):
                body = ["%s- %s" % (pad, json.dumps("%s=%s" % (target(its).value, one.value), ensure_ascii=False)) for its, one in node.value]
            else:
                continue
            lines[first:last + 1] = [lines[first][:key.start_mark.column] + key.value + ":"] + body
            return "\n".join(lines)
    return text


def proxies(text, rng):
    """Proxy variables, with or without lists of exceptions, in some service."""
    extra = rng.sample([("HTTP_PROXY", "http://user:secret@proxy:3128"), ("https_proxy", "http://proxy:3128"), ("NO_PROXY", "localhost,127.0.0.1"),
                        ("no_proxy", rng.choice(("", "localhost", "*", "${NO_PROXY_LIST:-a,b}", "localhost,")))], rng.randint(1, 4))
    return _with_variables(text, rng, extra)


def references(text, rng):
    """Values from outside: ${VAR}, defaults, doubled dollars, or none at all."""
    def other(line):
        for pattern, joint in ((LISTED, "="), (MAPPED, ": ")):
            found = pattern.match(line)
            if found and rng.random() < 0.4:
                value = rng.choice(("${FROM_OUTSIDE:-%s}" % found.group(3), "${FROM_OUTSIDE}", "a$$b", "", "${X:-}%s" % found.group(3)))
                return found.group(1) + found.group(2) + joint.rstrip(" ") * 1 + (" " if joint == ": " else "") + value
        return line
    return _each(text, rng, 0.3, other)


def versions(text, rng):
    """Another version of FastGPT, or none that can be told."""
    tag = rng.choice(("v4.17.0", "v4.17.2", "latest", "v4.8.22", "v4.8.23", "v4.16.1", "v4.5.1", "v4.12.4@sha256:" + "0" * 64, "main"))
    return re.sub(r"(image:\s*\S*/fastgpt):v[\w.-]+", r"\g<1>:" + tag, text)


def anchors(text, rng):
    """Variables taken up by anchors: a value, or a whole map that others share."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        found = re.match(r"^(    )environment:\s*$", line)
        if found and rng.random() < 0.3:
            lines[number] = "    environment: &shared%d" % number
            if rng.random() < 0.5:
                lines.append("x-copy%d:\n  environment: *shared%d" % (number, number))
        mapped = MAPPED.match(lines[number])
        if mapped and mapped.group(2) in VARIABLES and rng.random() < 0.5:
            lines[number] = "%s%s: &val%d %s" % (mapped.group(1), mapped.group(2), number, mapped.group(3))
            if rng.random() < 0.5:
                lines.insert(number + 1, "%sOTHER_%d: *val%d" % (mapped.group(1), number, number))
    return "\n".join(lines)


def networks(text, rng):
    """A service without networks, in the default one, on its machine's network, or with hosts of its own."""
    services = [pair for pair in _services(text).values() if isinstance(pair[1], yaml.MappingNode) and not pair[1].flow_style]
    source = _source(text)
    if not services or source is None:
        return text
    key, body = rng.choice(services)
    lines = source.text.split("\n")
    own = direct(body).get("networks")
    if own and isinstance(own[1], yaml.CollectionNode):
        first, last = source.at(own[0].start_mark.index)[0], _last_line(source, own[1])
        pad = lines[first][:own[0].start_mark.column]
        lines[first:last + 1] = rng.choice(([], [pad + "networks: [default]"], [pad + "network_mode: host"], [pad + "networks:"],
                                            [pad + 'network_mode: "service:%s"' % next(iter(_services(text)))],
                                            [pad + "networks: {default: , other: {aliases: [x]}}"]))
    elif body.value:
        first = source.at(body.value[0][0].start_mark.index)[0]
        lines.insert(first, lines[first][:body.value[0][0].start_mark.column] + rng.choice((
            "extra_hosts: ['a.b:1.2.3.4']", "extra_hosts: {a.b: 1.2.3.4}", "extra_hosts: ['host.docker.internal:host-gateway']", "extra_hosts:", "networks:")))
    return "\n".join(lines)


def copies(text, rng):
    """A second FastGPT beside the first, with the same database or another one."""
    for name, (key, body) in _services(text).items():
        source = _source(text)
        if source is None or not isinstance(body, yaml.MappingNode) or "fastgpt:" not in str(source.text[key.start_mark.index:_offset(source, body)]):
            continue
        lines = source.text.split("\n")
        first, last = source.at(key.start_mark.index)[0], _last_line(source, body)
        block = [line for line in lines[first + 1:last + 1] if "container_name" not in line]
        copy = "\n".join([lines[first].replace(name, name + "-2", 1)] + block)
        copy = re.sub(r"&[\w-]+", "", copy)
        copy = copy.replace("/fastgpt?", "/other?") if rng.random() < 0.3 else copy
        lines.insert(last + 1, copy)
        return "\n".join(lines)
    return text


def doubled(text, rng):
    """A line twice."""
    lines = text.split("\n")
    number = rng.randint(0, len(lines) - 1)
    lines.insert(number, lines[number])
    return "\n".join(lines)


def damaged(text, rng):
    """A slip of the hand: a line gone, a letter too many, a tab, an end cut off."""
    lines = text.split("\n")
    number = rng.randint(0, len(lines) - 1)
    kind = rng.randint(0, 5)
    if kind == 0:
        del lines[number]
    elif kind == 1:
        place = rng.randint(0, len(lines[number]))
        lines[number] = lines[number][:place] + rng.choice("\t:-'\"[]{}&*#|>%@`,\u2028\x85\r") + lines[number][place:]
    elif kind == 2:
        lines[number] = lines[number].replace("  ", "\t", 1)
    elif kind == 3:
        lines = lines[:number + 1]
    elif kind == 4:
        lines[number] = " " + lines[number]
    else:
        lines.insert(number, rng.choice(("---", "...", "undefined", "<<: *nobody", "services:", "  - stray")))
    return "\n".join(lines)


def kept(text, rng):
    """Something else keeps this file."""
    return rng.choice(("# Ansible managed\n", "# DO NOT EDIT - generated by deploy.sh\n", "# This file is managed by Terraform\n")) + text


MUTATIONS = (comments, remarks, trailing, carriage_returns, ends, reordered, renamed, quoting, brackets, indentation, styles, proxies, references, versions,
             anchors, networks, copies, doubled, damaged, kept)
# What changes nothing in the meaning, or leaves a project that works, comes more often than what breaks it.
WEIGHTS = (4, 4, 2, 3, 3, 4, 4, 4, 4, 4, 4, 4, 3, 2, 3, 4, 2, 1, 3, 1)


def mutant(text, rng):
    """(text, names of what was done) after one to four of them."""
    done = []
    for dummy in range(rng.choice((1, 1, 2, 2, 3, 4))):
        one = rng.choices(MUTATIONS, WEIGHTS)[0]
        text = one(text, rng)
        done.append(one.__name__)
    return text, done


def _each(text, rng, share, change):
    lines = [(line[:-1], "\r") if line.endswith("\r") else (line, "") for line in text.split("\n")]
    return "\n".join((change(line) if rng.random() < share else line) + end for line, end in lines)


def _source(text):
    try:
        return Source(text)
    except CannotEdit:
        return None


def _services(text):
    """{name: (key node, body)} of the services that are written as such, for a text without byte order mark."""
    source = _source(text)
    services = direct(source.root).get("services") if source and not text.startswith("\ufeff") and "\r" not in text else None
    node = services[1] if services else None
    return {name: pair for name, pair in direct(node).items() if isinstance(pair[1], yaml.MappingNode)} if isinstance(node, yaml.MappingNode) else {}


def _sections(pair):
    return [(key, value) for key, value in pair[1].value if not isinstance(key, Alias)
            and key.value in ("environment", "networks", "extra_hosts", "depends_on", "ports") and not isinstance(value, Alias)]


def _offset(source, node):
    """Where the last part of a block ends."""
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        node = node.value[-1][1] if isinstance(node, yaml.MappingNode) else node.value[-1]
    return node.end if isinstance(node, Alias) else node.end_mark.index


def _last_line(source, node):
    offset = _offset(source, node)
    while offset > 0 and source.text[offset - 1] in "\n ":
        offset -= 1
    return source.at(offset)[0]


def _anchor(source, node):
    found = re.match(r"&[\w-]+ ?", source.text[node.start_mark.index:])
    return found.group().strip() + " " if found else ""


def _flow(node):
    if isinstance(node, Alias):
        return "*%s " % node.name
    if isinstance(node, yaml.MappingNode):
        return "{%s}" % ", ".join("%s: %s" % (_flow(key) if target(key).value != "<<" else "<<", _flow(value)) for key, value in node.value)
    if isinstance(node, yaml.SequenceNode):
        return "[%s]" % ", ".join(_flow(one) for one in node.value)
    if node.tag == "tag:yaml.org,2002:null":
        return "null"
    return node.value if node.style is None and re.match(r"^[\w./-]+$", node.value) else json.dumps(node.value, ensure_ascii=False)


def _reordered(text, rng):
    """The entries of one block map or list shuffled, each with the comments above it."""
    source = _source(text)
    if source is None or text.startswith("\ufeff") or "\r" in text:
        return text
    blocks = [pair[1] for pair in _services(text).values()] + [value for pair in _services(text).values() for dummy, value in _sections(pair)]
    services = direct(source.root).get("services")
    blocks += [services[1]] if services and isinstance(services[1], yaml.MappingNode) else []
    blocks = [node for node in blocks if isinstance(node, yaml.CollectionNode) and not node.flow_style and len(node.value) > 1]
    if not blocks:
        return text
    node = rng.choice(blocks)
    parts = [part[0] if isinstance(node, yaml.MappingNode) else part for part in node.value]
    starts = [source.at(part.start if isinstance(part, Alias) else part.start_mark.index)[0] for part in parts]
    if len(set(starts)) != len(starts):
        return text
    stop = _last_line(source, node) + 1
    lines = text.split("\n")
    entries = [lines[first:following] for first, following in zip(starts, starts[1:] + [stop])]
    rng.shuffle(entries)
    return "\n".join(lines[:starts[0]] + [line for entry in entries for line in entry] + lines[stop:])


def _with_variables(text, rng, extra):
    services = [pair for pair in _services(text).values() if "environment" in direct(pair[1])]
    source = _source(text)
    if not services or source is None:
        return text
    key, value = direct(rng.choice(services)[1])["environment"]
    node = value
    if isinstance(value, Alias) or not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return text
    lines = source.text.split("\n")
    first = node.value[0][0] if isinstance(node, yaml.MappingNode) else node.value[0]
    number = source.at(first.start if isinstance(first, Alias) else first.start_mark.index)[0]
    pad = re.match(r"\s*(- +)?", lines[number]).group()
    joint = ": " if isinstance(node, yaml.MappingNode) else "="
    lines[number:number] = [pad + name + joint + (json.dumps(value) if joint == ": " else value) for name, value in extra]
    return "\n".join(lines)
