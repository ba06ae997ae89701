"""The nouns of llmguard: what is looked at, what was found, and what was decided.

This module imports the standard library alone, and everything else imports it. The values are
immutable. None of them shows content in its ``repr``: a decision may be logged, a prompt may not.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable


class Stage(enum.StrEnum):
    """When a text is looked at."""

    INPUT = "input"
    OUTPUT = "output"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    CONTEXT = "context"


class Role(enum.StrEnum):
    """Who a text comes from."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    RETRIEVAL = "retrieval"


class Action(enum.StrEnum):
    """What happens to a text, from the weakest to the strongest; ``severity`` orders them."""

    ALLOW = "allow"
    FLAG = "flag"
    REDACT = "redact"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        """0 for allow, 1 for flag, 2 for redact, 3 for block."""
        return _SEVERITY[self]


_SEVERITY = {Action.ALLOW: 0, Action.FLAG: 1, Action.REDACT: 2, Action.BLOCK: 3}


class Scope(enum.StrEnum):
    """How much of a text a detector must see before its findings are final."""

    SPAN = "span"
    SENTENCE = "sentence"
    DOCUMENT = "document"


class Outcome(enum.StrEnum):
    """How one detector's run ended.

    ``hit``: it found something that the policy does not just allow, as it does a score below the threshold. ``open``:
    its circuit breaker refused the run.
    """

    PASS = "pass"
    HIT = "hit"
    ERROR = "error"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Text:
    """One text of an exchange.

    Attributes:
        content: the text itself; hidden from ``repr``.
        role: who it comes from.
        path: where in the request it stands, as a JSON pointer such as ``/messages/0/content``.
    """

    content: str = field(repr=False)
    role: Role = Role.USER
    path: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a detector saw.

    Attributes:
        category: what it is, from the detector's closed set (``EMAIL_ADDRESS``).
        score: how sure the detector is, in [0, 1].
        span: half-open range of code points in the text, or None when it concerns all of it.
        detector: who saw it; filled in by the pipeline.
        reasons: why, in fixed words or rule ids. Never a part of the text.
        text: index of the text in the decision's ``texts``; filled in by the pipeline.
        action: what the policy made of it; filled in by the policy.
    """

    category: str
    score: float = 1.0
    span: tuple[int, int] | None = None
    detector: str = ""
    reasons: tuple[str, ...] = ()
    text: int = 0
    action: Action = Action.ALLOW


class DetectorRun(NamedTuple):
    """How one detector fared in one decision.

    Attributes:
        detector: its name.
        version: its version.
        outcome: how the run ended.
        started: seconds of ``time.perf_counter`` at its start.
        seconds: how long it took; 0.0 when it did not run.
        error: qualified name of the exception when ``outcome`` is error, else "".
        failure_mode: ``open`` or ``closed`` when it failed, else "".
    """

    detector: str
    version: str
    outcome: Outcome
    started: float = 0.0
    seconds: float = 0.0
    error: str = ""
    failure_mode: str = ""


class PolicyRef(NamedTuple):
    """Which policy decided: its name, its version and the hash of its canonical form."""

    name: str
    version: str
    hash: str


#: The outcomes of a detector that could not say.
FAILED = frozenset({Outcome.ERROR, Outcome.TIMEOUT, Outcome.OPEN})


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy decided about the texts of one check.

    Attributes:
        action: the strongest action that any finding or failure led to.
        texts: the texts as they may go on, in order; empty strings when blocked. Hidden from ``repr``.
        findings: everything found, each with the action the policy gave it.
        stage: when the texts were looked at.
        policy: which policy decided.
        enforced: False in shadow mode and outside the canary share; the texts are then the originals.
        coverage: for each text the share of it that was looked at, in [0, 1].
        runs: how each detector fared.
        seconds: how long the check took.
        modified: whether any text differs from what came in.
    """

    action: Action
    texts: tuple[str, ...] = field(repr=False)
    findings: tuple[Finding, ...]
    stage: Stage
    policy: PolicyRef
    enforced: bool = True
    coverage: tuple[float, ...] = ()
    runs: tuple[DetectorRun, ...] = ()
    seconds: float = 0.0
    modified: bool = False

    @property
    def text(self) -> str:
        """The one cleared text.

        Raises:
            ValueError: the decision is about more than one text; use ``texts``.
        """
        if len(self.texts) != 1:
            raise ValueError(f"this decision is about {len(self.texts)} texts: use decision.texts")
        return self.texts[0]

    @property
    def blocked(self) -> bool:
        """Whether the texts must not go on: the action is block and it is enforced."""
        return self.enforced and self.action is Action.BLOCK

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the detectors that could not say: they raised, timed out or are shut off."""
        return tuple(run.detector for run in self.runs if run.outcome in FAILED)

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds by detector, for those that ran."""
        return {run.detector: run.seconds for run in self.runs if run.outcome is not Outcome.SKIPPED}


@runtime_checkable
class Detector(Protocol):
    """Texts in, findings out.

    A detector is deterministic in each text alone, thread-safe and silent: it never touches
    telemetry, policy or threads. ``inline`` says that it runs in microseconds and linear time, so
    that the pipeline may call it on the caller's thread.
    """

    @property
    def name(self) -> str:
        """Its name in policies and telemetry."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever its findings may."""
        ...

    @property
    def scope(self) -> Scope:
        """How much of a text must be there before its findings are final."""
        ...

    @property
    def categories(self) -> frozenset[str]:
        """The closed set of categories that it can find."""
        ...

    @property
    def inline(self) -> bool:
        """Whether it may run on the caller's thread."""
        ...

    def detect(self, texts: Sequence[Text]) -> Sequence[Sequence[Finding]]:
        """Findings for each text, in the order of the texts; one list a text, empty when clean."""
        ...


@runtime_checkable
class Incremental(Protocol):
    """What a detector of scope span can say of a text that still grows, so that a stream need not wait for its end.

    Both are exact for every continuation of the text. A detector without them has its streams held back to their ends.
    """

    def settled(self, text: str) -> int:
        """Up to where the findings are final: those that start before it are the same whatever follows the text.

        Args:
            text: as far as it has come, or from `context` on.

        Returns:
            A place from 0 to the text's length. A finding that starts before it may end behind it.
        """
        ...

    def context(self, text: str, start: int) -> int:
        """From where a text must be looked at to find what starts at or after a place.

        Args:
            text: as far as it has come.
            start: a place in it that no finding reaches across.

        Returns:
            A place from 0 to ``start``. ``text[context:]``, whatever follows, has the same findings from ``start`` on
            as the whole text, and what is settled in it is settled in the whole text.
        """
        ...


@dataclass(frozen=True, slots=True)
class Observation:
    """What a monitor is told: of one check, or of one whole call.

    Attributes:
        decision: what was decided, or None where a call has ended.
        texts: what was looked at, as it came in; hidden from ``repr``. Empty where a call has ended.
        model: the model that was asked for, or "".
        prompt: name, version and variant of the prompt template, or three empty strings.
        cohort: the group that the caller counts the call to, by dimension (``{"plan": "free"}``).
        numbers: what was measured of a whole call, such as ``latency`` and ``time_to_first_chunk`` in seconds,
            ``input_tokens``, ``output_tokens`` and ``cost`` in dollars; only what is known.
        at: when, in seconds since 1970; 0.0 where nobody said.
        conversation: the id of the conversation, or "".
        tenant: whose call it is, or "".
        trace: the id of the trace, 32 hexadecimal digits, or "".
    """

    decision: Decision | None
    texts: tuple[Text, ...] = field(default=(), repr=False)
    model: str = ""
    prompt: tuple[str, str, str] = ("", "", "")
    cohort: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    at: float = 0.0
    conversation: str = ""
    tenant: str = ""
    trace: str = ""


@runtime_checkable
class Monitor(Protocol):
    """Watches what changes over many calls. Thread-safe, fast, and never keeps a text."""

    @property
    def name(self) -> str:
        """Its name in telemetry and alerts."""
        ...

    def observe(self, seen: Observation) -> None:
        """Take one observation into account; never raises for what it can't use."""
        ...
