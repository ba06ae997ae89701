"""Drift: delay, missed drifts and false alarms on labelled series, and what a call with 12 features costs (LLMGUARD_DATA)."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.timing import row
from llmguard.detectors.drift import Category, DriftMonitor, Numeric

FEATURES = 12
CALLS = 8192
ROUNDS = 5
SHUFFLES = 5
# Of a NAB series, which has some 4,000 rows and few, short anomalies: two days of five minutes, and at most one.
REFERENCE, WINDOW = 576, 288

Value = Mapping[str, float | str]


def alarms(monitor: DriftMonitor, values: Iterable[Value]) -> list[int]:
    """After how many values each alarm came."""
    at: list[int] = []
    seen = 0
    monitor.subscribe(lambda alert: None if alert.resolved else at.append(seen))
    for value in values:
        seen += 1
        monitor.record(value)
    return at


def _cost() -> bool:
    """Microseconds of processor time a call, the least of several rounds: buffering, counting, sketching, testing."""
    rng = random.Random(0)
    names = [f"feature {at}" for at in range(FEATURES)]
    calls = [{name: rng.lognormvariate(4, 1) for name in names} for _ in range(CALLS)]
    monitor = DriftMonitor(features=[Numeric(name) for name in names])
    took = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for values in calls:
            monitor.record(values)
        took.append((time.process_time() - started) / CALLS)
    each = min(took[1:])
    return row(f"a call with {FEATURES} features", f"{each * 1e6:.2f} us", "", "< 10 us", holds=each < 10e-6)


def _nab(root: Path, labels: Mapping[str, dict[str, list[list[str]]]]) -> Iterator[tuple[list[str], list[float], list]]:
    for name in sorted(labels):
        if name.startswith("nab/"):
            with (root / name).open(newline="") as file:
                rows = list(csv.DictReader(file))
            windows = labels[name]["anomaly_windows"]
            yield [one["timestamp"] for one in rows], [float(one["value"]) for one in rows], windows


def _sea(path: Path) -> list[Value]:
    with path.open(newline="") as file:
        return [
            {"class": one["class"]} | {f"attrib{at}": float(one[f"attrib{at}"]) for at in (1, 2, 3)}
            for one in csv.DictReader(file)
        ]


def _sea_monitor(*, adapt: bool) -> DriftMonitor:
    numbers = [Numeric(f"attrib{at}", low=0, high=10) for at in (1, 2, 3)]
    return DriftMonitor(features=[Category("class"), *numbers], adapt=adapt)


def _prompts(path: Path) -> tuple[list[Value], list[Value]]:
    """Length and words of the prompts of the first collection, and of those of the last."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        every = [json.loads(line) for line in file]
    dates = sorted({date for one in every for date in one["snapshots"]})
    return tuple(
        [
            {"length": len(one["text"]), "words": len(one["text"].split()), "lines": one["text"].count("\n")}
            for one in every
            if date in one["snapshots"]
        ]
        for date in (dates[0], dates[-1])
    )  # type: ignore[return-value]


def _prompt_monitor() -> DriftMonitor:
    return DriftMonitor(1000, features=[Numeric("length"), Numeric("words"), Numeric("lines")])


def _delays(found: Sequence[int], points: Sequence[int], end: int) -> list[int | None]:
    """How many calls after each drift the first alarm came before the next one."""
    made: list[int | None] = []
    for start, until in zip(points, [*points[1:], end], strict=True):
        made.append(next((at - start for at in found if start < at <= until), None))
    return made


def _told(name: str, delays: Sequence[int | None]) -> None:
    there = [delay for delay in delays if delay is not None]
    missed = len(delays) - len(there)
    middle = f"{statistics.median(there):g} calls" if there else "none"
    row(name, middle, f"median delay of {len(delays)} drifts; missed {missed} ({missed / len(delays):.0%})")


def _detection(root: Path, labels: Mapping[str, dict]) -> bool:
    points = labels["sea_generated_abrupt.csv"]["drift_points"]
    sea = _sea(root / "sea_generated_abrupt.csv")
    found = alarms(_sea_monitor(adapt=True), sea)
    delays = _delays(found, points, len(sea))
    _told("SEA, the share of a class changes", delays)
    held = row("  delays", " ".join(str(delay) for delay in delays), "", "none missed", holds=None not in delays)

    old, new = _prompts(root / "awesome_prompts_dated.jsonl.gz")
    delays = []
    for seed in range(10):
        rng = random.Random(seed)
        found = alarms(_prompt_monitor(), [*rng.choices(old, k=3000), *rng.choices(new, k=2000)])
        delays += _delays(found, [3000], 5000)
    _told("prompts of 2023, then those of 2026", delays)
    held &= row("  worst", str(max((one or 10**9) for one in delays)), "", "none missed", holds=None not in delays)

    for share in (0.25, 0.5, 1.0):
        delays = []
        for _, values, _ in _nab(root, labels):
            spread = statistics.pstdev(values)
            rng = random.Random(1)
            rng.shuffle(values)
            moved = [value + share * spread for value in rng.choices(values, k=2000)]
            if spread:
                sent = [{"value": value} for value in [*values[:1000], *rng.choices(values, k=1000), *moved]]
                found = alarms(DriftMonitor(1000, features=[Numeric("value")]), sent)
                delays += _delays(found, [2000], len(sent))
        _told(f"NAB values, shuffled, then {share:g} standard deviations more", delays)

    caught, late = 0, []
    total = outside = 0
    for times, values, windows in _nab(root, labels):
        monitor = DriftMonitor(REFERENCE, features=[Numeric("value")], window=WINDOW, adapt=True)
        found = alarms(monitor, [{"value": value} for value in values])
        spans = [[next(at for at, when in enumerate(times) if when >= edge[:19]) for edge in one] for one in windows]
        for start, end in spans:
            total += 1
            hits = [at - start for at in found if start <= at <= end + WINDOW // 4]
            caught += bool(hits)
            late += hits[:1]
        outside += sum(not any(start <= at <= end + WINDOW // 4 for start, end in spans) for at in found)
    row(
        "NAB in order, alarms in the anomalies' windows",
        f"{caught} of {total}",
        f"median delay {statistics.median(late):g} rows; {outside} alarms outside (days and trends are drifts, too)",
    )
    return held


def _false(root: Path, labels: Mapping[str, dict]) -> bool:
    counted: dict[str, tuple[int, int]] = {}

    def told(name: str, monitor: DriftMonitor, values: list[Value], reference: int) -> None:
        alarmed, calls = counted.get(name, (0, 0))
        counted[name] = alarmed + len(alarms(monitor, values)), calls + len(values) - reference

    for seed in range(SHUFFLES):
        rng = random.Random(seed)
        for _, values, _ in _nab(root, labels):
            rng.shuffle(values)
            sent: list[Value] = [{"value": value} for value in values]
            told("NAB, shuffled", DriftMonitor(1000, features=[Numeric("value")]), sent, 1000)
        for name in ("sea_stream.csv", "sea_generated_abrupt.csv"):
            sent = _sea(root / name)
            rng.shuffle(sent)
            told("SEA, shuffled", _sea_monitor(adapt=False), sent, 2000)
        old, new = _prompts(root / "awesome_prompts_dated.jsonl.gz")
        both = rng.choices([*old, *new], k=20_000)
        told("prompts, shuffled", _prompt_monitor(), both, 1000)
    told("SEA without a drift, as it is", _sea_monitor(adapt=False), _sea(root / "sea_stream.csv"), 2000)
    held = True
    for name, (alarmed, calls) in counted.items():
        rate = alarmed / calls * 10_000
        held &= row(name, f"{rate:.3f}", f"alarms per 10,000 of {calls:,} calls", "<= 1", holds=rate <= 1)
    return held


def main() -> bool:
    held = _cost()
    data = os.environ.get("LLMGUARD_DATA")
    if not data:
        print("  LLMGUARD_DATA names the directory with dev/drift: the rest needs it")
        return held
    root = Path(data) / "dev" / "drift"
    labels = json.loads((root / "labels.json").read_text("utf-8"))
    held &= _detection(root, labels)
    return held & _false(root, labels)


if __name__ == "__main__":
    main()
