"""What goes to the caller or on to the model, as whole messages of HTTP."""

from __future__ import annotations

import json
from typing import NamedTuple

from llmguard.dialects.wire import Json
from llmguard.errors import Blocked, ConfigurationError
from llmguard.integrations.headers import JSON
from llmguard.types import Decision

#: What the SDKs of OpenAI and Anthropic heed: the same request would be answered the same way.
FINAL = (b"x-should-retry", b"false")


class Reply(NamedTuple):
    """A response of ours, or one that may go to the caller.

    Attributes:
        status: of HTTP.
        headers: names in small letters.
        body: all of it.
        blocked: the decision that it is there for, or None.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    blocked: Decision | None = None

    def __repr__(self) -> str:
        return f"Reply({self.status}, {len(self.body)} bytes, blocked={self.blocked is not None})"


class Forward(NamedTuple):
    """A request as it may go on."""

    headers: list[tuple[bytes, bytes]]
    body: bytes

    def __repr__(self) -> str:
        return f"Forward({len(self.body)} bytes)"


def refused(status: int, problem: str, code: str) -> Reply:
    """A refusal in no format's own words."""
    body = {"error": {"message": f"llmguard: {problem}", "type": "invalid_request_error", "code": f"llmguard_{code}"}}
    return Reply(status, [JSON, FINAL], json.dumps(body).encode())


def written(answer: Json) -> bytes:
    """What a fallback gave, as JSON.

    Raises:
        ConfigurationError: it has none.
    """
    kind = type(answer).__name__
    try:
        return json.dumps(answer, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        pass
    # Outside of the handler: the error may hold what could not be written.
    raise ConfigurationError(f"a fallback gives a text, or a body that has JSON: this one gave a {kind} that has none")


def blocked_of(reply: Reply) -> Blocked | None:
    """The error that a reply is there for, where it is for a policy that raises."""
    return Blocked(reply.blocked) if reply.blocked is not None and reply.status == 400 else None
