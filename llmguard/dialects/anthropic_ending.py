"""How a stream of Anthropic's Messages API ends when content was filtered, and how a text of it goes on.

Follows https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects import carry
from llmguard.dialects.reader import index, number, word
from llmguard.dialects.wire import Delta, Frame, Json
from llmguard.types import Stage

#: By the type of a delta: its key, the stage, and the kind of channel.
DELTAS = {
    "text_delta": ("text", Stage.OUTPUT, "text"),
    "thinking_delta": ("thinking", Stage.OUTPUT, "thinking"),
    "input_json_delta": ("partial_json", Stage.TOOL_CALL, "input"),
    "compaction_delta": ("content", Stage.OUTPUT, "content"),
}


def ending(seen: Sequence[Frame], text: str, model: str) -> list[Frame]:
    """Closes the open blocks, says ``text`` in a block of its own, and stops with the reason ``refusal``."""
    data = [frame.data for frame in seen if isinstance(frame.data, dict)]
    if any([one.get("type") in ("message_stop", "error") for one in data]):
        return []
    events: list[dict[str, Json]] = []
    if not any(one.get("type") == "message_start" for one in data):
        events.append({"type": "message_start", "message": opened(model)})
    begun = [index(one, "index") for one in data if one.get("type") == "content_block_start"]
    ended = {index(one, "index") for one in data if one.get("type") == "content_block_stop"}
    events += [{"type": "content_block_stop", "index": at} for at in begun if at not in ended]
    if text:
        at = max(begun, default=-1) + 1
        events += [
            {"type": "content_block_start", "index": at, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": at, "delta": {"type": "text_delta", "text": text}},
            {"type": "content_block_stop", "index": at},
        ]
    usage = {"output_tokens": 0}
    for one in data:
        usage = _output(one) or usage
    stop = {"stop_reason": "refusal", "stop_sequence": None}
    events += [{"type": "message_delta", "delta": stop, "usage": usage}, {"type": "message_stop"}]
    return [Frame(one, one["type"]) for one in events]


def more(frame: Frame, delta: Delta, text: str) -> Frame:
    """See `carry.Continues`: the event that opens a block may hold the beginning of its text."""
    if word(frame.data, "type") != "content_block_start":
        return carry.more(frame, delta, text)
    below = delta.channel.rpartition("/")[2]
    sort, key = next((sort, key) for sort, (key, _, kind) in DELTAS.items() if kind == below)
    said = {"type": sort, key: text}
    event = "content_block_delta"
    return Frame({"type": event, "index": index(frame.data, "index"), "delta": said}, event if frame.name else "")


def opened(model: str) -> dict[str, Json]:
    """A message that says nothing yet."""
    return {
        "id": "msg_llmguard",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _output(data: Mapping[str, Json]) -> dict[str, int] | None:
    """What an event says of the tokens put out."""
    inner = data.get("message")
    usage = (inner if isinstance(inner, dict) else data).get("usage")
    count = number(usage, "output_tokens", "/usage") if isinstance(usage, dict) else None
    return None if count is None else {"output_tokens": count}
