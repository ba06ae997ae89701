"""Texts under members that few bodies have: when they are looked at, who they come from, and where they stand."""

from __future__ import annotations

from typing import Any

import pytest

from llmguard.dialects import registry

SYSTEM, USER, ANSWER = "input system", "input user", "output assistant"
Texts = dict[str, str]

SKILL = {"type": "inline", "name": "s", "description": "For sums.", "source": {"type": "base64", "data": "UEsDBA"}}
PLACE = {"type": "container_auto", "file_ids": ["file_1"], "skills": [SKILL], "network_policy": {"type": "disabled"}}
TOOL = {"name": "t", "description": "Adds up.", "input_schema": {"type": "object", "description": "Two sums."}}
CITY = {"type": "approximate", "city": "New York"}

REQUESTS: dict[str, tuple[str, dict[str, Any], Texts, list[str]]] = {
    "how a conversation is summed up": (
        "anthropic.messages",
        {
            "compaction": {"type": "summarize", "instructions": "Keep names."},
            "context_management": {"edits": [{"type": "compact_20260112", "instructions": "Keep dates."}]},
        },
        {"/compaction/instructions": SYSTEM, "/context_management/edits/0/instructions": SYSTEM},
        [],
    ),
    "where the user is": (
        "anthropic.messages",
        {"tools": [{"type": "web_search_20250305", "name": "web_search", "user_location": CITY}]},
        {"/tools/0/user_location/city": SYSTEM},
        [],
    ),
    "tools in mid-conversation": (
        "anthropic.messages",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": TOOL}},
                        {"type": "mcp_tool_listing", "mcp_server_name": "m", "tools": [TOOL]},
                        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "t", "why": "It is done."}},
                    ],
                }
            ]
        },
        {
            "/messages/0/content/0/tool/definition/description": SYSTEM,
            "/messages/0/content/0/tool/definition/input_schema/description": SYSTEM,
            "/messages/0/content/1/tools/0/description": SYSTEM,
            "/messages/0/content/1/tools/0/input_schema/description": SYSTEM,
        },
        ["/messages/0/content/2/tool/why"],
    ),
    "prose in settings": (
        "anthropic.messages",
        {
            "thinking": {"type": "enabled", "about": "Do no evil."},
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"x": "a b"}}]}],
        },
        {"/messages/0/content/0/text": USER},
        ["/messages/0/content/0/cache_control/x", "/thinking/about"],
    ),
    "where commands run": (
        "openai.responses",
        {"tools": [{"type": "shell", "environment": PLACE}, {"type": "code_interpreter", "container": "cntr_1"}]},
        {"/tools/0/environment/skills/0/description": SYSTEM},
        ["/tools/0/environment/skills/0/source"],
    ),
    "where commands ran": (
        "openai.responses",
        {"input": [{"type": "shell_call", "action": {"commands": []}, "environment": PLACE}]},
        {"/input/0/environment/skills/0/description": SYSTEM},
        ["/input/0/environment/skills/0/source"],
    ),
    "where the user of a search is": (
        "openai.responses",
        {"tools": [{"type": "web_search", "user_location": CITY, "filters": {"key": "of", "value": "A. Smith"}}]},
        {"/tools/0/user_location/city": SYSTEM},
        ["/tools/0/filters/value"],
    ),
    "what stands beside a chat": (
        "openai.chat",
        {"messages": [], "tool_prompt": "Use these.", "preamble": "Be kind.", "region": "eu", "metadata": {"a": "b c"}},
        {"/tool_prompt": SYSTEM},
        ["/preamble"],
    ),
    "what stands beside a prompt": ("openai.completions", {"prompt": "a", "x": ["b c"]}, {"/prompt": USER}, ["/x"]),
    "what stands beside an input": ("openai.embeddings", {"input": "a", "x": {"y": "b c"}}, {"/input": USER}, ["/x"]),
    "options of a runner": (
        "ollama.chat",
        {"messages": [], "options": {"stop": ["END"], "prefix": "Yes"}, "suffix": "So be it."},
        {"/options/stop/0": USER},
        ["/options/prefix", "/suffix"],
    ),
    "how a text is to be spoken, heard and formed": (
        "gemini",
        {
            "contents": [{"role": "user", "parts": [{"text": "Hi.", "speechMetadata": {"style": "Slow and sad."}}]}],
            "generationConfig": {
                "responseFormat": [{"text": {"mimeType": "application/json", "schema": {"description": "A sum."}}}],
                "audioTranscriptionConfig": {"customVocabulary": ["Acme"]},
            },
        },
        {
            "/contents/0/parts/0/text": USER,
            "/contents/0/parts/0/speechMetadata/style": USER,
            "/generationConfig/responseFormat/0/text/schema/description": SYSTEM,
            "/generationConfig/audioTranscriptionConfig/customVocabulary/0": USER,
        },
        [],
    ),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_requests(what: str) -> None:
    dialect, body, texts, uncovered = REQUESTS[what]
    said = registry.get(dialect).request(body, {})
    assert {part.path: f"{part.stage} {part.role}" for part in said.parts} == texts
    assert sorted(said.uncovered) == uncovered


ANSWERS: dict[str, tuple[str, dict[str, Any], Texts, list[str]]] = {
    "advice": (
        "anthropic.messages",
        {"content": [{"type": "advisor_tool_result", "tool_use_id": "t", "content": {"type": "x", "text": "Add."}}]},
        {"/content/0/content/text": "tool_result tool"},
        [],
    ),
    "names of files that were found": (
        "openai.responses",
        {"output": [{"type": "file_search_call", "queries": [], "results": [{"filename": "a b.txt", "text": "c"}]}]},
        {"/output/0/results/0/filename": "context retrieval", "/output/0/results/0/text": "context retrieval"},
        [],
    ),
    "why a moderation failed": (
        "openai.chat",
        {"choices": [], "moderation": {"input": {"type": "error", "code": "no", "message": "It said no."}}},
        {},
        ["/moderation"],
    ),
    "words that were heard": (
        "gemini",
        {"candidates": [{"content": {"parts": [{"audioTranscription": {"text": "Hi.", "words": [{"word": "Hi."}]}}]}}]},
        {"/candidates/0/content/parts/0/audioTranscription/text": ANSWER},
        ["/candidates/0/content/parts/0/audioTranscription/words"],
    ),
    "what a server says that it is": (
        "mcp",
        {"jsonrpc": "2.0", "id": 1, "result": {"serverInfo": {"name": "s", "version": "1", "description": "Adds."}}},
        {"/result/serverInfo/description": "context retrieval"},
        [],
    ),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_answers(what: str) -> None:
    dialect, body, texts, uncovered = ANSWERS[what]
    said = registry.get(dialect).response(body)
    assert {part.path: f"{part.stage} {part.role}" for part in said.parts} == texts
    assert sorted(said.uncovered) == uncovered


def test_words_that_were_heard_go_with_the_text_that_they_say() -> None:
    said = registry.get("gemini").response(ANSWERS["words that were heard"][1])
    assert [(put.path, put.json) for put in said.spoken] == [(said.uncovered[0], "[]")]
