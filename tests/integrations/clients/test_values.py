"""One call in dicts: what is sent, what comes back, and what a block leads to; sync as async, whole as streamed."""

import asyncio
import dataclasses
import gc
import itertools
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fakes import Pieces, Words
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from llmguard import Blocked, ConfigurationError, Guard
from llmguard.dialects import registry
from llmguard.errors import DialectError
from llmguard.integrations.clients import values
from llmguard.testing import capture

CHAT = registry.get("openai.chat")
RULES = [
    {"detector": "words", "categories": ["BAD"], "action": "redact"},
    {"detector": "words", "categories": ["WORSE"], "action": "block"},
    {"detector": "pieces", "categories": ["PIECE"], "action": "redact"},
    {"detector": "pieces", "categories": ["LONG"], "action": "block"},
]


def guard_of(**policy: Any) -> Guard:
    return Guard({"name": "p", "rules": RULES, **policy}, detectors=[Words("words", "bad", "worse"), Pieces()])


def pieces_guard(**policy: Any) -> Guard:
    """A guard that lets streams go on piece by piece."""
    return Guard({"name": "p", "rules": RULES[2:], **policy}, detectors=[Pieces()])


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def answer(text: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice], **more}


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}


def chunks(*texts: str) -> list[dict[str, Any]]:
    said = [chunk({"content": text}) for text in texts]
    return [chunk({"role": "assistant"}), *said, chunk({}, "stop")]


def text_of(events: list[Any]) -> str:
    return "".join([event["choices"][0]["delta"].get("content") or "" for event in events])


class Source:
    """Events one by one; says when it was closed, and how many were taken."""

    def __init__(self, events: list[Any], error: Exception | None = None) -> None:
        self.events = list(events)
        self.error = error
        self.taken = 0
        self.closed = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.taken == len(self.events):
            raise self.error or StopIteration
        self.taken += 1
        return self.events[self.taken - 1]

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    def close(self) -> None:
        self.closed = True


class Model:
    """Answers in turn, and keeps what it was sent; callable with and without await."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[dict[str, Any]] = []

    def __call__(self, body: dict[str, Any]) -> Any:
        self.sent.append(body)
        made = self.answers.pop(0)
        return made(body) if callable(made) else made

    async def later(self, body: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return self(body)


async def both(guard: Guard, body: dict[str, Any], *answers: Any, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    """The answer and what was sent, which must be the same sync and async; an error as what it is."""
    results = []
    for is_async in (False, True):
        model = Model(*answers)
        try:
            if is_async:
                got: Any = await values.Way(guard, CHAT, **options).acall(body, model.later)
            else:
                got = values.Way(guard, CHAT, **options).call(body, model)
        except Exception as error:  # noqa: BLE001 - compared below
            got = error
        results.append((got, model.sent))
    first, second = results
    assert repr(first) == repr(second)
    return first


async def streamed(guard: Guard, body: dict[str, Any], *sources: list[Any], **options: Any) -> tuple[Any, list[Source]]:
    """The events, with the error that ended them last, if one did; the same sync and async."""
    results = []
    for is_async in (False, True):
        made = [Source(events) for events in sources]
        model = Model(*made)
        got: list[Any] = []
        try:
            if is_async:
                async for event in await values.Way(guard, CHAT, **options).astream(body, model.later):
                    got.append(event)  # noqa: PERF401 - what came before an error counts
            else:
                for event in values.Way(guard, CHAT, **options).stream(body, model):
                    got.append(event)  # noqa: PERF402 - what came before an error counts
        except Exception as error:  # noqa: BLE001 - compared below
            got.append(error)
        results.append((got, made))
    (first, made), (second, _) = results
    assert repr(first) == repr(second)
    return first, made


async def test_what_is_clean_goes_through_as_the_same_objects() -> None:
    with guard_of() as guard:
        body, reply = asked("hello"), answer("hi")
        got, sent = await both(guard, body, reply)
        assert got is reply
        assert sent[0]["messages"] is body["messages"]


async def test_the_model_gets_the_cleared_request_and_the_caller_the_restored_answer() -> None:
    def echo(body: dict[str, Any]) -> dict[str, Any]:
        return answer(f"you said: {body['messages'][0]['content']}")

    with guard_of() as guard:
        body = asked("a bad word", seed=7)
        got, sent = await both(guard, body, echo)
        assert sent[0]["messages"][0]["content"] == "a <BAD_1> word"
        assert sent[0]["seed"] == 7
        assert body == asked("a bad word", seed=7)
        assert got["choices"][0]["message"]["content"] == "you said: a bad word"
        got, _ = await both(guard, asked("hi"), answer("my own bad word"))
        assert got["choices"][0]["message"]["content"] == "my own <BAD_1> word"


async def test_a_blocked_request_is_never_sent() -> None:
    with guard_of() as guard:
        error, sent = await both(guard, asked("worse"))
        assert isinstance(error, Blocked)
        assert sent == []


async def test_a_policy_that_replies_answers_in_the_format() -> None:
    with guard_of(on_block={"reply": "No."}) as guard:
        for request, reply in ((asked("worse"), ()), (asked("fine"), (answer("worse"),))):
            got, _ = await both(guard, request, *reply)
            assert got["choices"][0]["message"]["content"] == "No."
            assert got["choices"][0]["finish_reason"] == "content_filter"


async def test_a_policy_that_retries_tells_the_model_why_and_then_raises() -> None:
    with guard_of(on_block={"retry": 2}) as guard:
        got, sent = await both(guard, asked("a bad question"), answer("worse"), answer("fine"))
        assert got["choices"][0]["message"]["content"] == "fine"
        assert sent[1]["messages"][0]["content"].startswith(
            "a <BAD_1> question\n\nYour last answer was withheld (words/"
        )
        got, sent = await both(guard, asked("hi"), *[answer("worse")] * 3)
        assert isinstance(got, Blocked)
        assert len(sent) == 3


async def test_a_fallback_says_a_text_or_gives_the_answer_itself() -> None:
    own = {"mine": True}
    with guard_of(on_block="fallback") as guard:
        got, _ = await both(guard, asked("hi"), answer("worse"), fallback=lambda decision: f"no {decision.stage}")
        assert got["choices"][0]["message"]["content"] == "no output"
        got, _ = await both(guard, asked("hi"), answer("worse"), fallback=lambda _: own)
        assert got is own
        with pytest.raises(ConfigurationError, match="fallback"):
            values.Way(guard, CHAT).call(asked("hi"), Model())


async def test_a_fallback_may_be_async_where_the_call_is() -> None:
    async def say(_: object) -> str:
        return "later"

    with guard_of(on_block="fallback") as guard:
        got = await values.Way(guard, CHAT, say).acall(asked("worse"), Model().later)
        assert got["choices"][0]["message"]["content"] == "later"


async def test_a_plain_fallback_does_not_hold_the_event_loop_up() -> None:
    here = threading.current_thread()

    def say(_: object) -> str:
        assert threading.current_thread() is not here
        return "from a thread"

    with guard_of(on_block="fallback") as guard:
        way = values.Way(guard, CHAT, say)
        got = await way.acall(asked("worse"), Model().later)
        assert got["choices"][0]["message"]["content"] == "from a thread"
        async with await way.astream(asked("worse", stream=True), Model().later) as events:
            assert text_of([event async for event in events]) == "from a thread"


def test_an_async_fallback_does_not_go_with_a_plain_client() -> None:
    async def say(_: object) -> str:
        return "later"

    with guard_of(on_block="fallback") as guard:
        way = values.Way(guard, CHAT, say)
        with pytest.raises(ConfigurationError, match="is async"):
            way.call(asked("worse"), Model())
        with pytest.raises(ConfigurationError, match="is async"):
            way.stream(asked("worse", stream=True), Model())


def test_an_answer_that_has_no_place_for_words_is_an_error() -> None:
    embeddings = registry.get("openai.embeddings")
    with guard_of(on_block={"reply": "No."}) as guard, pytest.raises(Blocked):
        values.Way(guard, embeddings).call({"input": "worse"}, Model())


async def test_what_can_not_be_read_is_not_let_through() -> None:
    with guard_of() as guard:
        for body in (asked("hi", messages=[{"role": "user", "content": b"worse"}]), asked("hi", tools=object())):
            error, sent = await both(guard, body)
            assert isinstance(error, TypeError)
            assert "worse" not in str(error)
            assert sent == []
        loop: dict[str, Any] = asked("hi")
        loop["messages"].append(loop)
        assert isinstance((await both(guard, loop))[0], TypeError)
        assert isinstance((await both(guard, {"model": "m"}))[0], DialectError)
        assert isinstance((await both(guard, asked("hi"), {"no": "answer"}))[0], DialectError)


async def test_numbers_that_json_lacks_stay_as_they_were() -> None:
    with guard_of() as guard:
        got, _ = await both(guard, asked("hi"), answer("bad", timings={"worst": float("inf")}))
        assert got["choices"][0]["message"]["content"] == "<BAD_1>"
        assert got["timings"]["worst"] == float("inf")


async def test_models_and_dataclasses_are_read_and_only_replaced_where_they_change() -> None:
    @dataclasses.dataclass
    class Message:
        role: str
        content: str

    clean, dirty = Message("system", "be kind"), Message("user", "bad")
    with guard_of() as guard:
        _, sent = await both(guard, asked("", messages=[clean, dirty]), answer("ok"))
        assert sent[0]["messages"][0] is clean
        assert sent[0]["messages"][1] == {"role": "user", "content": "<BAD_1>"}


async def test_a_clean_stream_goes_through_as_the_same_objects() -> None:
    with pieces_guard() as guard:
        source = chunks("hel", "lo")
        got, made = await streamed(guard, asked("hi", stream=True), source)
        assert [id(one) for one in got] == [id(one) for one in source]
        assert made[0].closed


async def test_a_match_that_comes_split_is_redacted_in_the_stream() -> None:
    with pieces_guard() as guard:
        got, _ = await streamed(guard, asked("hi", stream=True), chunks("see a", "b", "c now"))
        assert text_of(got) == "see <PIECE_1> now"
        assert got[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_blocked_stream_ends_and_closes_its_source() -> None:
    with pieces_guard() as guard:
        got, made = await streamed(guard, asked("hi", stream=True), chunks("so ", "a", "b", "bc", "more", "more"))
        *events, error = got
        assert isinstance(error, Blocked)
        assert text_of(events) == "so "
        assert made[0].closed
        assert made[0].taken < len(made[0].events)


async def test_a_blocked_stream_says_the_reply_in_its_own_format() -> None:
    with pieces_guard(on_block={"reply": " [stopped]"}) as guard:
        got, made = await streamed(guard, asked("hi", stream=True), chunks("so ", "abbc"))
        assert text_of(got) == "so  [stopped]"
        assert got[-1]["choices"][0]["finish_reason"] == "content_filter"
        assert made[0].closed
    with guard_of(on_block={"reply": "No."}) as guard:
        got, made = await streamed(guard, asked("worse", stream=True), [])
        assert text_of(got) == "No."
        assert made[0].taken == 0


async def test_a_stream_is_tried_again_only_while_nothing_of_it_went_out() -> None:
    with pieces_guard(on_block={"retry": 1}) as guard:
        got, made = await streamed(guard, asked("hi", stream=True), chunks("abbc"), chunks("fine"))
        assert text_of(got) == "fine"
        assert [event["choices"][0]["delta"].get("role") for event in got].count("assistant") == 1
        assert made[0].closed
        got, made = await streamed(guard, asked("hi", stream=True), chunks("so ", "abbc"), chunks("fine"))
        assert isinstance(got[-1], Blocked)
        assert made[1].taken == 0


async def test_a_stream_falls_back() -> None:
    with pieces_guard(on_block="fallback") as guard:
        got, _ = await streamed(guard, asked("hi", stream=True), chunks("abbc"), fallback=lambda _: "sorry")
        assert text_of(got) == "sorry"
        got, _ = await streamed(guard, asked("hi", stream=True), chunks("abbc"), fallback=lambda _: chunks("mine"))
        assert text_of(got) == "mine"
        assert [event["choices"][0]["delta"].get("role") for event in got].count("assistant") == 1


async def test_no_more_than_so_many_events_wait_for_a_word() -> None:
    silent = [chunk({"role": "assistant", "content": ""})] * 4_000
    with pieces_guard(on_block={"retry": 1}) as guard:
        got, made = await streamed(guard, asked("hi", stream=True), [*silent, *chunks("abbc")], chunks("fine"))
        assert isinstance(got[-1], Blocked)
        assert len(got) > 3_000
        assert made[1].taken == 0


async def test_a_request_is_looked_at_before_the_stream_is_read() -> None:
    with guard_of() as guard:
        with pytest.raises(Blocked):
            values.Way(guard, CHAT).stream(asked("worse", stream=True), Model())
        with pytest.raises(Blocked):
            await values.Way(guard, CHAT).astream(asked("worse", stream=True), Model().later)


async def test_a_reader_that_goes_closes_the_source_and_ends_the_span() -> None:
    for leave in ("close", "with", "drop"):
        with capture() as told, pieces_guard():
            guard = Guard(
                {"name": "p", "rules": RULES[2:]},
                detectors=[Pieces()],
                tracer_provider=told.tracer_provider,
                meter_provider=told.meter_provider,
            )
            source = Source(chunks("one", "two", "three"))
            events = values.Way(guard, CHAT).stream(asked("hi", stream=True), Model(source))
            next(events)
            next(events)
            if leave == "close":
                events.close()
                assert next(events, None) is None
            elif leave == "with":
                with events:
                    pass
            else:
                del events
                gc.collect()
            assert source.closed
            assert len([span for span in told.spans if span.name == "llmguard.guard output"]) == 1
            guard.close()


async def test_a_reader_that_goes_closes_an_asynchronous_source() -> None:
    with pieces_guard() as guard:
        source = Source(chunks("one", "two"))
        async with await values.Way(guard, CHAT).astream(asked("hi", stream=True), Model(source).later) as events:
            await anext(events)
        assert source.closed
        assert [event async for event in events] == []


async def test_a_source_that_breaks_off_raises_its_own_error() -> None:
    with pieces_guard() as guard:
        body = asked("hi", stream=True)
        source = Source(chunks("so ", "a")[:3], ConnectionError("gone"))
        got = []
        with pytest.raises(ConnectionError):  # noqa: PT012 - what came before counts
            for event in values.Way(guard, CHAT).stream(body, Model(source)):
                got.append(event)  # noqa: PERF402
        assert text_of(got) == "so "
        assert source.closed
        source = Source([], ConnectionError("gone"))
        with pytest.raises(ConnectionError):
            [event async for event in await values.Way(guard, CHAT).astream(body, Model(source).later)]
        assert source.closed


async def test_an_event_that_can_not_be_read_ends_the_stream() -> None:
    with pieces_guard() as guard:
        for event, kind in ((object(), TypeError), ({"choices": 3}, DialectError)):
            got, made = await streamed(guard, asked("hi", stream=True), [*chunks("so ")[:2], event])
            assert isinstance(got[-1], kind)
            assert made[0].closed


async def test_a_conversation_keeps_its_placeholders_from_call_to_call() -> None:
    with guard_of() as guard, guard.conversation("c"):
        _, sent = await both(guard, asked("bad"), answer("ok"))
        placeholder = sent[0]["messages"][0]["content"]
        got, _ = await both(guard, asked("and?"), answer(f"it was {placeholder}"))
        assert got["choices"][0]["message"]["content"] == "it was bad"


def test_changed_events_are_of_the_type_that_build_makes() -> None:
    class Chunk(dict[str, Any]):
        pass

    with pieces_guard() as guard:
        way = values.Way(guard, CHAT, build=Chunk)
        got = list(way.stream(asked("hi", stream=True), lambda _: [Chunk(one) for one in chunks("x abc y")]))
        assert {type(event) for event in got} == {Chunk}
        assert text_of(got) == "x <PIECE_1> y"
        assert type(way.call(asked("hi"), lambda _: answer("abc"))) is Chunk


@settings(max_examples=60)
@given(st.text("abc x", max_size=24), st.lists(st.integers(0, 24), max_size=6))
def test_a_stream_says_what_the_whole_answer_would(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *[cut for cut in cuts if cut < len(text)]})
    parts = [text[start:end] for start, end in itertools.pairwise(places)]
    with pieces_guard() as guard:
        try:
            whole = values.Way(guard, CHAT).call(asked("hi"), Model(answer(text)))["choices"][0]["message"]["content"]
        except Blocked:
            whole = None
        got: list[Any] = []
        try:
            for event in values.Way(guard, CHAT).stream(asked("hi", stream=True), Model(Source(chunks(*parts)))):
                got.append(event)  # noqa: PERF402
            assert text_of(got) == whole
        except Blocked:
            assert whole is None
            assert "abb" not in text_of(got)


def test_events_are_json_as_it_came_but_for_what_changed() -> None:
    with pieces_guard() as guard:
        event = chunk({"content": "abc"})
        event["extra"] = {"numbers": [1.5, 2], "more": None}
        [got, *_] = values.Way(guard, CHAT).stream(asked("hi", stream=True), Model([event]))
        assert json.dumps(got["extra"]) == json.dumps(event["extra"])


async def test_a_fallback_goes_on_where_a_stream_is_blocked_in_its_midst() -> None:
    with pieces_guard(on_block="fallback") as guard:
        sent = asked("hi", stream=True)
        got, _ = await streamed(guard, sent, chunks("one ", "abbc"), fallback=lambda _: "sorry")
        assert text_of(got) == "one sorry"
        assert [event["choices"][0]["delta"].get("role") for event in got].count("assistant") == 1
        assert got[-1]["choices"][0]["finish_reason"] == "content_filter"
        got, _ = await streamed(guard, sent, chunks("one ", "abbc"), fallback=lambda _: [chunk({"content": "mine"})])
        assert text_of(got) == "one mine"


USED = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


async def test_telemetry_is_told_of_each_call_of_the_model_and_of_none_that_was_not_made() -> None:
    with capture() as seen:
        providers = {"tracer_provider": seen.tracer_provider, "meter_provider": seen.meter_provider}
        with Guard(
            {"name": "p", "rules": RULES[2:], "on_block": {"retry": 1}}, detectors=[Pieces()], **providers
        ) as guard:
            way = values.Way(guard, CHAT, provider="near", in_process=True)
            inside: list[Any] = []

            def send(body: dict[str, Any]) -> Any:
                inside.append(trace.get_current_span().get_span_context().span_id)
                return answer("abbc" if len(inside) == 1 else "fine", usage=USED)

            with pytest.raises(Blocked):
                way.call(asked("abbc"), send)
            assert not inside
            way.call(asked("hi"), send)
            spans = [span for span in seen.spans if span.name == "chat m"]
            assert [span.context.span_id for span in spans] == inside
            assert len(spans) == 2  # one that was blocked, and one more
            for span in spans:
                assert span.kind is SpanKind.INTERNAL
                assert span.attributes["gen_ai.provider.name"] == "near"
                assert span.attributes["gen_ai.usage.output_tokens"] == 5

            async def later() -> Any:
                return answer("fine")

            with pytest.raises(OSError, match="gone"):
                way.call(asked("hi"), lambda _: Source([], OSError("gone")).__next__())
            await way.acall(asked("hi"), lambda _: later())
            last = chunk({}, "stop") | {"usage": USED}
            for _ in way.stream(asked("hi", stream=True), lambda _: [*chunks("fine")[:-1], last]):
                pass
            with way.stream(asked("hi", stream=True), lambda _: chunks("a ", "b ", "c ")) as left:
                next(left)
            failed, fine, read, gone = [span for span in seen.spans if span.name == "chat m"][2:]
    assert failed.attributes["error.type"] == "OSError"
    assert "error.type" not in fine.attributes
    assert read.attributes["gen_ai.usage.output_tokens"] == 5
    assert read.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert gone.attributes["error.type"] == "abandoned"


def test_what_can_not_be_read_is_counted() -> None:
    with capture() as seen:
        with Guard({"name": "p", "rules": []}, meter_provider=seen.meter_provider) as guard:
            way = values.Way(guard, CHAT)
            for body, said in (
                (asked(7), answer("x")),
                (asked("hi", x=object()), answer("x")),
                (asked("hi"), {"choices": 3}),
            ):
                with pytest.raises((DialectError, TypeError)):
                    way.call(body, lambda _, said=said: said)
            with pytest.raises(DialectError):
                list(way.stream(asked("hi", stream=True), lambda _: [{"choices": 3}]))
        told = seen.metrics()["llmguard.requests.unguarded"]
    reasons = {point.attributes["llmguard.unguarded.reason"]: point.value for point in told}
    assert reasons == {"body": 2, "answer": 2}
