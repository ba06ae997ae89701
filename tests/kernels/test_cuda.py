"""On numba's simulator everywhere; on a real GPU where one is at hand."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmguard.errors import MissingExtraError

CHECK = """
import math
import numpy as np
import naive_drift as naive
from numba import cuda as device
from llmguard.kernels import cuda, cuda_jit, drift

random = np.random.default_rng(0)
put = device.to_device
if SIMULATED:
    # The simulator's threads are Python's: 256 of them for each row take minutes.
    cuda_jit.TILE, cuda_jit.THREADS = 4, 16


def refused(error, says, call):
    try:
        call()
    except error as caught:
        assert says in str(caught), caught
    else:
        raise AssertionError(says)


logits = random.normal(0, 4, (SIZES[0], SIZES[1])).astype(np.float32)
logits[0, ::3] = -np.inf
logits[1] = 7.0
logits[2] = np.linspace(-1e30, 1e30, SIZES[1])
logits[3, 1:] = -np.inf
rows = [naive.softmax(row.tolist()) for row in logits]
found = cuda.softmax(put(logits))
np.testing.assert_allclose(found.entropy, [row[0] for row in rows], rtol=1e-5, atol=1e-5)
np.testing.assert_allclose(found.logsumexp, [row[1] for row in rows], rtol=1e-6)

# What masks a token in most code is the least float, here in a row of nothing else, too.
masked = np.full((2, SIZES[1]), np.finfo(np.float32).min)
masked[0, 0] = 3.0
found = cuda.softmax(put(masked))
np.testing.assert_allclose(found.entropy, [0.0, math.log(SIZES[1])], atol=1e-5)
np.testing.assert_allclose(found.logsumexp, masked.max(axis=1), rtol=1e-6)

broken = np.zeros((3, SIZES[1]), np.float32)
broken[0, 5], broken[1, 5], broken[2] = np.nan, np.inf, -np.inf
found = cuda.softmax(put(broken))
assert np.isnan(found.entropy).all() and found.logsumexp[2] == -np.inf, found

halves = logits.clip(-6e4, 6e4).astype(np.float16)
found = cuda.softmax(put(halves))
rows = [naive.softmax(row.astype(float).tolist()) for row in halves]
np.testing.assert_allclose(found.entropy, [row[0] for row in rows], rtol=1e-5, atol=1e-5)
for width in (SIZES[1], SIZES[1] - 1, 3, 1):
    bits = np.ascontiguousarray((logits.view(np.uint32) >> 16).astype(np.uint16)[:4, :width])
    floats = (bits.astype(np.uint32) << 16).view(np.float32)
    rows = [naive.softmax(row.tolist()) for row in floats if row.max() > -np.inf]
    found = cuda.softmax(put(bits))
    kept = floats.max(axis=1) > -np.inf
    np.testing.assert_allclose(found.entropy[kept], [row[0] for row in rows], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.logsumexp[kept], [row[1] for row in rows], rtol=1e-6)

for kind in (np.int32, np.int64):
    tokens = random.integers(-3, 45, (3, SIZES[2])).astype(kind)
    tokens[2] = 7
    found = cuda.token_histogram(put(tokens), 40)
    for row, (counts, entropy, ignored) in enumerate(naive.token_entropy(line.tolist(), 40) for line in tokens):
        assert found.counts.copy_to_host()[row].tolist() == counts
        assert abs(found.entropy[row] - entropy) < 1e-12 and found.ignored[row] == ignored
found = cuda.token_histogram(put(np.full((1, 3), -1, np.int32)), 4)
assert (found.entropy[0], found.ignored[0]) == (0.0, 3)

for kind in (np.int64, np.float64):
    first = random.poisson(1.0, (2, SIZES[3])).astype(kind)
    second = random.poisson(2.0, (2, SIZES[3])).astype(kind)
    np.testing.assert_allclose(cuda.psi_rows(put(first), put(second)), drift.psi_rows(first, second), rtol=1e-9)
    np.testing.assert_allclose(
        cuda.psi_rows(put(first), put(second), floor=0.01), drift.psi_rows(first, second, floor=0.01), rtol=1e-9
    )
    np.testing.assert_allclose(
        cuda.jensen_shannon_rows(put(first), put(second), base=2),
        drift.jensen_shannon_rows(first, second, base=2),
        rtol=1e-9,
    )
first[0], second[1, 3] = 0, -1
assert np.isnan(cuda.psi_rows(put(first), put(second))).all()
assert np.isnan(cuda.jensen_shannon_rows(put(first), put(second))).all()

x, y = (random.normal(0, 1, size).astype(np.float32) for size in SIZES[4])
for biased in (False, True):
    expected = naive.mmd(x.tolist(), y.tolist(), 3.0, biased=biased)
    assert abs(cuda.mmd(put(x), put(y), 3.0, biased=biased) - expected) < 1e-6

refused(TypeError, "on a GPU", lambda: cuda.softmax(logits))
refused(TypeError, "on a GPU", lambda: cuda.softmax([[1.0]]))
refused(TypeError, "float32, float16, uint16", lambda: cuda.softmax(put(logits.astype(np.float64))))
refused(ValueError, "rows", lambda: cuda.softmax(put(logits[0])))
refused(ValueError, "C-contiguous", lambda: cuda.softmax(put(logits)[:, ::2]))
refused(ValueError, "vocabulary must be at least 1", lambda: cuda.token_histogram(put(tokens), 0))
refused(ValueError, "at most 2^31", lambda: cuda.token_histogram(put(tokens), 1 << 31))
refused(ValueError, "different bins", lambda: cuda.psi_rows(put(first), put(second[:, 1:].copy())))
refused(ValueError, "floor", lambda: cuda.psi_rows(put(first), put(second), floor=2.0))
refused(ValueError, "base", lambda: cuda.jensen_shannon_rows(put(first), put(second), base=1))
refused(ValueError, "bandwidth", lambda: cuda.mmd(put(x), put(y), 0.0))
refused(ValueError, "same dimensions", lambda: cuda.mmd(put(x), put(y[:, :3].copy()), 1.0))
print("same")
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), **environment}
    command = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=here)


def sized(rows: int, columns: int, tokens: int, bins: int, *vectors: tuple[int, int]) -> str:
    return f"SIZES, SIMULATED = {(rows, columns, tokens, bins, vectors)}, {rows < 64}\n{CHECK}"


def test_the_kernels_are_as_their_twins_on_the_simulator() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    done = run(sized(5, 100, 60, 50, (7, 5), (5, 5)), NUMBA_ENABLE_CUDASIM="1")
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


def test_the_kernels_are_as_their_twins_on_a_gpu() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    found = run("from numba import cuda; print(cuda.is_available())")
    if found.stdout.strip() != "True":
        pytest.skip("no GPU that CUDA can use is at hand")
    done = run(sized(64, 32_064, 4_000, 50_000, (200, 33), (150, 33)))
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


def test_without_a_gpu_the_error_says_so() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    program = """
from numba import cuda as device
device.is_available = lambda: False
from llmguard.errors import DeviceError
from llmguard.kernels import cuda
for call in (lambda: cuda.softmax(None), lambda: cuda.psi_rows(None, None)):
    try:
        call()
    except DeviceError as error:
        print("llmguard.kernels.drift" in str(error))
"""
    done = run(program, NUMBA_ENABLE_CUDASIM="1")
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n"), done.stderr


def test_without_numba_cuda_the_extra_is_named() -> None:
    program = """
import sys
sys.modules["numba"] = None
from llmguard.errors import MissingExtraError
from llmguard.kernels import cuda
try:
    cuda.softmax(None)
except MissingExtraError as error:
    print(error.package, error.extra)
"""
    done = run(program)
    assert (done.returncode, done.stdout) == (0, "numba_cuda cuda\n"), done.stderr
    assert importlib.util.find_spec("llmguard.kernels.cuda")
    assert issubclass(MissingExtraError, ImportError)
