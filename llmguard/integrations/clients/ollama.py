"""Ollama's client: guarded at its transport."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from llmguard.guard import Guard
from llmguard.integrations.clients.http_client import without
from llmguard.integrations.http import Fallback, HttpGuard, Unmatched
from llmguard.integrations.transport import guarded

C = TypeVar("C")


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None, unmatched: Unmatched = "refuse") -> C:
    """A client on the same connections whose calls are guarded; one that is blocked raises `Blocked`.

    Args:
        client: ``ollama.Client`` or ``ollama.AsyncClient``.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        unmatched: what happens to routes without a wire format that is read, such as those that pull models.
    """
    own: Any = client
    http = HttpGuard(guard, unmatched=unmatched, fallback=fallback)
    made: Any = copy.copy(own)
    inner = own._client  # noqa: SLF001 - there is no public way to it
    made._client = guarded(inner, http, without(inner.base_url.path), raises=True)  # noqa: SLF001 - likewise
    result: C = made
    return result
