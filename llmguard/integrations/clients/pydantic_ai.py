"""Pydantic AI's models: a ``WrapperModel`` that guards what an agent's model is told and what it answers.

Follows https://ai.pydantic.dev/models/overview. Requests and streams are guarded; what sends messages in other ways
(counting tokens, batches, compaction) is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models import StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel

from llmguard.dialects import openai_chat
from llmguard.dialects.wire import Json
from llmguard.guard import Guard
from llmguard.integrations.clients import pydantic_ai_messages as spelt
from llmguard.integrations.clients.closed import unguarded
from llmguard.integrations.clients.value_events import AsyncEvents
from llmguard.integrations.clients.values import Fallback, Way, check_fallback

C = TypeVar("C")

MODULES = ("pydantic_ai",)
_SPOKEN = ("extra_body", "openai_prediction")  # settings by which more texts can reach a model
_OTHERS = "chat_template_kwargs"  # where the format has what is put into a prompt by any name


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None) -> C:
    """A model whose calls are guarded, to be given to an agent.

    Args:
        client: a ``Model``, or the name of one.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so; gives a text, or a ``ModelResponse``.

    Raises:
        ConfigurationError: the policy needs a fallback and none is given.
    """
    made: Any = GuardedModel(client, guard, fallback)
    return made  # type: ignore[no-any-return]


class GuardedModel(WrapperModel):  # type: ignore[misc, unused-ignore]
    """A model of Pydantic AI, guarded; see `wrap`."""

    def __init__(self, wrapped: Any, guard: Guard, fallback: Fallback | None = None) -> None:
        check_fallback(guard, fallback)
        super().__init__(wrapped)
        self._guard = guard
        self._fallback = fallback

    async def request(self, messages: Any, model_settings: Any, model_request_parameters: Any) -> Any:
        """A request with a whole answer."""
        call = _Call(messages, model_settings, model_request_parameters)
        way = Way(self._guard, openai_chat.CHAT, self._fallback, call.answer, call.result, **self._told())
        return await way.acall(call.body, lambda body: self.wrapped.request(*call.given(body)))

    def _told(self) -> dict[str, Any]:
        return {"provider": self.wrapped.system, "client": "pydantic_ai"}

    @asynccontextmanager
    async def request_stream(
        self, messages: Any, model_settings: Any, model_request_parameters: Any, run_context: Any = None
    ) -> AsyncIterator[Any]:
        """A request whose answer is a stream."""
        call = _Call(messages, model_settings, model_request_parameters)
        inner: list[Any] = []
        wholes: dict[int, Any] = {}

        def read(event: Any) -> Json:
            if event.event_kind == "part_start":
                wholes[event.index] = event.part
            return spelt.delta(event)

        way = Way(self._guard, openai_chat.CHAT, self._fallback, read=read, **self._told())

        async def send(body: dict[str, Any]) -> AsyncIterator[Any]:
            async with self.wrapped.request_stream(*call.given(body), run_context) as response:
                inner[:] = [response]
                async for event in response:
                    yield event

        async with await way.astream(call.body, send) as events:
            yield _Stream(model_request_parameters, _events=events, _inner=inner, _parts=wholes, _name=self.model_name)

    async def count_tokens(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise unguarded("count_tokens", "request")

    async def compact_messages(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise unguarded("compact_messages", "request")

    async def batch_encode(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise unguarded("batch_encode", "request")

    async def batch_create(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise unguarded("batch_create", "request")


class _Call:
    """One request.

    Args:
        messages: of it.
        settings: likewise.
        parameters: likewise.

    Attributes:
        body: what tells the model something, in OpenAI's format.
    """

    def __init__(self, messages: Any, settings: Any, parameters: Any) -> None:
        self._messages, self._settings, self._parameters = messages, settings, parameters
        self._tools = [*parameters.function_tools, *parameters.output_tools]
        self._told = list(getattr(parameters, "instruction_parts", None) or ())
        views = spelt.seen(messages)
        views += [{"role": "system", "content": part.content} for part in self._told]
        self.body: dict[str, Any] = {"messages": views}
        if self._tools:
            self.body["tools"] = spelt.seen_tools(self._tools)
        if settings and settings.get("stop_sequences"):
            self.body["stop"] = settings["stop_sequences"]
        if others := {key: settings[key] for key in _SPOKEN if (settings or {}).get(key)}:
            self.body[_OTHERS] = others
        self._last: Any = None

    def given(self, body: dict[str, Any]) -> tuple[Any, Any, Any]:
        """The arguments of a cleared request."""
        before, after = self.body["messages"], body["messages"]
        place = len(before) - len(self._told)
        messages = spelt.written(self._messages, before[:place], after[:place])
        told = [
            part if new == old else replace(part, content=new["content"])
            for part, old, new in zip(self._told, before[place:], after[place:], strict=True)
        ]
        changes: dict[str, Any] = {} if after[place:] == before[place:] else {"instruction_parts": told}
        if self._tools and body["tools"] != self.body["tools"]:
            tools = spelt.written_tools(self._tools, self.body["tools"], body["tools"])
            place = len(self._parameters.function_tools)
            changes |= {"function_tools": tools[:place], "output_tools": tools[place:]}
        settings = self._settings
        if "stop" in body and body["stop"] != self.body["stop"]:
            settings = {**settings, "stop_sequences": body["stop"]}
        if _OTHERS in body and body[_OTHERS] != self.body[_OTHERS]:
            settings = {**settings, **body[_OTHERS]}
        return messages, settings, replace(self._parameters, **changes) if changes else self._parameters

    def result(self, response: Any) -> Json:
        """A response as JSON: each of its parts is a choice."""
        self._last = response
        views = [spelt.seen_part(part) for part in response.parts]
        return {"choices": [{"index": index, "message": view} for index, view in enumerate(views)]}

    def answer(self, value: Json) -> Any:
        """A response with other texts, or one of our own."""
        if "id" in value:
            text = value["choices"][0]["message"]["content"]
            return ModelResponse(parts=[TextPart(text)], finish_reason="content_filter")
        pairs = zip(self._last.parts, value["choices"], strict=True)
        parts = [
            part if spelt.seen_part(part) == choice["message"] else spelt.written_part(part, choice["message"])
            for part, choice in pairs
        ]
        return replace(self._last, parts=parts)


@dataclass
class _Stream(StreamedResponse):  # type: ignore[misc, unused-ignore]
    """A stream of cleared events."""

    _events: AsyncEvents = field(kw_only=True)
    _inner: list[Any] = field(kw_only=True)
    _parts: dict[int, Any] = field(kw_only=True)
    _name: str = field(kw_only=True)
    _changed: set[int] = field(default_factory=set, kw_only=True)
    _begun: datetime = field(default_factory=lambda: datetime.now().astimezone(), kw_only=True)

    async def _get_event_iterator(self) -> AsyncIterator[Any]:
        manager = self._parts_manager
        async for event in self._events:
            own = isinstance(event, dict)
            value = event if own else spelt.delta(event)
            for choice in value["choices"]:
                if own:
                    self._changed.add(choice["index"])
                for made in self._made(manager, choice, None if own else event):
                    yield made
            self._note(value)
        self._note({})

    def _made(self, manager: Any, choice: Json, event: Any) -> list[Any]:
        place = choice["index"]
        if "message" in choice:
            part, view = self._parts[place], choice["message"]
            part = part if view == spelt.seen_part(part) else spelt.written_part(part, view)
            return [manager.handle_part(vendor_part_id=place, part=part)]
        said = choice["delta"]
        made: list[Any] = []
        if isinstance(said.get("content"), str) and said["content"]:
            made += manager.handle_text_delta(vendor_part_id=place, content=said["content"])
        signed = {} if place in self._changed else _signed(event)
        if said.get("reasoning_content") or signed:
            made += manager.handle_thinking_delta(
                vendor_part_id=place, content=said.get("reasoning_content") or None, **signed
            )
        for call in said.get("tool_calls") or ():
            begun = manager.handle_tool_call_delta(
                vendor_part_id=place,
                tool_name=call["function"].get("name"),
                args=call["function"].get("arguments"),
                tool_call_id=call.get("id"),
            )
            made += [begun] if begun is not None else []
        return made

    def _note(self, value: Json) -> None:
        """What the inner stream knows beside its texts."""
        for choice in value.get("choices", ()):
            if choice.get("finish_reason") == "content_filter":
                self.finish_reason = "content_filter"
        if self._inner:
            inner = self._inner[0]
            self._usage = inner.usage if not callable(inner.usage) else inner.usage()
            self.provider_response_id = inner.provider_response_id
            self.finish_reason = self.finish_reason or inner.finish_reason

    @property
    def model_name(self) -> str:
        """Of the wrapped model."""
        return self._inner[0].model_name if self._inner else self._name

    @property
    def provider_name(self) -> str | None:
        """Of the wrapped model."""
        return self._inner[0].provider_name if self._inner else None

    @property
    def provider_url(self) -> str | None:
        """Of the wrapped model."""
        return self._inner[0].provider_url if self._inner else None

    @property
    def timestamp(self) -> datetime:
        """When the answer began."""
        return self._inner[0].timestamp if self._inner else self._begun


def _signed(event: Any) -> dict[str, Any]:
    """By what a provider knows its own reasoning again, which it wants back as it was."""
    kind = getattr(event, "event_kind", "")
    if kind == "part_start" and event.part.part_kind == "thinking":
        said = {"id": event.part.id, "signature": event.part.signature, "provider_name": event.part.provider_name}
    elif kind == "part_delta" and event.delta.part_delta_kind == "thinking":
        said = {"signature": event.delta.signature_delta, "provider_name": event.delta.provider_name}
    else:
        return {}
    return {key: value for key, value in said.items() if value}
