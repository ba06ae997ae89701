"""The words that name a group of people: a lexicon with its sources, and where a text mentions which group."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmguard.detectors.fairness_contexts import Contexts, edged
from llmguard.detectors.fairness_terms import Term, parse, plain
from llmguard.detectors.patterns import searcher
from llmguard.errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

#: Of a text with more of the lexicon's words the first so many are looked at, mentions or not (``black coffee``), so
#: that a flood of them costs no more than reading it.
MAX_MENTIONS = 1_000


class Mention(NamedTuple):
    """A term, and where it stands in a text: half-open, in code points."""

    term: Term
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where terms come from: its title, its licence and its address."""

    title: str
    licence: str
    url: str


class Lexicon:
    """Finds the terms of a lexicon in time linear in the text: whole words, case aside, the longest that overlap.

    Words that mostly mean something else (``black``, ``straight``) count only where a person is meant.

    Args:
        terms: in the order in which figures list them.
        contexts: of the words that are ambiguous.
        sources: by name.
    """

    def __init__(self, terms: Sequence[Term], contexts: Contexts, sources: dict[str, Source]) -> None:
        import re2

        self.terms = tuple(terms)
        self.contexts = contexts
        self.sources = sources
        #: Dimension and name of each group, in the lexicon's order.
        self.groups = tuple(dict.fromkeys((term.dimension, term.group) for term in terms))
        numbers = {group: number for number, group in enumerate(self.groups)}
        self._terms = {plain(term.text): term for term in terms}
        self._spelled = {text.encode(): key for key, term in self._terms.items() for text in (key, term.text)}
        self._numbers = {key: numbers[term.dimension, term.group] for key, term in self._terms.items()}
        #: Tells the lexicon from others that count other things.
        self.digest = hashlib.sha256(
            repr(sorted(self._numbers.items())).encode() + repr(self.groups).encode()
        ).hexdigest()
        options = re2.Options()
        options.case_sensitive = False
        options.never_capture = True
        options.log_errors = False
        longest = sorted(self._terms, key=len, reverse=True)
        self._search = searcher("|".join(map(_pattern, longest)), options)

    def groups_in(self, text: str, *, everywhere: bool = False) -> set[int]:
        """Which groups a text mentions, as places in ``groups``.

        Args:
            text: any; what is not well-formed Unicode matches nothing.
            everywhere: whether ambiguous words count wherever they stand, as in template sentences.
        """
        return {self._numbers[key] for key, _, _ in self._found(text.encode("utf-8", "replace"), everywhere)}

    def mentions(self, text: str, *, everywhere: bool = False) -> list[Mention]:
        """The terms in a text, by their place; the arguments are those of `groups_in`."""
        data = text.encode("utf-8", "replace")
        found = []
        place = bytes_before = 0
        for key, start, end in self._found(data, everywhere):
            place += len(data[bytes_before:start].decode("utf-8"))
            length = len(data[start:end].decode("utf-8"))
            found.append(Mention(self._terms[key], place, place + length))
            place, bytes_before = place + length, end
        return found

    def _found(self, data: bytes, everywhere: bool) -> Iterator[tuple[str, int, int]]:
        search, spelled, fit = self._search, self._spelled, self.contexts.fit
        counts = 0
        hit = search(data, 0)
        while hit is not None and counts < MAX_MENTIONS:
            start, end = hit
            counts += 1
            word = data[start:end]
            key = spelled.get(word) or plain(word.decode("utf-8"))
            if key in self._terms and edged(data, start, end) and (everywhere or fit(key, data, start, end)):
                yield key, start, end
            hit = search(data, end)


def _pattern(key: str) -> str:
    r"""A term in RE2's syntax; its ``\b`` knows ASCII alone, so that the edges are looked at once more."""
    import re2

    words = r"[\s-]+".join(map(re2.escape, key.split(" ")))
    before, after = (r"\b" if edge.isascii() else "" for edge in (key[0], key[-1]))
    return f"{before}{words}{after}"


def read(path: str | os.PathLike[str]) -> Lexicon:
    """The lexicon of a YAML file.

    Raises:
        ConfigurationError: it can't be read, or is not in the format; names the place.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"can't be read: {type(error).__name__}", source=str(path)) from None
    return _lexicon(text, str(path))


@cache
def bundled() -> Lexicon:
    """The lexicon that comes with the package."""
    file = resources.files("llmguard.detectors") / "data" / "identity_terms.yaml"
    return _lexicon(file.read_text(encoding="utf-8"), "identity_terms.yaml")


def _lexicon(text: str, name: str) -> Lexicon:
    said = parse(text, name)
    sources: dict[str, Any] = {key: Source(**value) for key, value in said.sources.items()}
    return Lexicon(said.terms, said.contexts, sources)
