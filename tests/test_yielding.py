"""Generator functions behind a guard: what they yield goes out as far as it has been looked at."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fakes import Pieces, Words

from llmguard import Blocked, Guard

RULES = [
    {"detector": "pieces", "categories": ["LONG"], "action": "block"},
    {"detector": "pieces", "action": "redact"},
]


def guard_of(**policy: Any) -> Guard:
    return Guard({"name": "p", "rules": RULES, **policy}, detectors=[Pieces()])


def test_what_is_yielded_is_cleared() -> None:
    with guard_of() as guard:

        @guard
        def ask(question: str) -> Iterator[str]:
            yield from ["so ", "a", "bc", " and ", question]

        assert inspect.isgeneratorfunction(ask)
        assert list(ask("on")) == ["so ", "<PIECE_1>", " and ", "on"]
        assert "".join(ask("abc")) == "so abc and abc"  # the caller's own comes back to the caller


async def test_an_async_one_likewise() -> None:
    with guard_of() as guard:

        @guard
        async def ask(question: str) -> AsyncIterator[str]:
            for piece in ("so ", "ab", "c", " and ", question):
                yield piece

        assert inspect.isasyncgenfunction(ask)
        assert [piece async for piece in ask("on")] == ["so ", "<PIECE_1>", " and ", "on"]


def test_a_blocked_input_is_never_asked() -> None:
    asked = []
    with guard_of() as guard:

        @guard
        def ask(question: str) -> Iterator[str]:
            asked.append(question)
            yield "fine"

        with pytest.raises(Blocked):
            list(ask("abbc"))
    assert asked == []


def test_a_block_in_mid_stream_closes_the_source_and_keeps_the_rest_in() -> None:
    closed = []
    with guard_of() as guard:

        @guard
        def ask(question: str) -> Iterator[str]:
            try:
                yield from ["so ", "abb", "c", "never"]
            finally:
                closed.append(True)

        answer, got = ask("on"), []
        with pytest.raises(Blocked):
            got.extend(iter(answer))
        assert got == ["so "]
        assert closed == [True]


def test_a_reply_takes_the_place_of_the_rest() -> None:
    with guard_of(on_block={"reply": "No."}) as guard:

        @guard
        def ask(question: str) -> Iterator[str]:
            yield from ["so ", "abbc", " more"]

        assert list(ask("on")) == ["so ", "No."]
        assert list(ask("abbc")) == ["No."]


def test_a_fallback_takes_the_place_of_the_rest() -> None:
    with guard_of(on_block="fallback") as guard:

        @guard(fallback=lambda decision: f"blocked: {decision.action}")
        def ask(question: str) -> Iterator[str]:
            yield "abbc"

        assert list(ask("on")) == ["blocked: block"]


def test_an_answer_of_which_nothing_went_out_is_asked_for_again() -> None:
    asked = []
    with guard_of(on_block={"retry": 2}) as guard:

        @guard
        def ask(question: str) -> Iterator[str]:
            asked.append(question)
            yield from ["abb", "c"] if len(asked) < 3 else ["good"]

        assert list(ask("on")) == ["good"]
        assert len(asked) == 3
        assert "withheld (pieces/LONG)" in asked[1]


def test_an_answer_of_which_some_went_out_is_not() -> None:
    asked = []
    with guard_of(on_block={"retry": 2}) as guard:

        @guard
        def ask(question: str) -> Iterator[str]:
            asked.append(question)
            yield from ["well ", "abbc"]

        with pytest.raises(Blocked):
            list(ask("on"))
        assert len(asked) == 1


def test_values_with_a_text_in_them_keep_their_shape_and_order() -> None:
    with guard_of() as guard:

        @guard(output="text")
        def ask(question: str) -> Iterator[dict[str, Any]]:
            yield {"text": "so a", "n": 1}
            yield {"text": None, "n": 2}
            yield {"text": "bc.", "n": 3}
            yield {"text": None, "n": 4}

        assert list(ask("on")) == [
            {"text": "so ", "n": 1},
            {"text": "<PIECE_1>.", "n": 3},
            {"text": None, "n": 2},
            {"text": None, "n": 4},
        ]


def test_yielding_something_else_is_an_error() -> None:
    with guard_of() as guard:

        @guard
        def ask(question: str) -> Iterator[Any]:
            yield 3

        with pytest.raises(TypeError, match="yielded int"):
            list(ask("on"))


def test_a_reader_that_goes_closes_the_source() -> None:
    closed = []
    with guard_of() as guard:

        @guard
        def ask(question: str) -> Iterator[str]:
            try:
                yield from ["so ", "on ", "and on"]
            finally:
                closed.append(True)

        answer = ask("on")
        assert next(answer) == "so "
        answer.close()  # type: ignore[attr-defined]
        assert closed == [True]
        assert len(guard.vault) == 0


async def test_an_async_reader_that_goes_closes_the_source() -> None:
    closed = []
    with guard_of() as guard:

        @guard
        async def ask(question: str) -> AsyncIterator[str]:
            try:
                for piece in ("so ", "on ", "and on"):
                    yield piece
            finally:
                closed.append(True)

        answer = ask("on")
        assert await anext(answer) == "so "
        await answer.aclose()  # type: ignore[attr-defined]
        assert closed == [True]


def test_what_the_function_raises_comes_through() -> None:
    with guard_of() as guard:

        @guard
        def ask(question: str) -> Iterator[str]:
            yield "so "
            raise OSError("line is down")

        got = []
        with pytest.raises(OSError, match="line is down"):
            got.extend(iter(ask("on")))


def test_overlap_waits_for_the_input_before_anything_goes_out() -> None:
    slow = Words("slow", "bad", inline=False)
    rules = [{"detector": "slow", "stage": "input", "action": "block"}]
    with Guard({"name": "p", "rules": rules, "overlap": True}, detectors=[slow]) as guard:

        @guard
        def ask(question: str) -> Iterator[str]:
            yield "so"

        assert list(ask("good")) == ["so"]
        with pytest.raises(Blocked):
            list(ask("bad"))


def test_values_with_an_empty_text_are_not_lost() -> None:
    with guard_of() as guard:

        @guard(output="text")
        def ask(question: str) -> Iterator[dict[str, Any]]:
            yield {"text": "hi", "done": False}
            yield {"text": "", "done": True}

        assert list(ask("on")) == [{"text": "hi", "done": False}, {"text": "", "done": True}]


async def test_an_async_generator_may_have_an_async_fallback() -> None:
    async def fall_back(_: object) -> str:
        return "sorry"

    with guard_of(on_block="fallback") as guard:

        @guard(fallback=fall_back)
        async def ask(question: str) -> AsyncIterator[str]:
            yield "abbc"

        assert [piece async for piece in ask("on")] == ["sorry"]
