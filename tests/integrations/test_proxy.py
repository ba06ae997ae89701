"""The proxy: in process where that will do, over real sockets where connections are what it is about."""

import asyncio
import contextlib
import json
import socket
import threading
from typing import Any

import httpx
import pytest
from asgi_calls import JSON, Model, call, served
from fakes import Pieces

from llmguard import Guard
from llmguard.errors import ConfigurationError
from llmguard.exporters.prometheus import Scrape
from llmguard.exporters.prometheus_text import OPENMETRICS, TEXT
from llmguard.integrations import hops
from llmguard.integrations.proxy import Proxy
from llmguard.integrations.upstream import Limits, Upstream
from llmguard.integrations.upstream_metrics import passed_on
from llmguard.testing import capture

PATH = "/v1/chat/completions"
SSE = b"text/event-stream"


def guard() -> Guard:
    rules = [
        {"detector": "pieces", "stage": ["input", "output"], "categories": ["PIECE"], "action": "redact"},
        {"detector": "pieces", "stage": ["input", "output"], "categories": ["LONG"], "action": "block"},
    ]
    return Guard({"name": "p", "rules": rules}, detectors=[Pieces()])


def asked(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def answered(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"object": "chat.completion", "choices": [{"index": 0, "message": message}]}).encode()


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return (
        b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"
    )


@contextlib.contextmanager
def proxied(model: Any, limits: Limits | None = None, prefix: str = "", **options: Any):
    """A client of a proxy, and its server, in front of a model; all on real sockets."""
    with served(model, lifespan="off") as (upstream, _):
        app = Proxy(Upstream(upstream + prefix, limits), guard(), **options)
        with served(app) as (url, server), httpx.Client(base_url=url, timeout=60) as client:
            yield client, server


class Raw:
    """A server that answers every connection with those bytes, and then closes it, or leaves it open."""

    def __init__(self, data: bytes, *, close: bool = True) -> None:
        self.data = data
        self.close = close
        self.heard: list[bytes] = []
        self.gone = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Raw":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.heard.append(connection.recv(1 << 20))
                with contextlib.suppress(OSError):
                    connection.sendall(self.data)
                    while not self.close and connection.recv(1 << 16):
                        pass
                self.gone.set()


@contextlib.contextmanager
def before(raw: Raw, limits: Limits | None = None, **options: Any):
    """A client of a proxy before such a server."""
    app = Proxy(Upstream(raw.url, limits), guard(), **options)
    with raw, served(app) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        yield client


def test_a_call_goes_there_and_back_cleared() -> None:
    model = Model(answered("take abc"))
    with proxied(model, prefix="/deep/er") as (client, _):
        got = client.post(PATH, params={"a": "b c"}, json=asked("say abc"), headers={"authorization": "Bearer k"})
        assert got.status_code == 200
        got = client.post(PATH, json=asked())
        assert b"abc" not in got.content
    assert b"abc" not in model.asked[0]
    scope, headers = model.scopes[0], dict(model.scopes[0]["headers"])
    assert scope["raw_path"] == b"/deep/er" + PATH.encode()
    assert scope["query_string"] == b"a=b+c" or scope["query_string"] == b"a=b%20c"
    assert headers[b"authorization"] == b"Bearer k"
    assert headers[b"host"].startswith(b"127.0.0.1:")
    assert headers[b"x-forwarded-for"] == b"127.0.0.1"
    assert headers[b"x-forwarded-proto"] == b"http"
    assert headers[b"x-forwarded-host"] != headers[b"host"]
    assert headers[b"accept-encoding"] == b"identity"


def test_claims_and_headers_of_one_hop_are_not_handed_on() -> None:
    model = Model(answered("x"))
    model.headers += [
        (b"x-a", b"b"),
        (b"alt-svc", b'h3=":443"'),
        (b"keep-alive", b"timeout=5"),
        (b"set-cookie", b"a=b"),
    ]
    claims = {
        "x-forwarded-for": "6.6.6.6",
        "forwarded": "for=6.6.6.6",
        "x-forwarded-host": "evil",
        "connection": "keep-alive, x-secret, content-type",
        "x-secret": "s",
        "proxy-authorization": "p",
        "te": "trailers",
    }
    with proxied(model) as (client, _):
        got = client.post(PATH, json=asked(), headers=claims)
        again = client.post(PATH, json=asked())
    headers = dict(model.scopes[0]["headers"])
    assert headers[b"x-forwarded-for"] == b"127.0.0.1"
    assert not {b"forwarded", b"x-secret", b"proxy-authorization", b"te"} & headers.keys()
    assert headers[b"content-type"] == b"application/json"
    assert got.headers["x-a"] == "b"
    assert "alt-svc" not in got.headers
    assert "keep-alive" not in got.headers
    assert again.status_code == 200
    assert got.headers["set-cookie"] == "a=b"


async def test_one_callers_cookie_is_not_anothers() -> None:
    model = Model(answered("x"))
    model.headers.append((b"set-cookie", b"a=b"))
    with served(model, lifespan="off") as (url, _):
        app = Proxy(Upstream(url), guard())
        for _ in range(2):
            await call(app, "POST", PATH, json.dumps(asked()).encode())
        await app.upstream.close()
    assert all(b"cookie" not in dict(scope["headers"]) for scope in model.scopes)


@pytest.mark.parametrize(
    ("given", "kept"), [("a-1.B:2", True), ("a b", False), ("x" * 200, False), ("", False), ("é", False)]
)
async def test_every_request_has_an_id(given: str, kept: bool) -> None:
    model = Model(answered("x"))
    model.headers.append((b"x-request-id", b"theirs"))
    with served(model, lifespan="off") as (url, _):
        app = Proxy(Upstream(url), guard())
        own = given.encode()
        for path in (PATH, "/nowhere", "/healthz"):
            got = await call(
                app,
                "POST" if path == PATH else "GET",
                path,
                json.dumps(asked()).encode(),
                [*JSON, (b"x-request-id", own)],
            )
            id_ = got.header(b"x-request-id")
            assert id_ is not None
            assert (id_ == own) is kept
            if path == PATH:
                assert dict(model.scopes[0]["headers"])[b"x-request-id"] == id_
                assert got.header(b"x-upstream-request-id") == b"theirs"
        await app.upstream.close()


def test_a_stream_comes_through_and_is_blocked_in_its_midst() -> None:
    model = Model(event("one "), event("two a"), event("bc "), event("three "), event("abbc"), event("four"), kind=SSE)
    with proxied(model) as (client, _):
        got = client.post(PATH, json=asked(stream=True))
    assert got.status_code == 200
    assert "abc" not in got.text
    assert "three" in got.text
    assert "four" not in got.text
    assert got.text.endswith("data: [DONE]\n\n")
    assert "content_filter" in got.text


class Slow:
    """Streams an event, then waits until its client leaves or it is let go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.left = threading.Event()
        self.go: asyncio.Event | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.loop, self.go = asyncio.get_running_loop(), asyncio.Event()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", SSE)]})
        await send({"type": "http.response.body", "body": event("one "), "more_body": True})
        self.begun.set()
        leaving = asyncio.create_task(receive())
        going = asyncio.create_task(self.go.wait())
        await asyncio.wait((leaving, going), return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            going.cancel()
            self.left.set()
            return
        leaving.cancel()
        await send({"type": "http.response.body", "body": event("two") + b"data: [DONE]\n\n", "more_body": False})


def test_a_client_that_leaves_closes_the_upstream() -> None:
    model = Slow()
    with proxied(model) as (client, _):
        with client.stream("POST", PATH, json=asked(stream=True)) as got:
            assert b"one" in next(got.iter_raw())
        client.close()
        assert model.left.wait(30)


@pytest.mark.parametrize("begins", [True, False])
async def test_a_call_whose_client_leaves_is_told_as_abandoned(begins: bool) -> None:
    here, release = asyncio.Event(), asyncio.Event()

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if begins:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + event("one "))
        here.set()
        await release.wait()
        writer.close()

    given = [{"type": "http.request", "body": json.dumps(asked(stream=True)).encode(), "more_body": False}]

    async def receive() -> Any:
        if given:
            return given.pop()
        await here.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": JSON, "scheme": "http"}
    with capture() as seen:
        own = Guard({"name": "p", "rules": []}, tracer_provider=seen.tracer_provider)
        async with await asyncio.start_server(upstream, "127.0.0.1", 0) as listening:
            app = Proxy(Upstream(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"), own)
            await app(scope, receive, send)
            release.set()
            await app.upstream.close()
        (span,) = [span for span in seen.spans if span.name == "chat m"]
    assert span.attributes["error.type"] == "abandoned"


def test_a_stop_drains_the_streams() -> None:
    model = Slow()
    with proxied(model) as (client, server), client.stream("POST", PATH, json=asked(stream=True)) as got:
        pieces = got.iter_raw()
        seen = next(pieces)
        server.should_exit = True
        assert model.begun.wait(30)
        assert model.loop is not None
        assert model.go is not None
        model.loop.call_soon_threadsafe(model.go.set)
        seen += b"".join(pieces)
    assert b"two" in seen
    assert seen.endswith(b"data: [DONE]\n\n")


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: "


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 502, "llmguard_broken"),
        (b"no http\r\n\r\n", 502, "llmguard_broken"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", 502, "llmguard_broken"),
        (HEAD + b"application/json\r\ncontent-length: 2\r\n\r\nno", 502, "llmguard_body"),
        (b"HTTP/1.1 307 X\r\nlocation: http://evil/v1\r\ncontent-length: 0\r\n\r\n", 502, "llmguard_redirect"),
        (b"HTTP/1.1 307 X\r\nlocation: //evil/v1\r\ncontent-length: 0\r\n\r\n", 502, "llmguard_redirect"),
        (b"HTTP/1.1 307 X\r\nlocation: /\\evil/v1\r\ncontent-length: 0\r\n\r\n", 502, "llmguard_redirect"),
        (b"HTTP/1.1 307 X\r\nlocation: /a\r\nlocation: //evil\r\ncontent-length: 0\r\n\r\n", 502, "llmguard_redirect"),
    ],
)
def test_an_upstream_that_fails_is_told_in_the_formats_words(data: bytes, status: int, code: str) -> None:
    with before(Raw(data)) as client:
        got = client.post(PATH, json=asked())
        assert (got.status_code, got.json()["error"]["code"]) == (status, code)
        other = client.post("/v1/messages", json=asked(max_tokens=5))
        assert (other.status_code, other.json()["type"]) == (status, "error")
        if code != "llmguard_body" and not data.endswith(b"{"):
            alone = client.get("/v1/models")
            assert alone.status_code == status
            assert alone.json()["error"]["code"] == code


def test_a_redirect_within_the_upstream_stays_with_us() -> None:
    raw = Raw(b"")
    raw.data = b"HTTP/1.1 307 X\r\nlocation: " + raw.url.encode() + b"/v1/x?y\r\ncontent-length: 0\r\n\r\n"
    with before(raw) as client:
        got = client.post(PATH, json=asked())
        assert (got.status_code, got.headers["location"]) == (307, "/v1/x?y")


def test_an_upstream_that_cant_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with served(Proxy(Upstream(f"http://127.0.0.1:{port}"), guard())) as (url, _):
        got = httpx.post(url + PATH, json=asked(), timeout=60)
        assert (got.status_code, got.json()["error"]["code"]) == (502, "llmguard_unreachable")
        assert httpx.get(url + "/readyz", timeout=60).status_code == 503
        assert httpx.get(url + "/healthz", timeout=60).text == "ok\n"


@pytest.mark.parametrize("limits", [Limits(read=0.1), Limits(total=0.1)])
def test_an_upstream_that_is_too_slow(limits: Limits) -> None:
    with before(Raw(b"", close=False), limits) as client:
        got = client.post(PATH, json=asked())
        assert (got.status_code, got.json()["error"]["code"]) == (504, "llmguard_timeout")


@pytest.mark.parametrize("held", [b"", b"say a"])
def test_an_upstream_that_dies_in_mid_stream_breaks_the_connection_off(held: bytes) -> None:
    chunk = event("one ") + (event(held.decode()) if held else b"") + b"data: {"
    data = HEAD + SSE + b"\r\ntransfer-encoding: chunked\r\n\r\n" + b"%x\r\n" % len(chunk) + chunk + b"\r\n"
    with before(Raw(data)) as client, client.stream("POST", PATH, json=asked(stream=True)) as got:
        seen = []
        with pytest.raises(httpx.RemoteProtocolError):
            seen += list(got.iter_raw())
    assert b"[DONE]" not in b"".join(seen)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://x",
        "http://",
        "http://x?y=1",
        "http://u:p@x",
        "http://x/a//b",
        "http://x/a b",
        "http://x#y",
        "http://a b",
        "http://ü..x",
    ],
)
def test_a_wrong_url_is_an_error(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Upstream(url)


def test_wrong_limits_are_errors() -> None:
    with pytest.raises(ConfigurationError, match="read"):
        Limits(read=0)


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nb: c"),
        (b"x\r\ny", b"a"),
        (b"x", b"a\nb"),
        (b"x", b"a\x00"),
        (b"x y", b"a"),
        (b"", b"a"),
        (b"x:", b"a"),
    ],
)
async def test_headers_cant_hold_others(header: tuple[bytes, bytes]) -> None:
    model = Model(answered("x"))
    assert not hops.well_formed([header])
    with served(model, lifespan="off") as (url, _):
        app = Proxy(Upstream(url), guard(), unmatched="pass")
        for path in (PATH, "/other"):
            got = await call(app, "POST", path, json.dumps(asked()).encode(), [*JSON, header])
            assert got.status == 400
        await app.upstream.close()
    assert not model.asked


def test_what_is_not_guarded_streams_through_in_both_directions() -> None:
    model = Model(b"say ", b"abc", kind=b"text/plain")
    with proxied(model, unmatched="pass") as (client, _):
        got = client.post("/other", content=iter([b"abc", b"x" * 100_000]))
        assert got.text == "say abc"
        empty = client.put("/other")
        assert empty.text == "say abc"
    assert model.asked == [b"abc" + b"x" * 100_000, b""]


PAGE = b"""# HELP vllm:num_requests_running Number of requests.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m"} 3.0
python_gc_objects_collected_total 1.0
tgi_queue_size 2\r
nv_inference_request_success{model="m"} 7
# HELP process_x x
other vllm:x
"""


def test_the_figures_of_model_servers_are_picked_out() -> None:
    assert passed_on(PAGE).decode().splitlines() == [
        "# HELP vllm:num_requests_running Number of requests.",
        "# TYPE vllm:num_requests_running gauge",
        'vllm:num_requests_running{model_name="m"} 3.0',
        "tgi_queue_size 2",
        'nv_inference_request_success{model="m"} 7',
    ]
    assert passed_on(b"") == b""


async def test_metrics_are_ours_and_those_of_the_upstream() -> None:
    model = Model(PAGE)
    with served(model, lifespan="off") as (url, _):
        for metrics, status in ((None, 404), (lambda _: Scrape(b"llmguard_decisions_total 1\n", TEXT), 200)):
            app = Proxy(Upstream(url), guard(), metrics=metrics)
            got = await call(app, "GET", "/metrics")
            assert got.status == status
            assert (b"vllm:num_requests_running" in got.body) is (status == 200)
            assert (b"pip install 'llmguard[otel]'" in got.body) is (status == 404)
            model.pieces = [b"vllm:x 1\n" * 1_000_000]
            got = await call(app, "GET", "/metrics")
            assert b"vllm" not in got.body
            model.pieces = [PAGE]
            await app.upstream.close()


async def test_whoever_asks_for_openmetrics_gets_both_in_it() -> None:
    asked: list[str] = []

    def figures(accept: str) -> Scrape:
        asked.append(accept)
        return Scrape(b"llmguard_decisions_total 1\n# EOF\n", OPENMETRICS)

    model = Model(PAGE)
    with served(model, lifespan="off") as (url, _):
        app = Proxy(Upstream(url), guard(), metrics=figures)
        got = await call(app, "GET", "/metrics", headers=[(b"Accept", b"application/openmetrics-text")])
        await app.upstream.close()
    assert asked == ["application/openmetrics-text"]
    assert got.header(b"content-type") == OPENMETRICS.encode()
    assert got.header(b"vary") == b"accept"
    assert got.body.startswith(b"llmguard_decisions_total 1\n# HELP vllm:num_requests_running")
    assert got.body.endswith(b" 7\n# EOF\n")
    assert got.body.count(b"# EOF") == 1


async def test_figures_that_cant_be_read_are_an_error_and_nothing_else() -> None:
    def figures(accept: str) -> Scrape:
        raise OSError(accept)

    app = Proxy(Upstream("http://127.0.0.1:9"), guard(), metrics=figures)
    assert (await call(app, "GET", "/metrics")).status == 500
    assert (await call(app, "GET", "/healthz")).status == 200
    await app.upstream.close()


def test_what_sends_the_last_telemetry_comes_behind_the_guards_end() -> None:
    told: list[str] = []
    own = guard()
    closed = own.close
    own.close = lambda: (told.append("guard"), closed())
    with served(Proxy(Upstream("http://127.0.0.1:9"), own, at_end=lambda: told.append("telemetry")), lifespan="on"):
        assert told == []
    assert told == ["guard", "telemetry"]


@pytest.mark.parametrize(("status", "ready"), [(200, 200), (404, 200), (503, 503)])
async def test_it_is_ready_when_its_upstream_is(status: int, ready: int) -> None:
    model = Model(b"x", status=status)
    with served(model, lifespan="off") as (url, _):
        app = Proxy(Upstream(url), guard())
        for _ in range(3):
            assert (await call(app, "GET", "/readyz")).status == ready
        await app.upstream.close()
    assert len(model.asked) == 1
    assert model.scopes[0]["path"] == "/health"


async def test_spans_stand_in_the_callers_trace() -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    own = Guard(
        {"name": "p", "rules": [{"detector": "pieces", "stage": ["input", "output"], "action": "flag"}]},
        detectors=[Pieces()],
        tracer_provider=provider,
    )
    model, trace = Model(answered("x")), "0af7651916cd43dd8448eb211c80319c"
    parent = f"00-{trace}-b7ad6b7169203331-01".encode()
    with served(model, lifespan="off") as (url, _):
        app = Proxy(Upstream(url), own)
        for headers in ([(b"traceparent", parent)], [(b"traceparent", b"nonsense")], []):
            await call(app, "POST", PATH, json.dumps(asked()).encode(), [*JSON, *headers])
        await app.upstream.close()
    spans = exporter.get_finished_spans()
    assert {span.name for span in spans} == {"llmguard.guard input", "chat m", "llmguard.guard output"}
    assert [span.parent is not None and f"{span.parent.trace_id:032x}" == trace for span in spans] == [True] * 3 + [
        False
    ] * 6
    assert dict(model.scopes[0]["headers"])[b"traceparent"] == parent
    own.close()


async def test_the_upstream_of_a_request_can_be_picked() -> None:
    first, second = Model(answered("one")), Model(answered("two"))
    with served(first, lifespan="off") as (one, _), served(second, lifespan="off") as (two, _):
        ups = [Upstream(one), Upstream(two)]
        app = Proxy(ups[0], guard(), pick=lambda scope: ups[dict(scope["headers"]).get(b"x-to") == b"2"])
        for to in (b"1", b"2"):
            got = await call(app, "POST", PATH, json.dumps(asked()).encode(), [*JSON, (b"x-to", to)])
            assert got.status == 200
        for up in ups:
            await up.close()
    assert (len(first.asked), len(second.asked)) == (1, 1)


HEAD_LINE = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
SAYS = json.dumps(asked("say abbc")).encode()
CHUNKED = b"%x\r\n" % len(SAYS) + SAYS + b"\r\n0\r\n\r\n"
WIRES = {
    "cut off": HEAD_LINE + b"content-length: 1000\r\n\r\n" + SAYS,
    "too short a length": HEAD_LINE + b"content-length: 5\r\n\r\n" + SAYS,
    "two lengths": HEAD_LINE + b"content-length: 5\r\ncontent-length: %d\r\n\r\n" % len(SAYS) + SAYS,
    "a negative length": HEAD_LINE + b"content-length: -1\r\n\r\n" + SAYS,
    "chunked": HEAD_LINE + b"transfer-encoding: chunked\r\n\r\n" + CHUNKED,
    "chunked with a length": HEAD_LINE + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKED,
    "chunked in another spelling": HEAD_LINE + b"transfer-encoding: xchunked\r\n\r\n" + CHUNKED,
    "chunked twice": HEAD_LINE + b"transfer-encoding: chunked, chunked\r\n\r\n" + CHUNKED,
    "a length in hex": HEAD_LINE + b"content-length: 0x50\r\n\r\n" + SAYS,
    "a folded header": HEAD_LINE + b"x: a\r\n b\r\ncontent-length: %d\r\n\r\n" % len(SAYS) + SAYS,
    "an absolute target": HEAD_LINE.replace(b"POST ", b"POST http://x")
    + b"content-length: %d\r\n\r\n" % len(SAYS)
    + SAYS,
    "HTTP/1.0": HEAD_LINE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"content-length: %d\r\n\r\n" % len(SAYS) + SAYS,
    "an upgrade": HEAD_LINE + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: %d\r\n\r\n" % len(SAYS) + SAYS,
    "a websocket": HEAD_LINE.replace(b"POST", b"GET")
    + b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: "
    + b"AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00" + SAYS,
}


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_nothing_on_the_wire_leads_around(parser: str) -> None:
    if parser == "httptools":
        pytest.importorskip("httptools")
    model = Model(answered("x"))
    with contextlib.ExitStack() as stack:
        upstream, _ = stack.enter_context(served(model, lifespan="off"))
        app = Proxy(Upstream(upstream), guard(), unmatched="pass")
        url, _ = stack.enter_context(served(app, http=parser))
        host, port = url.removeprefix("http://").split(":")
        for wire in WIRES.values():
            with socket.create_connection((host, int(port)), 60) as connection:
                connection.sendall(wire)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
        assert httpx.get(f"{url}/healthz", timeout=60).status_code == 200
    assert b"abbc" not in b"".join(model.asked)


def test_the_client_of_openai_takes_what_the_proxy_says() -> None:
    openai = pytest.importorskip("openai")
    model = Model()
    with contextlib.ExitStack() as stack:
        http, _ = stack.enter_context(proxied(model))
        url = str(http.base_url).rstrip("/")
        client = stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=2))
        model.pieces = [answered("take abc and go")]
        got = client.chat.completions.create(**asked("say it"))
        assert got.choices[0].message.content == "take <PIECE_1> and go"
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**asked("say abbc"))
        assert caught.value.code == "content_filter"
        assert caught.value.request_id
        assert len(model.asked) == 1
        model.pieces, model.headers = [event("one "), event("abbc"), event("two")], [(b"content-type", SSE)]
        chunks = list(client.chat.completions.create(**asked("hi", stream=True)))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one "
        assert chunks[-1].choices[0].finish_reason == "content_filter"


async def ended(app: Any) -> None:
    """The lifespan of an application, from its beginning to its end."""
    steps = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    said: list[str] = []

    async def receive() -> Any:
        return steps.pop(0)

    async def send(message: Any) -> None:
        said.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


class Far(httpx.AsyncBaseTransport):
    """A server that is asked in process."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        await request.aread()
        return httpx.Response(200, headers=[("content-type", "application/json")], content=answered("fine"))

    async def aclose(self) -> None:
        self.closed += 1


async def test_each_call_is_told_with_the_upstream_that_was_picked_and_all_are_closed() -> None:
    first, second, unused = Far(), Far(), Far()
    default = Upstream("http://first:1", transport=first)
    others = {b"b": Upstream("http://second:2", transport=second), b"c": Upstream("http://third:3", transport=unused)}
    picks = 0

    def pick(scope: Any) -> Upstream:
        nonlocal picks
        picks += 1
        return others.get(dict(scope["headers"]).get(b"x-to"), default)

    rules = [{"detector": "pieces", "stage": ["input", "output"], "action": "redact"}]
    with capture() as seen:
        own = Guard({"name": "p", "rules": rules}, detectors=[Pieces()], tracer_provider=seen.tracer_provider)
        app = Proxy(default, own, pick=pick)
        body = json.dumps(asked()).encode()
        assert (await call(app, "POST", PATH, body)).status == 200
        assert (await call(app, "POST", PATH, body, [*JSON, (b"x-to", b"b")])).status == 200
        assert (await call(app, "GET", "/v1/models", b"", [(b"x-to", b"b")])).status == 200
        assert picks == 3
        assert (await call(app, "POST", PATH, b"no json")).status == 400
        assert picks == 3
        told = [
            (span.attributes["server.address"], span.attributes["server.port"])
            for span in seen.spans
            if "chat" in span.name
        ]
    assert told == [("first", 1), ("second", 2)]
    assert (len(first.asked), len(second.asked)) == (1, 2)
    await ended(app)
    assert (first.closed, second.closed, unused.closed) == (1, 1, 0)


async def test_one_that_can_not_be_closed_leaves_the_others_no_less_closed() -> None:
    class Stuck(Far):
        async def aclose(self) -> None:
            raise OSError("stuck")

    stuck, fine = Upstream("http://a", transport=Stuck()), Far()
    own = guard()
    app = Proxy(stuck, own, pick=lambda _: Upstream("http://b", transport=fine))
    await call(app, "POST", PATH, json.dumps(asked()).encode())
    with pytest.raises(OSError, match="stuck"):
        await ended(app)
    assert fine.closed == 1


async def test_who_asks_is_believed_where_it_is_said_to_be_and_told_to_nobody_else() -> None:
    far = Far()
    rules = [{"detector": "pieces", "stage": ["input", "output"], "action": "redact"}]
    names = [(b"x-c", b"c-1"), (b"x-p", b"greeting, 7"), (b"x-t", b"acme")]
    with capture() as seen:
        own = Guard({"name": "p", "rules": rules}, detectors=[Pieces()], tracer_provider=seen.tracer_provider)
        upstream = Upstream("http://a", transport=far)
        body = json.dumps(asked()).encode()
        believed = Proxy(upstream, own, conversation="X-C", prompt="X-P", tenant="X-T")
        await call(believed, "POST", PATH, body, [*JSON, *names])
        for span in seen.spans:
            assert span.attributes["gen_ai.conversation.id"] == "c-1"
            assert span.attributes["llmguard.prompt.name"] == "greeting"
            assert span.attributes["llmguard.prompt.version"] == "7"
        assert {span.name.split()[0] for span in seen.spans} == {"llmguard.guard", "chat"}
        count = len(seen.spans)
        await call(Proxy(upstream, own), "POST", PATH, body, [*JSON, *names])
        for span in seen.spans[count:]:
            assert not {"gen_ai.conversation.id", "llmguard.prompt.name"} & set(span.attributes)
    assert not {"x-c", "x-p", "x-t"} & set(far.asked[0].headers)
    assert {"x-c", "x-p", "x-t"} <= set(far.asked[1].headers)


@pytest.mark.parametrize(
    "url", ["http://a:99999", "http://[::1", "http://a:b", None, 7, "http://@a", "http://k:s3cr@a"]
)
def test_an_upstream_that_is_no_url_is_a_clear_error(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="an upstream's URL") as error:
        Upstream(url)
    assert "s3cr" not in str(error.value)


@pytest.mark.parametrize("limits", [{"total": "9"}, {"read": float("nan")}, {"connections": 1.5}, {"pool": True}])
def test_a_limit_is_a_number(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(limits))):
        Limits(**limits)


async def test_a_call_that_found_nobody_says_so_in_one_word() -> None:
    class Nobody(Far):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

    with capture() as seen:
        own = Guard({"name": "p", "rules": []}, tracer_provider=seen.tracer_provider)
        app = Proxy(Upstream("http://a", transport=Nobody()), own)
        assert (await call(app, "POST", PATH, json.dumps(asked()).encode())).status == 502
        (span,) = [span for span in seen.spans if span.name == "chat m"]
    assert span.attributes["error.type"] == "unreachable"
