"""The metrics of what texts are made of: entropy, repetition and variety, never a word of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from opentelemetry.metrics import Meter

from llmguard import semconv, signals

if TYPE_CHECKING:
    from opentelemetry.context import Context

#: Code points of a text, and texts of a check, that are looked at: repetition and variety hang on the length, so that a
#: bound makes long texts comparable, and a check costs no more than a few hundred microseconds of another thread.
_LONGEST = 2_048
_MOST = 8
#: Texts a second that are looked at: beyond it the metrics are of a sample. Each takes some 60 microseconds, with its
#: records, in which no check makes headway, so that all of them together take less than a hundredth of one core.
_A_SECOND = 100


class TokenMetrics:
    """The instruments of one meter.

    Args:
        meter: that makes them.
        clock: seconds that only go on.
    """

    def __init__(self, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        rows = (signals.TOKEN_ENTROPY, signals.TOKEN_REPETITION, signals.TOKEN_VARIETY)
        self._histograms = [
            meter.create_histogram(row.name, row.unit, row.description, explicit_bucket_boundaries_advisory=row.buckets)
            for row in rows
        ]
        self._clock = clock
        self._since = clock()
        self._left = _A_SECOND

    def record(self, texts: Sequence[str], stage: str, context: Context) -> None:
        """Record the statistics of each text, in the context of the check's span, up to a hundred texts a second.

        Not for two threads at a time.

        Args:
            texts: what `kept` gave.
            stage: when they were looked at.
            context: of the span.
        """
        if (now := self._clock()) - self._since >= 1.0:
            self._since, self._left = now, _A_SECOND
        texts = texts[: self._left]
        if not texts:
            return
        self._left -= len(texts)
        # It loads NumPy, which whoever has no metrics does without.
        from llmguard.detectors.token_stats import statistics

        labels = {semconv.STAGE: stage}
        for text in texts:
            known = statistics(text)
            numbers = (known.entropy, known.repetition, known.type_token_ratio)
            for histogram, number in zip(self._histograms, numbers, strict=True):
                histogram.record(number, labels, context)


def kept(texts: Sequence[str]) -> tuple[str, ...]:
    """As much of cleared texts as the metrics look at; nothing of a text that was blocked, nor of what is no text."""
    return tuple([text[:_LONGEST] for text in texts[:_MOST] if text and isinstance(text, str)])
