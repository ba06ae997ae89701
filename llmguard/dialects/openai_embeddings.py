"""Embeddings: texts in, vectors out.

Follows "Create embeddings" of OpenAI's API reference (https://platform.openai.com/docs/api-reference/embeddings).
vLLM's server takes messages in place of the input, llama.cpp's ``content``; the latter answers with a list.

A vector is no text; it is left out, not uncovered. An answer has no place for words, so a refusal is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects.openai_chat import add_messages, add_template
from llmguard.dialects.openai_common import (
    check_answer,
    error_body,
    error_of,
    facts,
    model_of,
    prompts,
)
from llmguard.dialects.reader import Reader, exact, mapping
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route
from llmguard.errors import DialectError

_INPUTS = frozenset({"input", "content", "messages"})


class OpenAiEmbeddings:
    """The dialect of embeddings; see the module.

    Args:
        name: of the dialect.
        provider: for telemetry.
        paths: of its routes.
    """

    operation: str = "embeddings"
    framing: Framing | None = None

    def __init__(self, name: str, provider: str, paths: Sequence[str]) -> None:
        self.name = name
        self.provider = provider
        self.routes = tuple([Route("POST", path, stream=False) for path in paths])

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request."""
        root, reader = mapping(body, ""), Reader()
        exact(root, _INPUTS, "")
        if _INPUTS.isdisjoint(root):
            raise DialectError("/input: is missing")
        for key in ("input", "content"):
            prompts(reader, root.get(key), f"/{key}")
        if "messages" in root:
            add_messages(reader, root["messages"])
            add_template(reader, root)
        return reader.body(model=model_of(root, path))

    def response(self, body: Json) -> Body:
        """An answer has no texts; an error has."""
        if isinstance(body, list):
            return Body()
        root, reader = mapping(body, ""), Reader()
        error = error_of(reader, root)
        check_answer(root, "data", error)
        return reader.body(**facts(root, (), error))

    def event(self, frame: Frame) -> Event:
        """There is none.

        Raises:
            DialectError: always.
        """
        raise DialectError("embeddings have no stream")

    def refusal(self, request: Body, text: str) -> Json:
        """An error that says the text."""
        return error_body(text, "content_filter")

    def ending(self, seen: Sequence[Frame], text: str) -> list[Frame]:
        """Nothing, for there is no stream."""
        return []

    def error(self, message: str, code: str) -> Json:
        """An error's body."""
        return error_body(message, code)


EMBEDDINGS = OpenAiEmbeddings("openai.embeddings", "openai", ("/v1/embeddings", "/embeddings"))
AZURE_EMBEDDINGS = OpenAiEmbeddings(
    "azure.embeddings",
    "azure.ai.openai",
    ("/openai/deployments/{deployment}/embeddings", "/openai/v1/embeddings"),
)
