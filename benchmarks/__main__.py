"""Run every benchmark; exit code 1 when a bound is missed."""

import importlib
import sys

NAMES = (
    "imports",
    "loaded",
    "guard",
    "threads",
    "scaling",
    "pii",
    "kernels",
    "drift_kernels",
    "drift",
    "fairness",
    "nano",
    "cascade",
    "batching",
    "calls",
    "exporters",
    "audit",
    "alerts",
    "outbox",
    "streaming",
    "proxy",
    "streams",
)

if __name__ == "__main__":
    held = True
    for name in sys.argv[1:] or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"{name}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
        held &= module.main() is not False
    sys.exit(0 if held else 1)
