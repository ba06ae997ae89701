"""That records leave in batches, that nothing an exporter does reaches a caller, and that no text leaves."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from fakes import Broken, Words
from records import Kept, Refusing, Waiting
from telemetry_sdk import Sdk

from llmguard import ConfigurationError, Guard
from llmguard.exporters import processor as processors
from llmguard.exporters.processor import Counts, Processor
from llmguard.exporters.untraced import untraced
from llmguard.signals import ERRORS
from llmguard.types import Observation

SECRET = "canary-4711"
SEEN = Observation(None, model="m", at=1.0)
LONG = 3600.0


def test_a_guard_that_exports() -> None:
    kept = Kept()
    processor = Processor(kept, delay_s=LONG)
    with (
        Guard(
            {"name": "p", "version": "7", "rules": [{"detector": "words", "action": "redact"}]},
            detectors=[Words("words", SECRET)],
            monitors=[processor],
        ) as guard,
        guard.tenant("acme"),
    ):
        guard.check(f"a {SECRET}")
    assert processor.force_flush()
    (one,) = kept.records
    assert (one.action, one.policy.version, one.tenant) == ("redact", "7", "acme")
    assert processor.counts == Counts(1)


def test_a_full_batch_does_not_wait() -> None:
    waiting = Waiting()
    processor = Processor(waiting, max_batch=3, max_queue=10, delay_s=LONG)
    for _ in range(3):
        processor.observe(SEEN)
    assert waiting.entered.wait(30)
    waiting.go.set()
    assert processor.shutdown()
    assert [len(batch) for batch in waiting.batches] == [3]


def test_what_comes_while_the_queue_is_full_is_dropped_and_counted() -> None:
    waiting = Waiting()
    told: list[str] = []
    processor = Processor(waiting, max_batch=1, max_queue=2, delay_s=LONG)
    processor.on_failure(lambda component, error: told.append(f"{component} {type(error).__name__}"))
    processor.observe(SEEN)
    assert waiting.entered.wait(30)
    for _ in range(5):
        processor.observe(SEEN)
    assert told == ["exporter Full"] * 3
    waiting.go.set()
    assert processor.shutdown()
    assert processor.counts == Counts(exported=3, dropped=3)


def test_a_refused_batch_comes_again() -> None:
    refusing = Refusing(2)
    processor = Processor(refusing, delay_s=LONG)
    processor.observe(SEEN)
    assert [processor.force_flush() for _ in range(3)] == [False, False, True]
    assert (len(refusing.records), processor.counts) == (1, Counts(exported=1, failures=2))


def test_a_batch_that_is_refused_five_times_is_lost_and_the_next_one_is_not() -> None:
    refusing = Refusing(5)
    processor = Processor(refusing, max_batch=1, max_queue=4, delay_s=LONG)
    processor._ending = True  # exports on this thread alone
    for _ in range(5):
        processor.observe(SEEN)
    assert processor.force_flush()
    assert processor.counts.lost == 1
    assert processor.counts.exported + processor.counts.dropped == 4


def test_the_thread_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_pause", lambda tries: 0.0)
    done = threading.Event()

    class Third(Refusing):
        def export(self, batch: Any) -> None:
            super().export(batch)
            done.set()

    third = Third(2)
    processor = Processor(third, delay_s=0.001)
    processor.observe(SEEN)
    assert done.wait(30)
    assert processor.shutdown()
    assert processor.counts == Counts(exported=1, failures=2)


def test_pauses_grow_and_are_bounded() -> None:
    assert all(2 ** (n - 1) / 2 <= processors._pause(n) <= 2 ** (n - 1) for n in range(1, 6))
    assert processors._pause(1000) <= 60


def test_an_exporter_that_hangs_is_waited_for_no_longer() -> None:
    waiting = Waiting()
    processor = Processor(waiting, max_batch=1, delay_s=LONG)
    processor.observe(SEEN)
    assert waiting.entered.wait(30)
    assert not processor.force_flush(0.01)
    waiting.go.set()
    assert processor.shutdown()


def test_a_shutdown_waits_for_an_exporter_that_hangs_no_longer() -> None:
    waiting = Waiting()
    processor = Processor(waiting, max_batch=1, delay_s=LONG)
    processor.observe(SEEN)
    assert waiting.entered.wait(30)
    assert not processor.shutdown(0.01)
    assert not processor.shutdown()
    processor.observe(SEEN)
    assert (waiting.ended, processor.counts.dropped) == (0, 1)
    waiting.go.set()


def test_after_the_end_nothing_is_taken() -> None:
    kept = Kept()
    processor = Processor(kept)
    processor.observe(SEEN)
    assert processor.shutdown()
    assert processor.shutdown()
    processor.observe(SEEN)
    assert (len(kept.records), kept.ended, processor.counts) == (1, 1, Counts(exported=1, dropped=1))


def test_an_exporter_that_fails_at_the_end() -> None:
    class Bad(Kept):
        def force_flush(self, timeout_s: float = 30.0) -> bool:
            raise OSError(SECRET)

        def shutdown(self, timeout_s: float = 30.0) -> bool:
            raise OSError(SECRET)

    processor = Processor(Bad())
    assert not processor.shutdown()
    assert not processor.shutdown()
    assert processor.counts.failures == 2


def test_what_is_refused_at_the_end_is_lost_and_counted() -> None:
    refusing = Refusing(1)
    processor = Processor(refusing, max_batch=2, max_queue=5, delay_s=LONG)
    processor._start = lambda: None  # type: ignore[method-assign] # exports on this thread alone
    for _ in range(5):
        processor.observe(SEEN)
    assert not processor.shutdown()
    assert not processor.shutdown()
    assert refusing.ended == 1
    assert processor.counts == Counts(lost=5, failures=1)


def test_a_wait_without_end() -> None:
    processor = Processor(Kept(), delay_s=LONG)
    processor.observe(SEEN)
    assert processor.force_flush(float("inf"))
    assert processor.shutdown(float("inf"))
    assert processor.counts == Counts(exported=1)


def test_failures_are_counted_in_telemetry(caplog: pytest.LogCaptureFixture) -> None:
    sdk = Sdk()
    processor = Processor(Refusing(1), delay_s=LONG)
    with Guard(
        {"name": "p", "version": "1", "rules": []},
        monitors=[processor],
        meter_provider=sdk.meters,
        tracer_provider=sdk.tracers,
    ) as guard:
        guard.check(SECRET)
        guard._telemetry.monitors.flush()  # type: ignore[union-attr]
        processor.force_flush()
        assert sdk.sums(ERRORS) == {("exporter",): 1}
    assert "exporter" in caplog.text
    assert SECRET not in caplog.text
    assert processor.shutdown()
    sdk.close()


def test_a_processor_keeps_no_guard_alive() -> None:
    processor = Processor(Kept())
    guard = Guard({"name": "p", "version": "1", "rules": []}, monitors=[processor])
    gone = weakref.ref(guard._telemetry)
    guard.close()
    del guard
    gc.collect()
    assert gone() is None


def test_calls_of_exporters_are_untraced() -> None:
    from opentelemetry import context
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    enabled = []

    class Traced(Kept):
        def export(self, batch: Any) -> None:
            enabled.append(is_instrumentation_enabled())

    processor = Processor(Traced(), delay_s=LONG)
    processor.observe(SEEN)
    assert processor.force_flush()
    assert enabled == [False]
    assert is_instrumentation_enabled()
    with untraced():
        assert context.get_value("suppress_instrumentation")


def test_a_thread_that_could_not_begin_begins_with_the_next_record(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting()
    processor = Processor(waiting, max_batch=2, delay_s=LONG)

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        with pytest.raises(RuntimeError):
            processor.observe(SEEN)
    processor.observe(SEEN)
    assert waiting.entered.wait(30)
    waiting.go.set()
    assert processor.shutdown()
    assert processor.counts == Counts(exported=2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_exports_its_own(tmp_path: Path) -> None:
    script = """
import os, sys
from llmguard.exporters.jsonl import JsonlExporter, read
from llmguard.exporters.processor import Processor
from llmguard.types import Observation
processor = Processor(JsonlExporter(sys.argv[1]), delay_s=3600)
processor.observe(Observation(None, conversation="flushed"))
assert processor.force_flush()
processor.observe(Observation(None, conversation="parent"))
if (child := os.fork()) == 0:
    assert processor.counts == (0, 0, 0, 0)
    processor.observe(Observation(None, conversation="child"))
    os._exit(0 if processor.shutdown() else 1)
assert os.waitpid(child, 0)[1] == 0
assert processor.shutdown()
print(sorted(record.conversation for record in read(sys.argv[1])))
"""
    assert ran(script, tmp_path / "x.jsonl") == "['child', 'flushed', 'parent']"


def test_the_end_of_the_interpreter_loses_nothing(tmp_path: Path) -> None:
    script = """
import sys
from llmguard import Guard
from llmguard.exporters.jsonl import JsonlExporter
from llmguard.exporters.processor import Processor
processor = Processor(JsonlExporter(sys.argv[1]), delay_s=3600)
guard = Guard({"name": "p", "version": "1", "rules": []}, monitors=[processor])
for _ in range(3):
    guard.check("x")
"""
    ran(script, tmp_path / "x.jsonl")
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 3


def ran(script: str, *arguments: Path) -> str:
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", script, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout.strip()


@pytest.mark.parametrize(
    "options",
    [
        {"max_batch": 0},
        {"max_batch": True},
        {"max_batch": 2, "max_queue": 1},
        {"delay_s": 0},
        {"delay_s": float("nan")},
        {"delay_s": float("inf")},
        {"delay_s": 1e300},
        {"delay_s": "1"},
        {"name": 1},
    ],
)
def test_options_that_are_none(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=list(options)[-1]):
        Processor(Kept(), **options)


def test_what_is_no_exporter() -> None:
    with pytest.raises(ConfigurationError, match="str is no exporter"):
        Processor("x")  # type: ignore[arg-type]


def test_two_of_a_kind_need_names() -> None:
    policy = {"name": "p", "version": "1", "rules": []}
    with pytest.raises(ConfigurationError, match="'Kept'"):
        Guard(policy, monitors=[Processor(Kept()), Processor(Kept())])
    Guard(policy, monitors=[Processor(Kept(), name="a"), Processor(Kept(), name="b")]).close()


def test_no_text_reaches_an_exporter() -> None:
    kept = Kept()
    processor = Processor(kept, delay_s=LONG)

    def fails(texts: Any) -> Any:
        raise KeyError(texts[0].content)

    for detectors, action in (
        ([Words("words", SECRET)], "redact"),
        ([Words("words", SECRET)], "block"),
        ([Broken(fails, name="words")], "block"),
        ([Broken(lambda texts: [[SECRET]], name="words")], "flag"),
    ):
        policy = {"name": "p", "version": "1", "rules": [{"detector": "words", "action": action}]}
        with Guard(policy, detectors=detectors, monitors=[processor]) as guard:
            for stage in ("input", "output"):
                guard.check(f"my {SECRET}", stage=stage)
    assert processor.shutdown()
    assert len(kept.records) == 8
    assert SECRET not in repr(kept.records)
    assert not any(SECRET in repr(value) for value in gc.get_objects() if isinstance(value, Observation))
