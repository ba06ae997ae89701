"""The arguments of a call by their names, whether or not the caller wrote these."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any


def named(method: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name; defaults are left out.

    Args:
        method: that they are for; bound.
        args: given by place.
        kwargs: given by name.

    Raises:
        TypeError: too many by place, or one given twice.
    """
    if not args:
        return dict(kwargs)
    function = getattr(method, "__func__", None)
    names = _places(function)[1:] if function is not None else _places(method)
    if len(args) > len(names):
        raise TypeError(f"{method.__name__} takes {len(names)} arguments by place, not {len(args)}")
    given = dict(zip(names, args, strict=False))
    twice = given.keys() & kwargs.keys()
    if twice:
        raise TypeError(f"{method.__name__} got {min(twice)!r} twice")
    return {**given, **kwargs}


@lru_cache(maxsize=256)
def _places(function: Callable[..., Any]) -> tuple[str, ...]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple([name for name, one in inspect.signature(function).parameters.items() if one.kind in kinds])
