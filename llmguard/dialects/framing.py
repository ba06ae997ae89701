"""Streams as bytes: which framing a body has, and what takes it apart and writes it.

A body is read with a `Decoder` and written with an `Encoder`, one of each a stream: what `feed` gives is kept,
rewritten, left out, or has events of our own put before it, and all that goes out passes through the encoder in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llmguard.dialects.framing_array import ArrayDecoder, ArrayEncoder
from llmguard.dialects.framing_aws import AwsDecoder, AwsEncoder
from llmguard.dialects.framing_ndjson import NdjsonDecoder, NdjsonEncoder
from llmguard.dialects.framing_raw import LIMIT, Decoder, Encoder, Raw
from llmguard.dialects.framing_sse import SseDecoder, SseEncoder
from llmguard.dialects.wire import Framing
from llmguard.errors import ConfigurationError

__all__ = ["LIMIT", "Decoder", "Encoder", "Raw", "choose", "decoder", "encoder"]

_CODECS: Mapping[Framing, tuple[Callable[[int], Decoder], Callable[[], Encoder]]] = {
    Framing.SSE: (SseDecoder, SseEncoder),
    Framing.NDJSON: (NdjsonDecoder, NdjsonEncoder),
    Framing.AWS: (AwsDecoder, AwsEncoder),
    Framing.ARRAY: (ArrayDecoder, ArrayEncoder),
}
_TYPES: Mapping[str, Framing] = {
    "text/event-stream": Framing.SSE,
    "application/vnd.amazon.eventstream": Framing.AWS,
    "application/x-ndjson": Framing.NDJSON,
    "application/ndjson": Framing.NDJSON,
    "application/jsonl": Framing.NDJSON,
    "application/x-jsonlines": Framing.NDJSON,
    "application/jsonlines": Framing.NDJSON,
}


def choose(content_type: str, expected: Framing | None) -> Framing | None:
    """The framing of a response, or None where its body is one JSON value.

    A type that says neither is no reason to look away: clients that asked for a stream don't look at it either.

    Args:
        content_type: the header's value, or "".
        expected: what was asked for: the dialect's framing for a request that asks for a stream, `Framing.ARRAY` for
            Gemini without ``alt=sse``, otherwise None.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media in _TYPES:
        return _TYPES[media]
    if media == "application/json" or media.endswith("+json"):
        return expected if expected is Framing.ARRAY else None
    return expected


def decoder(kind: Framing, limit: int = LIMIT) -> Decoder:
    """What reads one stream.

    Args:
        kind: its framing.
        limit: bytes of one event, beyond which the stream is an error.

    Raises:
        ConfigurationError: the limit is less than one.
    """
    if limit < 1:
        raise ConfigurationError(f"an event can't be limited to {limit} bytes")
    return _CODECS[kind][0](limit)


def encoder(kind: Framing) -> Encoder:
    """What writes one stream."""
    return _CODECS[kind][1]()
