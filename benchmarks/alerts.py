"""What the rules of alerts cost: counting a decision, and looking at all rules."""

from __future__ import annotations

import gc
import resource
import time
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from benchmarks.guard import POLICY
from benchmarks.texts import CLEAN, with_ten_findings
from benchmarks.timing import medians, microseconds, row
from llmguard import Guard, TelemetrySettings
from llmguard.exporters.alerts.evaluate import Evaluator
from llmguard.exporters.alerts.rule import Burn, Rule
from llmguard.exporters.record import record
from llmguard.types import Observation, Text

FIRST, MANY = 10_000, 60_000
NOW = 1_800_000_000.0
TEN = (
    Rule(
        "Blocks", "ratio", {"stage": ("input",), "action": ("block",)}, {"stage": ("input",)}, above=0.05, by=("model",)
    ),
    Rule("Leak", of={"category": ("AWS_ACCESS_KEY",)}, above=0),
    Rule("Found", "rate", {"category": ("EMAIL_ADDRESS",)}, above=5.0, by=("tenant",)),
    Rule("Fails", "ratio", {"outcome": ("error", "timeout")}, {}, above=0.1, by=("detector",)),
    Rule("Slow", value="guard_duration", above=0.25, by=("stage",)),
    Rule("SlowDetector", value="detector_duration", above=0.25, by=("detector",)),
    Rule("Burns", "burn", {"action": ("block",)}, {}, burn=Burn(0.99)),
    Rule("Silence", "absence", {"stage": ("input",)}),
    Rule("Cost", value="cost", above=100.0, by=("model",)),
    Rule("Many", above=1e6, by=("model", "prompt_version")),
)


def main() -> bool:
    with Guard(POLICY, telemetry=TelemetrySettings(enabled=False)) as guard:
        seen = [
            Observation(guard.check(text), (Text(text),), model, ("p", "1", ""), tenant=tenant, trace="0" * 32)
            for text in (CLEAN, with_ten_findings())
            for model in ("a", "b")
            for tenant in ("x", "y", "z")
        ]
        checked = medians({"check": lambda: guard.check(CLEAN)})["check"]
    records = [record(one) for one in seen]
    clean, full = cycle(records[:6]), cycle(records[6:])
    one = Evaluator([Rule("A", of={"action": ("block",)}, above=1)])
    ten, hundred = Evaluator(TEN), Evaluator(_hundred())
    took = medians(
        {
            "one": lambda: one.observe(next(clean), NOW),
            "ten": lambda: ten.observe(next(clean), NOW),
            "full": lambda: ten.observe(next(full), NOW),
            "hundred": lambda: hundred.observe(next(clean), NOW),
            "evaluate": lambda: hundred.evaluate(NOW),
        },
        rounds=7,
    )
    row(
        "a clean decision counted, one rule",
        microseconds(took["one"]),
        f"{took['one'] / checked:.3f} of a check ({checked * 1e6:,.0f} us)",
    )
    held = row(
        "a clean decision counted, ten rules of all kinds",
        microseconds(took["ten"]),
        f"{took['ten'] / checked:.3f} of a check, off the caller's path",
        "<= 60 us",
        holds=took["ten"] <= 60e-6,
    )
    row("a decision with ten findings counted, the same", microseconds(took["full"]), "off the caller's path")
    row(
        "a clean decision counted, 100 rules of which it meets 10",
        microseconds(took["hundred"]),
        f"{took['hundred'] / took['ten']:.2f} times ten rules",
    )
    row("100 rules looked at", microseconds(took["evaluate"]))
    return _memory() and held


def _hundred() -> list[Rule]:
    others = [Rule(f"Other{n}", of={"model": (f"m{n}",), "action": ("block",)}, above=1) for n in range(90)]
    return [*TEN, *others]


def _memory() -> bool:
    """What decisions of ever new tenants and models leave behind."""
    with Guard(POLICY, telemetry=TelemetrySettings(enabled=False)) as guard:
        base = record(Observation(guard.check(with_ten_findings()), ()))
    evaluator = Evaluator(TEN)
    sizes = []
    for count in (FIRST, MANY):
        started = time.perf_counter()
        for number in range(count):
            name = f"{count}-{number}"
            evaluator.observe(replace(base, model=name, tenant=name, prompt=(name, name, "")), NOW + number / 100)
        seconds = time.perf_counter() - started
        gc.collect()
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
    row(
        "a decision of a new tenant and model counted, ten rules", microseconds(seconds / MANY), "off the caller's path"
    )
    grown = sizes[1] / sizes[0]
    return row(
        f"resident memory after {MANY:,} new tenants and models more",
        f"{grown:.3f}",
        f"of {sizes[0] / 1e6:,.0f} MB after {FIRST:,}",
        "<= 1.05",
        holds=grown <= 1.05,
    )
