"""A FastAPI application with a model's routes, which are guarded, beside routes of its own, which are not.

pip install 'llmguard[standard]' fastapi uvicorn
uvicorn examples.fastapi_app:app

    curl http://127.0.0.1:8000/llm/v1/chat/completions -H 'content-type: application/json' \
        -d '{"model": "echo", "messages": [{"role": "user", "content": "I am ada@example.com"}]}'
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from llmguard import Guard
from llmguard.integrations.asgi import GuardMiddleware


class Message(BaseModel):
    """One message of a conversation."""

    role: str
    content: str


class Asked(BaseModel):
    """What a model is asked."""

    model: str
    messages: list[Message]


llm = FastAPI()


@llm.post("/v1/chat/completions")
async def chat(asked: Asked) -> dict[str, Any]:
    """A stand-in for a model: it says what it was told."""
    message = {"role": "assistant", "content": f"You said: {asked.messages[-1].content}"}
    return {"id": "c-1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}


app = FastAPI()
# All that is below /llm is guarded, and what is in no known wire format there is refused.
app.mount("/llm", GuardMiddleware(llm, guard=Guard()))


@app.get("/hello")
async def hello() -> dict[str, str]:
    """A route of the application itself."""
    return {"hello": "world"}
