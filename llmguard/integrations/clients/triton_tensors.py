"""Tensors of tritonclient, HTTP's and gRPC's, as the JSON of the Open Inference Protocol, and back.

Elements of BYTES that are UTF-8 are texts; other elements stand as numbers, which the protocol's dialect counts as not
looked at. What is not changed stays the same object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_IN_MEMORY = {"shared_memory_region": ""}
_TEXT = "BYTES"


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
    """An ``InferResult``."""
    response = result.get_response()
    if isinstance(response, dict):
        heads = [(one["name"], one["datatype"], one["shape"]) for one in response.get("outputs") or ()]
        parameters = response.get("parameters") or {}
    else:
        heads = [(one.name, one.datatype, [int(size) for size in one.shape]) for one in response.outputs]
        parameters = {k: v.string_param for k, v in response.parameters.items() if v.WhichOneof("parameter_choice")}
    outputs = []
    for name, datatype, shape in heads:
        view: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        values = result.as_numpy(name) if datatype == _TEXT else None
        said = {"parameters": _IN_MEMORY} if values is None else {"data": [_said(one) for one in values.flatten()]}
        outputs.append({**view, **said})
    told = {"parameters": parameters} if parameters else {}
    return {"model_name": _model(response), "outputs": outputs, **told}


def written_result(result: Any, view: Mapping[str, Any]) -> Any:
    """An ``InferResult`` with the texts of a view that was changed."""
    response = result.get_response()
    texts = {
        one["name"]: _restored(list(result.as_numpy(one["name"]).flatten()), one["data"])
        for one in view["outputs"]
        if "data" in one
    }
    if isinstance(response, dict):
        return _http_result(result, response, texts, view.get("parameters"))
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
    import numpy as np
    from tritonclient.utils import serialize_byte_tensor

    made = type(response)()
    made.CopyFrom(response)
    for index, output in enumerate(made.outputs):
        if output.name not in texts:
            continue
        if index < len(made.raw_output_contents):
            data = serialize_byte_tensor(np.array(texts[output.name], dtype=np.object_))
            made.raw_output_contents[index] = data.item() if data.size else b""
        else:
            output.contents.bytes_contents[:] = texts[output.name]
    for key, value in parameters.items():
        if value and isinstance(value, str):
            made.parameters[key].string_param = value
    return type(result)(made)


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
