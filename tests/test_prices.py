from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.dialects.wire import Usage
from llmguard.errors import ConfigurationError
from llmguard.prices import Price, Prices

PRICES = Prices(
    {
        "small": Price(1.0, 2.0),
        "big*": {"input": 10, "output": 30, "cached": 1},
        "big-cheap*": {"input": 5, "output": 6},
        "big-cheap": {"input": 3},
    }
)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("small", Price(1.0, 2.0)),
        ("small-2", None),  # a name is no beginning
        ("smal", None),
        ("big", Price(10, 30, 1)),
        ("big-2026-01-01", Price(10, 30, 1)),
        ("big-cheap-2026", Price(5, 6)),
        ("big-cheap", Price(3)),
        ("BIG", None),
        ("*", None),
        ("", None),
    ],
)
def test_the_longest_name_that_fits_is_taken_and_never_a_guess(model: str, expected: Price | None) -> None:
    assert PRICES.of(model) == expected


def test_a_star_alone_is_for_every_named_model() -> None:
    prices = Prices({"*": Price(1)})
    assert prices.of("any") == Price(1)
    assert prices.of("") is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(1_000_000, 0), 10.0),
        (Usage(0, 1_000_000), 30.0),
        (Usage(1_000_000, 0, 400_000), 6.4),
        (Usage(1_000_000, 0, 9_000_000), 1.0),  # no more can come from a cache than was read
        (Usage(0, 0), 0.0),
        (Usage(5, None), None),
        (Usage(None, 5), None),
        (Usage(), None),
    ],
)
def test_cost_is_that_of_the_counts_or_unknown(usage: Usage, expected: float | None) -> None:
    cost = PRICES.cost(("big",), usage)
    assert cost == (pytest.approx(expected) if expected is not None else None)


def test_a_count_that_costs_nothing_need_not_be_known() -> None:
    assert Price(2.0).cost(Usage(1_000_000, None)) == 2.0
    assert Price(0.0, 3.0).cost(Usage(None, 1_000_000)) == 3.0
    assert Price(0.0).cost(Usage()) is None


def test_the_model_that_answered_goes_before_the_one_that_was_asked_for() -> None:
    usage = Usage(1_000_000, 0)
    assert PRICES.cost(("small", "big"), usage) == 1.0
    assert PRICES.cost(("unknown", "big"), usage) == 10.0
    assert PRICES.cost(("", "unknown"), usage) is None


@given(
    *[st.integers(0, 10**9)] * 3,
    *[st.floats(0, 1000, allow_nan=False)] * 3,
)
def test_cost_is_the_sum_of_its_parts(
    read: int, written: int, cached: int, price_in: float, price_out: float, price_cached: float
) -> None:
    cost = Price(price_in, price_out, price_cached).cost(Usage(read, written, cached))
    hit = min(cached, read)
    exact = (
        (read - hit) * Fraction(price_in) + hit * Fraction(price_cached) + written * Fraction(price_out)
    ) / 1_000_000
    assert cost == pytest.approx(float(exact), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("name", ["prices.yaml", "prices.json"])
def test_a_table_is_read_from_a_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(json.dumps({"m*": {"input": 1.5, "output": 2}}), encoding="utf-8")
    for source in (file, str(file)):
        prices = Prices.from_any(source)
        assert (len(prices), prices.of("m-1")) == (1, Price(1.5, 2))
    assert Prices.from_any(prices) is prices


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"m": {"input": -1}}, r"m\.input: -1 is no price"),
        ({"m": {"input": float("nan")}}, r"m\.input: nan is no price"),
        ({"m": {"input": "1"}}, r"m\.input: '1' is no price"),
        ({"m": {"input": True}}, r"m\.input: True is no price"),
        ({"m": {"input": 1, "output": None}}, r"m\.output: None is no price"),
        ({"m": {"output": 1}}, r"m\.input is missing"),
        ({"m": {"input": 1, "outputs": 1}}, r"m\.outputs is no price \(did you mean 'output'"),
        ({"m": 3}, "m: a price is a mapping"),
        ({"a*b": {"input": 1}}, r"'a\*b' is no model"),
        ({"": {"input": 1}}, "'' is no model"),
        ({4: {"input": 1}}, "4 is no model"),
        ([], "a price table maps models to prices"),
    ],
)
def test_a_wrong_table_says_where(table: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Prices.from_any(table)


@pytest.mark.parametrize("text", [None, "[", "a: b", "- 1", "\x00", ""])
def test_a_wrong_file_is_named(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "prices.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        Prices.from_any(file)
    assert caught.value.source == str(file)
