"""Every name that llmguard puts into telemetry, in one place.

The GenAI names follow the OpenTelemetry semantic conventions 1.41, or their unreleased successor
when ``semconv = "latest"``; the conventions know no guardrail yet, so names about guarding are ours,
under ``llmguard.``. Which span, event and metric takes which of them stands in `signals`.
"""

from __future__ import annotations

from dataclasses import dataclass

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
MONITOR = "llmguard.monitor.name"
DRIFT_FEATURE = "llmguard.drift.feature"
DRIFT_STATISTIC = "llmguard.drift.statistic"
DRIFT_REFERENCE = "llmguard.drift.reference"
DRIFT_WINDOW = "llmguard.drift.window"
DRIFT_SCORE = "llmguard.drift.score.value"
DRIFT_P_VALUE = "llmguard.drift.p_value"
FAIRNESS_OUTCOME = "llmguard.fairness.outcome"
FAIRNESS_GROUP = "llmguard.fairness.group"
FAIRNESS_AGAINST = "llmguard.fairness.against"
FAIRNESS_WINDOW = "llmguard.fairness.window"
FAIRNESS_DISPARITY = "llmguard.fairness.disparity.value"
FAIRNESS_P_VALUE = "llmguard.fairness.p_value"
ALERT_SINK = "llmguard.alert.sink"
ALERT_OUTCOME = "llmguard.alert.outcome"
ALERT_SEVERITY = "llmguard.alert.severity"
ALERT_ATTEMPTS = "llmguard.alert.attempts"
DIALECT = "llmguard.dialect"
UNGUARDED_REASON = "llmguard.unguarded.reason"
UNGUARDED_OUTCOME = "llmguard.unguarded.outcome"

ERROR_TYPE = "error.type"
CONVERSATION = "gen_ai.conversation.id"
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - a kind of token, no password
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
EXCEPTION_TYPE = "exception.type"
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
EVENT_EXCEPTION = "gen_ai.client.operation.exception"
EVENT_GUARDRAIL = "gen_ai.guardrail.result"
EVENT_DRIFT = "llmguard.drift.detected"
EVENT_FAIRNESS = "llmguard.fairness.detected"
EVENT_DISPATCHED = "llmguard.alert.dispatched"

OTHER = "other"
NONE = "none"
# What OpenTelemetry says for an error.type that is in no closed set.
OTHER_ERROR = "_OTHER"
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


def operation_span(operation: str, model: str) -> str:
    """Name of the span of a call of the model."""
    return f"{operation} {model}" if model else operation
