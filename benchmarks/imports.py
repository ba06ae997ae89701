"""How long an import takes, as a whole process less that of an empty one."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.timing import row

LIMIT = 0.150


def _seconds(program: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - started


def main() -> bool:
    _seconds("import llmguard")
    empty, bare, full = [], [], []
    for _ in range(9):
        empty.append(_seconds("pass"))
        bare.append(_seconds("import llmguard"))
        full.append(_seconds("from llmguard import Guard"))
    nothing = statistics.median(empty)
    first = statistics.median(bare) - nothing
    second = statistics.median(full) - nothing
    held = row("import llmguard", f"{first * 1e3:.0f} ms", bound="<= 150 ms", holds=first <= LIMIT)
    row("from llmguard import Guard", f"{second * 1e3:.0f} ms")
    return held
