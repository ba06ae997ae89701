"""Keys, tokens and passwords: well-known shapes, detect-secrets' plugins, named and random values."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmguard.detectors.secrets_live import Live
from llmguard.detectors.secrets_merge import Candidate, merge
from llmguard.detectors.secrets_options import enabled_shapes, own_shapes, read_allow_list, read_limits, read_names
from llmguard.detectors.secrets_plugins import JWT, KEYWORD, SecondOpinion, assignment, signed_part, window
from llmguard.detectors.secrets_shapes import Locator, Match, Shape, shipped
from llmguard.detectors.secrets_values import NAMED, QUESTIONS, TIERS
from llmguard.types import Finding, Scope, Text


class SecretsDetector:
    """Finds secrets; every span is exactly what must not leak.

    One scan tells which shapes can match; only those look for their places. A value that a name or
    its randomness gives away has to pass the questions of ``secrets_values``. Where detect-secrets
    knows a shape, its plugin is asked about that place; when it agrees the score rises.

    Args:
        plugins: detect-secrets classes and ids of our shapes, by name: a list or ``{"allow": [...]}``
            for those alone, ``{"deny": [...]}`` for all but those. By default all but
            ``IPPublicDetector``: an address is no secret.
        entropy: False looks for no random values; a mapping sets the limits ``base64``, ``hex``,
            ``near`` (bits a character) and ``shortest`` (characters).
        allow_list: values that are no findings; compared as they are.
        patterns: own shapes: ``{"id", "category", "pattern"}`` and perhaps ``"score"`` (0.9). Patterns
            are in RE2's syntax; the secret is the first group that took part, or the whole match.

    Raises:
        ConfigurationError: an option is wrong; names it, its value and what would be right.
        MissingExtraError: detect-secrets is not installed.
    """

    name = "secrets"
    version = "1"
    scope = Scope.SPAN
    inline = True

    __slots__ = ("_allowed", "_limits", "_live", "_locator", "_opinion", "_options", "_shapes", "categories")

    def __init__(
        self,
        *,
        plugins: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        entropy: bool | Mapping[str, float] = True,
        allow_list: Sequence[str] = (),
        patterns: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._options = {"plugins": plugins, "entropy": entropy, "allow_list": allow_list, "patterns": patterns}
        rows = shipped()
        self._limits = read_limits(entropy)
        enabled = read_names(plugins, rows)
        own = own_shapes(patterns, taken=frozenset(row.id for row in rows))
        shapes = [*enabled_shapes(rows, enabled, random=entropy is not False), *own]
        self._allowed = read_allow_list(allow_list)
        self._opinion = SecondOpinion({shape.plugin for shape in shapes if shape.plugin}, self._limits)
        self._locator = Locator(shapes)
        self._shapes = shapes
        self._live: Live | None = None
        self.categories = frozenset(row.category for row in (*rows, *own))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Findings for each text: every secret in it, in order, none overlapping another."""
        fired = self._locator.fired
        return [self._look(text.content, hits) if (hits := fired(text.content)) else [] for text in texts]

    def settled(self, text: str) -> int:
        """Up to where the findings are final; in prose that is the beginning of its last word."""
        fired = self._locator.fired
        return self._alive().settled(text, self._matches, lambda: self._candidates(text, fired(text)))

    def context(self, text: str, start: int) -> int:
        """From where to look for what starts at or after ``start``: in prose at most 120 characters before it."""
        return self._alive().context(text, start, self._matches)

    def _alive(self) -> Live:
        # Two threads may make one each, which does no harm: the expensive part is shared.
        if self._live is None:
            self._live = Live(self._shapes)
        return self._live

    def _matches(self, text: str) -> list[tuple[int, int]]:
        fired = self._locator.fired(text)
        if not fired:
            return []
        data = text.encode()
        find = functools.partial(self._locator.find, data=data, ascii_only=len(data) == len(text))
        return [(match.start, match.end) for order in fired for _, match in find(order)]

    def _look(self, text: str, fired: list[int]) -> list[Finding]:
        return merge(self._candidates(text, fired))

    def _candidates(self, text: str, fired: list[int]) -> list[Candidate]:
        data = text.encode()
        ascii_only = len(data) == len(text)
        return [
            candidate
            for order in fired
            for shape, match in self._locator.find(order, data, ascii_only=ascii_only)
            for candidate in self._judge(order, shape, text, match)
        ]

    def _judge(self, order: int, shape: Shape, text: str, match: Match) -> Iterator[Candidate]:
        value = text[match.low : match.high]
        verdicts = QUESTIONS[shape.check](value, text[match.start : match.low], shape.score or 0.0, self._limits)
        if not verdicts:
            return
        confirmed = shape.plugin != "" and self._confirmed(shape, text, match)
        reasons = (shape.id, shape.reason) if shape.reason else (shape.id,)
        if confirmed:
            reasons = (*reasons, f"detect-secrets {shape.plugin}")
        for start, end, score in verdicts:
            sure = max(score, shape.confirmed) if confirmed else score
            # A score of 0 is a shape that does not count without its plugin's word.
            if (score or confirmed) and value[start:end] not in self._allowed:
                tier = TIERS.get(shape.check, NAMED)
                yield Candidate(match.low + start, match.low + end, tier, sure, order, shape.category, reasons)

    def _confirmed(self, shape: Shape, text: str, match: Match) -> bool:
        start, end, low, high = match
        if shape.plugin == KEYWORD:
            return self._opinion.confirms(KEYWORD, assignment(text[start:low], text[low:high], text[high:end]))
        if shape.plugin == JWT:
            return self._opinion.confirms(JWT, signed_part(text[low:high]))
        return self._opinion.confirms(shape.plugin, window(text, start, end, shape.before))


def _rebuild(options: dict[str, Any]) -> SecretsDetector:
    return SecretsDetector(**options)
