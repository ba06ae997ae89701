"""That memory which only loading needed goes back, and that all goes on without it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has /proc")

SCRIPT = """
import json, re
import numpy as np
from llmguard.resident import give_back
from llmguard.kernels import hashing

def code():
    size, ours = 0, False
    for line in open("/proc/self/smaps"):
        if re.match("[0-9a-f]+-", line):
            ours = " r-xp " in line and "libllvmlite" in line
        elif ours and line.startswith("Rss:"):
            size += int(line.split()[1])
    return size

def answer():
    return hashing.highest(["some words of a text"], weights, 512).tolist()

weights = np.arange(1 << 16, dtype=np.int64).astype(np.int8).reshape(-1, 4)
first = answer()
before = code()
give_back()
after = code()
again = answer()
give_back()

from numba import njit
print(json.dumps([before, after, first == again, int(njit(lambda x: x + 1)(41))]))
"""


def test_the_code_of_a_compiler_goes_and_comes_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    before, after, same, compiled = json.loads(done.stdout)
    assert before > 10_000  # KiB
    assert after < before / 10
    assert same
    assert compiled == 42


def test_where_there_is_no_such_file_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    from llmguard import resident

    monkeypatch.setattr(resident, "_MAPS", Path("/nowhere/maps"))
    resident.give_back()
    monkeypatch.setattr(sys, "platform", "win32")
    resident.give_back()
