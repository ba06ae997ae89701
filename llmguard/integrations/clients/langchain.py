"""LangChain's chat models: a model of the same class, of which every call is guarded, however it is reached.

``invoke``, ``batch``, ``stream``, chains, tools that are bound and structured answers all come down to four methods of
a chat model (https://docs.langchain.com/oss/python/langchain/models); those are guarded. Callbacks and tracers see what
the caller sees.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from llmguard.dialects import openai_chat
from llmguard.dialects.wire import Json
from llmguard.errors import ConfigurationError
from llmguard.guard import Guard
from llmguard.integrations.clients.json_view import has_json
from llmguard.integrations.clients.langchain_messages import BLOCK, seen, written
from llmguard.integrations.clients.values import Fallback, Way, check_fallback

C = TypeVar("C")

MODULES = ("langchain_core",)
# Events of a model's own, past the four methods; where there are none, LangChain makes them of what those give.
_NATIVE = ("_stream_chat_model_events", "_astream_chat_model_events")
_TOLD = ("tools", "functions", "response_format")  # options that the format has under the same names
# Options whose strings are names that the provider knows, or the connection's: no model is told them.
_NAMES = frozenset(
    {"model", "model_name", "tool_choice", "service_tier", "reasoning_effort", "verbosity", "user"}
).union(
    {"modalities", "safety_identifier", "prompt_cache_key", "previous_response_id", "truncation", "include", "timeout"},
    {"headers", "extra_headers", "extra_query", "metadata"},
)
_OTHERS = "chat_template_kwargs"  # where the format has what is put into a prompt by any name


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None) -> C:
    """A copy of a chat model whose calls are guarded.

    Args:
        client: a ``BaseChatModel``.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so; gives a text.

    Raises:
        ConfigurationError: it is no chat model, or the policy needs a fallback and none is given.
    """
    from langchain_core.language_models import BaseChatModel

    check_fallback(guard, fallback)
    own: Any = client
    if not isinstance(client, BaseChatModel):
        raise ConfigurationError(
            f"{type(client).__name__} is no chat model of LangChain: wrap the chat model that it is made with"
        )
    copy: Any = own.model_copy()
    copy.__class__ = _guarded(type(client), guard, fallback)
    return copy  # type: ignore[no-any-return]


def _guarded(kind: Any, guard: Guard, fallback: Fallback | None) -> Any:
    """A class that derives from a chat model's own and has its name, so that saving and tracing go on."""
    own = {name: getattr(kind, name) for name in ("_generate", "_agenerate", "_stream", "_astream")}

    def _generate(self: Any, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        call = _Call(guard, fallback, messages, stop, kwargs, streams=False)
        return call.way.call(call.body, call.sender(lambda *args, **options: own["_generate"](self, *args, **options)))

    async def _agenerate(
        self: Any, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        call = _Call(guard, fallback, messages, stop, kwargs, streams=False)
        send = call.sender(lambda *args, **options: own["_agenerate"](self, *args, **options))
        return await call.way.acall(call.body, send)

    def _stream(
        self: Any, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[Any]:
        call = _Call(guard, fallback, messages, stop, kwargs, streams=True)
        send = call.sender(lambda *args, **options: own["_stream"](self, *args, **options))
        with call.way.stream(call.body, send) as events:
            for event in events:
                if run_manager is not None:
                    run_manager.on_llm_new_token(event.text, chunk=event)
                yield event

    async def _astream(
        self: Any, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        call = _Call(guard, fallback, messages, stop, kwargs, streams=True)
        send = call.sender(lambda *args, **options: own["_astream"](self, *args, **options))
        async with await call.way.astream(call.body, send) as events:
            async for event in events:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(event.text, chunk=event)
                yield event

    from langchain_core.language_models import BaseChatModel

    # What a model does not have of its own comes down to what it has; and it must not seem to have streams.
    made = (_generate, _agenerate, _stream, _astream)
    methods = {m.__name__: m for m in made if own[m.__name__] is not getattr(BaseChatModel, m.__name__)}
    place = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    guarded = type(kind)(kind.__name__, (kind,), {**place, **methods})
    for name in _NATIVE:
        setattr(guarded, name, None)
    return guarded


class _Call:
    """One call of a chat model.

    Args:
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        messages: of the call.
        stop: likewise.
        options: likewise.
        streams: whether the answer is a stream.

    Attributes:
        body: what tells the model something, in OpenAI's format.
        way: how it is guarded.
    """

    def __init__(
        self, guard: Guard, fallback: Fallback | None, messages: list[Any], stop: Any, options: Any, *, streams: bool
    ) -> None:
        self._messages = messages
        self._options = dict(options)
        self._last: Any = None
        self._chunks = 0
        self.body: dict[str, Any] = {"messages": [seen(message) for message in messages]}
        if stop:
            self.body["stop"] = stop
        for key in _TOLD:
            if self._options.get(key) is not None and not isinstance(self._options[key], type):
                self.body[key] = self._options[key]
        others = {key: value for key, value in self._options.items() if key not in _NAMES.union(_TOLD, {"stop"})}
        if others := {key: value for key, value in others.items() if has_json(value)}:
            self.body[_OTHERS] = others
        read, build = (self._chunk, self._event) if streams else (self._result, self._answer)
        self.way = Way(guard, openai_chat.CHAT, fallback, build, read, provider="langchain", client="langchain")

    def sender(self, method: Callable[..., Any]) -> Callable[[dict[str, Any]], Any]:
        """What makes the call with a cleared request."""

        def send(cleared: dict[str, Any]) -> Any:
            views = zip(self._messages, self.body["messages"], cleared["messages"], strict=True)
            messages = [old if new == view else written(old, new) for old, view, new in views]
            told = {key: cleared[key] for key in _TOLD if key in self.body} | cleared.get(_OTHERS, {})
            # Callbacks would see the answer before it has been looked at; they get what goes out.
            return method(messages, stop=cleared.get("stop"), **{**self._options, **told})

        return send

    def _result(self, result: Any) -> Json:
        self._last = result
        choices = [
            {"index": index, "message": seen(generation.message)} for index, generation in enumerate(result.generations)
        ]
        return {"choices": choices}

    def _answer(self, value: Json) -> Any:
        from langchain_core.messages import AIMessage
        from langchain_core.outputs import ChatGeneration, ChatResult

        if "id" in value:
            text = value["choices"][0]["message"]["content"]
            message = AIMessage(text, response_metadata={"finish_reason": "content_filter"})
            return ChatResult(generations=[ChatGeneration(message=message)])
        pairs = zip(self._last.generations, value["choices"], strict=True)
        made = [
            ChatGeneration(message=written(old.message, new["message"]), generation_info=_info(old))
            for old, new in pairs
        ]
        return ChatResult(generations=made, llm_output=self._last.llm_output)

    def _chunk(self, chunk: Any) -> Json:
        self._last = chunk
        self._chunks += 1
        reason = (chunk.generation_info or {}).get("finish_reason") or chunk.message.response_metadata.get(
            "finish_reason"
        )
        choice = {"index": 0, "delta": seen(chunk.message), "finish_reason": reason}
        return {"choices": [choice], "number": self._chunks}

    def _event(self, value: Json) -> Any:
        from langchain_core.messages import AIMessageChunk
        from langchain_core.outputs import ChatGenerationChunk

        choice = value["choices"][0]
        delta = choice["delta"]
        if "role" in delta and value.get("number") == self._chunks:  # and no other event that carries on with a text
            message = written(self._last.message, delta)
            return ChatGenerationChunk(message=message, generation_info=_info(self._last))
        calls, blocks = [], []
        for call in delta.get("tool_calls") or ():
            place, said = call.get("index"), call["function"].get("arguments")
            if isinstance(place, str):  # of a call that stands in the content
                blocks.append({"type": "input_json_delta", "partial_json": said, "index": int(place[len(BLOCK) :])})
            else:
                name = call["function"].get("name")
                calls.append({"name": name, "args": said, "id": call.get("id"), "index": place})
        reason = choice.get("finish_reason")
        metadata = {"finish_reason": reason} if reason else {}
        message = AIMessageChunk(
            blocks or delta.get("content") or "", tool_call_chunks=calls, response_metadata=metadata
        )
        return ChatGenerationChunk(message=message)


def _info(generation: Any) -> Any:
    info = generation.generation_info
    return {key: value for key, value in info.items() if key != "logprobs"} if info else info
