"""Every span, event and metric that llmguard emits: when it is there, and what it says.

The tables of docs/telemetry.md are made from the rows of this module.
"""

from __future__ import annotations

from typing import NamedTuple

from llmguard import semconv as s


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
# As the conventions advise: 10 ms doubled up to 82 s, and powers of 4.
_CALL_SECONDS = tuple(round(0.01 * 2**step, 2) for step in range(14))
_TOKENS = tuple(4**step for step in range(14))
_PROMPT = (s.PROMPT_NAME, s.PROMPT_VERSION, s.PROMPT_VARIANT)

GUARD_DURATION = MetricRow(
    "llmguard.guard.duration", "histogram", "s", "How long a check took.", (s.STAGE, s.POLICY_ID, s.ACTION), _SECONDS
)
DETECTOR_DURATION = MetricRow(
    "llmguard.detector.duration",
    "histogram",
    "s",
    "How long a detector took in a check; 0 when it was skipped or its breaker is open.",
    (s.DETECTOR, s.STAGE, s.OUTCOME),
    _SECONDS,
)
DETECTOR_SCORE = MetricRow(
    "llmguard.detector.score",
    "histogram",
    "1",
    "The highest score that a detector gave in a check, where it found anything.",
    (s.DETECTOR, s.STAGE),
    _TWENTIETHS,
)
DECISIONS = MetricRow(
    "llmguard.decisions",
    "counter",
    "{decision}",
    "Checks, by what was decided.",
    (s.STAGE, s.ACTION, s.ENFORCED, s.POLICY_ID, s.REQUEST_MODEL, s.PROMPT_VERSION),
)
FINDINGS = MetricRow(
    "llmguard.findings",
    "counter",
    "{finding}",
    "Findings, by what the policy made of them.",
    (s.DETECTOR, s.CATEGORY, s.STAGE, s.ACTION),
)
STREAM_HELD = MetricRow(
    "llmguard.stream.held",
    "histogram",
    "s",
    "How much later than it came a piece of a stream went out.",
    (s.STAGE,),
    _SECONDS,
)
RELOADS = MetricRow(
    "llmguard.policy.reloads",
    "counter",
    "{reload}",
    "Hot reloads of a policy file; a broken new file keeps the old policy.",
    (s.RELOAD_OUTCOME, s.POLICY_ID),
)
ERRORS = MetricRow(
    "llmguard.telemetry.errors", "counter", "{error}", "Errors of llmguard's own telemetry.", (s.COMPONENT,)
)
UNGUARDED = MetricRow(
    "llmguard.requests.unguarded",
    "counter",
    "{request}",
    "Requests and answers that no wire format could read, by why (`route` `path` `socket` `body` `encoding` `size` "
    "`answer`) and by what became of them (`refused` `passed`); the format is `none` where even that is not known.",
    (s.UNGUARDED_REASON, s.UNGUARDED_OUTCOME, s.DIALECT),
)
BATCH_SIZE = MetricRow(
    "llmguard.batch.size",
    "histogram",
    "{window}",
    "Windows of text in one forward pass of a model.",
    (s.ENCODER,),
    _POWERS,
)
BATCH_QUEUE_DURATION = MetricRow(
    "llmguard.batch.queue.duration",
    "histogram",
    "s",
    "How long a window of text waited for its forward pass.",
    (s.ENCODER,),
    _SECONDS,
)
QUEUE_SIZE = MetricRow(
    "llmguard.queue.size", "updowncounter", "{window}", "Windows of text that wait for a model.", (s.ENCODER,)
)
DRIFT_SCORE = MetricRow(
    "llmguard.drift.score",
    "gauge",
    "1",
    "How far the last window of calls is from the reference, by each statistic that fits the feature.",
    (s.MONITOR, s.DRIFT_FEATURE, s.DRIFT_STATISTIC, s.DRIFT_REFERENCE),
)
FAIRNESS_DISPARITY = MetricRow(
    "llmguard.fairness.disparity",
    "gauge",
    "1",
    "How much more of an outcome a group of people gets than the others: the difference of rates or scores, and of "
    "lengths as a share of the others' mean.",
    (s.MONITOR, s.FAIRNESS_OUTCOME, s.FAIRNESS_GROUP),
)
GAUGES = (DRIFT_SCORE, FAIRNESS_DISPARITY)
_CALL = (s.OPERATION, s.PROVIDER, s.REQUEST_MODEL, s.SERVER_ADDRESS, s.SERVER_PORT)
CALL_DURATION = MetricRow(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "How long a call of the model took, without the checks.",
    (*_CALL, s.RESPONSE_MODEL, s.ERROR_TYPE),
    _CALL_SECONDS,
)
TIME_TO_FIRST_CHUNK = MetricRow(
    "gen_ai.client.operation.time_to_first_chunk",
    "histogram",
    "s",
    "How long the first chunk of a stream took.",
    _CALL,
    _CALL_SECONDS,
)
TIME_PER_OUTPUT_CHUNK = MetricRow(
    "gen_ai.client.operation.time_per_output_chunk",
    "histogram",
    "s",
    "How long each further chunk of a stream took, from the one before it.",
    _CALL,
    _CALL_SECONDS,
)
TOKEN_USAGE = MetricRow(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Tokens of a call, where the provider counted them.",
    (*_CALL, s.RESPONSE_MODEL, s.TOKEN_TYPE),
    _TOKENS,
)
COST = MetricRow(
    "llmguard.cost",
    "counter",
    "{USD}",
    "What calls cost by the price table, where it has the model and the provider counted the tokens.",
    (s.REQUEST_MODEL, s.PROMPT_VERSION),
)
_DISPATCHED = (s.ALERT_SINK, s.ALERT_OUTCOME, s.ALERT_SEVERITY)
ALERTS = MetricRow(
    "llmguard.alerts",
    "counter",
    "{attempt}",
    "Attempts to deliver a message about alerts, by what became of it (`delivered` `retry` `refused` `gone` "
    "`expired`), and messages that had to make room for newer ones (`dropped`).",
    _DISPATCHED,
)
ALERT_DURATION = MetricRow(
    "llmguard.alert.delivery.duration",
    "histogram",
    "s",
    "How long an attempt to deliver a message about alerts took.",
    _DISPATCHED,
    _CALL_SECONDS,
)
_SHARES = tuple(round(step * 0.05, 2) for step in range(21))
TOKEN_ENTROPY = MetricRow(
    "llmguard.tokens.entropy",
    "histogram",
    "bit",
    "Shannon entropy of the characters of a cleared text, its first 2,048; of at most 100 texts a second.",
    (s.STAGE,),
    tuple(step * 0.5 for step in range(1, 17)),
)
TOKEN_REPETITION = MetricRow(
    "llmguard.tokens.repetition",
    "histogram",
    "1",
    "Share of the runs of three words of a cleared text, its first 2,048 characters, that stood in it before; "
    "of at most 100 texts a second.",
    (s.STAGE,),
    _SHARES,
)
TOKEN_VARIETY = MetricRow(
    "llmguard.tokens.type_token_ratio",
    "histogram",
    "1",
    "Distinct words by words of a cleared text, its first 2,048 characters; of at most 100 texts a second.",
    (s.STAGE,),
    _SHARES,
)
METRICS = (
    *(GUARD_DURATION, DETECTOR_DURATION, DETECTOR_SCORE, DECISIONS, FINDINGS, STREAM_HELD, UNGUARDED, RELOADS, ERRORS),
    *(BATCH_SIZE, BATCH_QUEUE_DURATION, QUEUE_SIZE),
    *GAUGES,
    *(TOKEN_ENTROPY, TOKEN_REPETITION, TOKEN_VARIETY),
    *(CALL_DURATION, TIME_TO_FIRST_CHUNK, TIME_PER_OUTPUT_CHUNK, TOKEN_USAGE, COST),
    *(ALERTS, ALERT_DURATION),
)

_ASKED = (s.OPERATION, s.PROVIDER, s.REQUEST_MODEL, s.REQUEST_STREAM, s.SERVER_ADDRESS, s.SERVER_PORT)
_ANSWERED = (
    *(s.RESPONSE_ID, s.RESPONSE_MODEL, s.FINISH_REASONS, s.TIME_TO_FIRST_CHUNK),
    *(s.INPUT_TOKENS, s.OUTPUT_TOKENS, s.CACHED_TOKENS, s.REASONING_TOKENS, s.ERROR_TYPE),
)
SPANS = (
    SpanRow(
        "llmguard.guard {stage}",
        "INTERNAL",
        "one a check, also when it blocked, failed or was given up",
        (
            *(
                s.STAGE,
                s.POLICY_ID,
                s.POLICY_VERSION,
                s.STREAMING,
                s.CONVERSATION,
                s.ACTION,
                s.ENFORCED,
                s.MODIFIED,
                s.COVERAGE,
            ),
            *(
                s.DETECTORS_RUN,
                s.DETECTORS_FAILED,
                s.FINDINGS_DROPPED,
                s.REQUEST_MODEL,
                *_PROMPT,
                s.CONTENT_HASH,
                s.ERROR_TYPE,
            ),
            *(s.INPUT_MESSAGES, s.OUTPUT_MESSAGES, s.OPENINFERENCE_KIND),
        ),
    ),
    SpanRow(
        "llmguard.detect {detector}",
        "INTERNAL",
        "opt-in (`detect_spans`): one a detector that ran",
        (s.DETECTOR, s.DETECTOR_VERSION, s.THRESHOLD, s.OUTCOME, s.SCORE, s.STAGE, s.FAILURE_MODE, s.ERROR_TYPE),
    ),
    SpanRow(
        "{gen_ai.operation.name} {gen_ai.request.model}",
        "CLIENT, or INTERNAL for a model in the process",
        "one a call of the model, where nobody else makes it (`inference_span`)",
        (*_ASKED, s.CONVERSATION, *_PROMPT, *_ANSWERED, s.INPUT_MESSAGES, s.OUTPUT_MESSAGES),
    ),
)
EVENTS = (
    EventRow(
        s.EVENT_FINDING,
        "WARN",
        "one a finding that the policy acts on, at most 128 a check, the strongest first",
        (
            *(
                s.DETECTOR,
                s.DETECTOR_VERSION,
                s.THRESHOLD,
                s.CATEGORY,
                s.SCORE,
                s.ACTION,
                s.ENFORCED,
                s.POLICY_ID,
                s.POLICY_VERSION,
            ),
            *(s.STAGE, s.FINDING_LENGTH),
        ),
    ),
    EventRow(
        s.EVENT_FAILURE,
        "ERROR",
        "a detector raised, timed out or its breaker is open",
        (
            s.DETECTOR,
            s.DETECTOR_VERSION,
            s.OUTCOME,
            s.ERROR_TYPE,
            s.FAILURE_MODE,
            s.POLICY_ID,
            s.POLICY_VERSION,
            s.STAGE,
        ),
    ),
    EventRow(
        s.EVENT_EVALUATION,
        "INFO",
        "one a detector that found something in an output",
        (s.EVALUATION_NAME, s.EVALUATION_SCORE, s.EVALUATION_LABEL),
    ),
    EventRow(
        s.EVENT_CONTENT,
        "DEBUG",
        "content capture `EVENT_ONLY` or `SPAN_AND_EVENT`: the cleared texts of a check (operation `guard`), or a call",
        (*_ASKED, s.STAGE, s.CONVERSATION, *_PROMPT, *_ANSWERED, s.INPUT_MESSAGES, s.OUTPUT_MESSAGES),
    ),
    EventRow(
        s.EVENT_EXCEPTION,
        "WARN",
        "a call of the model failed",
        (s.EXCEPTION_TYPE, s.OPERATION, s.PROVIDER, s.REQUEST_MODEL, s.SERVER_ADDRESS, s.SERVER_PORT),
    ),
    EventRow(
        s.EVENT_GUARDRAIL,
        "INFO",
        '`semconv_guardrail = "experimental"`: one a check',
        (
            *(s.GUARDRAIL_COMPONENT, s.GUARDRAIL_RESULT_TYPE, s.GUARDRAIL_RESULT_VALUE, s.GUARDRAIL_SOURCE),
            *(s.GUARDRAIL_POLICY_ID, s.GUARDRAIL_POLICY_VERSION),
        ),
    ),
    EventRow(
        s.EVENT_DRIFT,
        "WARN",
        "a `DriftMonitor` finds that a feature is no longer as in the reference",
        (
            *(s.MONITOR, s.DRIFT_FEATURE, s.DRIFT_STATISTIC, s.DRIFT_SCORE, s.DRIFT_P_VALUE, s.DRIFT_REFERENCE),
            s.DRIFT_WINDOW,
        ),
    ),
    EventRow(
        s.EVENT_FAIRNESS,
        "WARN, or INFO when it is over",
        "a `FairnessMonitor` finds that a group of people gets much more or much less of an outcome than the others",
        (
            *(s.MONITOR, s.FAIRNESS_OUTCOME, s.FAIRNESS_GROUP, s.FAIRNESS_AGAINST, s.FAIRNESS_DISPARITY),
            *(s.FAIRNESS_P_VALUE, s.FAIRNESS_WINDOW),
        ),
    ),
    EventRow(
        s.EVENT_DISPATCHED,
        "INFO, or WARN when it was not delivered",
        "a message about alerts was tried at a receiver, or had to make room for newer ones",
        (*_DISPATCHED, s.ALERT_ATTEMPTS),
    ),
    EventRow(
        s.EVENT_RELOAD,
        "INFO, or WARN when it failed",
        "a policy file changed",
        (s.RELOAD_OUTCOME, s.POLICY_ID, s.POLICY_VERSION, s.ERROR_TYPE),
    ),
)
