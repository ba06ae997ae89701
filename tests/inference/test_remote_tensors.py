"""Arrays there and back, as bytes and as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from llmguard.inference.remote_tensors import Tensor, datatype, from_bytes, from_numbers, to_bytes

TYPES = [np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.float16, np.float32, np.float64]
ANY = st.sampled_from(TYPES).flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, min_side=0)))


@given(ANY)
def test_there_and_back(array: NDArray[Any]) -> None:
    name = datatype(array)
    assert Tensor("x", name, array.shape).type == array.dtype
    for big in (array, array.astype(array.dtype.newbyteorder(">"))):
        back = from_bytes(to_bytes(big), name, array.shape)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)
    np.testing.assert_array_equal(from_numbers(array.tolist(), name, array.shape), array)
    np.testing.assert_array_equal(from_numbers(array.ravel().tolist(), name, array.shape), array)


def test_bf16_is_the_upper_half_of_a_float() -> None:
    values = np.array([[1.0, -2.5], [0.0, 3.0e38]], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2")
    found = from_bytes(halves.tobytes(), "BF16", [2, 2])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values, rtol=2**-7)


@pytest.mark.parametrize(
    ("data", "name", "shape"),
    [
        (b"1234567", "FP32", [1]),
        (b"12345678", "FP32", [1]),
        (b"1234", "FP32", [2]),
        (b"1234", "FP32", [-1, -1]),
        (b"1234", "BYTES", [1]),
        (b"123", "BF16", [1]),
    ],
)
def test_bytes_that_do_not_fit(data: bytes, name: str, shape: list[int]) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_bytes(data, name, shape)


@pytest.mark.parametrize(
    ("data", "name", "shape"),
    [(["a"], "FP32", [1]), ([None], "FP32", [1]), ([1, [2]], "FP32", [2]), ([1, 2], "FP32", [3]), ([1], "BYTES", [1])],
)
def test_numbers_that_do_not_fit(data: Any, name: str, shape: list[int]) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_numbers(data, name, shape)
