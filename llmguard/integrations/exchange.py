"""One call in a wire format: a request that is cleared before it goes on, and a response before it comes back.

Sans-I/O. Methods are generators that yield the checks that have to be waited for, so every way in (a client's
transport, a middleware, a proxy) is a thin edge over the same code, and none has holes of its own.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from llmguard.asking import Asking
from llmguard.calls import Checks
from llmguard.checks import About, Check
from llmguard.dialects import edit, kserve_binary, pointer, strict
from llmguard.dialects.wire import Body, Dialect, Json, Part
from llmguard.running import Run
from llmguard.types import Action, Decision, Role, Stage, Text
from llmguard.vault import Vault

T = TypeVar("T")
Steps = Generator[Check | Run | Asking, None, T]
"""What yields what has to be waited for, and returns its result."""

_ORDER = (Stage.INPUT, Stage.CONTEXT, Stage.TOOL_RESULT, Stage.TOOL_CALL, Stage.OUTPUT)
#: What the model says comes first in an answer: what is taken out of the rest of it must not be put back there.
ANSWER_ORDER = (Stage.OUTPUT, Stage.TOOL_CALL, Stage.TOOL_RESULT, Stage.CONTEXT, Stage.INPUT)
_OF_THE_MODEL = frozenset({Stage.OUTPUT, Stage.TOOL_CALL})
# What an answer is compared with, beside the question.
_SOURCES = frozenset({Role.RETRIEVAL, Role.SYSTEM, Role.TOOL})
#: Where a user asks for an answer, by the first and the last key of the place; not in stop words, variables and forms.
_ASKS = frozenset({"messages", "contents", "content", "input", "inputs", "prompt", "prompt_string"}).union(
    {"input_prefix", "generateContentRequest", "text_input"}
)
_SAYS = frozenset({"content", "text", "prompt", "prompt_string", "input", "inputs", "data", "text_input"}).union(
    {"input_prefix", "contents"}
)


_NOTHING = Body()


class Cleared(NamedTuple):
    """A body that may go on, or the decision that stops it.

    Attributes:
        data: the body; as it came where nothing was changed.
        blocked: the decision that stops it, or None.
        length: bytes of its JSON, where tensors follow it; see `kserve_binary`.
    """

    data: bytes
    blocked: Decision | None = None
    length: int | None = None

    def __repr__(self) -> str:
        return f"Cleared({len(self.data)} bytes, blocked={self.blocked is not None})"


def _compared(texts: Sequence[Text]) -> tuple[Text, ...]:
    """Those of a request that its answer is compared with."""
    asked = [text for text in texts if text.role is Role.USER][-1:]
    return (*[text for text in texts if text.role in _SOURCES], *asked)


class Exchange:
    """A request and its response.

    Args:
        dialect: that they are written in.
        segments: what stands for the named segments of the request's path.
        checks: of the call.
        vault: where placeholders are kept.
        reply: what a stream that is blocked in its midst says last; "" for nothing.

    Attributes:
        sent: the request as it came, parsed; None before `request`.
        asked: what it says.
        answered: what the response says; None before `response`.
        documents: the texts of the request that an answer is compared with, cleared: what was retrieved, what tools
            said, the instructions, and the last text of the user.
    """

    def __init__(
        self, dialect: Dialect, segments: Mapping[str, str], checks: Checks, vault: Vault, reply: str = ""
    ) -> None:
        self.dialect = dialect
        self.checks = checks
        self.vault = vault
        self.reply = reply
        self._segments = segments
        self._data = b""
        self.sent: Json | None = None
        self.asked = _NOTHING
        self.answered: Body | None = None
        self.documents: tuple[Text, ...] = ()

    def request(self, data: bytes, length: int | None = None) -> Steps[Cleared]:
        """The request as it may go to the model. One without a body, which asks by its path alone, says nothing.

        Args:
            data: the body.
            length: bytes of its JSON, where tensors of the Open Inference Protocol follow it.

        Raises:
            DialectError: it is no request of this dialect.
        """
        if length is None:
            self.sent = strict.parse(data, surrogates=True) if data.strip() else None
            self.asked = self.dialect.request(self.sent, self._segments)
        else:
            self.sent, self.asked = strict.parse(data[:length]), kserve_binary.request(data, length, self._segments)
        cleared = yield from self._cleared(data, self.asked, self.asked.model, restore=False, length=length)
        self._data = cleared.data if length is None else b""
        return cleared

    def response(self, data: bytes, length: int | None = None) -> Steps[Cleared]:
        """A whole response as it may go to the caller, placeholders restored; arguments as of `request`.

        Raises:
            DialectError: it is no response of this dialect.
        """
        if length is None:
            said = self.dialect.response(strict.parse(data, surrogates=True))
        else:
            said = kserve_binary.response(data, length)
        self.answered = said
        return (yield from self._cleared(data, said, said.model or self.asked.model, restore=True, length=length))

    def unread(self, data: bytes, *, answer: bool) -> Steps[Cleared]:
        """JSON that is none of this dialect: every text in it is looked at, as a user's or, in an answer, the model's.

        Raises:
            DialectError: it is no JSON, or JSON that two readers could read in two ways.
        """
        stage, role = (Stage.OUTPUT, Role.ASSISTANT) if answer else (Stage.INPUT, Role.USER)
        found = pointer.texts(strict.parse(data, surrogates=True))
        body = Body(parts=tuple([Part(stage, role, path, text) for path, text in found]))
        return (yield from self._cleared(data, body, self.asked.model, restore=answer))

    def again(self, decision: Decision) -> bytes | None:
        """The request once more, which tells the model why its answer was withheld; None where it has no place to."""
        if not self._data:
            return None
        # The cleared request is read again: its text is not the one that came.
        parts = self.dialect.request(strict.parse(self._data, surrogates=True), self._segments).parts
        last = next((part for part in reversed(parts) if _asks(part)), None)
        if last is None:
            return None
        why = sorted({f"{f.detector}/{f.category}" for f in decision.findings if f.action is Action.BLOCK})
        told = f"Your last answer was withheld ({', '.join(why) or 'a check failed'}). Answer again without it."
        return edit.rewrite(self._data, {last.path: f"{last.content}\n\n{told}"})

    def _cleared(
        self, data: bytes, body: Body, model: str, *, restore: bool, length: int | None = None
    ) -> Steps[Cleared]:
        begun = self._begun(body, model, restore)
        edits: dict[str, str] = {}
        told: list[Text] = []
        for check, parts in begun:
            if check.pending:
                yield check
            decision = check.finish()[0]
            if decision.blocked:
                return Cleared(b"", decision)
            for part, text in zip(parts, decision.texts, strict=True):
                told.append(Text(text, part.role, part.path))
                new = self.restored(part.stage, text) if restore else text
                if new != part.content:
                    edits[part.path] = new
        if not restore:
            self.documents = _compared(told)
        if edits and length is not None:
            data, length = kserve_binary.rewrite(data, length, edits, body.spoken)
        elif edits:
            data = edit.rewrite(data, edits, body.spoken)
        return Cleared(data, None, length)

    def _begun(self, body: Body, model: str, restore: bool) -> list[tuple[Check, list[Part]]]:
        """A check of the texts of each stage."""
        main = Stage.OUTPUT if restore else Stage.INPUT
        by_stage: dict[Stage, list[Part]] = {main: []} if body.uncovered else {}
        for part in body.parts:
            by_stage.setdefault(part.stage, []).append(part)
        begun: list[tuple[Check, list[Part]]] = []
        for stage in (ANSWER_ORDER if restore else _ORDER) if len(by_stage) > 1 else by_stage:
            if (parts := by_stage.get(stage)) is not None:
                uncovered = len(body.uncovered) if stage is main else 0
                about = About(model, uncovered, self.documents if stage is Stage.OUTPUT else (), restore)
                texts = [Text(part.content, part.role, part.path) for part in parts]
                begun.append((self.checks.start(stage, texts, about), parts))
        return begun

    def restored(self, stage: Stage, text: str) -> str:
        """A cleared text with the conversation's values in place of their placeholders, if the model wrote it."""
        if stage not in _OF_THE_MODEL:
            return text
        return self.vault.restore(self.checks.conversation.name, text)


def _asks(part: Part) -> bool:
    """Whether a user asks for the answer in it, or goes on with the text that is to be continued."""
    if part.stage is not Stage.INPUT or part.role is not Role.USER or "#" in part.path:
        return False
    keys = [key for key in part.path.split("/")[1:] if not key.isdigit()]
    return bool(keys) and keys[0] in _ASKS and keys[-1] in _SAYS
