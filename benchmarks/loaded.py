"""Resident memory of a process with every detector loaded, and every bundled model on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from benchmarks.timing import row

BOUND_MB = 400
_START = """
import json, os, sys
sys.modules["torch"] = None  # spaCy's parts import it where it is installed; those who run models don't have it
from llmguard import Guard
from llmguard.detectors.registry import available
first = {"first": "guard-nano"}
own = {"toxicity": first, "prompt_injection": first, "keywords": {"deny": ["project heron"]}}
"""
_MODELS = """
names = ["toxicity", "bias", "harmful_request", "prompt_injection"]
rules = [{"detector": "pii", "action": "flag", "categories": ["PERSON", "EMAIL_ADDRESS"]}]
"""
_ALL = """
names = available()
rules = []
"""
_CHECKS = """
rules += [{"detector": name, "action": "flag"} for name in names]
options = {name: own[name] for name in own if name in names}
guard = Guard({"rules": rules, "detectors": options, "deadline_ms": 60000.0})
for _ in range(20):
    guard.check_batch(["a short text by Ada Lovelace about nothing in particular, number %d" % n for n in range(32)])
pages = int(open("/proc/self/statm").read().split()[1])
print(json.dumps([len({rule["detector"] for rule in rules}), pages * os.sysconf("SC_PAGE_SIZE") / 1e6]))
"""


def main() -> bool:
    held = True
    for which, program in (("model detectors and names", _MODELS), ("all detectors", _ALL)):
        done = subprocess.run(
            [sys.executable, "-c", _START + program + _CHECKS],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ,
        )
        count, size = json.loads(done.stdout)
        what = f"resident memory, {which}, both models"
        held &= row(
            what, f"{size:.0f} MB", f"{count} detectors, batches of 32", f"< {BOUND_MB} MB", holds=size < BOUND_MB
        )
    return held


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
