"""What the CPU can do fast, and how many of its cores this process may use."""

from __future__ import annotations

import functools
import math
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# What a runtime's choice can depend on, by the names that Linux gives; everything else in the list of flags is noise.
KNOWN = frozenset(
    {
        *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16"),
        *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
        *("asimd", "asimddp", "i8mm", "bf16", "sve"),  # Arm
    }
)
_DARWIN = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512vnni": "avx512_vnni",
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
}


@dataclass(frozen=True, slots=True)
class Processor:
    """A CPU as far as the choice of runtime, precision and threads depends on it.

    Attributes:
        name: as the maker calls it.
        architecture: ``x86_64``, ``aarch64``, ``arm64`` …
        features: the names of `KNOWN` that every core has; empty where the system doesn't tell.
        cores: how many threads can run at once for this process, by affinity and by the quota of its control group.
    """

    name: str
    architecture: str
    features: frozenset[str]
    cores: int

    @property
    def amx(self) -> bool:
        """Whether bf16 products run on tiles (Intel, from Sapphire Rapids on)."""
        return "amx_bf16" in self.features

    @property
    def vnni(self) -> bool:
        """Whether INT8 dot products are one instruction: the VNNI of x86, or the dot product of Arm."""
        return bool(self.features & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})

    @property
    def bf16(self) -> bool:
        """Whether bf16 dot products are an instruction."""
        return bool(self.features & {"amx_bf16", "avx512_bf16", "bf16"})


def processor(root: Path = Path("/")) -> Processor:
    """This machine's CPU.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    name, features = _described(root)
    return Processor(name or platform.machine(), platform.machine(), features, usable_cores(root))


def usable_cores(root: Path = Path("/")) -> int:
    """How many threads can really run at once: the CPUs that the scheduler grants, and no more than the quota pays for.

    A container that is given 2 CPUs of 64 sees all 64; 64 threads would be put to sleep for most of every period.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    return granted if quota is None else max(1, min(granted, math.ceil(quota)))


@functools.lru_cache(maxsize=8)
def _described(root: Path) -> tuple[str, frozenset[str]]:
    if sys.platform == "darwin" and root == Path("/"):
        return from_sysctl(_sysctl())
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor(), frozenset()
    return from_cpuinfo(text)


def from_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """Name and features from Linux's ``/proc/cpuinfo``.

    Cores of one machine can differ (big and little ones), and threads move: what counts is what all of them have.

    Args:
        text: what the file holds.
    """
    name, features = "", None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        key = key.strip().lower()
        if key in ("flags", "features"):
            found = frozenset(value.split())
            features = found if features is None else features & found
        elif key == "model name" and not name:
            name = value.strip()
    return name, (features or frozenset()) & KNOWN


def from_sysctl(text: str) -> tuple[str, frozenset[str]]:
    """Name and features from the lines ``name: value`` of macOS's ``sysctl``.

    Args:
        text: what the command prints.
    """
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    features = frozenset(ours for theirs, ours in _DARWIN.items() if values.get(theirs) == "1")
    return values.get("machdep.cpu.brand_string", ""), features


def _sysctl() -> str:
    command = ["/usr/sbin/sysctl", "hw.optional", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout  # noqa: S603 - fixed
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _quota(root: Path) -> float | None:
    """CPUs that this process is given time for, by the tightest control group up to the root; None without a quota."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    mount = root / "sys/fs/cgroup"
    quotas = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = controllers.split(",")
        if not controllers:
            bases = [mount, mount / "unified"]
        elif "cpu" in names:
            bases = [mount / controllers, mount / "cpu"]
        else:
            continue
        for base in bases:
            quotas += [quota for group in _upwards(base, path) if (quota := _group_quota(group)) is not None]
    return min(quotas, default=None)


def _upwards(base: Path, path: str) -> list[Path]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [base.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _group_quota(group: Path) -> float | None:
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (group / "cpu.cfs_period_us").read_text(encoding="ascii")
        micros = int(quota)
        return micros / int(period) if micros > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or "max": no quota
        return None
