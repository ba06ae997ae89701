"""Memory that only loading needed goes back to the system: free room, and what a compiler has read and run.

Loading a model or a kernel runs most of LLVM and of OpenVINO's graph compiler once, and reads all weights, of which
the runtime makes its own. All that stays in memory as long as nobody asks for the room, in a process that will hardly
need it again.
"""

from __future__ import annotations

import ctypes
import re
import sys
from contextlib import suppress
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_DONTNEED = 4  # Linux's MADV_DONTNEED
# What comes back from its file when it is wanted again: code that nothing has written to, and files of weights that are
# mapped to be read. Not a library's data, which the linker has filled in.
_from_file = re.compile(
    r"([0-9a-f]+)-([0-9a-f]+) (?:r-xp \S+ \S+ [1-9]\d* +/.*/(?:libllvmlite|libopenvino)[^/]*"
    r"|r--s \S+ \S+ [1-9]\d* +/.*\.(?:bin|onnx))"
).fullmatch


def give_back() -> None:
    """Give back what is free, and what only compilers wanted; a few milliseconds. Does nothing where is no Linux."""
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError, ValueError):  # musl has no malloc_trim; /proc may not be mounted
        system = ctypes.CDLL(None)
        system.malloc_trim(0)
        for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
            if found := _from_file(line):
                start, end = (int(place, 16) for place in found.groups())
                system.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED)
