# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a new simple app: system configuration, question, answer of a model. Internal to this collection.

The same that FastGPT's own page makes for an empty simple app (4.11 to 4.16, tests/fixtures/requests/app-create-simple.json): the page
can open and edit the result.
"""

from __future__ import annotations

START, MODEL = "448745", "loOvhld2ZTKa"
VERSION = "481"


def simple_nodes():
    """list of dict; the model step has no model yet."""
    return [_system(), _start(), _model()]


def simple_edges():
    """How the question gets to the model step."""
    return [{"source": START, "target": MODEL, "sourceHandle": START + "-source-right", "targetHandle": MODEL + "-target-left"}]


def _system():
    return _node("userGuide", "System config", "userGuide", "core/workflow/template/systemConfig", 531, -486, [
        _input("welcomeText", ["hidden"], "string", "core.app.Welcome Text", value=""),
        _input("variables", ["hidden"], "any", "core.app.Chat Variable", value=[]),
        _input("questionGuide", ["hidden"], "object", "core.app.Question Guide", value={"open": False}),
        _input("tts", ["hidden"], "any", "", value={"type": "web"}),
        _input("whisper", ["hidden"], "any", "", value={"open": False, "autoSend": False, "autoTTSResponse": False}),
        _input("scheduleTrigger", ["hidden"], "any", "", value=None),
    ], [])


def _start():
    return _node(START, "Workflow start", "workflowStart", "core/workflow/template/workflowStart", 558, 123, [
        _question(),
    ], [
        _output("userChatInput", "core.module.input.label.user question"),
    ])


def _model():
    node = _node(MODEL, "AI chat", "chatNode", "core/workflow/template/aiChat", 1097, -244, [
        _input("model", ["settingLLMModel", "reference"], "string", "core.module.input.label.aiModel", value=""),
        _input("temperature", ["hidden"], "number", "", min=0, max=10, step=1),
        _input("maxToken", ["hidden"], "number", "", min=100, max=4000, step=50),
        _input("isResponseAnswerText", ["hidden"], "boolean", "", value=True),
        _input("quoteTemplate", ["hidden"], "string", ""),
        _input("quotePrompt", ["hidden"], "string", ""),
        _input("systemPrompt", ["textarea", "reference"], "string", "core.ai.Prompt", max=3000, value=""),
        _input("history", ["numberInput", "reference"], "chatHistory", "core.module.input.label.chat history",
               required=True, min=0, max=30, value=6),
        dict(_question(), value=[START, "userChatInput"]),
        _input("quoteQA", ["settingDatasetQuotePrompt"], "datasetQuote", "", debugLabel="Dataset quote", description=""),
        _input("aiChatReasoning", ["hidden"], "boolean", "", value=True),
    ], [
        _output("history", "core.module.output.label.New context", "chatHistory"),
        _output("answerText", "core.module.output.label.Ai response content"),
    ])
    return dict(node, showStatus=True)


def _question():
    return _input("userChatInput", ["reference", "textarea"], "string", "common:core.module.input.label.user question",
                  required=True, toolDescription="user question")


def _node(node_id, name, kind, avatar, x, y, inputs, outputs):
    return {"nodeId": node_id, "name": name, "intro": "", "avatar": avatar, "flowNodeType": kind,
            "position": {"x": x, "y": y}, "version": VERSION, "inputs": inputs, "outputs": outputs}


def _input(key, render, kind, label, **more):
    return dict(key=key, renderTypeList=render, valueType=kind, label=label, **more)


def _output(key, label, kind="string"):
    return {"id": key, "key": key, "label": label, "valueType": kind, "type": "static"}
