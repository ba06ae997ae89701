"""llama-cpp-python's ``Llama``: a model in this process, which speaks OpenAI's formats in dicts.

Follows its API reference (https://llama-cpp-python.readthedocs.io/en/latest/api-reference/). Chats, completions, both
as streams, and embeddings are guarded. Tokens are no texts: what runs the model on them is refused, what only turns
texts into tokens and back goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from llmguard.dialects import openai_chat, openai_completions, openai_embeddings
from llmguard.dialects.wire import Dialect
from llmguard.guard import Guard
from llmguard.integrations.clients.arguments import named
from llmguard.integrations.clients.closed import Closed
from llmguard.integrations.clients.values import Fallback, Way

C = TypeVar("C")

MODULES = ("llama_cpp",)
_BESIDE = ("grammar", "logits_processor", "stopping_criteria")  # objects that hold no text of the call
_NO_WORDS: Mapping[str, list[object]] = {"data": []}


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None) -> C:
    """A ``Llama`` of the same type whose calls are guarded.

    Args:
        client: a ``llama_cpp.Llama``.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so; gives a text, or an answer's dict.

    Raises:
        ConfigurationError: the policy needs a fallback and none is given.
    """
    made: Any = _Llama(client, guard, fallback)
    return made  # type: ignore[no-any-return]


class _Llama(Closed):
    passes: ClassVar[frozenset[str]] = frozenset(
        {"tokenize", "detokenize", "tokenizer", "n_ctx", "n_vocab", "n_embd", "pooling_type", "set_seed", "set_cache"}
        | {"token_bos", "token_eos", "token_nl", "reset", "save_state", "load_state", "close", "ctx_params"}
        | {"chat_handler", "draft_model", "last_n_tokens_size"}
    )
    hint: ClassVar[str] = "create_chat_completion or create_completion"

    def __init__(self, client: Any, guard: Guard, fallback: Fallback | None) -> None:
        super().__init__(client)
        here: dict[str, Any] = {"provider": "llamacpp", "client": "llama_cpp", "in_process": True}
        self._self_chat = Way(guard, openai_chat.CHAT, fallback, **here)
        self._self_completion = Way(guard, openai_completions.COMPLETIONS, fallback, **here)
        # Vectors are no texts; a list of them, and what else `embed` gives, has no JSON of the format either.
        embeddings: Dialect = openai_embeddings.EMBEDDINGS
        self._self_embeddings = Way(guard, embeddings, fallback, read=lambda _: _NO_WORDS, **here)

    def create_chat_completion(self, *args: Any, **kwargs: Any) -> Any:
        """A chat completion, whole or as a stream."""
        return _called(self._self_chat, self.__wrapped__.create_chat_completion, args, kwargs)

    def create_completion(self, *args: Any, **kwargs: Any) -> Any:
        """A completion, whole or as a stream."""
        return _called(self._self_completion, self.__wrapped__.create_completion, args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As `create_completion`."""
        return _called(self._self_completion, self.__wrapped__.create_completion, args, kwargs)

    def create_embedding(self, *args: Any, **kwargs: Any) -> Any:
        """Embeddings of texts."""
        return _called(self._self_embeddings, self.__wrapped__.create_embedding, args, kwargs)

    def embed(self, *args: Any, **kwargs: Any) -> Any:
        """Embeddings of texts, as lists of numbers."""
        return _called(self._self_embeddings, self.__wrapped__.embed, args, kwargs)


def _called(way: Way, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    body = named(method, args, kwargs)
    beside = {key: body.pop(key) for key in _BESIDE if key in body and not isinstance(body[key], str)}

    def send(cleared: dict[str, Any]) -> Any:
        return method(**cleared, **beside)

    return way.make(body, send, later=False, streams=bool(body.get("stream")))
