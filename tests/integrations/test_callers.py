"""What requests say about themselves, and to whom it is believed."""

import asyncio
from typing import Any

import pytest
from asgi_calls import JSON, Model, call
from fakes import Pieces

from llmguard import Guard, limits
from llmguard.conversation import current
from llmguard.errors import ConfigurationError
from llmguard.integrations.asgi import GuardMiddleware
from llmguard.integrations.callers import Callers
from llmguard.prompts import current as prompt_of


def seen(guard: Guard) -> tuple[str | None, tuple[str, ...] | None, str]:
    conversation, prompt = current(guard), prompt_of()
    name = None if conversation is None else conversation.name
    return name, prompt and tuple(prompt), limits.tenant.get()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, (None, None, "")),
        ({b"c": b"c 1", b"p": b"greeting", b"t": b"acme"}, ("c 1", ("greeting", "", ""), "acme")),
        ({b"p": b"greeting,7"}, (None, ("greeting", "7", ""), "")),
        ({b"p": b" greeting , 7 , b "}, (None, ("greeting", "7", "b"), "")),
        ({b"p": b"Write to ada@example.com"}, (None, None, "")),
        ({b"p": b"greeting,,b", b"t": b"two words"}, (None, None, "")),
        ({b"p": b"x" * 65, b"t": b"x" * 65}, (None, None, "")),
        ({b"p": b"\xfc", b"t": b"\xff"}, (None, None, "")),
        ({b"c": b" "}, (None, None, "")),
    ],
)
def test_names_are_taken_and_texts_are_not(said: dict[bytes, bytes], expected: Any) -> None:
    with Guard({"name": "p", "rules": []}) as guard:
        with Callers(guard, conversation="C", prompt="P", tenant="T").scopes(list(said.items())):
            assert seen(guard) == expected
        with Callers(guard).scopes(list(said.items())):
            assert seen(guard) == (None, None, "")
        assert seen(guard) == (None, None, "")


@pytest.mark.parametrize("wrong", ["", "a b", "a:", 7, b"x"])
def test_a_header_has_a_name(wrong: Any) -> None:
    with Guard({"name": "p", "rules": []}) as guard:
        for option in ("conversation", "prompt", "tenant"):
            with pytest.raises(ConfigurationError, match=f"{option} must be the name of a header"):
                Callers(guard, **{option: wrong})


async def test_the_application_is_called_on_behalf_of_the_caller() -> None:
    guard = Guard({"name": "p", "rules": [{"detector": "pieces", "action": "redact"}]}, detectors=[Pieces()])
    model = Model(b'{"object": "chat.completion", "choices": []}')
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(seen(guard))
        await asyncio.create_task(model(scope, receive, send))

    guarded = GuardMiddleware(app, guard, conversation="x-c", prompt="x-p", tenant="x-t")
    body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
    names = [(b"X-C", b"c-1"), (b"x-p", b"greeting"), (b"x-t", b"acme")]
    assert (await call(guarded, "POST", "/v1/chat/completions", body, [*JSON, *names])).status == 200
    assert found == [("c-1", ("greeting", "", ""), "acme")]
    assert seen(guard) == (None, None, "")
    guard.close()
