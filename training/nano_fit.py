"""Logistic regression over hashed windows: AdaGrad, one text at a time, each output by its highest window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from training.nano_features import Rows


@njit(cache=True, nogil=True)
def _highest(ids, windows, first, last, table, best, where):  # type: ignore[no-untyped-def]
    """For each output the highest of the windows from ``first`` to ``last``, and which it is."""
    logit = np.empty(table.shape[1], np.float32)
    best[:] = -np.inf
    for window in range(first, last):
        logit[:] = 0
        for place in range(windows[window], windows[window + 1]):
            for output in range(len(logit)):
                logit[output] += table[ids[place], output]
        root = np.sqrt(np.float32(windows[window + 1] - windows[window]))
        for output in range(len(logit)):
            if logit[output] / root > best[output]:
                best[output] = logit[output] / root
                where[output] = window


@njit(cache=True, nogil=True)
def _epoch(ids, windows, texts, targets, weights, order, rate, decay, table, seen, bias, bias_seen):  # type: ignore[no-untyped-def]
    outputs = table.shape[1]
    best, where = np.empty(outputs, np.float32), np.empty(outputs, np.int64)
    for text in order:
        if texts[text] == texts[text + 1]:
            continue
        _highest(ids, windows, texts[text], texts[text + 1], table, best, where)
        for k in range(outputs):
            if np.isnan(targets[text, k]):
                continue
            first, last = windows[where[k]], windows[where[k] + 1]
            chance = 1 / (1 + np.exp(-(best[k] + bias[k])))
            slope = weights[text] * (chance - targets[text, k])
            bias_seen[k] += slope * slope
            bias[k] -= rate * slope / np.sqrt(bias_seen[k] + 1e-6)
            slope /= np.sqrt(np.float32(last - first))
            for place in range(first, last):
                row = ids[place]
                push = slope + decay[k] * weights[text] * table[row, k]
                seen[row, k] += push * push
                table[row, k] -= rate * push / np.sqrt(seen[row, k] + 1e-6)


def fit(
    rows: Rows, bits: int, *, epochs: int, rate: float, decay: Sequence[float], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weights [1 << bits, outputs] and biases [outputs] of the linear layer.

    A text's logit is that of its highest window, so a long text with one bad sentence teaches about the sentence; the
    gradient goes to that window alone (Duchi et al., "Adaptive Subgradient Methods", JMLR 2011, for the steps).

    Args:
        rows: what is learned from.
        bits: of the features' numbers.
        epochs: passes over all texts, each in an order of its own.
        rate: of learning.
        decay: for each output, the pull of a weight to nothing each time that its feature is seen.
        seed: of the orders.
    """
    outputs = rows.targets.shape[1]
    table = np.zeros((1 << bits, outputs), np.float32)
    seen = np.zeros_like(table)
    bias, bias_seen = np.zeros(outputs, np.float32), np.zeros(outputs, np.float32)
    pull = np.asarray(decay, np.float32)
    dice = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = dice.permutation(len(rows.weights))
        step = np.float32(rate * (1 - epoch / epochs))
        _epoch(
            rows.ids, rows.windows, rows.texts, rows.targets, rows.weights, order, step, pull,
            table, seen, bias, bias_seen,
        )  # fmt: skip
    return table, bias
