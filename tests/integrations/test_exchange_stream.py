"""Streams of every wire format: what goes out, put together, is what a check of the whole texts says."""

from __future__ import annotations

import gc
import itertools
import json
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import hostile
import pytest
from exchanges import (
    DIALECTS,
    LONG,
    PIECE,
    STREAMING,
    Heard,
    alike,
    arguments,
    encoded,
    exchange,
    fed,
    guard_of,
    owl,
    spoken,
    streams,
    wanted,
)
from fakes import Pieces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmguard import Guard, Stage
from llmguard.dialects import carry, framing
from llmguard.dialects.openai_chat import OpenAiChat
from llmguard.dialects.wire import Delta, Dialect, Event, Frame, Framing
from llmguard.errors import DialectError
from llmguard.integrations import exchange_sent
from llmguard.integrations.exchange_stream import ExchangeStream
from llmguard.testing import capture
from llmguard.waiting import adrive, drive

each = pytest.mark.parametrize("name", STREAMING)
TOKENS = [
    "a",
    "b",
    "c",
    "abc",
    "abbc",
    "bb",
    " ",
    ".",
    "X",
    "W",
    "<",
    "<PIECE_1>",
    "IECE_1>",
    "\n",
    "é",
    '"',
    "\U0001f989",
]
TEXTS = st.lists(st.sampled_from(TOKENS), max_size=14).map("".join)
PLACES = st.lists(st.integers(0, 10**6), max_size=12)


def kinds(dialect: Dialect) -> list[Framing]:
    assert dialect.framing is not None
    return [dialect.framing, Framing.ARRAY] if any([route.array for route in dialect.routes]) else [dialect.framing]


def stages(dialect: Dialect, whole: list[Frame]) -> dict[str, tuple[Stage, bool]]:
    """When a channel is looked at, and whether it is JSON."""
    deltas = [delta for frame in whole for delta in dialect.event(frame).deltas]
    return {delta.channel: (delta.stage, delta.json) for delta in deltas}


def cut_at(text: str, places: list[int], pieces: int) -> list[str]:
    at = [0, *sorted([place % (len(text) + 1) for place in (places * pieces + [0] * pieces)[: pieces - 1]]), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(at)]


def run(guard: Guard, dialect: Dialect, data: bytes, places: Any = (), kind: Framing | None = None, reply: str = ""):
    """A stream that was fed, and what went out of it."""
    with exchange(guard, dialect, reply=reply) as (own, body):
        own.sent = body
        stream = ExchangeStream(own, kind or dialect.framing)
        return stream, fed(stream, data, places)


def filtered(heard: Heard) -> bool:
    """Whether the stream ended as the format ends filtered answers, as its samples say, or had ended before."""
    return bool(heard.finish) or any([event.error or event.last for event in heard.events])


@pytest.fixture(scope="module")
def guards():
    made = {policy: guard_of(policy) for policy in ("redact", "block", "sentence", "document", "windowed", "observe")}
    yield made
    for guard in made.values():
        guard.close()


@each
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_it_is_cut_a_stream_says_what_checks_say(name: str, guards: dict[str, Guard], data) -> None:
    dialect = STREAMING[name]
    guard = guards[data.draw(st.sampled_from(["redact", "block", "sentence", "document"]))]
    whole, kind = data.draw(st.sampled_from(streams(dialect))), data.draw(st.sampled_from(kinds(dialect)))
    known, places = stages(dialect, whole), data.draw(PLACES)

    def text(channel: str, json_: bool) -> str:
        # What tools say is the user's own: it would be put back into what the model says of it.
        said = "said" if known[channel][0] is Stage.TOOL_RESULT else data.draw(TEXTS)
        return arguments(said) if json_ and data.draw(st.booleans()) else said

    made, said = spoken(
        dialect, whole, text, lambda said, pieces: cut_at(said, places, pieces), data.draw(st.integers(1, 3))
    )
    conversation = str(data.draw(st.integers(0, 10**12)))
    with guard.conversation(conversation):
        guard.check(PIECE, stage="input")
        stream, out = run(guard, dialect, encoded(kind, made), places, kind)
        heard = Heard(dialect, kind, out)
        wants = {
            channel: wanted(guard, one, json_=known[channel][1], stage=known[channel][0], conversation=conversation)
            for channel, one in said.items()
        }
        assert stream.broken is None
        assert (stream.blocked is not None) == (None in wants.values())
        if stream.blocked is None:
            assert {c: alike(t) for c, t in heard.texts.items()} == {c: alike(w or "") for c, w in wants.items()}
            return
        assert filtered(heard)
        for channel, one in said.items():
            stage, json_ = known[channel]
            before = wants[channel]
            if before is None:
                before = "" if json_ else clear_before(guard, one, stage, conversation)
            out_of_it = alike(heard.texts.get(channel, ""))
            assert any([alike(before + rest).startswith(out_of_it) for rest in ("", "<PIECE", "<PIECE_1>", PIECE)])


def clear_before(guard: Guard, text: str, stage: Stage, conversation: str) -> str:
    """What may have gone out of a text that is blocked: all before what blocks it, cleared."""
    decision = guard.check(text, stage=stage)
    start = min([(f.span or (0, 0))[0] for f in decision.findings if f.action == "block"])
    return wanted(guard, text[:start], json_=False, stage=stage, conversation=conversation) or ""


@each
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=1, max_size=5), places=PLACES)
def test_in_windows_nothing_is_said_that_a_check_would_not_say(name, guards, texts, places) -> None:
    dialect, guard = STREAMING[name], guards["windowed"]
    for whole in streams(dialect):
        known = stages(dialect, whole)

        def text(channel: str, json_: bool, known: dict[str, tuple[Stage, bool]] = known) -> str:
            if known[channel][0] is Stage.TOOL_RESULT:  # see above
                return "said"
            return arguments(texts[0]) if json_ else texts[len(channel) % len(texts)]

        made, said = spoken(dialect, whole, text, lambda text, pieces: cut_at(text, places, pieces), 2)
        stream, out = run(guard, dialect, encoded(dialect.framing, made), places)
        heard = Heard(dialect, dialect.framing, out)
        if stream.blocked is None:
            wants = {
                c: wanted(guard, t, json_=known[c][1], stage=known[c][0], conversation="") for c, t in said.items()
            }
            assert None not in wants.values()
            assert {c: alike(t) for c, t in heard.texts.items()} == {c: alike(w or "") for c, w in wants.items()}


@each
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(text=TEXTS, places=PLACES)
def test_rules_that_observe_let_texts_out_as_they_came(name: str, guards, text: str, places: list[int]) -> None:
    dialect = STREAMING[name]
    for whole in streams(dialect):
        known = stages(dialect, whole)
        made, said = spoken(
            dialect, whole, lambda c, _, known=known: text if known[c] == (Stage.OUTPUT, False) else "[]"
        )
        stream, out = run(guards["observe"], dialect, encoded(dialect.framing, made), places)
        assert stream.blocked is None
        assert Heard(dialect, dialect.framing, out).texts == said


@each
def test_in_shadow_mode_every_byte_goes_out_as_it_came(name: str) -> None:
    dialect = STREAMING[name]
    with guard_of("shadow") as guard, capture():
        for whole in streams(dialect):
            made, _ = spoken(dialect, whole, lambda _, json_: arguments(LONG) if json_ else f"so {LONG} it is", times=2)
            for kind in kinds(dialect):
                data = encoded(kind, made)
                stream, out = run(guard, dialect, data, range(0, len(data), 7), kind)
                assert out == data
                assert stream.blocked is None


@each
def test_what_holds_no_piece_of_a_text_goes_out_byte_for_byte(name: str) -> None:
    dialect = STREAMING[name]
    with guard_of("redact") as guard:
        for whole in streams(dialect):
            made, _ = spoken(dialect, whole, lambda _, json_: arguments("x") if json_ else f"so {PIECE} it is", times=2)
            numbered = any([dialect.event(frame).numbered for frame in made])
            _, out = run(guard, dialect, encoded(dialect.framing, made))
            for frame in made:
                event = dialect.event(frame)
                if not (event.deltas or event.repeats or numbered):
                    assert framing.encoder(dialect.framing).encode(frame) in out


@each
def test_a_stream_that_nothing_acts_on_goes_out_as_it_came_but_for_calls(name: str) -> None:
    dialect = STREAMING[name]
    with guard_of("flag") as guard:
        for whole in streams(dialect):
            data = encoded(dialect.framing, whole)
            _, out = run(guard, dialect, data, range(0, len(data), 11))
            if {stage for stage, _ in stages(dialect, whole).values()} <= {Stage.OUTPUT} and not any(
                [json_ for _, json_ in stages(dialect, whole).values()]
            ):
                assert out == data
            else:
                assert Heard(dialect, dialect.framing, out).texts == Heard(dialect, dialect.framing, data).texts


@each
@pytest.mark.parametrize("reply", ["", "Not that."])
def test_a_block_anywhere_ends_the_stream_as_the_format_ends_it(name: str, reply: str) -> None:
    dialect = STREAMING[name]
    with guard_of("block") as guard:
        for whole in streams(dialect):
            for channel, (_, json_) in stages(dialect, whole).items():

                def text(own: str, _: bool, channel: str = channel, json_: bool = json_) -> str:
                    bad = f"it is {LONG} then"
                    return (arguments(bad) if json_ else bad) if own == channel else "[]"

                made, _ = spoken(dialect, whole, text, times=3)
                stream, out = run(guard, dialect, encoded(dialect.framing, made), reply=reply)
                assert stream.blocked is not None
                assert LONG not in out.decode("utf-8", "replace")
                heard = Heard(dialect, dialect.framing, out)
                assert filtered(heard)
                open_ = [event for event in heard.events if event.finish or event.error]
                said = "".join([*heard.texts.values(), *heard.parts])
                assert reply in said or len(open_) > 1 or not open_
                assert drive(stream.feed(b"data: more\n\n")) == b""
                assert drive(stream.close()) == b""


@each
def test_a_text_that_comes_whole_is_cleared_or_ends_the_stream(name: str) -> None:
    dialect = STREAMING[name]
    for whole in streams(dialect):
        for at, frame in enumerate(whole):
            for part in dialect.event(frame).parts:
                if "#" in part.path or part.path.endswith("~3") or not isinstance(frame.data, dict):
                    continue
                for policy, text in (("redact", PIECE), ("block", LONG)):
                    other = _with(frame, part.path, f"so {text} it is")
                    if other is None or text not in [one.content[3:-6] for one in dialect.event(other).parts]:
                        continue
                    made = [*whole[:at], other, *whole[at + 1 :]]
                    with guard_of(policy) as guard:
                        stream, out = run(guard, dialect, encoded(dialect.framing, made))
                    heard = Heard(dialect, dialect.framing, out)
                    assert text not in "".join(heard.parts)
                    if policy == "redact":
                        assert stream.blocked is None
                        assert "so <PIECE> it is" in [alike(said) for said in heard.parts]
                    else:
                        assert stream.blocked is not None
                        assert filtered(heard) or not heard.events


def _with(frame: Frame, place: str, text: str) -> Frame | None:
    data = json.loads(json.dumps(frame.data))
    holder, key = data, place.split("/")[1:]
    for token in key[:-1]:
        holder = holder[int(token) if isinstance(holder, list) else token.replace("~1", "/").replace("~0", "~")]
    last: Any = int(key[-1]) if isinstance(holder, list) else key[-1]
    if not isinstance(holder[last], str):
        return None
    holder[last] = text
    return Frame(data, frame.name)


@each
def test_one_more_event_of_a_text_says_that_alone(name: str) -> None:
    dialect = STREAMING[name]
    for whole in streams(dialect):
        for frame in whole:
            event = dialect.event(frame)
            for delta in event.deltas:
                made = dialect.more if isinstance(dialect, carry.Continues) else carry.more
                blank = frame
                for other in [*event.deltas, *event.parts, *event.repeats]:
                    if other is not delta and "#" not in other.path and not other.path.endswith("~3"):
                        blank = _with(blank, other.path, "") or blank
                said = dialect.event(made(blank, delta, "more of it"))
                kept = [own for own in said.deltas if own.content]
                assert [(own.channel, own.content, own.stage, own.json) for own in kept] == [
                    (delta.channel, "more of it", delta.stage, delta.json)
                ]
                assert not [part for part in said.parts if part.content]
                assert (said.model, said.id) == (event.model, event.id)
                if not event.closes(delta.channel):
                    assert not said.finish


# Streams that break


@each
def test_a_source_that_dies_lets_out_what_was_held_back_after_its_check(name: str) -> None:
    dialect = STREAMING[name]
    for policy, tail, want in (("redact", "ab", "so ab"), ("redact", "abc", "so <PIECE>"), ("block", LONG, None)):
        whole = streams(dialect)[0]
        known = stages(dialect, whole)
        made, said = spoken(
            dialect, whole, lambda c, _, known=known, t=tail: f"so {t}" if known[c] == (Stage.OUTPUT, False) else "[]"
        )
        last: dict[str, int] = {}
        for at, frame in enumerate(made):
            for delta in dialect.event(frame).deltas:
                last[delta.channel] = at
        for channel, at in last.items():
            if known[channel] != (Stage.OUTPUT, False):
                continue
            with guard_of(policy) as guard:
                stream, out = run(guard, dialect, encoded(dialect.framing, made[: at + 1]))
            heard = Heard(dialect, dialect.framing, out)
            if want is None:
                assert stream.blocked is not None
                assert LONG not in out.decode("utf-8", "replace")
            else:
                assert stream.blocked is None
                assert alike(heard.texts[channel]) == want
                assert said[channel] == f"so {tail}"


@each
def test_a_source_that_dies_within_an_event_says_no_more_than_the_events_before(name: str) -> None:
    dialect = STREAMING[name]
    with guard_of("redact") as guard:
        for kind in kinds(dialect):
            data = encoded(kind, streams(dialect)[0])
            for place in range(1, len(data), 37):
                stream, out = run(guard, dialect, data[:place], kind=kind)
                heard = Heard(dialect, kind, out)
                said = Heard(dialect, kind, data).texts
                assert stream.blocked is None
                assert all([said[channel].startswith(text) for channel, text in heard.texts.items()])
                raws = _raws(kind, data[:place])
                assert raws[-1].incomplete or stream.broken is None


def _raws(kind: Framing, data: bytes) -> list[framing.Raw]:
    decoder = framing.decoder(kind)
    return [*decoder.feed(data), *decoder.close()]


@each
@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>bad gateway</html>\n\n",
        b"\x00" * 64,
        b'data: {"half": \n\n',
        b"data: hello\n\n",
        b'[{"a": 1}]\n\n',
        b"gateway\n\n",
    ],
)
def test_what_can_not_be_read_ends_the_stream_and_does_not_go_out(name: str, garbage: bytes) -> None:
    dialect = STREAMING[name]
    with guard_of("redact") as guard:
        whole = streams(dialect)[0]
        data = encoded(dialect.framing, whole[:1])
        stream, out = run(guard, dialect, data + garbage + encoded(dialect.framing, whole[1:]))
        assert isinstance(stream.broken, DialectError)
        assert stream.blocked is None
        assert garbage.strip() not in out
        Heard(dialect, dialect.framing, out)
        assert drive(stream.feed(data)) == b""


def test_a_wrong_checksum_ends_the_stream() -> None:
    dialect = DIALECTS["bedrock.converse"]
    data = bytearray(encoded(Framing.AWS, streams(dialect)[0]))
    data[300] ^= 1
    with guard_of("redact") as guard:
        stream, out = run(guard, dialect, bytes(data))
    assert stream.broken is not None
    assert Heard(dialect, Framing.AWS, out).finish == ["content_filtered"]


@each
def test_texts_after_the_end_do_not_go_out(name: str) -> None:
    dialect = STREAMING[name]
    whole = next((one for one in streams(dialect) if dialect.event(one[-1]).last), None)
    deltas = [frame for frame in whole or [] if any([delta.content for delta in dialect.event(frame).deltas])]
    if whole is None or not deltas:
        return
    with guard_of("redact") as guard:
        stream, out = run(guard, dialect, encoded(dialect.framing, [*whole, deltas[0]]))
        assert stream.broken is not None
        again, same = run(guard, dialect, encoded(dialect.framing, whole))
    assert out == same
    assert again.broken is None


def chat(*contents: str, **more: Any) -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": {"content": text}, **more}]} for text in contents]
    ended = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return b"".join([b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in [*chunks, ended]]) + b"data: [DONE]\n\n"


def heard_of(data: bytes, policy: str = "redact") -> tuple[ExchangeStream, bytes]:
    with guard_of(policy) as guard:
        return run(guard, DIALECTS["openai.chat"], data)


@pytest.mark.parametrize(
    "comment",
    [
        b": ping",
        b":",
        b": keep-alive",
        b":heartbeat",
        b": OPENROUTER PROCESSING",
        b": ping - 2026-11-21 10:00:00.123456+00:00",
    ],
)
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\n"])
def test_keep_alives_pass_as_they_are(comment: bytes, end: bytes) -> None:
    data = comment + end + chat("so ") + comment + end
    assert heard_of(data)[1] == data


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_comments_that_say_something_go_out_without_it(end: bytes) -> None:
    said = b": ping abc" + end
    _, out = heard_of(said + said + chat("so ").replace(b"data:", said + b"data:", 1) + said)
    assert b"abc" not in out
    assert out.count(b":" + end) == 4
    assert Heard(DIALECTS["openai.chat"], Framing.SSE, out).texts == {"0/content": "so "}
    _, out = heard_of(chat("so ").replace(b"\n\n", end + said + end, 1))
    assert b"abc" not in out
    assert b":" + end in out
    again, out = heard_of(said + chat(f"{PIECE} ").replace(b"data:", said + b"data:", 1))
    assert b"abc" not in out
    assert again.broken is None


@pytest.mark.parametrize(
    "line", [b"id: it was abc", b"event: it was abc", b"retry: abc", b"id: " + b"x" * 200, b"event: \xc3\xa9"]
)
def test_a_name_or_an_id_that_is_prose_ends_the_stream(line: bytes) -> None:
    after = chat("so").replace(b"\n\n", b"\n" + line + b"\n\n", 1)
    for data in (line + b"\n\n" + chat("so"), chat("so").replace(b"data:", line + b"\ndata:", 1), after):
        stream, out = heard_of(data)
        assert stream.broken is not None
        assert line not in out


def test_names_and_ids_of_one_word_pass() -> None:
    data = b"id: 17\nevent: chunk\nretry: 3000\n" + chat("so ")
    assert heard_of(data)[1] == data


def test_a_last_event_without_an_empty_line_is_heard() -> None:
    stream, out = heard_of(chat("so ab")[:-1])
    assert stream.broken is None
    assert Heard(DIALECTS["openai.chat"], Framing.SSE, out).texts == {"0/content": "so ab"}
    assert out.endswith(b"data: [DONE]\n\n")
    stream, out = heard_of(chat("so ").partition(b"\n\n")[0])
    assert stream.broken is None
    assert out == chat("so ").partition(b"\n\n")[0] + b"\n\n"


def test_an_end_before_anything_came() -> None:
    stream, out = heard_of(b"")
    assert (stream.blocked, stream.broken, out) == (None, None, b"")


# What goes with texts


def test_log_probabilities_go_where_a_text_was_changed_and_stay_where_not() -> None:
    logprobs = {"content": [{"token": "x", "logprob": -0.1, "bytes": [1], "top_logprobs": []}]}
    _, out = heard_of(chat("so ", "abc ", "yes", logprobs=logprobs))
    chunks = [json.loads(line[6:]) for line in out.splitlines() if line.startswith(b"data: {")]
    told = [(chunk["choices"][0]["delta"].get("content"), chunk["choices"][0].get("logprobs")) for chunk in chunks]
    assert told == [("so ", logprobs), ("<PIECE_1> ", None), ("yes", logprobs), (None, None)]


def test_the_rest_of_a_text_comes_without_what_is_said_once() -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "pay", "arguments": '{"to": "abc"}'}}
    first = {"id": "r", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}}]}
    ended = {"id": "r", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    data = b"".join([b"data: %s\n\n" % json.dumps(one).encode() for one in (first, ended)])
    _, out = heard_of(data)
    chunks = [json.loads(line[6:]) for line in out.splitlines() if line.startswith(b"data: {")]
    assert len(chunks) == 3
    assert chunks[0]["choices"][0]["delta"]["tool_calls"] == [{**call, "function": {"name": "pay", "arguments": ""}}]
    rest = {"index": 0, "type": "function", "function": {"arguments": '{"to": "<PIECE_1>"}'}}
    assert chunks[1] == {"id": "r", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [rest]}}]}
    assert chunks[2] == ended


def test_calls_that_come_whole_without_an_index_go_out_whole() -> None:
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": arguments(PIECE)}}
        for name in ("pay", "tell")
    ]
    chunk = {"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}
    _, out = heard_of(b"data: %s\n\n" % json.dumps(chunk).encode() + chat())
    (told, _) = [json.loads(line[6:]) for line in out.splitlines() if line.startswith(b"data: {")]
    said = [call["function"] for call in told["choices"][0]["delta"]["tool_calls"]]
    assert said == [{"name": name, "arguments": arguments("<PIECE_1>")} for name in ("pay", "tell")]


def test_arguments_that_come_in_pieces_by_the_id_of_their_call_are_one_text() -> None:
    data = b""
    for said in ('{"to": "ab', 'c"}'):
        call = {"id": "c", "type": "function", "function": {"name": "pay", "arguments": said}}
        data += b"data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode()
    _, out = heard_of(data + chat())
    assert Heard(DIALECTS["openai.chat"], Framing.SSE, out).texts == {"0/tool/c/arguments": '{"to": "<PIECE_1>"}'}


def test_the_rest_of_one_choice_says_nothing_of_another() -> None:
    both = {
        "choices": [{"index": 0, "delta": {"content": "so ab"}}, {"index": 1, "delta": {}, "finish_reason": "stop"}]
    }
    ended = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
    stream, out = heard_of(b"".join([b"data: %s\n\n" % json.dumps(one).encode() for one in (both, ended)]))
    heard = Heard(DIALECTS["openai.chat"], Framing.SSE, out)
    assert heard.texts["0/content"] == "so ab"
    assert heard.finish == ["stop", "length"]
    assert stream.finish == ["stop", "length"]


def test_arguments_without_texts_pass() -> None:
    for said in ("{}", "[]", "12", " "):
        call = {"index": 0, "id": "c", "function": {"name": "now", "arguments": said}}
        chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
        data = b"data: %s\n\n" % json.dumps(chunk).encode() + chat()
        _, out = heard_of(data)
        heard = Heard(DIALECTS["openai.chat"], Framing.SSE, out)
        assert heard.texts == {"0/tool/0/arguments": said}


def test_a_blocked_responses_stream_says_again_what_went_out() -> None:
    dialect = DIALECTS["openai.responses"]
    whole = streams(dialect)[0]
    texts = {"1/content/0": f"It is abc, and then {LONG}."}
    made, _ = spoken(dialect, whole, lambda channel, json_: "{}" if json_ else texts.get(channel, "yes"), times=4)
    with guard_of("block") as guard:
        stream, out = run(guard, dialect, encoded(Framing.SSE, made), reply="No more.")
    heard = Heard(dialect, Framing.SSE, out)
    went = heard.texts["1/content/0"]
    assert went.startswith("It is <PIECE_1>")
    last = heard.frames[-1].data["response"]
    assert last["output"][1]["content"][0]["text"] == went
    assert [one["content"][0]["text"] for one in last["output"][-1:]] == ["No more."]
    done = [frame.data for frame in heard.frames if frame.name == "response.output_text.done"]
    assert [one["text"] for one in done] == [went, "No more."]
    assert stream.blocked is not None
    pydantic, responses = pytest.importorskip("pydantic"), pytest.importorskip("openai.types.responses")
    events = pydantic.TypeAdapter(responses.ResponseStreamEvent)
    for frame in heard.frames:
        events.validate_python(frame.data)


def test_what_no_detector_reads_is_counted_once_a_place() -> None:
    logprobs = {"content": [{"token": "x", "logprob": -0.1, "bytes": [1], "top_logprobs": []}]}
    stream, _ = heard_of(chat(*["so "] * 5, logprobs=logprobs))
    decision = stream._texts._check.decision
    assert decision.coverage == (1.0, 0.0)


async def test_on_an_event_loop_it_is_the_same() -> None:
    data = chat("so a", "bc", " yes")
    with guard_of("redact") as guard, exchange(guard, DIALECTS["openai.chat"]) as (own, _):
        stream = ExchangeStream(own, Framing.SSE)
        out = await adrive(stream.feed(data)) + await adrive(stream.close())
    assert out == heard_of(data)[1]


# Bounds


def held_by(step: Callable[[], Any]) -> int:
    """Bytes that are held after many steps."""
    step()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5_000):
            step()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_a_long_stream_holds_little_beside_its_text() -> None:
    event = chat("word0 ").partition(b"\n\n")[0] + b"\n\n"
    with guard_of("redact") as guard, exchange(guard, DIALECTS["openai.chat"]) as (own, _):
        check = own.checks.stream(Stage.OUTPUT)
        text = held_by(lambda: drive(check.feed("".join(["word", "0 "]))))
        stream = ExchangeStream(own, Framing.SSE)
        assert held_by(lambda: drive(stream.feed(event))) - text < 64 * 1024
        check.abandon()
        stream.abandon()


@pytest.mark.parametrize("name", ["anthropic.messages", "llamacpp.completion", "mcp", "openai.responses"])
def test_what_an_ending_must_know_is_bounded(name: str) -> None:
    dialect = DIALECTS[name]
    quiet = {
        "anthropic.messages": lambda at: Frame({"type": "ping"}, "ping"),
        "llamacpp.completion": lambda at: Frame({"content": "", "stop": False, "prompt_progress": {"processed": at}}),
        "mcp": lambda at: Frame({"jsonrpc": "2.0", "method": f"notifications/n{at}", "params": {"message": "x y"}}),
        "openai.responses": lambda at: Frame(
            {"type": "response.in_progress", "response": {"id": f"r{at}", "output": []}, "sequence_number": at}
        ),
    }[name]
    first = streams(dialect)[0][0]
    with guard_of("redact") as guard, exchange(guard, dialect) as (own, body):
        own.sent = body
        stream = ExchangeStream(own, Framing.SSE)
        drive(stream.feed(encoded(Framing.SSE, [first])))
        for at in range(1, 600):
            drive(stream.feed(encoded(Framing.SSE, [quiet(at)])))
        assert len(stream._sent) <= exchange_sent.LIMIT
        assert stream._sent.frames()[0].name == first.name
        out = drive(stream.feed(b"nonsense\n\n"))
        Heard(dialect, Framing.SSE, out)


def test_an_unknown_event_is_no_reason_to_hang() -> None:
    assert Event().closes("x") is False
    stream, out = heard_of(b'data: {"object": "chat.completion.chunk"}\n\n' + chat("so "))
    assert stream.broken is None
    assert b'{"object": "chat.completion.chunk"}' in out


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, PLACES, st.sampled_from(["redact", "block", "windowed", "observe"]), st.integers(1, 40))
def test_events_that_are_not_parsed_go_out_as_those_that_are(
    text: str, places: list[int], policy: str, by: int
) -> None:
    dialect = DIALECTS["openai.chat"]
    data = b"".join(
        [
            b"data: %s\n\n" % json.dumps({"id": "c", "choices": [{"index": n, "delta": {"content": one}}]}).encode()
            for n in (0, 1)
            for one in cut_at(text, places, 6)
        ]
    )
    pieces = [data[at : at + by * 10] for at in range(0, len(data), by * 10)]
    ends = []
    for learns in (True, False):
        with guard_of(policy) as guard, exchange(guard, dialect) as (own, body):
            own.sent = body
            stream = ExchangeStream(own, Framing.SSE)
            if not learns:
                stream._templates = 0  # nobody else switches it off
            out = b"".join([drive(stream.feed(one)) for one in pieces]) + drive(stream.close())
            ends.append((out, stream.blocked is None, stream.broken is None))
    assert ends[0] == ends[1]


def test_what_can_not_be_carried_on_at_the_end_ends_the_stream() -> None:
    class Refusing(OpenAiChat):
        def more(self, frame: Frame, delta: Delta, text: str) -> Frame:
            raise DialectError("there is no more")

    dialect = Refusing("openai.chat", "openai", ("/v1/chat/completions",))
    event = {"id": "c", "choices": [{"index": 0, "delta": {"content": "well ab"}}]}
    with guard_of("redact") as guard, exchange(guard, dialect) as (own, body):
        own.sent = body
        stream = ExchangeStream(own, Framing.SSE)
        out = drive(stream.feed(b"data: %s\n\n" % json.dumps(event).encode())) + drive(stream.close())
    assert b"ab" not in out
    assert out.endswith(b"data: [DONE]\n\n")
    assert str(stream.broken) == "there is no more"


def test_with_patience_nothing_goes_out_before_a_text_does() -> None:
    dialect = DIALECTS["openai.chat"]
    role = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n'

    def says(text: str) -> bytes:
        return role.replace(b'"role": "assistant", ', b"").replace(b'""', b'"%s"' % text.encode())

    for texts, untold in ((["abb", "bc"], True), (["fine ", "abbc"], False)):
        with guard_of("block") as guard, exchange(guard, dialect) as (own, body):
            own.sent = body
            stream = ExchangeStream(own, Framing.SSE)
            stream.patient = True
            assert drive(stream.feed(role)) == b""
            out = [drive(stream.feed(says(text))) for text in texts]
        assert stream.blocked is not None
        assert (stream.untold is not None) is untold
        assert (b"".join(out) == b"") is untold
        assert untold or out[0].startswith(role)


def ended(guard: Guard, dialect: Dialect, data: bytes) -> int:
    """How many bytes of a stream come before it is ended by a text that says ``LONG``."""
    with exchange(guard, dialect) as (own, body):
        own.sent = body
        stream = ExchangeStream(own, dialect.framing)
        for at in range(len(data)):
            drive(stream.feed(data[at : at + 1]))
            if stream.blocked is not None:
                assert [finding.category for finding in stream.blocked.findings] == ["LONG"]
                return at + 1
    raise AssertionError("the stream was not ended")


@each
def test_a_stream_that_is_held_back_ends_where_one_that_is_not_does(name: str) -> None:
    dialect = STREAMING[name]
    rules = [{"detector": "owl", "action": "block"}, {"detector": "pieces", "categories": ["LONG"], "action": "block"}]
    held = Guard({"name": "p", "rules": rules}, detectors=[Pieces(), owl])
    with held, Guard({"name": "p", "rules": rules[1:]}, detectors=[Pieces()]) as free:
        for whole in streams(dialect):
            known = stages(dialect, whole)
            said = f"it is {LONG} and goes on"

            def text(channel: str, _: bool, known: dict[str, tuple[Stage, bool]] = known, said: str = said) -> str:
                return said if known[channel] == (Stage.OUTPUT, False) else "[]"

            made, texts = spoken(dialect, whole, text, times=4)
            if said in texts.values():
                data = encoded(dialect.framing, made)
                assert ended(held, dialect, data) == ended(free, dialect, data)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), rules=hostile.rules(modes=("strict",)), places=PLACES, times=st.integers(1, 3))
def test_all_detectors_say_the_same_in_every_format(data, rules: list[dict], places: list[int], times: int) -> None:
    dialect = STREAMING[data.draw(st.sampled_from(sorted(STREAMING)))]
    whole, kind = data.draw(st.sampled_from(streams(dialect))), data.draw(st.sampled_from(kinds(dialect)))
    known = stages(dialect, whole)

    def text(channel: str, json_: bool) -> str:
        if known[channel][0] is Stage.TOOL_RESULT:  # see above
            return "said"
        said = data.draw(hostile.texts).encode("utf-8", "replace").decode()
        return arguments(said) if json_ else said

    made, said = spoken(dialect, whole, text, lambda one, pieces: cut_at(one, places, pieces), times)
    one = hostile.case(rules)
    stream, out = run(one.guard, dialect, encoded(kind, made), places, kind)
    heard = Heard(dialect, kind, out)
    wants = {
        channel: wanted(one.guard, text, json_=known[channel][1], stage=known[channel][0], conversation="-")
        for channel, text in said.items()
    }
    parts = [part for frame in made for part in dialect.event(frame).parts]
    aside = any([one.guard.check(part.content, stage=part.stage).blocked for part in parts])
    assert stream.broken is None
    assert (stream.blocked is not None) == (aside or None in wants.values())
    if stream.blocked is None:
        told = {channel: same_numbers(text) for channel, text in heard.texts.items()}
        assert told == {channel: same_numbers(text or "") for channel, text in wants.items() if text}
    one.close()


def same_numbers(text: str) -> str:
    """The text with the number of no placeholder: which one it has depends on what was seen before."""
    return re.sub(r"<([A-Z][A-Z0-9_]*?)_\d+>", r"<\1>", text)
