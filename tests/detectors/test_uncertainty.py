import math
import traceback
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.detectors.uncertainty import answer_logprobs, uncertainty
from llmguard.errors import DialectError

TOKENS = ["It", " was", " 1932", "."]
LOGS = [math.log(0.9), math.log(0.8), math.log(0.05), math.log(0.99)]


def test_an_answer_is_as_sure_as_its_tokens() -> None:
    found = uncertainty(TOKENS, LOGS)
    assert math.isclose(found.perplexity, math.exp(-sum(LOGS) / 4))
    assert math.isclose(found.mean_probability, (0.9 + 0.8 + 0.05 + 0.99) / 4)
    assert math.isclose(found.min_probability, 0.05)
    (odd,) = found.hesitations
    assert "".join(TOKENS)[slice(*odd.span)] == " 1932"
    assert math.isclose(odd.probability, 0.05)


@given(st.lists(st.tuples(st.text(max_size=5), st.floats(-50, 0)), max_size=30), st.floats(0, 1))
def test_hesitations_are_the_tokens_below_the_bound(pieces: list[tuple[str, float]], below: float) -> None:
    tokens, logs = [one for one, _ in pieces], [one for _, one in pieces]
    found = uncertainty(tokens, logs, below=below)
    text = "".join(tokens)
    assert [text[slice(*one.span)] for one in found.hesitations] == [
        token for token, log in pieces if math.exp(log) < below
    ]
    assert found.perplexity >= 1.0 - 1e-9


def test_an_answer_without_tokens_is_sure() -> None:
    assert uncertainty([], []) == (1.0, 1.0, 1.0, ())


@pytest.mark.parametrize(
    ("tokens", "logs", "below", "error"),
    [
        (["a"], [], 0.1, ValueError),
        (["a"], [0.5], 0.1, ValueError),
        (["a"], [math.nan], 0.1, ValueError),
        (["a"], ["x"], 0.1, TypeError),
        ([1], [-1.0], 0.1, TypeError),
        (["a"], [-1.0], 2, ValueError),
        (["a"], [-1.0], True, ValueError),
    ],
)
def test_wrong_arguments_are_refused(tokens: Any, logs: Any, below: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        uncertainty(tokens, logs, below=below)


CHAT = {"choices": [{"logprobs": {"content": [{"token": "a", "logprob": -0.5}]}}, {"logprobs": None}]}
COMPLETION = {"choices": [{"logprobs": {"tokens": ["a", "b"], "token_logprobs": [None, -1]}}]}
OLLAMA = {"response": "a", "logprobs": [{"token": "a", "logprob": -0.25}]}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (CHAT, [(["a"], [-0.5])]),
        (SimpleNamespace(model_dump=lambda: CHAT), [(["a"], [-0.5])]),
        (COMPLETION, [(["a", "b"], [0.0, -1.0])]),
        (OLLAMA, [(["a"], [-0.25])]),
        ({"choices": []}, []),
        ({}, []),
    ],
)
def test_log_probabilities_are_read_from_answers(answer: object, expected: object) -> None:
    assert answer_logprobs(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"logprobs": {"content": [{"text": "secret"}]}}]},
        {"choices": [{"logprobs": {"content": [{"token": "a", "logprob": "secret"}]}}]},
        {"logprobs": [{"token": "a", "logprob": 10**400}]},
        {"logprobs": 3},
    ],
)
def test_another_form_is_an_error_that_shows_no_text(answer: object) -> None:
    with pytest.raises(DialectError) as caught:
        answer_logprobs(answer)
    shown = traceback.format_exception(caught.value, limit=0)
    assert "secret" not in "".join(shown)


def test_what_is_no_answer_is_an_error() -> None:
    with pytest.raises(TypeError, match="not str"):
        answer_logprobs("text")
