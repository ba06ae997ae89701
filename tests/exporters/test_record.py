"""What of an observation a record holds, and that it comes back from JSON as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import called, made

from llmguard.exporters.record import Found, Ran, Record, as_dict, from_dict, identifier, record
from llmguard.types import (
    Action,
    Decision,
    DetectorRun,
    Finding,
    Observation,
    Outcome,
    PolicyRef,
    Stage,
    Text,
)

SECRET = "canary-4711"
POLICY = PolicyRef("p", "1", "sha256:00")


def decided(**changes: Any) -> Decision:
    finding = Finding("BAD", 0.9, (2, 7), "words", ("a listed word",), 0, Action.REDACT)
    whole = Finding("ODD", 0.4, None, "stats", (), 0, Action.FLAG)
    runs = (DetectorRun("words", "1", Outcome.HIT, 5.0, 0.001), DetectorRun("x", "2", Outcome.ERROR, error="KeyError"))
    values = {"coverage": (1.0,), "runs": runs, "seconds": 0.002, "modified": True, **changes}
    return Decision(Action.REDACT, (SECRET,), (finding, whole), Stage.OUTPUT, POLICY, **values)


def test_of_a_check() -> None:
    seen = Observation(
        decided(), (Text(SECRET),), "m", ("n", "2", "b"), {"plan": "free"}, {}, 12.5, "talk", "acme", "ab" * 16
    )
    assert record(seen) == Record(
        12_500_000_000,
        "check",
        "output",
        "redact",
        True,
        POLICY,
        (
            Found("words", "BAD", 0.9, 5, "redact", ("a listed word",)),
            Found("stats", "ODD", 0.4, None, "flag", ()),
        ),
        (Ran("words", "1", "hit", 0.001, "", ""), Ran("x", "2", "error", 0.0, "KeyError", "")),
        (1.0,),
        0.002,
        True,
        "m",
        ("n", "2", "b"),
        {"plan": "free"},
        "acme",
        "talk",
        "ab" * 16,
        {},
    )


def test_of_a_call() -> None:
    seen = record(Observation(None, model="m", numbers={"latency": 0.5, "cost": math.inf}, at=1.0))
    assert (seen.kind, seen.seconds, seen.numbers) == ("call", 0.5, {"latency": 0.5})
    assert (seen.stage, seen.action, seen.policy) == ("", "", PolicyRef("", "", ""))


def test_a_number_larger_than_any_float() -> None:
    seen = record(Observation(None, numbers={"input_tokens": 10**400, "latency": 0.5, "cost": math.nan}))
    assert seen.numbers == {"latency": 0.5}


def test_no_part_of_a_text() -> None:
    assert SECRET not in json.dumps(as_dict(record(Observation(decided(), (Text(SECRET),)))))


def test_a_time_of_its_own_where_nobody_said_one() -> None:
    assert record(Observation(None)).at > 1_700_000_000_000_000_000


@pytest.mark.parametrize("model", ["my secret plan", "jane.doe@example.com", "x" * 129, "naïve", "\ud800"])
def test_a_model_that_is_no_name(model: str) -> None:
    assert record(Observation(None, model=model)).model == "other"


def test_reasons_are_bounded() -> None:
    finding = Finding("BAD", reasons=("r" * 1000,) * 1000)
    (found,) = record(Observation(Decision(Action.FLAG, (), (finding,), Stage.INPUT, POLICY))).findings
    assert found.reasons == ("r" * 128,) * 16


def test_a_reason_in_broken_unicode_is_mended() -> None:
    finding = Finding("BAD", reasons=("rule \ud800", "r\u00e8gle"))
    (found,) = record(Observation(Decision(Action.FLAG, (), (finding,), Stage.INPUT, POLICY))).findings
    assert found.reasons == ("rule ?", "r\u00e8gle")


@given(st.text(st.characters(exclude_categories=()), max_size=600))
def test_ids_are_bounded_and_whole(text: str) -> None:
    kept = identifier(text)
    assert len(kept) <= 256
    assert kept.encode().decode() == kept
    if len(text) <= 256 and not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert kept == text


def test_long_ids_stay_apart() -> None:
    assert identifier("x" * 257) != identifier("x" * 258)


@pytest.mark.parametrize("one", [made(), made(findings=(), runs=(), coverage=()), called(), Record(0, "call")])
def test_back_from_json(one: Record) -> None:
    said = as_dict(one)
    assert from_dict(json.loads(json.dumps(said))) == one
    assert list(said) == [part.name for part in dataclasses.fields(Record)]
    assert from_dict({**said, "later": 1}) == one


WRONG: list[Any] = [None, True, "x\ud800", -1, math.nan, [1], {"a": object()}, [[]], [{}], 2**70]


@pytest.mark.parametrize("key", list(as_dict(made())))
def test_what_is_missing_or_wrong_is_named_without_its_value(key: str) -> None:
    said = as_dict(made())
    with pytest.raises(ValueError, match=f"no {key}"):
        from_dict({name: value for name, value in said.items() if name != key})
    with pytest.raises(ValueError, match=rf"^the record's {key} is not of the kind it should be$"):
        from_dict({**said, key: object()})
    for wrong in WRONG:
        with contextlib.suppress(ValueError):
            as_dict(from_dict({**said, key: wrong}))  # and nothing else is raised


@pytest.mark.parametrize("said", [None, [], "x", 1, {"at": {}}])
def test_what_is_no_record(said: Any) -> None:
    with pytest.raises(ValueError, match="record"):
        from_dict(said)
