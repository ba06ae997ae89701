"""Moderations: texts and images in, categories and scores out.

Follows "Create moderation" of OpenAI's API reference (https://platform.openai.com/docs/api-reference/moderations).
An answer has no place for words, so a refusal is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects.openai_common import (
    check_answer,
    error_body,
    error_of,
    facts,
    model_of,
)
from llmguard.dialects.pointer import child
from llmguard.dialects.reader import Reader, exact, mapping, members, word
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route
from llmguard.errors import DialectError
from llmguard.types import Stage


class OpenAiModerations:
    """The dialect of moderations; see the module."""

    name: str = "openai.moderations"
    provider: str = "openai"
    operation: str = "moderation"
    routes: tuple[Route, ...] = (Route("POST", "/v1/moderations", stream=False),)
    framing: Framing | None = None

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request."""
        root, reader = mapping(body, ""), Reader()
        exact(root, {"input", "model"}, "")
        if isinstance(root.get("input"), str):
            reader.text(root["input"], "/input", Stage.INPUT)
        elif "input" in root:
            for where, item in members(root["input"], "/input"):
                _input(reader, item, where)
        else:
            raise DialectError("/input: is missing")
        return reader.body(model=model_of(root, path))

    def response(self, body: Json) -> Body:
        """An answer has no texts; an error has."""
        root, reader = mapping(body, ""), Reader()
        error = error_of(reader, root)
        check_answer(root, "results", error)
        return reader.body(**facts(root, (), error))

    def event(self, frame: Frame) -> Event:
        """There is none.

        Raises:
            DialectError: always.
        """
        raise DialectError("moderations have no stream")

    def refusal(self, request: Body, text: str) -> Json:
        """An error that says the text."""
        return error_body(text, "content_filter")

    def ending(self, seen: Sequence[Frame], text: str) -> list[Frame]:
        """Nothing, for there is no stream."""
        return []

    def error(self, message: str, code: str) -> Json:
        """An error's body."""
        return error_body(message, code)


def _input(reader: Reader, item: Json, path: str) -> None:
    if isinstance(item, str):
        reader.text(item, path, Stage.INPUT)
    elif word(mapping(item, path), "type", path) == "text":
        reader.text(item.get("text"), child(path, "text"), Stage.INPUT)
        reader.rest(item, path, {"type", "text"})
    else:
        reader.uncovered.append(path)


MODERATIONS = OpenAiModerations()
