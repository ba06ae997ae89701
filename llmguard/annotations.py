"""Which parameters of a function hold text, by their annotations."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llmguard.types import Text


def text_parameters(function: Callable[..., Any], signature: inspect.Signature) -> Iterator[str]:
    """Names of the parameters whose annotation says text."""
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # annotations that name what is not there at run time
        hints = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    for name in signature.parameters:
        if _says_text(hints.get(name)):
            yield name


_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)


def _says_text(annotation: object) -> bool:
    if annotation in (str, Text, "str", "Text"):
        return True
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _says_text(args[0])
    if origin in (typing.Union, types.UnionType):
        return any(_says_text(arg) for arg in args)
    if origin in _SEQUENCES:
        return any(_says_text(arg) or _says_message(arg) for arg in args)
    return False


def _says_message(annotation: object) -> bool:
    origin = typing.get_origin(annotation) or annotation
    if origin in (typing.Union, types.UnionType):
        return any(_says_message(arg) for arg in typing.get_args(annotation))
    return origin in (dict, Mapping, collections.abc.Mapping) or typing.is_typeddict(origin)
