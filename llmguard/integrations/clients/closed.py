"""A wrapped client lets through what is known to carry no text, and refuses the rest: a new method is no way around."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import wrapt

from llmguard.errors import ConfigurationError

if TYPE_CHECKING:
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy


class Closed(_Proxy):
    """A client of the same type to `isinstance`; what is guarded is overridden in a class that derives from it.

    Attributes:
        passes: names of methods that go through as they are.
        inner: names of attributes that are objects by which calls could be made past the guard.
        hint: what to use in place of one that is refused.
    """

    passes: ClassVar[frozenset[str]] = frozenset()
    inner: ClassVar[frozenset[str]] = frozenset()
    hint: ClassVar[str] = ""

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__wrapped__, name)
        if name.startswith("_") or name in self.passes or not (callable(value) or name in self.inner):
            return value
        raise unguarded(f"{type(self.__wrapped__).__name__}.{name}", self.hint)

    def __enter__(self) -> Self:
        self.__wrapped__.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self.__wrapped__.__exit__(*error)

    async def __aenter__(self) -> Self:
        await self.__wrapped__.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self.__wrapped__.__aexit__(*error)


def unguarded(what: str, hint: str) -> ConfigurationError:
    """The error for a method that carries text and is not guarded.

    Args:
        what: the method.
        hint: what to use in its place.
    """
    return ConfigurationError(f"{what} is not guarded: use {hint}")
