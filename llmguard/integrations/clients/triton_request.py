"""The arguments of one inference as a request of the Open Inference Protocol, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmguard.integrations.clients.triton_tensors import seen_input, written_input


class Asked:
    """One inference as it is asked for.

    Args:
        given: arguments of ``infer``, ``async_infer`` or ``async_stream_infer`` by name.

    Attributes:
        body: the request.
        segments: the model, as `Way` takes it.

    Raises:
        TypeError: the inputs are missing.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        if "inputs" not in given:
            raise TypeError("inputs: are missing")
        self._given = given
        self.body: dict[str, Any] = {"inputs": [seen_input(tensor) for tensor in given["inputs"]]}
        if given.get("parameters"):
            self.body["parameters"] = given["parameters"]
        self.segments = {"model": given.get("model_name") or ""}

    def given(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a cleared request; what was not changed is the caller's own."""
        views = zip(self._given["inputs"], self.body["inputs"], body["inputs"], strict=True)
        inputs = [tensor if new == view else written_input(tensor, new) for tensor, view, new in views]
        told = {"parameters": body["parameters"]} if "parameters" in body else {}
        return {**self._given, "inputs": inputs, **told}
