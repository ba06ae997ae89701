"""What a secret looks like: the rows of ``data/secrets.yaml``, and where they match."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml

from llmguard.detectors.patterns import PatternSet
from llmguard.errors import ConfigurationError

_MACRO = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Shape:
    """One row: a pattern and what it stands for.

    Attributes:
        id: unique name; the first reason of a finding.
        category: what the finding is called.
        pattern: RE2; the secret is the first group that took part, or the whole match.
        prefilter: RE2 patterns that all match wherever ``pattern`` does.
        score: how sure the shape alone is; None when the plugin has to confirm.
        plugin: the detect-secrets class that is asked, or "".
        confirmed: the least score of a match that the plugin confirms.
        before: how many characters before the match the plugin wants to see.
        check: the question of ``secrets_values`` that the value has to pass.
        reason: in words, without any part of a text.
        reference: where the shape is documented.
    """

    id: str
    category: str
    pattern: str
    prefilter: tuple[str, ...]
    score: float | None
    plugin: str = ""
    confirmed: float = 0.99
    before: int = 1
    check: str = "token"
    reason: str = ""
    reference: str = field(default="", repr=False)


@cache
def shipped() -> tuple[Shape, ...]:
    """The rows that come with the package, macros expanded."""
    text = resources.files("llmguard.detectors").joinpath("data/secrets.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    macros: Mapping[str, str] = data["macros"]
    return tuple(_row(row, macros) for row in data["shapes"])


def _row(row: Mapping[str, Any], macros: Mapping[str, str]) -> Shape:
    pattern = _expand(row["pattern"], macros)
    prefilter = row.get("prefilter", pattern)
    parts = [prefilter] if isinstance(prefilter, str) else prefilter
    rest = {key: row[key] for key in ("plugin", "confirmed", "before", "check", "reason", "reference") if key in row}
    return Shape(
        id=row["id"],
        category=row["category"],
        pattern=pattern,
        prefilter=tuple(_expand(part, macros) for part in parts),
        score=row.get("score"),
        **rest,
    )


def _expand(pattern: str, macros: Mapping[str, str]) -> str:
    while "${" in pattern:
        pattern = _MACRO.sub(lambda match: macros[match[1]], pattern)
    return pattern


class Match(NamedTuple):
    """Where a shape matched and where the secret in it is; half-open, in code points."""

    start: int
    end: int
    low: int
    high: int


class Locator:
    """Where shapes match, by one scan for all of them and one more for each that can match.

    Args:
        shapes: the rows; their order is the order of the answers.

    Raises:
        ConfigurationError: RE2 does not accept a pattern, or it matches the empty text.
    """

    __slots__ = ("_any", "_by_prefilter", "_compiled")

    def __init__(self, shapes: Sequence[Shape]) -> None:
        prefilters: dict[str, int] = {}
        for shape in shapes:
            for part in shape.prefilter:
                prefilters.setdefault(part, len(prefilters))
        self._any = PatternSet(tuple(prefilters))
        self._compiled = [(shape, _compile(shape)) for shape in shapes]
        self._by_prefilter: list[list[tuple[int, frozenset[int]]]] = [[] for _ in prefilters]
        for index, shape in enumerate(shapes):
            first, *others = [prefilters[part] for part in shape.prefilter]
            self._by_prefilter[first].append((index, frozenset(others)))

    def fired(self, text: str) -> list[int]:
        """Indices of the shapes that can match in ``text``: one linear scan, none missing."""
        hits = self._any.match(text)
        if not hits:
            return []
        present = frozenset(hits)
        return sorted(i for hit in hits for i, others in self._by_prefilter[hit] if others <= present)

    def find(self, index: int, data: bytes, *, ascii_only: bool) -> Iterator[tuple[Shape, Match]]:
        """Every match of one shape.

        Args:
            index: as ``fired`` gave it.
            data: the text in UTF-8; the positions that come back count code points.
            ascii_only: whether bytes and code points are the same.
        """
        shape, compiled = self._compiled[index]
        groups = range(1, compiled.groups + 1)
        at_byte = at_point = 0
        for match in compiled.finditer(data):
            start, end = match.span()
            low, high = next((span for span in map(match.span, groups) if span[0] >= 0), (start, end))
            if ascii_only:
                yield shape, Match(start, end, low, high)
                continue
            points = []
            for position in (start, low, high, end):
                at_point += len(data[at_byte:position].decode())
                at_byte = position
                points.append(at_point)
            yield shape, Match(points[0], points[3], points[1], points[2])


def _compile(shape: Shape) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(shape.pattern, options)
    except re2.error as error:
        raise ConfigurationError(f"RE2 does not accept the pattern of {shape.id!r}: {error}") from None
    if compiled.search("") is not None:
        raise ConfigurationError(f"the pattern of {shape.id!r} matches the empty text: it has to ask for something")
    return compiled
