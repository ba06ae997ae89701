"""Tensors behind the JSON: bodies of the Open Inference Protocol in which Triton's clients put texts as bytes.

Follows "Binary Tensor Data Extension" (https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/
protocol/extension_binary_data.html); read 2026-11-21. The header ``Inference-Header-Content-Length`` says where the
JSON ends. Behind it follow the bytes of each tensor that has the parameter ``binary_data_size``, in the order of the
tensors. An element of BYTES is its length, four bytes with the lowest first, and its content.

``tritonclient`` sends and asks for tensors so unless it is told not to. Texts have places as ``/inputs/0/binary/3``:
element 3 of the first input. Elements that are no UTF-8 are uncovered, as are tensors of other datatypes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from llmguard.dialects import edit, pointer, strict
from llmguard.dialects.kserve import INFER
from llmguard.dialects.reader import mapping, number, objects, optional, word
from llmguard.dialects.wire import Body, Json, Put
from llmguard.errors import DialectError

HEADER = "Inference-Header-Content-Length"
"""The header of HTTP that says how many bytes the JSON has, in requests and in responses."""

_SIZE = "binary_data_size"
_DATA = re.compile(r"(/(?:inputs|outputs)/\d+)/data(/\d+)?")
_PLACE = re.compile(r"(/(?:inputs|outputs)/\d+)/binary/(\d+)")


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor whose bytes stand behind the JSON.

    Attributes:
        path: its place in the JSON.
        start: of its bytes in the body.
        end: likewise.
        elements: of BYTES, else None; each with its length before it left out.
    """

    path: str
    start: int
    end: int
    elements: list[bytes] | None = field(repr=False)


def request(data: bytes, length: int, path: Mapping[str, str]) -> Body:
    """The texts of a request, in its JSON and behind it.

    Args:
        data: the whole body, not compressed.
        length: of the JSON, from the header.
        path: as of `Dialect.request`.

    Raises:
        DialectError: it is no request, or its sizes do not add up.
    """
    body, tensors = _read(data, length)
    return _placed(INFER.request(_filled(body, tensors), path), tensors)


def response(data: bytes, length: int) -> Body:
    """The texts of a response, in its JSON and behind it; arguments and errors as of `request`."""
    body, tensors = _read(data, length)
    return _placed(INFER.response(_filled(body, tensors)), tensors)


def rewrite(data: bytes, length: int, edits: Mapping[str, str], puts: Collection[Put] = ()) -> tuple[bytes, int]:
    """The same body with other texts at some places, with its sizes corrected, and the new length of its JSON.

    Args:
        data: as of `request`.
        length: likewise.
        edits: the new text by the place of the old one.
        puts: values that take the place of others. Bytes behind the JSON become zeros, as many as there were.

    Raises:
        DialectError: there is no text at one of the places, or it is no body.
    """
    _, tensors = _read(data, length)
    known = {tensor.path: tensor for tensor in tensors}
    behind, inside, changed = _sorted(edits, known)
    sizes: list[Put] = []
    empty = {f"{path}/binary" for path in known} & {put.path for put in puts}
    pieces: list[bytes] = []
    for tensor in tensors:
        raw = data[tensor.start : tensor.end]
        if f"{tensor.path}/binary" in empty:
            raw = _hollow(tensor)
        elif tensor.path in changed:
            raw = _packed(tensor, behind)
        pieces.append(raw)
        if len(raw) != tensor.end - tensor.start:
            sizes.append(Put(f"{tensor.path}/parameters/{_SIZE}", str(len(raw))))
    kept = [put for put in puts if put.path not in empty]
    head = edit.rewrite(data[:length], inside, [*kept, *sizes])
    return head + b"".join(pieces), len(head)


def _read(data: bytes, length: int) -> tuple[Json, list[_Tensor]]:
    """The JSON, and the tensors behind it."""
    if not 0 < length <= len(data):
        raise DialectError("the JSON is not as long as its header says")
    body = mapping(strict.parse(data[:length]), "")
    tensors: list[_Tensor] = []
    at = length
    for key in ("inputs", "outputs"):
        for path, tensor in objects(body.get(key), f"/{key}"):
            parameters = optional(tensor.get("parameters"), f"{path}/parameters")
            size = number(parameters, _SIZE, f"{path}/parameters")
            if size is None:
                continue
            if size < 0 or at + size > len(data):
                raise DialectError(f"{path}/parameters/{_SIZE}: is not what follows the JSON")
            if "data" in tensor:
                raise DialectError(f"{path}/data: stands behind the JSON as well")
            words = word(tensor, "datatype", path) == "BYTES"
            elements = _elements(data[at : at + size], path) if words else None
            tensors.append(_Tensor(path, at, at + size, elements))
            at += size
    if at != len(data):
        raise DialectError("more follows the JSON than the tensors account for")
    return body, tensors


def _elements(raw: bytes, path: str) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if at + 4 > len(raw) or end > len(raw):
            raise DialectError(f"{path}: an element is longer than its tensor")
        found.append(raw[at + 4 : end])
        at = end
    return found


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _filled(body: Json, tensors: list[_Tensor]) -> Json:
    """The JSON as if the tensors stood in it; what is no text is null there."""
    made = {**body}
    for tensor in tensors:
        _, key, place = tensor.path.split("/")
        held = list(made[key])
        parameters = {name: value for name, value in held[int(place)]["parameters"].items() if name != _SIZE}
        texts = None if tensor.elements is None else [_text(raw) for raw in tensor.elements]
        held[int(place)] = {**held[int(place)], "parameters": parameters, "data": [None] if texts is None else texts}
        made[key] = held
    return made


def _placed(said: Body, tensors: list[_Tensor]) -> Body:
    """What was read, with the places of the tensors behind the JSON."""
    known = {tensor.path: tensor for tensor in tensors}

    def moved(place: str) -> str:
        match = _DATA.fullmatch(place)
        return place if match is None or match[1] not in known else f"{match[1]}/binary{match[2] or ''}"

    parts = [replace(part, path=moved(part.path)) for part in said.parts]
    texts = {part.path for part in parts}
    uncovered: list[str] = []
    for place in map(moved, said.uncovered):
        tensor = known.get(place.removesuffix("/binary"))
        elements = [f"{place}/{at}" for at in range(len(tensor.elements or ()))] if tensor is not None else []
        missed = [element for element in elements if element not in texts]
        uncovered += missed if len(missed) < len(elements) else [place]
    spoken = [replace(put, path=moved(put.path)) for put in said.spoken]
    return replace(said, parts=tuple(parts), uncovered=tuple(uncovered), spoken=tuple(spoken))


def _sorted(
    edits: Mapping[str, str], known: Mapping[str, _Tensor]
) -> tuple[dict[tuple[str, int], str], dict[str, str], set[str]]:
    """Edits behind the JSON by tensor and element, edits in it, and the tensors that change."""
    behind: dict[tuple[str, int], str] = {}
    inside: dict[str, str] = {}
    for place, text in edits.items():
        match = _PLACE.fullmatch(place)
        if match is None:
            inside[place] = text
            continue
        tensor = known.get(match[1])
        if tensor is None or tensor.elements is None or int(match[2]) >= len(tensor.elements):
            raise DialectError(f"{pointer.shown(place)}: there is no text to edit")
        behind[match[1], int(match[2])] = text
    return behind, inside, {path for path, _ in behind}


def _packed(tensor: _Tensor, behind: Mapping[tuple[str, int], str]) -> bytes:
    pieces: list[bytes] = []
    for at, old in enumerate(tensor.elements or ()):
        text = behind.get((tensor.path, at))
        new = old if text is None else text.encode("utf-8", "replace")
        pieces += struct.pack("<I", len(new)), new
    return b"".join(pieces)


def _hollow(tensor: _Tensor) -> bytes:
    """As many elements that say nothing."""
    if tensor.elements is None:
        return bytes(tensor.end - tensor.start)
    return bytes(4 * len(tensor.elements))
