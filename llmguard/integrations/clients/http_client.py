"""Clients of httpx and httpx2 themselves, for programs that speak a wire format on their own."""

from __future__ import annotations

from typing import Any, TypeVar

from llmguard.guard import Guard
from llmguard.integrations.http import Fallback, HttpGuard, Unmatched
from llmguard.integrations.transport import guarded

C = TypeVar("C")


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None, unmatched: Unmatched = "refuse") -> C:
    """A client on the same connections whose calls are guarded; one that is blocked raises `Blocked`.

    Args:
        client: of ``httpx`` or ``httpx2``, sync or async. A path before the routes of the wire formats must be in its
            ``base_url``.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        unmatched: what happens to routes without a wire format that is read.
    """
    own: Any = client
    http = HttpGuard(guard, unmatched=unmatched, fallback=fallback)
    made: C = guarded(own, http, without(own.base_url.path), raises=True)
    return made


def without(prefix: str) -> Any:
    """A route from paths below another one."""
    start = prefix.rstrip("/")

    def route(path: str) -> str:
        return path[len(start) :] if start and path.startswith(start + "/") else path

    return route
