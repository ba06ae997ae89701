"""How a stream of OpenAI's Responses API ends when content was filtered, and how a text of it goes on.

What went out is said again where the format does so: in the ``done`` of a part and of an item, and in the last event.
So a reader who looks at whole texts alone sees what the others saw.

Follows https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects import carry
from llmguard.dialects.openai_responses_stream import LAST
from llmguard.dialects.reader import index, word
from llmguard.dialects.wire import Delta, Frame, Json

#: The ids of what we make ourselves; a dialect has neither dice nor a clock, so it was also created at 0.
RESPONSE, MESSAGE = "resp_llmguard", "msg_llmguard"

#: By what follows the item's index in a channel: the event that says a piece of it.
_PIECES = {
    "arguments": "response.function_call_arguments",
    "input": "response.custom_tool_call_input",
    "code": "response.code_interpreter_call_code",
    "command": "response.shell_call_command",
    "summary": "response.reasoning_summary_text",
}
_Texts = dict[int, dict[int, tuple[str, str]]]
"""By item and part: the part's type, and what went out of it."""
_PARTS = {"response.output_text.delta": "output_text", "response.refusal.delta": "refusal"}


def more(frame: Frame, delta: Delta, text: str) -> Frame:
    """See `carry.Continues`: an event that opens an item or a part may hold the beginning of its text."""
    data = frame.data
    if not word(data, "type").endswith(".added"):
        return carry.more(frame, delta, text)
    own, _, number = delta.channel.partition("/")[2].partition("/")
    name = _PIECES.get(own) or ("response.refusal" if delta.path.endswith("/refusal") else "response.output_text")
    part = data.get("item") if isinstance(data.get("item"), dict) else {}
    if part.get("type") == "reasoning" and own == "content":
        name = "response.reasoning_text"
    if part.get("type") == "mcp_call":
        name = "response.mcp_call_arguments"
    made: dict[str, Json] = {"type": f"{name}.delta", "item_id": word(data, "item_id") or word(part, "id")}
    made |= {key: data[key] for key in ("output_index", "sequence_number") if key in data}
    if number:
        made[f"{own}_index"] = int(number)
    if name == "response.output_text":
        made["logprobs"] = []
    return Frame({**made, "delta": text}, f"{name}.delta" if frame.name else "")


def message(identity: str, text: str) -> dict[str, Json]:
    """A message that was cut short by a content filter, and that says ``text``; no part when there is none."""
    return _message(identity, [_part("output_text", text)] if text else [])


def response(
    model: str, output: list[dict[str, Json]], identity: str = RESPONSE, created: int = 0, status: str = ""
) -> dict[str, Json]:
    """A response object: one that a content filter ended, unless ``status`` says otherwise."""
    return {
        "id": identity,
        "object": "response",
        "created_at": created,
        "status": status or "incomplete",
        "error": None,
        "incomplete_details": None if status else {"reason": "content_filter"},
        "instructions": None,
        "max_output_tokens": None,
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }


def ending(seen: Sequence[Frame], text: str, model: str) -> list[Frame]:
    """The events that end a stream: open parts and items close, a message says ``text``, the response is incomplete.

    Items other than messages stand in the last event as messages without content, so that no call that was cut off
    looks like one to be made. Nothing follows a stream that is over.
    """
    data = [frame.data for frame in seen if isinstance(frame.data, dict)]
    if any([word(one, "type") in LAST for one in data]):
        return []
    started = next((one["response"] for one in data if isinstance(one.get("response"), dict)), None)
    number = max([index(one, "sequence_number") for one in data], default=-1)
    identity, model = (word(started, "id"), word(started, "model")) if started else (RESPONSE, model)
    created = started.get("created_at") if started else None
    created = int(created) if isinstance(created, (int, float)) else 0
    events: list[dict[str, Json]] = []
    if started is None:
        events.append({"type": "response.created", "response": response(model, [], identity, created, "in_progress")})
    items, open_items = _items(data)
    texts = _texts(data)
    output = [
        _message(items[at] or MESSAGE, [_part(*part) for part in texts.get(at, {}).values()]) for at in sorted(items)
    ]
    ended = {(index(one, "output_index"), index(one, "content_index")) for one in data if _is_done(one)}
    for at, closed in zip(sorted(items), output, strict=True):
        if open_items.get(at) == "message":
            for place, part in zip(texts.get(at, {}), closed["content"], strict=True):
                events += [] if (at, place) in ended else _closed(closed["id"], at, place, part)
            events.append({"type": "response.output_item.done", "output_index": at, "item": closed})
    if text:
        said = message(MESSAGE, text)
        events += _said(said, max(items, default=-1) + 1, text)
        output.append(said)
    events.append({"type": "response.incomplete", "response": response(model, output, identity, created)})
    return [Frame({**one, "sequence_number": number + 1 + at}, one["type"]) for at, one in enumerate(events)]


def _message(identity: str, parts: list[Json]) -> dict[str, Json]:
    return {"id": identity, "type": "message", "status": "incomplete", "role": "assistant", "content": parts}


def _part(sort: str, text: str) -> dict[str, Json]:
    if sort == "refusal":
        return {"type": sort, "refusal": text}
    return {"type": sort, "text": text, "annotations": [], "logprobs": []}


def _items(data: Sequence[Mapping[str, Json]]) -> tuple[dict[int, str], dict[int, str]]:
    """The ids of the items by their index, and the types of those that did not end."""
    ids: dict[int, str] = {}
    open_items: dict[int, str] = {}
    for one in data:
        if "output_index" not in one:
            continue
        at, found = index(one, "output_index"), one.get("item")
        if isinstance(found, dict):
            ids[at] = word(found, "id", "/item") or ids.get(at, "")
            open_items[at] = word(found, "type", "/item")
            if one.get("type") == "response.output_item.done":
                del open_items[at]
        else:
            ids.setdefault(at, word(one, "item_id"))
    return ids, open_items


def _texts(data: Sequence[Mapping[str, Json]]) -> _Texts:
    """What went out of the messages."""
    texts: _Texts = {}
    for one in data:
        sort = _PARTS.get(word(one, "type"))
        if sort is not None:
            parts = texts.setdefault(index(one, "output_index"), {})
            place = index(one, "content_index")
            parts[place] = sort, parts.get(place, (sort, ""))[1] + word(one, "delta")
    return {at: dict(sorted(parts.items())) for at, parts in texts.items()}


def _is_done(one: Mapping[str, Json]) -> bool:
    return one.get("type") == "response.content_part.done"


def _closed(identity: str, at: int, place: int, part: dict[str, Json]) -> list[dict[str, Json]]:
    """The events that close a part."""
    where = {"item_id": identity, "output_index": at, "content_index": place}
    if part["type"] == "refusal":
        said = {"type": "response.refusal.done", **where, "refusal": part["refusal"]}
    else:
        said = {"type": "response.output_text.done", **where, "text": part["text"], "logprobs": []}
    return [said, {"type": "response.content_part.done", **where, "part": part}]


def _said(said: dict[str, Json], at: int, text: str) -> list[dict[str, Json]]:
    """The events of one whole message."""
    item_at = {"item_id": said["id"], "output_index": at}
    part_at = {**item_at, "content_index": 0}
    part = said["content"][0]
    opened = {**said, "status": "in_progress", "content": []}
    return [
        {"type": "response.output_item.added", "output_index": at, "item": opened},
        {"type": "response.content_part.added", **part_at, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **part_at, "delta": text, "logprobs": []},
        *_closed(said["id"], at, 0, part),
        {"type": "response.output_item.done", "output_index": at, "item": said},
    ]
