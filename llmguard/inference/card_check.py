"""What is wrong with a card, in words: the key, the value and the nearest right one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from llmguard.errors import nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_PROBLEMS = {
    "greater_than_equal": "must be at least {ge:g}",
    "greater_than": "must be more than {gt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "string_type": "must be text: put it in quotes",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
    "mapping_type": "must be a mapping",
    "model_type": "must be a mapping",
}


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first of pydantic's complaints as a sentence; unknown keys before missing ones.

    Args:
        error: what pydantic said.
        model: what was read.
    """
    details = error.errors(include_url=False)
    return _sentence(min(details, key=lambda one: one["type"] == "missing"), model)


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind, value = detail["type"], detail["input"]
    path = tuple(part for part in detail["loc"] if part != "[key]")
    context = detail.get("ctx", {})
    name = _dotted(path)
    if kind == "extra_forbidden":
        around = f" in {_dotted(path[:-1])}" if path[:-1] else ""
        return f"unknown key {str(path[-1])!r}{around}{nearest(str(path[-1]), _keys(path[:-1], model))}"
    if kind == "missing":
        return f"{_dotted(path[:-1]) or 'the card'} needs the key {str(path[-1])!r}"
    if kind == "value_error":
        return f"{name}: {context['error']}" if name else str(context["error"])
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"])
        hint = nearest(str(value), words) if words else f" (known: {context['expected']})"
        return f"{name}: unknown word {_shown(value)}{hint}"
    problem = _PROBLEMS.get(kind)
    if problem is None:
        return f"{name}: {_shown(value)}: {detail['msg'].replace('Input should', 'it must')}"
    return f"{name}: {_shown(value)} {problem.format(**context)}"


def _keys(path: tuple[str | int, ...], model: type[BaseModel]) -> list[str]:
    for part in path:
        if part in model.model_fields:
            model = next(_models(model.model_fields[str(part)].annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type: ``tuple[Head, ...]`` holds ``Head``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
