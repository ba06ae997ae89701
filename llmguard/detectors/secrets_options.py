"""The options of the secrets detector: read, checked, and turned into shapes and limits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmguard.detectors.secrets_shapes import Shape
from llmguard.detectors.secrets_values import Limits
from llmguard.errors import ConfigurationError, nearest

# A public address is no secret; detect-secrets looks for it to keep hosts out of repositories.
_OFF_BY_DEFAULT = frozenset({"IPPublicDetector"})
_CATEGORY = re.compile(r"[A-Z][A-Z0-9_]*")
_PATTERN_KEYS = frozenset({"id", "category", "pattern", "score"})
_OWN_SCORE = 0.9
_MOST_BITS = 8.0


def read_limits(entropy: object) -> Limits:
    """The entropy limits: True or False for the standard ones, a mapping for one's own.

    Raises:
        ConfigurationError: an unknown limit, or one that is no number in its range.
    """
    if isinstance(entropy, bool):
        return Limits()
    if not isinstance(entropy, Mapping):
        raise ConfigurationError(f"secrets: entropy is {_kind(entropy)}; it is true, false or a mapping of limits")
    for key, value in entropy.items():
        if key not in Limits._fields:
            raise ConfigurationError(f"secrets: entropy has no limit {key!r}{nearest(str(key), Limits._fields)}")
        if key == "shortest":
            if isinstance(value, bool) or not isinstance(value, int) or not 8 <= value <= 512:
                raise ConfigurationError(f"secrets: entropy.shortest is {value!r}; it is a whole number from 8 to 512")
        elif not _is_number(value, _MOST_BITS):
            raise ConfigurationError(f"secrets: entropy.{key} is {value!r}; it is a number of bits from 0 to 8")
    return Limits(**entropy)


def read_names(plugins: object, rows: Sequence[Shape]) -> frozenset[str]:
    """Which of detect-secrets' classes and of our shapes take part, by name.

    Raises:
        ConfigurationError: not a list or mapping of names, or a name that there is not.
    """
    known = frozenset({row.id for row in rows} | {row.plugin for row in rows if row.plugin})
    if plugins is None:
        return known - _OFF_BY_DEFAULT
    choice = plugins if isinstance(plugins, Mapping) else {"allow": plugins}
    if len(choice) != 1 or not set(choice) <= {"allow", "deny"}:
        raise ConfigurationError("secrets: plugins is a list of names, {allow: [...]} or {deny: [...]}")
    [(kind, names)] = choice.items()
    named = frozenset(_strings(f"plugins.{kind}", names))
    for name in sorted(named - known):
        raise ConfigurationError(f"secrets: plugins names {name!r}, which there is not{nearest(name, known)}")
    return named if kind == "allow" else known - named


def read_allow_list(allow_list: object) -> frozenset[str]:
    """The values that are no findings.

    Raises:
        ConfigurationError: not a list of strings.
    """
    return frozenset(_strings("allow_list", allow_list))


def enabled_shapes(rows: Sequence[Shape], names: frozenset[str], *, random: bool) -> list[Shape]:
    """The rows that take part, each with what is left of it.

    A row whose id is off needs its plugin's word; a row whose plugin is off stands alone; a row with
    neither a score of its own nor a plugin is out.

    Args:
        rows: the shipped rows.
        names: ids and plugin classes that take part.
        random: whether random values are looked for.
    """
    shapes = []
    for row in rows:
        if row.check in ("near", "quoted") and not random:
            continue
        score = row.score if row.id in names else None
        plugin = row.plugin if row.plugin in names else ""
        if score is not None or plugin:
            shapes.append(replace(row, score=score, plugin=plugin))
    return shapes


def own_shapes(patterns: object, taken: frozenset[str]) -> list[Shape]:
    """The user's patterns as shapes.

    Raises:
        ConfigurationError: a pattern lacks a key, has one too many, or a wrong value.
    """
    if not isinstance(patterns, Sequence) or isinstance(patterns, str):
        raise ConfigurationError(f"secrets: patterns is {_kind(patterns)}; it is a list of mappings")
    shapes: list[Shape] = []
    used = set(taken)
    for index, pattern in enumerate(patterns):
        shape = _own_shape(f"patterns[{index}]", pattern)
        if shape.id in used:
            raise ConfigurationError(f"secrets: patterns[{index}].id is {shape.id!r}, which is taken")
        used.add(shape.id)
        shapes.append(shape)
    return shapes


def _own_shape(where: str, pattern: object) -> Shape:
    if not isinstance(pattern, Mapping):
        raise ConfigurationError(f"secrets: {where} is {_kind(pattern)}; it is a mapping with id, category and pattern")
    for key in pattern:
        if key not in _PATTERN_KEYS:
            raise ConfigurationError(f"secrets: {where} has no key {key!r}{nearest(str(key), _PATTERN_KEYS)}")
    for key in ("id", "category", "pattern"):
        if not isinstance(pattern.get(key), str) or not pattern[key]:
            raise ConfigurationError(f"secrets: {where}.{key} is {_kind(pattern.get(key))}; it is a string")
    if not _CATEGORY.fullmatch(pattern["category"]):
        raise ConfigurationError(
            f"secrets: {where}.category is {pattern['category']!r}; it is upper case, such as ACME_KEY"
        )
    score = pattern.get("score", _OWN_SCORE)
    if not _is_number(score, 1.0):
        raise ConfigurationError(f"secrets: {where}.score is {score!r}; it is a number from 0 to 1")
    return Shape(
        id=pattern["id"],
        category=pattern["category"],
        pattern=pattern["pattern"],
        prefilter=(pattern["pattern"],),
        score=float(score),
        check="none",
    )


def _strings(option: str, values: object) -> Sequence[str]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigurationError(f"secrets: {option} is {_kind(values)}; it is a list of strings")
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise ConfigurationError(f"secrets: {option}[{index}] is {_kind(value)}; it is a string")
    return values


def _is_number(value: object, most: float) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0.0 <= value <= most
    )


def _kind(value: object) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"
