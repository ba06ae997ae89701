"""Google's client (``google-genai``): guarded at its transport.

What models and chats generate, in streams too, comes down to requests. Routes without a wire format that is read are
refused (embeddings, images, files, caches, batches), and so are the newer services (interactions, agents and their kin)
and what goes over web sockets (``live``).
"""

from __future__ import annotations

import copy
import sys
from functools import lru_cache
from typing import Any, TypeVar

from llmguard.errors import ConfigurationError
from llmguard.guard import Guard
from llmguard.integrations.clients.http_client import without
from llmguard.integrations.http import Fallback, HttpGuard, Unmatched
from llmguard.integrations.transport import guarded

C = TypeVar("C")
_GUARDED = frozenset(
    {"models", "chats", "caches", "files", "batches", "tunings", "operations", "tokens", "auth_tokens", "aio"}
    | {"file_search_stores", "close", "aclose", "vertexai"}
)


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None, unmatched: Unmatched = "refuse") -> C:
    """A client on the same connections whose calls are guarded; one that is blocked raises `Blocked`.

    Args:
        client: ``google.genai.Client``.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        unmatched: what happens to routes without a wire format that is read, such as those for files.

    Raises:
        ConfigurationError: it is another class of that package.
    """
    own: Any = client
    if type(client).__name__ != "Client":
        raise ConfigurationError(f"{type(client).__qualname__} can't be wrapped: give the google.genai.Client")
    http = HttpGuard(guard, unmatched=unmatched, fallback=fallback)
    api = _api(own._api_client, http)  # noqa: SLF001 - there is no public way to it
    made: Any = copy.copy(own)
    kind: Any = type(own)
    made.__class__ = _limited(kind)
    made._api_client = api  # noqa: SLF001 - likewise
    for name, value in vars(made).items():
        if name != "_aio" and hasattr(value, "_api_client"):
            setattr(made, name, type(value)(api))
    made._aio = type(own._aio)(api)  # noqa: SLF001 - likewise
    other: Any = type(own._aio)  # noqa: SLF001 - likewise
    made._aio.__class__ = _limited(other)  # noqa: SLF001 - likewise
    result: C = made
    return result


def _api(client: Any, http: HttpGuard) -> Any:
    api: Any = copy.copy(client)
    sync, other = client._httpx_client, client._async_httpx_client  # noqa: SLF001 - there is no public way to it
    library = sys.modules[type(sync).__mro__[-3].__module__.partition(".")[0]]
    if other is None:  # it would use aiohttp, past the guard
        other = library.AsyncClient(**client._async_httpx_client_args)  # noqa: SLF001 - likewise
    url = library.URL(client._http_options.base_url or "/")  # noqa: SLF001 - likewise
    route = without(url.path)
    api._httpx_client = guarded(sync, http, route, raises=True)  # noqa: SLF001 - likewise
    api._async_httpx_client = guarded(other, http, route, raises=True)  # noqa: SLF001 - likewise
    for name in ("_use_aiohttp", "_use_google_auth_sync", "_use_google_auth_async"):
        setattr(api, name, lambda: False)  # other ways to send, past the guard
    return api


@lru_cache(maxsize=8)
def _limited(kind: Any) -> Any:
    """The class without the services that would go past the guard."""

    def refused(name: str) -> Any:
        def get(self: Any) -> Any:
            raise ConfigurationError(f"{kind.__name__}.{name} is not guarded: use models or chats")

        return property(get)

    names = [name for name in dir(kind) if not name.startswith("_") and name not in _GUARDED]
    parts = {name: refused(name) for name in names if isinstance(getattr(kind, name), property)}
    return type(kind.__name__, (kind,), {**parts, "__module__": kind.__module__, "__qualname__": kind.__qualname__})
