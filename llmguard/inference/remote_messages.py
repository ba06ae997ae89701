"""The messages of the Open Inference Protocol's gRPC service, made when they are first needed.

Only the fields that are used, with the numbers of
https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto;
a reader skips the others. They are made here and not generated, since generated code works with few versions of
protobuf; and in a pool of their own, since a process may hold another client of the same protocol.
"""

from __future__ import annotations

import functools
from typing import Any

from llmguard.errors import MissingExtraError

#: The service's full name; a method's path is ``/SERVICE/METHOD``.
SERVICE = "inference.GRPCInferenceService"

# Message, then for each field: name, number, type (a message's name where it begins with a capital), repeated.
_FIELDS: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "ServerReadyRequest": (),
    "ServerReadyResponse": (("ready", 1, "bool", False),),
    "ModelReadyRequest": (("name", 1, "string", False),),
    "ModelReadyResponse": (("ready", 1, "bool", False),),
    "ModelMetadataRequest": (("name", 1, "string", False),),
    "TensorMetadata": (
        ("name", 1, "string", False),
        ("datatype", 2, "string", False),
        ("shape", 3, "int64", True),
    ),
    "ModelMetadataResponse": (
        ("name", 1, "string", False),
        ("inputs", 4, "TensorMetadata", True),
        ("outputs", 5, "TensorMetadata", True),
    ),
    "InferTensorContents": (
        ("bool_contents", 1, "bool", True),
        ("int_contents", 2, "int32", True),
        ("int64_contents", 3, "int64", True),
        ("uint_contents", 4, "uint32", True),
        ("fp32_contents", 6, "float", True),
        ("fp64_contents", 7, "double", True),
    ),
    "InferTensor": (
        ("name", 1, "string", False),
        ("datatype", 2, "string", False),
        ("shape", 3, "int64", True),
        ("contents", 5, "InferTensorContents", False),
    ),
    "InferRequestedOutputTensor": (("name", 1, "string", False),),
    "ModelInferRequest": (
        ("model_name", 1, "string", False),
        ("inputs", 5, "InferTensor", True),
        ("outputs", 6, "InferRequestedOutputTensor", True),
        ("raw_input_contents", 7, "bytes", True),
    ),
    "ModelInferResponse": (
        ("model_name", 1, "string", False),
        ("outputs", 5, "InferTensor", True),
        ("raw_output_contents", 6, "bytes", True),
    ),
}

#: Where the contents of a datatype are, when they are not raw bytes; half precision has no such field.
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


@functools.cache
def messages() -> dict[str, Any]:
    """The classes of the messages by name.

    Raises:
        MissingExtraError: protobuf is not installed.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        raise MissingExtraError("a model on a server", "google.protobuf", "remote") from None

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="open_inference.proto", package="inference", syntax="proto3")
    for message, fields in _FIELDS.items():
        made = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            field = made.field.add(name=name, number=number, label=label)
            if kind in _FIELDS:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".inference.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in _FIELDS}
