"""Triton's ``/generate`` and ``/generate_stream``: a model's tensors as plain members of one object.

Follows "Generate Extension" (https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/
extension_generate.html) and the inputs and outputs of its vLLM and TensorRT-LLM backends
(https://github.com/triton-inference-server/vllm_backend, https://github.com/triton-inference-server/tensorrtllm_backend);
read 2026-11-21.

Members are named by the model, so every string is a text, wherever it stands, but for those of a few known names.
Each event is taken to say what is new. Where TensorRT-LLM is told to accumulate tokens, events say all of the text so
far, which the format does not show: it is then looked at once more in each of them.

MLServer has the same routes and speaks the Open Inference Protocol there: its answers are read as `kserve` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmguard.dialects.kserve import FILTERED, FINISH, INFER, SYSTEM, add_error, hollow, speaks, tensor
from llmguard.dialects.openai_common import asked
from llmguard.dialects.pointer import child, strings
from llmguard.dialects.reader import Reader, Says, kind, mapping, word
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route, Usage
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

_NAMES = frozenset({"id", "model_name", "model_version", "finish_reason", "sequence_id", "lora_name", "request_id"})
_UNFINISHED = frozenset({"", "None", "null"})
_MEDIA = frozenset({"image", "images", "image_url", "audio", "video", "multi_modal_data", "prompt_embeds"})
_TOKENS = frozenset({"logprobs", "input_ids", "output_ids", "prompt_logprobs"})


class TritonGenerate:
    """The dialect of Triton's generate extension; see the module."""

    name: str = "triton.generate"
    provider: str = "triton"
    operation: str = "text_completion"
    routes: tuple[Route, ...] = (
        Route("POST", "/v2/models/{model}/generate", stream=False),
        Route("POST", "/v2/models/{model}/versions/{version}/generate", stream=False),
        Route("POST", "/v2/models/{model}/generate_stream", stream=True),
        Route("POST", "/v2/models/{model}/versions/{version}/generate_stream", stream=True),
    )
    framing: Framing | None = Framing.SSE

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request."""
        root, reader = mapping(body, ""), Reader()
        for where, key, value in _members(root):
            if key in _MEDIA or key in _TOKENS:
                reader.opaque(value, where)
            else:
                reader.tree(value, where, Stage.INPUT, Role.SYSTEM if key in SYSTEM else Role.USER)
        return reader.body(model=path.get("model", ""), id=word(root, "id"))

    def response(self, body: Json) -> Body:
        """The texts of a response, or of an error."""
        root, reader = mapping(body, ""), Reader()
        if speaks(root):
            return INFER.response(body)
        facts = _answer(reader, root)
        return reader.body(**facts)

    def event(self, frame: Frame) -> Event:
        """The pieces in one response of a stream. No event is known to be the last, unless it says that it ends."""
        root, reader = mapping(frame.data, "the event"), Reader(Says.PIECE)
        if speaks(root):
            return INFER.event(frame)
        facts = _answer(reader, root)
        if facts["usage"] is not None:
            # The vLLM backend counts what was generated since the response before.
            facts["usage"] = replace(facts["usage"], further=True)
        if facts["finish"]:
            reader.ends += [delta.channel for delta in reader.deltas]
        return reader.event(**facts, last=bool(facts["error"]))

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """A response of the vLLM backend's form, or in tensors where the request is in tensors."""
        head = {"id": request.id} if request.id else {}
        model = {"model_name": request.model, "model_version": ""}
        if _in_tensors(sent):
            return {**head, **model, "outputs": [tensor("text_output", text), tensor(FINISH, FILTERED)]}
        return {**head, **model, "text_output": text, "finish_reason": FILTERED}

    def status(self, request: Body) -> int:
        """A refusal is an answer."""
        return 200

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """A response that says the text, and why it ends."""
        if _in_tensors(request) or any(isinstance(frame.data, dict) and speaks(frame.data) for frame in seen):
            return INFER.ending(seen, text, request)
        first = next((frame.data for frame in seen if isinstance(frame.data, dict)), asked(request, "id"))
        head = {key: first[key] for key in ("id", "model_name", "model_version") if key in first}
        return [Frame({"model_name": "", **head, "text_output": text, "finish_reason": FILTERED})]

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body; it has no place for a code."""
        return {"error": message}


def _in_tensors(request: Json | None) -> bool:
    inputs = request.get("inputs") if isinstance(request, dict) else None
    return isinstance(inputs, list) and any(isinstance(item, dict) for item in inputs)


def _members(root: Mapping[str, Json]) -> list[tuple[str, str, Json]]:
    """Places, names and values of what may be a tensor; in ``parameters`` one may stand, too."""
    parameters = root.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise DialectError(f"/parameters: must be an object, is {kind(parameters)}")
    found = [(child("", key), key, value) for key, value in root.items() if key != "parameters"]
    found += [(child("/parameters", key), key, value) for key, value in (parameters or {}).items()]
    return [member for member in found if member[1] not in _NAMES or isinstance(member[2], (dict, list))]


def _answer(reader: Reader, root: Mapping[str, Json]) -> dict[str, Json]:
    error = add_error(reader, root)
    if not error and "model_name" not in root and "text_output" not in root:
        raise DialectError("/text_output: is missing")
    for where, key, value in _members(root):
        if where in ("/error", "/finish_reason"):
            continue
        if key in _TOKENS:
            reader.echo(value, where, hollow(value))
            continue
        for place, text in strings(value, where):
            reader.text(text, place, Stage.OUTPUT, channel=place[1:] + "~" * place.endswith("/"))
    reasons = root.get(FINISH)
    return {
        "model": word(root, "model_name"),
        "id": word(root, "id"),
        "finish": tuple([text for _, text in strings(reasons) if text not in _UNFINISHED]),
        "usage": _usage(root),
        "error": error,
    }


def _usage(root: Mapping[str, Json]) -> Usage | None:
    """What the vLLM backend counts when it is asked to."""
    read, said = root.get("num_input_tokens"), root.get("num_output_tokens")
    if not isinstance(read, int) and not isinstance(said, int):
        return None
    return Usage(input=read if isinstance(read, int) else None, output=said if isinstance(said, int) else None)


GENERATE = TritonGenerate()
