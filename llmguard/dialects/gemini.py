"""Gemini's ``generateContent`` and ``streamGenerateContent``, on Google AI and on Vertex AI.

The servers take each key in camel case and in snake case, and one object where a list of one is meant; so do we.

A stream comes as server-sent events with ``?alt=sse``, and otherwise as one JSON array that grows. Its members are
events like any others, so such an array is never read as an answer: texts are cut anywhere between its members. Neither
has a last event: the end of the body ends the stream.

Channels of a stream are named by the candidate: ``0/text``, ``0/thought``, ``0/call/$.to``. A chunk does not say with
which of a candidate's parts it goes on, so all its texts are one channel, and all its thoughts another.

Follows https://ai.google.dev/api/generate-content and https://ai.google.dev/api/caching#Content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects import gemini_parts as parts
from llmguard.dialects.reader import Reader, Says, mapping, members, number, optional, total, word
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route, Usage
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

_READ = frozenset({"contents", "systemInstruction", "tools", "generationConfig", "generateContentRequest"})
#: What the model does not read.
_MUTE = frozenset({"toolConfig", "safetySettings", "modelArmorConfig"})
_UNREAD = frozenset({"labels"})  # the account's own notes
_NAMES = frozenset({"model", "cachedContent", "serviceTier"})
_CONFIG_MUTE = frozenset({"responseModalities", "routingConfig", "modelConfig", "imageConfig", "thinkingConfig"})
_CONFIG_NAMES = frozenset({"responseMimeType", "mediaResolution"})
_ANSWER = frozenset({"candidates", "promptFeedback", "modelStatus", "error"})
_ANSWER_MUTE = frozenset({"usageMetadata", "promptTokensDetails", "cacheTokensDetails"})
_STOP = "SAFETY"
_ERROR_NAMES = frozenset({"type", "@type", "code", "status", "reason", "domain"})


def _routes() -> tuple[Route, ...]:
    verbs = {"generateContent": False, "streamGenerateContent": True, "countTokens": False}
    places = [
        *[
            f"/{version}/{sort}/{{model}}"
            for version in ("v1beta", "v1", "v1alpha")
            for sort in ("models", "tunedModels")
        ],
        *[
            f"/{version}{project}/publishers/{{publisher}}/models/{{model}}"
            for version in ("v1", "v1beta1")
            for project in ("/projects/{project}/locations/{location}", "")
        ],
    ]
    return tuple(
        [Route("POST", f"{place}:{verb}", stream, array=stream) for place in places for verb, stream in verbs.items()]
    )


class Gemini:
    """Google's Gemini API."""

    name: str = "gemini"
    provider: str = "gcp.gemini"
    operation: str = "generate_content"
    routes: tuple[Route, ...] = _routes()
    framing: Framing | None = Framing.SSE

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request; whether it asks for a stream is said by its route alone."""
        body = mapping(body, "")
        reader = Reader()
        _request(reader, body, "")
        return reader.body(model=path.get("model") or word(body, "model"))

    def response(self, body: Json) -> Body:
        """The texts of an answer, a count of tokens, or an error."""
        if isinstance(body, list) and not all([isinstance(one, dict) and "error" in one for one in body]):
            raise DialectError("the body: is a stream as an array, whose members are events")
        if isinstance(body, list):
            reader = Reader()
            for at, one in enumerate(body):
                reader.tree(one["error"], f"/{at}/error", Stage.OUTPUT, None, _ERROR_NAMES)
                reader.rest(one, f"/{at}", {"error"})
            return reader.body(error=_error(body[0]["error"]) if body else "")
        reader = Reader()
        event = _chunk(reader, mapping(body, ""))
        return Body(
            parts=event.parts,
            uncovered=event.uncovered,
            spoken=event.spoken,
            model=event.model,
            id=event.id,
            finish=event.finish,
            usage=event.usage,
            error=event.error,
        )

    def event(self, frame: Frame) -> Event:
        """What one chunk says. No chunk says that it is the last one: the stream just ends."""
        return _chunk(Reader(Says.PIECE), mapping(frame.data, ""))

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """One candidate that says ``text`` and was ended for safety."""
        counts = {"promptTokenCount": 0, "totalTokenCount": 0}
        return {**_ended([0], text), "usageMetadata": counts, "modelVersion": request.model, "responseId": "llmguard"}

    def status(self, request: Body) -> int:
        """A refusal is an answer."""
        return 200

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """One chunk that ends every candidate for safety, and says ``text`` in each."""
        found: dict[int, bool] = {}
        head: dict[str, Json] = {}
        for data in [frame.data for frame in seen if isinstance(frame.data, dict)]:
            head.update({key: data[key] for key in ("modelVersion", "responseId") if isinstance(data.get(key), str)})
            for at, candidate in enumerate(data.get("candidates") or []):
                own = parts.index_of(candidate, at)
                found[own] = found.get(own, False) or bool(candidate.get("finishReason"))
        going = [own for own, done in sorted(found.items()) if not done] or ([] if found else [0])
        return [Frame({**_ended(going, text), **head})] if going else []

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body."""
        return {"error": {"code": 400, "message": message, "status": code}}


def _ended(candidates: Sequence[int], text: str) -> dict[str, Json]:
    content = {"role": "model", "parts": [{"text": text}]}
    return {"candidates": [{"index": at, "content": content, "finishReason": _STOP} for at in candidates]}


def _request(reader: Reader, body: Mapping[str, Json], path: str) -> None:
    parts.rest(reader, body, path, _READ | _UNREAD, _NAMES, _MUTE)
    for key, value in body.items():
        where, name = f"{path}/{key}", parts.camel(key)
        if name == "contents":
            for place, content in parts.one_or_more(value, where):
                parts.content(reader, content, place, Stage.INPUT)
        elif name == "systemInstruction":
            parts.content(reader, value, where, Stage.INPUT, Role.SYSTEM)
        elif name == "tools":
            for place, tool in parts.one_or_more(value, where):
                parts.tool(reader, mapping(tool, place), place)
        elif name == "generationConfig":
            _config(reader, optional(value, where), where)
        elif name == "generateContentRequest":
            _request(reader, optional(value, where), where)


def _config(reader: Reader, config: Mapping[str, Json], path: str) -> None:
    """What of the settings reaches the model."""
    known = {"stopSequences", "responseSchema", "responseJsonSchema", "responseFormat", "audioTranscriptionConfig"}
    parts.rest(reader, config, path, known, _CONFIG_NAMES, _CONFIG_MUTE)
    for key, value in config.items():
        where, name = f"{path}/{key}", parts.camel(key)
        if name == "stopSequences":
            for place, sequence in members([value] if isinstance(value, str) else value, where):
                reader.text(sequence, where if isinstance(value, str) else place, Stage.INPUT)
        elif name in ("responseSchema", "responseJsonSchema"):
            reader.schema(value, where)
        elif name == "responseFormat":
            for place, form in parts.one_or_more(value, where):
                _form(reader, mapping(form, place), place)
        elif name == "audioTranscriptionConfig":  # words to listen for, and a text to be rewritten by what is heard
            reader.tree(value, where, Stage.INPUT)


def _form(reader: Reader, form: Mapping[str, Json], path: str) -> None:
    """The form of the answer that is asked for; of a text, its schema is told to the model."""
    told = optional(form.get("text"), f"{path}/text")
    for key, value in told.items():
        if parts.camel(key) != "mimeType":
            reader.schema({key: value}, f"{path}/text")
    parts.rest(reader, form, path, {"text"}, (), {"audio", "image", "video"})


def _chunk(reader: Reader, body: Mapping[str, Json]) -> Event:
    """An answer, or a piece of one: they have one shape."""
    error = ""
    finish: list[str] = []
    for key, value in body.items():
        where, name = f"/{key}", parts.camel(key)
        if name == "candidates":
            for at, (place, candidate) in enumerate(parts.one_or_more(value, where)):
                reason = parts.candidate(reader, mapping(candidate, place), place, at)
                finish += [reason] if reason else []
        elif name == "promptFeedback":
            feedback = parts.camels(optional(value, where))
            reason = word(feedback, "blockReason", where)
            finish += [reason] if reason else []
            reader.tree(value, where, Stage.OUTPUT, None, parts.NAMES)
        elif name == "modelStatus":
            reader.tree(value, where, Stage.OUTPUT, None, parts.NAMES)
        elif name == "error" and value is not None:
            error = _error(value)
            reader.tree(value, where, Stage.OUTPUT, None, _ERROR_NAMES)
    parts.rest(reader, body, "", _ANSWER, {"modelVersion", "responseId", "createTime"}, _ANSWER_MUTE)
    known = parts.camels(body)
    return reader.event(
        model=word(known, "modelVersion"),
        id=word(known, "responseId"),
        finish=tuple(finish),
        usage=_usage(known),
        error=error,
    )


def _error(value: Json) -> str:
    said = [value.get("status"), value.get("code")] if isinstance(value, dict) else []
    return next((str(code) for code in said if isinstance(code, (str, int)) and code), "error")


def _usage(body: Mapping[str, Json]) -> Usage | None:
    if "usageMetadata" not in body:
        count = number(body, "totalTokens")
        return None if count is None else Usage(input=count)
    path = "/usageMetadata"
    counts = parts.camels(optional(body["usageMetadata"], path))
    thoughts = number(counts, "thoughtsTokenCount", path)
    return Usage(
        input=total(number(counts, "promptTokenCount", path), number(counts, "toolUsePromptTokenCount", path)),
        output=total(number(counts, "candidatesTokenCount", path), thoughts),
        cached=number(counts, "cachedContentTokenCount", path),
        reasoning=thoughts,
    )


GEMINI = Gemini()
