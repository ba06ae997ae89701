"""The clients of OpenAI and Anthropic, theirs for Azure among them: guarded at their transport.

What the wrapped client offers comes down to requests, so chats, responses, streams, raw responses, parsed answers and
whatever a next version adds are guarded alike. Routes without a wire format that is read (files, images, audio) are
refused, unless ``unmatched="pass"``; connections over web sockets are refused always.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
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
# Services beside which others connect by web sockets.
_HOLDERS = ("responses", "beta")
_ODD = "//"  # before a path: refused, whatever becomes of routes that are not read


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
    if "Azure" in kind.__name__:  # its base may hold a deployment
        prefix = prefix[: prefix.find("/openai") + len("/openai")]

    def route(path: str) -> str:
        return base + path[len(prefix) :] if path.startswith(prefix + "/") else _ODD + path

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

    def copy(self: Any, **options: Any) -> Any:
        for name in ("http_client", "base_url"):
            if options.get(name) is not None:
                raise ConfigurationError(f"a copy with another {name} would not be guarded: wrap a client that has it")
        return super(made, self).copy(**options)

    parts: dict[str, Any] = {"_make_status_error_from_response": error, "__doc__": kind.__doc__}
    parts |= {"copy": copy, "with_options": copy}
    parts |= {name: property(_refused) for name in _SOCKETS if hasattr(kind, name)}
    parts |= {name: property(_disarmed(name, kind)) for name in _HOLDERS if hasattr(kind, name)}
    made: Any = type(
        kind.__name__, (kind,), {**parts, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    )
    return made


def _refused(*_: Any, **__: Any) -> Any:
    raise ConfigurationError("calls over web sockets are not guarded: use chat completions, or responses over HTTP")


def _disarmed(name: str, kind: Any) -> Any:
    """How a client gets a service without the methods of it, and of those in it, that connect."""

    def get(self: Any) -> Any:
        found = vars(self).get(name)
        if found is None:
            found = vars(self)[name] = getattr(kind, name).func(self)
            for service in (found, *_inner(found)):
                if hasattr(service, "connect"):
                    service.connect = _refused
        return found

    return get


def _inner(service: Any) -> list[Any]:
    names = [name for name in dir(type(service)) if not name.startswith(("_", "with_"))]
    return [getattr(service, name) for name in names if isinstance(getattr(type(service), name), cached_property)]
