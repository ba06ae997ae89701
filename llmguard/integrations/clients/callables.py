"""Any function, method or callable object: what goes in and comes out is guarded, as by the decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from llmguard.errors import ConfigurationError
from llmguard.guard import Guard
from llmguard.integrations.http import Fallback

P = ParamSpec("P")
R = TypeVar("R")

MODULES = ("builtins", "functools")


def wrap(function: Callable[P, R], guard: Guard, *, fallback: Fallback | None = None, **options: Any) -> Callable[P, R]:
    """The function with checks around it, of the same kind and the same signature.

    Args:
        function: sync or async; generator functions are guarded piece by piece.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        options: as of `Guard.__call__`: which parameters are text, where the text of the result is.

    Raises:
        ConfigurationError: it is no callable, or it can't be told what in it is text.
    """
    if not callable(function) or isinstance(function, type):
        raise ConfigurationError(f"{type(function).__name__!r} object can't be called with texts: nothing to guard")
    made: Callable[P, R] = guard(fallback=fallback, **options)(function)
    return made
