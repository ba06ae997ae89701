"""Which prompt template the texts of the checks and calls around here came from."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from llmguard.errors import ConfigurationError
from llmguard.spans import Prompt

_CURRENT: ContextVar[Prompt | None] = ContextVar("llmguard_prompt", default=None)


def current() -> Prompt | None:
    """The innermost one, if any."""
    return _CURRENT.get()


@contextmanager
def within(prompt: Prompt) -> Generator[None, None, None]:
    """Mark what is inside. It may be entered in one task and left in another.

    Raises:
        ConfigurationError: a part of it is not a string, or the name is empty.
    """
    if not prompt.name or not all(isinstance(part, str) for part in prompt):
        raise ConfigurationError("a prompt's name, version and variant must be strings, and the name not empty")
    before = _CURRENT.get()
    _CURRENT.set(prompt)
    try:
        yield
    finally:
        _CURRENT.set(before)
