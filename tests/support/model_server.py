"""A small server that speaks several providers' formats and says what it was told: for tests of clients of models.

It is no model, and stands in only where none can run; what it says follows the providers' own references.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
PIECE = 3


class Server:
    """What came, and how it answers.

    Attributes:
        url: without a slash at the end.
        seen: path and body of each request.
        say: what it answers to a text; echoes it by default.
        dies_after: events after which a stream breaks off; None for never.
        closed: set when a reader of a stream has gone.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[tuple[str, Json]] = []
        self.say = lambda text: f"You said {text}"
        self.dies_after: int | None = None
        self.closed = threading.Event()


@contextmanager
def model_server() -> Iterator[Server]:
    """Serve until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.seen.append((self.path, body))
            kind, text = _read(self.path, body)
            said = server.say(text)
            if body.get("stream") or "streamGenerate" in self.path:
                self._stream(kind, said)
            else:
                data = json.dumps(_answer(kind, said)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def _stream(self, kind: str, said: str) -> None:
            self.close_connection = True
            self.send_response(200)
            self.send_header("content-type", "application/x-ndjson" if kind == "ollama" else "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            try:
                for number, event in enumerate(_events(kind, said)):
                    if number == server.dies_after:
                        self.connection.shutdown(2)
                        return
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                server.closed.set()

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def _read(path: str, body: Json) -> tuple[str, str]:
    if "enerateContent" in path:
        return "gemini", body["contents"][-1]["parts"][-1]["text"]
    if path.endswith("/embeddings"):
        return "embeddings", str(body["input"])
    if path.endswith("/responses"):
        return "responses", body["input"]
    kind = "anthropic" if path.endswith("/messages") else "ollama" if path == "/api/chat" else "openai"
    return kind, body["messages"][-1]["content"]


def _answer(kind: str, said: str) -> Json:
    message = {"role": "assistant", "content": said}
    if kind == "gemini":
        return {"candidates": [{"content": {"role": "model", "parts": [{"text": said}]}, "finishReason": "STOP"}]}
    if kind == "anthropic":
        usage = {"input_tokens": 3, "output_tokens": 5}
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
        return {**head, "content": [{"type": "text", "text": said}], "stop_reason": "end_turn", "usage": usage}
    if kind == "ollama":
        return {"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": True}
    if kind == "embeddings":
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
        return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    if kind == "responses":
        return _response(said, "completed")
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def _response(said: str, status: str) -> Json:
    part = {"type": "output_text", "text": said, "annotations": []}
    item = {"id": "i1", "type": "message", "role": "assistant", "status": status, "content": [part]}
    head = {
        "id": "r1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
        "parallel_tool_calls": True,
    }
    return {**head, "output": [item] if said else [], "tool_choice": "auto", "tools": []}


def _events(kind: str, said: str) -> Iterator[bytes]:
    pieces = [said[at : at + PIECE] for at in range(0, len(said), PIECE)]
    if kind == "ollama":
        for piece in pieces:
            message = {"role": "assistant", "content": piece}
            yield _line({"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False})
        yield _line(_answer("ollama", ""))
        return
    if kind == "gemini":
        for number, piece in enumerate(pieces, 1):
            candidate: Json = {"content": {"role": "model", "parts": [{"text": piece}]}, "index": 0}
            candidate |= {"finishReason": "STOP"} if number == len(pieces) else {}
            yield _sse({"candidates": [candidate]})
        return
    if kind == "anthropic":
        yield from _anthropic(pieces)
        return
    if kind == "responses":
        yield from _responses(said, pieces)
        return
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    yield _sse({**head, "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]})
    for piece in pieces:
        yield _sse({**head, "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
    yield _sse({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    yield b"data: [DONE]\n\n"


def _anthropic(pieces: list[str]) -> Iterator[bytes]:
    message = _answer("anthropic", "") | {"content": [], "stop_reason": None}
    yield _sse({"type": "message_start", "message": message})
    yield _sse({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    for piece in pieces:
        yield _sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}})
    yield _sse({"type": "content_block_stop", "index": 0})
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _sse({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}})
    yield _sse({"type": "message_stop"})


def _responses(said: str, pieces: list[str]) -> Iterator[bytes]:
    at = {"item_id": "i1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    item = {"id": "i1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    done = _response(said, "completed")
    events: list[Json] = [
        {"type": "response.created", "response": _response("", "in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": part},
        *({"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []} for piece in pieces),
        {"type": "response.output_text.done", **at, "text": said, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": {**part, "text": said}},
        {"type": "response.output_item.done", "output_index": 0, "item": done["output"][0]},
        {"type": "response.completed", "response": done},
    ]
    for number, event in enumerate(events):
        yield _sse({**event, "sequence_number": number})


def _sse(data: Json) -> bytes:
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def _line(data: Json) -> bytes:
    return json.dumps(data).encode() + b"\n"
