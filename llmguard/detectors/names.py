"""What detectors and categories may be called: names that fit in a policy file and on a metric."""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmguard.errors import ConfigurationError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_CATEGORY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")


def check_name(name: object) -> str:
    """A detector's name: lower-case letters, digits and underscores, at most 64, a letter first.

    Raises:
        ConfigurationError: it is not one.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"a detector's name must be a string, not {type(name).__name__}")
    if not _NAME.match(name):
        raise ConfigurationError(
            f"{name!r} is no name for a detector: use lower-case letters, digits and underscores, "
            "at most 64, a letter first"
        )
    return name


def check_categories(categories: object) -> frozenset[str]:
    """A closed set of at least one category: letters, digits and ``_.-``, at most 64, a letter first.

    Raises:
        ConfigurationError: it is none; a single string is refused, since it would be taken letter by letter.
    """
    if isinstance(categories, str) or not isinstance(categories, Iterable):
        raise ConfigurationError(f"categories must be a list of strings, not {type(categories).__name__}")
    found = list(categories)
    if not found:
        raise ConfigurationError("categories must name at least one category")
    for category in found:
        if not isinstance(category, str) or not _CATEGORY.match(category):
            raise ConfigurationError(
                f"{category!r} is no category: use letters, digits, '_', '.' and '-', at most 64, a letter first"
            )
    return frozenset(found)
