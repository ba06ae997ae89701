"""A callback handler for LangChain that only observes: it checks and tells, and changes nothing.

For chains that can't be changed. Decisions are in telemetry; nothing is blocked and nothing redacted. To guard, wrap
the chat model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

from llmguard.guard import Guard
from llmguard.texts import Checkable
from llmguard.types import Decision, Role, Stage, Text

_ROLES = {"human": Role.USER, "system": Role.SYSTEM, "ai": Role.ASSISTANT, "tool": Role.TOOL, "function": Role.TOOL}


class GuardCallback(BaseCallbackHandler):  # type: ignore[misc, unused-ignore]
    """Looks at what models, tools and retrievers are given and what they say.

    Args:
        guard: whose policy decides.
        on_decision: called with each decision.
    """

    def __init__(self, guard: Guard, on_decision: Callable[[Decision], object] | None = None) -> None:
        self._guard = guard
        self._on_decision = on_decision

    def on_chat_model_start(self, serialized: Any, messages: Sequence[Sequence[Any]], **_: Any) -> None:
        """A chat model is asked: tools' results apart from what else it is told."""
        told = [message for batch in messages for message in batch]
        tools = [message for message in told if message.type in ("tool", "function")]
        self._look([_text(message) for message in told if message not in tools], Stage.INPUT)
        self._look([_text(message) for message in tools], Stage.TOOL_RESULT)

    def on_llm_start(self, serialized: Any, prompts: Sequence[str], **_: Any) -> None:
        """A model of texts is asked."""
        self._look(list(prompts), Stage.INPUT)

    def on_llm_end(self, response: Any, **_: Any) -> None:
        """A model has answered."""
        self._look([one.text for batch in response.generations for one in batch], Stage.OUTPUT)

    def on_tool_start(self, serialized: Any, input_str: str, **_: Any) -> None:
        """A tool is called."""
        self._look([input_str], Stage.TOOL_CALL)

    def on_tool_end(self, output: Any, **_: Any) -> None:
        """A tool has answered."""
        content = getattr(output, "content", output)
        self._look([content if isinstance(content, str) else str(content)], Stage.TOOL_RESULT)

    def on_retriever_end(self, documents: Sequence[Any], **_: Any) -> None:
        """Documents were found."""
        self._look([document.page_content for document in documents], Stage.CONTEXT)

    def _look(self, texts: Checkable, stage: Stage) -> None:
        if not texts:
            return
        decision = self._guard.check(texts, stage=stage)
        if self._on_decision is not None:
            self._on_decision(decision)


def _text(message: Any) -> Text:
    content = message.content if isinstance(message.content, str) else _joined(message.content)
    return Text(content, _ROLES.get(message.type, Role.USER))


def _joined(blocks: Sequence[Any]) -> str:
    said = [one if isinstance(one, str) else one.get("text") for one in blocks]
    return "\n".join([one for one in said if isinstance(one, str)])
