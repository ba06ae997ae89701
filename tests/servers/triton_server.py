"""Triton, as nvidia-pytriton ships it, with a model that says what it was told, whole or in pieces of three bytes.

Run with Debian's own Python, whose library Triton can embed, and with three ports: of HTTP, gRPC, and its figures.
"""

import sys
from collections.abc import Iterator

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

PROMPT = [Tensor(name="prompt", dtype=bytes, shape=(-1,))]
TEXT = Tensor(name="text", dtype=bytes, shape=(-1,))
SIZE = Tensor(name="size", dtype=np.float32, shape=(-1,))


def said(text: bytes) -> bytes:
    return b"I am eva@example.com. You said: " + text


@batch
def echo(prompt: np.ndarray) -> dict[str, np.ndarray]:
    told = prompt.tolist()
    return {
        "text": np.array([[said(text) for text in row] for row in told], dtype=np.object_),
        "size": np.array([[float(len(text)) for text in row] for row in told], dtype=np.float32),
    }


@batch
def pieces(prompt: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    whole = said(prompt.tolist()[0][0])
    for at in range(0, len(whole), 3):
        yield {"text": np.array([[whole[at : at + 3]]], dtype=np.object_)}


@batch
def flaky(prompt: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    yield {"text": np.array([[b"I am eva@exam"]], dtype=np.object_)}
    raise ValueError("half way")


def main(http: int, grpc: int, metrics: int) -> None:
    config = TritonConfig(http_port=http, grpc_port=grpc, metrics_port=metrics)
    with Triton(config=config) as triton:
        triton.bind("echo", echo, PROMPT, [TEXT, SIZE], config=ModelConfig(max_batch_size=8))
        triton.bind("flaky", flaky, PROMPT, [TEXT], config=ModelConfig(max_batch_size=1, decoupled=True))
        triton.bind("pieces", pieces, PROMPT, [TEXT], config=ModelConfig(max_batch_size=1, decoupled=True))
        triton.serve()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
