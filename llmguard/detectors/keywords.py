"""Finds the phrases of a deny list, however many there are, unless an allow list covers them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmguard.detectors.covered import Covered
from llmguard.detectors.folding import EXTENDS, OTHER, Folded, folding, joined
from llmguard.detectors.keywords_live import Live
from llmguard.detectors.names import check_categories
from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.types import Finding, Scope, Text

MAX_PHRASES = 1_000_000
#: Bytes of a folded phrase. The scan goes block by block with an overlap of the longest phrase.
MAX_PHRASE = 4_096
_BLOCK = 1 << 16
#: Bytes of phrases up to which the automaton is a DFA: a fifth faster, at most 1 kB a byte of phrase.
_DFA_LIMIT = 20_000
_REASONS = ("deny_list",)

Phrases = str | Sequence[str]


#: Start and end in folded code points, and the index of the phrase.
_Hit = tuple[int, int, int]


class Lexicon:
    """Many phrases as one Aho-Corasick automaton over folded UTF-8.

    Args:
        phrases: folded, in UTF-8, no two equal, none empty.
    """

    def __init__(self, phrases: Sequence[bytes]) -> None:
        self._phrases = b"\0".join(phrases)
        self._build()

    def _build(self) -> None:
        try:
            import ahocorasick_rs
        except ImportError:
            raise MissingExtraError("the keywords detector", "ahocorasick_rs", "keywords") from None
        phrases = self._phrases.split(b"\0")
        small = len(self._phrases) <= _DFA_LIMIT
        implementation = ahocorasick_rs.Implementation.DFA if small else None
        self._longest = max(map(len, phrases))
        self._automaton = ahocorasick_rs.BytesAhoCorasick(phrases, implementation=implementation)

    def __getstate__(self) -> bytes:
        return self._phrases

    def __setstate__(self, state: bytes) -> None:
        self._phrases = state
        self._build()

    @property
    def phrases(self) -> list[bytes]:
        """What it looks for."""
        return self._phrases.split(b"\0")

    def blocks(self, data: bytes) -> Iterable[list[tuple[int, int, int]]]:
        """All hits, overlapping ones too, as (phrase, start, end) in bytes, a bounded number at a time."""
        find = self._automaton.find_matches_as_indexes
        if len(data) <= _BLOCK:
            hits = find(data, True)
            if hits:
                yield hits
            return
        for begin in range(0, len(data), _BLOCK):
            first = max(0, begin - self._longest)
            hits = find(data[first : begin + _BLOCK], True)
            if hits:
                yield [(phrase, start + first, end + first) for phrase, start, end in hits if end + first > begin]


class KeywordsDetector:
    r"""Finds phrases of a deny list in time linear in the text, whatever the number of phrases.

    Text and phrases are compared folded (``llmguard.detectors.folding``); spans are those of the
    original. Of hits that overlap the leftmost counts, and of those the longest. A deny hit that
    lies inside an allow hit is dropped. A match never ends between a letter and its accents.

    Args:
        deny: phrases, or a mapping from category to phrases.
        deny_files: a path, a list of them, or a mapping from category to these. One phrase a line,
            UTF-8; lines that start with ``#`` are comments (``\#`` for a phrase that starts so).
        allow: phrases.
        allow_files: a path or a list of them.
        category: of the phrases that no mapping gives one.
        word_boundaries: whether a match must begin and end where a word does. Scripts written
            without spaces have a boundary everywhere.
        case_sensitive: whether upper and lower case differ.

    Raises:
        ConfigurationError: an option has a wrong type, a file can't be read, a list holds more than a
            million phrases, or a phrase is empty or too long.
        MissingExtraError: there are phrases, and ahocorasick_rs is not installed.
    """

    name = "keywords"
    version = "1"
    scope = Scope.SPAN
    inline = True

    def __init__(
        self,
        *,
        deny: Phrases | Mapping[str, Phrases] = (),
        deny_files: Phrases | Mapping[str, Phrases] = (),
        allow: Phrases = (),
        allow_files: Phrases = (),
        category: str = "KEYWORD",
        word_boundaries: bool = True,
        case_sensitive: bool = False,
    ) -> None:
        for option, value in (("word_boundaries", word_boundaries), ("case_sensitive", case_sensitive)):
            if not isinstance(value, bool):
                raise ConfigurationError(f"keywords: {option} must be true or false, not {value!r}")
        self._word_boundaries = word_boundaries
        self._case_sensitive = case_sensitive
        self._folding = folding(case_sensitive=case_sensitive)
        lists = [*_by_category("deny", deny, category)]
        lists += [
            (name, _read("deny_files", paths)) for name, paths in _by_category("deny_files", deny_files, category)
        ]
        names = {name for name, _ in lists} or {category}
        self.categories = check_categories(names)
        order = sorted(names)
        categories: dict[bytes, tuple[str, ...]] = {}
        for name in order:
            one = (name,)
            for phrase in self._fold("deny", itertools.chain.from_iterable(p for n, p in lists if n == name)):
                before = categories.get(phrase)
                categories[phrase] = one if before is None else (*before, name) if name not in before else before
        allowed = dict.fromkeys(self._fold("allow", [*_strings("allow", allow), *_read("allow_files", allow_files)]))
        for option, count in (("deny", len(categories)), ("allow", len(allowed))):
            if count > MAX_PHRASES:
                raise ConfigurationError(f"keywords: {option} holds {count:,} phrases; at most {MAX_PHRASES:,} fit")
        self._categories = tuple(categories.values())
        self._deny = Lexicon(tuple(categories)) if categories else None
        self._allow = Lexicon(tuple(allowed)) if allowed else None
        self._live: Live | None = None

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """One finding a hit and category, by their place in the text."""
        if self._deny is None:
            return [[] for _ in texts]
        return [self._find(self._deny, text.content) for text in texts]

    def settled(self, text: str) -> int:
        """Up to where the findings are final: before the longest end of the text that begins a phrase."""
        if self._deny is None:
            return len(text)
        deny = self._deny
        return self._alive(deny).settled(
            text, lambda folded: [hit[0] for block in deny.blocks(folded.data) for hit in self._whole(folded, block)]
        )

    def context(self, text: str, start: int) -> int:
        """From where to look for what starts at or after ``start``: one letter before, but for phrases under way."""
        if self._deny is None:
            return start
        lists = [phrases for phrases in (self._deny, self._allow) if phrases]
        return self._alive(self._deny).context(
            text, start, lambda data: [hit[1:] for one in lists for block in one.blocks(data) for hit in block]
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_live": None}

    def _alive(self, deny: Lexicon) -> Live:
        # Made for the first stream; two threads may make one each, which does no harm.
        if self._live is None:
            allow = self._allow.phrases if self._allow else ()
            self._live = Live(deny.phrases, allow, self._folding, self._word_boundaries)
        return self._live

    def _find(self, deny: Lexicon, content: str) -> list[Finding]:
        longest: dict[int, _Hit] = {}
        folded = None
        for block in deny.blocks(self._folding.data(content)):
            if folded is None:
                folded = self._folding.fold(content)
            for hit in self._whole(folded, block):
                before = longest.get(hit[0])
                if before is None or before[1] < hit[1]:
                    longest[hit[0]] = hit
        if folded is None or not longest:
            return []
        hits = self._without_allowed(folded, sorted(longest.values()))
        found = []
        past = 0
        for start, end, phrase in hits:
            if start >= past:
                past = end
                span = folded.span(start, end)
                found += [Finding(category, 1.0, span, reasons=_REASONS) for category in self._categories[phrase]]
        return found

    def _whole(self, folded: Folded, hits: Sequence[tuple[int, int, int]]) -> Iterable[_Hit]:
        """The hits, in folded code points, that begin and end where they may."""
        kinds, words = folded.kinds, self._word_boundaries
        size = len(kinds)
        if folded.starts is not None:
            table = np.asarray(hits)
            table[:, 1:] = np.searchsorted(folded.starts, table[:, 1:])
            hits = table.tolist()
        for phrase, start, end in hits:
            after = kinds[end] if end < size else OTHER
            if (words or after == EXTENDS) and joined(kinds[end - 1], after):
                continue
            if words and start and joined(kinds[start - 1], kinds[start]):
                continue
            yield start, end, phrase

    def _without_allowed(self, folded: Folded, hits: list[_Hit]) -> list[_Hit]:
        if self._allow is None:
            return hits
        blocks = self._allow.blocks(folded.data)
        allowed = Covered([hit[:2] for block in blocks for hit in self._whole(folded, block)])
        return [hit for hit in hits if not allowed.covers(*hit[:2])]

    def _fold(self, option: str, phrases: Iterable[str]) -> list[bytes]:
        """The phrases folded, all in one go."""
        listed = list(phrases)
        if not listed:
            return []
        joined = "\0".join(phrase.strip() for phrase in listed)
        folded = self._folding.data(joined).split(b"\0")
        if len(folded) != len(listed):
            raise ConfigurationError(f"keywords: a phrase of {option} holds a NUL")
        for number, phrase in enumerate(folded, 1):
            if not phrase.strip():
                raise ConfigurationError(f"keywords: phrase {number} of {option} is empty")
            if len(phrase) > MAX_PHRASE:
                raise ConfigurationError(
                    f"keywords: phrase {number} of {option} has {len(phrase)} bytes; at most {MAX_PHRASE} fit"
                )
        return folded


def _by_category(option: str, value: Any, category: str) -> list[tuple[str, list[str]]]:
    if not isinstance(value, Mapping):
        found = _strings(option, value)
        return [(category, found)] if found else []
    return [(name, _strings(f"{option}.{name}", listed)) for name, listed in value.items()]


def _strings(option: str, value: Any) -> list[str]:
    listed = [value] if isinstance(value, str | Path) else value
    if not isinstance(listed, Sequence | set | frozenset):
        raise ConfigurationError(f"keywords: {option} must be a list of strings, not {type(value).__name__}")
    for number, item in enumerate(listed, 1):
        if not isinstance(item, str | Path):
            raise ConfigurationError(
                f"keywords: item {number} of {option} must be a string, not {type(item).__name__}"
                " (in YAML put quotes around numbers, dates, yes and no)"
            )
    return [str(item) for item in listed]


def _read(option: str, paths: Phrases) -> list[str]:
    phrases = []
    for path in _strings(option, paths):
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise ConfigurationError(
                f"keywords: {option}: {path!r}: {error.strerror or type(error).__name__}"
            ) from None
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"keywords: {option}: {path!r} is not UTF-8 at byte {error.start}") from None
        stripped = (line.strip() for line in lines)
        phrases += [
            line.removeprefix("\\") if line.startswith("\\#") else line for line in stripped if line and line[0] != "#"
        ]
    return phrases
