"""Streams of Triton's client for gRPC, guarded, against a server on a real socket that answers in pieces."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fakes import Pieces, Words
from hypothesis import given, settings
from hypothesis import strategies as st
from triton_streams import FINAL, PATIENCE, Dies, Fails, Model, asked, streaming, texts

from llmguard import Blocked, ConfigurationError, Guard
from llmguard.errors import DialectError
from llmguard.integrations.clients import triton
from llmguard.integrations.clients.triton_pieces import Pieces as Read
from llmguard.testing import capture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
pytest.importorskip("tritonclient.grpc")

import tritonclient.grpc as module  # noqa: E402 - only where it is installed
from tritonclient.utils import InferenceServerException  # noqa: E402 - likewise

RULES = [
    {"detector": "pieces", "categories": ["PIECE"], "action": "redact"},
    {"detector": "pieces", "categories": ["LONG"], "action": "block"},
]


def guard_of(seen: Any = None, **policy: Any) -> Guard:
    providers = {} if seen is None else {"tracer_provider": seen.tracer_provider, "meter_provider": seen.meter_provider}
    return Guard({"name": "p", "rules": RULES, **policy}, detectors=[Pieces()], **providers)


class Heard:
    """A callback that keeps what it is given."""

    def __init__(self) -> None:
        self.got: list[tuple[Any, Any]] = []
        self.came: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self.threads: set[int] = set()

    def __call__(self, result: Any, error: Any) -> None:
        self.got.append((result, error))
        self.threads.add(threading.get_ident())
        self.came.put((result, error))

    def text(self, id: str = "", name: str = "text") -> str:  # noqa: A002 - the protocol's word
        own = [result for result, _ in self.got if result is not None and result.get_response().id == id]
        return b"".join([piece for result in own for piece in texts(result, name)]).decode()

    @property
    def errors(self) -> list[Any]:
        return [error for _, error in self.got if error is not None]


@contextmanager
def stream(model: Model, guard: Guard, **how: Any) -> Iterator[tuple[Any, Heard]]:
    """A wrapped client with a stream; it has been read to its end when the block is left."""
    heard = Heard()
    with triton.wrap(module.InferenceServerClient(model.url), guard, **how) as client:
        client.start_stream(heard)
        yield client, heard
        client.stop_stream()


def cut(text: str | bytes, size: int = 1) -> list[bytes]:
    raw = text.encode() if isinstance(text, str) else text
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def saying(*pieces: Any) -> Callable[[bytes, int], Iterable[Any]]:
    return lambda _, __: pieces


def echo(text: bytes, _: int) -> Iterable[bytes]:
    return cut(text)


def test_a_finding_that_comes_in_pieces_is_taken_out_and_the_rest_goes_out_as_it_came() -> None:
    numbers = np.array([[3, 4]])
    pieces: list[Any] = [{"text": piece, "score": numbers} for piece in cut("so abc it is")]
    with guard_of() as guard, streaming(saying(*pieces)) as model, stream(model, guard) as (client, heard):
        client.async_stream_infer(**asked("hi abc", request_id="one"))
        client.stop_stream()
        assert model.asked == [b"hi <PIECE_1>"]
        assert heard.text("one") == "so abc it is"  # what was told comes back
        assert not heard.errors
        assert len(heard.got) == len(pieces)
        for result, _ in heard.got:
            assert type(result) is module.InferResult
            assert result.as_numpy("score").tolist() == [[3, 4]]
            assert result.as_numpy("text").shape == (1, 1)
            assert result.get_response().model_name == "m"
            assert not result.get_response().parameters[FINAL].bool_param


def test_what_the_model_says_of_its_own_is_redacted_and_none_of_it_goes_out_before() -> None:
    with guard_of() as guard, streaming(saying(*cut("x abc y"))) as model, stream(model, guard) as (client, heard):
        client.async_stream_infer(**asked("hi"))
        client.stop_stream()
        assert heard.text() == "x <PIECE_1> y"
        assert [b"".join(texts(result)) for result, _ in heard.got] == [
            *[b"x", b" ", b"", b"", b"<PIECE_1>", b" ", b"y"]
        ]


@pytest.mark.parametrize("how", ["flagged", "empty", "unflagged"])
def test_what_is_held_back_goes_out_at_the_end_whatever_marks_it(how: str) -> None:
    flags = {"flagged": {"empty_last": False}, "empty": {}, "unflagged": {"flags": False}}[how]
    with guard_of() as guard, streaming(saying(b"it is", b" ab"), **flags) as model, stream(model, guard) as own:
        client, heard = own
        client.async_stream_infer(**asked("hi", request_id="r"))
        client.stop_stream()
        assert heard.text("r") == "it is ab"
        said = [result.get_response() for result, _ in heard.got]
        assert [len(one.outputs) for one in said] == [1] * len(said)
        # The last result carries it; behind an empty one that was not asked for, one of ours does.
        assert len(said) == (2 if how == "flagged" else 3)
        assert [FINAL in one.parameters for one in said] == [how != "unflagged"] * len(said)
        assert [one.parameters[FINAL].bool_param for one in said[:-1]] == [False] * (len(said) - 1)
        assert said[-1].parameters[FINAL].bool_param is (how == "flagged")


def test_the_empty_last_response_goes_to_those_who_asked_for_it() -> None:
    with guard_of() as guard, streaming(saying(b"it is", b" ab")) as model, stream(model, guard) as (client, heard):
        client.async_stream_infer(**asked("hi", request_id="r", enable_empty_final_response=True))
        client.stop_stream()
        assert heard.text("r") == "it is ab"
        last = heard.got[-1][0].get_response()
        assert (last.id, len(last.outputs), last.parameters[FINAL].bool_param) == ("r", 0, True)


def test_requests_of_a_stream_are_guarded_each_by_itself_and_a_block_ends_one() -> None:
    def say(text: bytes, _: int) -> Iterable[Any]:
        return cut({b"a": "ab", b"b": "bc", b"c": "so abbc and more", b"d": "abc"}[text])

    with guard_of() as guard, streaming(say, together=4) as model, stream(model, guard) as (client, heard):
        for text in "abcd":
            client.async_stream_infer(**asked(text, request_id=text))
        client.stop_stream()
        assert [heard.text(one) for one in "abd"] == ["ab", "bc", "<PIECE_1>"]
        assert heard.text("c") == "so "
        (error,) = heard.errors
        assert isinstance(error, Blocked)
        at = next(index for index, (_, problem) in enumerate(heard.got) if problem is not None)
        assert not [one for one, _ in heard.got[at:] if one is not None and one.get_response().id == "c"]
        client.start_stream(heard)  # and the client goes on
        client.async_stream_infer(**asked("d", request_id="again"))
        client.stop_stream()
        assert heard.text("again") == "<PIECE_1>"


def test_requests_without_ids_or_with_the_same_are_told_apart_and_keep_theirs() -> None:
    with guard_of() as guard, streaming(echo, together=5) as model, stream(model, guard) as (client, heard):
        ids = ["", "", "x", "x", "y"]
        for index, one in enumerate(ids):
            client.async_stream_infer(**asked(f"{index}{index}", request_id=one))
        client.stop_stream()
        assert len(set(model.seen)) == 5
        assert {"x", "y"} < set(model.seen)
        got = [(result.get_response().id, texts(result)[0]) for result, _ in heard.got]
        assert sorted(got) == sorted([(one, str(index).encode()) for index, one in enumerate(ids)] * 2)


def test_answers_without_ids_are_those_of_the_only_request_or_of_nobody() -> None:
    with guard_of() as guard:
        with streaming(echo, ids=False) as model, stream(model, guard) as (client, heard):
            client.async_stream_infer(**asked("x abc", request_id="r"))
            client.stop_stream()
            assert heard.text("r") == "x abc"
        with streaming(echo, ids=False, together=2) as model, stream(model, guard) as (client, heard):
            client.async_stream_infer(**asked("secret", request_id="r"))
            client.async_stream_infer(**asked("secret", request_id="s"))
            client.stop_stream()
            assert {type(error) for error in heard.errors} == {DialectError}
            assert not [one for one, _ in heard.got if one is not None]
            assert "secret" not in str(heard.errors)


def test_elements_and_tensors_are_texts_of_their_own() -> None:
    pieces = [{"text": [b"a", b"x"], "more": b"ab"}, {"text": [b"bc", b"ab"], "more": b"c"}, {"text": [b"", b"c"]}]
    with guard_of() as guard, streaming(saying(*pieces), raw=False) as model, stream(model, guard) as (client, heard):
        client.async_stream_infer(**asked("hi"))
        client.stop_stream()
        said = [texts(result) for result, _ in heard.got]
        first, second = (b"".join([one[at] for one in said if one]).decode() for at in (0, 1))
        assert (first, second, heard.text(name="more")) == ("<PIECE_1>", "x<PIECE_1>", "<PIECE_1>")


def test_the_parameters_of_a_request_are_looked_at() -> None:
    with guard_of() as guard, streaming(echo) as model, stream(model, guard) as (client, heard):
        client.async_stream_infer(**asked("hi", parameters={"system": "abc", "k": 3}))
        client.stop_stream()
        assert model.parameters[0]["system"].string_param == "<PIECE_1>"
        assert model.parameters[0]["k"].int64_param == 3
        assert heard.text() == "hi"


LETTERS = st.text("abcé😀 <>\ud7ff", max_size=40).map(str.encode)


@given(st.lists(st.one_of(LETTERS, st.binary(max_size=5)), max_size=4).map(b"".join), st.data())
@settings(max_examples=60)
def test_it_does_not_matter_how_a_text_is_cut_also_in_the_midst_of_letters(whole: bytes, data: st.DataObject) -> None:
    bounds = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    pieces = [whole[start:end] for start, end in zip([0, *bounds], [*bounds, len(whole)], strict=True)]
    text = whole.decode("utf-8", "surrogateescape")
    empty, flags = data.draw(st.booleans()), data.draw(st.booleans())
    with guard_of() as guard:
        decision = guard.check(text, stage="output")
        with (
            streaming(saying(*pieces), empty_last=empty, flags=flags) as model,
            stream(model, guard) as (client, heard),
        ):
            client.async_stream_infer(**asked("hi", request_id="r"))
            client.stop_stream()
            said = b"".join([piece for result, _ in heard.got if result is not None for piece in texts(result)])
            if not decision.blocked:
                assert not heard.errors
                assert said == decision.text.encode("utf-8", "surrogateescape")
                return
            assert [type(error) for error in heard.errors] == [Blocked]
            start = min(finding.span[0] for finding in decision.findings if finding.category == "LONG" and finding.span)
            redacted = guard.check(text[:start], stage="output").text.encode("utf-8", "surrogateescape")
            assert redacted.startswith(said)


LATE = saying(b"so ", b"abb", b"c and", b" more")
AT_ONCE = saying({"text": b"abbc"}, b" more")


class TestBlocks:
    """What `on_block` does, at each place where a request or its answer can be stopped."""

    @pytest.mark.parametrize("policy", [{}, {"on_block": {"reply": "No."}}], ids=["raise", "reply"])
    def test_a_request_is_blocked_at_the_call(self, policy: dict[str, Any]) -> None:
        with guard_of(**policy) as guard, streaming(echo) as model, stream(model, guard) as (client, heard):
            with pytest.raises(Blocked):
                client.async_stream_infer(**asked("abbc"))
            client.async_stream_infer(**asked("fine"))
            client.stop_stream()
            assert model.asked == [b"fine"]
            assert heard.text() == "fine"

    @pytest.mark.parametrize("say", [LATE, AT_ONCE], ids=["late", "at once"])
    def test_a_reply_is_said_in_the_tensor_that_was_seen(self, say: Any) -> None:
        with guard_of(on_block={"reply": "No."}) as guard, streaming(say) as model, stream(model, guard) as own:
            client, heard = own
            client.async_stream_infer(**asked("hi", request_id="r", enable_empty_final_response=True))
            client.stop_stream()
            assert heard.text("r") == ("so No." if say is LATE else "No.")
            last = heard.got[-1][0]
            assert texts(last, "finish_reason") == [b"content_filter"]
            assert last.get_response().parameters[FINAL].bool_param
            assert last.as_numpy("text").shape == (1, 1)
            assert not heard.errors

    def test_a_reply_is_said_in_whichever_tensor_there_is(self) -> None:
        rules = [{"detector": "words", "action": "block"}]
        policy = {"name": "p", "rules": rules, "on_block": {"reply": "No."}}
        numbers = {"tokens": np.array([[3]])}
        with (
            Guard(policy, detectors=[Words("words", "worse")]) as guard,
            streaming(saying(numbers, {"note": b"worse"})) as model,
            stream(model, guard) as (client, heard),
        ):
            client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            assert heard.text(name="note") == "No."
            assert heard.got[0][0].as_numpy("tokens").tolist() == [[3]]

    def test_a_reply_that_has_no_tensor_is_an_error(self) -> None:
        pieces = {"tokens": np.array([[3]]), "@note": "an abbc"}
        policy = {"on_block": {"reply": "No."}}
        with guard_of(**policy) as guard, streaming(saying(pieces)) as model, stream(model, guard) as (client, heard):
            client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            ((result, error),) = heard.got
            assert result is None
            assert isinstance(error, Blocked)

    def test_the_parameters_of_an_answer_are_looked_at(self) -> None:
        pieces = {"text": b"x", "@note": "an abc"}
        with guard_of() as guard, streaming(saying(pieces)) as model, stream(model, guard) as (client, heard):
            client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            assert heard.got[0][0].get_response().parameters["note"].string_param == "an <PIECE_1>"

    @pytest.mark.parametrize("how", [{"flags": False}, {"empty_last": False}], ids=["unflagged", "flagged"])
    def test_a_request_is_made_again_whatever_marks_its_end(self, how: dict[str, Any]) -> None:
        def say(_: bytes, before: int) -> Iterable[Any]:
            return cut("a fine ab") if before else [b"abbc"]

        with (
            guard_of(on_block={"retry": 1}) as guard,
            streaming(say, **how) as model,
            stream(model, guard) as (client, heard),
        ):
            client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            assert heard.text() == "a fine ab"
            assert not heard.errors

    def test_that_an_answer_goes_on_is_nothing_that_it_says(self) -> None:
        def say(_: bytes, before: int) -> Iterable[Any]:
            said = ["fine"] if before else ["", "abbc"]
            return [{"text": piece.encode(), "finish_reason": b"None"} for piece in said]

        policy = {"on_block": {"retry": 1}}
        with guard_of(**policy) as guard, streaming(say) as model, stream(model, guard) as (client, heard):
            client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            assert heard.text() == "fine"
            assert not heard.errors
            assert texts(heard.got[0][0], "finish_reason") == [b"None"]

    def test_a_request_is_made_again_and_only_the_answer_that_may_go_out_does(self) -> None:
        def say(text: bytes, before: int) -> Iterable[Any]:
            return [b"ab", b"bc", b" more"] if b"two" not in text and before < 3 else cut("fine " + text.decode()[:3])

        with guard_of(on_block={"retry": 2}) as guard, streaming(say, together=2) as model, stream(model, guard) as own:
            client, heard = own
            client.async_stream_infer(**asked("one", request_id="1"))
            client.async_stream_infer(**asked("two", request_id="2"))
            client.stop_stream()  # it may be closed to requests by the time one is made again
            assert heard.text("1") == "fine one"
            assert not heard.errors
            assert heard.text("2") == "fine two"
            assert b"withheld" in model.asked[2]
            assert len(heard.threads) == 1

    def test_retries_come_to_an_end(self) -> None:
        policy = {"on_block": {"retry": 2}}
        with guard_of(**policy) as guard, streaming(saying(b"abbc")) as model, stream(model, guard) as (client, heard):
            client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            assert [type(error) for error in heard.errors] == [Blocked]
            assert len(model.asked) == 3
            assert not [one for one, _ in heard.got if one is not None]

    def test_a_retry_that_fails_tells_its_error(self) -> None:
        def say(_: bytes, before: int) -> Iterable[Any]:
            return [b"abbc"] if not before else [Dies()]

        policy = {"on_block": {"retry": 2}}
        with guard_of(**policy) as guard, streaming(say) as model, stream(model, guard) as (client, heard):
            client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            assert [error.status() for error in heard.errors] == ["StatusCode.UNAVAILABLE"]

    def test_a_fallback_stands_in(self) -> None:
        own = object()
        with guard_of(on_block="fallback") as guard:
            with (
                streaming(LATE) as model,
                stream(model, guard, fallback=lambda decision: "sorry") as (client, heard),
            ):
                client.async_stream_infer(**asked("hi"))
                client.stop_stream()
                assert heard.text() == "so sorry"
            with (
                streaming(LATE) as model,
                stream(model, guard, fallback=lambda decision: own) as (client, heard),
            ):
                client.async_stream_infer(**asked("abbc"))
                assert heard.got == [(own, None)]
                client.async_stream_infer(**asked("hi"))
                client.stop_stream()
                assert heard.got[-1] == (own, None)

    def test_a_fallback_that_raises_is_the_callbacks_error(self) -> None:
        def fallback(_: Any) -> Any:
            raise KeyError("own")

        with (
            guard_of(on_block="fallback") as guard,
            streaming(LATE) as model,
            stream(model, guard, fallback=fallback) as (client, heard),
        ):
            client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            assert [type(error) for error in heard.errors] == [KeyError]


class TestErrors:
    """Errors of the server and of the caller, and streams that end otherwise than by themselves."""

    def test_an_error_is_passed_on_and_ends_its_request_alone(self) -> None:
        def say(text: bytes, _: int) -> Iterable[Any]:
            return [b"x", b" a", Fails("no", None if text == b"t" else True)] if text != b"fine" else cut("fine")

        with guard_of() as guard, streaming(say, together=3) as model, stream(model, guard) as (client, heard):
            for text in ("m", "t", "fine"):
                client.async_stream_infer(**asked(text, request_id=text))
            client.stop_stream()
            assert [(type(error), error.message()) for error in heard.errors] == [(InferenceServerException, "no")] * 2
            assert heard.text("m") == heard.text("t") == "x "  # what was held back stays back
            assert heard.text("fine") == "fine"

    def test_an_error_that_is_not_the_last_answer_ends_nothing(self) -> None:
        pieces = [b"x ab", Fails("no", final=False), b"c y"]
        with guard_of() as guard, streaming(saying(*pieces)) as model, stream(model, guard) as (client, heard):
            client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            assert [error.message() for error in heard.errors] == ["no"]
            assert heard.text() == "x <PIECE_1> y"

    def test_errors_of_a_request_that_is_blocked_are_swallowed_too(self) -> None:
        pieces = [b"abbc", Fails("no", final=False), Fails("no")]
        with guard_of() as guard, streaming(saying(*pieces)) as model, stream(model, guard) as (client, heard):
            client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            assert [type(error) for error in heard.errors] == [Blocked]

    def test_a_server_that_dies_ends_all_requests_by_its_error(self) -> None:
        with (
            capture() as seen,
            guard_of(seen) as guard,
            streaming(saying(b"x", b" ab", Dies())) as model,
            stream(model, guard) as (client, heard),
        ):
            client.async_stream_infer(**asked("hi"))
            assert heard.came.get(timeout=PATIENCE)[1] is None
            while (error := heard.came.get(timeout=PATIENCE)[1]) is None:
                pass
            assert error.status() == "StatusCode.UNAVAILABLE"
            assert heard.text() == "x "
            with pytest.raises(InferenceServerException, match="no longer in valid state"):
                client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            client.start_stream(heard)  # another one can be begun
        span, _ = [span for span in seen.spans if span.name.startswith("generate_content")]  # one was not sent
        assert "InferenceServerException" in span.attributes["error.type"]

    def test_a_stream_is_cancelled_with_things_pending(self) -> None:
        released = threading.Event()
        with (
            guard_of() as guard,
            streaming(saying(b"x", b" ab", released, b"c")) as model,
            stream(model, guard) as (client, heard),
        ):
            client.async_stream_infer(**asked("hi"))
            client.async_stream_infer(**asked("hi"))
            assert texts(heard.came.get(timeout=PATIENCE)[0]) == [b"x"]
            assert texts(heard.came.get(timeout=PATIENCE)[0]) == [b" "]
            client.stop_stream(cancel_requests=True)
            released.set()
            assert [error.status() for error in heard.errors] == ["StatusCode.CANCELLED"]
            assert heard.text() == "x "

    def test_a_retry_is_cancelled_with_the_stream(self) -> None:
        begun, released = threading.Event(), threading.Event()

        def say(_: bytes, before: int) -> Iterable[Any]:
            if not before:
                return [b"abbc"]
            begun.set()
            return [released, b"fine"]

        with guard_of(on_block={"retry": 1}) as guard, streaming(say) as model, stream(model, guard) as (client, heard):
            client.async_stream_infer(**asked("hi"))
            assert begun.wait(PATIENCE)
            client.stop_stream(cancel_requests=True)
            released.set()
            assert {error.status() for error in heard.errors} == {"StatusCode.CANCELLED"}
            assert heard.text() == ""

    def test_what_a_callback_raises_ends_the_reading_as_without_a_guard(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(result: Any, error: Any) -> None:
            raise LookupError("own")

        def outcome(client: Any, model: Model) -> list[type[BaseException]]:
            raised: list[type[BaseException]] = []
            done = threading.Event()
            monkeypatch.setattr(threading, "excepthook", lambda told: (raised.append(told.exc_type), done.set()))
            client.start_stream(broken)
            client.async_stream_infer(**asked("hi"))
            assert done.wait(PATIENCE)
            client.stop_stream()
            heard = Heard()
            client.start_stream(heard)
            client.async_stream_infer(**asked("again"))
            client.stop_stream()
            assert heard.text() == "again"
            return raised

        with guard_of() as guard, streaming(echo) as model, module.InferenceServerClient(model.url) as bare:
            assert outcome(bare, model) == [LookupError]
            assert outcome(triton.wrap(bare, guard), model) == [LookupError]

    def test_a_callback_can_not_stop_its_own_stream_as_without_a_guard(self) -> None:
        def outcome(client: Any) -> list[type[BaseException]]:
            raised: queue.Queue[type[BaseException]] = queue.Queue()

            def stops(result: Any, error: Any) -> None:
                try:
                    client.stop_stream()
                except RuntimeError as problem:
                    raised.put(type(problem))

            client.start_stream(stops)
            client.async_stream_infer(**asked("h"))
            found = raised.get(timeout=PATIENCE)
            client.stop_stream()
            return [found]

        with guard_of() as guard, streaming(saying(b"h")) as model, module.InferenceServerClient(model.url) as bare:
            assert outcome(bare) == outcome(triton.wrap(bare, guard)) == [RuntimeError]

    def test_a_callback_may_ask_more(self) -> None:
        with guard_of() as guard, streaming(echo) as model:
            heard = Heard()
            with triton.wrap(module.InferenceServerClient(model.url), guard) as client:

                def more(result: Any, error: Any) -> None:
                    if result.get_response().id == "1":
                        client.async_stream_infer(**asked("abc", request_id="2"))
                    heard(result, error)

                client.start_stream(more)
                client.async_stream_infer(**asked("x", request_id="1"))
                while heard.text("2") != "abc":
                    heard.came.get(timeout=PATIENCE)
                assert model.asked == [b"x", b"<PIECE_1>"]

    def test_a_client_that_nobody_holds_stops_its_stream(self) -> None:
        with guard_of() as guard, streaming(echo) as model:
            before = threading.active_count()
            client = triton.wrap(module.InferenceServerClient(model.url), guard)
            client.start_stream(Heard())
            (own,) = [one for one in threading.enumerate() if one.name.endswith("(_process_response)")]
            assert threading.active_count() > before
            del client
            gc.collect()
            own.join(PATIENCE)
            assert not own.is_alive()

    def test_arguments_that_are_wrong(self) -> None:
        with guard_of() as guard, streaming(echo) as model:
            bare = module.InferenceServerClient(model.url)
            with triton.wrap(bare, guard) as client:
                with pytest.raises(InferenceServerException, match="start_stream"):
                    client.async_stream_infer(**asked("hi"))
                with pytest.raises(TypeError, match="callback: is missing"):
                    client.start_stream()
                heard = Heard()
                bare.start_stream(heard)
                with pytest.raises(InferenceServerException, match="start_stream"):
                    client.async_stream_infer(**asked("hi"))  # nobody would look at its answers
                with pytest.raises(InferenceServerException, match="already running"):
                    client.start_stream(heard)
                bare.stop_stream()
                client.start_stream(heard)
                with pytest.raises(InferenceServerException, match="already running"):
                    client.start_stream(heard)
                with pytest.raises(TypeError, match="request_id must be a string, is int"):
                    client.async_stream_infer(**asked("hi", request_id=3))
                with pytest.raises(TypeError, match="inputs: are missing"):
                    client.async_stream_infer("m")
                with pytest.raises(TypeError, match="no JSON"):
                    client.async_stream_infer(**asked("hi", parameters={"x": object()}))
                with pytest.raises(InferenceServerException, match="version must be a string"):
                    client.async_stream_infer(**asked("hi", model_version=3))
                with pytest.raises(InferenceServerException, match="reserved"):
                    client.async_stream_infer(**asked("hi", parameters={"triton_x": 1}))
                client.async_stream_infer(**asked("fine"))
                client.stop_stream()
                client.stop_stream()
                assert heard.text() == "fine"
                assert model.asked == [b"fine"]

    def test_a_tensor_that_is_none_ends_its_request(self) -> None:
        with (
            guard_of() as guard,
            streaming(saying(b"x"), broken=True) as model,
            stream(model, guard) as (client, heard),
        ):
            client.async_stream_infer(**asked("hi"))
            client.stop_stream()
            assert [type(error) for error in heard.errors] == [DialectError]

    def test_what_is_unknown_is_refused(self) -> None:
        import tritonclient.http

        with guard_of() as guard:
            over_http = triton.wrap(tritonclient.http.InferenceServerClient("127.0.0.1:9"), guard)
            with pytest.raises(AttributeError):
                over_http.start_stream(print)
            over_http.close()
            client = triton.wrap(module.InferenceServerClient("127.0.0.1:9"), guard)
            client.__wrapped__.tell = print
            with pytest.raises(ConfigurationError, match="is not guarded: use infer"):
                client.tell("x")
            with pytest.raises(AttributeError):
                client.stream_infer(iter(()))
            client.close()


def test_telemetry_is_told_of_each_request_with_what_was_counted() -> None:
    def say(text: bytes, _: int) -> Iterable[Any]:
        counted = {"num_input_tokens": np.array([[7]]), "num_output_tokens": np.array([[2]])}
        said = [b"secret", b" abc", b"abbc" if text == b"stop" else b"y"]
        reasons = [b"None", b"None", b"length"]
        return [{"text": piece, "finish_reason": why, **counted} for piece, why in zip(said, reasons, strict=True)]

    with capture() as seen, guard_of(seen) as guard, streaming(say, together=2) as model, stream(model, guard) as own:
        client, heard = own
        client.async_stream_infer(**asked("hi", request_id="r"))
        client.async_stream_infer(**asked("stop"))
        client.stop_stream()
        assert heard.text() == "secret <PIECE_1>"
        assert heard.text("r") == "secret <PIECE_1>y"
    fine, stopped = sorted(
        [span.attributes for span in seen.spans if span.name == "generate_content m"],
        key=lambda attributes: "error.type" in attributes,
    )
    assert fine["gen_ai.usage.input_tokens"] == stopped["gen_ai.usage.input_tokens"] == 7
    assert fine["gen_ai.usage.output_tokens"] == stopped["gen_ai.usage.output_tokens"] == 6
    assert fine["gen_ai.response.id"] == "r"
    assert fine["gen_ai.response.finish_reasons"] == ("length",)
    assert fine["gen_ai.request.stream"] is True
    assert "gen_ai.response.time_to_first_chunk" in fine
    assert stopped["error.type"] == "abandoned"
    assert "secret" not in "".join([span.to_json() for span in seen.spans])


def test_a_shape_that_lies_costs_no_more_than_its_elements() -> None:
    response = module.service_pb2.ModelInferResponse(model_name="m")
    response.outputs.add(name="text", datatype="BYTES", shape=[1 << 40])
    response.raw_output_contents.append(b"\x01\x00\x00\x00\xc3")
    pieces = Read("r")
    assert pieces.read(module.InferResult(response))["outputs"][0]["data"] == [""]
    (rest,) = pieces.rest().get_response().outputs
    assert list(rest.shape) == [1]
