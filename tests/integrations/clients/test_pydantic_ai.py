"""Agents of Pydantic AI on a guarded model."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes import Pieces, Words

from llmguard import Blocked, ConfigurationError, Guard

pytest.importorskip("pydantic_ai")
from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    TextPart,
    ToolCallPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

from llmguard.integrations.clients import pydantic_ai as clients

RULES = [
    {"detector": "words", "categories": ["BAD"], "action": "redact"},
    {"detector": "words", "categories": ["WORSE"], "action": "block"},
]


def guard_of(**policy: Any) -> Guard:
    return Guard({"name": "p", "rules": RULES, **policy}, detectors=[Words("words", "bad", "worse")])


def pieces_guard(**policy: Any) -> Guard:
    rules = [
        {"detector": "pieces", "categories": ["PIECE"], "action": "redact"},
        {"detector": "pieces", "categories": ["LONG"], "action": "block"},
    ]
    return Guard({"name": "p", "rules": rules, **policy}, detectors=[Pieces()])


class Brain:
    """Answers in turn; keeps what it was told."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.told: list[Any] = []
        self.infos: list[AgentInfo] = []

    def whole(self, messages: list[Any], info: AgentInfo) -> ModelResponse:
        self.told.append(messages)
        self.infos.append(info)
        made = self.answers.pop(0)
        return ModelResponse(parts=made if isinstance(made, list) else [TextPart(made)])

    async def pieces(self, messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        self.told.append(messages)
        for piece in self.answers.pop(0):
            yield piece

    @property
    def model(self) -> FunctionModel:
        return FunctionModel(self.whole, stream_function=self.pieces)


async def test_an_agent_s_model_is_told_and_tells_what_was_cleared() -> None:
    with guard_of() as guard:
        brain = Brain("my own bad answer", "you said <BAD_1>")
        agent = Agent(clients.wrap(brain.model, guard), instructions="be kind", system_prompt="be brief")
        assert (await agent.run("hi")).output == "my own <BAD_1> answer"
        assert (await agent.run("a bad thing")).output == "you said bad"
        assert "a bad" not in str(brain.told[1])
        with pytest.raises(Blocked):
            await agent.run("worse")
        with pytest.raises(Blocked):
            await agent.run(["fine", "worse"])
        assert len(brain.told) == 2


async def test_instructions_and_tools_are_looked_at_too() -> None:
    with guard_of() as guard:
        with pytest.raises(Blocked):
            await Agent(clients.wrap(Brain("x").model, guard), instructions="worse").run("hi")
        brain = Brain("fine")
        agent = Agent(clients.wrap(brain.model, guard))

        @agent.tool_plain
        def send(to: str) -> str:
            """Send a bad thing."""
            return to

        await agent.run("hi")
        assert brain.infos[0].function_tools[0].description == "Send a <BAD_1> thing."


async def test_tools_get_cleared_arguments_and_the_model_cleared_results() -> None:
    got: list[str] = []
    with guard_of() as guard:
        brain = Brain([ToolCallPart("send", {"to": "my bad friend"}, tool_call_id="c1")], "done")
        agent = Agent(clients.wrap(brain.model, guard))

        @agent.tool_plain
        def send(to: str) -> dict[str, str]:
            got.append(to)
            return {"said": "bad words"}

        assert (await agent.run("hi")).output == "done"
        assert got == ["my <BAD_1> friend"]
        assert "bad words" not in str(brain.told[1])


async def test_streams_are_cleared_and_blocked() -> None:
    with pieces_guard() as guard:
        agent = Agent(clients.wrap(Brain(["see a", "b", "c now"], ["so ", "abbc", "never"]).model, guard))
        async with agent.run_stream("hi") as run:
            got = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
        assert "".join(got) == "see <PIECE_1> now"
        with pytest.raises(Blocked):
            async with agent.run_stream("hi") as run:
                [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
    with pieces_guard(on_block={"reply": "No."}) as guard:
        agent = Agent(clients.wrap(Brain(["so ", "abbc"]).model, guard))
        async with agent.run_stream("hi") as run:
            assert await run.get_output() == "so No."


async def test_streamed_calls_of_tools_are_cleared() -> None:
    got: list[str] = []
    with pieces_guard() as guard:
        calls = [{0: DeltaToolCall("send", '{"to": "a', tool_call_id="c1")}, {0: DeltaToolCall(json_args='bc"}')}]
        agent = Agent(clients.wrap(Brain(calls, ["done"]).model, guard))

        @agent.tool_plain
        def send(to: str) -> str:
            got.append(to)
            return "ok"

        async with agent.run_stream("hi") as run:
            assert await run.get_output() == "done"
        assert got == ["<PIECE_1>"]


async def test_parts_that_come_whole_in_a_stream_stay_what_they_are() -> None:
    with pieces_guard() as guard:
        call = NativeToolCallPart("web_search", {"query": "abc"}, tool_call_id="c1")
        found = NativeToolReturnPart("web_search", "found abc", tool_call_id="c1")
        agent = Agent(clients.wrap(Brain([{0: call}, {1: found}, "do", "ne"]).model, guard))
        async with agent.run_stream("hi") as run:
            assert await run.get_output() == "done"
        parts = run.all_messages()[-1].parts
        assert [type(part) for part in parts] == [NativeToolCallPart, NativeToolReturnPart, TextPart]
        assert parts[0].args == {"query": "<PIECE_1>"}
        assert parts[1].content == "found <PIECE_1>"


async def test_reasoning_keeps_its_signature_unless_it_was_changed() -> None:
    with pieces_guard() as guard:
        for said, shown, signature in (("hmm", "hmm", "sig"), ("abc", "<PIECE_1>", None)):
            pieces = [{0: DeltaThinkingPart(content=said)}, {0: DeltaThinkingPart(content="", signature="sig")}, "done"]
            agent = Agent(clients.wrap(Brain(pieces).model, guard))
            async with agent.run_stream("hi") as run:
                assert await run.get_output() == "done"
            thought = run.all_messages()[-1].parts[0]
            assert (thought.content, thought.signature) == (shown, signature)


async def test_a_policy_replies_and_falls_back() -> None:
    with guard_of(on_block={"reply": "No."}) as guard:
        assert (await Agent(clients.wrap(Brain("worse").model, guard)).run("hi")).output == "No."
    with guard_of(on_block="fallback") as guard:
        model = clients.wrap(Brain("worse").model, guard, fallback=lambda _: "sorry")
        assert (await Agent(model).run("hi")).output == "sorry"
        with pytest.raises(ConfigurationError, match="fallback"):
            clients.wrap(Brain().model, guard)


async def test_other_ways_to_send_messages_are_refused() -> None:
    with guard_of() as guard:
        model = clients.wrap(Brain().model, guard)
        for name in ("count_tokens", "batch_create", "batch_encode", "compact_messages"):
            with pytest.raises(ConfigurationError, match="is not guarded"):
                await getattr(model, name)([], None, None)


async def test_what_settings_tell_a_model_is_looked_at() -> None:
    with guard_of() as guard:
        brain = Brain("ok", "ok")
        agent = Agent(clients.wrap(brain.model, guard))
        told: Any = {"extra_body": {"documents": ["a bad source"], "n": 1}, "seed": 7}
        await agent.run("hi", model_settings=told)
        assert brain.infos[0].model_settings["extra_body"] == {"documents": ["a <BAD_1> source"], "n": 1}
        assert brain.infos[0].model_settings["seed"] == 7
        assert told["extra_body"]["documents"] == ["a bad source"]
        for more in (
            {"extra_body": {"prompt": "worse"}},
            {"openai_prediction": {"type": "content", "content": "worse"}},
        ):
            with pytest.raises(Blocked):
                await agent.run("hi", model_settings=more)
        with pytest.raises(TypeError, match="has no JSON"):
            await agent.run("hi", model_settings={"extra_body": {"prompt": object()}})
        assert len(brain.told) == 1
