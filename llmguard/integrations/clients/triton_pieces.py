"""The results of one request of a stream over gRPC, as events in JSON, and back.

A model that is decoupled answers in pieces, often of one token, so a letter of several bytes may come in two results:
its first bytes wait for the rest. Bytes that are no UTF-8 are escaped as lone surrogates, and so come out as they were.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from llmguard.dialects.kserve import FILTERED, FINISH, KServe
from llmguard.dialects.wire import Event, Frame, Usage
from llmguard.integrations.clients.triton_tensors import packed, seen_element_lists, told_parameters

#: Triton's mark of the last response of a request; other servers of the protocol have none.
FINAL = "triton_final_response"
#: What is made of words for which there is no tensor.
UNSAID = object()
#: Tensors in which Triton's vLLM backend counts: tokens of the request, and those of this response alone.
_READ, _SAID = "num_input_tokens", "num_output_tokens"

#: Finish reasons of an answer that goes on: no texts, or a stream would seem to say something before it does.
_UNFINISHED = frozenset({"", "None", "null"})

_Decoder = codecs.getincrementaldecoder("utf-8")


class _Streamed(KServe):
    """Tensors in a stream over gRPC, which says what its last response is."""

    def event(self, frame: Frame) -> Event:
        """A response; the last one ends its texts."""
        said, told = super().event(frame), frame.data
        last = told.get("parameters", {}).get(FINAL) is True
        if not last and "usage" not in told:
            return said
        usage = Usage(**told["usage"]) if "usage" in told else None
        return replace(said, last=said.last or last, usage=usage)


STREAMED = _Streamed()


class Pieces:
    """Reads and builds the results of one request.

    Args:
        id: that the caller gave the request; results are given it in place of the one that went over the wire.
    """

    def __init__(self, id: str) -> None:  # noqa: A002 - the protocol's word
        self._id = id
        self._decoders: dict[tuple[str, int], codecs.IncrementalDecoder] = {}
        self._shapes: dict[str, list[int]] = {}
        self._latest: Any = None
        self._counted: dict[str, int] = {}
        self._ending = False

    def read(self, result: Any) -> dict[str, Any]:
        """A result as an event. Where letters were cut, it is changed to hold what the event says.

        Raises:
            DialectError: its tensors are not what they say.
        """
        self._latest = result
        response = result.get_response()
        response.id = self._id
        final = is_final(response) is True
        outputs = []
        for index, (head, elements) in enumerate(seen_element_lists(response)):
            if elements is None:
                self._count(head["name"], result)
                outputs.append(head)
                continue
            if head["name"] == FINISH:
                reasons = [one.decode("utf-8", "surrogateescape") for one in elements]
                outputs.append(head if _UNFINISHED.issuperset(reasons) else {**head, "data": reasons})
                continue
            fits = math.prod(head["shape"]) == len(elements)
            self._shapes[head["name"]] = head["shape"] if fits else [len(elements)]
            texts = [self._decoded(head["name"], at, one, final) for at, one in enumerate(elements)]
            if [_bytes(text) for text in texts] != elements:
                _put(response, index, texts)
            outputs.append({**head, "data": texts})
        event = {"model_name": response.model_name, "id": response.id, "outputs": outputs}
        if self._counted:
            event["usage"] = dict(self._counted)
        # Always there: what is made of it later has none, and is known by that.
        return {**event, "parameters": {**told_parameters(response), FINAL: final}}

    def build(self, event: Mapping[str, Any]) -> Any:
        """A result that says an event: one that was read, with other texts; the rest of a text; or the last words.

        Words are said in the first text tensor that there was, as in all of the protocol; without one they are
        `UNSAID`.
        """
        if "parameters" in event:
            return self._changed(event)
        outputs = event.get("outputs") or []
        if "error" in event or any([one["name"] == FINISH for one in outputs]):
            words = event["error"] if "error" in event else "".join([one["data"][0] for one in outputs[:-1]])
            name = next(iter(self._shapes), None)
            if name is None:
                return UNSAID
            made = self._made([(name, [words]), (FINISH, [FILTERED])])
        else:
            made = self._made([(one["name"], one["data"]) for one in outputs])
        response = made.get_response()
        if is_final(self._latest.get_response()) is not None:
            response.parameters[FINAL].bool_param = any([one.name == FINISH for one in response.outputs])
        return made

    def rest(self, result: Any = None) -> Any:
        """A result that ends letters of which only the first bytes came; None where there is none.

        Args:
            result: the last one, which ends those in its own tensors by itself.
        """
        ended = {one.name for one in result.get_response().outputs} if result is not None else set()
        names = {name for (name, _), own in self._decoders.items() if own.getstate()[0]} - ended
        if not names:
            return None
        self._ending = True
        return self._made([(name, [""] * self._size(name)) for name in names])

    def _changed(self, event: Mapping[str, Any]) -> Any:
        response = self._latest.get_response()
        made = type(response)()
        made.CopyFrom(response)
        for index, output in enumerate(event["outputs"]):
            if "data" in output:
                _put(made, index, output["data"])
        for key, value in event["parameters"].items():
            if isinstance(value, str):
                made.parameters[key].string_param = value
        return type(self._latest)(made)

    def _made(self, tensors: Collection[tuple[str, list[str]]]) -> Any:
        """A result of text tensors in the shapes that they had."""
        like = self._latest.get_response()
        response = type(like)(model_name=like.model_name, model_version=like.model_version, id=self._id)
        for name, texts in tensors:
            size, shape = self._size(name), self._shapes.get(name)
            padded = [*texts, *[""] * (size - len(texts))]
            fits = bool(shape) and size == len(padded)
            response.outputs.add(name=name, datatype="BYTES", shape=shape if fits else [len(padded)])
            response.raw_output_contents.append(packed([_bytes(text) for text in padded]))
        return type(self._latest)(response)

    def _size(self, name: str) -> int:
        return math.prod(self._shapes.get(name, ()))

    def _decoded(self, name: str, index: int, piece: bytes, final: bool) -> str:
        known = self._decoders.get((name, index))
        if known is None:
            known = self._decoders[name, index] = _Decoder("surrogateescape")
        return known.decode(piece, final or self._ending)

    def _count(self, name: str, result: Any) -> None:
        key = {_READ: "input", _SAID: "output"}.get(name)
        if key is None or (counts := result.as_numpy(name)) is None or counts.dtype.kind not in "iu":
            return
        count = int(counts.sum())
        self._counted[key] = count if key == "input" else self._counted.get(key, 0) + count


def is_final(response: Any) -> bool | None:
    """Whether a response says that it is the last of its request; None where its server does not say such."""
    return response.parameters[FINAL].bool_param if FINAL in response.parameters else None


def _put(response: Any, index: int, texts: list[str]) -> None:
    elements = [_bytes(text) for text in texts]
    if index < len(response.raw_output_contents):
        response.raw_output_contents[index] = packed(elements)
    else:
        response.outputs[index].contents.bytes_contents[:] = elements


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # words of ours or of a fallback, with surrogates that stand for no byte
        return text.encode("utf-8", "replace")
