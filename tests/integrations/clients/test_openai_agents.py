"""Agents of OpenAI's SDK with guardrails made from a guard."""

import json
from typing import Any

import pytest
from fakes import Words

from llmguard import ConfigurationError, Guard

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
pytest.importorskip("agents")
from agents import (  # noqa: E402
    Agent,
    InputGuardrailTripwireTriggered,
    ModelResponse,
    OutputGuardrailTripwireTriggered,
    Runner,
    Usage,
    function_tool,
    set_tracing_disabled,
)
from agents.mcp import MCPServer  # noqa: E402
from agents.models.interface import Model  # noqa: E402
from mcp.types import CallToolResult, TextContent  # noqa: E402
from mcp.types import Tool as MCPTool  # noqa: E402
from openai.types.responses import (  # noqa: E402
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from llmguard.integrations.clients import openai_agents  # noqa: E402

RULES = [
    {"detector": "words", "categories": ["BAD"], "action": "redact"},
    {"detector": "words", "categories": ["WORSE"], "action": "block"},
]


@pytest.fixture(autouse=True)
def _no_tracing() -> None:
    set_tracing_disabled(True)


def guard_of(**policy: Any) -> Guard:
    return Guard({"name": "p", "rules": RULES, **policy}, detectors=[Words("words", "bad", "worse")])


class Brain(Model):
    """Answers in turn: texts, or arguments for the tool."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.told: list[Any] = []

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:  # noqa: A002
        self.told.append(input)
        made = self.answers.pop(0)
        if isinstance(made, dict):
            item: Any = ResponseFunctionToolCall(
                type="function_call", call_id="c1", name="send", arguments=made["args"]
            )
        else:
            text = ResponseOutputText(type="output_text", text=made, annotations=[])
            item = ResponseOutputMessage(id="1", type="message", role="assistant", status="completed", content=[text])
        return ModelResponse(output=[item], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def agent_of(guard: Guard, *answers: Any, result: str = "ok") -> tuple[Agent[Any], Brain, list[str]]:
    got: list[str] = []

    @function_tool
    def send(to: str) -> str:
        got.append(to)
        return result

    brain = Brain(*answers)
    agent = Agent(name="a", model=brain, tools=[send])
    return openai_agents.wrap(agent, guard), brain, got


async def test_a_clean_run_goes_through() -> None:
    with guard_of() as guard:
        agent, brain, got = agent_of(guard, {"args": '{"to": "ada"}'}, "done")
        assert isinstance(agent, Agent)
        assert (await Runner.run(agent, "hi")).final_output == "done"
        assert got == ["ada"]
        assert len(brain.told) == 2


@pytest.mark.parametrize(
    "asked", ["worse", "bad", [{"role": "user", "content": [{"type": "input_text", "text": "worse"}]}]]
)
async def test_what_is_asked_stops_the_run_before_the_model_is_told(asked: Any) -> None:
    with guard_of() as guard:
        agent, brain, _ = agent_of(guard, "done")
        with pytest.raises(InputGuardrailTripwireTriggered) as stopped:
            await Runner.run(agent, asked)
        assert brain.told == []
        assert "worse" not in str(stopped.value.guardrail_result.output.output_info).replace("words/WORSE", "")


@pytest.mark.parametrize("said", ["worse", "a bad word"])
async def test_what_is_answered_stops_the_run(said: str) -> None:
    with guard_of() as guard, pytest.raises(OutputGuardrailTripwireTriggered):
        await Runner.run(agent_of(guard, said)[0], "hi")


async def test_arguments_of_tools_are_looked_at() -> None:
    with guard_of(on_block={"reply": "Not that."}) as guard:
        agent, brain, got = agent_of(guard, {"args": '{"to": "worse"}'}, "done")
        assert (await Runner.run(agent, "hi")).final_output == "done"
        assert got == []
        assert "Not that." in str(brain.told[1])


async def test_results_of_tools_reach_the_model_cleared() -> None:
    with guard_of() as guard:
        agent, brain, _ = agent_of(guard, {"args": '{"to": "ada"}'}, "done", result="a bad result")
        assert (await Runner.run(agent, "hi")).final_output == "done"
        assert "a <BAD_1> result" in str(brain.told[1])
        assert "a bad" not in str(brain.told[1])
        agent, brain, _ = agent_of(guard, {"args": '{"to": "ada"}'}, "done", result="worse")
        assert (await Runner.run(agent, "hi")).final_output == "done"
        assert "worse" not in str(brain.told[1])


class Tools(MCPServer):
    """A server of two tools; keeps what they were given."""

    def __init__(self, description: str, result: str) -> None:
        super().__init__()
        self.description = description
        self.result = result
        self.got: list[Any] = []

    name = "tools"

    async def connect(self) -> None: ...

    async def cleanup(self) -> None: ...

    async def list_prompts(self) -> Any: ...

    async def get_prompt(self, name: str, arguments: Any = None) -> Any: ...

    async def list_tools(self, run_context: Any = None, agent: Any = None) -> Any:
        schema = {"type": "object", "properties": {"to": {"type": "string"}}}
        return [
            MCPTool(name="send", description="Send it.", inputSchema=schema),
            MCPTool(name="other", description=self.description, inputSchema=schema),
        ]

    async def call_tool(self, tool_name: str, arguments: Any, meta: Any = None) -> Any:
        self.got.append(arguments)
        return CallToolResult(content=[TextContent(type="text", text=self.result)])


@pytest.mark.parametrize(
    ("given", "result", "heard"),
    [
        ("ada", "fine", "fine"),
        ("ada", "a bad result", "a <BAD_1> result"),
        ("ada", "worse", "Not that."),
        ("worse", "", "Not that."),
    ],
)
async def test_tools_of_mcp_servers_are_guarded(given: str, result: str, heard: str) -> None:
    with guard_of(on_block={"reply": "Not that."}) as guard:
        server, brain = Tools("Send another.", result), Brain({"args": json.dumps({"to": given})}, "done")
        agent = openai_agents.wrap(Agent(name="a", model=brain, mcp_servers=[server]), guard)
        assert isinstance(agent.mcp_servers[0], MCPServer)
        assert (await Runner.run(agent, "hi")).final_output == "done"
        assert server.got == ([{"to": "ada"}] if given == "ada" else [])
        assert heard in str(brain.told[1])
        assert "worse" not in str(brain.told[1]).replace('{"to": "worse"}', "")
        assert "a bad" not in str(brain.told[1])


@pytest.mark.parametrize("description", ["a bad tool", "worse"])
async def test_tools_that_say_what_they_must_not_are_left_out(description: str) -> None:
    with guard_of() as guard:
        agent = openai_agents.wrap(Agent(name="a", mcp_servers=[Tools(description, "")]), guard)
        assert [tool.name for tool in await agent.mcp_servers[0].list_tools()] == ["send"]


def test_a_server_without_guardrails_is_refused() -> None:
    class Old:
        pass

    old: Any = Old()
    agent = Agent(name="a")
    agent.mcp_servers = [old]
    with guard_of() as guard, pytest.raises(ConfigurationError, match="MCP servers"):
        openai_agents.wrap(agent, guard)


def test_only_agents_are_wrapped_and_nothing_falls_back() -> None:
    with guard_of() as guard:
        with pytest.raises(ConfigurationError, match="is no agent"):
            openai_agents.wrap(object(), guard)
        with pytest.raises(ConfigurationError, match="fall back"):
            openai_agents.wrap(Agent(name="a"), guard, fallback=lambda _: "x")
