"""The metrics of calls of a model: how long they take, how many tokens they use, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.metrics import Meter
from opentelemetry.trace import Span, set_span_in_context

from llmguard import semconv, signals
from llmguard.tally import Together

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from llmguard.prices import Prices, Tokens

    Failed = Callable[[str, Exception], None]
    Bound = Callable[[str], str]
    Labels = Mapping[str, str | int]


class Call(NamedTuple):
    """Which model is called, and where; known before the call.

    Attributes:
        provider: ``gen_ai.provider.name``.
        operation: ``gen_ai.operation.name``.
        model: that is asked for, or "".
        address: of the server, or "".
        port: of the server, or None.
    """

    provider: str
    operation: str
    model: str
    address: str
    port: int | None


class Called(NamedTuple):
    """What metrics want to know of a call that has ended; no content.

    Attributes:
        call: which it was.
        seconds: how long it took.
        first: seconds to the first chunk, of a stream that came so far.
        model: that answered, or "".
        error: value of ``error.type``, or "".
        tokens: that the provider counted.
        prices: what they cost.
        prompt_version: of the caller's prompt template, or "".
        owned: whether nobody else tells of the call; if somebody does, only its cost is told.
        span: of the call, for exemplars.
        failed: told ``metrics`` and the error when the SDK raises.
    """

    call: Call
    seconds: float
    first: float | None
    model: str
    error: str
    tokens: Tokens | None
    prices: Prices | None
    prompt_version: str
    owned: bool
    span: Span
    failed: Failed


class Chunks(NamedTuple):
    """How long chunks of a stream took, each from the one before it, in seconds."""

    call: Call
    seconds: Sequence[float]
    span: Span
    failed: Failed


def _bounded(record: Callable[[float, Labels, Context], None]) -> Callable[[float, Labels, Context], None]:
    """The same for a bounded number of sets of labels."""
    together = Together()
    return lambda amount, labels, context: record(amount, together(labels), context)


class CallMetrics:
    """The instruments of calls of one meter.

    Args:
        meter: that makes them.
        models: bounds the names of models; likewise the rest, which come from callers and servers, too.
        prompt_versions: see above.
        addresses: see above.
        errors: see above.
    """

    def __init__(self, meter: Meter, models: Bound, prompt_versions: Bound, addresses: Bound, errors: Bound) -> None:
        rows = (signals.CALL_DURATION, signals.TIME_TO_FIRST_CHUNK, signals.TIME_PER_OUTPUT_CHUNK, signals.TOKEN_USAGE)
        self._duration, self._first, self._chunk, self._tokens = [
            _bounded(
                meter.create_histogram(
                    row.name, row.unit, row.description, explicit_bucket_boundaries_advisory=row.buckets
                ).record
            )
            for row in rows
        ]
        row = signals.COST
        self._cost = _bounded(meter.create_counter(row.name, row.unit, row.description).add)
        self._models = models
        self._prompt_versions = prompt_versions
        self._addresses = addresses
        self._errors = errors

    def record(self, seen: Called | Chunks) -> None:
        """Record a call that has ended, or chunks of one that goes on, in the context of its span."""
        context = set_span_in_context(seen.span)
        if isinstance(seen, Chunks):
            labels = self._labels(seen.call)
            for seconds in seen.seconds:
                self._chunk(seconds, labels, context)
            return
        if seen.owned:
            labels = self._labels(seen.call)
            if seen.first is not None:
                self._first(seen.first, labels, context)
            if seen.model:
                labels = labels | {semconv.RESPONSE_MODEL: self._models(seen.model)}
            counts = (("input", seen.tokens.input), ("output", seen.tokens.output)) if seen.tokens is not None else ()
            for kind, count in counts:
                if count is not None:
                    self._tokens(count, labels | {semconv.TOKEN_TYPE: kind}, context)
            if seen.error:
                labels = labels | {semconv.ERROR_TYPE: self._errors(seen.error)}
            self._duration(seen.seconds, labels, context)
        if seen.prices is not None and seen.tokens is not None:
            self._add_cost(seen, seen.prices, seen.tokens)

    def _add_cost(self, seen: Called, prices: Prices, tokens: Tokens) -> None:
        cost = prices.cost((seen.model, seen.call.model), tokens)
        if cost is None:
            return
        said = {
            semconv.REQUEST_MODEL: self._models(seen.call.model),
            semconv.PROMPT_VERSION: self._prompt_versions(seen.prompt_version),
        }
        labels = {key: value for key, value in said.items() if value}
        self._cost(cost, labels, set_span_in_context(seen.span))

    def _labels(self, call: Call) -> dict[str, str | int]:
        labels: dict[str, str | int] = {semconv.OPERATION: call.operation, semconv.PROVIDER: call.provider}
        if call.model:
            labels[semconv.REQUEST_MODEL] = self._models(call.model)
        if call.address:
            known = self._addresses(f"{call.address}:{call.port}") != semconv.OTHER
            labels[semconv.SERVER_ADDRESS] = call.address if known else semconv.OTHER
            if call.port is not None and known:
                labels[semconv.SERVER_PORT] = call.port
        return labels
