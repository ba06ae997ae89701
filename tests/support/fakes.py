"""Small detectors with known behaviour, for tests of what is built on detectors."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence

from llmguard import Finding, Scope, Text


class Words:
    """Finds each of its words, as a category of the same name in upper case; counts the texts that it was given."""

    version = "1"
    scope = Scope.SPAN

    def __init__(self, name: str, *words: str, score: float = 1.0, inline: bool = True) -> None:
        self.name = name
        self.inline = inline
        self.words = words
        self.score = score
        self.categories = frozenset(word.upper() for word in words)
        self.calls = 0
        self.texts: list[str] = []

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        self.calls += 1
        self.texts += [text.content for text in texts]
        return [list(self._find(text.content)) for text in texts]

    def _find(self, content: str):
        for word in self.words:
            start = content.find(word)
            while start >= 0:
                yield Finding(word.upper(), self.score, (start, start + len(word)), reasons=("a listed word",))
                start = content.find(word, start + len(word))


class Pieces:
    """Finds ``ab…bc``, ``PIECE`` with one b and ``LONG`` with more, and says what is final of a text that grows."""

    name = "pieces"
    version = "1"
    scope = Scope.SPAN
    categories = frozenset({"PIECE", "LONG"})
    inline = True

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        return [
            [Finding("LONG" if len(m[0]) > 3 else "PIECE", 1.0, m.span()) for m in re.finditer("ab+c", text.content)]
            for text in texts
        ]

    def settled(self, text: str) -> int:
        under_way = re.search(r"ab*\Z", text)
        return under_way.start() if under_way else len(text)

    def context(self, text: str, start: int) -> int:
        return start


class Broken:
    """Does what it is told instead of detecting; its one category is ``BROKEN``."""

    version = "1"
    scope = Scope.SPAN
    categories = frozenset({"BROKEN"})

    def __init__(
        self, answer: Callable[[Sequence[Text]], object], *, name: str = "broken", inline: bool = True
    ) -> None:
        self.name = name
        self.inline = inline
        self.answer = answer
        self.calls = 0

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        self.calls += 1
        return self.answer(texts)  # type: ignore[return-value]


class Hanging:
    """Hangs until it is released."""

    version = "1"
    scope = Scope.SPAN
    categories = frozenset({"HANGS"})
    inline = False

    def __init__(self, name: str = "hanging") -> None:
        self.name = name
        self.begun = threading.Event()
        self.released = threading.Event()
        self.calls = 0

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        self.calls += 1
        self.begun.set()
        self.released.wait()
        return [[] for _ in texts]
