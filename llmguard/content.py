"""What of the texts telemetry may hold: nothing, unless it was asked for, and then only what was cleared."""

from __future__ import annotations

import enum
import hashlib
import hmac
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmguard import semconv
from llmguard.types import Action, Decision, Role, Stage

if TYPE_CHECKING:
    from opentelemetry.util.types import AnyValue

_logger = logging.getLogger(__name__)


class Capture(enum.Flag):
    """Where cleared texts go."""

    NOTHING = 0
    SPAN = enum.auto()
    EVENT = enum.auto()


_MODES = {
    "NO_CONTENT": Capture.NOTHING,
    "SPAN_ONLY": Capture.SPAN,
    "EVENT_ONLY": Capture.EVENT,
    "SPAN_AND_EVENT": Capture.SPAN | Capture.EVENT,
}


def capture(mode: str) -> Capture:
    """Where cleared texts go by this mode; a mode that is none warns and captures nothing.

    Args:
        mode: one of ``semconv.CONTENT_MODES`` in any case, "" for nothing, or ``env`` for what the
            environment variable ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says.
    """
    if mode == "env":
        mode = os.environ.get(semconv.CONTENT_ENV, "")
    known = _MODES.get(mode.strip().upper() or "NO_CONTENT")
    if known is None:
        _logger.warning(
            "%s is not one of %s: no content is captured", semconv.CONTENT_ENV, ", ".join(semconv.CONTENT_MODES)
        )
        return Capture.NOTHING
    return known


def cleared(decision: Decision) -> tuple[str, ...]:
    """The texts of a decision that telemetry may hold, or none when one of them may be uncleared.

    None when the action is block; when it is redact but not enforced, for the texts are then the
    originals; when a detector could not say; and when not all of a text was looked at.
    """
    if decision.action is Action.BLOCK or (decision.action is Action.REDACT and not decision.enforced):
        return ()
    if decision.unknown or any(share < 1.0 for share in decision.coverage):
        return ()
    return decision.texts


def content_hash(texts: Sequence[str], key: bytes) -> str:
    """``hmac-sha256:`` and the hex HMAC of the texts' UTF-8, joined by NUL: the same texts, the same value.

    Args:
        texts: cleared texts.
        key: whoever has it can test guesses of the text; keep it as secret as the texts.
    """
    data = "\0".join(texts).encode("utf-8", "surrogatepass")
    return f"hmac-sha256:{hmac.new(key, data, hashlib.sha256).hexdigest()}"


_OUTGOING = frozenset({Stage.OUTPUT, Stage.TOOL_CALL})
_ROLES = {
    Stage.INPUT: Role.USER,
    Stage.OUTPUT: Role.ASSISTANT,
    Stage.TOOL_CALL: Role.ASSISTANT,
    Stage.TOOL_RESULT: Role.TOOL,
    Stage.CONTEXT: Role.RETRIEVAL,
}


def messages_key(stage: Stage) -> str:
    """The attribute that takes the texts of this stage."""
    return semconv.OUTPUT_MESSAGES if stage in _OUTGOING else semconv.INPUT_MESSAGES


def messages(
    stage: Stage, texts: Sequence[str], roles: Sequence[Role], convention: semconv.Convention
) -> list[dict[str, AnyValue]]:
    """Texts as the conventions' list of messages: ``[{"role": …, "parts": [{"type": "text", "content": …}]}]``.

    Args:
        stage: of the check; says what kind of message it is, and who speaks where ``roles`` does not.
        texts: cleared texts. A lone surrogate becomes "?", for exporters write UTF-8.
        roles: one a text, or fewer.
        convention: of which version.
    """
    made: list[dict[str, AnyValue]] = []
    for index, text in enumerate(texts):
        content = text.encode("utf-8", "replace").decode()
        part = {"type": "text", "content": content}
        if stage is Stage.TOOL_RESULT:
            part = {"type": "tool_call_response", "response": content}
        role = roles[index] if index < len(roles) else _ROLES[stage]
        message: dict[str, AnyValue] = {"role": role.value, "parts": [part]}
        if stage in _OUTGOING and convention.finish_reason:
            message["finish_reason"] = convention.finish_reason
        made.append(message)
    return made
