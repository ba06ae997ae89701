"""Bias AUCs, flips and swaps: by hand, and against naive twins."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.counterfactuals import Swapper, indefinite
from llmguard.detectors.fairness_lexicon import bundled
from llmguard.detectors.fairness_statistics import quantile, wilson
from llmguard.fairness_figures import auc_interval, bias_figures, flip_figures
from llmguard.figures import figures


def naive(positive: list[float], negative: list[float]) -> float | None:
    pairs = list(itertools.product(positive, negative))
    return sum((p > n) + (p == n) / 2 for p, n in pairs) / len(pairs) if pairs else None


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), max_size=40))
def test_the_aucs_are_those_of_all_pairs(rows: list[tuple[bool, bool, int]]) -> None:
    labels, members = (np.array([row[place] for row in rows], bool) for place in (0, 1))
    scores = np.array([row[2] / 5 for row in rows])

    def own(label: bool, member: bool) -> list[float]:
        return [score / 5 for is_positive, is_member, score in rows if (is_positive, is_member) == (label, member)]

    found = bias_figures(labels, scores, members)
    expected = {
        "subgroup_auc": naive(own(True, True), own(False, True)),
        "bpsn_auc": naive(own(True, False), own(False, True)),
        "bnsp_auc": naive(own(True, True), own(False, False)),
    }
    for name, value in expected.items():
        assert getattr(found, name) == (None if value is None else pytest.approx(value)), name
    assert (found.texts, found.positives) == (sum(members), len(own(True, True)))
    assert found.subgroup_auc_interval == auc_interval(labels[members], scores[members], quantile(0.95))


def test_a_term_that_reads_as_toxic_has_a_low_bpsn_and_a_high_bnsp() -> None:
    labels = np.array([1, 1, 0, 0, 1, 0], bool)
    members = np.array([0, 0, 0, 0, 1, 1], bool)
    scores = np.array([0.6, 0.7, 0.1, 0.2, 0.9, 0.8])
    found = bias_figures(labels, scores, members)
    assert (found.subgroup_auc, found.bpsn_auc, found.bnsp_auc) == (1.0, 0.0, 1.0)


def placed(labels: list[int], scores: list[float]) -> tuple[float, float]:
    """DeLong's estimate by its definition: the AUC and its variance."""
    pairs = [(score, label) for score, label in zip(scores, labels, strict=True)]
    positive, negative = [score for score, label in pairs if label], [score for score, label in pairs if not label]
    right = [[(p > n) + (p == n) / 2 for n in negative] for p in positive]
    of_positive = [sum(row) / len(negative) for row in right]
    of_negative = [sum(row[at] for row in right) / len(positive) for at in range(len(negative))]
    auc = sum(of_positive) / len(positive)
    spread = [
        sum((value - auc) ** 2 for value in own) / (len(own) - 1) / len(own) for own in (of_positive, of_negative)
    ]
    return auc, sum(spread)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=4, max_size=40))
def test_an_interval_is_wilsons_for_what_varies_as_much(rows: list[tuple[int, int]]) -> None:
    labels, scores = [row[0] for row in rows], [row[1] / 6 for row in rows]
    found = auc_interval(np.array(labels, bool), np.array(scores), 1.96)
    if not 2 <= sum(labels) <= len(labels) - 2:
        assert found is None
        return
    assert found is not None
    auc, variance = placed(labels, scores)
    size = auc * (1 - auc) / variance if variance > 1e-12 else min(sum(labels), len(labels) - sum(labels))
    assert found == pytest.approx(wilson(auc, size, 1.96), abs=1e-9)
    assert 0 <= found[0] <= auc + 1e-12 <= found[1] + 2e-12 <= 1 + 3e-12
    assert found[0] < found[1]


@pytest.mark.parametrize("apart", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("steps", [0, 4])
def test_an_interval_holds_the_auc_as_often_as_it_says(apart: float, steps: int) -> None:
    rng = np.random.default_rng(7)

    def drawn(positives: int, negatives: int) -> tuple[Any, Any]:
        scores = np.concatenate((rng.normal(apart, 1, positives), rng.normal(0, 1, negatives)))
        return np.arange(len(scores)) < positives, np.round(scores * steps) / steps if steps else scores

    true = figures(*drawn(40_000, 40_000), 0.5).auc
    held = 0
    for _ in range(600):
        low, high = auc_interval(*drawn(25, 40), 1.959964) or (0.0, 0.0)
        held += low <= (true or 0.0) <= high
    assert held / 600 > 0.92


def test_a_text_counts_once_however_many_swaps_it_has() -> None:
    flips = [[(True, 0.5), (True, 0.3)], [(False, -0.1)], [(False, 0.0), (True, 0.2), (False, 0.1), (False, 0.1)]]
    found = flip_figures(flips, quantile(0.95))
    assert (found.texts, found.swaps) == (3, 7)
    assert found.flip_rate == pytest.approx((1 + 0 + 0.25) / 3)
    assert found.mean_absolute_difference == pytest.approx((0.4 + 0.1 + 0.1) / 3)
    assert found.mean_difference == pytest.approx((0.4 - 0.1 + 0.1) / 3)
    assert found.difference_interval is not None
    spread = 1.959964 * np.std([0.4, -0.1, 0.1], ddof=1) / np.sqrt(3)
    assert found.difference_interval == pytest.approx((0.4 / 3 - spread, 0.4 / 3 + spread), rel=1e-6)
    low, high = found.flip_interval
    assert 0 < low < found.flip_rate < high < 1


def test_one_text_has_no_interval_of_means() -> None:
    found = flip_figures([[(False, 0.0)]], 1.96)
    assert found.difference_interval is None
    assert found.absolute_difference_interval is None
    assert found.flip_rate == 0


def swapped(text: str, by: str, **options: bool) -> list[str]:
    return [swap.text for swap in Swapper(bundled(), most=999, **options).swaps(text) if swap.by.text == by]


@pytest.mark.parametrize(
    ("text", "by", "expected"),
    [
        ("a gay man", "heterosexual", "a heterosexual man"),
        ("She is an Asian poet.", "Hispanic", "She is a Hispanic poet."),
        ("She is a Hispanic poet.", "Asian", "She is an Asian poet."),
        ("A black man", "Asian", "An Asian man"),
        ("A BLACK MAN", "Asian", "AN ASIAN MAN"),
        ("a american guest", "Indian", "a indian guest"),
        ("an american guest", "Ukrainian", "a ukrainian guest"),
        ("an LGBT club", "gay", "a gay club"),
        ("a gay club", "LGBT", "an LGBT club"),
        ("lgbt clubs", "gay", "gay clubs"),
        ("Women cook. Women read", "men", "Men cook. Men read"),
        ("Muslim men. Muslim women", "atheist", "Atheist men. Atheist women"),
        ("Two Muslim men", "atheist", "Two atheist men"),
        ("Muslims and Muslims", "Jews", "Jews and Jews"),
        ("an african american, an african american", "Caucasian", "a caucasian, a caucasian"),
        ("a middle\neastern town", "white", "a white town"),
        ("my deaf friend", "autistic", "my autistic friend"),
        ("é𝄞 a deaf one", "autistic", "é𝄞 an autistic one"),
    ],
)
def test_swaps_keep_case_and_article(text: str, by: str, expected: str) -> None:
    assert expected in swapped(text, by)


def test_only_the_other_groups_of_the_dimension_that_are_not_in_the_text_come_in() -> None:
    swaps = list(Swapper(bundled(), most=999).swaps("a gay and a straight woman"))
    by_term = {term: {one.by.group for one in swaps if one.term.text == term} for term in ("gay", "straight", "woman")}
    assert by_term["gay"] == by_term["straight"] == {"lesbian", "bisexual", "lgbt"}
    assert by_term["woman"] == {"men", "transgender"}
    assert not list(Swapper(bundled()).swaps("nobody at all"))


def test_plurals_are_swapped_for_plurals() -> None:
    assert {one.by.text for one in Swapper(bundled(), most=999).swaps("two Jews")} >= {"Muslims", "atheists"}
    assert all("plural" in one.by.forms for one in Swapper(bundled(), most=999).swaps("two Jews"))


def test_which_swaps_are_made_goes_round() -> None:
    swapper = Swapper(bundled(), most=3)
    made = [one.by.text for _ in range(8) for one in swapper.swaps("a Sikh")]
    assert len(made) == 24
    every = {one.by.text for one in Swapper(bundled(), most=999).swaps("a Sikh")}
    assert set(made) == every


def test_ambiguous_words_are_swapped_where_they_count() -> None:
    assert swapped("black coffee", "Asian", everywhere=False) == []
    assert swapped("black people", "Asian", everywhere=False) == ["Asian people"]
    assert swapped("black coffee", "Asian") == ["Asian coffee"]


@given(st.text())
def test_any_text_can_be_asked_for_swaps(text: str) -> None:
    for one in Swapper(bundled()).swaps(f"{text} gay {text}"):
        assert one.by.text.lower() in one.text.lower()


@pytest.mark.parametrize(
    ("phrase", "article"),
    [
        *(
            ("Asian", "an"),
            ("European", "a"),
            ("Ukrainian", "a"),
            ("LGBT", "an"),
            ("heterosexual", "a"),
            ("older", "an"),
        ),
        *(("HIV positive", "an"), ("Hispanic", "a"), ("unemployed", "an"), ("university", "a"), ("", "a")),
    ],
)
def test_the_article_goes_by_the_sound(phrase: str, article: str) -> None:
    assert indefinite(phrase) == article
