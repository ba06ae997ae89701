"""A call that is a few texts in and a few texts out, in no wire format: it is guarded as a chat that says them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmguard.dialects import openai_chat, openai_embeddings
from llmguard.dialects.wire import Json
from llmguard.guard import Guard
from llmguard.integrations.clients.values import Fallback, Way, check_fallback

USER = "user"
SYSTEM = "system"
ASSISTANT = "assistant"
DOCUMENT = "document"
#: What telemetry says of such calls.
CALLED: dict[str, Any] = {"provider": "huggingface", "client": "huggingface_hub"}
Asked = Sequence[tuple[str, str]]
"""Who says what: the texts of a request, each with one of the roles above."""


@dataclass(frozen=True, slots=True)
class FewTexts:
    """How such calls are guarded.

    Attributes:
        guard: whose policy decides.
        get: the texts of an answer.
        put: an answer with other texts, as many; of None an answer of one text that never was.
        fallback: called with the decision where the policy says so; gives a text, or the answer itself.

    Raises:
        ConfigurationError: the policy needs a fallback and none is given.
    """

    guard: Guard
    get: Callable[[Any], list[str]]
    put: Callable[[Any, list[str]], Any]
    fallback: Fallback | None = None

    def __post_init__(self) -> None:
        check_fallback(self.guard, self.fallback)

    def make(self, texts: Asked, send: Callable[[list[str]], Any], *, later: bool, model: str = "") -> Any:
        """Make a call, or something to await that makes it.

        Args:
            texts: of the request.
            send: makes the call with the cleared ones.
            later: whether the client is asynchronous.
            model: that is asked.

        Raises:
            Blocked: the policy stops the call.
        """
        answers: list[Any] = []

        def read(answer: Any) -> Json:
            answers[:] = [answer]
            said = [{"role": "assistant", "content": text} for text in self.get(answer)]
            return {"choices": [{"index": index, "message": message} for index, message in enumerate(said)]}

        def build(value: Json) -> Any:
            said = [choice["message"]["content"] for choice in value["choices"]]
            if "id" in value:  # a refusal, which says one text
                said *= len(self.get(answers[0])) if answers else 1
            return self.put(answers[0] if answers else None, said)

        body = {"model": model, "messages": [{"role": role, "content": text} for role, text in texts]}
        way = Way(self.guard, openai_chat.CHAT, self.fallback, build, read, **CALLED)
        return way.make(body, lambda cleared: send(_contents(cleared)), later=later, streams=False)


def wordless(
    guard: Guard, texts: Sequence[str], send: Callable[[list[str]], Any], *, later: bool, model: str = ""
) -> Any:
    """Make a call whose answer holds no words of a model: vectors, labels, images.

    Args:
        guard: whose policy decides.
        texts: of the request.
        send: makes the call with the cleared ones.
        later: whether the client is asynchronous: then this gives something to await.
        model: that is asked.

    Raises:
        Blocked: the policy stops the call; there is no reply that such an answer could say.
    """
    way = Way(guard, openai_embeddings.EMBEDDINGS, _never, read=lambda _: {"data": []}, **CALLED)
    body = {"model": model, "input": list(texts)}
    return way.make(body, lambda cleared: send(cleared["input"]), later=later, streams=False)


def _contents(body: dict[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"]]


def _never(_: object) -> str:
    return ""  # the format has no place for it, so that `Blocked` is raised
