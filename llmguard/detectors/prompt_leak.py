"""Whether an answer gives the system prompt away: its words in a row, or a canary that was put into it.

An answer is read as it stands, with disguises taken off (`views`) and with encodings undone (`decoding`).
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from llmguard.detectors.decoding import candidates, decoded
from llmguard.detectors.injection_rules import Chained
from llmguard.detectors.views import View, is_plain, normalised
from llmguard.errors import ConfigurationError
from llmguard.types import Finding, Role, Scope, Text

LEAK, CANARY = "PROMPT_LEAK", "CANARY_LEAK"
_WORD = re.compile(r"\w+")
_PREFIX = "canary-"
_LETTERS = 24
_START = _PREFIX.rstrip("-")
_SIZE = len(_START) + _LETTERS
_CANARY = re.compile(rf"{_PREFIX}[a-z]{{{_LETTERS}}}")
_SEPARATORS = re.compile(r"[\W_]+")
_LEAST_CANARY = 8
# What `str.lower` makes two letters of, and what it makes another letter of at a word's end: then places and forms fit.
_LOWERED = str.maketrans({"İ": "i", "Σ": "σ", "ς": "σ"})

Reading = View | Chained


def canary() -> str:
    """A random word to put into a system prompt: an answer that holds it has seen the prompt.

    The detector knows such words in the system prompts of the same check by themselves. They are 24 random letters,
    so no text holds one by chance (113 bits).
    """
    return _PREFIX + "".join([secrets.choice(string.ascii_lowercase) for _ in range(_LETTERS)])


class PromptLeakDetector:
    """``PROMPT_LEAK`` where an answer repeats the system prompt, ``CANARY_LEAK`` where it holds a canary of it.

    Texts of the role system in the same check are prompts, and so are those of the option; answers are those of the
    role assistant. What the user has said too is no leak. A row of n-grams that a prompt has too, with gaps no longer
    than an n-gram between them, scores .5 where it is ``words`` long, gaps included, and nears 1 beyond it:
    ``1 - words / (2 * length)``. A canary scores 1, also with letters spaced, in another case, backwards or encoded.

    Args:
        prompts: system prompts that are the same for every call.
        canaries: words that are in them, of at least eight letters or digits; those of `canary` need not be named.
        ngram: words that must follow each other, at least 2.
        words: the shortest row of words that counts, at least ``ngram``.

    Raises:
        ConfigurationError: an option is wrong.
    """

    name = "prompt_leak"
    version = "1"
    scope = Scope.DOCUMENT
    inline = True
    #: Its texts belong together: the pipeline gives it those of one check at a time, and none from a cache.
    together = True
    categories = frozenset({LEAK, CANARY})

    def __init__(
        self, *, prompts: Sequence[str] = (), canaries: Sequence[str] = (), ngram: int = 4, words: int = 12
    ) -> None:
        for option, value in (("prompts", prompts), ("canaries", canaries)):
            listed = isinstance(value, Collection) and not isinstance(value, str)
            if not listed or not all([isinstance(one, str) and one for one in value]):
                raise ConfigurationError(f"prompt_leak: {option} must be a list of texts that are not empty")
        for option, number, least in (("ngram", ngram, 2), ("words", words, 2)):
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise ConfigurationError(
                    f"prompt_leak: {option} must be a whole number of at least {least}, not {number!r}"
                )
        if words < ngram:
            raise ConfigurationError(f"prompt_leak: words ({words}) must not be less than ngram ({ngram})")
        self._options = {"prompts": list(prompts), "canaries": list(canaries), "ngram": ngram, "words": words}
        self._ngram, self._words = ngram, words
        self._known = self._hashes(prompts)
        self._canaries = frozenset([_squeezed(one)[0] for one in canaries]) | _canaries(prompts)
        if any([len(one) < _LEAST_CANARY for one in self._canaries]):
            raise ConfigurationError(f"prompt_leak: canaries must have at least {_LEAST_CANARY} letters or digits")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """What each answer gives away."""
        own = [text.content for text in texts if text.role is Role.SYSTEM]
        hidden = self._canaries | _canaries(own)
        known = self._known | self._hashes(own)
        if known:
            known -= self._hashes([text.content for text in texts if text.role is Role.USER])
        if not known and not hidden:
            return [[] for _ in texts]
        return [self._one(text.content, known, hidden) if text.role is Role.ASSISTANT else [] for text in texts]

    def _one(self, content: str, known: frozenset[int], hidden: frozenset[str]) -> list[Finding]:
        found: dict[tuple[str, tuple[int, int]], Finding] = {}
        for view in _readings(content):
            read = (f"read as {view.name}",) if view.name else ()
            for start, end, length in self._rows(view.content, known):
                span = view.original(start, end)
                score = 1.0 - self._words / (2.0 * length)
                found.setdefault((LEAK, span), Finding(LEAK, score, span, reasons=(f"{length} words in a row", *read)))
            for start, end, how in _hits(view.content, hidden):
                span = view.original(start, end)
                found.setdefault((CANARY, span), Finding(CANARY, 1.0, span, reasons=(how, *read)))
        return [found[key] for key in sorted(found, key=lambda key: (key[1], key[0])) if key[1][0] < key[1][1]]

    def _rows(self, content: str, known: frozenset[int]) -> Iterator[tuple[int, int, int]]:
        """Start and end of each row of words that the prompts have too, and how many words it has."""
        if not known:
            return
        spans = [match.span() for match in _WORD.finditer(content)]
        folded = [content[start:end].casefold() for start, end in spans]
        size = self._ngram
        first = last = -1
        for place in range(len(folded) - size + 1):
            if hash(tuple(folded[place : place + size])) not in known:
                continue
            if first >= 0 and place > last + size:
                if last - first >= self._words:
                    yield spans[first][0], spans[last - 1][1], last - first
                first = -1
            first = place if first < 0 else first
            last = place + size
        if first >= 0 and last - first >= self._words:
            yield spans[first][0], spans[last - 1][1], last - first

    def _hashes(self, contents: Sequence[str]) -> frozenset[int]:
        """Hashes of all n-grams of words; of this process alone, since they never leave it."""
        found: set[int] = set()
        for content in contents:
            folded = [word.casefold() for word in _WORD.findall(content)]
            size = self._ngram
            found.update([hash(tuple(folded[at : at + size])) for at in range(len(folded) - size + 1)])
        return frozenset(found)


def _canaries(contents: Sequence[str]) -> frozenset[str]:
    return frozenset([_squeezed(match)[0] for content in contents for match in _CANARY.findall(content)])


def _readings(content: str) -> Iterator[Reading]:
    yield View("", content)
    outer: View | None = None
    base = content
    if not content.isascii() and not is_plain(content):
        outer = normalised(content)
        base = outer.content
        if base != content:
            yield outer
    for view in decoded(base, candidates(base)):
        yield Chained(view, outer) if outer is not None else view


def _squeezed(content: str) -> tuple[str, list[int]]:
    """Letters and digits alone, in small letters, and where each of them stands."""
    parts: list[str] = []
    places: list[int] = []
    at = 0
    for match in _SEPARATORS.finditer(content):
        parts.append(content[at : match.start()])
        places += range(at, match.start())
        at = match.end()
    parts.append(content[at:])
    places += range(at, len(content))
    return "".join(parts).translate(_LOWERED).lower(), places


def _hits(content: str, hidden: frozenset[str]) -> Iterator[tuple[int, int, str]]:
    """Start and end of each canary in a text, and how it stands there."""
    if not hidden:
        return
    low, places = _squeezed(content)
    # A system prompt may hold any number of those that `canary` makes: they are looked for all at once.
    made = frozenset([one for one in hidden if len(one) == _SIZE and one.startswith(_START)])
    for match in re.finditer(_START, low) if made else ():
        start, end = match.start(), match.start() + _SIZE
        if low[start:end] in made:
            yield places[start], places[end - 1] + 1, "canary"
    for match in re.finditer(_START[::-1], low) if made else ():
        start, end = match.end() - _SIZE, match.end()
        if start >= 0 and low[start:end][::-1] in made:
            yield places[start], places[end - 1] + 1, "canary backwards"
    for one in hidden - made:
        for own, how in ((one, "canary"), (one[::-1], "canary backwards")):
            at = low.find(own)
            while at >= 0:
                yield places[at], places[at + len(own) - 1] + 1, how
                at = low.find(own, at + len(own))


def _rebuild(options: dict[str, Any]) -> PromptLeakDetector:
    return PromptLeakDetector(**options)
