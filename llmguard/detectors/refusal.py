"""Whether an answer refuses: the ways in which models do it in their first sentences, from rules in data."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml

from llmguard.detectors.sentences import sentences
from llmguard.errors import ConfigurationError, nearest
from llmguard.types import Finding, Scope, Text

REFUSAL = "REFUSAL"
_FIRST = 3
"""Sentences that are looked at: a refusal stands at the beginning, an aside about limits does not."""
_LONGEST = 400
"""Code points of a sentence that are looked at."""
_LOOKED_AT = 2_000
"""Code points of a text in which its first sentences are looked for."""
_REFUSES, _APOLOGETIC, _ALONE = 0.85, 0.97, 0.9
_STRAIGHT = str.maketrans("’‘“”", "''\"\"")


class _Rules(NamedTuple):
    """How one language refuses."""

    language: str
    letters: tuple[str, ...]
    apology: re.Pattern[str]
    refusal: tuple[re.Pattern[str], ...]
    unless: re.Pattern[str] | None

    def refuses(self, sentence: str) -> int:
        """The number of the first rule by which a sentence refuses, from 1; 0 for none."""
        if not any([letters in sentence for letters in self.letters]):
            return 0
        if self.unless is not None and self.unless.search(sentence):
            return 0
        return next((number for number, rule in enumerate(self.refusal, 1) if rule.search(sentence)), 0)


class RefusalDetector:
    """``REFUSAL`` for an answer that declines to do what was asked.

    Looks at the first three sentences. A finding's score is .97 with an apology before it, .9 where nothing else is
    said, and .85 otherwise; its span is the sentence.

    Args:
        languages: which languages' rules are used; by default all: en, de, fr, es, it, pt, nl, zh, ja.

    Raises:
        ConfigurationError: there are no rules for a language.
    """

    name = "refusal"
    version = "1"
    scope = Scope.DOCUMENT
    inline = True
    categories = frozenset({REFUSAL})

    def __init__(self, *, languages: Sequence[str] | None = None) -> None:
        known = {rules.language: rules for rules in _bundled()}
        listed = isinstance(languages, Collection) and not isinstance(languages, str)
        if languages is not None and not (listed and languages):
            raise ConfigurationError(f"refusal: languages must be a list of one language or more, not {languages!r}")
        self._languages = list(known) if languages is None else list(languages)
        for language in self._languages:
            if not isinstance(language, str) or language not in known:
                raise ConfigurationError(
                    f"refusal: languages: no rules for {language!r}{nearest(str(language), known)}"
                )
        self._rules = [known[language] for language in self._languages]

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._languages,)

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """The first sentence that refuses, of each text in which one does."""
        return [self._one(text.content) for text in texts]

    def _one(self, content: str) -> list[Finding]:
        head = content[:_LOOKED_AT]
        spans = [span for span in sentences(head) if any(map(str.isalnum, head[slice(*span)]))]
        first = [head[start:end][:_LONGEST].lower().translate(_STRAIGHT) for start, end in spans[:_FIRST]]
        for rules in self._rules:
            for place, sentence in enumerate(first):
                number = rules.refuses(sentence)
                if number:
                    sorry = any([rules.apology.search(before) for before in first[: place + 1]])
                    alone = len(spans) == 1 and len(content) <= _LOOKED_AT
                    score = _APOLOGETIC if sorry else _ALONE if alone else _REFUSES
                    reasons = (f"{rules.language} {number}", *(("apology",) if sorry else ()))
                    return [Finding(REFUSAL, score, spans[place], reasons=reasons)]
        return []


def refuses(sentence: str) -> str:
    """The language in which a sentence refuses; "" where it does not.

    Args:
        sentence: any; its first 400 code points are looked at.
    """
    low = sentence[:_LONGEST].lower().translate(_STRAIGHT)
    return next((rules.language for rules in _bundled() if rules.refuses(low)), "")


@cache
def _bundled() -> tuple[_Rules, ...]:
    text = (resources.files("llmguard.detectors") / "data" / "refusal.yaml").read_text(encoding="utf-8")
    return tuple(
        [
            _Rules(
                language,
                tuple(own["letters"]),
                re.compile(own["apology"]),
                tuple([re.compile(pattern) for pattern in own["refusal"]]),
                re.compile(own["unless"]) if "unless" in own else None,
            )
            for language, own in yaml.safe_load(text)["languages"].items()
        ]
    )


def _rebuild(languages: list[str]) -> RefusalDetector:
    return RefusalDetector(languages=languages)
