import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.calibrate import expected_error, platt, probability, threshold
from training.figures import auc, bpsn, recall_by_source, span_f1, threshold_at


def test_an_identity_term_that_reads_as_toxic_has_a_low_bpsn() -> None:
    texts = ["my gay friend", "you fool", "nice day", "deaf people sing"]
    labels = [0, 1, 0, 0]
    scores = np.array([0.9, 0.5, 0.1, 0.2])
    found = bpsn(texts, labels, scores)
    assert found == {"gay": 0.0, "deaf": 1.0}


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=300), st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_a_threshold_lets_no_more_negatives_through(negatives: list[float], share: float) -> None:
    limit = threshold_at(np.array(negatives), share)
    assert sum(value > limit for value in negatives) <= share * len(negatives) + 1e-9


def test_recall_is_over_one_pool() -> None:
    negatives = np.arange(100) / 100
    found = recall_by_source({"a": np.array([0.985, 0.5]), "b": np.array([2.0, 2.0])}, negatives)
    assert found == {"a": 0.5, "b": 1.0, "all": 0.75}


def test_overlap_counts_for_spans() -> None:
    gold = [[(0, 3, "PERSON"), (5, 9, "LOCATION")]]
    assert span_f1(gold, [[(1, 4, "PERSON")]], "PERSON") == 1.0
    assert span_f1(gold, [[]], "LOCATION") == 0.0


def test_calibration_finds_temperature_and_bias() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 2, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-truth))).astype(int)
    temperature, bias = platt(truth * 3 - 1, labels)
    assert temperature == pytest.approx(3, rel=0.08)
    assert bias == pytest.approx(1, abs=0.2)
    assert expected_error(probability(truth * 3 - 1, temperature, bias), labels) < 0.03


@given(st.lists(st.tuples(st.floats(-50, 50), st.integers(0, 1)), min_size=1, max_size=120))
def test_calibration_never_turns_the_order_round(pairs: list[tuple[float, int]]) -> None:
    temperature, bias = platt(np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]))
    assert 0 < temperature <= 20
    assert np.isfinite(bias)


def test_a_label_that_is_turned_round_or_rare_is_left_as_it_is() -> None:
    labels = np.repeat([0, 1], 100)
    assert platt(np.repeat([1.0, -1.0], 100), labels) == (1.0, 0.0)
    assert platt(np.arange(6.0), np.array([0, 0, 0, 1, 1, 1])) == (1.0, 0.0)


def test_thresholds_are_probabilities() -> None:
    assert 0 < threshold(np.array([0.2, 0.9999, 0.4]), 0.0) <= 0.999
    assert threshold(np.array([0.1234] * 10), 0.01) == pytest.approx(0.124)


def test_one_class_has_no_auc() -> None:
    assert np.isnan(auc([1, 1], np.array([0.1, 0.2])))
