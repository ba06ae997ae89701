"""A model that a server runs: Triton, mlserver, KServe, whatever speaks the Open Inference Protocol.

Texts are cut into tokens here and logits read here; token ids go out and arrays come back. What the server says
about the model is read at the start and compared with the card, so that a wrong model is found before the first text.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from llmguard import limits
from llmguard.errors import ConfigurationError, DeadlineError, InferenceError, ModelLoadError, nearest
from llmguard.inference.arrays import check_feeds, float32
from llmguard.inference.choice import PRECISIONS
from llmguard.inference.forked import PerProcess
from llmguard.inference.remote_address import Address
from llmguard.inference.remote_tensors import SHOWN, Description

if TYPE_CHECKING:
    from llmguard.inference.card import Card

#: Seconds for one run, when whoever asks has no deadline or a later one.
RUN_S = 30.0

_INPUTS = frozenset(("input_ids", "attention_mask", "token_type_ids"))
_FLOATS = ("FP16", "BF16", "FP32", "FP64")


class Transport(Protocol):
    """A way to speak to one server; safe to share between threads, and closed when nobody holds it."""

    def describe(self, model: str) -> Description:
        """What the server says about a model that is ready.

        Raises:
            DeviceError: there is no server, it is not ready, or speaks another protocol.
            ModelLoadError: it has no such model, or the model is not ready.
        """
        ...

    def infer(
        self, model: str, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str], timeout_s: float
    ) -> dict[str, NDArray[Any]]:
        """One run.

        Raises:
            DeadlineError: the answer is not there in time.
            InferenceError: the run failed, the connection was lost, or the answer is none.
        """
        ...


class RemoteSession:
    """A model on a server; safe to share between threads.

    Args:
        device: the server's address; a model's name in it goes before the card's.
        card: what the server's model is compared with, and whose outputs are asked for; without one the address must
            name the model, and all outputs are asked for.
        precision: what the server's graph computes in, for the card's calibration; ``auto`` is what the outputs' types
            show, else ``fp32``.

    Raises:
        ConfigurationError: the address or the precision is none.
        DeviceError: there is no server, it is not ready, or speaks another protocol.
        ModelLoadError: the server has no such model, or not the card's.
        MissingExtraError: a package is not installed.

    Attributes:
        runtime: ``remote``.
        device: the address.
        precision: as given, or as the outputs' types show.
        inputs: their names.
        outputs: the names of those that the card has heads for.
    """

    runtime = "remote"

    def __init__(self, device: str, *, card: Card | None = None, precision: str = "auto") -> None:
        if precision not in ("auto", *PRECISIONS):
            raise ConfigurationError(f"unknown precision {precision!r}{nearest(precision, PRECISIONS)}")
        address = Address.parse(device)
        self.device = str(address)
        self._model = address.model or (card.name if card is not None else "")
        if not self._model:
            raise ConfigurationError(f"{address}: say which model: {address}/model-name")
        self._binary = False
        # gRPC's threads and locks do not survive a fork, and there is no way to begin anew.
        forbidden = "" if address.scheme.startswith("http") else "gRPC can't be used after a fork: spawn, or use http"
        self._transport: PerProcess[Transport] = PerProcess(
            lambda: _transport(address, binary=self._binary), forbidden=forbidden
        )
        found = self._transport.get().describe(self._model)
        if card is not None:
            _compare(found, card, f"{address}: the model {self._model!r}")
        self._binary = found.binary  # for the transport that a forked child makes
        self._types = {one.name: one.type for one in found.inputs}
        self.inputs = tuple(self._types)
        wanted = None if card is None else {head.output for head in card.heads}
        outputs = [one for one in found.outputs if wanted is None or one.name in wanted]
        self.outputs = tuple(one.name for one in outputs)
        shown = {SHOWN.get(one.datatype, "fp32") for one in outputs}
        self.precision = precision if precision != "auto" else min(shown - {"fp32"}, default="fp32")

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One forward pass; the time that it may take is what `limits.deadline` leaves, and 30 s at most.

        Args:
            feeds: an array for every input; integers of another width are converted.

        Returns:
            An array for every output; half precision comes as float32.

        Raises:
            DeadlineError: the answer was not there in time.
            InferenceError: arrays are missing or don't fit, the run failed, the connection was lost (the next run makes
                a new one), or the session is closed.
        """
        transport = self._transport.get()
        arrays = check_feeds(feeds, self._types)
        until = limits.deadline.get()
        left = RUN_S if until is None else min(RUN_S, until - time.monotonic())
        if left <= 0:
            raise DeadlineError(f"{self.device}: there is no time left for a run")
        found = transport.infer(self._model, arrays, self.outputs, left)
        if missing := [name for name in self.outputs if name not in found]:
            raise InferenceError(f"{self.device}: the answer of the model {self._model!r} has no {', '.join(missing)}")
        return {name: float32(found[name]) for name in self.outputs}

    def close(self) -> None:
        """Let go of the connections; runs that are under way end."""
        self._transport.close()


def _transport(address: Address, *, binary: bool) -> Transport:
    if address.scheme.startswith("http"):
        from llmguard.inference.remote_http import HttpTransport

        return HttpTransport(address, binary=binary)
    from llmguard.inference.remote_grpc import GrpcTransport

    return GrpcTransport(address)


def _compare(found: Description, card: Card, where: str) -> None:
    inputs = {one.name: one for one in found.inputs}
    if "input_ids" not in inputs or inputs.keys() - _INPUTS:
        raise ModelLoadError(
            f"{where} has the inputs {', '.join(sorted(inputs)) or 'none'}: it must take input_ids and may take "
            "attention_mask and token_type_ids"
        )
    for one in found.inputs:
        if one.datatype not in ("INT64", "INT32"):
            raise ModelLoadError(f"{where} takes {one.name} as {one.datatype}: it must be INT64 or INT32")
    outputs = {one.name: one for one in found.outputs}
    for head in card.heads:
        own = outputs.get(head.output)
        if own is None:
            raise ModelLoadError(
                f"{where} has no output {head.output!r}, which the card of {card.name!r} names: "
                f"it has {', '.join(outputs) or 'none'}"
            )
        if own.datatype not in _FLOATS:
            raise ModelLoadError(f"{where} gives {own.name} as {own.datatype}: logits are floats")
        last = own.shape[-1] if own.shape else -1
        if head.labels and last not in (-1, len(head.labels)):
            raise ModelLoadError(
                f"{where} gives {last} numbers in {own.name}, and the card of {card.name!r} has "
                f"{len(head.labels)} labels"
            )
