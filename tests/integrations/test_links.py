"""The connections to an upstream, by aiohttp and by httpx, before a server that says what it is told to."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from llmguard.integrations.link_aiohttp import HEADER, HEADERS, AiohttpLink
from llmguard.integrations.link_httpx import HttpxLink
from llmguard.integrations.links import Link
from llmguard.integrations.served import UpstreamError
from llmguard.integrations.upstream import Limits

Says = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Answers each request on each connection with the next of some bytes; the last ones are said again."""

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self.answers = list(answers)
        self.close = close
        self.heard: list[bytes] = []
        self.connections = 0
        self.tasks: list[asyncio.Task[None] | None] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.current_task())
        try:
            await self.serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                if b"chunked" in head:
                    head += await reader.readuntil(b"0\r\n\r\n")
                self.heard.append(head + await reader.readexactly(int(length or 0)))
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
                await writer.drain()
                if self.close:
                    break


@contextlib.asynccontextmanager
async def before(server: Server, limits: Limits | None = None, kind: str = "aiohttp") -> AsyncIterator[Link]:
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        link = linked(listening.sockets[0].getsockname()[1], limits or Limits(), kind)
        try:
            yield link
        finally:
            await link.close()
            await asyncio.gather(*[task for task in server.tasks if task is not None])


def linked(port: int, limits: Limits, kind: str = "aiohttp") -> Link:
    if kind == "aiohttp":
        return AiohttpLink(pytest.importorskip("aiohttp"), f"http://127.0.0.1:{port}", None, limits)
    timeout = {"connect": limits.connect, "read": limits.read, "write": limits.read, "pool": limits.pool}
    bounds = httpx.Limits(max_connections=limits.connections)
    transport = httpx.AsyncHTTPTransport(trust_env=False, limits=bounds)
    return HttpxLink(httpx, transport, f"http://127.0.0.1:{port}", timeout)


async def asked(link: Link, method: str = "GET", body: Any = b"", **headers: str) -> tuple[int, bytes]:
    own = [(b"host", b"x"), *[(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]]
    answer = await link.ask(method, b"/a?b", own, body)
    try:
        pieces = []
        while piece := await answer.piece():
            pieces.append(piece)
        return answer.status, b"".join(pieces)
    finally:
        await answer.close()


both = pytest.mark.parametrize("kind", ["aiohttp", "httpx"])


@both
async def test_a_call_goes_there_and_back_over_a_connection_that_is_kept(kind: str) -> None:
    server = Server(OK)
    async with before(server, kind=kind) as link:
        assert await asked(link, "POST", b"hello", content_length="5") == (200, b"ok")
        assert await asked(link, x_y="z") == (200, b"ok")
    assert server.connections == 1
    assert server.heard[0].startswith(b"POST /a?b HTTP/1.1\r\n")
    assert server.heard[0].endswith(b"\r\n\r\nhello")
    assert b"\r\nx-y: z\r\n" in server.heard[1]


@both
@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", 200, b"to the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", 200, b"to the end"),
        (b"HTTP/1.1 204 X\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 X\r\n\r\n", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nlink: y\r\n\r\n" + OK, 200, b"ok"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n1;x=y\r\n!\r\n0\r\nt: u\r\n\r\n",
            200,
            b"ok!",
        ),
    ],
)
async def test_an_answer_ends_as_http_says(kind: str, answer: bytes, status: int, body: bytes) -> None:
    async with before(Server(answer, close=True), kind=kind) as link:
        assert await asked(link) == (status, body)


@both
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no http\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-len",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 3 * HEADER + b"\r\n\r\n",
    ],
)
async def test_half_an_answer_is_an_error(kind: str, answer: bytes) -> None:
    async with before(Server(answer, close=True), kind=kind) as link:
        with pytest.raises(UpstreamError) as error:
            await asked(link)
    assert (error.value.status, error.value.code) == (502, "broken")


@both
@pytest.mark.parametrize("status", [b"101", b"000", b"600", b"999"])
async def test_no_other_protocol_is_switched_to_and_no_other_status_heeded(status: bytes, kind: str) -> None:
    switched = b"HTTP/1.1 " + status + b" X\r\nconnection: upgrade\r\nupgrade: y\r\ncontent-length: 0\r\n\r\n"
    async with before(Server(switched), Limits(connections=1, pool=5), kind) as link:
        for _ in range(2):  # the second finds the place free again
            with pytest.raises(UpstreamError, match="broke off"):
                await asked(link)


@pytest.mark.parametrize("count", [HEADERS - 1, HEADERS])
async def test_an_answer_may_have_many_headers(count: int) -> None:
    many = b"".join([b"x-%d: %d\r\n" % (number, number) for number in range(count)])
    async with before(Server(OK.replace(b"content-", many + b"content-"))) as link:
        if count == HEADERS:
            with pytest.raises(UpstreamError, match="broke off"):
                await asked(link)
        else:
            answer = await link.ask("GET", b"/", [(b"host", b"x")], b"")
            assert (b"x-%d" % (count - 1), b"%d" % (count - 1)) in answer.headers
            await answer.close()


async def test_a_header_that_is_no_utf8_is_not_sent() -> None:
    server = Server(OK)
    async with before(server) as link:
        for value in (b"caf\xe9", b"\xed\xb3\xa9", b"\xff"):
            with pytest.raises(UpstreamError) as error:
                await link.ask("GET", b"/", [(b"host", b"x"), (b"x-y", value)], b"")
            assert (error.value.status, error.value.code) == (400, "request")
        assert await asked(link, x_y="caf\u00e9\u20ac") == (200, b"ok")
    assert len(server.heard) == 1
    assert "\r\nx-y: caf\u00e9\u20ac\r\n".encode() in server.heard[0]


@pytest.mark.parametrize("more", [OK.replace(b"ok", b"no"), b"x", b"\r\n\r\nHTTP/1.1"])
async def test_what_nobody_asked_for_answers_no_other_call(more: bytes) -> None:
    server = Server(OK + more, OK)
    async with before(server) as link:
        with contextlib.suppress(UpstreamError):  # what follows may break the answer before it
            assert await asked(link) == (200, b"ok")
        assert await asked(link) == (200, b"ok")


async def test_what_comes_while_nobody_asks_answers_no_other_call() -> None:
    class Talks(Server):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writer = writer
            await super().serve(reader, writer)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    server = Talks(OK)
    async with before(server) as link:
        for connections, body in enumerate((b"x", b"x", pieces()), 1):
            assert await asked(link, "POST", body, content_length="1") == (200, b"ok")
            assert server.heard[-1].endswith(b"\r\n\r\nx")
            assert server.connections == connections
            server.writer.write(OK.replace(b"ok", b"no"))
            await asyncio.sleep(0.05)  # until it has come; were it not to, nothing would tell


async def test_a_server_that_speaks_first_answers_no_call() -> None:
    class First(Server):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            writer.write(OK * 2)
            await reader.read()

    server = First()
    async with before(server, Limits(read=5)) as link:
        with contextlib.suppress(UpstreamError):  # it may seem to be the answer, where it comes late
            assert await asked(link) == (200, b"ok")
    assert server.connections < 10


async def test_an_answer_that_was_left_half_read_answers_no_other_call() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret", OK)
    async with before(server) as link:
        answer = await link.ask("GET", b"/", [(b"host", b"x")], b"")
        await answer.close()
        await answer.close()
        assert await asked(link) == (200, b"ok")


@both
async def test_an_answer_to_head_has_no_body(kind: str) -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", OK)
    async with before(server, kind=kind) as link:
        assert await asked(link, "HEAD") == (200, b"")
        assert await asked(link) == (200, b"ok")


@both
async def test_a_connection_that_the_server_has_closed_is_not_used_again(kind: str) -> None:
    server = Server(OK, close=True)
    async with before(server, kind=kind) as link:
        for _ in range(3):
            assert await asked(link) == (200, b"ok")
            await asyncio.sleep(0.05)  # until the end has come; were it not to, the next call would tell
    assert server.connections == 3


async def test_a_connection_is_not_kept_for_longer_than_said() -> None:
    server = Server(OK)
    async with before(server, Limits(idle=1e-9)) as link:
        for _ in range(2):
            await asked(link)
    assert server.connections == 2


@both
async def test_a_body_goes_out_as_it_comes(kind: str) -> None:
    server = Server(OK)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c" * 20_000

    async with before(server, kind=kind) as link:
        assert await asked(link, "POST", pieces(), transfer_encoding="chunked") == (200, b"ok")
        assert await asked(link, "POST", pieces(), content_length="20002") == (200, b"ok")
    assert server.heard[0].endswith(b"\r\n0\r\n\r\n")
    assert server.heard[1].endswith(b"\r\n\r\nab" + b"c" * 20_000)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("told", [{"transfer_encoding": "chunked"}, {"content_length": "4"}])
async def test_a_body_that_came_in_pieces_is_sent_once(told: dict[str, str], whole: bool) -> None:
    """It is gone, and what is left of it would be another one; also where the method would allow for a second try."""

    class Dies(Server):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                self.heard.append(await reader.readuntil(b"cd" if whole else b"ab"))
            writer.transport.abort()
            ended.set()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        if not whole:
            await ended.wait()
        yield b"cd"

    server, ended = Dies(OK), asyncio.Event()
    async with before(server) as link:
        with pytest.raises(UpstreamError) as error:
            await asked(link, "PUT", pieces(), **told)
        assert (error.value.status, error.value.code) == (502, "broken")
    assert len(server.heard) == 1


@pytest.mark.parametrize("told", [{"transfer_encoding": "chunked"}, {"content_length": "9"}])
async def test_a_body_that_its_answer_did_not_wait_for_is_part_of_no_other_request(told: dict[str, str]) -> None:
    class Early(Server):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    self.heard.append(await reader.readuntil(b"\r\n\r\n"))
                    writer.write(OK)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        await asyncio.Event().wait()

    server = Early(OK)
    async with before(server) as link:
        assert await asked(link, "POST", pieces(), **told) == (200, b"ok")
        assert await asked(link) == (200, b"ok")
    assert server.connections == 2
    assert [heard.split(b" ")[0] for heard in server.heard] == [b"POST", b"GET"]


@pytest.mark.parametrize("length", ["3", "1", "5", "x", "-4", "", "4" * 5000])
async def test_a_body_of_another_length_than_told_is_not_sent(length: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"cd"

    for body in (b"abcd", pieces()):
        server = Server(OK)
        async with before(server) as link:
            with pytest.raises(UpstreamError) as error:
                await asked(link, "POST", body, content_length=length)
            assert error.value.code == "request"


async def test_a_body_whose_length_is_told_twice_is_not_sent() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"abcd"

    server = Server(OK)
    async with before(server) as link:
        for body in (b"abcd", pieces()):
            for second in (b"2", b"4"):
                headers = [(b"host", b"x"), (b"content-length", b"4"), (b"content-length", second)]
                with pytest.raises(UpstreamError) as error:
                    await link.ask("POST", b"/", headers, body)
                assert error.value.code == "request"
    assert not server.heard


async def test_a_body_that_fails_is_no_request() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        raise ValueError("secret")

    async with before(Server(OK)) as link:
        with pytest.raises(UpstreamError) as error:
            await asked(link, "POST", pieces(), transfer_encoding="chunked")
    assert error.value.code == "request"
    assert "secret" not in str(error.value)


async def test_a_large_body_goes_out_whole() -> None:
    server = Server(OK)
    body = bytes(range(256)) * 9_000
    async with before(server) as link:
        assert await asked(link, "POST", body, content_length=str(len(body))) == (200, b"ok")
    assert server.heard[0].endswith(b"\r\n\r\n" + body)
    assert b"chunked" not in server.heard[0].partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "target",
    [
        b"//x/y",
        b"/a/../b",
        b"/%2e%2e/b",
        b"/%",
        b"/a;b?c?d=%zz&&e=1+2",
        b'/"<>[]\\^`{|}',
        b"/@h:1/",
        b"/a?",
        b"/?",
        b"/??",
        b"/a?/../b",
    ],
)
async def test_a_target_goes_out_as_it_came(target: bytes) -> None:
    server = Server(OK)
    async with before(server) as link:
        answer = await link.ask("GET", target, [(b"host", b"x")], b"")
        await answer.close()
    assert server.heard[0].startswith(b"GET " + target + b" HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("G T", b"/"),
        ("", b"/"),
        ("CONNECT", b"/"),
        ("connect", b"/"),
        ("GET", b"/ x"),
        ("GET", b"/\r\n"),
        ("GET", b"/a#b"),
        ("GET", b"/a?b#c"),
        ("GET", b"x:80"),
        ("GET", b"/\xe9"),
    ],
)
async def test_what_is_no_request_is_not_sent(method: str, target: bytes) -> None:
    server = Server(OK)
    async with before(server) as link:
        with pytest.raises(UpstreamError) as error:
            await link.ask(method, target, [], b"")
        assert error.value.status == 400
    assert not server.heard


async def test_calls_wait_for_a_connection_and_not_for_ever() -> None:
    server = Server(OK)
    async with before(server, Limits(connections=1, pool=0.05)) as link:
        first = await link.ask("GET", b"/", [(b"host", b"x")], b"")
        with pytest.raises(UpstreamError) as error:
            await asked(link)
        assert (error.value.status, error.value.code) == (503, "busy")
        waiting = asyncio.create_task(asked(link))
        await asyncio.sleep(0)
        assert await first.piece() == b"ok"
        await first.close()
        assert await waiting == (200, b"ok")
    assert server.connections == 1


@both
async def test_a_silent_server_is_too_slow(kind: str) -> None:
    for answer in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"):
        async with before(Server(answer), Limits(read=0.1), kind) as link:
            with pytest.raises(UpstreamError) as error:
                await asked(link)
        assert (error.value.status, error.value.code) == (504, "timeout")


@both
async def test_nobody_listens(kind: str) -> None:
    async with await asyncio.start_server(Server(OK), "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
    link = linked(port, Limits(), kind)
    with pytest.raises(UpstreamError) as error:
        await asked(link)
    assert (error.value.status, error.value.code) == (502, "unreachable")
    await link.close()


@pytest.mark.parametrize("stalls", [1, 3])
async def test_a_connection_that_stood_while_the_loop_was_busy_is_not_too_slow(stalls: int) -> None:
    loop = asyncio.get_running_loop()

    def stall(left: int) -> None:
        time.sleep(0.3)
        if left > 1:
            loop.call_soon(stall, left - 1)

    async with before(Server(OK), Limits(connect=0.2)) as link:
        asking = asyncio.create_task(asked(link))
        loop.call_soon(stall, stalls)
        assert await asking == (200, b"ok")


async def test_a_connection_that_does_not_come_to_stand_is_too_slow() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, contextlib.ExitStack() as filling:
        where = listening.getsockname()
        for _ in range(4):  # nobody takes what waits there, and so no more can
            waiting = filling.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(where)
        link = linked(where[1], Limits(connect=0.2))
        for _ in range(2):
            with pytest.raises(UpstreamError) as error:
                await asked(link)
            assert (error.value.status, error.value.code) == (504, "timeout")
        await link.close()


async def test_a_call_that_is_cancelled_closes_its_connection() -> None:
    server = Server(b"")
    async with before(server, Limits(connections=1)) as link:
        for _ in range(2):  # the second finds the place free again
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asked(link)
    assert server.connections == 2


async def test_an_answer_that_nobody_reads_is_not_read_on() -> None:
    gone = asyncio.Event()
    told = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal told
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"x" * 65_536)
                await asyncio.wait_for(writer.drain(), 0.5)
                told += 65_536
        gone.set()

    server = Server()
    server.serve = endless  # type: ignore[method-assign]
    async with before(server) as link:
        answer = await link.ask("GET", b"/", [(b"host", b"x")], b"")
        await gone.wait()
        assert told < 1 << 23
        while await answer.piece():  # what came goes out; then it ends as its server ended it
            pass
        await answer.close()


def test_each_event_loop_has_its_own_connections() -> None:
    async def once() -> tuple[int, bytes]:
        server = Server(OK)
        async with await asyncio.start_server(server, "127.0.0.1", port) as listening:
            ports.append(listening.sockets[0].getsockname()[1])
            links.append(links[0] if links else linked(ports[0], Limits()))
            try:
                return await asked(links[0])
            finally:
                await links[0].close()
                await asyncio.gather(*[task for task in server.tasks if task is not None])

    port, ports, links = 0, list[int](), list[Link]()
    assert asyncio.run(once()) == (200, b"ok")
    port = ports[0]
    assert asyncio.run(once()) == (200, b"ok")


def test_event_loops_that_take_turns_keep_their_connections() -> None:
    server = Server(OK)
    with asyncio.Runner() as serving, asyncio.Runner() as first, asyncio.Runner() as second:
        loop = serving.get_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        begun = asyncio.run_coroutine_threadsafe(asyncio.start_server(server, "127.0.0.1", 0), loop)
        listening = begun.result(30)
        link = linked(listening.sockets[0].getsockname()[1], Limits())
        for runner in (first, second, first, second):
            assert runner.run(asked(link)) == (200, b"ok")
        for runner in (first, second):
            runner.run(link.close())

        async def ended() -> None:
            listening.close()
            await asyncio.gather(*[task for task in server.tasks if task is not None])

        asyncio.run_coroutine_threadsafe(ended(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
    assert server.connections == 2
