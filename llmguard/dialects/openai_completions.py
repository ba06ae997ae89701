"""Completions, the older format of OpenAI: a prompt in, its continuation out; vLLM and llama.cpp speak it too.

Follows "Create completion" of OpenAI's API reference (https://platform.openai.com/docs/api-reference/completions) and
the extra parameters of vLLM's OpenAI-compatible server
(https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html).

With ``echo`` an answer begins with the prompt; it is one text then. Log probabilities and token ids are spoken, as
in chat completions. A prompt given as token ids is uncovered too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects.openai_common import (
    COMMON,
    CREATED,
    check_answer,
    constraints,
    error_body,
    error_of,
    facts,
    finished,
    index_of,
    model_of,
    opened,
    prompts,
    said_again,
    unread,
)
from llmguard.dialects.pointer import child
from llmguard.dialects.reader import Reader, Says, exact, flag, mapping, objects, word
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route
from llmguard.errors import DialectError
from llmguard.types import Stage

_REQUEST = frozenset({"prompt", "prompt_embeds", "suffix", "model", "stream", "echo", "response_format", "stop", "n"})
_KNOWN = _REQUEST | COMMON
_IDS = ("token_ids", "prompt_token_ids", "prompt_logprobs")
_CHOICE = frozenset({"index", "text", "finish_reason", "stop_reason", "logprobs"}).union(_IDS)
_FILTERS = frozenset({"content_filter_results"})


class OpenAiCompletions:
    """The dialect of completions; see the module.

    Args:
        name: of the dialect.
        provider: for telemetry.
        paths: of its routes.
    """

    operation: str = "text_completion"
    framing: Framing | None = Framing.SSE

    def __init__(self, name: str, provider: str, paths: Sequence[str]) -> None:
        self.name = name
        self.provider = provider
        self.routes = tuple([Route("POST", path) for path in paths])

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request."""
        root, reader = mapping(body, ""), Reader()
        exact(root, _REQUEST, "")
        if "prompt" not in root and "prompt_embeds" not in root:
            raise DialectError("/prompt: is missing")
        prompts(reader, root.get("prompt"), "/prompt")
        reader.opaque(root.get("prompt_embeds"), "/prompt_embeds")
        reader.text(root.get("suffix"), "/suffix", Stage.INPUT)
        constraints(reader, root)
        unread(reader, root, _KNOWN)
        return reader.body(model=model_of(root, path), stream=flag(root, "stream"))

    def response(self, body: Json) -> Body:
        """The texts of an answer, or of an error."""
        root, reader = mapping(body, ""), Reader()
        error = error_of(reader, root)
        check_answer(root, "choices", error)
        return reader.body(**facts(root, _choices(reader, root), error))

    def event(self, frame: Frame) -> Event:
        """The pieces in a chunk."""
        if frame.data == "[DONE]":
            return Event(last=True)
        root, reader = mapping(frame.data, ""), Reader(Says.PIECE)
        error = error_of(reader, root)
        return reader.event(**facts(root, _choices(reader, root), error))

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """A completion of one choice, with no tokens spent."""
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return {**_answer({"model": request.model}, 0, text, "content_filter"), "usage": usage}

    def status(self, request: Body) -> int:
        """A refusal is an answer."""
        return 200

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """Chunks that say the text in every choice still open, and finish it."""
        if finished(seen):
            return []
        first, choices = opened(seen, request)
        return [*[Frame(_answer(first, index, text, "content_filter")) for index in choices], Frame("[DONE]")]

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body."""
        return error_body(message, code)


def _choices(reader: Reader, root: Mapping[str, Json]) -> list[str]:
    finish: list[str] = []
    for order, (where, choice) in enumerate(objects(root.get("choices"), "/choices")):
        index = str(index_of(choice, order))
        reader.text(choice.get("text"), child(where, "text"), Stage.OUTPUT, channel=f"{index}/text")
        for key in ("logprobs", *_IDS):
            reader.echo(choice.get(key), child(where, key), "null")
        reader.rest(choice, where, _CHOICE, mute=_FILTERS)
        if reason := word(choice, "finish_reason", where):
            finish.append(reason)
            reader.ends.append(f"{index}/text")
    said_again(reader, root)
    return finish


def _answer(first: Mapping[str, Json], index: int, text: str, finish: str) -> dict[str, Json]:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    head = {"id": first.get("id", "cmpl-llmguard"), "object": "text_completion"}
    return {**head, "created": first.get("created", CREATED), "model": first.get("model", ""), "choices": [choice]}


COMPLETIONS = OpenAiCompletions("openai.completions", "openai", ("/v1/completions",))
AZURE_COMPLETIONS = OpenAiCompletions(
    "azure.completions",
    "azure.ai.openai",
    ("/openai/deployments/{deployment}/completions", "/openai/v1/completions"),
)
