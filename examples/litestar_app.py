"""A Litestar application that serves a model, guarded.

pip install 'llmguard[standard]' litestar uvicorn
uvicorn examples.litestar_app:app

    curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \
        -d '{"model": "echo", "messages": [{"role": "user", "content": "I am ada@example.com"}]}'
"""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, post
from litestar.middleware import DefineMiddleware

from llmguard import Guard
from llmguard.integrations.asgi import GuardMiddleware


@post("/v1/chat/completions", status_code=200)
async def chat(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """A stand-in for a model: it says what it was told."""
    asked = await request.json()
    message = {"role": "assistant", "content": f"You said: {asked['messages'][-1]['content']}"}
    return {"id": "c-1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}


app = Litestar([chat], middleware=[DefineMiddleware(GuardMiddleware, guard=Guard())])
