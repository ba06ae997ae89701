"""A stand-in for a model server: it chats, and tells figures of itself as vLLM, TGI and Triton write theirs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

Labels = str
_TIMES = (0.001, 0.01, 0.1, 1.0, 10.0)
_VLLM = 'engine="0",model_name="small"'
_TRITON = 'model="small",version="1"'


class UpstreamServer:
    """An ASGI application: chat completions, whole and as a stream, and ``/metrics``.

    It fails where the text says ``fail``, and says what it was told otherwise.
    """

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/metrics":
            await _answered(send, 200, b"text/plain; version=0.0.4", [self.figures().encode()])
        elif scope["path"] == "/health":
            await _answered(send, 200, b"text/plain", [b"ok"])
        elif scope["path"] == "/refused":
            await _answered(send, 400, b"text/plain", [b"no"])
        else:
            await self._chat(json.loads(body), send)

    async def _chat(self, asked: dict[str, Any], send: Any) -> None:
        self.calls += 1
        said = asked["messages"][-1]["content"]
        if "fail" in said:
            failure = {"error": {"message": "busy", "type": "server_error", "code": "overloaded"}}
            await _answered(send, 500, b"application/json", [json.dumps(failure).encode()])
        elif asked.get("stream"):
            await _answered(send, 200, b"text/event-stream", list(_events(asked["model"], said)))
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            whole = {"id": "c1", "object": "chat.completion", "created": 1, "model": asked["model"]}
            usage = {"prompt_tokens": 30, "completion_tokens": 50, "total_tokens": 80}
            body = json.dumps({**whole, "choices": [choice], "usage": usage}).encode()
            await _answered(send, 200, b"application/json", [body])

    def figures(self) -> str:
        """The three servers' pages, one after the other, as if each call had gone to all of them."""
        n = self.calls
        lines = [
            *_one("vllm:num_requests_running", "gauge", _VLLM, 2),
            *_one("vllm:num_requests_waiting", "gauge", _VLLM, n % 3),
            *_one("vllm:kv_cache_usage_perc", "gauge", _VLLM, 0.25),
            *_one("vllm:gpu_cache_usage_perc", "gauge", _VLLM, 0.25),
            *_one("vllm:num_preemptions_total", "counter", _VLLM, n // 4),
            *_one("vllm:prompt_tokens_total", "counter", _VLLM, 30 * n),
            *_one("vllm:generation_tokens_total", "counter", _VLLM, 50 * n),
            *_histogram("vllm:time_to_first_token_seconds", _VLLM, n),
            *_histogram("vllm:e2e_request_latency_seconds", _VLLM, n),
            *_one("tgi_queue_size", "gauge", "", n % 3),
            *_one("tgi_batch_current_size", "gauge", "", 4),
            *_one("tgi_request_count", "counter", "", n),
            *_one("tgi_request_success", "counter", "", n - n // 5),
            *_one("tgi_request_failure", "counter", 'err="overloaded"', n // 5),
            *_histogram("tgi_request_duration", "", n),
            *_histogram("tgi_request_queue_duration", "", n),
            *_histogram("tgi_request_mean_time_per_token_duration", "", n),
            *_one("nv_inference_request_success", "counter", _TRITON, n),
            *_one("nv_inference_request_failure", "counter", f'model="small",reason="OTHER",{_TRITON[14:]}', n // 5),
            *_one("nv_inference_count", "counter", _TRITON, 2 * n),
            *_one("nv_inference_exec_count", "counter", _TRITON, n),
            *_one("nv_inference_request_duration_us", "counter", _TRITON, 9000 * n),
            *_one("nv_inference_queue_duration_us", "counter", _TRITON, 700 * n),
            *_one("nv_inference_pending_request_count", "gauge", _TRITON, 1),
            "# HELP python_info Not passed on",
            "python_info 1",
        ]
        return "\n".join(lines) + "\n"


def _one(name: str, kind: str, labels: Labels, value: float) -> Iterator[str]:
    yield f"# HELP {name} What it is."
    yield f"# TYPE {name} {kind}"
    yield f"{name}{{{labels}}} {value}" if labels else f"{name} {value}"


def _histogram(name: str, labels: Labels, count: int) -> Iterator[str]:
    yield f"# HELP {name} What it is."
    yield f"# TYPE {name} histogram"
    before = f"{labels}," if labels else ""
    for bound in _TIMES:
        yield f'{name}_bucket{{{before}le="{bound}"}} {count if bound >= 0.1 else count // 2}'
    yield f'{name}_bucket{{{before}le="+Inf"}} {count}'
    own = f"{{{labels}}}" if labels else ""
    yield f"{name}_sum{own} {0.05 * count}"
    yield f"{name}_count{own} {count}"


def _events(model: str, said: str) -> Iterator[bytes]:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model}
    for word in said.split(" "):
        choice = {"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}
        yield b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"
    usage = {"prompt_tokens": 30, "completion_tokens": 50, "total_tokens": 80}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield b"data: " + json.dumps({**head, "choices": [last], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n"


async def _answered(send: Any, status: int, kind: bytes, pieces: list[bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    for piece in pieces:
        await asyncio.sleep(0.002)  # as a model that thinks: pieces that come at once are read as one
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
