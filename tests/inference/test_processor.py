"""What a CPU can do and how much of it is ours, read from the files that systems have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.inference.processor import KNOWN, Processor, from_cpuinfo, from_sysctl, processor, usable_cores

GRANTED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

SAPPHIRE = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8
"""
GRAVITON = "processor\t: 0\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd asimddp sve i8mm bf16\nCPU part\t: 0xd40\n"
APPLE = "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_BF16: 0\nhw.optional.AdvSIMD: 1\n"
APPLE += "machdep.cpu.brand_string: Apple M1\n"


@pytest.mark.parametrize(
    ("text", "name", "amx", "vnni", "bf16"),
    [
        (SAPPHIRE, "Intel(R) Xeon(R) Platinum 8481C", True, True, True),
        ("model name: AMD EPYC\nflags: avx2 avx512f avx512_vnni avx512_bf16\n", "AMD EPYC", False, True, True),
        ("model name: Core\nflags: avx2 avx_vnni\n", "Core", False, True, False),
        ("model name: Old\nflags: sse2 avx2\n", "Old", False, False, False),
        (GRAVITON, "", False, True, True),
        ("", "", False, False, False),
    ],
)
def test_cpuinfo(text: str, name: str, amx: bool, vnni: bool, bf16: bool) -> None:
    found, features = from_cpuinfo(text)
    cpu = Processor(found, "", features, 1)
    assert (found, cpu.amx, cpu.vnni, cpu.bf16) == (name, amx, vnni, bf16)


def test_only_what_every_core_has_counts() -> None:
    mixed = SAPPHIRE.replace(" amx_bf16 amx_tile amx_int8\n", "\n", 1)
    assert "amx_bf16" not in from_cpuinfo(mixed)[1]
    assert "avx512_bf16" in from_cpuinfo(mixed)[1]


def test_sysctl() -> None:
    assert from_sysctl(APPLE) == ("Apple M1", frozenset({"asimddp", "asimd"}))
    assert from_sysctl("") == ("", frozenset())


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert from_cpuinfo(text)[1] <= KNOWN
    assert from_sysctl(text)[1] <= KNOWN


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, GRANTED),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, GRANTED),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, GRANTED),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 50000"}, 1),  # a group above it pays
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "900000000 100000",
                "sys/fs/cgroup/a/cpu.max": "100000 100000",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "3:cpuset:/\n2:cpu,cpuacct:/docker/x\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            GRANTED,
        ),
    ],
)
def test_a_quota_counts(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    assert usable_cores(machine(tmp_path, files)) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_counts(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    found = processor(tmp_path)
    assert found.features == frozenset()
    assert found.cores == GRANTED
    assert found.name


def test_this_machine() -> None:
    found = processor()
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.features <= KNOWN
