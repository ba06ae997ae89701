"""Helpers for the tests of those who use llmguard: check a detector, fake one, catch the telemetry."""

from __future__ import annotations

import contextlib
import functools
import pickle
import random
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmguard.detectors.growth import BrokenPromise, check_growth
from llmguard.detectors.names import check_categories
from llmguard.detectors.registry import validate
from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.types import Detector, Finding, Scope, Text

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

__all__ = ["HOSTILE_TEXTS", "Captured", "FakeDetector", "capture", "check_detector"]

_THREADS = 8
_TOLERANCE = 1e-3
_Found = list[list[Finding]]

#: Texts that have broken detectors, by what is special about them. None holds a lone surrogate: a
#: guard replaces those before a detector sees them.
HOSTILE_TEXTS: Mapping[str, str] = {
    "empty": "",
    "one space": " ",
    "plain": "My card is 4111 1111 1111 1111, my key is AKIAIOSFODNN7EXAMPLE, write to ada@example.com.",
    "NUL": "ada\0@example.com\0",
    "controls": "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029",
    "combining flood": "a" + "\u0301\u0316\u0334" * 2_000,
    "right to left": "\u202eתשלום\u202c אל ada@example.com \u2066دفع\u2069",
    "astral": "🏴󠁧󠁢󠁥󠁮󠁧󠁿👩‍👩‍👧‍👦 𝐢𝐠𝐧𝐨𝐫𝐞 𝟒𝟏𝟏𝟏 ada@example.com 🂡",
    "grows when folded": "ŉ ß İ ﬀ ﷺ ǰ ΐ ｶﾞ ㍿",
    "zero width": "\u200bi\u200dg\u2060n\ufeffo\u00adre",
    "noncharacters": "\ufffe\uffff\U0010ffff\ufffd\ue000",
    "white space": " \t\r\n\u00a0\u3000" * 500,
    "punctuation": "@@@@....----((((<<<<''''\"\"\"\"////" * 50,
    "digits": "4111-1111 " * 300,
    "long line": "The quick brown fox writes to ada@example.com from 192.168.10.24. " * 1_500,
}


def check_detector(detector: Detector, *, texts: Iterable[str] = ()) -> None:
    """Whether a detector keeps the promises that every detector makes.

    As many answers as texts; categories from the declared set; finite scores in [0, 1]; spans inside
    the text; a text's findings independent of its neighbours, of their order and of earlier calls;
    the same from eight threads at once and from a pickled copy. Scores of detectors that are not inline may
    differ by a thousandth. One with ``settled`` and ``context`` (`types.Incremental`) keeps both for every sample, cut
    in dozens of places and continued in a dozen ways.

    Args:
        detector: any.
        texts: samples of your own, best ones in which it finds something; checked beside ``HOSTILE_TEXTS``.

    Raises:
        AssertionError: it breaks one; the message says which, and on which sample, but shows no text.
    """
    try:
        validate(detector)
    except ConfigurationError as error:
        raise AssertionError(str(error)) from None
    samples = {**HOSTILE_TEXTS, **{f"texts[{index}]": text for index, text in enumerate(texts)}}
    names = list(samples)
    batch = [Text(samples[name]) for name in names]
    alone = [_detect(detector, [text], f"sample {name!r}: ")[0] for name, text in zip(names, batch, strict=True)]
    for name, text, findings in zip(names, batch, alone, strict=True):
        _check_findings(detector, name, text.content, findings)
    first = _detect(detector, batch)
    _same(detector, names, first, alone, "alone it differs from its findings in a batch")
    _same(detector, names, first, _detect(detector, batch), "the second call differs from the first")
    _ensure(_detect(detector, []) == [], detector, "an empty batch must give an empty list")
    backwards = _detect(detector, batch[::-1])[::-1]
    _same(detector, names, first, backwards, "its findings depend on the order of the batch")
    doubled = _detect(detector, batch + batch)
    _same(detector, names, first, doubled[len(batch) :], "its findings depend on the texts before it")
    _check_threads(detector, names, batch, first)
    try:
        copy = pickle.loads(pickle.dumps(detector))  # noqa: S301 - our own bytes
    except Exception as error:
        raise AssertionError(f"detector {detector.name!r} does not pickle: {type(error).__name__}") from error
    _same(detector, names, first, _detect(copy, batch), "a pickled copy differs")
    for name, sample in samples.items():
        _check_growth(detector, name, sample)


def _detect(detector: Detector, batch: Sequence[Text], where: str = "") -> _Found:
    try:
        answer = detector.detect(batch)
    except Exception as error:
        raise AssertionError(f"detector {detector.name!r}: {where}detect raised {type(error).__name__}") from error
    sized = isinstance(answer, Sequence) and not isinstance(answer, str)
    _ensure(sized, detector, f"detect must return a list of lists, not {type(answer).__name__}")
    _ensure(len(answer) == len(batch), detector, f"{len(answer)} answers for {len(batch)} texts")
    for findings in answer:
        listed = isinstance(findings, Sequence) and not isinstance(findings, str)
        _ensure(listed, detector, f"each text's answer must be a list, not {type(findings).__name__}")
    return [list(findings) for findings in answer]


def _check_findings(detector: Detector, name: str, content: str, findings: Sequence[Any]) -> None:
    for finding in findings:
        _ensure(isinstance(finding, Finding), detector, f"sample {name!r}: {type(finding).__name__} is no Finding")
        category, score, span = finding.category, finding.score, finding.span
        _ensure(category in detector.categories, detector, f"sample {name!r}: {category!r} is not in its categories")
        number = isinstance(score, int | float) and not isinstance(score, bool)
        _ensure(number, detector, f"sample {name!r}: the score of {category} must be a number")
        _ensure(0.0 <= score <= 1.0, detector, f"sample {name!r}: the score {score} of {category} is outside [0, 1]")
        if span is not None:
            whole = isinstance(span, tuple) and len(span) == 2 and all(type(edge) is int for edge in span)
            _ensure(whole, detector, f"sample {name!r}: the span of {category} must be a pair of ints")
            inside = 0 <= span[0] < span[1] <= len(content)
            _ensure(inside, detector, f"sample {name!r}: span {span} is empty or outside [0, {len(content)})")
        words = isinstance(finding.reasons, tuple) and all(isinstance(reason, str) for reason in finding.reasons)
        _ensure(words, detector, f"sample {name!r}: the reasons of {category} must be a tuple of strings")


def _check_growth(detector: Detector, name: str, text: str) -> None:
    try:
        check_growth(detector, text)
    except BrokenPromise as broken:
        raise AssertionError(f"detector {detector.name!r}: sample {name!r}: {broken}") from None
    except Exception as error:
        raise AssertionError(
            f"detector {detector.name!r}: sample {name!r}: settled or context raised {type(error).__name__}"
        ) from error


def _check_threads(detector: Detector, names: list[str], batch: list[Text], first: _Found) -> None:
    barrier = threading.Barrier(_THREADS)

    def work(number: int) -> _Found:
        order = list(range(len(batch)))
        random.Random(number).shuffle(order)  # noqa: S311 - not for secrets
        barrier.wait()
        answers = dict(zip(order, _detect(detector, [batch[index] for index in order]), strict=True))
        return [answers[index] for index in range(len(batch))]

    with ThreadPoolExecutor(_THREADS) as pool:
        for found in pool.map(work, range(_THREADS)):
            _same(detector, names, first, found, "with eight threads at once it differs")


def _same(detector: Detector, names: list[str], first: _Found, second: _Found, problem: str) -> None:
    for name, before, after in zip(names, first, second, strict=True):
        _ensure(_equal(detector, before, after), detector, f"sample {name!r}: {problem}")


def _equal(detector: Detector, before: list[Finding], after: list[Finding]) -> bool:
    """Whether two answers are the same; the last digits of a model's scores may depend on the shape of its batch."""
    if detector.inline or len(before) != len(after):
        return before == after
    return all(
        abs(one.score - other.score) <= _TOLERANCE and replace(one, score=0.0) == replace(other, score=0.0)
        for one, other in zip(before, after, strict=True)
    )


def _ensure(condition: bool, detector: Detector, problem: str) -> None:
    if not condition:
        raise AssertionError(f"detector {detector.name!r}: {problem}")


class FakeDetector:
    """A detector that does what a test wants: find, fail, lie or hang.

    Args:
        name: in policies and telemetry.
        find: a string whose every occurrence is found as ``category``; a mapping from strings to
            categories; a function from a text's content to findings; or None to find nothing.
        category: of what a string finds.
        score: of what strings find; ``float("nan")`` makes a liar of it.
        raises: raised by ``detect``.
        answer: returned by ``detect`` as it is, whatever the texts.
        hang: whether ``detect`` waits until ``release`` is called.
        inline: whether it may run on the caller's thread.
        scope, version: as every detector has them.
        categories: the closed set; by default those that ``find`` and ``category`` name.

    Attributes:
        calls: how many times ``detect`` was called.
        texts: the contents that it was given, in order.
        entered: set once ``detect`` was called.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        find: str | Mapping[str, str] | Callable[[str], Iterable[Finding]] | None = None,
        category: str = "FAKE",
        score: float = 1.0,
        raises: BaseException | None = None,
        answer: Any = ...,
        hang: bool = False,
        inline: bool = True,
        scope: Scope = Scope.SPAN,
        version: str = "1",
        categories: Iterable[str] = (),
    ) -> None:
        self._options = {key: value for key, value in locals().items() if key != "self"}
        self.name, self.version, self.scope, self.inline = name, version, scope, inline
        self._needles = {find: category} if isinstance(find, str) else find if isinstance(find, Mapping) else {}
        self._function = find if callable(find) else None
        self.categories = check_categories([*categories] or {category, *self._needles.values()})
        self._score, self._raises, self._answer = score, raises, answer
        self._lock, self._gate, self.entered = threading.Lock(), threading.Event(), threading.Event()
        if not hang:
            self._gate.set()
        self.calls, self.texts = 0, list[str]()

    def release(self) -> None:
        """Let every ``detect`` that hangs go on, and no later one hang."""
        self._gate.set()

    def detect(self, texts: Sequence[Text]) -> Any:
        """What the arguments say."""
        with self._lock:
            self.calls += 1
            self.texts += [text.content for text in texts]
        self.entered.set()
        self._gate.wait()
        if self._raises is not None:
            raise self._raises
        if self._answer is not ...:
            return self._answer
        return [self._find(text.content) for text in texts]

    def _find(self, content: str) -> list[Finding]:
        if self._function is not None:
            return list(self._function(content))
        return [
            Finding(category, self._score, match.span())
            for needle, category in self._needles.items()
            for match in re.finditer(re.escape(needle), content)
        ]

    def __reduce__(self) -> Any:
        return functools.partial(FakeDetector, **self._options), ()


@dataclass(slots=True)
class Captured:
    """The telemetry of one `capture` block, readable inside it and after it.

    Attributes:
        tracer_provider, meter_provider, logger_provider: give them to ``Guard`` as its arguments of these names.
    """

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    logger_provider: LoggerProvider
    _spans: Any
    _reader: Any
    _logs: Any
    _last: dict[str, list[Any]] | None = None

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in that order."""
        return tuple(self._spans.get_finished_spans())

    @property
    def logs(self) -> tuple[Any, ...]:
        """The log records, events among them, in order."""
        return tuple(entry.log_record for entry in self._logs.get_finished_logs())

    def metrics(self) -> dict[str, list[Any]]:
        """The data points of each metric by its name, cumulative from the start of the block."""
        if self._last is not None:
            return self._last
        found: dict[str, list[Any]] = {}
        data = self._reader.get_metrics_data()
        scopes = (scope for resource in (data.resource_metrics if data else ()) for scope in resource.scope_metrics)
        for metric in (metric for scope in scopes for metric in scope.metrics):
            found.setdefault(metric.name, []).extend(metric.data.data_points)
        return found

    def close(self) -> None:
        """Stop catching; what was caught stays readable."""
        self._last = self.metrics()
        for provider in (self.tracer_provider, self.meter_provider, self.logger_provider):
            provider.shutdown()


@contextlib.contextmanager
def capture() -> Iterator[Captured]:
    """Catches spans, metrics and log records in memory, and leaves the global providers alone.

    Raises:
        MissingExtraError: opentelemetry-sdk is not installed.
    """
    try:
        import opentelemetry.sdk._logs.export as log_export
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    except ImportError:
        raise MissingExtraError("llmguard.testing.capture", "opentelemetry.sdk", "otel") from None
    # Newer SDKs have renamed it.
    exporter = getattr(log_export, "InMemoryLogRecordExporter", None) or log_export.InMemoryLogExporter
    spans, reader, logs = InMemorySpanExporter(), InMemoryMetricReader(), exporter()
    tracers = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(log_export.SimpleLogRecordProcessor(logs))
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    captured = Captured(tracers, meters, loggers, spans, reader, logs)
    try:
        yield captured
    finally:
        captured.close()
