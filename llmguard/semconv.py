"""Every name that llmguard puts into telemetry, in one place.

The GenAI names follow the OpenTelemetry semantic conventions 1.41, or their unreleased successor
when ``semconv = "latest"``; the conventions know no guardrail yet, so names about guarding are ours,
under ``llmguard.``. The tables of docs/telemetry.md are made from the rows at the end of this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from llmguard.types import Stage

SCOPE = "llmguard"

STAGE = "llmguard.stage"
POLICY_ID = "llmguard.policy.id"
POLICY_VERSION = "llmguard.policy.version"
ACTION = "llmguard.action"
ENFORCED = "llmguard.action.enforced"
MODIFIED = "llmguard.content.modified"
CONTENT_HASH = "llmguard.content.hash"
COVERAGE = "llmguard.coverage"
DETECTORS_RUN = "llmguard.detectors.run"
DETECTORS_FAILED = "llmguard.detectors.failed"
STREAMING = "llmguard.streaming"
DETECTOR = "llmguard.detector.name"
DETECTOR_VERSION = "llmguard.detector.version"
THRESHOLD = "llmguard.detector.threshold"
OUTCOME = "llmguard.detector.outcome"
FAILURE_MODE = "llmguard.failure_mode"
CATEGORY = "llmguard.category"
SCORE = "llmguard.score"
FINDING_LENGTH = "llmguard.finding.length"
FINDINGS_DROPPED = "llmguard.findings.dropped"
PROMPT_NAME = "llmguard.prompt.name"
PROMPT_VERSION = "llmguard.prompt.version"
PROMPT_VARIANT = "llmguard.prompt.variant"
RELOAD_OUTCOME = "llmguard.policy.reload.outcome"
COMPONENT = "llmguard.component"
ENCODER = "llmguard.encoder.name"

ERROR_TYPE = "error.type"
CONVERSATION = "gen_ai.conversation.id"
REQUEST_MODEL = "gen_ai.request.model"
OPERATION = "gen_ai.operation.name"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE = "gen_ai.evaluation.score.value"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"
OPENINFERENCE_KIND = "openinference.span.kind"
OPENINFERENCE_GUARDRAIL = "GUARDRAIL"

# The attributes of the event in semantic-conventions-genai #427, which is a proposal and may change.
GUARDRAIL_COMPONENT = "gen_ai.guardrail.component.name"
GUARDRAIL_RESULT_TYPE = "gen_ai.guardrail.result.type"
GUARDRAIL_RESULT_VALUE = "gen_ai.guardrail.result.value"
GUARDRAIL_SOURCE = "gen_ai.guardrail.source"
GUARDRAIL_POLICY_ID = "gen_ai.guardrail.policy.id"
GUARDRAIL_POLICY_VERSION = "gen_ai.guardrail.policy.version"

EVENT_FINDING = "llmguard.finding"
EVENT_FAILURE = "llmguard.detector.failure"
EVENT_RELOAD = "llmguard.policy.reload"
EVENT_EVALUATION = "gen_ai.evaluation.result"
EVENT_CONTENT = "gen_ai.client.inference.operation.details"
EVENT_GUARDRAIL = "gen_ai.guardrail.result"

OTHER = "other"
ABANDONED = "abandoned"
GUARD_OPERATION = "guard"

CONTENT_ENV = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CONTENT_MODES = ("NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT")

# Where instrumentations put prompts and answers, as shell patterns: the conventions, OpenLLMetry,
# OpenInference, and what an exception says (its message may quote the prompt).
CONTENT_KEYS = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.definitions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.retrieval.query.text",
    "gen_ai.retrieval.documents",
    "gen_ai.evaluation.explanation",
    "gen_ai.prompt.variable.*",
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.event.content",
    "gen_ai.prompt.*.content",
    "gen_ai.prompt.*.tool_calls.*.arguments",
    "gen_ai.completion.*.content",
    "gen_ai.completion.*.tool_calls.*.arguments",
    "llm.request.functions.*.description",
    "traceloop.entity.input",
    "traceloop.entity.output",
    "traceloop.prompt.template_variables",
    "input.value",
    "output.value",
    "llm.*_messages.*",
    "llm.prompts",
    "llm.prompts.*",
    "llm.prompt_template.*",
    "llm.function_call",
    "embedding.text",
    "embedding.embeddings.*.embedding.text",
    "retrieval.documents.*",
    "reranker.query",
    "reranker.*_documents.*",
    "tool.parameters",
    "tool_call.function.arguments",
    "message.content*",
    "message.contents.*",
    "content",
    "exception.message",
    "exception.stacktrace",
)


@dataclass(frozen=True, slots=True)
class Convention:
    """What differs between two versions of the GenAI conventions.

    Attributes:
        schema_url: of the instrumentation scope; "" where none is published.
        prompt_name: further attribute that takes the prompt's name, or "".
        prompt_version: further attribute that takes the prompt's version, or "".
        finish_reason: value for an output message, whose schema demands one up to 1.41; "" leaves it out.
    """

    schema_url: str
    prompt_name: str
    prompt_version: str
    finish_reason: str


CONVENTIONS = {
    "v1.41": Convention("https://opentelemetry.io/schemas/1.41.0", "", "", "unknown"),
    "latest": Convention("", "gen_ai.prompt.name", "gen_ai.prompt.version", ""),
}


def guard_span(stage: Stage) -> str:
    """Name of the span of one check."""
    return f"llmguard.guard {stage.value}"


def detect_span(detector: str) -> str:
    """Name of the opt-in span of one detector's run."""
    return f"llmguard.detect {detector}"


class SpanRow(NamedTuple):
    """A span: its name, its kind, when it is there, and its attributes."""

    name: str
    kind: str
    when: str
    attributes: tuple[str, ...]


class EventRow(NamedTuple):
    """A log record with an event name: its severity, when it is there, and its attributes."""

    name: str
    severity: str
    when: str
    attributes: tuple[str, ...]


class MetricRow(NamedTuple):
    """An instrument: its kind, unit, meaning, attributes and bucket boundaries (histograms only)."""

    name: str
    kind: str
    unit: str
    description: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] = ()


_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_TWENTIETHS = tuple(round(step * 0.05, 2) for step in range(1, 21))
_POWERS = (1, 2, 4, 8, 16, 32, 64, 128)
_PROMPT = (PROMPT_NAME, PROMPT_VERSION, PROMPT_VARIANT)

GUARD_DURATION = MetricRow(
    "llmguard.guard.duration", "histogram", "s", "How long a check took.", (STAGE, POLICY_ID, ACTION), _SECONDS
)
DETECTOR_DURATION = MetricRow(
    "llmguard.detector.duration",
    "histogram",
    "s",
    "How long a detector took in a check; 0 when it was skipped or its breaker is open.",
    (DETECTOR, STAGE, OUTCOME),
    _SECONDS,
)
DETECTOR_SCORE = MetricRow(
    "llmguard.detector.score",
    "histogram",
    "1",
    "The highest score that a detector gave in a check, where it found anything.",
    (DETECTOR, STAGE),
    _TWENTIETHS,
)
DECISIONS = MetricRow(
    "llmguard.decisions",
    "counter",
    "{decision}",
    "Checks, by what was decided.",
    (STAGE, ACTION, ENFORCED, POLICY_ID, REQUEST_MODEL, PROMPT_VERSION),
)
FINDINGS = MetricRow(
    "llmguard.findings",
    "counter",
    "{finding}",
    "Findings, by what the policy made of them.",
    (DETECTOR, CATEGORY, STAGE, ACTION),
)
STREAM_HELD = MetricRow(
    "llmguard.stream.held",
    "histogram",
    "s",
    "How much later than it came a piece of a stream went out.",
    (STAGE,),
    _SECONDS,
)
RELOADS = MetricRow(
    "llmguard.policy.reloads",
    "counter",
    "{reload}",
    "Hot reloads of a policy file; a broken new file keeps the old policy.",
    (RELOAD_OUTCOME, POLICY_ID),
)
ERRORS = MetricRow(
    "llmguard.telemetry.errors", "counter", "{error}", "Errors of llmguard's own telemetry.", (COMPONENT,)
)
BATCH_SIZE = MetricRow(
    "llmguard.batch.size",
    "histogram",
    "{window}",
    "Windows of text in one forward pass of a model.",
    (ENCODER,),
    _POWERS,
)
BATCH_QUEUE_DURATION = MetricRow(
    "llmguard.batch.queue.duration",
    "histogram",
    "s",
    "How long a window of text waited for its forward pass.",
    (ENCODER,),
    _SECONDS,
)
QUEUE_SIZE = MetricRow(
    "llmguard.queue.size", "updowncounter", "{window}", "Windows of text that wait for a model.", (ENCODER,)
)
METRICS = (
    *(GUARD_DURATION, DETECTOR_DURATION, DETECTOR_SCORE, DECISIONS, FINDINGS, STREAM_HELD, RELOADS, ERRORS),
    *(BATCH_SIZE, BATCH_QUEUE_DURATION, QUEUE_SIZE),
)

SPANS = (
    SpanRow(
        "llmguard.guard {stage}",
        "INTERNAL",
        "one a check, also when it blocked, failed or was given up",
        (
            *(STAGE, POLICY_ID, POLICY_VERSION, STREAMING, CONVERSATION, ACTION, ENFORCED, MODIFIED, COVERAGE),
            *(DETECTORS_RUN, DETECTORS_FAILED, FINDINGS_DROPPED, REQUEST_MODEL, *_PROMPT, CONTENT_HASH, ERROR_TYPE),
            *(INPUT_MESSAGES, OUTPUT_MESSAGES, OPENINFERENCE_KIND),
        ),
    ),
    SpanRow(
        "llmguard.detect {detector}",
        "INTERNAL",
        "opt-in (`detect_spans`): one a detector that ran",
        (DETECTOR, DETECTOR_VERSION, THRESHOLD, OUTCOME, SCORE, STAGE, FAILURE_MODE, ERROR_TYPE),
    ),
)
EVENTS = (
    EventRow(
        EVENT_FINDING,
        "WARN",
        "one a finding that the policy acts on, at most 128 a check, the strongest first",
        (
            *(DETECTOR, DETECTOR_VERSION, THRESHOLD, CATEGORY, SCORE, ACTION, ENFORCED, POLICY_ID, POLICY_VERSION),
            *(STAGE, FINDING_LENGTH),
        ),
    ),
    EventRow(
        EVENT_FAILURE,
        "ERROR",
        "a detector raised, timed out or its breaker is open",
        (DETECTOR, DETECTOR_VERSION, OUTCOME, ERROR_TYPE, FAILURE_MODE, POLICY_ID, POLICY_VERSION, STAGE),
    ),
    EventRow(
        EVENT_EVALUATION,
        "INFO",
        "one a detector that found something in an output",
        (EVALUATION_NAME, EVALUATION_SCORE, EVALUATION_LABEL),
    ),
    EventRow(
        EVENT_CONTENT,
        "DEBUG",
        "content capture `EVENT_ONLY` or `SPAN_AND_EVENT`: the cleared texts",
        (OPERATION, STAGE, REQUEST_MODEL, INPUT_MESSAGES, OUTPUT_MESSAGES),
    ),
    EventRow(
        EVENT_GUARDRAIL,
        "INFO",
        '`semconv_guardrail = "experimental"`: one a check',
        (
            *(GUARDRAIL_COMPONENT, GUARDRAIL_RESULT_TYPE, GUARDRAIL_RESULT_VALUE, GUARDRAIL_SOURCE),
            *(GUARDRAIL_POLICY_ID, GUARDRAIL_POLICY_VERSION),
        ),
    ),
    EventRow(
        EVENT_RELOAD,
        "INFO, or WARN when it failed",
        "a policy file changed",
        (RELOAD_OUTCOME, POLICY_ID, POLICY_VERSION, ERROR_TYPE),
    ),
)
