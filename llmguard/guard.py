"""The guard: one policy over the texts of an LLM call."""

from __future__ import annotations

import importlib
import inspect
import secrets
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from llmguard import limits, prompts, texts
from llmguard import monitors as watching
from llmguard.calls import Checks, Guarded, guarded
from llmguard.checks import NOTHING_MORE, About, Check
from llmguard.conversation import Conversation, Conversations, ConversationScope, current
from llmguard.detectors.occlusion import Contribution, contributions
from llmguard.errors import ConfigurationError
from llmguard.guarded_stream import GuardedStream
from llmguard.in_force import InForce
from llmguard.loading import Loader
from llmguard.policy import Policy
from llmguard.shapes import Where
from llmguard.streaming import StreamCheck
from llmguard.telemetry import Prompt, Telemetry, TelemetrySettings
from llmguard.texts import Checkable
from llmguard.types import Decision, Detector, Finding, Monitor, Role, Stage, Text
from llmguard.vault import Vault
from llmguard.workers import Workers
from llmguard.yielding import guarded_generator

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from llmguard.dialects.wire import Body, Dialect
    from llmguard.operation import Operation

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

# The second holds a digit of another script, for which some detectors have tables of their own.
_FIRST_WORDS = ("", "\u0661")


class Guard:
    """Runs one policy over texts, and wraps functions so that their texts are checked.

    A guard is thread-safe, serves any number of event loops, and survives a fork. Use it as a context
    manager, or call `close`, to end its threads and the watch on its policy file.

    Args:
        policy: a `Policy`, a mapping, the path of a YAML or JSON file, or None for the preset ``default``.
        detectors: own detectors, by which the rules may go beside the registered ones; they win over
            registered ones of the same name.
        vault: where placeholders are kept; by default one in memory for this guard.
        telemetry: what is emitted; by default what the environment says.
        tracer_provider: by default the global one; likewise the next two.
        meter_provider: see above.
        logger_provider: see above.
        monitors: what is told of every check and every call, a moment later, such as a `DriftMonitor`.
        alerts: whether the alerts of the policy are told; False where nobody is on call, as in an evaluation.
        watch: follow the policy file: a good change is taken over, a broken one is told and ignored.

    Raises:
        ConfigurationError: the policy, or a detector's options, are wrong; says where.
        MissingExtraError: a detector needs a package that is not installed; names the pip command.
    """

    def __init__(
        self,
        policy: Policy | Mapping[str, Any] | str | Path | None = None,
        *,
        detectors: Iterable[Detector] = (),
        vault: Vault | None = None,
        telemetry: TelemetrySettings | None = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        monitors: Iterable[Monitor] = (),
        alerts: bool = True,
        watch: bool = False,
    ) -> None:
        self.vault = vault if vault is not None else Vault()
        self._telemetry = Telemetry(
            telemetry,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
            monitors=monitors,
        )
        self._workers = Workers()
        self._loader = Loader(detectors, self._workers)
        self._conversations = Conversations()
        self._in_force = InForce(self._loader, self._telemetry, policy, watch=watch, alerts=alerts)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._in_force.setting.policy

    def check(self, text: Checkable, *, stage: Stage | str = Stage.INPUT, role: Role | str | None = None) -> Decision:
        """Look at the texts of one decision. Never raises `Blocked`: the decision says it.

        Args:
            text: a string, a `Text`, or a sequence of them that is decided on as a whole. Any length and
                any content will do: an empty text is clean, and lone surrogates count as U+FFFD.
            stage: when the text is looked at.
            role: who wrote the strings; by default the one that the stage implies.

        Raises:
            TypeError: it is something else, such as bytes; nothing was looked at.
            ConfigurationError: there is no such stage or role.
        """
        check = self._begin(stage, text, role)
        if check.pending:
            check.wait()
        return check.finish()[0]

    async def acheck(
        self, text: Checkable, *, stage: Stage | str = Stage.INPUT, role: Role | str | None = None
    ) -> Decision:
        """`check` for an event loop: slow detectors don't hold it up."""
        check = self._begin(stage, text, role)
        if check.pending:
            await check.wait_async()
        return check.finish()[0]

    def check_batch(
        self, batch: Sequence[Checkable], *, stage: Stage | str = Stage.INPUT, role: Role | str | None = None
    ) -> list[Decision]:
        """Look at many texts in one pass: one decision each, the same as `check` would give one by one.

        Raises:
            TypeError: ``batch`` is a single string, or one of them is no text; nothing was looked at.
            ConfigurationError: there is no such stage or role.
        """
        decisions: list[Decision] = []
        for check in self._begin_batch(stage, batch, role):
            if check.pending:
                check.wait()
            decisions += check.finish()
        return decisions

    async def acheck_batch(
        self, batch: Sequence[Checkable], *, stage: Stage | str = Stage.INPUT, role: Role | str | None = None
    ) -> list[Decision]:
        """`check_batch` for an event loop."""
        decisions: list[Decision] = []
        for check in self._begin_batch(stage, batch, role):
            if check.pending:
                await check.wait_async()
            decisions += check.finish()
        return decisions

    def stream(
        self,
        *,
        stage: Stage | str = Stage.OUTPUT,
        role: Role | str | None = None,
        context: Checkable = (),
    ) -> GuardedStream:
        """A guarded stream: feed it the pieces of a text, and pass on what comes back.

        Args:
            stage: when the text is looked at.
            role: who wrote it; by default the one that the stage implies.
            context: documents that the text must keep to, for the detectors that compare.

        Raises:
            TypeError: the context is no text.
            ConfigurationError: there is no such stage or role.
        """
        at = texts.member(Stage, stage)
        who = texts.ROLE_AT[at] if role is None else texts.member(Role, role)
        about = About(beside=tuple(texts.group(context, Role.RETRIEVAL)))
        check = self._grow(at, about, current(self), prompts.current())
        return GuardedStream(check, who, self.policy.reply)

    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def __call__(
        self,
        function: None = None,
        /,
        *,
        input: str | Sequence[str] | None = None,
        context: str | Sequence[str] = (),
        output: Where | None = None,
        fallback: Callable[[Decision], Any] | None = None,
        reply: Callable[[str], Any] | None = None,
        feedback: str | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def __call__(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Guard a function: its texts before the call, its answer after it.

        Used bare (``@guard``) or with options (``@guard(input="question", output=lambda r: r.text)``):

        Args:
            function: sync or async; a generator function's pieces go out as far as they have been looked at.
            options: ``input``: names of the parameters that hold text, by default those annotated as
                text; ``context``: names of those that hold retrieved text; ``output``: the part of the
                result that is text, as a path, a getter, or a getter and a setter; ``fallback``: called
                with the decision when the policy says so; ``reply``: makes a result of the policy's reply;
                ``feedback``: name of the parameter that a retry tells why.

        Raises:
            ConfigurationError: at decoration, when it can't tell what is text.
            Blocked: by the guarded function, unless the policy replies, retries or falls back.
        """
        if function is None:
            return lambda function: self(function, **options)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            self.warm()
            return guarded_generator(Guarded(self, function, **options))
        return guarded(self, function, **options)

    def explain(self, finding: Finding, text: str | Text) -> list[Contribution]:
        """The parts of a text that drove a finding, the heaviest first: each is left out in turn, and looked at again.

        Costs the finding's detector up to a hundred texts, so it is for a person who asks why, not for every call.

        Args:
            finding: of a decision of this guard.
            text: what it was found in; a string counts as a user's.

        Raises:
            TypeError: the text is something else.
            ConfigurationError: no detector of the policy has that name, or it has no such category.
        """
        if not isinstance(text, str | Text):
            raise TypeError(f"a text to explain must be a string or a Text, not {type(text).__name__}")
        detector = self._loader.detector(finding.detector, self.policy)
        return contributions(detector, Text(text) if isinstance(text, str) else text, finding.category)

    def conversation(self, name: str) -> ConversationScope:
        """Scope checks and calls to a conversation: its placeholders, its cache and its id in telemetry.

        Args:
            name: the caller's id of it.

        Raises:
            ConfigurationError: the id is not a string, or empty.
        """
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"a conversation's id must be a string that is not empty, not {name!r}")
        return ConversationScope(self, self._conversations.get(name, self.policy.cache.entries))

    @contextmanager
    def tenant(self, name: str) -> Generator[None, None, None]:
        """Say on whose behalf the checks inside are made: tenants take turns at a model that many want.

        Args:
            name: of the customer or caller; it is told to nobody.

        Raises:
            ConfigurationError: it is not a string.
        """
        if not isinstance(name, str):
            raise ConfigurationError(f"a tenant's name must be a string, not {name!r}")
        before = limits.tenant.get()
        limits.tenant.set(name)
        try:
            yield
        finally:
            limits.tenant.set(before)  # no reset, which fails in another task than it was entered in

    def prompt(self, name: str, *, version: str = "", variant: str = "") -> AbstractContextManager[None]:
        """Mark the checks and calls inside with the prompt template that their texts came from.

        Args:
            name: of the template; told to telemetry, as are the others.
            version: of it.
            variant: of an A/B test.

        Raises:
            ConfigurationError: one of them is not a string, or the name is empty.
        """
        return prompts.within(Prompt(name, version, variant))

    def cohort(self, **dimensions: str) -> AbstractContextManager[None]:
        """Say which group the checks and calls inside count to, for the monitors: ``guard.cohort(plan="free")``.

        Args:
            dimensions: and their values, which join those around them.

        Raises:
            ConfigurationError: a value is not a string.
        """
        return watching.within(dimensions)

    def operation(
        self,
        dialect: Dialect,
        asked: Body,
        address: str = "",
        port: int | None = None,
        *,
        provider: str = "",
        client: str = "",
        in_process: bool = False,
    ) -> Operation:
        """Begin to tell of a call of a model, right before it is made: for those who make the call.

        Args:
            dialect: of the call.
            asked: the request, as the dialect read it.
            address: host of the server.
            port: of the server.
            provider: of the model, where it is another one than the dialect's.
            client: import name of the client package that makes the call, or "".
            in_process: whether the model runs in this process.
        """
        conversation = current(self)
        return self._telemetry.operation(
            provider or dialect.provider,
            dialect.operation,
            asked.model,
            address=address,
            port=port,
            streaming=asked.stream,
            prompt=prompts.current(),
            conversation=None if conversation is None else conversation.name,
            client=client,
            in_process=in_process,
        )

    def unguarded(self, reason: str, *, passed: bool, dialect: str = "") -> None:
        """Count a request or an answer that could not be read: for those that pass on or refuse it.

        Args:
            reason: why, in one of the words of docs/telemetry.md.
            passed: whether it went on all the same.
            dialect: name of its wire format, if it has one.
        """
        self._telemetry.unguarded(reason, passed=passed, dialect=dialect)

    def warm(self) -> None:
        """Make ready what streams need, which takes a second where many patterns are looked for.

        The first stream does it otherwise. What guards a generator function, a client or a server has done it.
        """
        for stage in Stage:
            for growing in self._in_force.setting.pipeline.stream(stage).strict.growing:
                for text in _FIRST_WORDS:
                    growing.settled(text)

    def reload(self, policy: Policy | Mapping[str, Any] | str | Path) -> None:
        """Change to another policy: checks that have begun end under the old one.

        Raises:
            ConfigurationError: it is broken; the old one stays in force, and telemetry is told.
        """
        self._in_force.change(policy)

    def wrap(self, client: C, **options: Any) -> C:
        """A client of a model like the one given, of the same type, whose calls are guarded.

        Args:
            client: of a package that llmguard knows (docs/clients.md), or a function.
            options: ``fallback``: called with the decision when the policy says so; for some clients more.

        Raises:
            ConfigurationError: it is of no such package, or a part of it can't be guarded; says what would be right.
        """
        self.warm()
        # Found at run time, since what is built on a guard is above it.
        made: C = importlib.import_module("llmguard.integrations.clients").wrap(client, self, **options)
        return made

    def flush(self) -> None:
        """Have metrics and monitors told of all checks and calls there were, before this returns.

        They are told a moment later otherwise: a process that may be frozen or killed at any time calls this before.
        What exporters and the SDK hold then is theirs to flush.
        """
        self._telemetry.flush()

    def close(self) -> None:
        """End the threads and the watch; checks that need a thread fail from now on. Monitors hear what there was."""
        self._in_force.close()
        self._workers.close()
        self._in_force.settle()

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        ref = self._in_force.setting.ref
        return f"Guard({ref.name!r}, version={ref.version!r})"

    def call_scope(self) -> Checks:
        """The checks of one guarded call: in the conversation around it, or in one that ends with the call."""
        conversation = current(self)
        passing = conversation is None
        if conversation is None:
            conversation = Conversation(secrets.token_hex(16), 0, passing=True)
        # What is read of an answer later, maybe outside of the caller's scopes, belongs to the same prompt.
        prompt = prompts.current()
        return Checks(
            lambda stage, own, about: self._start(stage, (own,), conversation, prompt, about),
            lambda stage, about: self._grow(stage, about, conversation, prompt),
            conversation,
            self.vault.forget if passing else None,
        )

    def _begin(self, stage: Stage | str, text: Checkable, role: Role | str | None) -> Check:
        at = texts.member(Stage, stage)
        who = texts.ROLE_AT[at] if role is None else texts.member(Role, role)
        return self._start(at, (texts.group(text, who),), current(self), prompts.current())

    def _begin_batch(
        self, stage: Stage | str, batch: Sequence[Checkable], role: Role | str | None
    ) -> Generator[Check, None, None]:
        at = texts.member(Stage, stage)
        who = texts.ROLE_AT[at] if role is None else texts.member(Role, role)
        conversation = current(self)
        for part in texts.parts(batch, who):
            yield self._start(at, part, conversation, prompts.current())

    def _start(
        self,
        stage: Stage,
        groups: Sequence[Sequence[Text]],
        conversation: Conversation | None,
        prompt: Prompt | None,
        about: About = NOTHING_MORE,
    ) -> Check:
        setting = self._in_force.setting
        return Check(setting, self._telemetry, self.vault, stage, groups, conversation, prompt, about)

    def _grow(
        self, stage: Stage, about: About, conversation: Conversation | None, prompt: Prompt | None
    ) -> StreamCheck:
        setting = self._in_force.setting
        return StreamCheck(setting, self._telemetry, self.vault, stage, conversation, prompt, about)
