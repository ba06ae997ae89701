"""Stand-ins with the attributes that vLLM documents, guarded: it needs a GPU's software to be installed."""

import sys
import types
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes import Pieces, Words

from llmguard import Blocked, ConfigurationError, Guard
from llmguard.integrations.clients import vllm

RULES = [
    {"detector": "words", "categories": ["BAD"], "action": "redact"},
    {"detector": "words", "categories": ["WORSE"], "action": "block"},
]


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: Any
    cumulative_logprob: float | None
    logprobs: Any
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: Any
    prompt_logprobs: Any
    outputs: list[CompletionOutput]
    finished: bool


@dataclass
class SamplingParams:
    output_kind: int = 0


def output(text: str, finish: str | None = "stop", prompt: Any = None) -> RequestOutput:
    one = CompletionOutput(0, text, [7, 8], -1.0, [{"token": text}], finish)
    return RequestOutput("1", prompt if isinstance(prompt, str) else None, [1], None, [one], finish is not None)


class LLM:
    """Says what is due for each prompt."""

    def __init__(self, say: Any) -> None:
        self.say = say
        self.asked: list[Any] = []
        self.options: list[dict[str, Any]] = []

    def generate(
        self, prompts: Any, sampling_params: Any = None, *, use_tqdm: bool = True, lora_request: Any = None
    ) -> list[RequestOutput]:
        self.asked.append(prompts)
        self.options.append({"sampling_params": sampling_params})
        return [output(self.say(prompt), prompt=prompt) for prompt in prompts]

    def chat(self, messages: Any, sampling_params: Any = None, tools: Any = None) -> list[RequestOutput]:
        self.asked.append(messages)
        self.options.append({"tools": tools})
        return [output(self.say(conversation[-1]["content"])) for conversation in messages]

    def embed(self, prompts: Any) -> Any:
        return [[0.5]]

    def get_tokenizer(self) -> str:
        return "tokenizer"


@dataclass
class AsyncLLM:
    words: list[str]
    asked: list[Any] = field(default_factory=list)
    aborted: bool = False

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **kwargs: Any
    ) -> AsyncIterator[RequestOutput]:
        self.asked.append(prompt)
        so_far = ""
        try:
            for at, word in enumerate(self.words):
                so_far += word
                finish = "stop" if at == len(self.words) - 1 else None
                yield output(word if sampling_params.output_kind == 1 else so_far, finish)
        except GeneratorExit:
            self.aborted = True
            raise

    async def add_request(self, request_id: str, prompt: Any) -> None: ...

    async def abort(self, request_id: str) -> str:
        return request_id


@pytest.fixture(autouse=True)
def _outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("vllm.outputs")
    module.__dict__.update(CompletionOutput=CompletionOutput, RequestOutput=RequestOutput)
    monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.outputs", module)


def guard_of(**policy: Any) -> Guard:
    return Guard({"name": "p", "rules": RULES, **policy}, detectors=[Words("words", "bad", "worse")])


def pieces_guard(**policy: Any) -> Guard:
    rules = [
        {"detector": "pieces", "categories": ["PIECE"], "action": "redact"},
        {"detector": "pieces", "categories": ["LONG"], "action": "block"},
    ]
    return Guard({"name": "p", "rules": rules, **policy}, detectors=[Pieces()])


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def texts(outputs: list[RequestOutput]) -> list[str]:
    return [one.outputs[0].text for one in outputs]


def test_prompts_of_all_kinds_are_cleared_in_one_batch() -> None:
    with guard_of() as guard:
        engine = LLM(lambda prompt: "ok")
        own = vllm.wrap(engine, guard)
        assert isinstance(own, LLM)
        own.generate(["a bad one", {"prompt": "bad too", "multi_modal_data": {}}, {"prompt_token_ids": [1, 2]}])
        own.generate("bad alone")
        assert engine.asked == [
            ["a <BAD_1> one", {"prompt": "<BAD_1> too", "multi_modal_data": {}}, {"prompt_token_ids": [1, 2]}],
            ["<BAD_1> alone"],
        ]
        assert own.get_tokenizer() == "tokenizer"


def test_answers_are_cleared_and_no_prompt_s_values_come_back_in_another_s_answer() -> None:
    with guard_of() as guard:
        own = vllm.wrap(LLM(lambda prompt: "it was <BAD_1>"), guard)
        assert texts(own.generate(["a bad one", "a fine one"])) == ["it was bad", "it was <BAD_1>"]
        [got] = vllm.wrap(LLM(lambda prompt: "my bad answer"), guard).generate("hi")
        assert got.outputs[0].text == "my <BAD_1> answer"
        assert got.outputs[0].token_ids == []
        assert got.outputs[0].logprobs is None
        [got] = vllm.wrap(LLM(lambda prompt: "fine"), guard).generate("hi")
        assert got.outputs[0].token_ids == [7, 8]


def test_one_prompt_that_is_blocked_stops_a_batch_or_is_answered_alone() -> None:
    with guard_of() as guard:
        engine = LLM(lambda prompt: "ok")
        with pytest.raises(Blocked):
            vllm.wrap(engine, guard).generate(["fine", "worse"])
        assert engine.asked == []
    with guard_of(on_block={"reply": "No."}) as guard:
        engine = LLM(lambda prompt: "worse" if prompt == "b" else "ok")
        params = [SamplingParams(), SamplingParams(), SamplingParams(), SamplingParams()]
        got = vllm.wrap(engine, guard).generate(["a", "worse", "b", "c"], params)
        assert texts(got) == ["ok", "No.", "No.", "ok"]
        assert engine.asked == [["a", "b", "c"]]
        assert engine.options[0]["sampling_params"] == params[:3]
        assert got[2].outputs[0].finish_reason == "content_filter"


def test_only_what_was_blocked_is_asked_again() -> None:
    with guard_of(on_block={"retry": 1}) as guard:
        engine = LLM(lambda prompt: "worse" if prompt == "b" else "ok")
        assert texts(vllm.wrap(engine, guard).generate(["a", "b"])) == ["ok", "ok"]
        assert [len(prompts) for prompts in engine.asked] == [2, 1]
        assert "withheld" in engine.asked[1][0]


def test_chats_are_cleared() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "a bad tool", "parameters": {}}}]
    with guard_of() as guard:
        engine = LLM(lambda prompt: "my answer")
        own = vllm.wrap(engine, guard)
        assert texts(own.chat(ask("a bad question"), tools=tools)) == ["my answer"]
        assert texts(own.chat([ask("one"), ask("two bad")])) == ["my answer"] * 2
        assert engine.asked[0] == [ask("a <BAD_1> question")]
        assert engine.asked[1] == [ask("one"), ask("two <BAD_1>")]
        assert engine.options[0]["tools"][0]["function"]["description"] == "a <BAD_1> tool"
        with pytest.raises(Blocked):
            own.chat(ask("worse"))


@pytest.mark.parametrize("kind", [0, 1])
async def test_streams_are_cleared_whether_they_grow_or_come_in_pieces(kind: int) -> None:
    with pieces_guard() as guard:
        engine = AsyncLLM(["see a", "b", "c now", " abc", " end"])
        own = vllm.wrap(engine, guard)
        assert isinstance(own, AsyncLLM)
        got = [one async for one in own.generate("abd?", SamplingParams(kind), "r")]
        said = [one.outputs[0].text for one in got]
        whole = "see <PIECE_1> now <PIECE_1> end"
        assert (said[-1] if kind == 0 else "".join(said)) == whole
        assert all([whole.startswith(one) for one in said]) or kind == 1
        assert got[-1].finished
        assert "abc" not in str(got)


@pytest.mark.parametrize("kind", [0, 1])
async def test_a_blocked_stream_ends_and_the_engine_stops(kind: int) -> None:
    async def read(guard: Guard, engine: AsyncLLM, prompt: str = "hi") -> list[str]:
        got: list[str] = []
        with pytest.raises(Blocked):  # noqa: PT012 - what came before counts
            async for one in vllm.wrap(engine, guard).generate(prompt, SamplingParams(kind), "r"):
                got.append(one.outputs[0].text)  # noqa: PERF401
        return got

    with pieces_guard() as guard:
        engine = AsyncLLM(["so ", "abbc", "never"])
        assert "".join((await read(guard, engine))[-1:]).strip() == "so"
        assert engine.aborted
        engine = AsyncLLM(["x"])
        assert await read(guard, engine, "abbc") == []
        assert engine.asked == []
    with pieces_guard(on_block={"reply": "No."}) as guard:
        for prompt, whole in (("hi", "so No."), ("abbc", "No.")):
            own = vllm.wrap(AsyncLLM(["so ", "abbc", "never"]), guard)
            got = [one async for one in own.generate(prompt, SamplingParams(kind), "r")]
            said = [one.outputs[0].text for one in got]
            assert (said[-1] if kind == 0 else "".join(said)) == whole
            assert got[-1].outputs[0].finish_reason == "content_filter"
            assert got[-1].finished


async def test_clean_outputs_are_the_same_objects() -> None:
    class Kept(AsyncLLM):
        async def generate(self, prompt: Any, sampling_params: Any, request_id: str) -> AsyncIterator[RequestOutput]:  # type: ignore[override]
            for one in kept:
                yield one

    kept = [output("one", None), output("one two")]
    with pieces_guard() as guard:
        got = [one async for one in vllm.wrap(Kept([]), guard).generate("hi", SamplingParams(), "r")]
        assert [id(one) for one in got] == [id(one) for one in kept]


async def test_what_is_not_guarded_is_refused() -> None:
    with guard_of() as guard:
        with pytest.raises(ConfigurationError, match="embed is not guarded: use generate or chat"):
            vllm.wrap(LLM(str), guard).embed(["x"])
        engine = LLM(str)
        engine.llm_engine = object()  # type: ignore[attr-defined]
        with pytest.raises(ConfigurationError, match="llm_engine is not guarded"):
            vllm.wrap(engine, guard).llm_engine  # type: ignore[attr-defined]  # noqa: B018
        with pytest.raises(ConfigurationError, match="prompts other than"):
            vllm.wrap(LLM(str), guard).generate([{"encoder_prompt": "x", "decoder_prompt": "y"}])
        own = vllm.wrap(AsyncLLM([]), guard)
        with pytest.raises(ConfigurationError, match="add_request is not guarded"):
            await own.add_request("r", "x")
        assert await own.abort("r") == "r"
