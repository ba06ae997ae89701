"""The examples for FastAPI, Starlette and Litestar: they run, and they are guarded."""

import importlib
import json

import pytest
from asgi_calls import call

CALLS = [
    ("fastapi", "/llm/v1/chat/completions", False),
    ("starlette", "/v1/chat/completions", False),
    ("starlette", "/v1/chat/completions", True),
    ("litestar", "/v1/chat/completions", False),
]


@pytest.mark.parametrize(("framework", "path", "stream"), CALLS)
async def test_the_example_is_guarded(framework: str, path: str, stream: bool) -> None:
    pytest.importorskip(framework)
    module = importlib.import_module(f"examples.{framework}_app")
    words = "My card is 4111 1111 1111 1111."
    asked = {"model": "echo", "messages": [{"role": "user", "content": words}], "stream": stream}
    body = json.dumps(asked).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    got = await call(module.app, "POST", path, body, headers)
    assert got.status == 200, got.body
    assert got.whole
    assert b"You" in got.body
    for spelt in (path, f"{path}/"):
        other = await call(module.app, "POST", spelt, b'{"a": 1, "a": 2}', headers[:1])
        assert other.status == 400
        assert b"llmguard_" in other.body
    if framework == "fastapi":
        assert (await call(module.app, "GET", "/hello")).status == 200
