"""The messages of the gRPC service, against bytes that another client of the protocol wrote."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("google.protobuf", reason="makes the messages")

from llmguard.inference.remote_grpc import arrays
from llmguard.inference.remote_messages import messages

# What tritonclient 2.73 writes for these messages (Apache-2.0, NVIDIA), among it fields that we do not know.
REQUEST = (
    "0a016d2a160a09696e7075745f6964731205494e5436341a02010232080a066c6f676974733a1001000000000000000200000000000000"
)
RAW = (
    "0a016d1201311a017822070a0170120208012a1b0a066c6f676974731204465033321a02010222070a01711202100332080000003f000000c0"
)
TYPED = "0a016d2a1e0a066c6f676974731204465033321a0201022a0a32080000003f000000c0"
METADATA = (
    "0a016d1201311a106f6e6e7872756e74696d655f6f6e6e7822280a09696e7075745f6964731205494e5436341a14ffffffffffffffffff01"
    "ffffffffffffffffff012a1b0a066c6f676974731204465031361a0bffffffffffffffffff0103"
)


def test_the_messages_are_the_protocols() -> None:
    kinds = messages()
    request = kinds["ModelInferRequest"](model_name="m", raw_input_contents=[np.array([1, 2]).tobytes()])
    request.inputs.add(name="input_ids", datatype="INT64", shape=[1, 2])
    request.outputs.add(name="logits")
    assert request.SerializeToString().hex() == REQUEST
    raw = kinds["ModelInferResponse"].FromString(bytes.fromhex(RAW))
    assert [(one.name, one.datatype, list(one.shape)) for one in raw.outputs] == [("logits", "FP32", [1, 2])]
    assert raw.raw_output_contents == [np.array([0.5, -2], "<f4").tobytes()]
    typed = kinds["ModelInferResponse"].FromString(bytes.fromhex(TYPED))
    assert list(typed.outputs[0].contents.fp32_contents) == [0.5, -2]
    said = kinds["ModelMetadataResponse"].FromString(bytes.fromhex(METADATA))
    assert [(one.name, one.datatype, list(one.shape)) for one in said.inputs] == [("input_ids", "INT64", [-1, -1])]
    assert [(one.name, one.datatype, list(one.shape)) for one in said.outputs] == [("logits", "FP16", [-1, 3])]


def test_contents_by_type_are_read_as_well_as_raw_ones() -> None:
    answer = messages()["ModelInferResponse"].FromString(bytes.fromhex(TYPED))
    assert arrays(answer)["logits"].tolist() == [[0.5, -2]]


def test_contents_that_do_not_fit_are_no_answer() -> None:
    answer = messages()["ModelInferResponse"].FromString(bytes.fromhex(RAW))
    answer.raw_output_contents.append(b"")
    with pytest.raises(ValueError, match="1 outputs with 2 contents"):
        arrays(answer)
    half = messages()["ModelInferResponse"].FromString(bytes.fromhex(TYPED))
    half.outputs[0].datatype = "FP16"
    with pytest.raises(ValueError, match="without raw contents"):
        arrays(half)
