"""The audit log: records a second a process with group commit, against bare lines with a bare os.write and fsync."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.timing import row
from llmguard.exporters.audit import AuditLog
from llmguard.exporters.audit_verify import verify
from llmguard.exporters.record import Found, Ran, Record, as_dict
from llmguard.types import PolicyRef

BOUND = 20_000
BATCH = 512
BATCHES = 12
ROUNDS = 5


def _records() -> list[Record]:
    """Checks by six detectors with one finding."""
    names = ("pii", "secrets", "unicode", "keywords", "injection_rules", "token_stats")
    runs = tuple([Ran(name, "1", "pass", 1.25e-5, "", "") for name in names])
    found = (Found("pii", "EMAIL_ADDRESS", 1.0, 15, "redact", ()),)
    policy = PolicyRef("shop", "7", "5d41402abc4b2a76")
    return [
        Record(
            1_700_000_000_000_000_000 + at,
            "check",
            "input",
            "redact",
            True,
            policy,
            found,
            runs,
            (1.0,),
            8.7e-5,
            True,
            conversation=f"conversation-{at % 100}",
            trace=f"{at:032x}",
        )
        for at in range(BATCH)
    ]


def _rate(export: Callable[[Sequence[Record]], None], batch: Sequence[Record]) -> tuple[float, float]:
    """Records a second, by the clock and by the processor time of this process; the best of several rounds."""
    wall, cpu = [], []
    for _ in range(ROUNDS):
        begun, used = time.perf_counter(), time.process_time()
        for _ in range(BATCHES):
            export(batch)
        cpu.append(BATCHES * BATCH / (time.process_time() - used))
        wall.append(BATCHES * BATCH / (time.perf_counter() - begun))
    return max(wall), max(cpu)


def main() -> bool:
    batch = _records()
    held = True
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        handle = os.open(where / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def bare(some: Sequence[Record]) -> None:
            os.write(handle, "".join([json.dumps(as_dict(one)) + "\n" for one in some]).encode())
            os.fsync(handle)

        lines = "".join([json.dumps(as_dict(one)) + "\n" for one in batch]).encode()

        def written(some: Sequence[Record]) -> None:
            os.write(handle, lines)
            os.fsync(handle)

        peer_wall, peer_cpu = _rate(bare, batch)
        floor_wall, _ = _rate(written, batch)
        row(
            f"bare JSON lines, os.write and fsync each {BATCH}",
            f"{peer_cpu:,.0f} /s",
            f"{peer_wall:,.0f} /s by the clock",
        )
        row("  only the write and fsync", f"{floor_wall:,.0f} /s", "by the clock")
        os.close(handle)
        keys = {"signing_key": secrets.token_bytes(32)}
        for what, options in (
            ("group commit, signed", {**keys}),
            ("  encrypted, too", {**keys, "encryption_key": secrets.token_bytes(32)}),
            ("  fsync by interval", {**keys, "fsync": "interval"}),
        ):
            log = AuditLog(where / what.strip(), **options)
            wall, cpu = _rate(log.export, batch)
            log.shutdown()
            held &= row(
                what,
                f"{cpu:,.0f} /s",
                f"{cpu / BOUND:.2f} of the bound, {cpu / peer_cpu:.2f} of the bare lines; {wall:,.0f} /s by the clock",
                f">= {BOUND:,} /s",
                holds=cpu >= BOUND,
            )
        begun = time.process_time()
        found = verify(where / "group commit, signed")
        took = time.process_time() - begun
        held &= row("verified", f"{found.entries / took:,.0f} /s", f"{found.entries:,} lines", "whole", holds=found.ok)
    return held


if __name__ == "__main__":
    main()
