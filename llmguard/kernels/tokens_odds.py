"""How sure a model was of what it wrote, from the log probabilities of its tokens: perplexity, entropy, surprises."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import MissingExtraError
from llmguard.kernels.arguments import check_whole

#: Natural logarithms of probabilities.
Logs: TypeAlias = Sequence[float] | NDArray[np.floating[Any]]
Rows: TypeAlias = Sequence[Sequence[float]] | NDArray[np.floating[Any]]

#: How far above 0 a logarithm may be: what 16-bit floats make of a probability of 1.
_SLACK = 1e-2


class Confidence(NamedTuple):
    """What the log probabilities of the tokens that were chosen come to.

    Attributes:
        perplexity: exp of minus their mean; 1.0 without tokens, infinite where one was impossible.
        mean_probability: the mean of the probabilities; 1.0 without tokens.
        min_probability: the smallest probability; 1.0 without tokens.
    """

    perplexity: float
    mean_probability: float
    min_probability: float


def confidence(logprobs: Logs) -> Confidence:
    """Perplexity, mean and minimum of the probabilities of tokens.

    Args:
        logprobs: natural logarithms, one a token; minus infinity for an impossible one.

    Raises:
        TypeError: they are no numbers.
        ValueError: one is NaN or above 0, or they have more than one dimension.
        MissingExtraError: numba is not installed.
    """
    logs = _logs(logprobs, 1)
    if not len(logs):
        return Confidence(1.0, 1.0, 1.0)
    total, chances, least = compiled().confidence(logs)
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(-np.float64(total) / len(logs)))
    return Confidence(perplexity, min(1.0, float(chances) / len(logs)), float(np.exp(least)))


def top_entropy(logprobs: Rows) -> NDArray[np.float64]:
    """For each token the entropy in bits of the alternatives that the provider tells, the rest being one more.

    With the k most likely of many tokens known, it is the least that the entropy of all can be.

    Args:
        logprobs: natural logarithms [tokens, k].

    Returns:
        float64 [tokens].

    Raises:
        TypeError: they are no numbers.
        ValueError: one is NaN or above 0, a row's probabilities sum up to more than 1, or they have not two dimensions.
        MissingExtraError: numba is not installed.
    """
    logs = _logs(logprobs, 2)
    with np.errstate(under="ignore"):
        sums = np.exp(logs).sum(axis=1)
    if len(sums) and float(sums.max()) > 1.0 + _SLACK:
        raise ValueError(
            f"logprobs of one token must be of probabilities that sum up to 1, not {float(sums.max()):.3g}"
        )
    out = np.empty(len(logs))
    compiled().top_entropy(logs, out)
    return out


def surprises(logprobs: Logs, *, window: int = 64, deviations: float = 3.0, floor: float = 8.0) -> NDArray[np.int64]:
    """Tokens that surprise far more than those right before them.

    A token's surprise is -log2 of its probability. It stands out where it has ``floor`` bits and is more than
    ``deviations`` standard deviations above the mean of the ``window`` before it, of which there must be 8; in the mean
    and in the comparison a surprise counts for 64 bits at most.

    Args:
        logprobs: natural logarithms, one a token; minus infinity for an impossible one.
        window: tokens before it that a token is compared with, from 8 to 4,096.
        deviations: see above; 3 as in Shewhart's control charts.
        floor: see above; 8 bits is one in 256.

    Returns:
        int64: their places, ascending.

    Raises:
        TypeError: they are no numbers.
        ValueError: one is NaN or above 0, they have more than one dimension, or an option is out of range.
        MissingExtraError: numba is not installed.
    """
    check_whole("window", window, _LEAST, 4_096)
    for name, value in (("deviations", deviations), ("floor", floor)):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{name} must be a number, not {type(value).__name__}")
        if not 0.0 <= value < np.inf:
            raise ValueError(f"{name} must be at least 0, not {value}")
    bits = np.maximum(_logs(logprobs, 1) / -np.log(2.0), 0.0)
    out = np.empty(len(bits), np.int64)
    return out[: compiled().spikes(bits, window, _LEAST, float(deviations), float(floor), out)].copy()


_LEAST = 8


@cache
def compiled() -> ModuleType:
    """The compiled half of this module.

    Raises:
        MissingExtraError: numba is not installed.
    """
    try:
        from llmguard.kernels import tokens_odds_jit
    except ImportError as error:
        raise MissingExtraError("statistics of log probabilities", "numba", "kernels") from error
    return tokens_odds_jit


def _logs(logprobs: Any, dimensions: int) -> NDArray[np.float64]:
    try:
        logs = np.asarray(logprobs)
    except (TypeError, ValueError) as error:
        raise TypeError("logprobs must be numbers, and rows of one length") from error
    if not logs.size and not isinstance(logprobs, np.ndarray):
        logs = logs.astype(np.float64).reshape((0,) * dimensions if logs.ndim != dimensions else logs.shape)
    if logs.ndim != dimensions:
        raise ValueError(f"logprobs must have {dimensions} dimension{'s' * (dimensions > 1)}, not {logs.ndim}")
    if logs.dtype.kind not in "fiu":
        raise TypeError(f"logprobs must be numbers, not {logs.dtype}")
    logs = np.ascontiguousarray(logs, np.float64)
    if logs.size:
        highest = float(logs.max())
        if not highest <= _SLACK:
            raise ValueError(f"logprobs must be natural logarithms of probabilities, at most 0: one is {highest:g}")
    capped: NDArray[np.float64] = np.minimum(logs, 0.0)
    return capped
