"""Tensors of tritonclient, HTTP's and gRPC's, as the JSON of the Open Inference Protocol, and back.

Elements of BYTES that are UTF-8 are texts; other elements stand as numbers, which the protocol's dialect counts as not
looked at. What is not changed stays the same object.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmguard.errors import DialectError

_IN_MEMORY = {"shared_memory_region": ""}
_TEXT = "BYTES"
_SAID_AS = "string_param"


def seen_input(tensor: Any) -> dict[str, Any]:
    """An ``InferInput``."""
    view = {"name": tensor.name(), "datatype": tensor.datatype(), "shape": [int(size) for size in tensor.shape()]}
    elements = _elements(tensor) if view["datatype"] == _TEXT else None
    if elements is None:
        return {**view, "parameters": _IN_MEMORY}  # numbers, or what is in shared memory: nothing to be read here
    return {**view, "data": [_said(one) for one in elements]}


def written_input(tensor: Any, view: Mapping[str, Any]) -> Any:
    """An ``InferInput`` with the texts of a view that was changed."""
    import numpy as np

    made = type(tensor)(tensor.name(), list(tensor.shape()), _TEXT)
    data = np.array(_restored(_elements(tensor) or [], view["data"]), dtype=np.object_).reshape(view["shape"])
    if getattr(tensor, "_data", None) is not None:
        made.set_data_from_numpy(data, binary_data=False)
    else:
        made.set_data_from_numpy(data)
    return made


def seen_result(result: Any) -> dict[str, Any]:
    """An ``InferResult``.

    Raises:
        DialectError: its tensors are not what they say.
    """
    response = result.get_response()
    if isinstance(response, dict):
        outputs = [_seen_output(result, output) for output in response.get("outputs") or ()]
        parameters = response.get("parameters") or {}
    else:
        lists = seen_element_lists(response)
        outputs = [head if own is None else {**head, "data": [_said(one) for one in own]} for head, own in lists]
        parameters = told_parameters(response)
    told = {"parameters": parameters} if parameters else {}
    return {"model_name": _model(response), "outputs": outputs, **told}


def seen_element_lists(response: Any) -> Iterator[tuple[dict[str, Any], list[bytes] | None]]:
    """The outputs of a response over gRPC, each with its elements; None for numbers, and for what is in shared memory.

    Raises:
        DialectError: an element is longer than its tensor.
    """
    for index, output in enumerate(response.outputs):
        head = {"name": output.name, "datatype": output.datatype, "shape": [int(size) for size in output.shape]}
        if output.datatype != _TEXT or "shared_memory_region" in output.parameters:
            yield {**head, "parameters": _IN_MEMORY}, None
        elif index < len(response.raw_output_contents):
            yield head, _unpacked(response.raw_output_contents[index])
        else:
            yield head, list(output.contents.bytes_contents)


def told_parameters(response: Any) -> dict[str, str]:
    """The texts among the parameters of a response over gRPC."""
    return {k: v.string_param for k, v in response.parameters.items() if v.WhichOneof("parameter_choice") == _SAID_AS}


def packed(elements: Sequence[bytes]) -> bytes:
    """Elements of BYTES as they stand in a tensor, each behind its length."""
    return b"".join([struct.pack("<I", len(one)) + one for one in elements])


def written_result(result: Any, view: Mapping[str, Any]) -> Any:
    """An ``InferResult`` with the texts of a view that was changed."""
    response = result.get_response()
    said = {one["name"]: one["data"] for one in view["outputs"] if "data" in one}
    if isinstance(response, dict):
        texts = {name: _restored(list(result.as_numpy(name).flatten()), data) for name, data in said.items()}
        return _http_result(result, response, texts, view.get("parameters"))
    lists = {head["name"]: elements for head, elements in seen_element_lists(response) if elements is not None}
    texts = {name: _restored(lists[name], data) for name, data in said.items()}
    return _grpc_result(result, response, texts, view.get("parameters") or {})


def _http_result(result: Any, response: Mapping[str, Any], texts: Mapping[str, list[bytes]], parameters: Any) -> Any:
    """Each tensor where it was: in the JSON, whose elements are read as ``str``, or behind it, as ``bytes``."""
    import numpy as np
    from tritonclient.utils import serialize_byte_tensor

    outputs, behind = [], []
    for output in response["outputs"]:
        if "data" in output:
            said = [text.decode() for text in texts.get(output["name"], ())]
            outputs.append({**output, "data": said} if said else output)
            continue
        told = {key: value for key, value in (output.get("parameters") or {}).items() if key != "binary_data_size"}
        kept = {key: output[key] for key in ("name", "datatype", "shape")}
        if output["name"] in texts:
            data = serialize_byte_tensor(np.array(texts[output["name"]], dtype=np.object_))
            raw = data.item() if data.size else b""
        else:
            values = result.as_numpy(output["name"])
            raw = b"" if values is None else values.tobytes()
        outputs.append({**kept, "parameters": {**told, "binary_data_size": len(raw)}})
        behind.append(raw)
    head = {**response, "outputs": outputs, **({"parameters": parameters} if parameters else {})}
    body = json.dumps(head).encode()
    return type(result).from_response_body(body + b"".join(behind), header_length=len(body))


def _grpc_result(result: Any, response: Any, texts: Mapping[str, list[bytes]], parameters: Mapping[str, Any]) -> Any:
    made = type(response)()
    made.CopyFrom(response)
    for index, output in enumerate(made.outputs):
        if output.name not in texts:
            continue
        if index < len(made.raw_output_contents):
            made.raw_output_contents[index] = packed(texts[output.name])
        else:
            output.contents.bytes_contents[:] = texts[output.name]
    for key, value in parameters.items():
        if value and isinstance(value, str):
            made.parameters[key].string_param = value
    return type(result)(made)


def _seen_output(result: Any, output: Mapping[str, Any]) -> dict[str, Any]:
    """An output of a response over HTTP."""
    head = {key: output[key] for key in ("name", "datatype", "shape")}
    values = result.as_numpy(output["name"]) if output["datatype"] == _TEXT else None
    if values is None:
        return {**head, "parameters": _IN_MEMORY}
    return {**head, "data": [_said(one) for one in values.flatten()]}


def _unpacked(raw: bytes) -> list[bytes]:
    elements, at = [], 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if end > len(raw):
            raise DialectError("an element is longer than its tensor")
        elements.append(raw[at + 4 : end])
        at = end
    return elements


def _elements(tensor: Any) -> Sequence[bytes | str] | None:
    """The elements of a BYTES input; None where they are elsewhere."""
    from tritonclient.utils import deserialize_bytes_tensor

    if getattr(tensor, "_data", None) is not None:
        return tensor._data  # type: ignore[no-any-return]  # noqa: SLF001 - the class has no other way to ask
    raw = tensor._get_binary_data() if hasattr(tensor, "_get_binary_data") else tensor._get_content()  # noqa: SLF001
    return None if raw is None else list(deserialize_bytes_tensor(raw))


def _said(element: Any) -> str | int:
    if isinstance(element, str):
        return element
    try:
        return bytes(element).decode()
    except UnicodeDecodeError:
        return 0  # counted as not looked at


def _restored(elements: Sequence[Any], data: Sequence[Any]) -> list[bytes]:
    """Elements with the texts of a view; those that it could not say stay."""
    return [
        new.encode("utf-8", "replace") if isinstance(new, str) else bytes(old)
        for old, new in zip(elements, data, strict=True)
    ]


def _model(response: Any) -> str:
    said = response.get("model_name") if isinstance(response, dict) else response.model_name
    return said or ""
