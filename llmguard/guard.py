"""The guard: one policy over the texts of an LLM call."""

from __future__ import annotations

import importlib
import inspect
import logging
import secrets
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from llmguard import limits, texts
from llmguard.calls import Checks, Guarded, guarded
from llmguard.checks import NOTHING_MORE, About, Check
from llmguard.conversation import Conversation, Conversations, ConversationScope, current
from llmguard.detectors.occlusion import Contribution, contributions
from llmguard.errors import ConfigurationError
from llmguard.guarded_stream import GuardedStream
from llmguard.loading import Loader
from llmguard.policy import Policy
from llmguard.shapes import Where
from llmguard.streaming import StreamCheck
from llmguard.telemetry import Prompt, Telemetry, TelemetrySettings
from llmguard.texts import Checkable
from llmguard.types import Decision, Detector, Finding, Role, Stage, Text
from llmguard.vault import Vault
from llmguard.workers import Workers
from llmguard.yielding import guarded_generator

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from llmguard.dialects.wire import Body, Dialect
    from llmguard.operation import Operation
    from llmguard.policy_watch import Watcher

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

# The second holds a digit of another script, for which some detectors have tables of their own.
_FIRST_WORDS = ("", "\u0661")

_log = logging.getLogger(__name__)
_PROMPT: ContextVar[Prompt | None] = ContextVar("llmguard_prompt", default=None)


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
        watch: bool = False,
    ) -> None:
        self.vault = vault if vault is not None else Vault()
        self._telemetry = Telemetry(
            telemetry,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
        )
        self._workers = Workers()
        self._loader = Loader(detectors, self._workers)
        self._conversations = Conversations()
        self._reloading = threading.Lock()
        self._setting = self._loader.load(Policy.from_any(policy))
        self._watcher: Watcher | None = None
        if watch:
            self._watcher = self._watch(policy)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._setting.policy

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
        on_block = self.policy.on_block
        check = self._grow(at, about, current(self))
        return GuardedStream(check, who, None if isinstance(on_block, str) else on_block.reply)

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
        before = limits.tenant.set(name)
        try:
            yield
        finally:
            limits.tenant.reset(before)

    @contextmanager
    def prompt(self, name: str, *, version: str = "", variant: str = "") -> Generator[None, None, None]:
        """Mark the checks inside with the prompt template that their texts came from."""
        before = _PROMPT.get()
        _PROMPT.set(Prompt(name, version, variant))
        try:
            yield
        finally:
            _PROMPT.set(before)

    def operation(
        self, dialect: Dialect, asked: Body, address: str = "", port: int | None = None, *, client: str = ""
    ) -> Operation:
        """Begin to tell of a call of a model, right before it is made: for those who make the call.

        Args:
            dialect: of the call.
            asked: the request, as the dialect read it.
            address: host of the server.
            port: of the server.
            client: import name of the client package that makes the call, or "".
        """
        conversation = current(self)
        return self._telemetry.operation(
            dialect.provider,
            dialect.operation,
            asked.model,
            address=address,
            port=port,
            streaming=asked.stream,
            prompt=_PROMPT.get(),
            conversation=None if conversation is None else conversation.name,
            client=client,
        )

    def warm(self) -> None:
        """Make ready what streams need, which takes a second where many patterns are looked for.

        The first stream does it otherwise. What guards a generator function, a client or a server has done it.
        """
        for stage in Stage:
            for growing in self._setting.pipeline.stream(stage).growing:
                for text in _FIRST_WORDS:
                    growing.settled(text)

    def reload(self, policy: Policy | Mapping[str, Any] | str | Path) -> None:
        """Change to another policy: checks that have begun end under the old one.

        Raises:
            ConfigurationError: it is broken; the old one stays in force, and telemetry is told.
        """
        try:
            with self._reloading:
                self._setting = self._loader.load(Policy.from_any(policy))
        except ConfigurationError as error:
            self._refuse(error)
            raise
        self._telemetry.reload(self._setting.ref, None)

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

    def close(self) -> None:
        """End the threads and the watch; checks that need a thread fail from now on."""
        if self._watcher is not None:
            self._watcher.close()
        self._workers.close()

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Guard({self._setting.ref.name!r}, version={self._setting.ref.version!r})"

    @contextmanager
    def call_scope(self) -> Generator[Checks, None, None]:
        """The checks of one guarded call: in the conversation around it, or in one that ends with the call."""
        conversation = current(self)
        passing = conversation is None
        if conversation is None:
            conversation = Conversation(secrets.token_hex(16), 0, passing=True)
        checks = Checks(
            lambda stage, own, about: self._start(stage, (own,), conversation, about),
            lambda stage, about: self._grow(stage, about, conversation),
            conversation,
        )
        try:
            yield checks
        finally:
            checks.close()
            if passing:
                self.vault.forget(conversation.name)

    def _begin(self, stage: Stage | str, text: Checkable, role: Role | str | None) -> Check:
        at = texts.member(Stage, stage)
        who = texts.ROLE_AT[at] if role is None else texts.member(Role, role)
        return self._start(at, (texts.group(text, who),), current(self))

    def _begin_batch(
        self, stage: Stage | str, batch: Sequence[Checkable], role: Role | str | None
    ) -> Generator[Check, None, None]:
        at = texts.member(Stage, stage)
        who = texts.ROLE_AT[at] if role is None else texts.member(Role, role)
        conversation = current(self)
        for part in texts.parts(batch, who):
            yield self._start(at, part, conversation)

    def _start(
        self,
        stage: Stage,
        groups: Sequence[Sequence[Text]],
        conversation: Conversation | None,
        about: About = NOTHING_MORE,
    ) -> Check:
        return Check(self._setting, self._telemetry, self.vault, stage, groups, conversation, _PROMPT.get(), about)

    def _grow(self, stage: Stage, about: About, conversation: Conversation | None) -> StreamCheck:
        return StreamCheck(self._setting, self._telemetry, self.vault, stage, conversation, _PROMPT.get(), about)

    def _watch(self, policy: object) -> Watcher:
        if not isinstance(policy, (str, Path)):
            raise ConfigurationError("watch=True needs a policy from a file: give its path")
        from llmguard.policy_watch import watch

        return watch(policy, on_change=self._follow, on_error=self._refuse, current=self.policy)

    def _follow(self, policy: Policy) -> None:
        try:
            self.reload(policy)
        except ConfigurationError:
            return  # told by `reload`; the old policy stays

    def _refuse(self, error: ConfigurationError) -> None:
        ref = self._setting.ref
        _log.warning("policy %r version %r stays in force: %s", ref.name, ref.version, error)
        self._telemetry.reload(ref, error)
