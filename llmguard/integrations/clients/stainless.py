"""The clients of OpenAI and Anthropic, theirs for Azure among them: guarded at their transport.

What the wrapped client offers comes down to requests, so chats, responses, streams, raw responses, parsed answers and
whatever a next version adds are guarded alike. Routes without a wire format that is read (files, images, audio) are
refused, unless ``unmatched="pass"``; connections over web sockets are refused always.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

from llmguard.errors import ConfigurationError
from llmguard.guard import Guard
from llmguard.integrations.http import Fallback, HttpGuard, Unmatched
from llmguard.integrations.transport import BLOCKED, guarded

C = TypeVar("C")

MODULES = ("openai", "anthropic")
#: By class: what its base URL stands for in the wire formats' routes.
_BASES = {"OpenAI": "/v1", "AsyncOpenAI": "/v1", "AzureOpenAI": "/openai", "AsyncAzureOpenAI": "/openai"}
_BASES |= {"Anthropic": "", "AsyncAnthropic": ""}
_SOCKETS = ("realtime", "live")


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None, unmatched: Unmatched = "refuse") -> C:
    """A client of the same type, on the same connections, whose calls are guarded.

    Args:
        client: of ``openai`` or ``anthropic``, sync or async.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        unmatched: what happens to routes without a wire format that is read.

    Raises:
        ConfigurationError: it is a client of another kind, such as one for Bedrock or Vertex.
    """
    own: Any = client
    kind: Any = type(client)
    base = _BASES.get(kind.__name__)
    if base is None:
        raise ConfigurationError(
            f"{kind.__module__}.{kind.__qualname__} can't be wrapped: its requests are in a format of "
            "another provider; use the proxy in front of that"
        )
    http = HttpGuard(guard, unmatched=unmatched, fallback=fallback)
    prefix = own.base_url.path.rstrip("/")

    def route(path: str) -> str:
        return base + path[len(prefix) :] if path.startswith(prefix + "/") else path

    made = own.copy(http_client=guarded(own._client, http, route))  # noqa: SLF001 - there is no public way to it
    made.__class__ = _raising(kind)
    result: C = made
    return result


@lru_cache(maxsize=32)
def _raising(kind: Any) -> Any:
    """The class, of which copies are guarded too, whose blocked calls raise `Blocked`."""

    def error(self: Any, response: Any) -> Exception:
        blocked: Exception | None = response.extensions.get(BLOCKED)
        return blocked or super(made, self)._make_status_error_from_response(response)

    def refused(self: Any) -> Any:
        raise ConfigurationError("calls over web sockets are not guarded: use chat completions or responses")

    parts: dict[str, Any] = {"_make_status_error_from_response": error, "__doc__": kind.__doc__}
    parts |= {name: property(refused) for name in _SOCKETS if hasattr(kind, name)}
    made: Any = type(
        kind.__name__, (kind,), {**parts, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    )
    return made
