"""The core of every way in over HTTP, without any input or output."""

import contextlib
import json
from typing import Any

import pytest
from fakes import Pieces

from llmguard import Decision, Guard
from llmguard.errors import ConfigurationError
from llmguard.integrations.exchange import Cleared
from llmguard.integrations.http import Forward, HttpCall, HttpGuard, Reply, blocked_of
from llmguard.waiting import drive

PATH = "/v1/chat/completions"
HEADERS = [(b"content-type", b"application/json"), (b"accept-encoding", b"gzip"), (b"authorization", b"Bearer k")]


def http(action: str = "redact", on_block: Any = "raise", **options: Any) -> HttpGuard:
    rules = [
        {"detector": "pieces", "stage": ["input", "output"], "categories": ["PIECE"], "action": action},
        {"detector": "pieces", "stage": ["input", "output"], "categories": ["LONG"], "action": "block"},
    ]
    policy = {"name": "p", "on_block": on_block, "rules": rules}
    return HttpGuard(Guard(policy, detectors=[Pieces()]), **options)


def opened(guard: HttpGuard, headers: Any = HEADERS) -> HttpCall:
    call = guard.open("POST", PATH, "", headers)
    assert isinstance(call, HttpCall)
    return call


def asked(text: str, **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()


def answered(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"object": "chat.completion", "choices": [{"index": 0, "message": message}]}).encode()


def test_a_request_goes_on_cleared_under_headers_that_fit() -> None:
    headers = [*HEADERS, (b"content-length", b"3"), (b"etag", b"x"), (b"range", b"bytes=0-3")]
    call = opened(http())
    forward = drive(call.request(headers, asked("say abc")))
    assert isinstance(forward, Forward)
    assert "abc" not in forward.body.decode()
    assert sorted(forward.headers) == [
        (b"accept-encoding", b"identity"),
        (b"authorization", b"Bearer k"),
        (b"content-length", str(len(forward.body)).encode()),
        (b"content-type", b"application/json"),
    ]
    call.close()


def test_an_untouched_body_stays_as_it_came() -> None:
    body = asked("  good day ", seed=1.50)
    assert drive(opened(http()).request(HEADERS, body)).body == body


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        (b"application/json", b"application/json"),
        (b"application/json; charset=utf-8", b"application/json; charset=utf-8"),
        (b'application/json;charset="UTF-8"', b'application/json;charset="UTF-8"'),
        (b"application/vnd.x+json", b"application/vnd.x+json"),
        (b"application/json; charset=utf-7", b"application/json"),
        (b"application/json; charset=utf-8; charset=utf-16", b"application/json"),
        (b"text/plain", b"application/json"),
        (b"application/x-www-form-urlencoded", b"application/json"),
    ],
)
def test_nobody_is_told_to_read_the_body_in_another_way(kind: bytes, sent: bytes) -> None:
    forward = drive(opened(http()).request([(b"content-type", kind)], asked("hi")))
    assert [value for key, value in forward.headers if key == b"content-type"] == [sent]


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ([], b"{", 400, "llmguard_body"),
        ([], b"", 400, "llmguard_body"),
        ([], b'{"a":1,"a":2}', 400, "llmguard_body"),
        ([], b"x" * 2000, 413, "llmguard_size"),
        ([(b"content-encoding", b"br")], b"{}", 415, "llmguard_encoding"),
        ([(b"inference-header-content-length", b"5")], b"{}", 415, "llmguard_body"),
    ],
)
def test_what_cant_be_read_is_refused_in_the_formats_words(headers: Any, body: bytes, status: int, code: str) -> None:
    reply = drive(opened(http(limit=1000)).request([*HEADERS, *headers], body))
    assert isinstance(reply, Reply)
    assert reply.status == status
    assert json.loads(reply.body)["error"]["code"] == code
    assert (b"x-should-retry", b"false") in reply.headers
    assert reply.blocked is None
    assert blocked_of(reply) is None


def test_a_body_of_another_format_passes_where_the_policy_says_so() -> None:
    for body in (b"[1]", b'{"messages": 5}'):
        assert drive(opened(http()).request(HEADERS, body)).status == 400
        assert drive(opened(http(unmatched="pass")).request(HEADERS, body)).body == body
    for body in (b"no json", b'{"messages": [], "messages": [{"role": "user", "content": "abbc"}]}'):
        assert drive(opened(http(unmatched="pass")).request(HEADERS, body)).status == 400


def test_a_block_raises_as_the_formats_error() -> None:
    reply = drive(opened(http()).request(HEADERS, asked("say abbc")))
    assert reply.status == 400
    assert json.loads(reply.body)["error"]["code"] == "content_filter"
    blocked = blocked_of(reply)
    assert blocked is not None
    assert blocked.decision is reply.blocked
    assert "abbc" not in reply.body.decode()


def test_a_block_replies_as_an_answer_or_as_a_stream() -> None:
    guard = http(on_block={"reply": "Not here."})
    whole = drive(opened(guard).request(HEADERS, asked("say abbc")))
    assert whole.status == 200
    assert json.loads(whole.body)["choices"][0]["message"]["content"] == "Not here."
    stream = drive(opened(guard).request(HEADERS, asked("say abbc", stream=True)))
    assert stream.headers[0][1].startswith(b"text/event-stream")
    assert b"Not here." in stream.body
    assert stream.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("made", ["Not here.", {"choices": []}])
def test_a_block_calls_the_fallback(made: Any) -> None:
    seen: list[Decision] = []

    def fallback(decision: Decision) -> Any:
        seen.append(decision)
        return made

    reply = drive(opened(http(on_block="fallback", fallback=fallback)).request(HEADERS, asked("say abbc")))
    assert [decision.blocked for decision in seen] == [True]
    assert reply.status == 200
    body = json.loads(reply.body)
    assert body == made if isinstance(made, dict) else body["choices"][0]["message"]["content"] == made


def test_a_blocked_answer_is_asked_for_again_as_often_as_the_policy_says() -> None:
    call = opened(http(on_block={"retry": 1}))
    forward = drive(call.request(HEADERS, asked("hi")))
    assert call.begin(200, HEADERS) is None
    again = drive(call.whole(answered("abbc")))
    assert isinstance(again, Forward)
    assert b"Your last answer was withheld" in again.body
    assert dict(again.headers)[b"authorization"] == b"Bearer k"
    assert dict(again.headers)[b"content-length"] == str(len(again.body)).encode()
    assert len(again.headers) == len(forward.headers)
    call.begin(200, HEADERS)
    reply = drive(call.whole(answered("abbc")))
    assert isinstance(reply, Reply)
    assert reply.status == 400


def test_an_answer_comes_back_cleared() -> None:
    call = opened(http())
    drive(call.request(HEADERS, asked("hi")))
    kind = (b"content-type", b"application/json; charset=latin-1")
    assert call.begin(200, [kind, (b"x-a", b"b"), (b"content-length", b"9")]) is None
    reply = drive(call.whole(answered("say abc")))
    assert "abc" not in reply.body.decode()
    assert reply.headers == [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"x-a", b"b"),
        (b"content-length", str(len(reply.body)).encode()),
    ]


@pytest.mark.parametrize("body", [b"", b" \n"])
@pytest.mark.parametrize("status", [200, 204, 500])
def test_an_empty_answer_is_one(status: int, body: bytes) -> None:
    call = opened(http())
    drive(call.request(HEADERS, asked("hi")))
    call.begin(status, [])
    reply = drive(call.whole(body))
    assert (reply.status, reply.body) == (status, body)
    assert [key for key, _ in reply.headers] == ([] if status == 204 else [b"content-length"])


def test_an_answer_that_cant_be_read_is_refused_or_passed() -> None:
    for unmatched, status in (("refuse", 502), ("pass", 200)):
        call = opened(http(unmatched=unmatched))
        drive(call.request(HEADERS, asked("hi")))
        call.begin(200, [(b"content-type", b"text/html")])
        assert drive(call.whole(b"<p>hi")).status == status


def test_a_stream_is_one_by_its_type_or_because_it_was_asked_for() -> None:
    for stream, kind, streams in (
        (True, b"text/event-stream", True),
        (False, b"text/event-stream", True),
        (True, b"", True),
        (True, b"application/json", False),
        (False, b"", False),
    ):
        call = opened(http())
        drive(call.request(HEADERS, asked("hi", stream=stream)))
        assert (call.begin(200, [(b"content-type", kind)]) is not None) is streams
        call.close()


@pytest.mark.parametrize(
    "line",
    [
        "GET /v1/models",
        "GET /v1/models/gpt-x",
        "GET /api/tags",
        "HEAD /health",
        "GET /v2/models/m/ready",
        "OPTIONS /any",
    ],
)
def test_requests_without_texts_pass(line: str) -> None:
    assert http().open(*line.split(" ")) is None


@pytest.mark.parametrize("line", ["POST /v1/files", "GET /v1/threads/1", "DELETE /v1/models/m", "POST /v1/models"])
def test_other_requests_are_refused_or_passed(line: str) -> None:
    reply = http().open(*line.split(" "))
    assert isinstance(reply, Reply)
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (404, "llmguard_route")
    assert http(unmatched="pass").open(*line.split(" ")) is None


def test_paths_that_can_be_read_in_two_ways_are_refused_even_where_others_pass() -> None:
    for path in (f"/{PATH}", f"{PATH}/", PATH.upper(), f"{PATH}%3Fa", f"{PATH}%23"):
        reply = http(unmatched="pass").open("POST", path)
        assert isinstance(reply, Reply)
        assert reply.status == 400
        assert http().guards(path)
    assert http().guards(PATH)
    assert not http().guards("/v1/realtime")


def test_a_request_that_fetches_an_answer_has_no_body() -> None:
    call = http().open("GET", "/v1/responses/resp_1", "", HEADERS)
    assert isinstance(call, HttpCall)
    forward = drive(call.request(HEADERS, b""))
    assert forward.body == b""
    assert b"content-length" not in dict(forward.headers)


def test_dialects_can_be_named() -> None:
    guard = http(dialects=["openai.chat"])
    assert isinstance(guard.open("POST", PATH), HttpCall)
    assert isinstance(guard.open("POST", "/v1/messages"), Reply)
    with pytest.raises(ConfigurationError, match=r"openai\.chat"):
        http(dialects=["openai.chats"])


@pytest.mark.parametrize("options", [{"unmatched": "maybe"}, {"limit": 0}, {"limit": "1"}])
def test_wrong_options_are_errors(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        http(**options)
    with pytest.raises(ConfigurationError, match="fallback"):
        http(on_block="fallback")


def test_a_call_belongs_to_the_conversation_in_which_it_is_opened() -> None:
    guard = http()
    with guard.guard.conversation("c-1"):
        first = opened(guard)
    sent = json.loads(drive(first.request(HEADERS, asked("say abc"))).body)["messages"][0]["content"]
    first.close()
    for name, restored in (("c-1", "say abc"), ("c-2", sent), ("", sent)):
        with guard.guard.conversation(name) if name else contextlib.nullcontext():
            call = opened(guard)
        drive(call.request(HEADERS, asked("hi")))
        call.begin(200, HEADERS)
        reply = drive(call.whole(answered(sent)))
        assert json.loads(reply.body)["choices"][0]["message"]["content"] == restored
        call.close()


def test_what_passes_in_no_format_is_looked_at_all_the_same() -> None:
    call = opened(http(unmatched="pass"))
    body = b'{"model": 5, "messages": [{"role": "user", "content": "say abc"}]}'
    assert drive(call.request(HEADERS, body)).body == body.replace(b"abc", b"<PIECE_1>")
    call.begin(200, [(b"content-type", b"application/json")])
    assert drive(call.whole(b'{"said": ["abc x"]}')).body == b'{"said": ["abc x"]}'  # the user's own comes back
    call.begin(200, [(b"content-type", b"application/json"), (b"content-encoding", b"br")])
    assert drive(call.whole(b'{"said": "abc"}')).status == 502


@pytest.mark.parametrize("made", [Reply(200, [], b"secret"), Forward([], b"secret"), Cleared(b"secret")])
def test_no_repr_shows_a_body(made: object) -> None:
    assert "secret" not in repr(made)


@pytest.mark.parametrize("made", [{1, 2}, float("nan"), [b"secret"], (circle := [])])
def test_a_fallback_that_gives_no_json_is_a_clear_error(made: Any) -> None:
    circle[:] = [circle]
    call = opened(http(on_block="fallback", fallback=lambda _: made))
    with pytest.raises(ConfigurationError, match=f"this one gave a {type(made).__name__} that has none") as error:
        drive(call.request(HEADERS, asked("say abbc")))
    assert "secret" not in str(error.value)
    assert error.value.__context__ is None
    call.close()


def said_by(out: bytes) -> tuple[str, str]:
    """The text of a stream, and its last finish reason."""
    events = [json.loads(line[6:]) for line in out.splitlines() if line.startswith(b"data: {")]
    choices = [event["choices"][0] for event in events if "choices" in event]
    text = "".join([choice["delta"].get("content") or "" for choice in choices])
    return text, [choice["finish_reason"] for choice in choices][-1]


@pytest.mark.parametrize(
    ("made", "text", "finish"),
    [
        ("Ask anew.", "one Ask anew.", "content_filter"),
        ({"choices": [{"index": 0, "delta": {"content": "!"}, "finish_reason": "stop"}]}, "one !", "stop"),
        (
            [{"choices": [{"index": 0, "delta": {"content": t}, "finish_reason": "stop"}]} for t in "ab"],
            "one ab",
            "stop",
        ),
    ],
)
def test_a_fallback_goes_on_where_a_stream_is_blocked_in_its_midst(made: Any, text: str, finish: str) -> None:
    told: list[Decision] = []

    def fallback(decision: Decision) -> Any:
        told.append(decision)
        return made

    call = opened(http(on_block="fallback", fallback=fallback))
    drive(call.request(HEADERS, asked("hi", stream=True)))
    stream = call.begin(200, [(b"content-type", b"text/event-stream")])
    assert stream is not None
    out = b""
    for piece in ("one ", "abbc", " more "):
        choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
        out += drive(stream.feed(b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"))
    out += drive(stream.close())
    assert said_by(out) == (text, finish)
    assert out.endswith(b"data: [DONE]\n\n") is (made == "Ask anew.")
    assert [decision.blocked for decision in told] == [True]
    assert stream.untold is None
    call.close()
