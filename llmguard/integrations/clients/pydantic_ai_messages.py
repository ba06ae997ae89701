"""Pydantic AI's messages as OpenAI's format spells them, part by part, and cleared texts written back into them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmguard.integrations.clients.closed import unguarded

View = dict[str, Any]
_ROLES = {"system-prompt": "system", "tool-return": "tool", "builtin-tool-return": "tool", "compaction": "assistant"}
_ROLES |= {"instruction": "system", "instruction-delta": "system"}
_IN_PIECES = frozenset({"text", "thinking", "tool-call"})
_CALLS = frozenset({"tool-call", "builtin-tool-call"})


def seen(messages: Sequence[Any]) -> list[View]:
    """A message of the format for each part, and for the instructions of a request."""
    views: list[View] = []
    for message in messages:
        if getattr(message, "instructions", None):
            views.append({"role": "system", "content": message.instructions})
        views += [seen_part(part) for part in message.parts]
    return views


def written(messages: Sequence[Any], before: Sequence[View], after: Sequence[View]) -> list[Any]:
    """The messages with the texts of views that were changed; the others are the same objects."""
    pairs = iter(zip(before, after, strict=True))
    return [_message(message, pairs) for message in messages]


def seen_part(part: Any) -> View:
    """One part of a request or of a response."""
    kind, content = part.part_kind, getattr(part, "content", None)
    if kind == "speech":
        role = "assistant" if part.speaker == "assistant" else "user"
        return {"role": role, "content": part.transcript or "", "audio": {"id": kind}}
    if kind in _CALLS:
        function = {"name": part.tool_name, "arguments": part.args if part.args is not None else ""}
        return {
            "role": "assistant",
            "tool_calls": [{"id": part.tool_call_id, "type": "function", "function": function}],
        }
    if kind == "thinking":
        return {"role": "assistant", "reasoning_content": content or ""}
    role = _ROLES.get(kind, "assistant" if kind == "text" else "user")
    if isinstance(content, str):
        return {"role": role, "content": content}
    if kind == "user-prompt" and content is not None:
        return {"role": role, "content": [_item(item) for item in content]}
    if content is not None and kind != "file":
        return {"role": role, "content": _told(part)}
    return {"role": role, "content": [{"type": kind}]}


def written_part(part: Any, view: Mapping[str, Any]) -> Any:
    """The part with the texts of a view that was changed."""
    if view.get("tool_calls"):
        return replace(part, args=view["tool_calls"][0]["function"]["arguments"])
    if part.part_kind == "speech":
        return replace(part, transcript=view["content"], audio=None)
    if "reasoning_content" in view:
        return replace(part, content=view["reasoning_content"])
    content = view["content"]
    if part.part_kind == "user-prompt" and isinstance(content, list):
        pairs = zip(part.content, content, strict=True)
        content = [_item_with(item, new["text"]) if "text" in new else item for item, new in pairs]
    return replace(part, content=content)


def seen_tools(tools: Sequence[Any]) -> list[View]:
    """What definitions of tools tell the model."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters_json_schema},
        }
        for tool in tools
    ]


def written_tools(tools: Sequence[Any], before: Sequence[View], after: Sequence[View]) -> list[Any]:
    """Definitions of tools with the texts of views that were changed."""
    return [
        tool
        if new == old
        else replace(
            tool, description=new["function"]["description"], parameters_json_schema=new["function"]["parameters"]
        )
        for tool, old, new in zip(tools, before, after, strict=True)
    ]


def delta(event: Any) -> View:
    """An event of a stream: each part is a choice of its own, so that its texts keep apart."""
    kind, index = event.event_kind, getattr(event, "index", 0)
    said: View = {}
    finish = None
    if kind == "part_start" and event.part.part_kind not in _IN_PIECES:
        return {"choices": [{"index": index, "message": seen_part(event.part), "finish_reason": None}]}
    if kind == "part_start":
        view = seen_part(event.part)
        said = {key: value for key, value in view.items() if key != "role"}
        for call in said.get("tool_calls", ()):
            call["index"] = 0
            if not isinstance(call["function"]["arguments"], str):
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    elif kind == "part_delta":
        said = _piece(event.delta)
    elif kind == "part_end":
        finish = "stop"
    return {"choices": [{"index": index, "delta": said, "finish_reason": finish}]}


def _piece(piece: Any) -> View:
    kind = piece.part_delta_kind
    if kind == "text":
        return {"content": piece.content_delta}
    if kind == "thinking":
        return {"reasoning_content": piece.content_delta or ""}
    if kind != "tool_call":
        raise unguarded(f"{kind} in a stream", "a model that answers in text, or a request without a stream")
    args = piece.args_delta
    function: View = {"arguments": args if isinstance(args, str) else "" if args is None else json.dumps(args)}
    if piece.tool_name_delta:
        function["name"] = piece.tool_name_delta
    call: View = {"index": 0, "type": "function", "function": function}
    return {"tool_calls": [{**call, "id": piece.tool_call_id} if piece.tool_call_id else call]}


def _message(message: Any, pairs: Iterator[tuple[View, View]]) -> Any:
    changes: dict[str, Any] = {}
    if getattr(message, "instructions", None):
        old, new = next(pairs)
        if new != old:
            changes["instructions"] = new["content"]
    parts = [part if new == old else written_part(part, new) for part, (old, new) in _each(message.parts, pairs)]
    if any([new is not old for new, old in zip(parts, message.parts, strict=True)]):
        changes["parts"] = parts
    return replace(message, **changes) if changes else message


def _each(parts: Sequence[Any], pairs: Iterator[tuple[View, View]]) -> list[tuple[Any, tuple[View, View]]]:
    return [(part, next(pairs)) for part in parts]


def _item(item: Any) -> View:
    text = item if isinstance(item, str) else getattr(item, "content", None)
    return {"type": "text", "text": text} if isinstance(text, str) else {"type": "media"}


def _item_with(item: Any, text: str) -> Any:
    return text if isinstance(item, str) else replace(item, content=text)


def _told(part: Any) -> str:
    """What the model is told of a content that is no string."""
    for name in ("model_response_str", "model_response"):
        if hasattr(part, name):
            return str(getattr(part, name)())
    return json.dumps(part.content, default=str)
