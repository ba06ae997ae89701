"""Guarded streams: texts that come in pieces, and go out as far as they have been looked at.

A sans-I/O core, with any number of texts (the choices of an answer, the arguments of its tool calls) under one
decision; `guarded_stream.GuardedStream` is one text with a sync and an async edge.
"""

from __future__ import annotations

import secrets
import time
from array import array
from collections import deque
from collections.abc import Generator, Sequence

from llmguard.checks import NOTHING_MORE, About, Setting
from llmguard.conversation import Conversation
from llmguard.growing import Growing
from llmguard.hits import Hit
from llmguard.monitors import whose
from llmguard.placeholder import unfinished
from llmguard.redaction import redact
from llmguard.running import Run
from llmguard.telemetry import Prompt, Telemetry
from llmguard.texts import ROLE_AT
from llmguard.types import Action, Decision, DetectorRun, Finding, Role, Stage, Text
from llmguard.vault import Vault

# What the model itself wrote is not the user's own: what is taken out of it is never put back.
_OF_THE_MODEL = frozenset({Stage.OUTPUT, Stage.TOOL_CALL})


class _Channel:
    """One text, what its restoring holds back, and when its pieces came."""

    __slots__ = ("arrived", "done", "growing", "held", "length")

    def __init__(self, growing: Growing) -> None:
        self.growing = growing
        self.held = ""
        self.length = 0
        self.arrived: deque[tuple[int, float]] = deque()
        self.done = False


class StreamCheck:
    """The texts of one decision while they grow.

    Args:
        setting: the policy and its pipeline.
        telemetry: what is told of it.
        vault: where placeholders are kept.
        stage: when the texts are looked at.
        conversation: what they belong to, if anything.
        prompt: the prompt template they came from, if any.
        about: what belongs to the decision beside its texts.

    Attributes:
        about: see above; the model and what is uncovered may be learnt while the stream goes on.
        enforced: whether the decision counts. In shadow mode, and outside the canary share, all goes out at once.
    """

    def __init__(
        self,
        setting: Setting,
        telemetry: Telemetry,
        vault: Vault,
        stage: Stage,
        conversation: Conversation | None,
        prompt: Prompt | None,
        about: About = NOTHING_MORE,
    ) -> None:
        self._setting = setting
        self._telemetry = telemetry
        self._vault = vault
        self._stage = stage
        self._prompt = prompt
        self.about = about
        self._conversation = conversation
        known = conversation is not None and not conversation.passing
        self._scope = conversation.name if conversation is not None else secrets.token_hex(16)
        self.enforced = setting.policy.enforced(self._scope)
        name = conversation.name if conversation is not None and known else None
        self._whose = whose(name)
        self._span = telemetry.begin(stage, setting.ref, conversation=name, streaming=True)
        self._channels: dict[str, _Channel] = {}
        self._roles: list[Role] = []
        self._spent = 0.0
        self._waits = array("f")
        self._decision: Decision | None = None
        self._abandoned = False

    @property
    def abandoned(self) -> bool:
        """Whether it was given up: nothing goes out any more, and there is no decision."""
        return self._abandoned

    @property
    def blocked(self) -> bool:
        """Whether nothing more may go out."""
        if self.enforced:
            for channel in self._channels.values():
                if channel.growing.action is Action.BLOCK:
                    return True
        return False

    @property
    def holds(self) -> bool:
        """Whether anything of what came has not gone out."""
        return any(channel.held or channel.growing.gone < channel.length for channel in self._channels.values())

    def came(self, channel: str = "") -> str:
        """What came of a text so far."""
        own = self._channels.get(channel)
        return own.growing.whole if own is not None else ""

    @property
    def decision(self) -> Decision | None:
        """What was decided; None while the stream goes on."""
        return self._decision

    def feed(
        self, piece: str, channel: str = "", role: Role | None = None, path: str = ""
    ) -> Generator[Run, None, str]:
        """What may go out of a text after one more piece of it. Yields the runs that have to be waited for.

        Args:
            piece: what came; may be empty.
            channel: which text it belongs to.
            role: who the text comes from; by default the one that the stage implies.
            path: where the text stands.
        """
        own = self._channels.get(channel) or self.open(channel, role, path)
        if not piece or self.blocked:
            return ""
        if own.done or self._decision is not None or self._abandoned:
            raise ValueError("a stream that has ended takes no more pieces")
        if not self.enforced:
            own.growing.keep(piece)
            return piece
        started = time.perf_counter()
        own.length += len(piece)
        own.arrived.append((own.length, started))
        text = yield from own.growing.feed(piece)
        out = self._restored(own, text, last=False)
        self._told(own, started)
        return out

    def end(self, channel: str = "") -> Generator[Run, None, str]:
        """The rest of a text that has come to its end. Yields the runs that have to be waited for."""
        own = self._channels.get(channel)
        if own is None or own.done or self.blocked or self._abandoned:
            return ""
        started = time.perf_counter()
        text = yield from own.growing.close(self.about.beside)
        own.done = True  # not before: who is cancelled while it waits may close again
        if not self.enforced:
            self._spent += time.perf_counter() - started
            return ""
        out = "" if self.blocked else self._restored(own, text, last=True)
        self._told(own, started)
        return out

    def finish(self) -> Decision:
        """The decision about all texts, which have ended or of which one is blocked; told to telemetry once."""
        if self._decision is not None:
            return self._decision
        channels = [channel.growing for channel in self._channels.values()]
        action = max([growing.action for growing in channels], key=lambda one: one.severity, default=Action.ALLOW)
        runs: tuple[DetectorRun, ...] = tuple([run for growing in channels for run in growing.runs])
        names = {run.detector for run in runs}
        originals = tuple([growing.whole for growing in channels])
        if not self.enforced:
            texts = originals
        elif action is Action.BLOCK:
            texts = ("",) * len(channels)
        else:
            texts = tuple([growing.cleared() for growing in channels])
        coverage = tuple([1 - growing.failed / len(names) if names else 0.0 for growing in channels])
        coverage += (0.0,) * self.about.uncovered
        self._decision = Decision(
            action,
            texts,
            tuple([_at(hit, index) for index, growing in enumerate(channels) for hit in growing.hits]),
            self._stage,
            self._setting.ref,
            self.enforced,
            coverage,
            runs,
            self._spent,
            texts != originals,
        )
        self._telemetry.end(
            self._span,
            self._decision,
            thresholds=self._setting.thresholds[self._stage],
            roles=tuple(self._roles),
            model=self.about.model or None,
            prompt=self._prompt,
        )
        if (monitors := self._telemetry.monitors) is not None:
            seen = [Text(text, role) for text, role in zip(originals, self._roles, strict=True)]
            monitors.check(self._decision, seen, self.about.model, self._prompt, self._whose, self._span)
        self._telemetry.held(self._span, self._stage, self._waits)
        self._forget()
        return self._decision

    def abandon(self, error: BaseException | None = None) -> None:
        """The reader has gone: end the span; nothing happens when the stream has ended."""
        if self._decision is None and not self._abandoned:
            self._abandoned = True
            self._telemetry.abandon(self._span, error)
            self._forget()

    def _forget(self) -> None:
        if self._conversation is None:
            self._vault.forget(self._scope)

    def open(self, channel: str = "", role: Role | None = None, path: str = "") -> _Channel:
        """Begin a text, as `feed` does by itself.

        Args:
            channel: its name.
            role: see `feed`.
            path: see `feed`.
        """
        role = role or ROLE_AT[self._stage]
        policy, pipeline = self._setting.policy, self._setting.pipeline
        whole = self._stage not in _OF_THE_MODEL
        growing = Growing(pipeline, self._stage, role, path, policy.stream.window, self._clear, whole=whole)
        own = self._channels[channel] = _Channel(growing)
        self._roles.append(role)
        return own

    def _clear(self, piece: str, hits: Sequence[Hit]) -> str:
        if not self.enforced or (not hits and self._conversation is None):
            return piece
        chosen = {finding: rule.how for finding, rule in hits if rule is not None}
        restorable = self._stage not in _OF_THE_MODEL
        return redact(piece, list(chosen), chosen, self._vault, self._scope, restorable=restorable)

    def _restored(self, own: _Channel, text: str, *, last: bool) -> str:
        """The text with the conversation's values in place of their placeholders, which may arrive split."""
        if self._conversation is None or self._stage not in _OF_THE_MODEL:
            return text
        if not own.held and "<" not in text:
            return text  # nearly every piece
        text = own.held + text
        place = len(text) if last else unfinished(text)
        own.held = text[place:]
        return self._vault.restore(self._scope, text[:place])

    def _told(self, own: _Channel, started: float) -> None:
        now = time.perf_counter()
        self._spent += now - started
        arrived, gone = own.arrived, own.growing.gone
        while arrived and arrived[0][0] <= gone:
            self._waits.append(now - arrived.popleft()[1])


def _at(hit: Hit, index: int) -> Finding:
    found = hit[0]
    if not index:
        return found
    return Finding(found.category, found.score, found.span, found.detector, found.reasons, index, found.action)
