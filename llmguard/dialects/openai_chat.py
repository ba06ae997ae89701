"""Chat completions: OpenAI's, Azure OpenAI's, and those of the servers that speak it (vLLM, llama.cpp, Ollama).

Follows "Create chat completion" and "The chat completion chunk object" of OpenAI's API reference
(https://platform.openai.com/docs/api-reference/chat), "Azure OpenAI On Your Data API reference"
(https://learn.microsoft.com/azure/ai-services/openai/references/on-your-data) and the extra parameters of vLLM's
OpenAI-compatible server (https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html).

Log probabilities say the text once more, in tokens and bytes, with alternatives that were not chosen; so do token ids,
and speech. They are uncovered, one place a choice, and spoken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects.openai_common import (
    COMMON,
    CREATED,
    check_answer,
    constraints,
    definition,
    error_body,
    error_of,
    facts,
    finished,
    index_of,
    is_name,
    is_whole,
    model_of,
    opened,
    role_of,
    said_again,
    unread,
)
from llmguard.dialects.pointer import child, strings
from llmguard.dialects.reader import Reader, Says, exact, flag, mapping, objects, optional, word
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Part, Route
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

_ROLES = {
    "system": (Stage.INPUT, Role.SYSTEM),
    "developer": (Stage.INPUT, Role.SYSTEM),
    "assistant": (Stage.INPUT, Role.ASSISTANT),
    "tool": (Stage.TOOL_RESULT, Role.TOOL),
    "function": (Stage.TOOL_RESULT, Role.TOOL),
    "document": (Stage.CONTEXT, Role.RETRIEVAL),
}
_SPOKEN = frozenset({"refusal", "reasoning_content", "reasoning"})
_TEXT_KEY = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal", "thinking": "thinking"}
_PART = frozenset({"prompt_cache_breakpoint", "cache_control"})
_TYPE = frozenset({"type"})
_PLAIN = frozenset({"role", "tool_call_id"})
_SAID = {"function": "arguments", "custom": "input"}
_CALLS = frozenset({"tool_calls", "function_call"})
_CITED = frozenset({"annotations", "context"})  # sources, and on Azure the passages that were found
_MESSAGE = _PLAIN | _CALLS | _CITED | {"content", "name", "audio"} | _SPOKEN
_AUDIO = frozenset({"data", "id", "transcript", "expires_at"})
_CALL = frozenset({"id", "type", "index", "function", "custom"})
_BESIDE = frozenset(
    {"tools", "functions", "documents", "prediction", "data_sources", "chat_template", "chat_template_kwargs"}
    | {"web_search_options", "tool_prompt"}
)
_REQUEST = _BESIDE | {"messages", "model", "stream", "response_format", "stop", "n"}
_KNOWN = _REQUEST | COMMON
_CHOICE = frozenset(
    {"index", "message", "delta", "finish_reason", "native_finish_reason", "stop_reason", "logprobs", "token_ids"}
)
_FILTERS = frozenset({"content_filter_results", "content_filter_result", "content_filter_offsets"})


class OpenAiChat:
    """The dialect of chat completions; see the module.

    Args:
        name: of the dialect.
        provider: for telemetry.
        paths: of its routes.
    """

    operation: str = "chat"
    framing: Framing | None = Framing.SSE

    def __init__(self, name: str, provider: str, paths: Sequence[str]) -> None:
        self.name = name
        self.provider = provider
        self.routes = tuple([Route("POST", path) for path in paths])

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request."""
        root, reader = mapping(body, ""), Reader()
        exact(root, _REQUEST, "")
        add_messages(reader, root.get("messages"))
        if not _BESIDE.isdisjoint(root):
            _beside(reader, root)
        constraints(reader, root)
        unread(reader, root, _KNOWN)
        return reader.body(model=model_of(root, path), stream=flag(root, "stream"))

    def response(self, body: Json) -> Body:
        """The texts of an answer, or of an error."""
        root, reader = mapping(body, ""), Reader()
        error = error_of(reader, root)
        check_answer(root, "choices", error)
        finish: list[str] = []
        for where, choice in objects(root.get("choices"), "/choices"):
            place = child(where, "message")
            _message(reader, mapping(choice.get("message"), place), place, Stage.OUTPUT, Role.ASSISTANT)
            finish += _choice(reader, choice, where)
        said_again(reader, root)
        return reader.body(**facts(root, finish, error))

    def event(self, frame: Frame) -> Event:
        """The pieces in a chunk. It ends whole choices: ``0/``."""
        if frame.data == "[DONE]":
            return Event(last=True)
        root, reader = mapping(frame.data, ""), Reader(Says.PIECE)
        error = error_of(reader, root)
        finish: list[str] = []
        for order, (where, choice) in enumerate(objects(root.get("choices"), "/choices")):
            index = str(index_of(choice, order))
            for key, channel in (("delta", index), ("message", "")):
                if choice.get(key) is not None:
                    place = child(where, key)
                    said = mapping(choice[key], place)
                    _message(reader, said, place, Stage.OUTPUT, Role.ASSISTANT, channel)
            if reasons := _choice(reader, choice, where):
                finish += reasons
                reader.ends.append(f"{index}/")
        said_again(reader, root)
        return reader.event(**facts(root, finish, error))

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """A completion of one choice, with no tokens spent."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "content_filter"}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        head = {"id": "chatcmpl-llmguard", "object": "chat.completion", "created": CREATED, "model": request.model}
        return {**head, "choices": [choice], "usage": usage}

    def status(self, request: Body) -> int:
        """A refusal is an answer."""
        return 200

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """Chunks that say the text in every choice still open, and finish it."""
        if finished(seen):
            return []
        first, choices = opened(seen, request)
        frames = []
        for index, begun in choices.items():
            if text or not begun:
                delta = {"content": text} if begun else {"role": "assistant", "content": text}
                frames.append(_chunk(first, index, delta, None))
            frames.append(_chunk(first, index, {}, "content_filter"))
        return [*frames, Frame("[DONE]")]

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body."""
        return error_body(message, code)


def add_messages(reader: Reader, messages: Json) -> None:
    """The texts of a request's messages, at ``/messages``.

    Raises:
        DialectError: they are none.
    """
    if not isinstance(messages, list):
        raise DialectError("/messages: must be an array")
    for where, message in objects(messages, "/messages"):
        stage, who = _ROLES.get(role_of(message, where), (Stage.INPUT, Role.USER))
        _message(reader, message, where, stage, who)


def _beside(reader: Reader, root: Mapping[str, Json]) -> None:
    """What a request says beside its messages."""
    for key in ("tools", "functions"):
        for where, tool in objects(root.get(key), child("", key)):
            definition(reader, tool, where)
    add_template(reader, root)
    reader.text(root.get("tool_prompt"), "/tool_prompt", Stage.INPUT, Role.SYSTEM)
    search = optional(root.get("web_search_options"), "/web_search_options")
    definition(reader, search.get("user_location"), "/web_search_options/user_location")
    reader.rest(search, "/web_search_options", {"user_location", "search_context_size"})
    prediction = optional(root.get("prediction"), "/prediction")
    reader.rest(prediction, "/prediction", {"type", "content"})
    _content(reader, prediction.get("content"), "/prediction/content", Stage.INPUT, Role.ASSISTANT)
    for where, source in objects(root.get("data_sources"), "/data_sources"):
        exact(source, {"parameters"}, where)
        settings = optional(source.get("parameters"), f"{where}/parameters")
        exact(settings, {"role_information"}, f"{where}/parameters")
        said = settings.get("role_information")
        reader.text(said, f"{where}/parameters/role_information", Stage.INPUT, Role.SYSTEM)


def add_template(reader: Reader, root: Mapping[str, Json]) -> None:
    """VLLM's extras of a request: a chat template, and what it puts into the prompt beside the messages."""
    reader.tree(root.get("documents"), "/documents", Stage.CONTEXT)
    for key in ("chat_template", "chat_template_kwargs"):
        definition(reader, root.get(key), child("", key))


def _message(
    reader: Reader, message: Mapping[str, Json], path: str, stage: Stage, role: Role, choice: str = ""
) -> None:
    """The texts of a message, or pieces of those of a choice: then they have channels."""
    for key, value in message.items():
        if value is None or key in _PLAIN:
            continue
        where = child(path, key)
        channel = f"{choice}/{key}" if choice else ""
        if key == "content":
            _content(reader, value, where, stage, role, channel)
        elif key in _SPOKEN:
            reader.text(value, where, stage, role, channel)
        elif key == "name":
            if not is_name(word(message, key, path)):
                reader.text(value, where, stage, role)
        elif key in _CALLS:
            _calls(reader, key, value, where, choice)
        elif key == "audio":
            _audio(reader, value, where, stage, role, f"{choice}/transcript" if choice else "")
        elif key in _CITED:
            shown = Stage.OUTPUT if stage is Stage.OUTPUT else Stage.CONTEXT
            found = strings(value, where)
            reader.parts += [Part(shown, Role.RETRIEVAL, at, text) for at, text in found if not at.endswith("/type")]
        else:
            reader.rest({key: value}, path, _MESSAGE)


def _calls(reader: Reader, key: str, value: Json, path: str, choice: str) -> None:
    if key == "function_call":
        _call(reader, value, path, "arguments", f"{choice}/function/arguments" if choice else "")
        return
    for order, (where, call) in enumerate(objects(value, path)):
        # Some servers send whole calls without an index; then the call's id tells it from the others.
        tool = call["index"] if call.get("index") is not None else call.get("id") or order
        for kind, said in _SAID.items():
            if call.get(kind) is not None:
                channel = f"{choice}/tool/{tool}/{said}" if choice else ""
                _call(reader, call[kind], child(where, kind), said, channel)
                if channel and call.get("index") is None and is_whole(call[kind].get(said)):
                    reader.ends.append(channel)
        reader.rest(call, where, _CALL)


def _audio(reader: Reader, value: Json, path: str, stage: Stage, role: Role, channel: str) -> None:
    audio = mapping(value, path)
    reader.text(audio.get("transcript"), child(path, "transcript"), stage, role, channel)
    if stage is Stage.INPUT:
        reader.opaque(audio.get("id"), child(path, "id"))
    reader.echo(audio.get("data"), child(path, "data"), '""')
    reader.rest(audio, path, _AUDIO)


def _content(reader: Reader, content: Json, path: str, stage: Stage, role: Role, channel: str = "") -> None:
    if not isinstance(content, list):
        reader.text(content, path, stage, role, channel)
        return
    for index, part in enumerate(content):
        where = child(path, index)
        if isinstance(part, str):
            reader.text(part, where, stage, role, channel)
            continue
        key = _TEXT_KEY.get(word(mapping(part, where), "type", where))
        if key is None or key not in part:
            reader.uncovered.append(where)
            continue
        _content(reader, part[key], child(where, key), stage, role, channel)
        reader.rest(part, where, {key}, _TYPE, _PART)


def _call(reader: Reader, call: Json, path: str, key: str, channel: str) -> None:
    said = optional(call, path)
    where = child(path, key)
    if isinstance(said.get(key), (dict, list)):  # not in the format, but servers that read it take it
        reader.tree(said[key], where, Stage.TOOL_CALL)
    else:
        reader.text(said.get(key), where, Stage.TOOL_CALL, channel=channel, json=key == "arguments")
    reader.rest(said, path, {"name", key})


def _choice(reader: Reader, choice: Mapping[str, Json], path: str) -> list[str]:
    """What a choice says beside its message; its finish reason, if it has one."""
    for key in ("logprobs", "token_ids"):
        if choice.get(key) is not None:
            reader.echo(choice[key], child(path, key), "null")
    reader.rest(choice, path, _CHOICE, mute=_FILTERS)
    reason = word(choice, "finish_reason", path)
    return [reason] if reason else []


def _chunk(first: Mapping[str, Json], index: int, delta: Json, finish: str | None) -> Frame:
    head = {"id": first.get("id", "chatcmpl-llmguard"), "object": "chat.completion.chunk"}
    made = {"created": first.get("created", CREATED), "model": first.get("model", "")}
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return Frame({**head, **made, "choices": [choice]})


CHAT = OpenAiChat("openai.chat", "openai", ("/v1/chat/completions", "/chat/completions"))
AZURE_CHAT = OpenAiChat(
    "azure.chat",
    "azure.ai.openai",
    (
        "/openai/deployments/{deployment}/chat/completions",
        "/openai/deployments/{deployment}/extensions/chat/completions",
        "/openai/v1/chat/completions",
    ),
)
