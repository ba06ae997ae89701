"""Arrays on their way into a runtime and out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import InferenceError


def check_feeds(
    feeds: Mapping[str, NDArray[Any]], types: Mapping[str, type[np.generic] | None]
) -> dict[str, NDArray[Any]]:
    """The arrays as the graph wants them: all inputs, no others, of the right type.

    Args:
        feeds: arrays by input.
        types: what each input holds; None where numpy has no such type.

    Raises:
        InferenceError: an input is missing or not known, or an array is not of its kind.
    """
    if feeds.keys() != types.keys():
        missing, unknown = sorted(types.keys() - feeds.keys()), sorted(feeds.keys() - types.keys())
        words = [f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
        raise InferenceError(f"the arrays are not the model's inputs ({'; '.join(words)})")
    arrays = {}
    for name, wanted in types.items():
        array = np.asarray(feeds[name])
        if wanted is not None and array.dtype != wanted:
            if not np.can_cast(array.dtype, wanted, "same_kind"):
                raise InferenceError(f"input {name} is {array.dtype}, and the model wants {np.dtype(wanted)}")
            array = array.astype(wanted)
        arrays[name] = np.ascontiguousarray(array)
    return arrays


def float32(array: Any) -> NDArray[Any]:
    """An output for what comes after: half precision widened, all else as it is.

    Args:
        array: of any shape.
    """
    found = np.asarray(array)
    return found.astype(np.float32) if found.dtype == np.float16 else found


def described(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The shapes, which say nothing about the texts, for a message.

    Args:
        arrays: by input.
    """
    return ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())


def warm_feeds(
    inputs: Sequence[tuple[str, Sequence[Any], type[np.generic] | None]], shape: tuple[int, int]
) -> dict[str, NDArray[Any]] | None:
    """Ones for a first run, or None if these are not the inputs of a text encoder.

    Args:
        inputs: name, dimensions (a number where it is fixed) and type of each.
        shape: batch and length where the graph leaves them open.
    """
    feeds = {}
    for name, dimensions, kind in inputs:
        if len(dimensions) != 2 or kind not in (np.int64, np.int32):
            return None
        size = [fixed if isinstance(fixed, int) else free for fixed, free in zip(dimensions, shape, strict=True)]
        # Ones are a token of every vocabulary and an attention mask; a segment is 0 in any model.
        feeds[name] = (np.zeros if "type" in name else np.ones)(size, dtype=kind)
    return feeds
