"""One call of the model as telemetry sees it: from right before it is made until its answer is there, or given up."""

from __future__ import annotations

import json
import time
from array import array
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode

from llmguard import content, semconv, spans
from llmguard.call_metrics import Call, Called, Chunks
from llmguard.content import Capture
from llmguard.errors import Blocked
from llmguard.events import Event, qualified
from llmguard.heard import Heard, Said, code, host, name
from llmguard.monitors import whose
from llmguard.orphans import ORPHANS

if TYPE_CHECKING:
    from opentelemetry.util.types import AnyValue

    from llmguard.providers import Providers
    from llmguard.spans import Prompt
    from llmguard.types import Decision, Role

_NOTHING: AbstractContextManager[None] = nullcontext()
# Times of chunks are told in lots: a long stream keeps no more than 4 KiB of them.
_LOT = 512


class Operation:
    """Tells of one call of the model: a span, metrics and events, and never what was said.

    Made by `Telemetry.operation`, right before the call. Then `chunk` and `heard` while the answer comes, and `end`
    or `abandon`, of which the first one counts; an operation that is dropped is abandoned. None of them raises. The
    span is never left current, so it may begin in one task and end in another. `chunk` and `heard` are for one reader.

    Args:
        providers: where it goes; without them the operation is over from the start, and says nothing.
        call: which model is called, and where.
        prompt: the template that the texts were made with.
        conversation: the conversation's id.
        streaming: whether the answer comes in chunks.
        in_process: whether the model runs in this process.
        owned: whether nobody else tells of the call; if somebody does, only its cost is told.
    """

    __slots__ = (
        *("_asked", "_call", "_capture", "_chunked", "_ended", "_first", "_gaps", "_heard", "_last"),
        *("_lock", "_messages", "_owned", "_prompt", "_providers", "_span", "_started", "_stopped", "_whose"),
        "__weakref__",
    )

    def __init__(
        self,
        providers: Providers | None,
        call: Call,
        prompt: Prompt | None = None,
        conversation: str | None = None,
        *,
        streaming: bool = False,
        in_process: bool = False,
        owned: bool = True,
    ) -> None:
        self._ended = True  # until all is there: a half-made one may be collected
        self._owned = owned
        if providers is None:
            return
        self._providers = providers
        self._call = call = call._replace(model=name(call.model), address=host(call.address))
        self._prompt = prompt
        self._whose = whose(conversation)
        self._capture = providers.capture if owned else Capture.NOTHING
        self._chunked = streaming and owned
        self._heard = Heard()
        self._messages: dict[str, list[AnyValue]] = {}
        self._lock = Lock()
        self._asked = _attributes(call, conversation, streaming)
        if prompt is not None:
            self._asked |= spans.prompt_attributes(prompt, providers.convention)
        self._first: float | None = None
        self._stopped: float | None = None
        self._gaps = array("d")
        ORPHANS.watch()
        self._span = self._begin(SpanKind.INTERNAL if in_process else SpanKind.CLIENT)
        self._started = self._last = time.perf_counter()
        self._ended = False

    @property
    def span(self) -> Span:
        """The call's span; the current one where somebody else tells of the call, or nobody."""
        return self._span if self._owned else trace.get_current_span()

    def current(self) -> AbstractContextManager[object]:
        """Make the span current while the request is sent or a piece of the answer is read; not across a ``yield``."""
        if self._ended or not self._owned:
            return _NOTHING
        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def chunk(self) -> None:
        """A chunk of the answer came: to be called for each one before the guard holds any of it back."""
        if self._ended or not self._chunked:
            return
        now = time.perf_counter()
        if self._first is None:
            self._first = now - self._started
        else:
            self._gaps.append(now - self._last)
            if len(self._gaps) >= _LOT:
                self._tell_chunks()
        self._last = now

    def heard(self, said: Said) -> None:
        """Take in what a response, or an event of a stream, says beside its texts."""
        if self._ended:
            return
        try:
            self._heard.add(said)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._providers.failed("spans", error)

    def stop(self) -> None:
        """The answer is there: what comes until `end`, a check of it, is no time of the call."""
        if not self._ended and self._stopped is None:
            self._stopped = time.perf_counter()

    def show(self, decision: Decision, roles: tuple[Role, ...] = ()) -> None:
        """Keep a check's cleared texts for the span and the event, where content is asked for.

        Args:
            decision: of the check, of what was sent or of the answer.
            roles: of its texts.
        """
        if self._ended or not self._capture:
            return
        try:
            texts = content.cleared(decision)
            made = content.messages(decision.stage, texts, roles, self._providers.convention)
            self._messages.setdefault(content.messages_key(decision.stage), []).extend(made)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._providers.failed("events", error)

    def end(
        self, said: Said | None = None, *, status: int | None = None, error: BaseException | str | None = None
    ) -> None:
        """The call is over.

        Args:
            said: the response, where it was not `heard`.
            status: of HTTP; from 400 up the call failed, also where the provider gives no code.
            error: what was raised, or the provider's code. One that says that the caller left, or that the policy
                stopped the answer, counts as `abandon`.
        """
        if self._ended:
            return
        if said is not None:
            self.heard(said)
        if isinstance(error, Blocked) or (
            isinstance(error, BaseException) and not isinstance(error, Exception | KeyboardInterrupt | SystemExit)
        ):
            self.abandon()
            return
        failure = self._heard.error
        if error:
            failure = code(error) if isinstance(error, str) else qualified(error)
        if not failure and status is not None and status >= 400:
            failure = str(status)
        self._finish(failure, failed=bool(failure))

    def abandon(self) -> None:
        """The call was given up half way: its caller left, or the policy stopped the answer."""
        if self._ended:
            return
        if self._stopped is not None:
            self.end()
        else:
            self._finish(semconv.ABANDONED, failed=False)

    def __del__(self) -> None:
        if not self._ended:
            ORPHANS.add(self.abandon)

    def _begin(self, kind: SpanKind) -> Span:
        try:
            if not self._owned:
                return trace.get_current_span()
            called = semconv.operation_span(self._call.operation, self._call.model)
            return self._providers.tracer.start_span(called, None, kind, self._asked)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._providers.failed("spans", error)
            return INVALID_SPAN

    def _finish(self, failure: str, *, failed: bool) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        now = time.perf_counter()
        over = now if self._stopped is None else self._stopped
        if self._owned:
            answered = self._answered(failure)
            self._end_span(answered, failed, None if over == now else time.time_ns() - int((now - over) * 1e9))
            self._tell_chunks()
            self._tell_events(answered, failure if failed else "")
        self._measure(failure, over - self._started)

    def _answered(self, failure: str) -> dict[str, AnyValue]:
        said = self._heard.attributes()
        if self._first is not None:
            said[semconv.TIME_TO_FIRST_CHUNK] = self._first
        if failure:
            said[semconv.ERROR_TYPE] = failure
        return said

    def _end_span(self, answered: dict[str, AnyValue], failed: bool, over: int | None) -> None:
        try:
            if not self._span.is_recording():
                return
            try:
                if Capture.SPAN in self._capture:
                    written = {key: json.dumps(made, ensure_ascii=False) for key, made in self._messages.items()}
                    answered = answered | written
                self._span.set_attributes(answered)
                if failed:
                    self._span.set_status(StatusCode.ERROR)
            finally:
                self._span.end(over)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._providers.failed("spans", error)

    def _tell_events(self, answered: dict[str, AnyValue], failure: str) -> None:
        wanted = Capture.EVENT in self._capture
        if not wanted and not failure:
            return
        try:
            if not self._providers.event_log.ready():
                return
            told = []
            if wanted:
                told.append(Event(semconv.EVENT_CONTENT, "DEBUG", self._asked | answered | self._messages))
            if failure:
                about = _attributes(self._call, None, False) | {semconv.EXCEPTION_TYPE: failure}
                told.append(Event(semconv.EVENT_EXCEPTION, "WARN", about))
            self._providers.event_log.emit(told, self._span)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._providers.failed("events", error)

    def _measure(self, failure: str, seconds: float) -> None:
        providers, version = self._providers, self._prompt.version if self._prompt is not None else ""
        heard, prices = self._heard, providers.settings.price_table
        about = (heard.model, failure, heard.tokens, prices, version, self._owned, self._span, providers.failed)
        called = Called(self._call, seconds, self._first, *about)
        providers.measure(lambda known: known.called(called))
        if providers.monitors is not None:
            providers.monitors.call(called, self._prompt, self._whose)

    def _tell_chunks(self) -> None:
        if self._gaps:
            chunks = Chunks(self._call, self._gaps, self._span, self._providers.failed)
            self._gaps = array("d")
            self._providers.measure(lambda known: known.called(chunks))


def _attributes(call: Call, conversation: str | None, streaming: bool) -> dict[str, AnyValue]:
    """What is known before the call; samplers read it."""
    said: dict[str, AnyValue] = {
        semconv.OPERATION: call.operation,
        semconv.PROVIDER: call.provider,
        semconv.REQUEST_MODEL: call.model,
        semconv.SERVER_ADDRESS: call.address,
        semconv.SERVER_PORT: call.port if call.address else None,
        semconv.CONVERSATION: conversation,
        semconv.REQUEST_STREAM: streaming or None,
    }
    return {key: value for key, value in said.items() if value is not None and value != ""}


IDLE = Operation(None, Call("", "", "", "", None), owned=False)
"""What telemetry gives that has nothing to say."""
