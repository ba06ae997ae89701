"""Whether another instrumentation tells of a call of a model, so that nobody sees it twice."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace

from llmguard import semconv

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where the instrumentations of a client package live: OpenTelemetry's, old and new, OpenLLMetry's, OpenInference's.
_MODULES = (
    "opentelemetry.instrumentation.genai.{}",
    "opentelemetry.instrumentation.{}_v2",
    "opentelemetry.instrumentation.{}",
    "openinference.instrumentation.{}",
)
_INSTRUMENTOR = "opentelemetry.instrumentation.instrumentor"
# Set by opentelemetry-util-genai while an inference that it tells of is under way, sampled or not.
_INFERENCE_KEY = "opentelemetry.genai.client.inference.context"
# OpenLLMetry's and OpenInference's words for a call of a model.
_KINDS = {"llm.request.type": None, "openinference.span.kind": ("LLM", "EMBEDDING")}


def told_elsewhere(operation: str, client: str) -> bool:
    """Whether another instrumentation tells of a call that begins now; see `inside_inference` and `instrumented`."""
    return inside_inference(operation) or instrumented(client)


def instrumented(client: str) -> bool:
    """Whether an instrumentation of a client package is active in this process.

    Nothing is imported for the answer: what is active has been imported.

    Args:
        client: the import name of the package, as ``openai`` or ``google.genai``; "" for none.
    """
    base = getattr(sys.modules.get(_INSTRUMENTOR), "BaseInstrumentor", None)
    if not client or base is None:
        return False
    return any(_active(kind) for kind in _instrumentors(client, base))


def inside_inference(operation: str) -> bool:
    """Whether the current span is that of a call of a model, by this operation.

    Args:
        operation: ``gen_ai.operation.name``.
    """
    if context.get_value(_INFERENCE_KEY) is not None:
        return True
    said = getattr(trace.get_current_span(), "attributes", None)
    if not said:
        return False
    if said.get(semconv.OPERATION) == operation:
        return True
    return any(key in said and (kinds is None or said[key] in kinds) for key, kinds in _KINDS.items())


def _instrumentors(client: str, base: type) -> Iterator[type]:
    for pattern in _MODULES:
        module = sys.modules.get(pattern.format(client.replace(".", "_")))
        for value in list(vars(module).values()) if module is not None else ():
            if isinstance(value, type) and issubclass(value, base) and value is not base:
                yield value


def _active(kind: Any) -> bool:
    # An instrumentor is a singleton, made by __new__; calling the class would run its __init__ once more, which
    # overwrites its options in some.
    return bool(kind.__new__(kind).is_instrumented_by_opentelemetry)
