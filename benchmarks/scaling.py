"""From 1 kB to 1 MB, and 1 MB of text that is made to be slow against 1 MB of prose."""

from __future__ import annotations

import math

from benchmarks.guard import POLICY
from benchmarks.texts import adversarial, prose
from benchmarks.timing import medians, row
from llmguard import Guard

SIZES = (1_000, 10_000, 100_000, 1_000_000)


def main() -> bool:
    # Findings cost what they cost; what is measured here is the looking, so nothing may be found.
    guard = Guard({**POLICY, "deadline_ms": 60_000.0})
    texts = {size: prose(size) for size in SIZES}
    took = medians({str(size): lambda text=text: guard.check(text) for size, text in texts.items()}, rounds=7)
    for size in SIZES:
        row(
            f"prose, {size:,} characters",
            f"{took[str(size)] * 1e3:.3f} ms",
            f"{took[str(size)] / size * 1e9:.1f} ns a character",
        )
    slope = math.log(took["1000000"] / took["10000"]) / math.log(100)
    factor = took["1000000"] / took["1000"] / 1000
    held = row(
        "growth from 1 kB to 1 MB",
        f"{factor:.2f}",
        f"times linear; exponent {slope:.2f} above 10 kB",
        "<= 1.3",
        holds=factor <= 1.3,
    )
    hostile = adversarial(1_000_000)
    took = medians(
        {"prose": lambda: guard.check(texts[1_000_000]), **{n: lambda t=t: guard.check(t) for n, t in hostile.items()}},
        rounds=5,
    )
    for name in hostile:
        ratio = took[name] / took["prose"]
        found = len(guard.check(hostile[name]).findings)
        held &= row(
            f"1 MB of {name}",
            f"{ratio:.2f}",
            f"of prose ({took[name] * 1e3:.0f} ms), {found} findings",
            "<= 1.5",
            holds=ratio <= 1.5,
        )
    return held
