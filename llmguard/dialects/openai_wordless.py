"""What the formats of OpenAI share whose answers have no place for words: embeddings and moderations.

A vector or a score is no text; it is left out, not uncovered. A refusal is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from llmguard.dialects.openai_common import check_answer, error_body, error_of, facts, model_of, said_again
from llmguard.dialects.reader import Reader, mapping
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route
from llmguard.errors import DialectError


class OpenAiWordless:
    """A dialect whose answers have no texts, unless they are errors.

    Args:
        name: of the dialect.
        provider: for telemetry.
        operation: likewise.
        paths: of its routes.
        read: gathers the texts of a request.
        answer: the key that every answer has.
    """

    framing: Framing | None = None

    def __init__(
        self,
        name: str,
        provider: str,
        operation: str,
        paths: Sequence[str],
        read: Callable[[Reader, Mapping[str, Json]], None],
        answer: str,
    ) -> None:
        self.name = name
        self.provider = provider
        self.operation = operation
        self.routes = tuple([Route("POST", path, stream=False) for path in paths])
        self._read = read
        self._answer = answer

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request."""
        root, reader = mapping(body, ""), Reader()
        self._read(reader, root)
        return reader.body(model=model_of(root, path))

    def response(self, body: Json) -> Body:
        """An answer has no texts; an error has. Some servers answer with a list."""
        if isinstance(body, list):
            return Body()
        root, reader = mapping(body, ""), Reader()
        error = error_of(reader, root)
        check_answer(root, self._answer, error)
        said_again(reader, root, {self._answer})
        return reader.body(**facts(root, (), error))

    def event(self, frame: Frame) -> Event:
        """There is none.

        Raises:
            DialectError: always.
        """
        raise DialectError(f"{self.name} has no stream")

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """An error that says the text."""
        return error_body(text, "content_filter")

    def status(self, request: Body) -> int:
        """A refusal is an error."""
        return 400

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """Nothing, for there is no stream."""
        return []

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body."""
        return error_body(message, code)
