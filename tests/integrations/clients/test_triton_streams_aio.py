"""Streams of Triton's asynchronous client for gRPC, guarded, against a server on a real socket."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
from fakes import Hanging, Pieces
from triton_streams import FINAL, PATIENCE, Dies, Fails, asked, streaming, texts

from llmguard import Blocked, Guard
from llmguard.errors import DialectError
from llmguard.integrations.clients import triton
from llmguard.testing import capture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
pytest.importorskip("tritonclient.grpc.aio")

import grpc  # noqa: E402 - only where it is installed
import tritonclient.grpc as module  # noqa: E402 - likewise
import tritonclient.grpc.aio as aio  # noqa: E402 - likewise
from tritonclient.utils import InferenceServerException  # noqa: E402 - likewise

RULES = [
    {"detector": "pieces", "categories": ["PIECE"], "action": "redact"},
    {"detector": "pieces", "categories": ["LONG"], "action": "block"},
]
Got = list[tuple[Any, Any]]


def guard_of(seen: Any = None, **policy: Any) -> Guard:
    providers = {} if seen is None else {"tracer_provider": seen.tracer_provider}
    return Guard({"name": "p", "rules": RULES, **policy}, detectors=[Pieces()], **providers)


async def inputs(*requests: Any) -> AsyncIterator[Any]:
    for request in requests:
        yield request


def text(got: Got, id: str = "") -> str:  # noqa: A002 - the protocol's word
    own = [result for result, _ in got if result is not None and result.get_response().id == id]
    return b"".join([piece for result in own for piece in texts(result)]).decode()


def errors(got: Got) -> list[Any]:
    return [error for _, error in got if error is not None]


def saying(*pieces: Any) -> Callable[[bytes, int], Iterable[Any]]:
    return lambda _, __: pieces


def cut(text: bytes | str, _: int = 0) -> list[bytes]:
    raw = text.encode() if isinstance(text, str) else text
    return [raw[at : at + 1] for at in range(len(raw))]


async def test_requests_and_their_answers_are_guarded_each_by_itself() -> None:
    def say(text: bytes, _: int) -> Iterable[Any]:
        return cut(b"so abbc and more" if text == b"stop" else text)

    with guard_of() as guard, streaming(say, together=4) as model:
        async with triton.wrap(aio.InferenceServerClient(model.url), guard) as client:
            assert isinstance(client, aio.InferenceServerClient)
            asks = [asked("x abc"), asked("stop", request_id="s"), asked("y"), asked("z", request_id="s")]
            given = [{**one} for one in asks]
            got = [pair async for pair in client.stream_infer(inputs(*given))]
        assert sorted(model.asked) == [b"stop", b"x <PIECE_1>", b"y", b"z"]
        assert sorted(text(got)) == sorted("x abcy")
        assert sorted(text(got, "s")) == sorted("so z")
        assert [type(error) for error in errors(got)] == [Blocked]
        assert {type(result) for result, _ in got} == {module.InferResult, type(None)}
        assert len(set(model.seen)) == 4
        assert [list(one) for one in given] == [list(one) for one in asks]  # the caller's own are left alone


async def test_a_blocked_request_is_an_error_in_its_place_and_the_stream_goes_on() -> None:
    with guard_of() as guard, streaming(cut) as model:
        client = triton.wrap(aio.InferenceServerClient(model.url), guard)
        answered = asyncio.Event()

        async def one_by_one() -> AsyncIterator[Any]:
            yield asked("abbc")
            await answered.wait()  # nothing has been sent, and the error is there
            yield asked("fine")

        reader = client.stream_infer(inputs_iterator=one_by_one())
        result, error = await anext(reader)
        assert result is None
        assert isinstance(error, Blocked)
        answered.set()
        assert text([pair async for pair in reader]) == "fine"
        assert model.asked == [b"fine"]
        with pytest.raises(StopAsyncIteration):
            await anext(reader)
        await client.close()


@pytest.mark.parametrize("how", [{}, {"flags": False}, {"empty_last": False}], ids=["empty", "unflagged", "flagged"])
async def test_what_is_held_back_goes_out_at_the_end(how: dict[str, Any]) -> None:
    with guard_of() as guard, streaming(saying(b"it is", b" ab"), **how) as model:
        async with triton.wrap(aio.InferenceServerClient(model.url), guard) as client:
            got = [pair async for pair in client.stream_infer(inputs(asked("hi", request_id="r")))]
            assert text(got, "r") == "it is ab"
            assert all(len(result.get_response().outputs) == 1 for result, _ in got)
            wanted = inputs(asked("hi", enable_empty_final_response=True))
            last = [pair async for pair in client.stream_infer(wanted)][-1][0].get_response()
            assert last.parameters[FINAL].bool_param is ("flags" not in how)
            assert len(last.outputs) == (0 if not how else 1)


async def test_replies_retries_and_fallbacks() -> None:
    late = saying(b"so ", b"abb", b"c and", b" more")

    async def fallback(_: Any) -> str:
        return "sorry"

    def improving(text: bytes, before: int) -> Iterable[Any]:
        return [b"abbc"] if text == b"hi" else cut("fine")

    async def outcome(policy: dict[str, Any], say: Any, **how: Any) -> tuple[str, list[Any], int]:
        with guard_of(**policy) as guard, streaming(say) as model:
            async with triton.wrap(aio.InferenceServerClient(model.url), guard, **how) as client:
                got = [pair async for pair in client.stream_infer(inputs(asked("hi")))]
            return text(got), [type(error) for error in errors(got)], len(model.asked)

    assert await outcome({}, late) == ("so ", [Blocked], 1)
    assert await outcome({"on_block": {"reply": "No."}}, late) == ("so No.", [], 1)
    assert await outcome({"on_block": "fallback"}, late, fallback=fallback) == ("so sorry", [], 1)
    assert await outcome({"on_block": {"retry": 2}}, improving) == ("fine", [], 2)
    assert await outcome({"on_block": {"retry": 2}}, saying(b"abbc")) == ("", [Blocked], 3)
    dies = lambda _, before: [Dies()] if before else [b"abbc"]  # noqa: E731 - shorter
    assert await outcome({"on_block": {"retry": 2}}, dies) == ("", [grpc.aio.AioRpcError], 2)


async def test_an_error_ends_its_request_alone() -> None:
    def say(text: bytes, _: int) -> Iterable[Any]:
        return cut("fine") if text == b"fine" else [b"x ", b"ab", Fails("no")]

    with guard_of() as guard, streaming(say) as model:
        async with triton.wrap(aio.InferenceServerClient(model.url), guard) as client:
            both = inputs(asked("hi", request_id="r"), asked("fine"))
            got = [pair async for pair in client.stream_infer(both)]
    assert [type(error) for error in errors(got)] == [InferenceServerException]
    assert (text(got, "r"), text(got)) == ("x ", "fine")


async def test_answers_of_nobody_are_not_handed_out() -> None:
    with guard_of() as guard, streaming(cut, ids=False, together=2) as model:
        async with triton.wrap(aio.InferenceServerClient(model.url), guard) as client:
            got = [pair async for pair in client.stream_infer(inputs(asked("hi"), asked("ho")))]
    assert {type(error) for error in errors(got)} == {DialectError}
    assert text(got) == ""


async def test_a_server_that_dies_ends_the_stream_by_its_error() -> None:
    with (
        capture() as seen,
        guard_of(seen) as guard,
        streaming(saying(b"x", b" ab", Dies())) as model,
    ):
        async with triton.wrap(aio.InferenceServerClient(model.url), guard) as client:
            reader = client.stream_infer(inputs(asked("hi")))
            got = [await anext(reader), await anext(reader)]
            assert text(got) == "x "
            with pytest.raises(grpc.aio.AioRpcError, match="gone"):
                await anext(reader)
            with pytest.raises(StopAsyncIteration):
                await anext(reader)
    (span,) = [span for span in seen.spans if span.name == "generate_content m"]
    assert "AioRpcError" in span.attributes["error.type"]


@pytest.mark.parametrize("ends", ["cancel", "task", "aclose", "dropped"])
async def test_a_stream_is_left_with_things_pending(ends: str) -> None:
    released = threading.Event()
    with (
        capture() as seen,
        guard_of(seen) as guard,
        streaming(saying(b"x", released, b"y")) as model,
    ):
        async with triton.wrap(aio.InferenceServerClient(model.url), guard) as client:
            reader = client.stream_infer(inputs(asked("hi")))
            assert texts((await anext(reader))[0]) == [b"x"]
            waits = asyncio.ensure_future(anext(reader)) if ends in ("cancel", "task") else None
            await asyncio.sleep(0)
            if ends == "cancel":
                assert reader.cancel()
            elif ends == "aclose":
                await reader.aclose()
            elif waits is not None:
                waits.cancel()
            if waits is not None:
                with pytest.raises(asyncio.CancelledError):
                    await waits
            if ends == "dropped":
                del reader
                gc.collect()
            else:
                with pytest.raises(StopAsyncIteration):
                    await anext(reader)
            released.set()
            got = [pair async for pair in client.stream_infer(inputs(asked("hi")))]  # and another one begins
            assert text(got) == "xy"
    left, done = [span for span in seen.spans if span.name == "generate_content m"]
    assert left.attributes["error.type"] == "abandoned"
    assert "error.type" not in done.attributes


async def test_a_stream_that_is_left_while_a_request_is_looked_at() -> None:
    hanging = Hanging()
    policy = {"name": "p", "rules": [{"detector": "hanging", "action": "block", "deadline_ms": 60_000}]}
    with Guard(policy, detectors=[hanging]) as guard, streaming(cut) as model:
        async with triton.wrap(aio.InferenceServerClient(model.url), guard) as client:
            reader = client.stream_infer(inputs(asked("hi")))
            waits = asyncio.ensure_future(anext(reader))
            assert await asyncio.to_thread(hanging.begun.wait, PATIENCE)
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits
            hanging.released.set()
        assert model.asked == []


async def test_what_is_wrong_in_the_callers_iterator_ends_the_stream_as_without_a_guard() -> None:
    async def raises() -> AsyncIterator[Any]:
        yield asked("hi")
        raise LookupError("own")

    async def outcome(client: Any, requests: Any) -> type[BaseException]:
        try:
            async for _ in client.stream_infer(requests):
                pass
        except BaseException as error:  # noqa: BLE001 - which one is the question
            return type(error)
        raise AssertionError("it ends otherwise")

    released = threading.Event()
    with guard_of() as guard, streaming(saying(released)) as model:
        async with aio.InferenceServerClient(model.url) as bare:
            for make in (raises, lambda: inputs("none"), lambda: inputs({"model_name": "m"})):
                assert await outcome(triton.wrap(bare, guard), make()) is await outcome(bare, make())
            with pytest.raises(TypeError, match="inputs_iterator: is missing"):
                triton.wrap(bare, guard).stream_infer()
            with pytest.raises(AttributeError):
                triton.wrap(bare, guard).start_stream(print)
        released.set()


async def test_what_can_not_be_read_in_a_request_is_an_error_in_its_place() -> None:
    with guard_of() as guard, streaming(cut) as model:
        async with triton.wrap(aio.InferenceServerClient(model.url), guard) as client:
            wrong = [asked("hi", request_id=3), asked("hi", parameters={"x": object()})]
            got = [pair async for pair in client.stream_infer(inputs(*wrong, asked("fine")))]
    assert [type(error) for error in errors(got)] == [TypeError, TypeError]
    assert text(got) == "fine"
    assert model.asked == [b"fine"]
