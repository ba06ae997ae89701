"""How much a piece of Python works: a count of its steps, which is the same on every machine and under every load."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def steps(function: Callable[[], object], *modules: str) -> int:
    """The bytecode instructions that run in these modules while the function does; on its own thread.

    Args:
        function: is called once.
        modules: their names, as far as they are given: ``llmguard.detectors`` stands for all below it too.
    """
    count = 0

    def inside(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "opcode"
        return inside

    def called(frame: FrameType, _event: str, _: Any) -> Any:
        if not frame.f_globals.get("__name__", "").startswith(modules):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return inside

    before = sys.gettrace()
    sys.settrace(called)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def scanned(function: Callable[[], object]) -> int:
    """The code points of all strings that the function searches with `str.find`, on its own thread.

    Args:
        function: is called once.
    """
    count = 0

    def seen(_frame: FrameType, event: str, called: Any) -> None:
        nonlocal count
        if event == "c_call" and called.__name__ == "find":
            count += len(called.__self__)

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count
