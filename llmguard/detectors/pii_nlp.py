"""Tokens, lemmas and stop words without a model, so that the words before a find count.

``engine`` gives them to Presidio as an ``NlpEngine``; ``Surroundings`` gives the detector the same words for
one find without cutting up the rest of the text.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

TOKEN = re.compile(r"\w+|[^\w\s]+|\s+\Z")
"""A word, a run of punctuation, or the white space that ends the text."""

_WORD = re.compile(r"\w+")

# fmt: off
STOP_WORDS = frozenset(
    {
        "about", "above", "after", "again", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because",
        "been", "before", "being", "below", "between", "both", "but", "by", "can", "could", "did", "do", "does",
        "doing", "down", "during", "each", "few", "for", "from", "further", "had", "has", "have", "having", "he", "her",
        "here", "hers", "him", "his", "how", "if", "in", "into", "is", "it", "its", "just", "let", "may", "me", "might",
        "more", "most", "must", "my", "of", "off", "on", "once", "only", "or", "other", "our", "ours", "out", "over",
        "own", "please", "same", "shall", "she", "should", "so", "some", "such", "than", "that", "the", "their",
        "theirs", "them", "then", "there", "these", "they", "this", "those", "through", "to", "too", "under", "until",
        "up", "very", "was", "we", "were", "what", "when", "where", "which", "while", "who", "whom", "why",
        "will", "with", "would", "you", "your", "yours"
    }
)
# fmt: on
"""English function words: they don't use up the window of words before a find. None is a context word of Presidio's;
single letters are not among them, so that a row of them is no long way back."""

WINDOW = 6
"""Keywords looked at: the five before a find, and the one that it starts in (Presidio's defaults)."""

_LOOK = 96
_LONG = 200


def lemma(token: str) -> str:
    """The lower-case form of an English word, with ``-ies`` made ``-y``.

    Context words match inside longer words, so that no other ending has to go.
    """
    word = token.lower()
    return word[:-3] + "y" if word[-3:] == "ies" and len(word) > 4 else word


def is_punctuation(token: str) -> bool:
    """Whether no character of ``token`` is one of a word."""
    return not re.search(r"\w", token)


class Surroundings:
    """The keywords around places of one text; only the words near them are read.

    Args:
        text: the text.
        places: where the finds start that will be asked about.
    """

    __slots__ = ("_known", "_near", "_starts", "_text", "_words")

    def __init__(self, text: str, places: Iterable[int]) -> None:
        self._text = text
        self._known: dict[tuple[int, int], bool] = {}
        self._words: list[tuple[int, int, str]] = []
        self._starts: list[int] = []
        self._near: list[int] = []
        first = last = -1
        for place in sorted(set(places)):
            if first < 0:
                first = place
            elif place - last > _LOOK:
                self._read(first, last)
                first = place
            last = place
        if first >= 0:
            self._read(first, last)

    def support(self, place: int, source: int, context: Sequence[str]) -> bool:
        """Whether one of the keywords around ``place`` holds a context word.

        Those are the ``WINDOW`` keywords up to the word at ``place``, and the next one when that word is none.

        Args:
            place: one of the places.
            source: whose find it is; the same number comes with the same words.
            context: lower-case words.
        """
        for start, _, word in self._around(self._word_at(place)):
            if len(word) > _LONG:
                known = self._known.get((start, source))
                if known is None:
                    known = self._known[start, source] = any(part in word for part in context)
                if known:
                    return True
                continue
            for part in context:
                if part in word:
                    return True
        return False

    def _word_at(self, place: int) -> int:
        """A find that starts with white space is counted from the word that follows."""
        text = self._text
        while place < len(text) and text[place].isspace():
            place += 1
        return place

    def _around(self, place: int) -> list[tuple[int, int, str]]:
        index = bisect.bisect_right(self._words, place, key=_START)
        low = self._near[bisect.bisect_right(self._near, place) - 1]
        if low > 0 and (index < WINDOW or self._words[index - WINDOW][0] <= low):
            # So many stop words stand here that the look back was too short.
            self._words.clear()
            self._near = [0]
            self._take(0, len(self._text))
            index = bisect.bisect_right(self._words, place, key=_START)
        inside = index > 0 and self._words[index - 1][1] > place
        return self._words[max(0, index - WINDOW) : index if inside else index + 1]

    def _read(self, first: int, last: int) -> None:
        low = max(0, first - _LOOK)
        if self._words and low <= self._words[-1][1]:
            low = self._words[-1][1]
        else:
            self._near.append(low)
        self._take(low, last)

    def _take(self, low: int, last: int) -> None:
        """Take in the keywords from ``low`` to the first that ends after ``last``."""
        add = self._words.append
        for match in _WORD.finditer(self._text, low):
            word = match[0]
            if word in STOP_WORDS:
                continue
            word = word.lower()
            if word in STOP_WORDS:
                continue
            if word[-1] == "s" and word[-3:] == "ies":
                word = lemma(word)
                if word in STOP_WORDS:
                    continue
            start, end = match.span()
            add((start, end, word))
            if end > last:
                break


_START = itemgetter(0)


@functools.cache
def _engine_class() -> type[Any]:
    """The class of the engine; Presidio's base class is only there once Presidio is imported."""
    from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine

    class ModelFreeNlpEngine(NlpEngine):
        """Presidio's view of ``TOKEN``, ``lemma`` and ``STOP_WORDS``."""

        def __init__(self, languages: Sequence[str]) -> None:
            self._languages = list(languages)

        def load(self) -> None:
            """Nothing has to be loaded."""

        def is_loaded(self) -> bool:
            """Always true."""
            return True

        def process_text(self, text: str, language: str) -> Any:
            """Tokens and lemmas of ``text``; no entities."""
            found = [(match.group(), match.start()) for match in TOKEN.finditer(text)]
            # Presidio says that it wants spaCy's `Doc`, and only takes the tokens' order and lengths.
            tokens: Any = [token for token, _ in found]
            return NlpArtifacts(
                entities=[],
                tokens=tokens,
                tokens_indices=[start for _, start in found],
                lemmas=[lemma(token) for token in tokens],
                nlp_engine=self,
                language=language,
                scores=[],
            )

        def process_batch(
            self, texts: Iterable[str], language: str, batch_size: int = 1, n_process: int = 1, **kwargs: Any
        ) -> Iterator[tuple[str, Any]]:
            """Each text with its artifacts."""
            del batch_size, n_process, kwargs
            return ((text, self.process_text(text, language)) for text in texts)

        def is_stopword(self, word: str, language: str) -> bool:
            """Whether ``word`` is in ``STOP_WORDS``, in any language."""
            del language
            return lemma(word) in STOP_WORDS

        def is_punct(self, word: str, language: str) -> bool:
            """Whether ``word`` has no character of a word."""
            del language
            return is_punctuation(word)

        def get_supported_entities(self) -> list[str]:
            """None: names and places need a model."""
            return []

        def get_supported_languages(self) -> list[str]:
            """The languages that it was made for."""
            return list(self._languages)

    return ModelFreeNlpEngine


def engine(languages: Sequence[str]) -> Any:
    """A Presidio ``NlpEngine`` that needs no model.

    Args:
        languages: what ``get_supported_languages`` says; words are handled alike in all of them.
    """
    return _engine_class()(languages)
