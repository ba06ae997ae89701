"""Text Generation Inference, Hugging Face's server: ``/generate``, ``/generate_stream``, and ``/``, which is either.

Follows "Text Generation Inference API" (https://huggingface.github.io/text-generation-inference/) and "Messages API"
(https://huggingface.co/docs/text-generation-inference/messages_api); read 2026-11-21. Its chat route is OpenAI's.

Details repeat the prompt and the answer token by token, with alternatives that were not chosen. They are uncovered,
and spoken; so is the id of each token in a stream. The format has no finish reason for filtered
content, and clients refuse reasons that they don't know: ``stop_sequence`` comes nearest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects.reader import Reader, Says, flag, mapping, number, objects, optional, word
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Numbered, Put, Route, Usage
from llmguard.errors import DialectError
from llmguard.types import Stage

_FILTERED = "stop_sequence"
_CHANNEL = "text"
_REQUEST = frozenset({"inputs", "parameters", "stream"})
_PARAMETERS = frozenset({"grammar", "stop"})
_ANSWER = frozenset({"generated_text", "details", "token", "top_tokens"})
_ERROR = frozenset({"error"})
_TOKENS = ("prefill", "tokens", "top_tokens")
_DETAILS = frozenset({"generated_text", "best_of_sequences", *_TOKENS})


class Tgi:
    """The dialect of text generation; see the module.

    Args:
        name: of the dialect.
        routes: where its requests arrive.
        listed: whether a whole response is a list of one, as at ``/``.
    """

    provider: str = "huggingface"
    operation: str = "text_completion"
    framing: Framing | None = Framing.SSE

    def __init__(self, name: str, routes: tuple[Route, ...], *, listed: bool) -> None:
        self.name = name
        self.routes = routes
        self.listed = listed

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request."""
        root, reader = mapping(body, ""), Reader()
        inputs = word(root, "inputs")
        if "inputs" not in root:
            raise DialectError("/inputs: is missing")
        reader.text(inputs, "/inputs", Stage.INPUT)
        if "![" in inputs:  # the server loads images by their Markdown
            reader.uncovered.append("/inputs")
        parameters = optional(root.get("parameters"), "/parameters")
        grammar = optional(parameters.get("grammar"), "/parameters/grammar")
        reader.schema(grammar.get("value"), "/parameters/grammar/value")
        reader.rest(grammar, "/parameters/grammar", frozenset({"value"}), frozenset({"type"}))
        reader.tree(parameters.get("stop"), "/parameters/stop", Stage.INPUT)
        reader.rest(parameters, "/parameters", _PARAMETERS, frozenset({"adapter_id"}))
        reader.rest(root, "", _REQUEST)
        return reader.body(model=word(parameters, "adapter_id", "/parameters"), stream=flag(root, "stream"))

    def response(self, body: Json) -> Body:
        """The texts of an answer, or of an error."""
        reader = Reader()
        if isinstance(body, dict) and "error" in body:
            return reader.body(error=_error(reader, body))
        answers = objects(body, "") if self.listed else [("", mapping(body, ""))]
        if not answers:
            raise DialectError("the body: holds no answer")
        finish: list[str] = []
        spent: Usage | None = None
        for path, answer in answers:
            if "generated_text" not in answer:
                raise DialectError(f"{path}/generated_text: is missing")
            reader.text(answer["generated_text"], f"{path}/generated_text", Stage.OUTPUT)
            reader.rest(answer, path, _ANSWER)
            found, spent = _details(reader, answer, path)
            finish += found
        return reader.body(finish=tuple(finish), usage=spent)

    def event(self, frame: Frame) -> Event:
        """A token, and with the last one the whole text once more.

        Special tokens, such as the one that ends the text, are no part of it. Where the request asks for
        ``return_full_text``, the text that is said once more begins with the prompt.
        """
        root, reader = mapping(frame.data, "the event"), Reader(Says.PIECE)
        if "error" in root:
            return reader.event(error=_error(reader, root), last=True)
        if "token" not in root:
            raise DialectError("/token: is missing")
        token = mapping(root["token"], "/token")
        channel = "" if token.get("special") is True else _CHANNEL
        reader.text(word(token, "text", "/token") or None, "/token/text", Stage.OUTPUT, channel=channel)
        reader.rest(token, "/token", frozenset({"text"}))
        reader.spoken += [Put("/token/id", "0")] * ("id" in token)
        reader.echo(root.get("top_tokens"), "/top_tokens", "[]")
        reader.says = Says.AGAIN
        reader.text(root.get("generated_text"), "/generated_text", Stage.OUTPUT, channel=_CHANNEL)
        reader.rest(root, "", _ANSWER)
        finish, spent = _details(reader, root, "")
        last = root.get("generated_text") is not None or root.get("details") is not None
        if last:
            reader.ends.append(_CHANNEL)
        place = number(root, "index")
        numbered = None if place is None else Numbered("/index", place)
        return reader.event(finish=tuple(finish), usage=spent, last=last, numbered=numbered)

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """An answer with details, whether or not they were asked for: only they can say why it ended."""
        details = {"finish_reason": _FILTERED, "generated_tokens": 0, "seed": None, "prefill": [], "tokens": []}
        answer = {"generated_text": text, "details": details}
        return [answer] if self.listed else answer

    def status(self, request: Body) -> int:
        """A refusal is an answer."""
        return 200

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """One last token, which says the text, and with it the whole text once more."""
        events = [frame.data for frame in seen if isinstance(frame.data, dict)]
        if any([event.get("details") is not None or "error" in event for event in events]):
            return []
        tokens = [event["token"] for event in events]
        before = "".join([token["text"] for token in tokens if token.get("special") is not True])
        count = max([number(event, "index") or 0 for event in events], default=0)
        token = {"id": 0, "text": text, "logprob": 0.0, "special": not text}
        details = {"finish_reason": _FILTERED, "generated_tokens": count, "seed": None, "input_length": 0}
        head = {"index": count + 1, "token": token}
        return [Frame({**head, "generated_text": before + text, "details": details})]

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body."""
        return {"error": message, "error_type": code}


def _error(reader: Reader, body: Mapping[str, Json]) -> str:
    reader.says = Says.WHOLE
    reader.text(body["error"], "/error", Stage.OUTPUT)
    reader.rest(body, "", _ERROR, frozenset({"error_type"}))
    return word(body, "error_type") or "error"


def _details(reader: Reader, answer: Mapping[str, Json], path: str) -> tuple[list[str], Usage | None]:
    """What the details say beside the text: finish reasons and tokens spent; other sequences are texts of their own."""
    if answer.get("details") is None:
        return [], None
    details = mapping(answer["details"], f"{path}/details")
    finish: list[str] = []
    spent: list[int] = []
    others = objects(details.get("best_of_sequences"), f"{path}/details/best_of_sequences")
    for where, sequence in [(f"{path}/details", details), *others]:
        if "generated_text" in sequence:
            reader.text(sequence["generated_text"], f"{where}/generated_text", Stage.OUTPUT)
        for key in _TOKENS:
            reader.echo(sequence.get(key), f"{where}/{key}", "[]")
        reader.rest(sequence, where, _DETAILS, frozenset({"finish_reason"}))
        finish.append(word(sequence, "finish_reason", where))
        spent.append(number(sequence, "generated_tokens", where) or 0)
    prefill = details.get("prefill")
    read = number(details, "input_length", f"{path}/details")
    if read is None and isinstance(prefill, list) and prefill:
        read = len(prefill)
    return [reason for reason in finish if reason], Usage(input=read, output=sum(spent))


GENERATE = Tgi(
    "tgi.generate",
    (Route("POST", "/generate", stream=False), Route("POST", "/generate_stream", stream=True)),
    listed=False,
)
COMPAT = Tgi("tgi.compat", (Route("POST", "/"),), listed=True)
