"""The metrics of the models' batches: how large they are, how long texts wait for one, and how many wait."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.metrics import Meter

from llmguard import semconv, signals


class Batches:
    """Is told of the batches of all models of the process, and tells one meter.

    Args:
        meter: that makes the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        rows = (signals.BATCH_SIZE, signals.BATCH_QUEUE_DURATION)
        self._size, self._queued = [
            meter.create_histogram(row.name, row.unit, row.description, explicit_bucket_boundaries_advisory=row.buckets)
            for row in rows
        ]
        row = signals.QUEUE_SIZE
        self._waiting = meter.create_up_down_counter(row.name, row.unit, row.description)

    def batch(self, name: str, size: int, tokens: int, queued: Sequence[float]) -> None:
        """A batch ran: its size, and the seconds that each of its windows had waited."""
        del tokens
        labels = {semconv.ENCODER: name}
        self._size.record(size, labels)
        for seconds in queued:
            self._queued.record(seconds, labels)

    def queue(self, name: str, delta: int) -> None:
        """So many windows more, or fewer, wait."""
        self._waiting.add(delta, {semconv.ENCODER: name})

    def shed(self, name: str, reason: str) -> None:
        """Nothing: what was given up shows as the outcome of the detector that asked."""
