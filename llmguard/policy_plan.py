"""A policy as one stage needs it: which detectors run, and what a finding leads to, by one look-up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from llmguard.policy_check import deciders
from llmguard.types import Action, Role, Stage

if TYPE_CHECKING:
    from llmguard.policy import Rule

FailureMode = Literal["open", "closed"]
StreamMode = Literal["strict", "windowed", "observe"]

_Verdict = tuple[Action, "Rule | None"]
_Row = tuple[frozenset[Role] | None, float, _Verdict]
_NOTHING: _Verdict = (Action.ALLOW, None)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What one stage of a policy runs and decides. Made once, asked for every finding.

    Attributes:
        stage: which one.
        detectors: names of those that run, in the order of the rules. One that all rules allow does not run.
        thresholds: for each of them the lowest score that leads to more than allow.
        deadlines: for each of them milliseconds: of the first of its rules that says some, else the policy's.
        failures: for each of them what it leads to when it fails.
        streams: for each of them how a stream waits for it: as the most patient of its rules that change a text says,
            ``observe`` where none does.
    """

    stage: Stage
    detectors: tuple[str, ...]
    thresholds: Mapping[str, float]
    deadlines: Mapping[str, float]
    failures: Mapping[str, tuple[Action, FailureMode]]
    streams: Mapping[str, StreamMode]
    _named: Mapping[str, Mapping[str, tuple[_Row, ...]]] = field(repr=False)
    _others: Mapping[str, tuple[_Row, ...]] = field(repr=False)
    _redacting: frozenset[str] = field(repr=False)
    _ending: frozenset[str] = field(repr=False)

    def judge(self, detector: str, category: str, score: float, role: Role) -> tuple[Action, Rule | None]:
        """What the first rule that matches makes of a finding; allow and None when none does.

        Args:
            detector: who found it.
            category: what it is.
            score: how sure the detector is, in [0, 1].
            role: of the text that it was found in.
        """
        named = self._named.get(detector)
        if named is None:
            return _NOTHING
        rows = named.get(category)
        for roles, threshold, verdict in self._others[detector] if rows is None else rows:
            if score >= threshold and (roles is None or role in roles):
                return verdict
        return _NOTHING

    def failure(self, detector: str) -> tuple[Action, FailureMode]:
        """What it leads to that a detector could not say: allow when all of its rules are open.

        Otherwise it counts as if the strongest of its closed rules had fired. For a rule that redacts that is
        block, since nobody knows what to redact.
        """
        return self.failures[detector]

    def redacts(self, detector: str) -> bool:
        """Whether a finding of this detector may lead to redact."""
        return detector in self._redacting

    def ends(self, detector: str) -> bool:
        """Whether a finding of this detector may block, so that a stream may end with it."""
        return detector in self._ending


def planned(rules: Sequence[Rule], stage: Stage, deadline_ms: float) -> StagePlan:
    """The plan of one stage.

    A rule that earlier rules leave nothing to decide counts for nothing: neither its failure mode nor
    its deadline. So a policy can replace a rule of the one that it extends.

    Args:
        rules: of the whole policy, in the order in which they are read.
        stage: which one.
        deadline_ms: for detectors whose rules say none.
    """
    here = [rule for rule in rules if stage in rule.stage]
    by_detector: dict[str, list[Rule]] = {}
    for rule, earlier in zip(here, deciders(here, stage=stage), strict=True):
        if not earlier:
            by_detector.setdefault(rule.detector, []).append(rule)
    live = {
        name: found for name, found in by_detector.items() if any(rule.action is not Action.ALLOW for rule in found)
    }
    return StagePlan(
        stage,
        tuple(live),
        {name: min(r.threshold for r in found if r.action is not Action.ALLOW) for name, found in live.items()},
        {
            name: next((rule.deadline_ms for rule in found if rule.deadline_ms is not None), deadline_ms)
            for name, found in live.items()
        },
        {name: _failure(found) for name, found in live.items()},
        {name: _stream(found) for name, found in live.items()},
        {name: _by_category(found) for name, found in live.items()},
        {name: _rows(rule for rule in found if rule.categories is None) for name, found in live.items()},
        frozenset(name for name, found in live.items() if any(rule.action is Action.REDACT for rule in found)),
        frozenset(name for name, found in live.items() if any(_ends(rule) for rule in found)),
    )


def _failure(rules: Sequence[Rule]) -> tuple[Action, FailureMode]:
    closed = [rule.action for rule in rules if rule.on_failure == "closed"]
    if not closed:
        return Action.ALLOW, "open"
    strongest = max(closed, key=lambda action: action.severity)
    return (Action.BLOCK if strongest is Action.REDACT else strongest), "closed"


def _ends(rule: Rule) -> bool:
    return rule.action is Action.BLOCK and rule.stream != "observe"


def _stream(rules: Sequence[Rule]) -> StreamMode:
    modes = {rule.stream for rule in rules if rule.action.severity >= Action.REDACT.severity}
    return "strict" if "strict" in modes else "windowed" if "windowed" in modes else "observe"


def _by_category(rules: Sequence[Rule]) -> dict[str, tuple[_Row, ...]]:
    named = {category for rule in rules for category in rule.categories or ()}
    return {
        category: _rows(rule for rule in rules if rule.categories is None or category in rule.categories)
        for category in named
    }


def _rows(rules: Iterable[Rule]) -> tuple[_Row, ...]:
    return tuple(
        (None if rule.role is None else frozenset(rule.role), rule.threshold, (rule.action, rule)) for rule in rules
    )
