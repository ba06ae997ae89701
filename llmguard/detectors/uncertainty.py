"""How sure a model was of its own words: what the log probabilities in an answer come to, and where it hesitated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from llmguard.errors import DialectError


class Hesitation(NamedTuple):
    """A token that the model itself found unlikely.

    Attributes:
        span: code points of the answer, half open.
        probability: of the token.
    """

    span: tuple[int, int]
    probability: float


class Uncertainty(NamedTuple):
    """What the log probabilities of one answer come to.

    Attributes:
        perplexity: exp of minus the mean logarithm; 1.0 for an answer without tokens.
        mean_probability: of its tokens; 1.0 without.
        min_probability: of the unlikeliest one; 1.0 without.
        hesitations: the tokens below the bound, in order.
    """

    perplexity: float
    mean_probability: float
    min_probability: float
    hesitations: tuple[Hesitation, ...]


def uncertainty(tokens: Sequence[str], logprobs: Sequence[float], *, below: float = 0.1) -> Uncertainty:
    """How sure a model was of an answer.

    Args:
        tokens: the answer in pieces; joined they are its text.
        logprobs: the natural logarithm of each piece's probability; minus infinity for 0.
        below: the probability under which a token is a hesitation.

    Raises:
        TypeError: a token is no text, or a logarithm no number.
        ValueError: there are not as many of both, a logarithm is NaN or above 0, or the bound is no probability.
        MissingExtraError: numba is not installed.
    """
    from llmguard.kernels.tokens_odds import confidence

    if len(tokens) != len(logprobs):
        raise ValueError(f"{len(tokens)} tokens and {len(logprobs)} log probabilities don't pair")
    if not isinstance(below, int | float) or isinstance(below, bool) or not 0 <= below <= 1:
        raise ValueError(f"below must be a probability in [0, 1], not {below!r}")
    found = confidence(logprobs)
    hesitations = []
    at = 0
    for token, logprob in zip(tokens, logprobs, strict=True):
        if not isinstance(token, str):
            raise TypeError(f"a token must be a string, not {type(token).__name__}")
        probability = min(1.0, math.exp(logprob))
        if probability < below:
            hesitations.append(Hesitation((at, at + len(token)), probability))
        at += len(token)
    return Uncertainty(found.perplexity, found.mean_probability, found.min_probability, tuple(hesitations))


def answer_logprobs(answer: object) -> list[tuple[list[str], list[float]]]:
    """Tokens and log probabilities of each choice in a model's answer, as the OpenAI and Ollama APIs have them.

    Args:
        answer: a response of chat, of completions or of Ollama: a mapping, or an object with ``model_dump``.

    Returns:
        One pair a choice; a choice without log probabilities is left out.

    Raises:
        TypeError: it is neither.
        DialectError: the log probabilities have another form.
    """
    dump = getattr(answer, "model_dump", None)
    root = dump() if callable(dump) else answer
    if not isinstance(root, Mapping):
        raise TypeError(f"an answer must be a mapping or have model_dump, not {type(answer).__name__}")
    choices = root.get("choices")
    try:
        found = [
            _pair(part) for part in ((one.get("logprobs") for one in choices) if choices else [root.get("logprobs")])
        ]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        # Their messages may quote the answer.
        raise DialectError("the answer's log probabilities are not in the form of OpenAI's or Ollama's API") from None
    return [pair for pair in found if pair[0]]


def _pair(part: Any) -> tuple[list[str], list[float]]:
    if not part:
        return [], []
    if isinstance(part, Mapping) and "token_logprobs" in part:
        # Of a prompt that is repeated the first token has none.
        both = [(token, odds) for token, odds in zip(part["tokens"], part["token_logprobs"], strict=True)]
    else:
        both = list(_entries(part.get("content") or [] if isinstance(part, Mapping) else part))
    return [token for token, _ in both], [0.0 if odds is None else float(odds) for _, odds in both]


def _entries(part: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    for entry in part:
        yield entry["token"], entry["logprob"]
