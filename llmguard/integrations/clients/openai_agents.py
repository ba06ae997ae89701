"""OpenAI's Agents SDK: guardrails made from a guard, for an agent's input and output and for its tools.

Follows https://openai.github.io/openai-agents-python/guardrails. A guardrail of the SDK can stop a run but not change
its texts, so what the policy would redact stops it too, but for results of tools, which are replaced by what was
cleared. To have texts redacted and answers restored, wrap the OpenAI client that the agent's model is made with.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

import wrapt
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

if TYPE_CHECKING:
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy

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
        ConfigurationError: it is no agent, there is a fallback, or the SDK has no guardrails for its MCP servers.
    """
    own: Any = client
    if not isinstance(client, Agent):
        raise ConfigurationError(
            f"{type(client).__name__} is no agent: wrap the agent, or the OpenAI client of its model"
        )
    if fallback is not None:
        raise ConfigurationError("guardrails of the Agents SDK can't fall back: catch what Runner.run raises")
    tools = [_tool(tool, guard) for tool in own.tools]
    servers = [_server(server, guard) for server in own.mcp_servers]
    inputs = [*own.input_guardrails, input_guardrail(guard)]
    outputs = [*own.output_guardrails, output_guardrail(guard)]
    made: Any = own.clone(input_guardrails=inputs, output_guardrails=outputs, tools=tools, mcp_servers=servers)
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
        decision = await guard.acheck(_results(data.output), stage=Stage.TOOL_RESULT)
        if decision.blocked:
            return ToolGuardrailFunctionOutput.reject_content(_reply(guard), _told(decision))
        if decision.modified:
            return ToolGuardrailFunctionOutput.reject_content("\n".join(decision.texts), _told(decision))
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


def _results(output: Any) -> list[str]:
    """The texts in what a tool gave: a string, a part with a text, such as MCP's servers give, or a list of those."""
    if isinstance(output, list):
        return [text for one in output for text in _results(one)]
    if isinstance(output, dict) and output.get("type") in ("text", "image", "file"):
        return [output["text"]] if isinstance(output.get("text"), str) else []
    return [str(output)]


class _Server(_Proxy):
    """An MCP server: what its tools are given and give is looked at, and what it says of them."""

    def __init__(self, server: Any, guard: Guard) -> None:
        super().__init__(server)
        self._self_guard = guard

    @property
    def tool_input_guardrails(self) -> list[Any]:
        """The server's own, and ours."""
        return [*(self.__wrapped__.tool_input_guardrails or ()), tool_input_guardrail(self._self_guard)]

    @property
    def tool_output_guardrails(self) -> list[Any]:
        """The server's own, and ours."""
        return [*(self.__wrapped__.tool_output_guardrails or ()), tool_output_guardrail(self._self_guard)]

    async def list_tools(self, *args: Any, **kwargs: Any) -> list[Any]:
        """The tools, but for those whose descriptions the policy stops or would change."""
        kept = []
        for tool in await self.__wrapped__.list_tools(*args, **kwargs):
            said = [Text(text, Role.RETRIEVAL) for text in _strings(tool)]
            decision = await self._self_guard.acheck(said, stage=Stage.CONTEXT)
            if not decision.blocked and not decision.modified:
                kept.append(tool)
        return kept


def _server(server: Any, guard: Guard) -> Any:
    if not hasattr(server, "tool_output_guardrails"):
        raise ConfigurationError("this version of openai-agents has no guardrails for MCP servers: take 0.24 or later")
    return _Server(server, guard)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for _, text in pointer.strings(strict.parse(view(value), surrogates=True))]


def _reply(guard: Guard) -> str:
    reply = guard.policy.reply
    return _STOPPED if reply is None else reply


def _told(decision: Decision) -> dict[str, Any]:
    """What traces may be told: no text."""
    found = sorted({f"{finding.detector}/{finding.category}" for finding in decision.findings})
    return {"action": str(decision.action), "findings": found, "policy": decision.policy.name}
