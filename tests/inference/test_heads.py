from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmguard.errors import InferenceError
from llmguard.inference.card import Calibration, Head
from llmguard.inference.heads import calibrate

LOGITS = arrays(np.float32, (3, 2), elements=st.floats(-(2.0**100), 2.0**100, width=32))


def head(**more: object) -> Head:
    said = {"name": "h", "output": "o", "kind": "labels", "labels": ("a", "b"), "activation": "sigmoid", **more}
    return Head.model_validate(said)


@given(LOGITS)
def test_sigmoid_is_the_textbooks(logits: np.ndarray) -> None:
    found = calibrate(logits, head())
    wide = logits.astype(np.float64)
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-wide))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


@given(LOGITS)
def test_softmax_sums_to_one(logits: np.ndarray) -> None:
    found = calibrate(logits, head(activation="softmax"))
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    assert (found >= 0).all()


def test_a_known_value() -> None:
    np.testing.assert_allclose(calibrate(np.array([[0.0, np.log(3)]]), head()), [[0.5, 0.75]], atol=1e-6)
    np.testing.assert_allclose(
        calibrate(np.array([[0.0, np.log(3)]]), head(activation="softmax")), [[0.25, 0.75]], atol=1e-6
    )


def test_the_calibration_of_the_precision_comes_before_the_default() -> None:
    calibrated = head(
        calibration={
            "default": Calibration(temperature={"a": 2.0}, bias={"a": 1.0}),
            "int8": Calibration(bias={"b": -1.0}),
        }
    )
    logits = np.array([[1.0, 1.0]])
    np.testing.assert_allclose(
        calibrate(logits, calibrated, "fp16"), [[1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-1))]], atol=1e-6
    )
    np.testing.assert_allclose(calibrate(logits, calibrated, "int8"), [[1 / (1 + np.exp(-1)), 0.5]], atol=1e-6)
    other = head(calibration={"default": Calibration(temperature={"a": 2.0})})
    np.testing.assert_allclose(calibrate(logits, other, "bf16")[0, 0], 1 / (1 + np.exp(-0.5)), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["labels", "embedding"])
def test_what_is_not_finite_is_an_error(bad: float, kind: str) -> None:
    one = head() if kind == "labels" else head(kind=kind, labels=(), activation="none")
    with pytest.raises(InferenceError, match="not finite"):
        calibrate(np.array([[0.0, bad]]), one)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 2, 1)])
def test_the_wrong_number_of_labels(shape: tuple[int, ...]) -> None:
    with pytest.raises(InferenceError, match="its card 2"):
        calibrate(np.zeros(shape), head())


def test_tokens_and_half_precision_and_embeddings() -> None:
    tokens = head(kind="tokens", labels=("O", "B-X"), activation="softmax")
    assert calibrate(np.zeros((2, 5, 2), np.float16), tokens).shape == (2, 5, 2)
    embedding = head(kind="embedding", labels=(), activation="none")
    np.testing.assert_array_equal(calibrate(np.array([[3.0, -4.0]]), embedding), [[3.0, -4.0]])
