"""Secrets that say where they were put, and requests and answers that hold them wherever one can stand."""

from __future__ import annotations

import json
import threading
from typing import Any

from fakes import Broken, Words

from llmguard import Stage

PATH = "/v1/chat/completions"
#: In every secret stands one of these; what follows says where it was put.
ASCII, WIDE = "canary7Qzx", "kanárek鳥Ωsäv"
RULES = [
    {"detector": "words", "categories": ["FLAGME"], "action": "flag"},
    {"detector": "words", "categories": ["HIDEME"], "action": "redact"},
    {"detector": "words", "categories": ["STOPME"], "action": "block"},
    {"detector": "broken", "action": "flag", "on_failure": "open", "deadline_ms": 50.0},
    {"detector": "slow", "action": "flag", "on_failure": "open", "deadline_ms": 50.0},
    {"detector": "pii", "action": "redact"},
    {"detector": "injection_rules", "action": "flag"},
]
POLICY: dict[str, Any] = {
    "name": "p",
    "version": "1",
    "rules": [{**rule, "stage": [stage.value for stage in Stage]} for rule in RULES],
    "breaker": {"failures": 4, "reset_s": 3600.0},
}
WORDS = ("", "flagme", "hideme", "stopme")


def secret(where: str, mark: str = ASCII) -> str:
    """A secret that says where it was put."""
    return f"{mark} {where} {mark}@example.com"


def both(where: str) -> str:
    return f"{secret(where)} {secret(where, WIDE)}"


def detectors(released: threading.Event) -> list[Any]:
    def explode(texts: Any) -> Any:
        raise ValueError(f"could not read {texts[0].content}")

    def wait(texts: Any) -> Any:
        if any("holdon" in text.content for text in texts):
            released.wait(60)
        return [[] for _ in texts]

    return [Words("words", "flagme", "hideme", "stopme"), Broken(explode), Broken(wait, name="slow", inline=False)]


def request(word: str, **more: Any) -> dict[str, Any]:
    """A request that holds secrets wherever one can stand."""
    tool = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
    tool["function"] = {
        "name": "look",
        "arguments": json.dumps({"q": both("tool call"), both("key of a tool call"): 1}),
    }
    return {
        "model": both("model"),
        "user": both("user"),
        "metadata": {"note": both("metadata"), both("key of metadata"): "x"},
        "messages": [
            {"role": "system", "content": both("system prompt")},
            {"role": "user", "name": both("name"), "content": [{"type": "text", "text": f"{both('part')} {word}"}]},
            {
                "role": "user",
                "content": [
                    {
                        "type": "file",
                        "file": {"filename": both("file name"), "file_data": "data:text/plain;base64,eHl6"},
                    }
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [tool]},
            {"role": "tool", "tool_call_id": "call_1", "content": f"{both('tool result')} {word}"},
            {"role": "user", "content": f"{both('prompt')} {word}"},
        ],
        **more,
    }


def plain(word: str, **more: Any) -> dict[str, Any]:
    """A request that any reader takes."""
    return {"model": "m", "messages": [{"role": "user", "content": f"{both('prompt')} {word}"}], **more}


def answered(word: str) -> bytes:
    message = {"role": "assistant", "content": f"{both('answer')} {word}"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    said = {
        "id": both("id of an answer"),
        "object": "chat.completion",
        "model": both("model that answers"),
        "choices": [{"index": 0, "message": message, "finish_reason": both("finish reason")}],
        "usage": usage,
    }
    return json.dumps(said).encode()


def events(word: str) -> list[bytes]:
    pieces = [*(f"{both('streamed')} {word} ".split(" ")), ""]
    made = []
    for piece in pieces:
        choice = {"index": 0, "delta": {"content": f"{piece} "}, "finish_reason": None}
        one = {"id": both("id"), "object": "chat.completion.chunk", "model": both("model"), "choices": [choice]}
        made.append(b"data: " + json.dumps(one).encode() + b"\n\n")
    return [*made, b"data: [DONE]\n\n"]


FAILED = json.dumps({"error": {"message": both("error"), "type": both("type"), "code": both("code")}}).encode()
BROKEN = b'{"choices": [{"message": {"content": "' + both("malformed answer").encode()
