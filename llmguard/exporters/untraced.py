"""Calls of our own that no instrumentation tells of: what carries telemetry must not make more of it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import context

# The API's own keys are made anew in each process; the plain one is what older instrumentations look for.
_KEYS = [
    *(
        getattr(context, name)
        for name in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY")
        if hasattr(context, name)
    ),
    "suppress_instrumentation",
]


@contextmanager
def untraced() -> Generator[None, None, None]:
    """Have no instrumentation tell of what is called inside, on this thread or in this task."""
    within = context.get_current()
    for key in _KEYS:
        within = context.set_value(key, True, within)
    token = context.attach(within)
    try:
        yield
    finally:
        context.detach(token)
