"""litellm: the module itself, or a ``Router``, whose calls speak OpenAI's formats whatever the provider.

Follows https://docs.litellm.ai/docs/completion/input and its siblings. Chats, completions, embeddings, moderations and
responses are guarded, sync and async, whole and as streams. For litellm's proxy see `litellm_guardrail`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from llmguard.dialects import openai_chat, openai_completions, openai_embeddings, openai_moderations, openai_responses
from llmguard.dialects.wire import Dialect, Json
from llmguard.errors import ConfigurationError
from llmguard.guard import Guard
from llmguard.integrations.clients.arguments import named
from llmguard.integrations.clients.closed import Closed
from llmguard.integrations.clients.values import Fallback, Way, check_fallback

C = TypeVar("C")

MODULES = ("litellm",)

DIALECTS: Mapping[str, Dialect] = {
    "completion": openai_chat.CHAT,
    "text_completion": openai_completions.COMPLETIONS,
    "embedding": openai_embeddings.EMBEDDINGS,
    "moderation": openai_moderations.MODERATIONS,
    "responses": openai_responses.RESPONSES,
}
_WORDLESS = frozenset({"embedding", "moderation"})
# What is litellm's own or the connection's: no text of the call, and much of it has no JSON.
BESIDE = frozenset(
    {"api_key", "api_base", "base_url", "api_version", "client", "callbacks", "success_callback", "failure_callback"}
    | {"metadata", "litellm_metadata", "litellm_logging_obj", "logger_fn", "headers", "extra_headers", "timeout"}
    | {"shared_session", "fallbacks", "context_window_fallback_dict", "specific_deployment", "ssl_verify", "caching"}
)
# What a fall-back to another model may bring with it: nothing that is said to the model.
_CONNECTION = frozenset({"model", "api_key", "api_base", "base_url", "api_version", "organization", "timeout"})
_CLIENTS = frozenset({"Router", "LiteLLM", "AsyncLiteLLM"})  # classes whose objects make calls


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None) -> C:
    """The module ``litellm``, or a router of the same type, whose calls are guarded.

    Args:
        client: ``litellm``, or a ``litellm.Router``.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so; gives a text, or the answer itself.

    Raises:
        ConfigurationError: the policy needs a fallback and none is given.
    """
    check_fallback(guard, fallback)
    made: Any = _LiteLlm(client, guard, fallback)
    return made  # type: ignore[no-any-return]


class _LiteLlm(Closed):
    passes: ClassVar[frozenset[str]] = frozenset(
        {"token_counter", "encode", "decode", "completion_cost", "cost_per_token", "register_model", "modify_params"}
        | {"validate_environment", "check_valid_key", "get_model_info", "get_max_tokens", "get_llm_provider"}
        | {"get_supported_openai_params", "supports_function_calling", "supports_vision", "supports_reasoning"}
        | {"get_model_list", "get_model_names", "get_settings", "update_settings", "set_model_list", "add_deployment"}
        | {"supports_response_schema", "supports_parallel_function_calling", "print_verbose", "discard", "reset"}
    )
    inner: ClassVar[frozenset[str]] = frozenset({"chat"})
    hint: ClassVar[str] = "completion, text_completion, embedding, moderation, responses, or those with an a in front"

    def __init__(self, client: Any, guard: Guard, fallback: Fallback | None) -> None:
        super().__init__(client)
        self._self_guard = guard
        self._self_fallback = fallback

    def __getattr__(self, name: str) -> Any:
        plain = name.removeprefix("a")
        if name in DIALECTS or plain in DIALECTS:
            kind = name if name in DIALECTS else plain
            method = getattr(self.__wrapped__, name)
            return lambda *args, **kwargs: self._called(kind, method, args, kwargs, later=kind != name)
        if name not in _CLIENTS and isinstance(value := getattr(self.__wrapped__, name), type):
            return value
        return super().__getattr__(name)

    def _called(
        self, kind: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, later: bool
    ) -> Any:
        given = named(method, args, kwargs)
        if speaking(given.get("fallbacks")) or given.get("prompt_variables"):
            raise ConfigurationError("fallbacks with messages of their own, and prompt_variables, are not guarded")
        beside = {key: given.pop(key) for key in list(given) if key in BESIDE or isinstance(given[key], type)}
        extra = given.pop("extra_body", None) or {}
        body = {**given, **extra}

        def send(cleared: dict[str, Any]) -> Any:
            more = {"extra_body": {key: cleared[key] for key in extra}} if extra else {}
            return method(**{key: cleared[key] for key in given}, **more, **beside)

        way = way_of(kind, self._self_guard, self._self_fallback, streams=bool(given.get("stream")))
        return way.make(body, send, later=later, streams=bool(given.get("stream")))


def speaking(fallbacks: Any) -> bool:
    """Whether a call's fall-backs to other models bring something with them that nobody has looked at."""
    return any(isinstance(one, dict) and not _CONNECTION.issuperset(one) for one in fallbacks or ())


def way_of(kind: str, guard: Guard, fallback: Fallback | None, *, streams: bool) -> Way:
    """How one call of a kind is guarded; each call needs its own.

    Args:
        kind: a key of `DIALECTS`.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        streams: whether the answer is a stream.
    """
    seen: list[Any] = []

    def read(answer: Any) -> Any:
        seen[:] = [answer]
        return {"data": [], "results": []} if kind in _WORDLESS else answer

    def build(value: Json) -> Any:
        made = _event(kind, value) if streams else _answer(kind, value)
        if seen and hasattr(seen[0], "_hidden_params"):
            made._hidden_params = seen[0]._hidden_params  # noqa: SLF001 - what litellm itself hands on: costs, headers
        return made

    return Way(guard, DIALECTS[kind], fallback, build, read, provider="litellm", client="litellm")


def _answer(kind: str, value: Json) -> Any:
    import litellm
    from litellm.types.llms.openai import ResponsesAPIResponse

    library: Any = litellm  # what it exports it finds when it is asked
    kinds = {"completion": library.ModelResponse, "text_completion": library.TextCompletionResponse}
    return kinds.get(kind, ResponsesAPIResponse)(**value)


def _event(kind: str, value: Json) -> Any:
    import litellm
    from litellm.llms.openai.responses.transformation import OpenAIResponsesAPIConfig

    if kind == "responses":
        return OpenAIResponsesAPIConfig.get_event_model_class(event_type=value["type"])(**value)
    if kind == "text_completion":
        library: Any = litellm
        return library.TextCompletionResponse(**value, stream=True)
    from litellm.types.utils import ModelResponseStream

    return ModelResponseStream(**value)
