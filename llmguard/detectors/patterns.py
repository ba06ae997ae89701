"""Which of many patterns match a text at all: one linear-time scan for all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from llmguard.errors import ConfigurationError, MissingExtraError

_MAX_MEM = 64 << 20


Search = Callable[[bytes, int], "tuple[int, int] | None"]
"""Bytes and where to begin in, the span of the first match out."""


def searcher(pattern: str, options: Any) -> Search:
    """How to search for one pattern at the least cost: half of a short search is the wrapping of its answer.

    Args:
        pattern: in RE2's syntax.
        options: of google-re2.

    Raises:
        re2.error: RE2 does not accept it.
    """
    import re2

    compiled = re2.compile(pattern.encode(), options)
    bare = getattr(getattr(compiled, "_regexp", None), "Match", None)
    anywhere = getattr(getattr(re2, "_Anchor", None), "UNANCHORED", None)
    if bare is None or anywhere is None:  # private, and gone one day
        return functools.partial(_search, compiled)

    def search(data: bytes, position: int) -> tuple[int, int] | None:
        start, end = bare(anywhere, data, position, len(data))[0]
        return (start, end) if start >= 0 else None

    return search


def _search(compiled: Any, data: bytes, position: int) -> tuple[int, int] | None:
    match = compiled.search(data, position)
    return match.span() if match else None


class PatternSet:
    r"""An RE2 set that never forgets a match in silence.

    RE2 drops a whole scan when its state cache runs out of memory. A first pattern that matches the end
    of every text tells a scan that ran from one that did not; for the latter every pattern is
    reported, so that a caller who uses the set as a prefilter stays sound.

    Args:
        patterns: in RE2's syntax; ``\b``, ``\d``, ``\s``, ``\w`` mean ASCII there.
        case_sensitive: whether upper and lower case differ.
        max_mem: bytes for the program and its state cache.

    Raises:
        ConfigurationError: RE2 does not accept a pattern; names it.
        MissingExtraError: google-re2 is not installed.
    """

    __slots__ = ("_count", "_match", "_set", "patterns")

    def __init__(self, patterns: Sequence[str], *, case_sensitive: bool = True, max_mem: int = _MAX_MEM) -> None:
        try:
            import re2
        except ImportError:  # pragma: no cover - the base install has it
            raise MissingExtraError("matching patterns", "google-re2", "standard") from None
        options = re2.Options()
        options.case_sensitive = case_sensitive
        options.max_mem = max_mem
        options.log_errors = False
        options.never_capture = True
        self.patterns = tuple(patterns)
        self._set = re2.Set.SearchSet(options)
        self._set.Add(r"\z")  # not "": that would match at every byte, which makes each of them cost more
        for pattern in self.patterns:
            try:
                self._set.Add(pattern)
            except re2.error as error:
                raise ConfigurationError(f"RE2 does not accept the pattern {pattern!r}: {error}") from None
        self._set.Compile()
        # What is private may be gone one day; it spares a call that only looks at the type.
        self._match = getattr(getattr(self._set, "_set", None), "Match", None) or self._set.Match
        self._count = len(self.patterns)

    def match(self, text: str | bytes) -> list[int]:
        """Indices of the patterns that match somewhere in ``text``, ascending.

        Args:
            text: well-formed Unicode, or its UTF-8 bytes. The scan releases the GIL.
        """
        found = self._match(text.encode() if isinstance(text, str) else text)
        if not found:
            return list(range(self._count))
        if len(found) == 1:
            return []
        found.sort()
        return [index - 1 for index in found[1:]]

    def __reduce__(self) -> tuple[type[PatternSet], tuple[tuple[str, ...]]]:
        raise TypeError("a PatternSet does not pickle: rebuild it from its patterns")
