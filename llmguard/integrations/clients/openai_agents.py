"""OpenAI's Agents SDK: guardrails made from a guard, for an agent's input and output and for its tools.

Follows https://openai.github.io/openai-agents-python/guardrails. A guardrail of the SDK can stop a run but not change
its texts, so what the policy would redact stops it too, but for results of tools, which are replaced by what was
cleared. To have texts redacted and answers restored, wrap the OpenAI client that the agent's model is made with.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolOutputGuardrail,
)

from llmguard.dialects import openai_responses, pointer, strict
from llmguard.errors import ConfigurationError, DialectError
from llmguard.guard import Guard
from llmguard.integrations.clients.json_view import view
from llmguard.integrations.exchange import Exchange
from llmguard.integrations.http import Fallback
from llmguard.types import Decision, Role, Stage, Text
from llmguard.waiting import adrive

C = TypeVar("C")

MODULES = ("agents",)
_STOPPED = "The content policy stopped this call."


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None) -> C:
    """A copy of an agent with guardrails for its input, its output and its tools.

    Args:
        client: an ``Agent``.
        guard: whose policy decides.
        fallback: none: a guardrail of the SDK can't answer.

    Raises:
        ConfigurationError: it is no agent, or there is a fallback.
    """
    own: Any = client
    if not isinstance(client, Agent):
        raise ConfigurationError(
            f"{type(client).__name__} is no agent: wrap the agent, or the OpenAI client of its model"
        )
    if fallback is not None:
        raise ConfigurationError("guardrails of the Agents SDK can't fall back: catch what Runner.run raises")
    tools = [_tool(tool, guard) for tool in own.tools]
    inputs = [*own.input_guardrails, input_guardrail(guard)]
    outputs = [*own.output_guardrails, output_guardrail(guard)]
    made: Any = own.clone(input_guardrails=inputs, output_guardrails=outputs, tools=tools)
    return made  # type: ignore[no-any-return]


def input_guardrail(guard: Guard, name: str = "llmguard") -> InputGuardrail[Any]:
    """A guardrail for what an agent is asked, earlier turns and results of tools in it included.

    It runs before the agent does, not beside it: what is stopped was told to nobody.

    Args:
        guard: whose policy decides.
        name: in traces.
    """

    async def check(context: Any, agent: Any, asked: Any) -> GuardrailFunctionOutput:
        with guard.call_scope() as checks:
            exchange = Exchange(openai_responses.RESPONSES, {}, checks, guard.vault)
            try:
                data = view({"model": "", "input": asked})
                cleared = await adrive(exchange.request(data))
            except (DialectError, TypeError) as error:
                return GuardrailFunctionOutput({"error": str(error)}, tripwire_triggered=True)
            stopped = cleared.blocked is not None or cleared.data is not data
            told = {"action": "redact"} if cleared.blocked is None else _told(cleared.blocked)
            return GuardrailFunctionOutput(told if stopped else {"action": "allow"}, tripwire_triggered=stopped)

    return InputGuardrail(check, name=name, run_in_parallel=False)


def output_guardrail(guard: Guard, name: str = "llmguard") -> OutputGuardrail[Any]:
    """A guardrail for an agent's answer: a string, or the strings in what has JSON.

    Args:
        guard: whose policy decides.
        name: in traces.
    """

    async def check(context: Any, agent: Any, answer: Any) -> GuardrailFunctionOutput:
        try:
            said = _strings(answer)
        except TypeError as error:
            return GuardrailFunctionOutput({"error": str(error)}, tripwire_triggered=True)
        decision = await guard.acheck([Text(text, Role.ASSISTANT) for text in said], stage=Stage.OUTPUT)
        return GuardrailFunctionOutput(_told(decision), tripwire_triggered=decision.blocked or decision.modified)

    return OutputGuardrail(check, name=name)


def tool_input_guardrail(guard: Guard, name: str = "llmguard") -> ToolInputGuardrail[Any]:
    """A guardrail for the arguments of a tool; what is stopped, the model is told.

    Args:
        guard: whose policy decides.
        name: in traces.
    """

    async def check(data: Any) -> ToolGuardrailFunctionOutput:
        texts = [text for _, text in pointer.embedded(data.context.tool_arguments or "", "")]
        decision = await guard.acheck([Text(text, Role.ASSISTANT) for text in texts], stage=Stage.TOOL_CALL)
        if decision.blocked or decision.modified:
            return ToolGuardrailFunctionOutput.reject_content(_reply(guard), _told(decision))
        return ToolGuardrailFunctionOutput.allow(_told(decision))

    return ToolInputGuardrail(check, name=name)


def tool_output_guardrail(guard: Guard, name: str = "llmguard") -> ToolOutputGuardrail[Any]:
    """A guardrail for the result of a tool: the model gets what was cleared of it, as a string.

    Args:
        guard: whose policy decides.
        name: in traces.
    """

    async def check(data: Any) -> ToolGuardrailFunctionOutput:
        decision = await guard.acheck(str(data.output), stage=Stage.TOOL_RESULT)
        if decision.blocked:
            return ToolGuardrailFunctionOutput.reject_content(_reply(guard), _told(decision))
        if decision.modified:
            return ToolGuardrailFunctionOutput.reject_content(decision.text, _told(decision))
        return ToolGuardrailFunctionOutput.allow(_told(decision))

    return ToolOutputGuardrail(check, name=name)


def _tool(tool: Any, guard: Guard) -> Any:
    """A tool with guardrails; those that run at the provider have none."""
    if not hasattr(tool, "tool_input_guardrails"):
        return tool
    made = copy.copy(tool)
    made.tool_input_guardrails = [*(tool.tool_input_guardrails or ()), tool_input_guardrail(guard)]
    made.tool_output_guardrails = [*(tool.tool_output_guardrails or ()), tool_output_guardrail(guard)]
    return made


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for _, text in pointer.strings(strict.parse(view(value), surrogates=True))]


def _reply(guard: Guard) -> str:
    on_block = guard.policy.on_block
    return _STOPPED if isinstance(on_block, str) or on_block.reply is None else on_block.reply


def _told(decision: Decision) -> dict[str, Any]:
    """What traces may be told: no text."""
    found = sorted({f"{finding.detector}/{finding.category}" for finding in decision.findings})
    return {"action": str(decision.action), "findings": found, "policy": decision.policy.name}
