"""Chat models of LangChain, guarded, reached in every way that LangChain has; and the handler that only observes."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fakes import Pieces, Words

from llmguard import Action, Blocked, ConfigurationError, Guard, Stage

lc = pytest.importorskip("langchain_core")
from langchain_core.callbacks import BaseCallbackHandler  # noqa: E402
from langchain_core.documents import Document  # noqa: E402
from langchain_core.language_models import BaseChatModel  # noqa: E402
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage  # noqa: E402
from langchain_core.output_parsers import StrOutputParser  # noqa: E402
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult  # noqa: E402
from langchain_core.prompts import ChatPromptTemplate  # noqa: E402
from langchain_core.retrievers import BaseRetriever  # noqa: E402
from langchain_core.tools import tool  # noqa: E402

from llmguard.integrations.clients import langchain  # noqa: E402
from llmguard.integrations.clients.langchain_callback import GuardCallback  # noqa: E402

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


def told(*events: Any) -> str:
    """All that they say, but for ids of runs and addresses of objects, in which anything may stand by chance."""
    return re.sub(r"(?:0x)?[0-9a-f-]{8,}", "", str([str(event) for event in events]))


class Model(BaseChatModel):
    """Says its words, or calls a tool; keeps what it was asked."""

    words: list[str]
    call: dict[str, Any] | None = None
    asked: list[Any]
    options: list[dict[str, Any]]
    open: list[int]

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self.asked.append(messages)
        self.options.append(kwargs)
        calls = [{"name": "send", "args": self.call, "id": "c1", "type": "tool_call"}] if self.call else []
        text = "".join(self.words)
        metadata = {"finish_reason": "stop", "logprobs": {"content": [{"token": text}]}}
        message = AIMessage(text, tool_calls=calls, response_metadata=metadata)
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"model": "m"})

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        from langchain_core.utils.function_calling import convert_to_openai_tool

        return self.bind(tools=[convert_to_openai_tool(one) for one in tools], **kwargs)


class Streaming(Model):
    """A model that has streams of its own, and tells callbacks of each piece as partners' packages do."""

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self.asked.append(messages)
        self.open.append(1)
        try:
            for chunk in self._chunks():
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        finally:
            self.open.pop()

    def _chunks(self) -> Iterator[ChatGenerationChunk]:
        for word in self.words:
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        if self.call:
            start = {"name": "send", "args": "", "id": "c1", "index": 0, "type": "tool_call_chunk"}
            yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[start]))
            for piece in ('{"to": "', *self.call["to"], '"}'):
                more = {"name": None, "args": piece, "id": None, "index": 0, "type": "tool_call_chunk"}
                yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[more]))
        yield ChatGenerationChunk(message=AIMessageChunk("", response_metadata={"finish_reason": "stop"}))


class AsyncStreaming(Streaming):
    """A model with asynchronous methods of its own."""

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return self._generate(messages, stop)

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.asked.append(messages)
        for chunk in self._chunks():
            yield chunk


class Tokens(BaseCallbackHandler):
    """Keeps the pieces that a model tells of."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def on_llm_new_token(self, token: str, **_: Any) -> None:
        self.tokens.append(token)


KINDS = pytest.mark.parametrize("kind", [Model, Streaming, AsyncStreaming])


def made(kind: Any, *words: str, **fields: Any) -> Any:
    return kind(words=list(words), asked=[], options=[], open=[], **fields)


@KINDS
async def test_every_way_to_ask_is_guarded(kind: Any) -> None:
    with guard_of() as guard:
        model = made(kind, "my bad answer")
        own = langchain.wrap(model, guard)
        assert isinstance(own, kind)
        assert type(own).__name__ == kind.__name__
        chain = ChatPromptTemplate.from_messages([("system", "be kind"), ("human", "{q}")]) | own | StrOutputParser()
        clean = "my <BAD_1> answer"
        assert own.invoke("hi").content == clean
        assert (await own.ainvoke("hi")).content == clean
        assert [one.content for one in own.batch(["hi", "ho"])] == [clean] * 2
        assert "".join([one.content for one in own.stream("hi")]) == clean
        assert "".join([one.content async for one in own.astream("hi")]) == clean
        assert chain.invoke({"q": "hi"}) == clean
        assert "".join([one async for one in chain.astream({"q": "hi"})]) == clean
        assert own.generate([[HumanMessage("hi")]]).generations[0][0].text == clean
        assert own.with_retry().invoke("hi").content == clean
        before = len(model.asked)
        for ask in (own.invoke, own.with_config(tags=["t"]).invoke, lambda q: list(own.stream(q))):
            with pytest.raises(Blocked):
                ask("worse")
        with pytest.raises(Blocked):
            await own.ainvoke("worse")
        with pytest.raises(Blocked):
            [one async for one in own.astream("worse")]
        assert len(model.asked) == before


def test_messages_of_all_kinds_are_cleared_and_clean_ones_stay_the_same_objects() -> None:
    with guard_of() as guard:
        model = made(Model, "you said bad")
        calls = [{"name": "send", "args": {"to": "bad"}, "id": "c1", "type": "tool_call"}]
        block = {"type": "tool_use", "id": "c1", "name": "send", "input": {"to": "bad"}}
        messages = [
            SystemMessage("be kind"),
            HumanMessage([{"type": "text", "text": "a bad one"}, {"type": "image_url", "image_url": {"url": "u"}}]),
            AIMessage([{"type": "text", "text": "ok"}, block], tool_calls=calls),
            ToolMessage("bad result", tool_call_id="c1"),
        ]
        assert langchain.wrap(model, guard).invoke(messages).content == "you said bad"
        system, human, ai, result = model.asked[0]
        assert system is messages[0]
        assert human.content[0]["text"] == "a <BAD_1> one"
        assert human.content[1] == messages[1].content[1]
        assert ai.tool_calls[0]["args"] == {"to": "<BAD_1>"}
        assert ai.content[1]["input"] == {"to": "<BAD_1>"}
        assert result.content == "<BAD_1> result"
        assert result.tool_call_id == "c1"
        assert messages[3].content == "bad result"


def test_what_says_the_answer_again_goes_where_the_answer_changed() -> None:
    with guard_of() as guard:
        got = langchain.wrap(made(Model, "a bad one"), guard).invoke("hi")
        assert "logprobs" not in got.response_metadata
        assert got.response_metadata["finish_reason"] == "stop"
        clean = langchain.wrap(made(Model, "a good one"), guard).invoke("hi")
        assert "logprobs" in clean.response_metadata


@KINDS
def test_calls_of_tools_are_guarded(kind: Any) -> None:
    with guard_of() as guard:
        own = langchain.wrap(made(kind, "ok", call={"to": "my bad friend"}), guard)
        assert own.invoke("hi").tool_calls[0]["args"] == {"to": "my <BAD_1> friend"}
        whole = None
        for chunk in own.stream("hi"):
            whole = chunk if whole is None else whole + chunk
        [call] = whole.tool_calls
        assert (call["name"], call["args"], call["id"]) == ("send", {"to": "my <BAD_1> friend"}, "c1")


def test_calls_that_stand_in_the_content_are_guarded_in_streams() -> None:
    class Blocks(Streaming):
        def _chunks(self) -> Iterator[ChatGenerationChunk]:
            for piece in ("", '{"to": "a', "b", 'c"}'):
                call = {"name": None, "args": piece, "id": None, "index": 1, "type": "tool_call_chunk"}
                block = {"type": "input_json_delta", "partial_json": piece, "index": 1}
                if not piece:
                    call |= {"name": "send", "id": "c1"}
                    block = {"type": "tool_use", "id": "c1", "name": "send", "input": {}, "index": 1}
                yield ChatGenerationChunk(message=AIMessageChunk([block], tool_call_chunks=[call]))

    with pieces_guard() as guard:
        whole = None
        for chunk in langchain.wrap(made(Blocks), guard).stream("hi"):
            whole = chunk if whole is None else whole + chunk
        assert whole.tool_calls[0]["args"] == {"to": "<PIECE_1>"}
        assert "abc" not in told(whole)


def test_events_that_a_model_makes_itself_are_no_way_around() -> None:
    class Native(Streaming):
        def _stream_chat_model_events(self, *_: Any, **__: Any) -> Iterator[Any]:
            raise AssertionError("past the guard")

    with pieces_guard() as guard:
        own = langchain.wrap(made(Native, "see a", "bc"), guard)
        events = own.stream_events("hi", version="v3")
        assert "abc" not in told(*events)
        assert own.invoke("hi").content == "see <PIECE_1>"


def test_what_tools_say_of_themselves_is_looked_at() -> None:
    @tool
    def send(to: str) -> str:
        """Send a bad thing."""
        return to

    with guard_of() as guard:
        model = made(Model, "ok")
        langchain.wrap(model, guard).bind_tools([send]).invoke("hi")
        assert model.options[0]["tools"][0]["function"]["description"] == "Send a <BAD_1> thing."


async def test_streams_are_cleared_piece_by_piece_and_callbacks_see_what_goes_out() -> None:
    with pieces_guard() as guard:
        for kind in (Streaming, AsyncStreaming):
            model, seen = made(kind, "see a", "b", "c now"), Tokens()
            own = langchain.wrap(model, guard)
            got = list(own.stream("hi", config={"callbacks": [seen]}))
            assert "".join([one.content for one in got]) == "see <PIECE_1> now"
            assert "".join(seen.tokens) == "see <PIECE_1> now"
            assert not model.open
            got = [one async for one in own.astream("hi")]
            assert "".join([one.content for one in got]) == "see <PIECE_1> now"
            events = [one async for one in own.astream_events("hi", version="v2")]
            assert "abc" not in told(*events)


def test_blocked_streams_end_and_close_the_model_s_own() -> None:
    with pieces_guard() as guard:
        model = made(Streaming, "so ", "abbc", "never")
        got = []
        with pytest.raises(Blocked):  # noqa: PT012 - what came before counts
            for chunk in langchain.wrap(model, guard).stream("hi"):
                got.append(chunk.content)  # noqa: PERF401 - likewise
        assert "".join(got) == "so "
        assert not model.open
    with pieces_guard(on_block={"reply": "No."}) as guard:
        own = langchain.wrap(made(Streaming, "so ", "abbc"), guard)
        got = list(own.stream("hi"))
        assert "".join([one.content for one in got]) == "so No."
        assert "content_filter" in [one.response_metadata.get("finish_reason") for one in got]
        assert own.invoke("abbc").content == "No."


def test_a_reader_that_goes_closes_the_model_s_stream() -> None:
    with pieces_guard() as guard:
        model = made(Streaming, "one", "two", "three")
        stream = langchain.wrap(model, guard).stream("hi")
        next(stream)
        stream.close()
        assert not model.open


def test_only_chat_models_are_wrapped() -> None:
    with guard_of() as guard, pytest.raises(ConfigurationError, match="wrap the chat model"):
        langchain.wrap(StrOutputParser(), guard)
    with guard_of(on_block="fallback") as guard:
        with pytest.raises(ConfigurationError, match="fallback"):
            langchain.wrap(made(Model), guard)
        assert langchain.wrap(made(Model, "worse"), guard, fallback=lambda _: "sorry").invoke("hi").content == "sorry"


def test_the_handler_observes_and_changes_nothing() -> None:
    class Found(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return [Document("a bad source")]

    @tool
    def send(to: str) -> str:
        """Send."""
        return f"sent to {to}"

    decisions = []
    with guard_of() as guard:
        config: Any = {"callbacks": [GuardCallback(guard, decisions.append)]}
        assert made(Model, "worse").invoke("a bad question", config=config).content == "worse"
        assert send.invoke({"to": "bad"}, config=config) == "sent to bad"
        assert Found().invoke("q", config=config)[0].page_content == "a bad source"
    assert [(one.stage, one.action) for one in decisions] == [
        (Stage.INPUT, Action.REDACT),
        (Stage.OUTPUT, Action.BLOCK),
        (Stage.TOOL_CALL, Action.REDACT),
        (Stage.TOOL_RESULT, Action.REDACT),
        (Stage.CONTEXT, Action.REDACT),
    ]


def test_what_options_tell_a_model_is_looked_at() -> None:
    class Own:
        """Has no JSON."""

    own = Own()
    with guard_of() as guard:
        model = made(Model, "ok")
        wrapped = langchain.wrap(model, guard)
        more = {"documents": [{"text": "a bad source"}]}
        wrapped.invoke("hi", extra_body=more, instructions="be bad", user="bad", tool_choice="bad", seed=7, own=own)
        assert model.options[0] == {
            "extra_body": {"documents": [{"text": "a <BAD_1> source"}]},
            "instructions": "be <BAD_1>",
            "user": "bad",
            "tool_choice": "bad",
            "seed": 7,
            "own": own,
        }
        with pytest.raises(Blocked):
            wrapped.invoke("hi", prediction={"type": "content", "content": "worse"})
        with pytest.raises(Blocked):
            list(wrapped.stream("hi", instructions="worse"))
