"""What exporters are given: one check or one whole call, without any of its texts."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from llmguard.exporters import fields
from llmguard.exporters.fields import value
from llmguard.types import Action, Finding, Observation, Outcome, PolicyRef, Stage

CHECK, CALL = "check", "call"
OTHER = "other"
_NO_POLICY = PolicyRef("", "", "")
_PROMPT = ("name", "version", "variant")
_STAGES = tuple(stage.value for stage in Stage)
_ACTIONS = tuple(action.value for action in Action)
_OUTCOMES = tuple(outcome.value for outcome in Outcome)
_FAILURE_MODES = ("", "open", "closed")
# Callers may write anything where the name of a model is expected. What has white space, or is a person's address, is
# no name: the rule that spans and metrics have.
_is_name = re.compile(r"(?!.*\w@\w[\w-]*\.\w)[\w.:/@+~=|-]{1,128}", re.ASCII).fullmatch
_MAX_ID = 256
_MAX_REASONS = 16
_MAX_REASON = 128


class Found(NamedTuple):
    """One finding, without where it is.

    Attributes:
        detector: who saw it.
        category: what it is.
        score: how sure the detector is, in [0, 1].
        length: code points of its span, or None when it concerns all of the text.
        action: what the policy made of it.
        reasons: why, in the detector's fixed words or rule ids; at most 16.
    """

    detector: str
    category: str
    score: float
    length: int | None
    action: str
    reasons: tuple[str, ...]


class Ran(NamedTuple):
    """How one detector fared; the attributes are those of `DetectorRun`, without when it began."""

    detector: str
    version: str
    outcome: str
    seconds: float
    error: str
    failure_mode: str


@dataclass(frozen=True, slots=True)
class Record:
    """One check, or one whole call of a model. Holds no part of a text.

    Attributes:
        at: when, in nanoseconds since 1970.
        kind: ``check`` or ``call``.
        stage: when the texts were looked at; "" of a call.
        action: what was decided; "" of a call.
        enforced: whether the decision was; False of a call.
        policy: name, version and hash; empty strings of a call.
        findings: what was found.
        runs: how each detector fared.
        coverage: for each text the share of it that was looked at, in [0, 1].
        seconds: how long the check or the call took.
        modified: whether any text was changed.
        model: that was asked for, ``other`` when it looks like no name, or "".
        prompt: name, version and variant of the prompt template, or three empty strings.
        cohort: the group that it counts to, by dimension.
        tenant: whose it is, or "".
        conversation: the conversation's id, or ""; see `identifier`.
        trace: the trace's id, 32 hexadecimal digits, or "".
        numbers: what was measured of a call, by name; finite.
    """

    at: int
    kind: str
    stage: str = ""
    action: str = ""
    enforced: bool = False
    policy: PolicyRef = _NO_POLICY
    findings: tuple[Found, ...] = ()
    runs: tuple[Ran, ...] = ()
    coverage: tuple[float, ...] = ()
    seconds: float = 0.0
    modified: bool = False
    model: str = ""
    prompt: tuple[str, str, str] = ("", "", "")
    cohort: Mapping[str, str] = field(default_factory=dict)
    tenant: str = ""
    conversation: str = ""
    trace: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Exporter(Protocol):
    """Takes records somewhere; `Processor` decides when. Called by one thread at a time."""

    def export(self, batch: Sequence[Record]) -> None:
        """Take all of these records, or raise and take none: the processor brings them again, five times in all."""
        ...

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        """Have all that was exported where it belongs; False when that takes too long."""
        ...

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        """Flush, and let go of what is open; nothing is exported after it."""
        ...


def record(seen: Observation) -> Record:
    """The record of an observation; its texts are not looked at."""
    decision = seen.decision
    at = int(seen.at * 1e9) or time.time_ns()
    prompt = tuple(map(identifier, seen.prompt)) if any(seen.prompt) else ("", "", "")
    about: dict[str, Any] = {
        "model": (seen.model if _is_name(seen.model) else OTHER) if seen.model else "",
        "prompt": prompt,
        "cohort": {identifier(name): identifier(value) for name, value in seen.cohort.items()},
        "tenant": identifier(seen.tenant),
        "conversation": identifier(seen.conversation),
        "trace": seen.trace,
        "numbers": dict(_finite(seen.numbers)),
    }
    if decision is None:
        return Record(at, CALL, seconds=about["numbers"].get("latency", 0.0), **about)
    return Record(
        at,
        CHECK,
        decision.stage.value,
        decision.action.value,
        decision.enforced,
        decision.policy,
        tuple([_found(finding) for finding in decision.findings]),
        tuple(
            [
                Ran(run.detector, run.version, run.outcome.value, run.seconds, run.error, run.failure_mode)
                for run in decision.runs
            ]
        ),
        decision.coverage,
        decision.seconds,
        decision.modified,
        **about,
    )


def _finite(numbers: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for name, number in numbers.items():
        with suppress(OverflowError):  # what a server says it has counted may be larger than any float
            if math.isfinite(number):
                yield name, float(number)


def _found(finding: Finding) -> Found:
    length = finding.span[1] - finding.span[0] if finding.span is not None else None
    # Detectors of others may give anything, and what can't be encoded takes its whole batch with it.
    reasons = tuple([_encodable(reason[:_MAX_REASON]) for reason in finding.reasons[:_MAX_REASONS]])
    return Found(finding.detector, finding.category, finding.score, length, finding.action.value, reasons)


def identifier(text: str) -> str:
    """A caller's id as records hold it: broken Unicode replaced, and one of more than 256 characters as its SHA-256."""
    if len(text) > _MAX_ID:
        return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return _encodable(text)


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def as_dict(record: Record) -> dict[str, Any]:
    """A record as JSON values; always the same keys, in the same order."""
    return {
        "at": record.at,
        "kind": record.kind,
        "stage": record.stage,
        "action": record.action,
        "enforced": record.enforced,
        "policy": record.policy._asdict(),
        "findings": [{**found._asdict(), "reasons": list(found.reasons)} for found in record.findings],
        "runs": [ran._asdict() for ran in record.runs],
        "coverage": list(record.coverage),
        "seconds": record.seconds,
        "modified": record.modified,
        "model": record.model,
        "prompt": dict(zip(_PROMPT, record.prompt, strict=True)),
        "cohort": dict(record.cohort),
        "tenant": record.tenant,
        "conversation": record.conversation,
        "trace": record.trace,
        "numbers": dict(record.numbers),
    }


def from_dict(said: Mapping[str, Any]) -> Record:
    """The record of what `as_dict` gave; keys that it does not know are left out, so that old readers read new records.

    Raises:
        ValueError: a key is missing, or its value is none that `as_dict` gives; names the key, never the value.
    """
    if not isinstance(said, Mapping):
        raise ValueError("a record is a mapping")  # noqa: TRY004 - one error for all that is no record
    policy, prompt = (value(said, key, fields.mapping) for key in ("policy", "prompt"))
    return Record(
        value(said, "at", fields.whole),
        value(said, "kind", fields.one_of(CHECK, CALL)),
        value(said, "stage", fields.one_of("", *_STAGES)),
        value(said, "action", fields.one_of("", *_ACTIONS)),
        value(said, "enforced", fields.boolean),
        PolicyRef(*[value(policy, key, fields.text) for key in PolicyRef._fields]),
        value(said, "findings", fields.listed(_read_found)),
        value(said, "runs", fields.listed(_read_ran)),
        value(said, "coverage", fields.listed(fields.number)),
        value(said, "seconds", fields.number),
        value(said, "modified", fields.boolean),
        value(said, "model", fields.text),
        (
            value(prompt, "name", fields.text),
            value(prompt, "version", fields.text),
            value(prompt, "variant", fields.text),
        ),
        value(said, "cohort", fields.by_name(fields.text)),
        value(said, "tenant", fields.text),
        value(said, "conversation", fields.text),
        value(said, "trace", fields.text),
        value(said, "numbers", fields.by_name(fields.number)),
    )


def _read_found(said: Any) -> Found:
    said = fields.mapping(said)
    return Found(
        value(said, "detector", fields.text),
        value(said, "category", fields.text),
        value(said, "score", fields.number),
        value(said, "length", fields.maybe(fields.whole)),
        value(said, "action", fields.one_of(*_ACTIONS)),
        value(said, "reasons", fields.listed(fields.text)),
    )


def _read_ran(said: Any) -> Ran:
    said = fields.mapping(said)
    return Ran(
        value(said, "detector", fields.text),
        value(said, "version", fields.text),
        value(said, "outcome", fields.one_of(*_OUTCOMES)),
        value(said, "seconds", fields.number),
        value(said, "error", fields.text),
        value(said, "failure_mode", fields.one_of(*_FAILURE_MODES)),
    )
