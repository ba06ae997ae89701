"""vLLM in this process: ``LLM.generate`` and ``LLM.chat``, and ``AsyncLLM.generate`` as a stream.

Written after vLLM's API reference (https://docs.vllm.ai/en/latest/api) by the attributes that it documents. Each
prompt of a batch is a call of its own: no answer gets what was taken out of another's prompt, and the engine still
runs them as one batch. Prompts of tokens are passed on and counted as not looked at; sampling parameters are the
application's own.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from llmguard.dialects import openai_chat, openai_completions
from llmguard.dialects.wire import Json
from llmguard.errors import ConfigurationError
from llmguard.guard import Guard
from llmguard.integrations.clients.arguments import named
from llmguard.integrations.clients.closed import Closed
from llmguard.integrations.clients.pending import Pending
from llmguard.integrations.clients.values import Fallback, Way, check_fallback
from llmguard.integrations.clients.vllm_outputs import Growth, answer_of, seen_chat, seen_text

C = TypeVar("C")

MODULES = ("vllm",)
_TEMPLATE = ("tools", "chat_template", "chat_template_kwargs")
_HERE: dict[str, Any] = {"provider": "vllm", "client": "vllm", "in_process": True}


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None) -> C:
    """An engine of the same type whose calls are guarded.

    Args:
        client: an ``LLM`` or an ``AsyncLLM``.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so; gives a text, or a ``RequestOutput``.

    Raises:
        ConfigurationError: the policy needs a fallback and none is given.
    """
    check_fallback(guard, fallback)
    kind = _AsyncEngine if inspect.isasyncgenfunction(client.generate) else _Engine  # type: ignore[attr-defined]
    made: Any = kind(client, guard, fallback)
    return made  # type: ignore[no-any-return]


class _Engine(Closed):
    passes: ClassVar[frozenset[str]] = frozenset(
        {"get_tokenizer", "get_default_sampling_params", "start_profile", "stop_profile", "reset_prefix_cache", "sleep"}
        | {"wake_up", "get_metrics"}
    )
    inner: ClassVar[frozenset[str]] = frozenset({"llm_engine"})
    hint: ClassVar[str] = "generate or chat"

    def __init__(self, client: Any, guard: Guard, fallback: Fallback | None) -> None:
        super().__init__(client)
        self._self_guard = guard
        self._self_fallback = fallback

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Continuations of prompts."""
        method = self.__wrapped__.generate
        given = named(method, args, kwargs)
        prompts = given.pop("prompts")
        one = isinstance(prompts, (str, dict)) or _is_tokens(prompts)
        many = [prompts] if one else list(prompts)
        bodies = [{"prompt": _said(prompt)} for prompt in many]

        def send(places: list[int], asked: list[dict[str, Any]]) -> Any:
            cleared = [_with(many[place], body["prompt"]) for place, body in zip(places, asked, strict=True)]
            return method(cleared, **_chosen(given, places, len(many)))

        return _together(self._way(openai_completions.COMPLETIONS, seen_text), bodies, send)

    def chat(self, *args: Any, **kwargs: Any) -> Any:
        """Answers to conversations."""
        method = self.__wrapped__.chat
        given = named(method, args, kwargs)
        messages = given.pop("messages")
        many = [messages] if not messages or isinstance(messages[0], Mapping) else list(messages)
        told = {key: given.pop(key) for key in _TEMPLATE if given.get(key) is not None}
        bodies = [{"messages": list(conversation), **told} for conversation in many]

        def send(places: list[int], asked: list[dict[str, Any]]) -> Any:
            cleared = [body["messages"] for body in asked]
            # The template is one for all; what one conversation's look at it took out, no other may have either.
            template = next(
                ({key: body[key] for key in told} for body in asked if any(body[key] != told[key] for key in told)),
                told,
            )
            return method(cleared, **_chosen(given, places, len(many)), **template)

        return _together(self._way(openai_chat.CHAT, seen_chat), bodies, send)

    def _way(self, dialect: Any, seen: Callable[[Any], Json]) -> Callable[[], Way]:
        def way() -> Way:
            last: list[Any] = []

            def read(output: Any) -> Json:
                last[:] = [output]
                return seen(output)

            def build(value: Json) -> Any:
                return answer_of(value, last[0] if last else None)

            return Way(self._self_guard, dialect, self._self_fallback, build, read, **_HERE)

        return way


class _AsyncEngine(Closed):
    passes: ClassVar[frozenset[str]] = frozenset(
        {"abort", "get_tokenizer", "get_vllm_config", "get_model_config", "get_decoding_config", "is_tracing_enabled"}
        | {"do_log_stats", "check_health", "start_profile", "stop_profile", "reset_mm_cache", "reset_prefix_cache"}
        | {"sleep", "wake_up", "is_sleeping", "shutdown", "get_supported_tasks", "wait_for_requests_to_drain"}
    )
    inner: ClassVar[frozenset[str]] = frozenset({"engine_core", "input_processor", "processor", "output_processor"})
    hint: ClassVar[str] = "generate"

    def __init__(self, client: Any, guard: Guard, fallback: Fallback | None) -> None:
        super().__init__(client)
        self._self_guard = guard
        self._self_fallback = fallback

    async def generate(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """A continuation of a prompt, piece by piece or growing, as the sampling parameters say."""
        method = self.__wrapped__.generate
        given = named(method, args, kwargs)
        prompt = given.pop("prompt")
        growth = Growth(given.get("sampling_params"))
        way = Way(self._self_guard, openai_completions.COMPLETIONS, self._self_fallback, read=growth.read, **_HERE)

        def send(body: dict[str, Any]) -> Any:
            growth.restart()
            return method(_with(prompt, body["prompt"]), **given)

        async with await way.astream({"prompt": _said(prompt), "stream": True}, send) as events:
            async for event in events:
                yield growth.written(event)


def _together(
    way: Callable[[], Way],
    bodies: Sequence[Mapping[str, Any]],
    send: Callable[[list[int], list[dict[str, Any]]], Sequence[Any]],
) -> list[Any]:
    """Calls that are made as one batch; those that are to be made again, as another."""
    pending: list[Pending] = []
    try:
        for body in bodies:
            pending.append(Pending(way(), body))  # noqa: PERF401 - those before one that is blocked must be closed
        while places := [place for place, call in enumerate(pending) if call.asked is not None]:
            outputs = send(places, [asked for call in pending if (asked := call.asked) is not None])
            for place, output in zip(places, outputs, strict=True):
                pending[place].take(output)
    finally:
        for call in pending:
            call.close()
    return [call.done for call in pending]


def _chosen(given: Mapping[str, Any], places: Sequence[int], count: int) -> dict[str, Any]:
    """Arguments with one value a prompt, for some of the prompts."""
    own = ("sampling_params", "lora_request", "priority")
    return {
        key: [value[place] for place in places]
        if key in own and isinstance(value, list) and len(value) == count
        else value
        for key, value in given.items()
    }


def _is_tokens(prompt: Any) -> bool:
    return isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], int)


def _said(prompt: Any) -> Any:
    """The text of a prompt, or its tokens."""
    if isinstance(prompt, str) or _is_tokens(prompt):
        return prompt
    if isinstance(prompt, Mapping) and isinstance(prompt.get("prompt"), str):
        return prompt["prompt"]
    if isinstance(prompt, Mapping) and "prompt_token_ids" in prompt:
        return list(prompt["prompt_token_ids"])
    raise ConfigurationError("prompts other than texts and tokens are not guarded: use a string or a TextPrompt")


def _with(prompt: Any, said: Any) -> Any:
    if isinstance(prompt, Mapping) and isinstance(said, str):
        return {**{key: value for key, value in prompt.items() if key != "prompt_token_ids"}, "prompt": said}
    return said if isinstance(said, str) else copy.copy(prompt)
