from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import context, trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from telemetry_sdk import Sdk

from llmguard import Blocked, Guard, semconv, signals
from llmguard.dialects.wire import Body, Event, Usage
from llmguard.operation import IDLE, Operation
from llmguard.orphans import ORPHANS
from llmguard.telemetry import Prompt, Telemetry, TelemetrySettings
from llmguard.types import Role, Stage

SECRET = "canary secret 4111 1111 1111 1111"
PRICES = {"m-1": {"input": 10.0, "output": 20.0, "cached": 1.0}}
ANSWER = Body(model="m-1-0301", id="r-7", finish=("stop",), usage=Usage(100, 20, 40, 5))


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sdk]:
    for name in list(os.environ):
        if name.startswith(("OTEL_", "LLMGUARD_")):
            monkeypatch.delenv(name)
    with contextlib.closing(Sdk()) as made:
        yield made


def begin(telemetry: Telemetry, **more: Any) -> Operation:
    given: dict[str, Any] = {"address": "llm.example", "port": 8443} | more
    return telemetry.operation("openai", "chat", given.pop("model", "m-1"), **given)


def points(sdk: Sdk, row: signals.MetricRow) -> list[Any]:
    metric = sdk.metrics().get(row.name)
    return list(metric.data.data_points) if metric is not None else []


CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "m-1",
    "server.address": "llm.example",
    "server.port": 8443,
}


# The span.


def test_a_call_is_one_client_span(sdk: Sdk) -> None:
    call = begin(sdk.telemetry(), prompt=Prompt("greeting", "7", "b"), conversation="c-1")
    call.end(ANSWER, status=200)
    assert (sdk.span.name, sdk.span.kind, sdk.span.status.status_code) == (
        "chat m-1",
        trace.SpanKind.CLIENT,
        trace.StatusCode.UNSET,
    )
    assert sdk.attributes == CALL | {
        "gen_ai.conversation.id": "c-1",
        "llmguard.prompt.name": "greeting",
        "llmguard.prompt.version": "7",
        "llmguard.prompt.variant": "b",
        "gen_ai.response.id": "r-7",
        "gen_ai.response.model": "m-1-0301",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.reasoning.output_tokens": 5,
    }


def test_a_model_in_the_process_is_internal_and_may_have_no_name(sdk: Sdk) -> None:
    begin(sdk.telemetry(), model="", address="", port=None, in_process=True).end()
    assert (sdk.span.name, sdk.span.kind) == ("chat", trace.SpanKind.INTERNAL)
    assert sdk.attributes == {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}


def test_samplers_read_what_is_known_before_the_call() -> None:
    seen: list[dict[str, Any]] = []

    class Reads(Sampler):
        def should_sample(self, *args: Any, **more: Any) -> SamplingResult:
            seen.append(dict(more.get("attributes") or args[4]))
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "reads"

    begin(Sdk(sampler=Reads()).telemetry(), streaming=True, prompt=Prompt("p", "1")).end()
    expected = {"gen_ai.request.stream": True, "llmguard.prompt.name": "p", "llmguard.prompt.version": "1"}
    assert seen == [CALL | expected]


def test_the_span_is_beside_the_guards_and_current_only_when_asked(sdk: Sdk) -> None:
    telemetry = sdk.telemetry()
    with sdk.tracers.get_tracer("app").start_as_current_span("request") as request:
        call = begin(telemetry)
        assert trace.get_current_span() is request
        with call.current():
            assert trace.get_current_span() is call.span
        assert trace.get_current_span() is request
        call.end()
    assert sdk.spans[0].parent is not None
    assert sdk.spans[0].parent.span_id == request.get_span_context().span_id


def test_what_is_raised_inside_leaves_no_text_on_the_span(sdk: Sdk) -> None:
    call = begin(sdk.telemetry())
    with pytest.raises(ValueError, match="canary"), call.current():
        raise ValueError(SECRET)
    call.end(error=ValueError(SECRET))
    assert SECRET not in sdk.all_told()
    assert not sdk.span.events


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ({"error": TimeoutError(SECRET)}, "TimeoutError"),
        ({"error": json.JSONDecodeError(SECRET, "", 0)}, "json.decoder.JSONDecodeError"),
        ({"error": KeyboardInterrupt()}, "KeyboardInterrupt"),
        ({"error": "rate_limit_exceeded", "status": 429}, "rate_limit_exceeded"),
        ({"error": SECRET}, "_OTHER"),
        ({"status": 503}, "503"),
        ({"said": Body(error="context_length_exceeded"), "status": 400}, "context_length_exceeded"),
        ({"said": Body(error=SECRET), "status": 200}, "_OTHER"),
    ],
)
def test_a_failed_call_says_its_type(sdk: Sdk, ended: dict[str, Any], expected: str) -> None:
    begin(sdk.telemetry()).end(**ended)
    assert sdk.attributes["error.type"] == expected
    assert sdk.span.status.status_code is trace.StatusCode.ERROR
    assert sdk.span.status.description is None
    (point,) = points(sdk, signals.CALL_DURATION)
    assert point.attributes["error.type"] == expected
    assert sdk.events("gen_ai.client.operation.exception") == [CALL | {"exception.type": expected}]
    assert SECRET not in sdk.all_told()


def blocked() -> Blocked:
    guard = Guard({"rules": [{"detector": "pii", "action": "block"}]})
    return Blocked(guard.check("bob@example.com"))


@pytest.mark.parametrize(
    "error", [GeneratorExit(), asyncio.CancelledError(), blocked()], ids=lambda e: type(e).__name__
)
def test_a_call_that_is_given_up_is_abandoned_and_no_error(sdk: Sdk, error: BaseException) -> None:
    call = begin(sdk.telemetry(), streaming=True)
    call.heard(Event(usage=Usage(9, 1)))
    call.end(error=error)
    assert sdk.attributes["error.type"] == "abandoned"
    assert sdk.span.status.status_code is trace.StatusCode.UNSET
    assert sdk.attributes["gen_ai.usage.input_tokens"] == 9  # what was spent is told all the same
    assert not sdk.events("gen_ai.client.operation.exception")


def test_counts_of_single_events_are_added_up(sdk: Sdk) -> None:
    call = begin(sdk.telemetry(), streaming=True)
    for output in (2, 3, None, 1):
        call.heard(Event(usage=Usage(9, output, further=True)))
    call.end()
    assert sdk.attributes["gen_ai.usage.input_tokens"] == 9
    assert sdk.attributes["gen_ai.usage.output_tokens"] == 6


def test_only_the_first_end_counts(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    call = begin(sdk.telemetry(), streaming=True)
    threads = [threading.Thread(target=call.end, args=(ANSWER,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    call.abandon()
    call.end(error=ValueError())
    call.chunk()
    call.heard(ANSWER)
    del call
    ORPHANS.flush()
    assert len(sdk.spans) == 1
    assert "error.type" not in sdk.attributes
    (point,) = points(sdk, signals.CALL_DURATION)
    assert point.count == 1
    assert not caplog.records


def test_the_time_of_a_check_is_no_time_of_the_call(sdk: Sdk) -> None:
    telemetry, before = sdk.telemetry(), time.perf_counter()
    call = begin(telemetry)
    call.stop()
    most, there = time.perf_counter() - before, time.time_ns()
    threading.Event().wait(0.5)  # the check
    call.end(ANSWER)
    (point,) = points(sdk, signals.CALL_DURATION)
    assert point.sum <= most
    assert sdk.span.end_time is not None
    assert sdk.span.end_time < there + 400_000_000


def test_a_call_whose_answer_was_there_is_not_abandoned(sdk: Sdk) -> None:
    call = begin(sdk.telemetry())
    call.heard(ANSWER)
    call.stop()
    call.abandon()
    assert "error.type" not in sdk.attributes


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("api.example.com", "api.example.com"),
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "[::1]"),
        ("/run/model.sock", "/run/model.sock"),
        ("https://me:s3cret@api.example.com/v1", "other"),
        ("api.example.com?key=s3cret", "other"),
        (SECRET, "other"),
    ],
)
def test_an_address_is_told_without_secrets(sdk: Sdk, address: str, told: str) -> None:
    begin(sdk.telemetry(), address=address).end()
    assert sdk.attributes["server.address"] == told
    assert "s3cret" not in sdk.all_told()


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("claude-3@20240229", "claude-3@20240229"),
        ("arn:aws:bedrock:us-east-1::foundation-model/x", "arn:aws:bedrock:us-east-1::foundation-model/x"),
        ("ada@example.com", "other"),
        ("tell me, of ada@mail.example.org", "other"),
        ("x" * 129, "other"),
    ],
)
def test_a_persons_address_is_no_name_of_a_model(sdk: Sdk, model: str, told: str) -> None:
    begin(sdk.telemetry(), model=model).end()
    assert sdk.attributes["gen_ai.request.model"] == told


def test_a_model_that_is_no_text_breaks_nothing(sdk: Sdk) -> None:
    telemetry = sdk.telemetry()
    begin(telemetry, model=5).end(ANSWER)
    assert telemetry.errors == {"spans": 1}


# Streams, and every way in which they end.


def stream(call: Operation) -> Iterator[int]:
    try:
        for index in range(5):
            call.chunk()
            yield index
    except BaseException as error:
        call.end(error=error)
        raise
    call.end(ANSWER)


async def astream(call: Operation, source: asyncio.Event | None = None) -> AsyncIterator[int]:
    try:
        for index in range(5):
            if source is not None and index:
                await source.wait()
            call.chunk()
            yield index
    except BaseException as error:
        call.end(error=error)
        raise
    call.end(ANSWER)


def test_a_stream_tells_its_chunks(sdk: Sdk) -> None:
    call = begin(sdk.telemetry(), streaming=True)
    assert list(stream(call)) == [0, 1, 2, 3, 4]
    (first,) = points(sdk, signals.TIME_TO_FIRST_CHUNK)
    (gaps,) = points(sdk, signals.TIME_PER_OUTPUT_CHUNK)
    (whole,) = points(sdk, signals.CALL_DURATION)
    assert (first.count, gaps.count, whole.count) == (1, 4, 1)
    assert dict(first.attributes) == dict(gaps.attributes) == CALL
    assert first.sum + gaps.sum <= whole.sum
    assert sdk.attributes["gen_ai.response.time_to_first_chunk"] == first.sum
    assert sdk.attributes["gen_ai.request.stream"] is True


def test_a_long_stream_keeps_few_times(sdk: Sdk) -> None:
    call = begin(sdk.telemetry(), streaming=True)
    for _ in range(5000):
        call.chunk()
        assert len(call._gaps) < 513
    call.end()
    (gaps,) = points(sdk, signals.TIME_PER_OUTPUT_CHUNK)
    assert gaps.count == 4999


def test_a_call_that_does_not_stream_has_no_chunks(sdk: Sdk) -> None:
    call = begin(sdk.telemetry())
    call.chunk()
    call.chunk()
    call.end()
    assert not points(sdk, signals.TIME_TO_FIRST_CHUNK)
    assert not points(sdk, signals.TIME_PER_OUTPUT_CHUNK)


def test_a_broken_off_stream_ends_its_span(sdk: Sdk) -> None:
    reading = stream(begin(sdk.telemetry(), streaming=True))
    assert next(reading) == 0
    del reading
    assert sdk.attributes["error.type"] == "abandoned"


async def test_a_cancelled_stream_ends_its_span(sdk: Sdk) -> None:
    first = asyncio.Event()

    async def read() -> None:
        async for _ in astream(begin(sdk.telemetry(), streaming=True), asyncio.Event()):
            first.set()

    task = asyncio.create_task(read())
    await first.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sdk.attributes["error.type"] == "abandoned"


async def test_a_stream_may_be_closed_in_another_task(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    call = begin(sdk.telemetry(), streaming=True)
    reading = astream(call)
    assert await asyncio.create_task(anext(reading)) == 0  # type: ignore[arg-type]
    await asyncio.create_task(reading.aclose())  # type: ignore[attr-defined]
    assert len(sdk.spans) == 1
    assert not caplog.records


def test_a_dropped_call_is_abandoned_by_the_collector(sdk: Sdk) -> None:
    telemetry = sdk.telemetry(prices=PRICES)
    loop: list[Any] = [begin(telemetry, streaming=True)]
    loop[0].heard(Event(usage=Usage(100, 0)))
    loop.append(loop)
    assert not sdk.spans
    del loop
    gc.collect()
    ORPHANS.flush()
    assert sdk.attributes["error.type"] == "abandoned"
    assert points(sdk, signals.COST)[0].value == pytest.approx(0.001)


def test_a_call_collected_while_a_span_is_exported_waits_for_nobody(sdk: Sdk) -> None:
    # The exporter holds its lock and the collector strikes: to end a span there would wait for that lock for ever.
    telemetry = sdk.telemetry()
    with sdk.span_exporter._lock:
        begin(telemetry).chunk()  # dropped at once, on this thread
    ORPHANS.flush(60)
    assert sdk.attributes["error.type"] == "abandoned"


_FORKS = """
import os, sys
from telemetry_sdk import Sdk
from llmguard.orphans import ORPHANS

sdk = Sdk()
telemetry = sdk.telemetry()
telemetry.operation("openai", "chat", "m").end()
pid = os.fork()
if pid == 0:
    telemetry.operation("openai", "chat", "m").chunk()  # dropped
    ORPHANS.flush(60)
    os._exit(0 if len(sdk.spans) == 2 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_call_that_a_forked_child_drops_is_ended_there() -> None:
    support = str(Path(__file__).parent / "support")
    path = os.pathsep.join([support, *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKS], env=os.environ | {"PYTHONPATH": path}, timeout=120, check=False
    )
    assert done.returncode == 0


# Metrics.


def test_tokens_and_durations_have_the_conventions_labels_and_buckets(sdk: Sdk) -> None:
    begin(sdk.telemetry()).end(ANSWER, status=200)
    answered = CALL | {"gen_ai.response.model": "m-1-0301"}
    seen = sdk.metrics()  # exemplars are told once
    (duration,) = seen["gen_ai.client.operation.duration"].data.data_points
    assert (dict(duration.attributes), duration.explicit_bounds) == (answered, signals.CALL_DURATION.buckets)
    tokens = {p.attributes["gen_ai.token.type"]: p for p in seen["gen_ai.client.token.usage"].data.data_points}
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 100, "output": 20}
    assert dict(tokens["input"].attributes) == answered | {"gen_ai.token.type": "input"}
    assert tokens["input"].explicit_bounds == signals.TOKEN_USAGE.buckets
    assert "llmguard.cost" not in seen
    span = sdk.span.get_span_context()
    assert span is not None
    for point in (duration, *tokens.values()):
        assert [(e.trace_id, e.span_id) for e in point.exemplars] == [(span.trace_id, span.span_id)]


NO_COUNTS: Any = ("4", 2**80)


@pytest.mark.parametrize(
    "usage",
    [None, Usage(), Usage(-1, True), Usage(*NO_COUNTS)],
    ids=["none", "empty", "negative", "no counts"],
)
def test_unknown_usage_is_not_reported(sdk: Sdk, usage: Usage | None) -> None:
    telemetry = sdk.telemetry(prices=PRICES)
    begin(telemetry).end(Body(usage=usage))
    assert not points(sdk, signals.TOKEN_USAGE)
    assert not points(sdk, signals.COST)
    assert not telemetry.errors


def test_usage_grows_while_the_stream_goes_on(sdk: Sdk) -> None:
    call = begin(sdk.telemetry(), streaming=True)
    call.heard(Event(id="r-1", model="m-1", usage=Usage(25, 1)))
    call.heard(Event(finish=("end_turn",)))
    call.heard(Event(usage=Usage(output=15)))
    call.end()
    said = sdk.attributes
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (25, 15)
    assert (said["gen_ai.response.id"], said["gen_ai.response.finish_reasons"]) == ("r-1", ("end_turn",))


def test_cost_goes_by_model_and_prompt_version(sdk: Sdk) -> None:
    telemetry = sdk.telemetry(prices=PRICES)
    for version in ("1", "2", "2"):
        begin(telemetry, prompt=Prompt("p", version)).end(ANSWER)
    begin(telemetry, model="unknown").end(Body(usage=Usage(1, 1)))
    each = (60 * 10 + 40 * 1 + 20 * 20) / 1_000_000
    assert sdk.sums(signals.COST) == {("m-1", "1"): pytest.approx(each), ("m-1", "2"): pytest.approx(2 * each)}
    assert sdk.metrics()["llmguard.cost"].data.is_monotonic
    assert sdk.metrics()["llmguard.cost"].unit == "{USD}"


def test_labels_from_callers_and_servers_are_bounded(sdk: Sdk) -> None:
    telemetry = sdk.telemetry(prices={"*": {"input": 1.0}})
    for index in range(130):
        call = begin(telemetry, model=f"m{index}", address=f"h{index}", port=index + 1, prompt=Prompt("p", str(index)))
        call.end(Body(error=f"e{index}", model=f"m{index}", usage=Usage(1, 1)))
    durations = points(sdk, signals.CALL_DURATION)
    assert len(durations) == 101
    last = next(p for p in durations if p.attributes["gen_ai.request.model"] == "other")
    assert dict(last.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "other",
        "gen_ai.response.model": "other",
        "server.address": "other",
        "error.type": "other",
    }
    assert len(points(sdk, signals.COST)) == 101


def test_labels_are_those_of_the_tables(sdk: Sdk) -> None:
    telemetry = sdk.telemetry(prices=PRICES, content="SPAN_AND_EVENT")
    call = begin(telemetry, streaming=True, prompt=Prompt("p", "1"), conversation="c")
    list(stream(call))
    begin(telemetry).end(error=ValueError())
    for name, metric in sdk.metrics().items():
        (row,) = [row for row in signals.METRICS if row.name == name]
        assert (metric.unit, metric.description) == (row.unit, row.description)
        for point in metric.data.data_points:
            assert set(point.attributes) <= set(row.attributes)
    row = next(row for row in signals.SPANS if row.name.startswith("{gen_ai"))  # type: ignore[assignment]
    for span in sdk.spans:
        assert set(span.attributes or {}) <= set(row.attributes)
    rows = {row.name: row for row in signals.EVENTS}
    for data in sdk.log_exporter.get_finished_logs():
        record = data.log_record
        assert set(record.attributes or {}) <= set(rows[str(record.event_name)].attributes)
        assert record.severity_text == rows[str(record.event_name)].severity


def test_metrics_do_not_need_the_span_to_be_sampled() -> None:
    sdk = Sdk(sampler=ALWAYS_OFF)
    begin(sdk.telemetry()).end(ANSWER)
    assert not sdk.spans
    assert points(sdk, signals.CALL_DURATION)


# Content.

GUARD = Guard({"rules": [{"detector": "pii", "action": "redact"}]})


@pytest.mark.parametrize("mode", ["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"])
def test_cleared_texts_leave_only_where_asked_for(sdk: Sdk, mode: str) -> None:
    call = begin(sdk.telemetry(content=mode))
    call.show(GUARD.check("mail bob@example.com"), (Role.SYSTEM,))
    call.show(GUARD.check("hello", stage=Stage.OUTPUT))
    call.end(ANSWER)
    assert "bob@" not in sdk.all_told()
    assert ("hello" in sdk.attributes.get("gen_ai.output.messages", "")) is ("SPAN" in mode)
    told = sdk.events("gen_ai.client.inference.operation.details")
    assert len(told) == ("EVENT" in mode)
    for event in told:
        assert event["gen_ai.input.messages"][0]["role"] == "system"
        assert event["gen_ai.response.id"] == "r-7"
    if "SPAN" in mode:
        (asked,) = json.loads(sdk.attributes["gen_ai.input.messages"])
        assert asked["parts"][0]["content"].startswith("mail <")


def test_what_was_not_cleared_does_not_leave(sdk: Sdk) -> None:
    call = begin(sdk.telemetry(content="SPAN_AND_EVENT"))
    shadow = Guard({"mode": "shadow", "rules": [{"detector": "pii", "action": "redact"}]})
    call.show(shadow.check("mail bob@example.com"))
    call.end()
    assert "bob@" not in sdk.all_told()


ODD = st.text() | st.just(SECRET)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=ODD, answered=ODD, response=ODD, finish=st.lists(ODD, max_size=3), error=ODD)
def test_a_text_in_place_of_a_name_is_told_nowhere(
    sdk: Sdk, model: str, answered: str, response: str, finish: list[str], error: str
) -> None:
    marked = [f"{SECRET} {text}" for text in (model, answered, response, error)]
    telemetry = sdk.telemetry(content="SPAN_AND_EVENT", prices={"*": {"input": 1.0}})
    call = telemetry.operation("openai", "chat", marked[0])
    said = Body(model=marked[1], id=marked[2], finish=(*finish, SECRET), usage=Usage(1, 1), error=marked[3])
    call.end(said, status=500)
    assert SECRET not in sdk.all_told()
    assert not telemetry.errors
    sdk.span_exporter.clear()
    sdk.log_exporter.clear()


# Beside other instrumentations.


class Instrumentor(BaseInstrumentor):  # type: ignore[misc]
    """As an instrumentation of a client has it; some forget their options when they are made again."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def instrumentation_dependencies(self) -> Collection[str]:
        return []

    def _instrument(self, **_: Any) -> None: ...
    def _uninstrument(self, **_: Any) -> None: ...


@pytest.fixture
def instrumentor(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[BaseInstrumentor]:
    module = ModuleType(request.param)
    module.OpenAIInstrumentor = Instrumentor  # type: ignore[attr-defined]
    module.BaseInstrumentor = BaseInstrumentor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, request.param, module)
    active = Instrumentor()
    active.instrument()
    yield active
    if active.is_instrumented_by_opentelemetry:
        active.uninstrument()


@pytest.mark.parametrize(
    "instrumentor",
    [
        "opentelemetry.instrumentation.genai.openai",
        "opentelemetry.instrumentation.openai_v2",
        "opentelemetry.instrumentation.openai",
        "openinference.instrumentation.openai",
    ],
    indirect=True,
)
def test_an_active_instrumentation_of_the_client_owns_the_span(sdk: Sdk, instrumentor: BaseInstrumentor) -> None:
    telemetry, before = sdk.telemetry(prices=PRICES), Instrumentor.made
    begin(telemetry, client="openai").end(ANSWER)
    assert not sdk.spans
    assert set(sdk.metrics()) == {"llmguard.cost"}  # which nobody else tells
    begin(telemetry, client="anthropic").end()
    begin(telemetry).end()  # by no client of this process, as in a proxy
    begin(sdk.telemetry(inference_span="always"), client="openai").end()
    assert len(sdk.spans) == 3
    instrumentor.uninstrument()
    begin(telemetry, client="openai").end()
    assert len(sdk.spans) == 4
    assert Instrumentor.made == before


@pytest.mark.parametrize(
    ("attributes", "owned"),
    [
        ({"gen_ai.operation.name": "chat"}, False),
        ({"gen_ai.operation.name": "invoke_agent"}, True),
        ({"gen_ai.operation.name": "embeddings"}, True),
        ({"openinference.span.kind": "LLM"}, False),
        ({"openinference.span.kind": "AGENT"}, True),
        ({"llm.request.type": "chat"}, False),
        ({"http.route": "/chat"}, True),
    ],
)
def test_a_call_inside_the_span_of_another_inference_has_none(
    sdk: Sdk, attributes: dict[str, str], owned: bool
) -> None:
    with sdk.tracers.get_tracer("other").start_as_current_span("outer", attributes=attributes) as outer:
        call = begin(sdk.telemetry())
        with call.current():
            assert (trace.get_current_span() is outer) is not owned
        assert (call.span is outer) is not owned
        call.end(ANSWER)
    assert len(sdk.spans) == 1 + owned
    assert bool(points(sdk, signals.CALL_DURATION)) is owned


def test_a_call_inside_an_unsampled_inference_has_none(sdk: Sdk) -> None:
    token = context.attach(context.set_value("opentelemetry.genai.client.inference.context", object()))
    try:
        begin(sdk.telemetry()).end()
    finally:
        context.detach(token)
    assert not sdk.spans


def test_guards_tell_all_the_same_where_calls_are_told_elsewhere(sdk: Sdk) -> None:
    guard = Guard(
        {"rules": [{"detector": "pii", "action": "redact"}]},
        telemetry=TelemetrySettings(inference_span="never"),
        tracer_provider=sdk.tracers,
        meter_provider=sdk.meters,
        logger_provider=sdk.loggers,
    )
    guard.check("hello")
    begin(guard._telemetry).end(ANSWER)
    assert [span.name for span in sdk.spans] == ["llmguard.guard input"]


# Telemetry never breaks a call, and can be left out.


def test_disabled_telemetry_says_nothing(sdk: Sdk) -> None:
    telemetry = sdk.telemetry(enabled=False, prices=PRICES)
    call = begin(telemetry, streaming=True, prompt=Prompt("p", "1"))
    assert call is IDLE
    with sdk.tracers.get_tracer("app").start_as_current_span("request") as request, call.current():
        assert call.span is trace.get_current_span() is request
    list(stream(call))
    call.show(GUARD.check("hello"))
    call.stop()
    call.abandon()
    call.end(error=ValueError())
    assert [span.name for span in sdk.spans] == ["request"]
    assert not sdk.metrics()


class Broken:
    """A provider that gives a tracer, a meter or a logger, each of whose calls raises."""

    def get_tracer(self, *_: object, **__: object) -> Broken:
        return self

    get_meter = get_logger = get_tracer

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(SECRET)


@pytest.mark.parametrize("component", ["spans", "metrics", "events"])
def test_a_broken_provider_breaks_nothing(sdk: Sdk, component: str, caplog: pytest.LogCaptureFixture) -> None:
    broken: Any = Broken()
    telemetry = Telemetry(
        TelemetrySettings(content="SPAN_AND_EVENT", prices=PRICES),
        tracer_provider=broken if component == "spans" else sdk.tracers,
        meter_provider=broken if component == "metrics" else sdk.meters,
        logger_provider=broken if component == "events" else sdk.loggers,
    )
    call = begin(telemetry, streaming=True)
    list(stream(call))
    begin(telemetry).end(error=ValueError(SECRET))
    odd: Any = object()
    begin(telemetry).heard(odd)
    begin(telemetry).show(odd)
    assert set(telemetry.errors) >= {component}
    assert SECRET not in caplog.text
    if component != "spans":
        assert len(sdk.spans) >= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inference_span": "on"}, "always"),
        ({"prices": 3}, "a price table maps models"),
        ({"prices": "/no/such/file.yaml"}, r"telemetry\.prices: .*can't be read"),
        ({"prices": {"m": {}}}, r"telemetry\.prices: m\.input is missing"),
    ],
)
def test_wrong_settings_say_what_would_be_right(options: dict[str, object], message: str) -> None:
    from llmguard.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match=message):
        TelemetrySettings.parse(options, source="policy.yaml")


def test_the_environment_names_a_price_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(PRICES), encoding="utf-8")
    monkeypatch.setenv("LLMGUARD_TELEMETRY_PRICES", str(file))
    monkeypatch.setenv("LLMGUARD_TELEMETRY_INFERENCE_SPAN", "never")
    said = TelemetrySettings.from_env()
    assert said.price_table is not None
    assert (len(said.price_table), said.inference_span) == (1, "never")
    assert semconv.SCOPE == "llmguard"
