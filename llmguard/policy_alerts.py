"""The key ``alerts`` of a policy: when somebody is told, who, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import Discriminator, Field, Tag, ValidationError, WithJsonSchema, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from llmguard.errors import ConfigurationError, nearest
from llmguard.exporters.alerts.inhibition import Inhibition
from llmguard.exporters.alerts.matching import Matcher, matchers
from llmguard.exporters.alerts.rule import Burn, Rule
from llmguard.exporters.alerts.silences import Silence
from llmguard.exporters.alerts.sink_check import problems
from llmguard.exporters.alerts.sinks import KINDS
from llmguard.policy_rules import Actions, Categories, Positive, Stages, Strict, Switch, Word, Words

_SINKS = {
    "type": "object",
    "additionalProperties": {"type": "object", "properties": {"kind": {"enum": list(KINDS)}}, "required": ["kind"]},
}

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Seconds = Annotated[float, Field(strict=True, ge=0.0, allow_inf_nan=False)]
Window = Annotated[float, Field(strict=True, ge=1.0, le=2_678_400.0)]
Labels = dict[str, Word]


def _kind(value: object) -> str | None:
    if isinstance(value, list | tuple):
        return "list"
    return "labels" if isinstance(value, Mapping) else None


Conditions = Annotated[
    Annotated[Labels, Tag("labels")] | Annotated[tuple[Word, ...], Tag("list")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message="must be a mapping of labels to values, or a list such as ['team=~\"a|b\"']",
    ),
]


class Selection(Strict):
    """Which decisions, findings, runs of detectors, calls or readings of monitors; all that fit every key."""

    stage: Stages | None = Field(default=None, description="When the text was looked at.")
    action: Actions | None = Field(default=None, description="What was decided, or what became of a finding.")
    enforced: Switch | None = Field(default=None, description="Whether the decision counted.")
    policy: Categories | None = Field(default=None, description="Name of the policy that decided.")
    model: Categories | None = Field(default=None, description="That was asked for.")
    prompt: Categories | None = Field(default=None, description="Name of the prompt template.")
    prompt_version: Categories | None = Field(default=None, description="Version of the prompt template.")
    tenant: Categories | None = Field(default=None, description="Whose call it was.")
    detector: Categories | None = Field(default=None, description="Whose findings or runs.")
    category: Categories | None = Field(default=None, description="What was found.")
    outcome: Categories | None = Field(default=None, description="How a detector's run ended; kind fairness: of what.")
    monitor: Categories | None = Field(default=None, description="Kinds drift and fairness: name of the monitor.")
    feature: Categories | None = Field(default=None, description="Kind drift: what drifts.")
    statistic: Categories | None = Field(default=None, description="Kind drift: by which statistic.")
    reference: Categories | None = Field(default=None, description="Kind drift: from what.")
    group: Categories | None = Field(default=None, description="Kind fairness: the group of people.")

    def plain(self) -> dict[str, tuple[str, ...]]:
        """The labels that it names, and their values."""
        said = {key: value for key, value in self.said().items() if value is not None}
        return {
            key: (str(value).lower(),) if isinstance(value, bool) else tuple(map(str, value))
            for key, value in said.items()
        }


class BurnSettings(Strict):
    """How fast the errors that an objective allows are used up, over a long and a short window."""

    objective: Annotated[float, Field(strict=True, gt=0.0, lt=1.0)] = Field(description="Share that has to be right.")
    long_s: Window = Field(default=3600.0, description="Seconds.")
    short_s: Window = Field(default=300.0, description="Seconds.")
    factor: Positive = Field(default=14.4, description="How many times faster than the objective allows.")


class AlertRule(Strict):
    """When somebody is told of something."""

    alert: Word = Field(description="Its name, the label alertname.")
    kind: Literal["threshold", "rate", "ratio", "burn", "absence", "drift", "fairness"] = Field(
        default="threshold", description="What is looked at: a sum or quantile, one a second, a share, and so on."
    )
    of: Selection = Field(default=Selection(), description="What is counted; everything by default.")
    among: Selection | None = Field(default=None, description="Kinds ratio and burn: what it is a share of.")
    value: (
        Literal[
            "decisions",
            "findings",
            "runs",
            "calls",
            "cost",
            "input_tokens",
            "output_tokens",
            "latency",
            "time_to_first_chunk",
            "guard_duration",
            "detector_duration",
            "score",
        ]
        | None
    ) = Field(default=None, description="What is counted; by default what has the labels, else decisions.")
    quantile: Annotated[float, Field(strict=True, gt=0.0, lt=1.0)] | None = Field(
        default=None, description="Of durations and scores; 0.95 by default."
    )
    above: Number | None = Field(default=None, description="Tell when the value is more than that.")
    below: Number | None = Field(default=None, description="Tell when the value is less than that.")
    at_least: Annotated[int, Field(strict=True, ge=1)] = Field(
        default=1, description="Kinds ratio and burn: how many there must be to speak of a share."
    )
    window_s: Window = Field(default=300.0, description="Seconds that are looked back over.")
    burn: BurnSettings | None = Field(default=None, description="Kind burn: the objective and the windows.")
    for_s: Seconds = Field(default=0.0, description="Seconds that it has to last.")
    by: Words = Field(default=(), description="Labels, each value of which is looked at by itself.")
    severity: Literal["critical", "error", "warning", "info"] = Field(default="warning", description="How bad it is.")
    labels: Labels = Field(default={}, description="Further labels of its alerts.")
    runbook: str = Field(default="", description="An address for whoever is told.")
    summary: str = Field(default="", description="One line for them.")
    sinks: Words = Field(default=(), description="Names of those that are told; all by default.")

    @model_validator(mode="after")
    def _together(self) -> Self:
        try:
            _ = self.rule
        except ConfigurationError as error:
            key, colon, problem = error.message.partition(": ")
            path = tuple(key.split("."))
            if colon and path[0] in self.model_fields_set:
                if path[0] == "burn" and self.burn is not None and path[-1] not in self.burn.model_fields_set:
                    _refuse(("burn",), error.message)
                _refuse(path, problem)
            raise ValueError(error.message) from None
        return self

    @cached_property
    def rule(self) -> Rule:
        """The rule as it is evaluated."""
        said = self.said()
        said["of"] = self.of.plain()
        said["among"] = None if self.among is None else self.among.plain()
        said["burn"] = None if self.burn is None else Burn(**self.burn.said())
        said["value"] = self.value or ""
        return Rule(**said)


class InhibitRule(Strict):
    """Which alerts are not told while which others fire; as Alertmanager's ``inhibit_rules``."""

    source: Conditions = Field(description="Labels of what inhibits, as {severity: critical} or ['team=~\"a|b\"'].")
    target: Conditions = Field(description="Labels of what is not told meanwhile.")
    equal: Words = Field(default=(), description="Labels that both must have the same values of.")

    @model_validator(mode="after")
    def _together(self) -> Self:
        _ = self.inhibition
        return self

    @cached_property
    def inhibition(self) -> Inhibition:
        """The inhibition as it is applied."""
        try:
            return Inhibition(_conditions("source", self.source), _conditions("target", self.target), self.equal)
        except ConfigurationError as error:
            raise ValueError(error.message) from None


class SilenceRule(Strict):
    """Which alerts are not told for a while."""

    match: Conditions = Field(description="Labels of the alerts, as {alertname: Blocks} or ['team=~\"a|b\"'].")
    start: Word = Field(alias="from", description="When it begins, as in 2026-01-31T20:00Z.")
    until: Word = Field(description="When it ends.")
    reason: str = Field(default="", description="For people.")

    @field_validator("start", "until")
    @classmethod
    def _when(cls, value: str) -> str:
        _seconds(value)
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        _ = self.silence
        return self

    @cached_property
    def silence(self) -> Silence:
        """The silence as it is applied."""
        try:
            return Silence(_conditions("match", self.match), _seconds(self.start), _seconds(self.until), self.reason)
        except ConfigurationError as error:
            raise ValueError(error.message) from None


class AlertSettings(Strict):
    """When somebody is told of what the guard decides, who, and how often."""

    outbox: Word | None = Field(
        default=None, description="File of what is still to be told; by default one a policy in the state directory."
    )
    every_s: Annotated[float, Field(strict=True, ge=0.01, le=86_400.0)] = Field(
        default=10.0, description="Seconds between two looks at the rules."
    )
    group_by: Words = Field(default=("alertname",), description="Alerts that share these labels go out together.")
    group_wait_s: Seconds = Field(default=10.0, description="Seconds that a new group waits for more.")
    group_interval_s: Positive = Field(default=60.0, description="Seconds until a group that changed is told again.")
    repeat_s: Positive = Field(default=14_400.0, description="Seconds until a group that did not is told again.")
    rules: tuple[AlertRule, ...] = Field(default=(), description="When somebody is told.")
    inhibit: tuple[InhibitRule, ...] = Field(default=(), description="What is not told while something else is.")
    silences: tuple[SilenceRule, ...] = Field(default=(), description="What is not told for a while.")
    sinks: Annotated[dict[str, dict[str, Any]], WithJsonSchema(_SINKS)] = Field(
        default={}, repr=False, description="Who is told, by name."
    )

    @field_validator("sinks")
    @classmethod
    def _known(cls, sinks: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for path, problem in problems(sinks):
            _refuse(path, problem)
        return sinks

    @model_validator(mode="after")
    def _together(self) -> Self:
        seen: list[tuple[str, str, Mapping[str, str]]] = []
        for index, rule in enumerate(self.rules):
            for name in rule.sinks:
                if name not in self.sinks:
                    _refuse(("rules", index, "sinks"), f"there is no sink {name!r}{nearest(name, self.sinks)}")
            key = (rule.alert, rule.severity, rule.labels)
            if key in seen:
                _refuse(("rules", index, "alert"), f"{rule.alert!r} stands twice with the same severity and labels")
            seen.append(key)
        return self


def _refuse(path: tuple[str | int, ...], problem: str) -> NoReturn:
    """An error of a value below the one that is looked at."""
    error = PydanticCustomError("value_error", "{error}", {"error": problem})
    raise ValidationError.from_exception_data("alerts", [InitErrorDetails(type=error, loc=path, input=None)])


def _conditions(name: str, said: Labels | tuple[str, ...]) -> tuple[Matcher, ...]:
    try:
        return matchers(said)
    except ConfigurationError as error:
        _refuse((name,), error.message)


def _seconds(written: str) -> float:
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        raise ValueError(f"{written!r} is no date and time such as 2026-01-31T20:00Z") from None
    if at.tzinfo is None:
        raise ValueError(f"{written!r} needs its time zone, as 2026-01-31T20:00Z and 2026-01-31T20:00+01:00 have")
    return at.timestamp()
