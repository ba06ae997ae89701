"""Which traces are kept: a share of them, and every one in which something was blocked or failed."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.semconv import ABANDONED, ACTION, DETECTORS_FAILED, ERROR_TYPE
from llmguard.types import Action

try:
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
    from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
except ImportError:
    raise MissingExtraError("sampling", "opentelemetry.sdk", "otel") from None
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags, get_current_span

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind
    from opentelemetry.trace.span import TraceState
    from opentelemetry.util.types import Attributes

_KEPT = 4096
# What the objects of a span take, or of an event of one, with a dozen attributes.
_SPAN_BYTES = 2048


class Share(Sampler):
    """Samples a share of the traces, and has the others recorded, so that `Keeping` can still take them.

    A trace that began elsewhere goes by what was decided there. Whether one is in the share goes by its id, as in
    OpenTelemetry's own sampler, so that services with the same share choose the same traces.

    Args:
        share: of the traces, in [0, 1].

    Raises:
        ConfigurationError: it is not.
    """

    def __init__(self, share: float) -> None:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ConfigurationError(f"share must be from 0 to 1, not {share!r}")
        self._share = share
        self._ratio = TraceIdRatioBased(share)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Sampled, or recorded alone."""
        del kind, links, trace_state
        parent = get_current_span(parent_context).get_span_context()
        if parent.is_valid:
            sampled = parent.trace_flags.sampled
        else:
            sampled = self._ratio.should_sample(None, trace_id, name).decision is Decision.RECORD_AND_SAMPLE
        decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.RECORD_ONLY
        return SamplingResult(decision, attributes, parent.trace_state if parent.is_valid else None)

    def get_description(self) -> str:
        """For people."""
        return f"Share({self._share})"


class Keeping(SpanProcessor):
    """Lets sampled spans through, and of the others the traces in which a check blocked or anything failed.

    Spans that are not sampled wait until the first span of their trace in this process has ended. Then all of them go
    on if one has the action ``block``, failed detectors, an error type or an error status; otherwise they are
    forgotten. So are the spans of the oldest traces when too many wait, or when what waits takes too much memory. What
    waits when a process forks is the parent's.

    Args:
        processor: gets what is kept; a batch processor.
        max_traces: how many may wait.
        max_spans: of one trace that may; further ones are forgotten.
        max_bytes: what all that waits may take together, about: texts that others put on spans may be of any length.

    Raises:
        ConfigurationError: an argument is none of those.
    """

    def __init__(
        self, processor: SpanProcessor, *, max_traces: int = 4096, max_spans: int = 256, max_bytes: int = 32 << 20
    ) -> None:
        for option, value in (("max_traces", max_traces), ("max_spans", max_spans), ("max_bytes", max_bytes)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"{option} must be a whole number, at least 1, not {value!r}")
        self._processor = processor
        self._max_traces = max_traces
        self._max_spans = max_spans
        self._max_bytes = max_bytes
        self._reset()
        if hasattr(os, "register_at_fork"):
            forked = WeakMethod(self._reset)
            os.register_at_fork(after_in_child=lambda: (reset := forked()) and reset())

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()
        self._bytes = 0
        self._kept: OrderedDict[int, None] = OrderedDict()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Tell the other processor."""
        self._processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Let it through, keep it for later, or forget it."""
        about = span.context
        if about is None:
            return
        if about.trace_flags.sampled:
            self._processor.on_end(span)
            return
        first = span.parent is None or span.parent.is_remote
        with self._lock:
            go = self._decided(about.trace_id, span, first)
        for kept in go:
            self._processor.on_end(_sampled(kept))

    def _decided(self, trace: int, span: ReadableSpan, first: bool) -> Sequence[ReadableSpan]:
        """The spans that go on now that this one has ended."""
        if trace in self._kept:  # what ends behind the first span, as a stream that is read to its end later
            return [span]
        worth = _worth_keeping(span)
        if worth:
            self._kept[trace] = None
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return [*self._taken(trace), span]
        if first:
            self._taken(trace)
            return ()
        waiting = self._waiting.setdefault(trace, _Waiting())
        if len(waiting.spans) < self._max_spans:
            size = _size(span)
            waiting.spans.append(span)
            waiting.bytes += size
            self._bytes += size
        while len(self._waiting) > self._max_traces or self._bytes > self._max_bytes:
            self._taken(next(iter(self._waiting)))
        return ()

    def _taken(self, trace: int) -> list[ReadableSpan]:
        """The spans of a trace that waited, which wait no more."""
        waiting = self._waiting.pop(trace, None)
        if waiting is None:
            return []
        self._bytes -= waiting.bytes
        return waiting.spans

    def shutdown(self) -> None:
        """Forget what waits, and shut the other processor down."""
        with self._lock:
            self._waiting.clear()
            self._bytes = 0
        self._processor.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the other processor; what is undecided goes on waiting."""
        return self._processor.force_flush(timeout_millis)


class _Waiting:
    """The spans of one trace, and about how many bytes they take."""

    __slots__ = ("bytes", "spans")

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.bytes = 0


def _size(span: ReadableSpan) -> int:
    """About how many bytes a span takes: its objects, and what its texts hold."""
    told = [span.attributes, *(event.attributes for event in span.events), *(link.attributes for link in span.links)]
    return _SPAN_BYTES * len(told) + sum([_length(value) for some in told if some for value in some.values()])


def _length(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum([_length(item) for item in value.values()])
    return sum([_length(item) for item in value]) if isinstance(value, Sequence) else 0


def _worth_keeping(span: ReadableSpan) -> bool:
    said: Any = span.attributes or {}
    return (
        said.get(ACTION) == Action.BLOCK.value
        or bool(said.get(DETECTORS_FAILED))
        or said.get(ERROR_TYPE, ABANDONED) != ABANDONED  # a reader who goes away is no failure
        or span.status.status_code is StatusCode.ERROR
    )


def _sampled(span: ReadableSpan) -> ReadableSpan:
    """The span, as batch processors take it."""
    about = span.context
    flags = TraceFlags(about.trace_flags | TraceFlags.SAMPLED)
    return ReadableSpan(
        name=span.name,
        context=SpanContext(about.trace_id, about.span_id, about.is_remote, flags, about.trace_state),
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
