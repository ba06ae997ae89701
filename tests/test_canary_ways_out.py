"""That marked secrets go through every way in and every failure, and leave by none of the ways out."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from marked import ASCII, POLICY, WIDE, both, detectors
from records import Kept
from ways_in import WAYS_IN, by_reload
from ways_out import RaisingMonitor, WaysOut, forms, ways_with

from llmguard import Guard
from llmguard.dialects.registry import get as dialect
from llmguard.dialects.wire import Body
from llmguard.exporters.processor import Processor


@contextlib.contextmanager
def everything(directory: Path, **options: Any) -> Iterator[tuple[WaysOut, Guard]]:
    """A guard with every way out, and whatever a caller says about itself; all has left at the end."""
    released = threading.Event()
    with WaysOut(directory, raising=both("raised by an exporter"), **options).open() as ways:
        try:
            with ways.guard(POLICY, detectors=detectors(released)) as guard:
                yield ways, guard
        finally:
            released.set()


@pytest.mark.parametrize("way_in", WAYS_IN)
def test_no_secret_leaves(tmp_path: Path, capfd: pytest.CaptureFixture[str], way_in: Callable[[Guard], None]) -> None:
    with everything(tmp_path) as (ways, guard):
        way_in(guard)
    left = ways.left()
    written = capfd.readouterr()
    left["stdout"], left["stderr"] = written.out.encode(), written.err.encode()
    assert [name for mark in (ASCII, WIDE) for name in sorted(ways_with(left, mark))] == []
    # All of them had something to say.
    if way_in is not by_reload:
        assert {name for name in ALWAYS if not left.get(name)} == set()


#: Ways that have something to say whatever comes in.
ALWAYS = {
    *("spans", "masked spans", "log records", "metrics", "scrape", "console", "parquet", "records.jsonl", "audit"),
    *("alerts.sqlite", "payloads", "refused payloads", "log.txt"),
}


@pytest.mark.parametrize("mark", [ASCII, WIDE])
def test_the_search_finds_what_does_leave(tmp_path: Path, mark: str) -> None:
    control = f"{mark}-control"
    with everything(tmp_path, content="SPAN_AND_EVENT", by=["tenant"]) as (ways, guard), guard.tenant(control):
        with guard.conversation(control), guard.prompt(control, version=control):
            guard.check(f"{control} flagme")
            guard.check("stopme")
            guard.operation(dialect("openai.chat"), Body(model="m")).end()
        ways.told.append(control)
        ways.console.write(control)
        logging.getLogger("llmguard.some.module").debug("of %s", control)
    left = ways.left()
    assert ways_with(left, mark) >= ALWAYS - {"masked spans"}


@pytest.mark.parametrize("mark", [ASCII, WIDE])
def test_the_search_knows_every_form(mark: str) -> None:
    text = f'"said {mark} there"'
    shapes = [
        *(text.encode(code) for code in ("utf-8", "utf-16", "utf-16-le", "utf-16-be")),
        json.dumps(text).encode(),
        repr(text).encode(),
        repr(text.encode()).encode(),
        urllib.parse.quote(text).encode(),
        text.encode().hex().encode(),
        *(base64.b64encode(b"x" * shift + text.encode()) for shift in range(3)),
        *(base64.b64encode(b"x" * shift + text.encode("utf-16-le")) for shift in range(3)),
    ]
    for shape in shapes:
        assert any(form in shape for form in forms(mark)), shape
    assert not any(form in b"nothing of it" for form in forms(mark))


class BrokenHandler(logging.Handler):
    """Raises where handlers should not."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError(record.name)


def test_logging_that_fails_shows_nothing_and_stops_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    handler = BrokenHandler()
    kept = Kept()
    log = logging.getLogger("llmguard.telemetry")
    log.addHandler(handler)
    processor = Processor(kept)
    try:
        with Guard(POLICY, detectors=detectors(threading.Event()), monitors=[RaisingMonitor(), processor]) as guard:
            for _ in range(3):
                guard.check(both("check"))
        assert processor.shutdown()
    finally:
        log.removeHandler(handler)
    assert len(kept.records) == 3
    written = capfd.readouterr()
    assert ASCII not in written.out + written.err
