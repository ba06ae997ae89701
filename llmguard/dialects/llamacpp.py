"""Completions and infill as llama.cpp's server has them of its own, beside the formats of others that it speaks.

Follows the README of llama.cpp's server
(https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, "POST /completion" and "POST /infill").

With several prompts, or several completions of one, an answer is a list, and the events of a stream say by ``index``
which they belong to; no event says that it is the last of all of them, so none is the last: the end of the body is.
Log probabilities and token ids are uncovered, and spoken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects.openai_common import (
    COMMON,
    check_answer,
    constraints,
    count,
    error_of,
    index_of,
    prompts,
    unread,
)
from llmguard.dialects.pointer import child
from llmguard.dialects.reader import Reader, Says, exact, flag, mapping, objects, total, word
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route, Usage
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

_BUDGET = ("reasoning_budget_message", "reasoning_budget_start_tag", "reasoning_budget_end_tag")
_REQUEST = frozenset(
    {"prompt", "input_prefix", "input_suffix", "input_extra", "stream", "stop", "grammar", "json_schema", "model"}
).union(_BUDGET)
_KNOWN = _REQUEST | COMMON
_IDS = ("tokens", "completion_probabilities", "probs")
_RESULT = frozenset(
    {"content", "prompt", "model", "index", "stop_type", "stopping_word", "generation_settings", "timings", "error"}
).union(_IDS)


class LlamaCpp:
    """The dialect of llama.cpp's own completions; see the module."""

    name: str = "llamacpp.completion"
    provider: str = "llamacpp"
    operation: str = "text_completion"
    routes: tuple[Route, ...] = (
        Route("POST", "/completion"),
        Route("POST", "/completions"),
        Route("POST", "/infill"),
    )
    framing: Framing | None = Framing.SSE

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request."""
        root, reader = mapping(body, ""), Reader()
        exact(root, _REQUEST, "")
        if not {"prompt", "input_prefix", "input_suffix"} & root.keys():
            raise DialectError("/prompt: is missing")
        for where, extra in objects(root.get("input_extra"), "/input_extra"):
            reader.tree(extra, where, Stage.CONTEXT)
        for key in ("input_prefix", "input_suffix"):
            reader.text(root.get(key), child("", key), Stage.INPUT)
        prompts(reader, root.get("prompt"), "/prompt")
        for key in _BUDGET:
            reader.text(root.get(key), child("", key), Stage.INPUT, Role.SYSTEM)
        constraints(reader, root)
        unread(reader, root, _KNOWN)
        return reader.body(model=word(root, "model"), stream=flag(root, "stream"))

    def response(self, body: Json) -> Body:
        """The texts of an answer, of several, or of an error."""
        reader = Reader()
        if not isinstance(body, list):
            root = mapping(body, "")
            return reader.body(**_result(reader, root, "", 0))
        results = [_result(reader, root, where, 0) for where, root in objects(body, "")]
        finish = [reason for result in results for reason in result["finish"]]
        model = results[0]["model"] if results else ""
        return reader.body(model=model, finish=tuple(finish), usage=_total([result["usage"] for result in results]))

    def event(self, frame: Frame) -> Event:
        """The pieces in an event."""
        if frame.data == "[DONE]":
            return Event(last=True)
        root, reader = mapping(frame.data, ""), Reader(Says.PIECE)
        facts = _result(reader, root, "", 0)
        stop = flag(root, "stop")
        reader.ends += [f"{index_of(root, 0)}/content"] * stop
        return reader.event(last=bool(facts["error"]), **facts)

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """A completion with no tokens spent."""
        spent = {"tokens_evaluated": 0, "tokens_predicted": 0}
        return {**_answer(0, text, stop=True), "model": request.model, **spent}

    def status(self, request: Body) -> int:
        """A refusal is an answer."""
        return 200

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """An event that says the text in every completion still open, and one that stops it."""
        going: dict[int, bool] = {}
        for frame in seen:
            if frame.data == "[DONE]" or (isinstance(frame.data, dict) and frame.data.get("error")):
                return []
            index = index_of(frame.data, 0)
            going[index] = going.get(index, True) and not frame.data.get("stop")
        frames: list[Frame] = []
        for index in [index for index, open_ in sorted(going.items()) if open_] if going else [0]:
            frames += [Frame(_answer(index, text, stop=False))] if text else []
            frames.append(Frame(_answer(index, "", stop=True)))
        return frames

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body."""
        return {"error": {"code": code, "message": message, "type": "invalid_request_error"}}


def _result(reader: Reader, root: Mapping[str, Json], path: str, place: int) -> dict[str, Json]:
    error = error_of(reader, root)
    if "stop" not in root and "prompt_progress" not in root:
        check_answer(root, "content", error)
    index = index_of(root, place)
    reader.text(root.get("content"), child(path, "content"), Stage.OUTPUT, channel=f"{index}/content")
    # said once more when all is said
    reader.tree(root.get("prompt"), child(path, "prompt"), Stage.OUTPUT, Role.USER)
    for key in _IDS:
        reader.echo(root.get(key), child(path, key), "[]")
    reader.rest(root, path, _RESULT)
    reason = word(root, "stop_type", path)
    return {
        "model": word(root, "model", path),
        "finish": () if reason in ("", "none") else (reason,),
        "usage": _usage(root) if root.get("stop") is True else None,
        "error": error,
    }


def _usage(root: Mapping[str, Json]) -> Usage | None:
    timings = root.get("timings")  # `tokens_cached` counts all that the slot holds, the answer included
    spent = Usage(
        input=count(root.get("tokens_evaluated")),
        output=count(root.get("tokens_predicted")),
        cached=count(timings.get("cache_n")) if isinstance(timings, dict) else None,
    )
    return None if spent == Usage() else spent


def _total(spent: Sequence[Usage | None]) -> Usage | None:
    known = [usage for usage in spent if usage is not None]
    if not known:
        return None
    return Usage(
        input=total(*[usage.input for usage in known]),
        output=total(*[usage.output for usage in known]),
        cached=total(*[usage.cached for usage in known]),
    )


def _answer(index: int, text: str, *, stop: bool) -> dict[str, Json]:
    end = {"stop_type": "content_filter", "stopping_word": ""} if stop else {}
    return {"index": index, "content": text, "tokens": [], "stop": stop, **end}


COMPLETION = LlamaCpp()
