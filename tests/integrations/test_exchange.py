"""Requests and responses of every wire format: their texts are cleared where they stand, and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from dialect_samples import load, samples, wire
from exchanges import DIALECTS, LONG, PIECE, alike, bodies, exchange, guard_of
from fakes import Pieces

from llmguard import Decision, Guard, Role, Stage, Text
from llmguard.dialects import edit, pointer, registry, strict
from llmguard.dialects.wire import Body, Dialect
from llmguard.errors import DialectError
from llmguard.integrations.exchange import Exchange
from llmguard.testing import capture
from llmguard.waiting import adrive, drive

each = pytest.mark.parametrize("name", DIALECTS)
BAD = f"so {PIECE} it is"
WORSE = f"so {LONG} it is"


def read(exchange: Exchange, kind: str, body: Any) -> Body:
    return exchange.dialect.response(body) if kind == "response" else exchange.dialect.request(body, exchange._segments)


def texts(said: Body) -> dict[str, str]:
    return {part.path: part.content for part in said.parts}


def cases(guard: Guard, dialect: Dialect) -> Iterator[tuple[str, Exchange, Any]]:
    """Every request, response and error of the sample, each in an exchange of its own."""
    for at, _ in enumerate(load(dialect.name)["requests"]):
        with exchange(guard, dialect, at) as (own, body):
            yield "request", own, body
    for body in [*bodies(dialect, "responses"), *bodies(dialect, "errors")]:
        with exchange(guard, dialect) as (own, sent):
            own.sent, own.asked = sent, dialect.request(sent, own._segments)
            yield "response", own, body


def cleared(own: Exchange, kind: str, data: bytes):
    return drive(own.response(data) if kind == "response" else own.request(data))


@each
def test_a_body_without_findings_passes_byte_for_byte(name: str) -> None:
    with guard_of("block") as guard:
        for kind, own, body in cases(guard, DIALECTS[name]):
            if body is not None:
                data = wire(body)
                assert cleared(own, kind, data)[:2] == (data, None)


@each
def test_a_text_is_cleared_at_its_place_and_nowhere_else(name: str) -> None:
    with guard_of("redact") as guard:
        for kind, own, body in cases(guard, DIALECTS[name]):
            said = read(own, kind, body)
            for part in said.parts:
                if part.path.endswith("~3"):
                    continue
                data = edit.rewrite(wire(body), {part.path: BAD})
                result = cleared(fresh(guard, own), kind, data)
                assert result.blocked is None
                after = read(own, kind, strict.parse(result.data))
                assert alike(texts(after)[part.path]) == "so <PIECE> it is"
                rest = {path: text for path, text in texts(said).items() if path != part.path}
                assert {path: text for path, text in texts(after).items() if path != part.path} == rest
                want = edit.rewrite(data, {part.path: texts(after)[part.path]}, said.spoken)
                assert result.data == want


def fresh(guard: Guard, own: Exchange) -> Exchange:
    """The same exchange in another conversation."""
    with guard.call_scope() as checks:
        made = Exchange(own.dialect, own._segments, checks, guard.vault)
        made.sent, made.asked = own.sent, own.asked
        return made


@each
def test_all_texts_are_cleared_at_once_and_what_says_them_again_goes(name: str) -> None:
    with guard_of("redact") as guard:
        for kind, own, body in cases(guard, DIALECTS[name]):
            said = read(own, kind, body)
            edits = {path: BAD for path in texts(said) if not path.endswith("~3")}
            data = edit.rewrite(wire(body), edits)
            result = cleared(own, kind, data)
            after = strict.parse(result.data)
            assert {alike(text) for path, text in texts(read(own, kind, after)).items() if path in edits} <= {
                "so <PIECE> it is"
            }
            if edits:
                for put in said.spoken:
                    assert pointer.get(after, put.path) == json.loads(put.json)
                assert PIECE.encode() not in result.data.replace(b"abcd", b"")


@each
def test_a_key_that_says_something_is_renamed(name: str) -> None:
    with guard_of("redact") as guard:
        for kind, own, body in cases(guard, DIALECTS[name]):
            for part in read(own, kind, body).parts:
                if part.path.endswith("~3"):
                    data = edit.rewrite(wire(body), {part.path: f"{PIECE} or so"})
                    result = cleared(own, kind, data)
                    assert b'"abc or so"' not in result.data
                    assert b"PIECE_1> or so" in result.data


@each
def test_a_block_in_any_text_stops_the_body(name: str) -> None:
    with guard_of("block") as guard:
        for kind, own, body in cases(guard, DIALECTS[name]):
            for part in read(own, kind, body).parts:
                if not part.path.endswith("~3"):
                    result = cleared(own, kind, edit.rewrite(wire(body), {part.path: WORSE}))
                    assert result.data == b""
                    assert isinstance(result.blocked, Decision)
                    assert result.blocked.stage is part.stage


@each
def test_in_shadow_mode_nothing_changes(name: str) -> None:
    with guard_of("shadow") as guard:
        for kind, own, body in cases(guard, DIALECTS[name]):
            data = edit.rewrite(wire(body), {p: WORSE for p in texts(read(own, kind, body)) if not p.endswith("~3")})
            assert cleared(own, kind, data)[:2] == (data, None)


@each
def test_errors_are_read_too(name: str) -> None:
    with guard_of("block") as guard:
        for body in bodies(DIALECTS[name], "errors"):
            with exchange(guard, DIALECTS[name]) as (own, _):
                said = DIALECTS[name].response(body)
                result = cleared(own, "response", edit.rewrite(wire(body), {said.parts[0].path: BAD}))
                assert b"<PIECE_1>" in result.data
                assert own.answered is not None
                assert own.answered.error


@each
def test_what_no_detector_reads_is_in_the_coverage(name: str) -> None:
    with guard_of("redact") as guard:
        for kind, own, body in cases(guard, DIALECTS[name]):
            decisions = []
            own.checks = Recorded(own.checks, decisions)
            cleared(own, kind, wire(body))
            said = read(own, kind, body)
            main = Stage.OUTPUT if kind == "response" else Stage.INPUT
            for decision in decisions:
                count = len([part for part in said.parts if part.stage is decision.stage])
                blind = len(said.uncovered) if decision.stage is main else 0
                assert decision.coverage == (1.0,) * count + (0.0,) * blind
            assert bool(said.uncovered) <= (main in [decision.stage for decision in decisions])


class Recorded:
    """Checks whose decisions are kept."""

    def __init__(self, checks: Any, decisions: list[Decision]) -> None:
        self._checks = checks
        self._decisions = decisions
        self.conversation = checks.conversation

    def start(self, *args: Any) -> Any:
        check, finish = self._checks.start(*args), None
        recorded = self._decisions

        class Kept:
            pending = property(lambda self: check.pending)
            wait, wait_async = staticmethod(check.wait), staticmethod(check.wait_async)

            def finish(self) -> list[Decision]:
                made = check.finish()
                recorded.extend(made)
                return made

        assert finish is None
        return Kept()


@each
@pytest.mark.parametrize("data", [b"{", b"", b"null", b"7", b'"x"', b"[1]", b'{"a": 1, "a": 2}', b"\xff", b"[" * 500])
def test_what_is_no_body_is_an_error_without_its_words(name: str, data: bytes) -> None:
    with guard_of("redact") as guard, exchange(guard, DIALECTS[name]) as (own, _), pytest.raises(DialectError):
        drive(own.request(data))


def test_a_request_without_a_body_asks_by_its_path() -> None:
    with guard_of("redact") as guard, guard.call_scope() as checks:
        dialect, segments = registry.match("GET", "/v1/responses/resp_1")
        own = Exchange(dialect, segments, checks, guard.vault)
        assert drive(own.request(b""))[:2] == (b"", None)
        assert own.again(guard.check(LONG, stage="output")) is None


# Placeholders


def test_what_the_user_said_is_put_back_into_the_answer_and_what_the_model_said_is_not() -> None:
    sent = {"model": "m", "messages": [{"role": "user", "content": "I am abc."}]}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"to": "<PIECE_1>", "n": "abbc"}'}}
    message = {"role": "assistant", "content": "You are <PIECE_1>, not abbbc.", "tool_calls": [call]}
    with guard_of("redact") as guard, exchange(guard, DIALECTS["openai.chat"]) as (own, _):
        assert b"I am <PIECE_1>." in drive(own.request(wire(sent))).data
        got = json.loads(drive(own.response(wire({"choices": [{"index": 0, "message": message}]}))).data)
    told = got["choices"][0]["message"]
    assert alike(told["content"]) == "You are abc, not <LONG>."
    arguments = json.loads(told["tool_calls"][0]["function"]["arguments"])
    assert (arguments["to"], alike(arguments["n"])) == ("abc", "<LONG>")


def test_one_call_knows_nothing_of_another() -> None:
    sent = {"messages": [{"role": "user", "content": "I am abc."}]}
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "You are <PIECE_1>."}}]}
    with guard_of("redact") as guard:
        with exchange(guard, DIALECTS["openai.chat"]) as (own, _):
            drive(own.request(wire(sent)))
        with exchange(guard, DIALECTS["openai.chat"]) as (other, _):
            assert drive(other.response(wire(answer))).data == wire(answer)


def test_an_answer_is_compared_with_sources_instructions_and_the_last_question_all_cleared() -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hello."},
        {"role": "user", "content": "How many?"},
        {"role": "tool", "tool_call_id": "c", "content": "abc has three"},
    ]
    with guard_of("redact") as guard, exchange(guard, DIALECTS["openai.chat"]) as (own, _):
        drive(own.request(wire({"messages": messages, "documents": [{"text": "Bells: three."}]})))
        told = [(text.role, text.content) for text in own.documents]
    assert sorted(told) == [
        (Role.RETRIEVAL, "Bells: three."),
        (Role.SYSTEM, "Be short."),
        (Role.TOOL, "<PIECE_1> has three"),
        (Role.USER, "How many?"),
    ]


def test_the_stages_are_looked_at_with_their_roles() -> None:
    seen: list[Text] = []

    class Looking(Pieces):
        name = "pieces"

        def detect(self, texts):
            seen.extend(texts)
            return super().detect(texts)

    with Guard({"name": "p", "rules": [{"detector": "pieces", "action": "redact"}]}, detectors=[Looking()]) as guard:
        with exchange(guard, DIALECTS["openai.chat"]) as (own, body):
            drive(own.request(wire(body)))
        said = DIALECTS["openai.chat"].request(body, {})
    assert sorted((text.role, text.path, text.content) for text in seen) == sorted(
        (part.role, part.path, part.content) for part in said.parts
    )


# Asking again

TELLS = {
    "openai.chat": "/messages/8/content",
    "anthropic.messages": "/messages/0/content",
    "openai.completions": "/prompt",
    "tgi.generate": "/inputs",
}
SILENT = {"mcp"}


@each
def test_the_request_can_be_made_again_and_says_why(name: str) -> None:
    with guard_of("block") as guard:
        why = guard.check(LONG, stage="output")
        for at, request in enumerate(load(name)["requests"]):
            with exchange(guard, DIALECTS[name], at) as (own, body):
                assert own.again(why) is None
                if body is None:
                    continue
                drive(own.request(wire(body)))
                again = own.again(why)
                if again is None:
                    continue
                assert name not in SILENT, request["route"]
                before, after = texts(read(own, "request", body)), texts(read(own, "request", strict.parse(again)))
                changed = [path for path, text in after.items() if before[path] != text]
                assert len(changed) == 1
                (place,) = changed
                assert after[place] == (
                    f"{before[place]}\n\nYour last answer was withheld (pieces/LONG). Answer again without it."
                )
                keys = set(place.lower().replace("_", "").split("/"))
                assert not keys & {
                    "stop",
                    "stopsequences",
                    "badwords",
                    "stopwords",
                    "suffix",
                    "inputsuffix",
                    "variables",
                }
                assert edit.rewrite(again, {place: before[place]}) == edit.rewrite(wire(body), {place: before[place]})


@pytest.mark.parametrize("name", sorted(set(DIALECTS) - SILENT))
def test_every_format_with_a_user_can_be_asked_again(name: str) -> None:
    with guard_of("block") as guard:
        why = guard.check(LONG, stage="output")
        told = []
        for at, _ in enumerate(load(name)["requests"]):
            with exchange(guard, DIALECTS[name], at) as (own, body):
                if body is not None:
                    drive(own.request(wire(body)))
                    told.append(own.again(why))
        assert any(told)


def test_what_is_asked_again_is_the_cleared_request() -> None:
    sent = {"messages": [{"role": "user", "content": "I am abc."}], "stop": ["END"]}
    with guard_of("block") as guard, exchange(guard, DIALECTS["openai.chat"]) as (own, _):
        drive(own.request(wire(sent)))
        again = own.again(guard.check(LONG, stage="output"))
    assert again is not None
    assert PIECE.encode() not in again
    assert json.loads(again)["messages"][0]["content"].startswith("I am <PIECE_1>.\n\nYour last answer was withheld")
    assert json.loads(again)["stop"] == ["END"]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be kind."}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}],
        [{"role": "tool", "tool_call_id": "c", "content": "three"}],
    ],
)
def test_a_request_without_words_of_a_user_can_not_be_made_again(messages: list[Any]) -> None:
    with guard_of("block") as guard, exchange(guard, DIALECTS["openai.chat"]) as (own, _):
        drive(own.request(wire({"messages": messages, "stop": "END"})))
        assert own.again(guard.check(LONG, stage="output")) is None


# Edges


async def test_on_an_event_loop_it_is_the_same() -> None:
    body = samples("anthropic.messages")[0][1]
    with guard_of("redact") as guard, exchange(guard, DIALECTS["anthropic.messages"]) as (own, _):
        assert (await adrive(own.request(wire(body))))[:2] == (wire(body), None)


def test_no_check_of_a_body_is_left_open() -> None:
    with capture() as seen:
        options = {
            "tracer_provider": seen.tracer_provider,
            "meter_provider": seen.meter_provider,
            "logger_provider": seen.logger_provider,
        }
        with guard_of("block", **options) as guard, exchange(guard, DIALECTS["openai.chat"]) as (own, body):
            data = edit.rewrite(wire(body), {"/messages/0/content": WORSE})
            assert drive(own.request(data)).blocked is not None
        spans = [span for span in seen.spans if span.name.startswith("llmguard.guard")]
        assert len(spans) == len({span.name for span in spans}) >= 3
        assert WORSE not in str([dict(span.attributes) for span in spans])
