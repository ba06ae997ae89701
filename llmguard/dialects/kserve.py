"""The Open Inference Protocol (KServe v2), as Triton, MLServer and KServe serve it: tensors by name.

Follows "Open Inference Protocol Specification" (https://kserve.github.io/website/docs/concepts/architecture/data-plane/
v2-protocol) and Triton's "Binary Tensor Data Extension" and "Shared-Memory Extension"
(https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol); read 2026-11-21.

Every string in a tensor's ``data`` is a text, whatever its datatype; other elements are uncovered. So are tensors that
are not in the JSON: in shared memory, or behind it (``binary_data_size``), which `kserve_binary` reads.

What tensors there are is the model's affair, so a refusal is an error: no client waits for a tensor of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects.openai_common import is_name
from llmguard.dialects.pointer import child, strings
from llmguard.dialects.reader import Reader, Says, mapping, objects, optional, word
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

FILTERED = "content_filter"
FINISH = "finish_reason"
SYSTEM = frozenset({"system", "system_prompt", "system_input"})
_REQUEST = frozenset({"parameters", "inputs", "outputs"})
_RESPONSE = frozenset({"parameters", "outputs", "error"})
_TENSOR = frozenset({"parameters", "data"})
_IDS = frozenset({"id", "model_name", "model_version"})
_KIND = frozenset({"name", "datatype"})
_ELSEWHERE = ("binary_data_size", "shared_memory_region")
_NAMES = frozenset({"content_type", "headers", "shared_memory_region", "sequence_id"})
_TOKENS = frozenset({"output_ids", "input_ids", "token_ids", "logprobs", "context_logits", "generation_logits"})
_OPAQUE_TYPES = frozenset({"base64", "np", "pd"})


class KServe:
    """The dialect of inference by tensors; see the module."""

    name: str = "kserve.infer"
    provider: str = "kserve"
    operation: str = "generate_content"
    routes: tuple[Route, ...] = (
        Route("POST", "/v2/models/{model}/infer", stream=False),
        Route("POST", "/v2/models/{model}/versions/{version}/infer", stream=False),
        Route("POST", "/v2/models/{model}/infer_stream", stream=True),
        Route("POST", "/v2/models/{model}/versions/{version}/infer_stream", stream=True),
    )
    framing: Framing | None = Framing.SSE

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request's tensors."""
        root, reader = mapping(body, ""), Reader()
        if "inputs" not in root:
            raise DialectError("/inputs: is missing")
        add_parameters(reader, root, "", Stage.INPUT)
        for where, tensor in objects(root["inputs"], "/inputs"):
            role = Role.SYSTEM if word(tensor, "name", where) in SYSTEM else Role.USER
            _tensor(reader, tensor, where, Stage.INPUT, role)
        for where, output in objects(root.get("outputs"), "/outputs"):
            add_parameters(reader, output, where, Stage.INPUT)
            reader.rest(output, where, frozenset({"parameters"}), frozenset({"name"}))
        reader.rest(root, "", _REQUEST, _IDS)
        return reader.body(model=path.get("model", ""), id=word(root, "id"))

    def response(self, body: Json) -> Body:
        """The texts of a response's tensors, or of an error."""
        return Body(**_response(mapping(body, ""), Reader()))

    def event(self, frame: Frame) -> Event:
        """A response in a stream: pieces of what the elements of its tensors say. No event is known to be the last."""
        said = _response(mapping(frame.data, "the event"), reader := Reader(Says.PIECE))
        return Event(deltas=tuple(reader.deltas), last=bool(said["error"]), **said)

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """An error that says the text."""
        return self.error(text, FILTERED)

    def status(self, request: Body) -> int:
        """A refusal is an error."""
        return 400

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """A response that says the text in the first text tensor that was seen; an error where none was."""
        data = [frame.data for frame in seen if isinstance(frame.data, dict)]
        named = [(one, name) for one in data if (name := _text_name(one))]
        if not named:
            return [Frame(self.error(text or "content was filtered", FILTERED, request))]
        first, name = named[0]
        head = {key: first[key] for key in ("model_name", "model_version", "id") if key in first}
        outputs = [tensor(name, text)] if text else []
        return [Frame({"model_name": "", **head, "outputs": [*outputs, tensor(FINISH, FILTERED)]})]

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body; it has no place for a code."""
        return {"error": message}


def speaks(body: Mapping[str, Json]) -> bool:
    """Whether an answer is tensors of this protocol and nothing beside them."""
    outputs = body.get("outputs")
    if not isinstance(outputs, list) or not all(isinstance(one, dict) and "datatype" in one for one in outputs):
        return False
    return bool(outputs) and body.keys() <= _RESPONSE | _IDS


def add_parameters(reader: Reader, owner: Mapping[str, Json], path: str, stage: Stage) -> Mapping[str, Json]:
    """The strings of an object's ``parameters``, which go to the model, but for the protocol's own that are names.

    Raises:
        DialectError: they are no object.
    """
    where = child(path, "parameters")
    parameters = optional(owner.get("parameters"), where)
    for key, value in parameters.items():
        if key not in _NAMES:
            reader.tree(value, child(where, key), stage)
            continue
        for place, said in strings(value, child(where, key)):
            if not is_name(said):
                reader.text(said, place, stage)
    return parameters


def tensor(name: str, text: str) -> Json:
    """A tensor of one text."""
    return {"name": name, "datatype": "BYTES", "shape": [1], "data": [text]}


def add_error(reader: Reader, body: Mapping[str, Json]) -> str:
    """The text of an error, and "error", or "" where there is none.

    Raises:
        DialectError: it is neither a string nor an object.
    """
    if body.get("error") is None:
        return ""
    if not isinstance(body["error"], (str, dict)):
        raise DialectError("/error: must be a string or an object")
    reader.tree(body["error"], "/error", Stage.OUTPUT)
    return "error"


def _response(root: Mapping[str, Json], reader: Reader) -> dict[str, Json]:
    error = add_error(reader, root)
    if not error and "outputs" not in root:
        raise DialectError("/outputs: is missing")
    add_parameters(reader, root, "", Stage.OUTPUT)
    finish: list[str] = []
    for where, output in objects(root.get("outputs"), "/outputs"):
        if output.get("name") == FINISH and isinstance(output.get("data"), list):
            finish += [item for item in output["data"] if isinstance(item, str)]
        _tensor(reader, output, where, Stage.OUTPUT, Role.ASSISTANT)
    reader.rest(root, "", _RESPONSE, _IDS)
    return {
        "parts": tuple(reader.parts),
        "uncovered": tuple(reader.uncovered),
        "spoken": tuple(reader.spoken),
        "model": word(root, "model_name"),
        "id": word(root, "id"),
        "finish": tuple(finish),
        "error": error,
    }


def _tensor(reader: Reader, value: Mapping[str, Json], path: str, stage: Stage, role: Role) -> None:
    name = word(value, "name", path)
    parameters = add_parameters(reader, value, path, stage)
    reader.rest(value, path, _TENSOR, _KIND)
    if any([key in parameters for key in _ELSEWHERE]):
        reader.uncovered.append(path)
    data, where = value.get("data"), child(path, "data")
    if data is not None and not isinstance(data, list):
        raise DialectError(f"{where}: must be an array")
    if word(parameters, "content_type", child(path, "parameters")) in _OPAQUE_TYPES:
        reader.opaque(data, where)
    elif stage is Stage.OUTPUT and name in _TOKENS:
        reader.echo(data, where, hollow(data))
    else:
        _elements(reader, data or [], where, (stage, role), name)


def _elements(reader: Reader, data: list[Json], path: str, who: tuple[Stage, Role], name: str) -> None:
    """The strings of a tensor, nested as its shape is or not; a channel is named by the tensor and the element."""
    waiting: list[tuple[str, str, Json]] = [(path, child("", name)[1:] or "-", data)]
    dull = False
    while waiting:
        where, channel, value = waiting.pop()
        if isinstance(value, str):
            # A finish reason in a tensor of that name is no piece of a text, and comes whole.
            reader.text(value, where, who[0], who[1], "" if name == FINISH else channel)
        elif isinstance(value, list):
            below = [(child(where, index), f"{channel}/{index}", item) for index, item in enumerate(value)]
            waiting += below[::-1]
        elif isinstance(value, dict):
            raise DialectError(f"{where}: must be an element of a tensor, is an object")
        else:
            dull = True
    if dull:
        reader.uncovered.append(path)


def _text_name(body: Mapping[str, Json]) -> str:
    for output in body.get("outputs") or []:
        if output.get("datatype") == "BYTES" and output.get("name") not in (FINISH, *_TOKENS):
            return word(output, "name")
    return ""


def hollow(value: Json) -> str:
    """JSON of the same shape that says nothing: a tensor must keep its shape."""
    if isinstance(value, list):
        return f"[{','.join(map(hollow, value))}]"
    empty = {str: '""', bool: "false", dict: "{}"}
    return "null" if value is None else empty.get(type(value), "0")


INFER = KServe()
