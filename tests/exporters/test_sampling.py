"""That what was blocked or failed is kept, with all of its trace, and of the rest a share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes import Broken, Words
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

from llmguard import ConfigurationError, Guard
from llmguard.exporters.sampling import Keeping, Share


class Traces:
    """A tracer whose kept spans can be seen."""

    def __init__(self, share: float, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.keeping = Keeping(BatchSpanProcessor(self.exporter), **options)
        self.provider = TracerProvider(sampler=Share(share), shutdown_on_exit=False)
        self.provider.add_span_processor(self.keeping)
        self.tracer = self.provider.get_tracer("t")

    @property
    def names(self) -> list[str]:
        assert self.provider.force_flush()
        return [span.name for span in self.exporter.get_finished_spans()]


@pytest.fixture
def traces() -> Iterator[Callable[..., Traces]]:
    made: list[Traces] = []

    def make(share: float, **options: Any) -> Traces:
        made.append(Traces(share, **options))
        return made[-1]

    yield make
    for one in made:
        one.provider.shutdown()


def failing(texts: Any) -> Any:
    raise KeyError


@pytest.mark.parametrize(
    ("detector", "action", "kept"),
    [
        (Words("words", "bad"), "block", True),
        (Words("words", "bad"), "flag", False),
        (Words("words", "other"), "block", False),
        (Broken(failing, name="words"), "flag", True),
    ],
)
def test_of_guarded_calls(traces: Any, detector: Any, action: str, kept: bool) -> None:
    none = traces(0.0)
    policy = {"name": "p", "version": "1", "rules": [{"detector": "words", "action": action}]}
    with (
        Guard(policy, detectors=[detector], tracer_provider=none.provider) as guard,
        none.tracer.start_as_current_span("a"),
    ):
        guard.check("bad")
        with none.tracer.start_as_current_span("b"):
            pass
    assert none.names == (["llmguard.guard input", "b", "a"] if kept else [])


def test_all_of_the_trace_goes_on_sampled(traces: Any) -> None:
    none = traces(0.0)
    with none.tracer.start_as_current_span("first"):
        with none.tracer.start_as_current_span("before", attributes={"x": 1}):
            pass
        with none.tracer.start_as_current_span("bad") as span:
            span.set_status(Status(StatusCode.ERROR, "x"))
        late = none.tracer.start_span("late")
    late.end()
    assert none.names == ["before", "bad", "first", "late"]
    spans = none.exporter.get_finished_spans()
    assert all(span.context.trace_flags.sampled for span in spans)
    assert dict(spans[0].attributes) == {"x": 1}
    assert len({span.context.trace_id for span in spans}) == 1


@pytest.mark.parametrize(("error", "kept"), [("KeyError", True), ("abandoned", False)])
def test_of_errors(traces: Any, error: str, kept: bool) -> None:
    none = traces(0.0)
    none.tracer.start_span("x", attributes={"error.type": error}).end()
    assert none.names == (["x"] if kept else [])


def test_a_share_is_the_one_of_other_services(traces: Any) -> None:
    some, ratio = traces(0.3), TraceIdRatioBased(0.3)
    chosen = []
    for number in range(300):
        span = some.tracer.start_span(str(number))
        if ratio.should_sample(None, span.get_span_context().trace_id, "").decision.is_sampled():
            chosen.append(str(number))
        span.end()
    assert some.names == chosen
    assert 30 < len(chosen) < 150


@pytest.mark.parametrize("sampled", [True, False])
def test_what_began_elsewhere_goes_by_what_was_decided_there(traces: Any, sampled: bool) -> None:
    some = traces(0.5)
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    parent = trace.set_span_in_context(NonRecordingSpan(SpanContext(7, 7, True, flags)))
    some.tracer.start_span("good", parent).end()
    some.tracer.start_span("bad", parent, attributes={"llmguard.action": "block"}).end()
    some.tracer.start_span("after", parent).end()
    assert some.names == (["good"] if sampled else []) + ["bad", "after"]


def test_few_wait(traces: Any) -> None:
    none = traces(0.0, max_traces=3, max_spans=2)
    firsts = [none.tracer.start_span(f"first {number}") for number in range(5)]
    for number, first in enumerate(firsts):
        for _ in range(4):
            none.tracer.start_span(f"of {number}", trace.set_span_in_context(first)).end()
    assert [len(waiting.spans) for waiting in none.keeping._waiting.values()] == [2, 2, 2]
    for first in firsts:
        first.set_attribute("llmguard.action", "block")
        first.end()
    assert none.names == ["first 0", "first 1", *[f"{w} {n}" for n in (2, 3, 4) for w in ("of", "of", "first")]]
    assert not none.keeping._waiting


def test_what_waits_takes_little_memory_however_long_its_texts_are(traces: Any) -> None:
    none = traces(0.0, max_bytes=100_000)
    firsts = [none.tracer.start_span(f"first {number}") for number in range(5)]
    long = {"text": "x" * 40_000, "list": ["y" * 10_000]}
    for number, first in enumerate(firsts):
        span = none.tracer.start_span(f"of {number}", trace.set_span_in_context(first))
        span.set_attributes({"list": long["list"]})
        span.add_event("e", {"text": long["text"]})
        span.end()
    assert len(none.keeping._waiting) == 1
    assert 50_000 < none.keeping._bytes <= 100_000
    for first in firsts:
        first.set_attribute("llmguard.action", "block")
        first.end()
    assert none.names == [*[f"first {number}" for number in range(4)], "of 4", "first 4"]
    assert none.keeping._bytes == 0


def test_a_trace_that_is_too_large_alone_is_forgotten(traces: Any) -> None:
    none = traces(0.0, max_bytes=10_000)
    first = none.tracer.start_span("first")
    none.tracer.start_span("of it", trace.set_span_in_context(first), attributes={"text": "x" * 20_000}).end()
    assert (len(none.keeping._waiting), none.keeping._bytes) == (0, 0)
    first.end()
    assert none.names == []


def test_what_is_remembered_is_bounded(traces: Any) -> None:
    none = traces(0.0)
    for _ in range(5000):
        none.tracer.start_span("x", attributes={"llmguard.action": "block"}).end()
    assert len(none.keeping._kept) <= 4096


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    script = """
import os, signal
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from llmguard.exporters.sampling import Keeping, Share
exporter = InMemorySpanExporter()
keeping = Keeping(SimpleSpanProcessor(exporter))
provider = TracerProvider(sampler=Share(0.0))
provider.add_span_processor(keeping)
tracer = provider.get_tracer("t")
with tracer.start_as_current_span("first"):
    tracer.start_span("of the parent").end()
    keeping._lock.acquire()  # as a thread of the parent's may have
    if (child := os.fork()) == 0:
        signal.alarm(60)
        tracer.start_span("of the child", attributes={"llmguard.action": "block"}).end()
        os._exit([span.name for span in exporter.get_finished_spans()] != ["of the child"])
    keeping._lock.release()
print(os.waitpid(child, 0)[1])
"""
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120)
    assert ran.stdout == "0\n"


@pytest.mark.parametrize("share", [-0.1, 1.1, "x", True, float("nan"), None])
def test_shares_that_are_none(share: Any) -> None:
    with pytest.raises(ConfigurationError, match="share must be from 0 to 1"):
        Share(share)


@pytest.mark.parametrize("options", [{"max_traces": 0}, {"max_spans": True}, {"max_bytes": 1.5}])
def test_options_that_are_none(options: Any) -> None:
    processor = BatchSpanProcessor(InMemorySpanExporter())
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Keeping(processor, **options)
    processor.shutdown()
    assert Share(0.5).get_description() == "Share(0.5)"
