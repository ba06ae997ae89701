"""The matrix of ways around the guard: every dialect, route, part and event, through every way in. It must be empty."""

import gzip
import json
import zlib
from typing import Any

import httpx
import pytest
from asgi_calls import JSON, Answer, Model, call, served
from dialect_samples import FOLDER, frames, load, wire
from fakes import Pieces

from llmguard import Guard
from llmguard.dialects import edit, framing, registry, strict
from llmguard.dialects.wire import Event, Frame, Framing
from llmguard.integrations.asgi import GuardMiddleware
from llmguard.integrations.proxy import Proxy
from llmguard.integrations.upstream import Upstream

SECRET = "a" + "b" * 23 + "c"
TEXT = f"it is {SECRET} here"
STAGES = ["input", "output", "tool_call", "tool_result", "context"]
NAMES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "README")
TYPES = {
    Framing.SSE: b"text/event-stream",
    Framing.NDJSON: b"application/x-ndjson",
    Framing.AWS: b"application/vnd.amazon.eventstream",
    Framing.ARRAY: b"application/json",
}
CHAT = {"model": "m", "messages": [{"role": "user", "content": TEXT}]}


def guard(action: str) -> Guard:
    rules = [{"detector": "pieces", "stage": STAGES, "action": action}]
    return Guard({"name": "p", "rules": rules}, detectors=[Pieces()])


@pytest.fixture(params=["redact", "block"])
def action(request: Any) -> str:
    return request.param


class Ways:
    """The ways in, each around the same model."""

    def __init__(self, action: str) -> None:
        self.model = Model()
        self.apps = {
            "asgi": GuardMiddleware(self.model, guard=guard(action)),
            "proxy": Proxy(Upstream("http://model", transport=_Transport(self.model)), guard(action)),
        }

    async def all(self, method: str, target: str, body: bytes, headers: Any = JSON) -> list[tuple[str, Answer]]:
        return [(name, await call(app, method, target, body, headers)) for name, app in self.apps.items()]


class _Transport(httpx.AsyncBaseTransport):
    """Asks an application, at the target that goes over the wire."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = b"".join([piece async for piece in request.stream])
        target = request.extensions["target"].decode("latin-1")
        answer = await call(self.app, request.method, target, body, request.headers.raw)
        assert answer.whole
        pieces = answer.pieces

        class Stream(httpx.AsyncByteStream):
            async def __aiter__(self):
                for piece in pieces:
                    yield piece

        return httpx.Response(answer.status, headers=answer.headers, stream=Stream())


def requests(name: str) -> list[tuple[str, str, bytes, Any]]:
    """Method, path, body and what it says."""
    dialect, found = registry.get(name), []
    for request in load(name)["requests"]:
        method, path = request["route"].split(" ", 1)
        match = registry.find(method, path)
        assert match is not None
        body = request["body"]
        found.append((method, path, b"" if body is None else wire(body), dialect.request(body, match.segments)))
    return found


@pytest.mark.parametrize("name", NAMES)
async def test_no_part_of_a_request_reaches_the_model(name: str, action: str) -> None:
    ways, tried = Ways(action), 0
    for method, path, body, said in requests(name):
        for part in said.parts:
            if part.path.endswith("~3"):
                continue
            hostile = edit.rewrite(body, {part.path: TEXT})
            for way, answer in await ways.all(method, path, hostile):
                tried += 1
                assert SECRET.encode() not in b"".join(ways.model.asked), (way, path, part.path)
                assert (answer.status == 400) == (action == "block"), (way, path, part.path, answer.body[:300])
                assert SECRET.encode() not in answer.body
            assert len(ways.model.asked) == (0 if action == "block" else 2)
            ways.model.asked.clear()
    assert tried >= 2


@pytest.mark.parametrize("name", NAMES)
async def test_no_part_of_an_answer_reaches_the_client(name: str, action: str) -> None:
    ways, sample = Ways(action), load(name)
    dialect = registry.get(name)
    whole = [request for request in requests(name) if not _streams(*request)]
    for kind, status in (("responses", 200), ("errors", 400), ("errors", 500)):
        for response in sample.get(kind, []):
            for part in dialect.response(response["body"]).parts:
                if part.path.endswith("~3"):
                    continue
                ways.model.pieces = [edit.rewrite(wire(response["body"]), {part.path: TEXT})]
                ways.model.status = status
                for method, path, body, _ in whole[:1]:
                    for way, answer in await ways.all(method, path, body):
                        assert SECRET.encode() not in answer.body, (way, path, part.path)
                        assert answer.whole
                        json.loads(answer.body)
                        assert action == "redact" or answer.status == 400


def _streams(method: str, path: str, body: bytes, said: Any) -> bool:
    match = registry.find(method, path)
    assert match is not None
    return said.stream if match.route.stream is None else match.route.stream


@pytest.mark.parametrize("name", NAMES)
async def test_no_event_of_a_stream_reaches_the_client(name: str, action: str) -> None:
    ways = Ways(action)
    streams = load(name).get("streams", [])
    asking = [request for request in requests(name) if _streams(*request)]
    for stream in streams:
        whole = frames(stream)
        for hostile in (*one_by_one(name, whole), *split(name, whole)):
            for method, path, body, _ in asking[:1]:
                match = registry.find(method, path)
                assert match is not None
                kind = registry.framing(match.dialect, match.route)
                assert kind is not None
                encoder = framing.encoder(kind)
                data = b"".join([encoder.encode(frame) for frame in hostile]) + encoder.end()
                for step in (7, len(data)):
                    ways.model.pieces = [data[at : at + step] for at in range(0, len(data), step)]
                    ways.model.headers = [(b"content-type", TYPES[kind])]
                    for way, answer in await ways.all(method, path, body):
                        assert SECRET.encode() not in answer.body, (way, path)
                        said = spoken(name, kind, answer.body)
                        assert not [key for key, text in said.items() if SECRET in text], (way, path)
                        assert answer.whole


def one_by_one(name: str, whole: list[Frame]):
    """The stream with the secret at each place where an event says something."""
    dialect = registry.get(name)
    for index, frame in enumerate(whole):
        event: Event = dialect.event(frame)
        for piece in (*event.deltas, *event.repeats, *event.parts):
            if not piece.path.endswith("~3") and "#" not in piece.path:
                yield [*whole[:index], _put(frame, piece.path, TEXT), *whole[index + 1 :]]


def split(name: str, whole: list[Frame]):
    """The stream with the secret cut over all pieces of each text."""
    dialect = registry.get(name)
    channels: dict[str, list[tuple[int, str]]] = {}
    for index, frame in enumerate(whole):
        for delta in dialect.event(frame).deltas:
            if not delta.json:
                channels.setdefault(delta.channel, []).append((index, delta.path))
    for places in channels.values():
        size = -(-len(TEXT) // len(places))
        changed = list(whole)
        for number, (index, path) in enumerate(places):
            changed[index] = _put(changed[index], path, TEXT[number * size : (number + 1) * size])
        yield changed


def _put(frame: Frame, path: str, text: str) -> Frame:
    return Frame(strict.parse(edit.rewrite(wire(frame.data), {path: text})), frame.name)


def spoken(name: str, kind: Framing, data: bytes) -> dict[str, str]:
    """What a client would put together."""
    said: dict[str, str] = {}
    decoder, dialect = framing.decoder(kind), registry.get(name)
    for raw in [*decoder.feed(data), *decoder.close()]:
        if raw.frame is not None:
            for delta in dialect.event(raw.frame).deltas:
                said[delta.channel] = said.get(delta.channel, "") + delta.content
    return said


PATHS = [
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/./v1/chat/completions",
    "/x/../v1/chat/completions",
    "/V1/chat/completions",
    "/v1/Chat/Completions",
    "/v1/chat/completions/",
    "/v1/chat/completions.",
    "/v1/chat/completions%20",
    "/v1/chat/completions;x=1",
    "/%761/chat/completions",
    "/v1%2Fchat%2Fcompletions",
    "/v1/chat%2fcompletions",
    "/v1/chat/completions%00",
    "/v1/chat\\completions",
    "/v1/chat/completions%3Fx",
    "/v1/chat/completions#x",
    "http://model/v1/chat/completions",
    "/v1/ch\u00e0t/completions",
    "/%2e/v1/chat/completions",
    "/v1/models/../chat/completions",
    "/v1/models/%2e%2e/chat/completions",
]


@pytest.mark.parametrize("unmatched", ["refuse", "pass"])
@pytest.mark.parametrize("path", PATHS)
async def test_no_spelling_of_a_path_leads_around(path: str, unmatched: str) -> None:
    model = Model(b"{}")
    apps = [
        GuardMiddleware(model, guard=guard("redact"), unmatched=unmatched),
        Proxy(Upstream("http://model", transport=_Transport(model)), guard("redact"), unmatched=unmatched),
    ]
    for app in apps:
        answer = await call(app, "POST", path, wire(CHAT))
        assert answer.status in (400, 404)
        assert not model.asked


@pytest.mark.parametrize(
    "method", ["PUT", "PATCH", "GET", "HEAD", "OPTIONS", "DELETE", "post", "Post", "TRACE", "QUERY"]
)
async def test_no_other_method_carries_a_body(method: str) -> None:
    for app, model in _both("redact"):
        await call(app, method, "/v1/chat/completions", wire(CHAT))
        await call(app, method, "/v1/models", wire(CHAT))
        assert SECRET.encode() not in b"".join(model.asked)


def _both(action: str, **options: Any):
    for way in ("asgi", "proxy"):
        model = Model(b'{"object":"chat.completion","choices":[]}')
        if way == "asgi":
            yield GuardMiddleware(model, guard=guard(action), **options), model
        else:
            yield Proxy(Upstream("http://model", transport=_Transport(model)), guard(action), **options), model


BODY = wire(CHAT)
BODIES: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "gzip": (gzip.compress(BODY), [(b"content-encoding", b"gzip")]),
    "GZIP": (gzip.compress(BODY), [(b"content-encoding", b"GZIP")]),
    "deflate": (zlib.compress(BODY), [(b"content-encoding", b"deflate")]),
    "twice": (gzip.compress(gzip.compress(BODY)), [(b"content-encoding", b"gzip, gzip")]),
    "two members": (gzip.compress(b"{}") + gzip.compress(BODY), [(b"content-encoding", b"gzip")]),
    "claimed": (BODY, [(b"content-encoding", b"gzip")]),
    "brotli claimed": (BODY, [(b"content-encoding", b"br")]),
    "not claimed": (gzip.compress(BODY), []),
    "utf-16": (BODY.decode().encode("utf-16"), [(b"content-type", b"application/json; charset=utf-16")]),
    "utf-16 in silence": (BODY.decode().encode("utf-16-le"), []),
    "bom": (b"\xef\xbb\xbf" + BODY, []),
    "utf-7": (
        wire({"model": "m", "messages": [{"role": "user", "content": TEXT}]}).replace(
            SECRET.encode(), SECRET.encode("utf-16-be").hex().encode()
        ),
        [(b"content-type", b"application/json; charset=utf-7")],
    ),
    "two keys": (b'{"messages":[],"messages":' + wire(CHAT["messages"]) + b"}", []),
    "a key escaped": (b'{"model":"m","m\\u0065ssages":' + wire(CHAT["messages"]) + b"}", []),
    "a secret escaped": (BODY.replace(b"ab", b"\\u0061\\u0062"), []),
    "what follows": (b'{"messages":[]}' + BODY, []),
    "lines": (b'{"messages":[]}\n' + BODY, []),
    "form": (BODY, [(b"content-type", b"application/x-www-form-urlencoded")]),
    "multipart": (BODY, [(b"content-type", b"multipart/form-data; boundary=x")]),
    "two types": (BODY, [*JSON, (b"content-type", b"text/plain")]),
    "nan": (BODY[:-1] + b',"x":NaN}', []),
    "deep": (BODY[:-2] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}", []),
    "wrong length": (BODY, [*JSON, (b"content-length", b"3")]),
}


@pytest.mark.parametrize("unmatched", ["refuse", "pass"])
@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize("trick", BODIES)
async def test_no_spelling_of_a_body_leads_around(trick: str, way: int, unmatched: str) -> None:
    body, headers = BODIES[trick]
    app, model = list(_both("redact", unmatched=unmatched))[way]
    if not any(key == b"content-type" for key, _ in headers):
        headers = [*JSON, *headers]
    for pieces in ([body], [body[at : at + 11] for at in range(0, len(body), 11)]):
        answer = await call(app, "POST", "/v1/chat/completions", pieces, headers)
        assert answer.status in (200, 400, 415)
        for asked in model.asked:
            assert SECRET not in json.dumps(json.loads(asked))
        for scope in model.scopes:
            sent = dict(scope["headers"])
            assert sent[b"content-type"].startswith(b"application/json")
            assert b"utf-7" not in sent[b"content-type"]
            assert b"content-encoding" not in sent
            assert sent[b"accept-encoding"] == b"identity"
            assert sum(key == b"content-type" for key, _ in scope["headers"]) == 1


ANSWER = {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}}]}
ANSWERS: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "gzip": (gzip.compress(wire(ANSWER)), [*JSON, (b"content-encoding", b"gzip")]),
    "brotli claimed": (wire(ANSWER), [*JSON, (b"content-encoding", b"br")]),
    "html": (f"<p>{TEXT}".encode(), [(b"content-type", b"text/html")]),
    "plain": (TEXT.encode(), [(b"content-type", b"text/plain")]),
    "no type": (TEXT.encode(), []),
    "json lines": (wire({}) + b"\n" + wire(ANSWER), [(b"content-type", b"application/x-ndjson")]),
    "a comment": (f": {TEXT}\n\ndata: [DONE]\n\n".encode(), [(b"content-type", b"text/event-stream")]),
    "an unknown field": (f"note: {TEXT}\n\ndata: [DONE]\n\n".encode(), [(b"content-type", b"text/event-stream")]),
    "an id": (f"id: {TEXT}\ndata: [DONE]\n\n".encode(), [(b"content-type", b"text/event-stream")]),
    "an event's name": (f"event: {TEXT}\ndata: [DONE]\n\n".encode(), [(b"content-type", b"text/event-stream")]),
    "no json": (f"data: {TEXT}\n\n".encode(), [(b"content-type", b"text/event-stream")]),
    "json as a stream": (wire(ANSWER), [(b"content-type", b"text/event-stream")]),
    "a stream as json": (b"data: " + json.dumps(ANSWER).encode() + b"\n\n", [*JSON]),
    "cut off": (b"data: " + json.dumps(ANSWER).encode(), [(b"content-type", b"text/event-stream")]),
    "utf-16": (json.dumps(ANSWER).encode("utf-16"), [(b"content-type", b"application/json; charset=utf-16")]),
    "bom": (b"\xef\xbb\xbf" + wire(ANSWER), [*JSON]),
    "two keys": (b'{"choices":' + wire(ANSWER["choices"]) + b',"choices":[]}', [*JSON]),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 206, 400, 500])
@pytest.mark.parametrize("trick", ANSWERS)
async def test_no_spelling_of_an_answer_leads_around(trick: str, status: int, stream: bool) -> None:
    body, headers = ANSWERS[trick]
    asked = wire({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream})
    for app, model in _both("redact"):
        model.pieces, model.headers, model.status = [body[:50], body[50:]], headers, status
        answer = await call(app, "POST", "/v1/chat/completions", asked)
        seen = answer.body
        if answer.header(b"content-encoding"):
            seen = gzip.decompress(seen)
        assert SECRET.encode() not in seen
        assert SECRET.encode("utf-16-le") not in seen
        assert SECRET not in repr(answer.headers)


async def test_headers_that_steer_a_server_elsewhere_are_dropped() -> None:
    steering = [(b"x-http-method-override", b"POST"), (b"X-Original-URL", b"/v1/other"), (b"x-rewrite-url", b"/x")]
    for app, model in _both("redact", unmatched="pass"):
        await call(app, "POST", "/v1/chat/completions", BODY, [*JSON, *steering])
        await call(app, "GET", "/v1/elsewhere", b"", steering)
        assert len(model.scopes) == 2
        for scope in model.scopes:
            assert not {key.lower() for key, _ in steering} & {key for key, _ in scope["headers"]}


async def test_the_matrix_over_real_sockets(action: str) -> None:
    model = Model()
    with served(model, lifespan="off") as (upstream, _), served(Proxy(Upstream(upstream), guard(action))) as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            for name in NAMES:
                method, path, body, said = requests(name)[0]
                part = next(part for part in said.parts if "~3" not in part.path)
                hostile = edit.rewrite(body, {part.path: TEXT})
                answer = await client.request(
                    method, path, content=hostile, headers={"content-type": "application/json"}
                )
                assert SECRET not in answer.text
                assert (answer.status_code == 400) == (action == "block"), (name, answer.text)
                assert SECRET.encode() not in b"".join(model.asked)
    assert (len(model.asked) == 0) == (action == "block")
