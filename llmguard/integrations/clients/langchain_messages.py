"""LangChain's messages as OpenAI's format spells them, and cleared texts written back into them.

Only what may hold text is in the view. A message whose view did not change stays the same object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "function": "function", "tool": "tool"}
_CALLS = frozenset({"tool_use", "server_tool_use", "input_json_delta", "tool_call_chunk", "tool_call"})
_SAID = ("input", "partial_json", "args")
BLOCK = "block"
"""What the index of a call begins with that stands in the content, as Anthropic's do."""
_BESIDE = ("reasoning_content", "refusal", "function_call")
# What says a message's texts once more; it goes where one of them changed.
_COPIES = frozenset({"tool_calls", "parsed", "audio"})


def seen(message: Any) -> dict[str, Any]:
    """A message, or a chunk of one.

    Args:
        message: a ``BaseMessage``.
    """
    view: dict[str, Any] = {"role": getattr(message, "role", None) or _ROLES.get(message.type, message.type)}
    if message.name:
        view["name"] = message.name
    blocks: list[Any] = [] if isinstance(message.content, str) else message.content
    view["content"] = message.content if isinstance(message.content, str) else [_block(one) for one in blocks]
    calls = [_call(index, one) for index, one in enumerate(_calls_of(message))]
    calls += [_in_block(index, one) for index, one in enumerate(blocks) if _is_call(one)]
    calls += [_call(f"invalid{index}", one) for index, one in enumerate(_invalid(message))]
    if calls:
        view["tool_calls"] = calls
    for key in _BESIDE:
        if message.additional_kwargs.get(key):
            view[key] = message.additional_kwargs[key]
    return view


def written(message: Any, view: Mapping[str, Any]) -> Any:
    """The message with the texts of a view that was changed.

    Args:
        message: that `seen` looked at.
        view: what it gave, with other texts.
    """
    calls = iter(view.get("tool_calls") or ())
    update: dict[str, Any] = {}
    said = _calls_of(message)
    if said:
        key = "tool_call_chunks" if hasattr(message, "tool_call_chunks") else "tool_calls"
        update[key] = [{**one, "args": next(calls)["function"]["arguments"]} for one in said]
    content = view.get("content")
    if isinstance(content, list):
        content = [_written(old, new, calls) for old, new in zip(message.content, content, strict=True)]
    update["content"] = "" if content is None else content
    if _invalid(message):
        invalid = [{**one, "args": next(calls)["function"]["arguments"]} for one in message.invalid_tool_calls]
        update["invalid_tool_calls"] = invalid
    kept = {key: value for key, value in message.additional_kwargs.items() if key not in _COPIES}
    update["additional_kwargs"] = kept | {
        key: view[key] for key in _BESIDE if view.get(key) is not None and key in kept
    }
    metadata = message.response_metadata
    update["response_metadata"] = {key: value for key, value in metadata.items() if key != "logprobs"}
    if hasattr(message, "tool_call_chunks"):  # a chunk makes its calls out of their pieces: anew
        fields = {key: getattr(message, key) for key in ("id", "name", "usage_metadata", "chunk_position")}
        return type(message)(**{**fields, **update})
    return message.model_copy(update=update)


def _calls_of(message: Any) -> Sequence[Mapping[str, Any]]:
    if hasattr(message, "tool_call_chunks"):
        return message.tool_call_chunks  # type: ignore[no-any-return]
    return getattr(message, "tool_calls", ())


def _invalid(message: Any) -> Sequence[Mapping[str, Any]]:
    """Calls whose arguments are no JSON; those of a chunk are its pieces of calls once more."""
    return () if hasattr(message, "tool_call_chunks") else getattr(message, "invalid_tool_calls", ())


def _call(index: int | str, call: Mapping[str, Any]) -> dict[str, Any]:
    own = call.get("index")
    name = {"name": call["name"]} if call.get("name") else {}
    function = {**name, "arguments": call.get("args")}
    made: dict[str, Any] = {"index": index if own is None else own, "type": "function", "function": function}
    return {**made, "id": call["id"]} if call.get("id") else made


def _is_call(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") in _CALLS


def _block(block: Any) -> Any:
    """A block of a content; calls stand with the message's calls, reasoning is spelt as the format does."""
    if _is_call(block):
        return {"type": "text", "text": ""}
    if isinstance(block, dict) and block.get("type") == "reasoning" and isinstance(block.get("reasoning"), str):
        return {"type": "thinking", "thinking": block["reasoning"]}
    if isinstance(block, dict) and block.get("type") in ("text", "thinking"):
        return {key: value for key, value in block.items() if key not in ("index", "id", "extras", "signature")}
    return block


def _in_block(index: int, block: Mapping[str, Any]) -> dict[str, Any]:
    key = next((key for key in _SAID if key in block), "input")
    said = block.get(key)
    return {
        "index": f"{BLOCK}{block.get('index', index)}",
        "type": "function",
        "function": {"arguments": said if said not in ({}, None) else ""},
    }


def _written(old: Any, new: Any, calls: Any) -> Any:
    if _is_call(old):
        said = next(calls)["function"]["arguments"]
        key = next((key for key in _SAID if key in old), "")
        return {**old, key: said} if key and (said or isinstance(old[key], str)) else old
    if isinstance(old, dict) and old.get("type") == "reasoning" and "thinking" in new:
        return {**old, "reasoning": new["thinking"]}
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new
