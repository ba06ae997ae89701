"""One check, from its texts to its decisions: what happens before the detectors run, and after.

Sans-I/O but for two thin edges: `Check.wait` and `Check.wait_async`.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llmguard.conversation import Conversation, Judged, Key
from llmguard.monitors import NOBODY, whose
from llmguard.pipeline import Pipeline
from llmguard.policy import Policy, Rule
from llmguard.redaction import Redaction, redact
from llmguard.running import Verdict
from llmguard.telemetry import Prompt, Telemetry
from llmguard.types import FAILED, Action, Decision, Finding, Outcome, PolicyRef, Stage, Text
from llmguard.vault import Vault

_SURROGATE = re.compile("[\ud800-\udfff]")
# What the model itself wrote is not the user's own: it stays redacted when answers are restored.
_OF_THE_MODEL = frozenset({Stage.OUTPUT, Stage.TOOL_CALL})


class Setting(NamedTuple):
    """Everything that changes together when a policy is loaded; replaced as a whole."""

    policy: Policy
    ref: PolicyRef
    pipeline: Pipeline
    thresholds: Mapping[Stage, Mapping[str, float]]


class About(NamedTuple):
    """What belongs to a check beside its texts.

    Attributes:
        model: that they go to or come from, or "".
        uncovered: how many parts of the request or the answer no detector can read, such as images: each counts as a
            text of which nothing was looked at, behind the others in the decision's ``coverage``.
        beside: documents that the texts must keep to; only detectors that compare texts are shown them.
        answered: whether the texts stand in an answer, whatever their stage: what is taken out of them is not put back
            where the model says it again.
    """

    model: str = ""
    uncovered: int = 0
    beside: tuple[Text, ...] = ()
    answered: bool = False


NOTHING_MORE = About()


class Check:
    """The texts of one or more decisions on their way through the detectors.

    Args:
        setting: the policy and its pipeline.
        telemetry: what is told of it.
        vault: where placeholders are kept.
        stage: when the texts are looked at.
        groups: the texts of one decision each.
        conversation: what they belong to, if anything.
        prompt: the prompt template they came from, if any.
        about: what belongs to it beside its texts.
    """

    __slots__ = (
        "_about",
        "_conversation",
        "_groups",
        "_known",
        "_prompt",
        "_run",
        "_setting",
        "_spans",
        "_stage",
        "_started",
        "_telemetry",
        "_vault",
        "_whose",
    )

    def __init__(
        self,
        setting: Setting,
        telemetry: Telemetry,
        vault: Vault,
        stage: Stage,
        groups: Sequence[Sequence[Text]],
        conversation: Conversation | None,
        prompt: Prompt | None,
        about: About = NOTHING_MORE,
    ) -> None:
        self._started = time.perf_counter()
        self._about = about
        self._setting = setting
        self._telemetry = telemetry
        self._vault = vault
        self._stage = stage
        self._groups = groups
        self._conversation = conversation
        self._prompt = prompt
        named = conversation.name if conversation is not None and not conversation.passing else None
        self._whose = NOBODY if telemetry.monitors is None else whose(named)
        self._spans = [telemetry.begin(stage, setting.ref, conversation=named) for _ in groups]
        self._known: list[list[tuple[Key, Judged | None]]] | None = None
        if conversation is not None and conversation.entries and not setting.pipeline.together(stage):
            self._known = [[self._recall(conversation, text) for text in group] for group in groups]
            groups = [
                [text for text, (_, judged) in zip(group, known, strict=True) if judged is None]
                for group, known in zip(groups, self._known, strict=True)
            ]
        if about.beside and setting.pipeline.together(stage):
            groups = [[*group, *about.beside] if group else group for group in groups]
        try:
            self._run = setting.pipeline.start(stage, [_well_formed(group) for group in groups])
        except BaseException as error:
            self.abandon(error)
            raise

    def _recall(self, conversation: Conversation, text: Text) -> tuple[Key, Judged | None]:
        key = conversation.key(self._stage, text)
        return key, conversation.recall(self._setting.ref.hash, key)

    @property
    def pending(self) -> bool:
        """Whether detectors still run."""
        return self._run.pending

    @property
    def blocked(self) -> bool:
        """Whether what is known so far blocks the first group."""
        return self._action(0) is Action.BLOCK and self._enforced(self._groups[0])

    def wait(self) -> None:
        """Block until every detector has answered or its deadline has passed."""
        try:
            self._run.wait()
        except BaseException as error:
            self.abandon(error)
            raise

    async def wait_async(self) -> None:
        """`wait`, on an event loop."""
        try:
            await self._run.wait_async()
        except BaseException as error:
            self.abandon(error)
            raise

    def preview(self) -> tuple[str, ...]:
        """The first group's texts, cleared by what is known so far; the empty string for each when blocked."""
        group = self._groups[0]
        originals = tuple([text.content for text in group])
        return self._cleared(group, originals, self._merged(0), self._enforced(group))

    def finish(self) -> list[Decision]:
        """The decisions, one a group, in order; each is told to telemetry once."""
        setting, stage, decisions = self._setting, self._stage, []
        for index, group in enumerate(self._groups):
            verdict = self._merged(index)
            enforced = self._enforced(group)
            originals = tuple([text.content for text in group])
            texts = self._cleared(group, originals, verdict, enforced)
            decision = Decision(
                verdict.action,
                texts,
                tuple(verdict.findings),
                stage,
                setting.ref,
                enforced,
                (verdict.coverage,) * len(group) + (0.0,) * self._about.uncovered,
                tuple(verdict.runs),
                time.perf_counter() - self._started,
                texts != originals,
            )
            decisions.append(decision)
            self._telemetry.end(
                self._spans[index],
                decision,
                thresholds=setting.thresholds[stage],
                roles=tuple([text.role for text in group]),
                model=self._about.model or None,
                prompt=self._prompt,
            )
            if (monitors := self._telemetry.monitors) is not None:
                monitors.check(decision, group, self._about.model, self._prompt, self._whose, self._spans[index])
        self._spans = []
        return decisions

    def abandon(self, error: BaseException | None = None) -> None:
        """The caller has gone: stop waiting, and end the spans; nothing happens when it is finished."""
        if self._spans:
            if hasattr(self, "_run"):
                self._run.cancel()
            for span in self._spans:
                self._telemetry.abandon(span, error)
            self._spans = []

    def _action(self, index: int) -> Action:
        action = self._of_its_own(index).action
        for _, judged in self._known[index] if self._known else ():
            for finding, _ in judged or ():
                if finding.action.severity > action.severity:
                    action = finding.action
        return action

    def _enforced(self, group: Sequence[Text]) -> bool:
        mode = self._setting.policy.mode
        if isinstance(mode, str):
            return mode == "enforce"
        if self._conversation is not None:  # also one that lasts for a call: its checks are on one side together
            return self._setting.policy.enforced(self._conversation.name)
        return self._setting.policy.enforced("\0".join([text.content for text in group]))

    def _merged(self, index: int) -> Verdict:
        """What the detectors said now, joined with what is remembered of the texts that they were spared."""
        verdict = self._of_its_own(index)
        if self._known is None:
            return verdict
        conversation, known = self._conversation, self._known[index]
        assert conversation is not None  # noqa: S101 - known is only there with one
        fresh: list[list[tuple[Finding, Rule | None]]] = [[] for _ in verdict.texts]
        for finding, rule in zip(verdict.findings, verdict.rules, strict=True):
            fresh[finding.text].append((finding, rule))
        whole = not verdict.failed and not any(run.outcome is Outcome.SKIPPED for run in verdict.runs)
        merged = Verdict(self._groups[index], verdict.planned, action=self._action(index), failed=verdict.failed)
        merged.runs = verdict.runs
        position = 0
        for at, (key, judged) in enumerate(known):
            if judged is None:
                judged = tuple(fresh[position])
                position += 1
                if whole and not self._run.pending:
                    conversation.remember(self._setting.ref.hash, key, judged)
            for finding, rule in judged:
                merged.findings.append(
                    Finding(
                        finding.category,
                        finding.score,
                        finding.span,
                        finding.detector,
                        finding.reasons,
                        at,
                        finding.action,
                    )
                )
                merged.rules.append(rule)
        return merged

    def _of_its_own(self, index: int) -> Verdict:
        """The verdict without what was found in the documents beside the texts."""
        verdict, own = self._run.verdicts[index], len(self._groups[index])
        if len(verdict.texts) <= own or self._known is not None:
            return verdict
        plan = self._setting.pipeline.plan(self._stage)
        kept = Verdict(self._groups[index], verdict.planned, runs=verdict.runs, failed=verdict.failed)
        for finding, rule in zip(verdict.findings, verdict.rules, strict=True):
            if finding.text < own:
                kept.findings.append(finding)
                kept.rules.append(rule)
        actions = [finding.action for finding in kept.findings]
        actions += [plan.failure(run.detector)[0] for run in verdict.runs if run.outcome in FAILED]
        kept.action = max(actions, key=lambda action: action.severity, default=Action.ALLOW)
        return kept

    def _cleared(
        self, group: Sequence[Text], originals: tuple[str, ...], verdict: Verdict, enforced: bool
    ) -> tuple[str, ...]:
        if not enforced:
            return originals
        if verdict.action is Action.BLOCK:
            return ("",) * len(group)
        conversation = self._conversation
        if not verdict.findings and not any(["<" in text for text in originals]):
            return originals  # nothing to take out, and nothing that looks like a placeholder
        if conversation is not None:
            return self._redacted(group, verdict, conversation.name)
        if verdict.action is not Action.REDACT:
            return originals
        scope = secrets.token_hex(16)
        try:
            return self._redacted(group, verdict, scope)
        finally:
            self._vault.forget(scope)

    def _redacted(self, group: Sequence[Text], verdict: Verdict, scope: str) -> tuple[str, ...]:
        chosen: list[dict[Finding, Redaction]] = [{} for _ in group]
        for finding, rule in zip(verdict.findings, verdict.rules, strict=True):
            if finding.action is Action.REDACT and rule is not None:
                chosen[finding.text][finding] = rule.how
        return tuple(
            [
                redact(
                    text.content,
                    list(hows),
                    hows,
                    self._vault,
                    scope,
                    restorable=self._stage not in _OF_THE_MODEL and not self._about.answered,
                )
                for text, hows in zip(group, chosen, strict=True)
            ]
        )


def _well_formed(texts: Sequence[Text]) -> Sequence[Text]:
    """The same texts with each lone surrogate replaced by U+FFFD, one for one, so that spans stay."""
    for text in texts:
        if not text.content.isascii():
            return [_without_surrogates(text) for text in texts]
    return texts


def _without_surrogates(text: Text) -> Text:
    try:
        text.content.encode()
    except UnicodeEncodeError:
        return Text(_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text.content), text.role, text.path)
    return text
