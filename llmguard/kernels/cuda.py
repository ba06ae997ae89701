"""Statistics of arrays that are already on a GPU: logits, tokens, histograms, embeddings; only results come back.

Takes whatever offers ``__cuda_array_interface__`` (PyTorch, CuPy, JAX, numba), without a copy and on the current
device. Compiled by numba-cuda at first use, for some seconds.
"""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import DeviceError, MissingExtraError
from llmguard.kernels import drift_counts, drift_input
from llmguard.kernels.pvalues import number, whole

#: Vectors of a set in `mmd`: a grid has no more tiles.
LARGEST = 1_000_000
_FLOATS = ("float32", "float16")
_COUNTS = ("int32", "int64", "uint32", "uint64", "float32", "float64")


class Softmax(NamedTuple):
    """What rows of logits come to.

    Attributes:
        entropy: float32 [rows] in nats, of the softmax; NaN where a row holds NaN, plus infinity, or nothing but minus
            infinity.
        logsumexp: float32 [rows]; a logit less it is the token's log probability.
    """

    entropy: NDArray[np.float32]
    logsumexp: NDArray[np.float32]


class Tokens(NamedTuple):
    """What rows of tokens come to.

    Attributes:
        counts: int32 [rows, vocabulary], on the GPU.
        entropy: float64 [rows] in nats, of the shares of the tokens; 0 for a row without any.
        ignored: int64 [rows], tokens outside the vocabulary.
    """

    counts: Any
    entropy: NDArray[np.float64]
    ignored: NDArray[np.int64]


def softmax(logits: Any) -> Softmax:
    """Entropy and log-sum-exp of each row of logits, which are read once.

    The maximum, the sum and its moment are kept up together, each rescaled when the maximum rises (Milakov and
    Gimelshein, "Online normalizer calculation for softmax", 2018). Minus infinity is a token that can't come.

    Args:
        logits: [rows, vocabulary] on a GPU, C-contiguous: float32, float16, or uint16 that holds bfloat16 (PyTorch:
            ``logits.view(torch.uint16)``).

    Raises:
        TypeError: no array on a GPU, or of another type.
        ValueError: another shape or order.
        DeviceError: no GPU is there.
        MissingExtraError: numba-cuda is not installed.
    """
    array = _rows("logits", logits, (*_FLOATS, "uint16"))
    jit = _compiled()
    run = jit.softmax_floats
    if array.dtype == np.uint16:
        run = jit.softmax_bf16
        # Rows of whole words begin at whole words, if the first does.
        if array.shape[1] % 4 == 0 and _address(logits) % 8 == 0:
            run, array = jit.softmax_bf16_words, array.view(np.uint64)
    out = jit.cuda.device_array((array.shape[0], 2), np.float32)
    run[array.shape[0], jit.THREADS](array, out)
    found: NDArray[np.float32] = out.copy_to_host()
    return Softmax(found[:, 0].copy(), found[:, 1].copy())


def token_histogram(tokens: Any, vocabulary: int) -> Tokens:
    """How often each token stands in each row, and the entropy of that.

    Args:
        tokens: int32 or int64 [rows, tokens] on a GPU, C-contiguous. Fill short rows with -1, which is ignored.
        vocabulary: tokens are from 0 to below it; at most 2^31 - 1.

    Raises:
        TypeError: no array on a GPU, or of another type.
        ValueError: another shape or order, or a vocabulary of none or of more.
        DeviceError: no GPU is there.
        MissingExtraError: numba-cuda is not installed.
    """
    size = whole("vocabulary", vocabulary)
    if size >= 1 << 31:
        raise ValueError(f"a vocabulary has at most 2^31 - 1 tokens, not {size}")
    array = _rows("tokens", tokens, ("int32", "int64"))
    jit = _compiled()
    rows = array.shape[0]
    counts = jit.cuda.device_array((rows, size), np.int32)
    entropy = jit.cuda.device_array(rows, np.float64)
    ignored = jit.cuda.device_array(rows, np.int64)
    jit.token_histogram[rows, jit.THREADS](array, counts, entropy, ignored)
    return Tokens(counts, entropy.copy_to_host(), ignored.copy_to_host())


def psi_rows(expected: Any, observed: Any, *, floor: float | None = None) -> NDArray[np.float64]:
    """`drift.psi` of each pair of rows.

    Args:
        expected: [pairs, bins] of counts on a GPU, C-contiguous.
        observed: of the same shape.
        floor: the share that stands for an empty bin; None as in `drift.psi`.

    Returns:
        float64 [pairs]; NaN where a row has counts below zero or not finite, or none but zeros.

    Raises:
        TypeError: no arrays on a GPU, or of another type.
        ValueError: another shape or order, or a floor outside (0, 1).
        DeviceError: no GPU is there.
        MissingExtraError: numba-cuda is not installed.
    """
    share = drift_counts.share_of_none(floor)
    first, second = _pair(expected, observed)
    jit = _compiled()
    out = jit.cuda.device_array(first.shape[0], np.float64)
    jit.psi[first.shape[0], jit.THREADS](first, second, share, out)
    found: NDArray[np.float64] = out.copy_to_host()
    return found


def jensen_shannon_rows(expected: Any, observed: Any, *, base: float = math.e) -> NDArray[np.float64]:
    """`drift.jensen_shannon`, the distance, of each pair of rows.

    Args:
        expected: [pairs, bins] of counts on a GPU, C-contiguous.
        observed: of the same shape.
        base: of the logarithm.

    Returns:
        float64 [pairs]; NaN where a row has counts below zero or not finite, or none but zeros.

    Raises:
        TypeError: no arrays on a GPU, or of another type.
        ValueError: another shape or order, or a base of 1 or less.
        DeviceError: no GPU is there.
        MissingExtraError: numba-cuda is not installed.
    """
    unit = drift_counts.unit_of(base)
    first, second = _pair(expected, observed)
    jit = _compiled()
    out = jit.cuda.device_array(first.shape[0], np.float64)
    jit.jensen_shannon[first.shape[0], jit.THREADS](first, second, out)
    found: NDArray[np.float64] = np.sqrt(out.copy_to_host() / unit)
    return found


def mmd(first: Any, second: Any, bandwidth: float, *, biased: bool = False) -> float:
    """The squared discrepancy of `mmd.mmd` by all pairs, with no more memory than the vectors take.

    Distances are float32, so vectors far from the origin lose digits: take their mean off first.

    Args:
        first: float32 [vectors, dimensions] on a GPU, C-contiguous; at least two vectors.
        second: likewise, of as many dimensions.
        bandwidth: of the Gaussian kernel, in the unit of the vectors; `mmd.mmd` tells one of a sample.
        biased: counts each vector's pair with itself too; never below zero.

    Raises:
        TypeError: no arrays on a GPU, or of another type.
        ValueError: another shape or order, too few vectors or more than a million, or a bandwidth of 0 or less.
        DeviceError: no GPU is there.
        MissingExtraError: numba-cuda is not installed.
    """
    width = number("bandwidth", bandwidth)
    if not 1e-15 < width < 1e15:
        raise ValueError(f"a bandwidth is above 1e-15 and below 1e15, not {width}")
    x, y = _rows("first", first, ("float32",)), _rows("second", second, ("float32",))
    n, m = int(x.shape[0]), int(y.shape[0])
    if x.shape[1] != y.shape[1] or min(n, m) < 2:
        raise ValueError(f"two sets of at least two vectors of the same dimensions, not {x.shape} and {y.shape}")
    if max(n, m) > LARGEST:
        raise ValueError(f"at most {LARGEST} vectors of each, not {max(n, m)}: take a sample")
    within, rest, across = _gaussian(x, x, width), _gaussian(y, y, width), _gaussian(x, y, width)
    if biased:
        return (within + n) / n**2 + (rest + m) / m**2 - 2.0 * across / (n * m)
    return within / (n * (n - 1)) + rest / (m * (m - 1)) - 2.0 * across / (n * m)


def _gaussian(x: Any, y: Any, width: float) -> float:
    jit = _compiled()
    out = jit.cuda.to_device(np.zeros(1))
    grid = tuple(-(-side.shape[0] // jit.TILE) for side in (x, y))
    jit.gaussian_sum[grid, jit.THREADS](x, y, np.float32(-0.5 / width**2), x is y, out)
    return float(out.copy_to_host()[0])


def _pair(expected: Any, observed: Any) -> tuple[Any, Any]:
    first, second = _rows("expected", expected, _COUNTS), _rows("observed", observed, _COUNTS)
    drift_input.same(first, second)
    return first, second


def _rows(name: str, given: Any, types: tuple[str, ...]) -> Any:
    """The array as numba sees it, checked; nothing is copied."""
    array = _compiled().seen(given)
    if array is None:
        raise TypeError(f"{name} must be an array on a GPU (with __cuda_array_interface__), not {type(given).__name__}")
    if str(array.dtype) not in types:
        raise TypeError(f"{name} must be of {', '.join(types)}, not {array.dtype}")
    if len(array.shape) != 2 or not all(array.shape):
        raise ValueError(f"{name} must be rows, none of no length, not of shape {tuple(array.shape)}")
    if not array.is_c_contiguous():
        raise ValueError(f"{name} must be C-contiguous: make a copy that is")
    return array


def _address(given: Any) -> int:
    interface = getattr(given, "__cuda_array_interface__", None)
    return int(interface["data"][0]) if interface else 0


@cache
def _compiled() -> ModuleType:
    try:
        from llmguard.kernels import cuda_jit
    except ImportError as error:
        raise MissingExtraError("statistics on a GPU", "numba_cuda", "cuda") from error
    if not cuda_jit.cuda.is_available():
        raise DeviceError("no GPU that CUDA can use is there: arrays in memory are for llmguard.kernels.drift and mmd")
    return cuda_jit
