"""Presidio's recognizers as the detector runs them: their patterns by scan, their checks by find."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmguard.detectors.patterns import PatternSet
from llmguard.detectors.pii_email import ending
from llmguard.detectors.pii_patterns import Match, PatternScan
from llmguard.detectors.pii_phone import PhoneScan, phone_scan
from llmguard.detectors.pii_results import Hit

_FLAWED = (ValueError, TypeError, LookupError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Source:
    """One recognizer.

    Attributes:
        index: its place among the recognizers.
        name: Presidio's name for it.
        category: the entity that it finds.
        context: its context words in lower case.
        threshold: the score from which on a find counts.
        validate: Presidio's check of a find, or None where it has none.
        invalidate: likewise.
        in_groups: whether it tries the groups of a match from the last to the first, as Presidio's IBAN
            recognizer does, and leaves duplicates in.
    """

    index: int
    name: str
    category: str
    context: tuple[str, ...]
    threshold: float
    validate: Callable[[str], bool | None] | None = None
    invalidate: Callable[[str], bool | None] | None = None
    in_groups: bool = False

    def hit(self, text: str, match: Match, score: float) -> Hit | None:
        """What a match is worth: None when a check says that it is nothing."""
        start, end = match.span()
        if not self.in_groups:
            worth = self._worth(text[start:end], score)
            return Hit(self.category, start, end, worth, self.index) if worth > 0 else None
        for group in range(len(match.groups()), 0, -1):
            last = match.span(group)[1]
            last = last if last > 0 else end
            if last > start and (worth := self._worth(text[start:last], score)) > 0:
                return Hit(self.category, start, last, worth, self.index)
        return None

    def _worth(self, found: str, score: float) -> float:
        # A check that chokes on digits of another script says nothing: the find keeps its pattern's score.
        try:
            valid = self.validate(found) if self.validate else None
        except _FLAWED:
            valid = None
        try:
            invalid = self.invalidate(found) if self.invalidate else None
        except _FLAWED:
            invalid = None
        if invalid:
            return 0.0
        return score if valid is None else 1.0 if valid else 0.0


@dataclass(frozen=True, slots=True)
class PatternJob:
    """One pattern and the recognizers that have it, each with the score that it gives."""

    scan: PatternScan
    users: tuple[tuple[Source, float], ...]

    @property
    def prefilter(self) -> tuple[str, ...]:
        """What must be in a text for this to run; nothing when it always has to."""
        return self.scan.prefilter

    def hits(self, text: str, proxy: bytes) -> Iterator[Hit]:
        """What the pattern finds, for each of its recognizers."""
        for match in self.scan.matches(text, proxy):
            for source, score in self.users:
                if hit := source.hit(text, match, score):
                    yield hit


@dataclass(frozen=True, slots=True)
class PhoneJob:
    """One recognizer of phone numbers."""

    scan: PhoneScan
    source: Source
    score: float

    @property
    def prefilter(self) -> tuple[str, ...]:
        """What must be in a text for this to run."""
        return self.scan.prefilter

    def hits(self, text: str, proxy: bytes, but: Container[tuple[int, int]] = ()) -> Iterator[Hit]:
        """The numbers found, each once, without those inside the spans ``but`` as a whole."""
        for start, end in dict.fromkeys(self.scan.spans(text, proxy, but)):
            yield Hit(self.source.category, start, end, self.score, self.source.index)


Job = PatternJob | PhoneJob


class Schedule:
    """Which jobs a text needs: one scan for all that any of them waits for.

    Args:
        jobs: in the order in which they are to run.
    """

    __slots__ = ("_always", "_jobs", "_match", "patterns")

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._always = [job for job in jobs if not job.prefilter]
        self.patterns = tuple(dict.fromkeys(pattern for job in jobs for pattern in job.prefilter))
        place = {pattern: index for index, pattern in enumerate(self.patterns)}
        self._jobs: list[list[tuple[frozenset[int], Job]]] = [[] for _ in self.patterns]
        for job in jobs:
            if job.prefilter:
                first, *rest = (place[pattern] for pattern in job.prefilter)
                self._jobs[first].append((frozenset(rest), job))
        self._match = PatternSet(self.patterns).match

    def due(self, proxy: bytes) -> Sequence[Job]:
        """The jobs that can find something in a text.

        Args:
            proxy: the text's proxy.
        """
        found = self._match(proxy)
        if not found:
            return self._always
        there = frozenset(found)
        return [job for index in found for needs, job in self._jobs[index] if needs <= there] + self._always


def _threshold(recognizer: Any, entity: str, chosen: dict[str, float], overall: float) -> float:
    own: dict[str, float] = recognizer.score_thresholds
    default = own.get("default", overall)
    return chosen.get(entity, own.get(entity, default))


def _overridden(recognizer: Any, base: type[Any], method: str) -> Callable[[str], bool | None] | None:
    if getattr(type(recognizer), method) is getattr(base, method):
        return None
    bound: Callable[[str], bool | None] = getattr(recognizer, method)
    return bound


def plan(
    recognizers: Sequence[Any], thresholds: dict[str, float], overall: float
) -> tuple[list[Source], list[Job], list[Job]]:
    """The recognizers as sources, and the jobs that find for them.

    Args:
        recognizers: instances of Presidio's classes.
        thresholds: score by entity from which on a find counts.
        overall: the score for entities that have none there nor in their recognizer.

    Returns:
        The sources; the jobs for texts without code points of the ``pii_proxy.RARE`` kinds; those for texts
        with them.
    """
    from presidio_analyzer import PatternRecognizer
    from presidio_analyzer.predefined_recognizers import IbanRecognizer

    sources: list[Source] = []
    phones: list[Job] = []
    users: dict[tuple[str, int, str], list[tuple[Source, float]]] = {}
    for index, recognizer in enumerate(recognizers):
        entity = recognizer.supported_entities[0]
        is_pattern = isinstance(recognizer, PatternRecognizer)
        source = Source(
            index,
            recognizer.name,
            entity,
            tuple(dict.fromkeys(word.lower() for word in recognizer.context or ())),
            _threshold(recognizer, entity, thresholds, overall),
            _overridden(recognizer, PatternRecognizer, "validate_result") if is_pattern else None,
            _overridden(recognizer, PatternRecognizer, "invalidate_result") if is_pattern else None,
            isinstance(recognizer, IbanRecognizer),
        )
        sources.append(source)
        if not is_pattern:
            phones.append(PhoneJob(phone_scan(recognizer), source, recognizer.SCORE))
            continue
        flags: Any = recognizer.global_regex_flags
        for pattern in recognizer.patterns:
            key = (pattern.regex, int(flags), ending(recognizer))
            users.setdefault(key, []).append((source, pattern.score))
    usual, other = (
        [PatternJob(PatternScan(*key[:2], rare=rare, ending=key[2]), tuple(wanted)) for key, wanted in users.items()]
        for rare in (False, True)
    )
    return sources, [*usual, *phones], [*other, *phones]
