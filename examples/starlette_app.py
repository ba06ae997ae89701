"""A Starlette application that serves a model, guarded.

pip install 'llmguard[standard]' starlette uvicorn
uvicorn examples.starlette_app:app

    curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \
        -d '{"model": "echo", "messages": [{"role": "user", "content": "I am ada@example.com"}], "stream": true}'
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from llmguard import Guard
from llmguard.integrations.asgi import GuardMiddleware


async def words(text: str) -> AsyncIterator[str]:
    """A stand-in for a model: it says what it was told, word by word."""
    for word in f"You said: {text}".split(" "):
        choice = {"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}
        yield f"data: {json.dumps({'id': 'c-1', 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
    yield "data: [DONE]\n\n"


async def chat(request: Request) -> Response:
    """One call, whole or as a stream."""
    asked = await request.json()
    text = asked["messages"][-1]["content"]
    if asked.get("stream"):
        return StreamingResponse(words(text), media_type="text/event-stream")
    message = {"role": "assistant", "content": f"You said: {text}"}
    return JSONResponse({"id": "c-1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]})


app = Starlette(
    routes=[Route("/v1/chat/completions", chat, methods=["POST"])],
    middleware=[Middleware(GuardMiddleware, guard=Guard())],
)
