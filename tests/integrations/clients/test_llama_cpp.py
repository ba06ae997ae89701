"""A stand-in with the signatures and dicts that llama-cpp-python documents, guarded."""

from collections.abc import Iterator
from typing import Any

import pytest
from fakes import Pieces, Words

from llmguard import Blocked, ConfigurationError, Guard
from llmguard.integrations.clients import llama_cpp

RULES = [
    {"detector": "words", "categories": ["BAD"], "action": "redact"},
    {"detector": "words", "categories": ["WORSE"], "action": "block"},
]


class Llama:
    """Says what it is told to; keeps what it was asked."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.open = 0
        self.metadata = {"general.name": "fake"}

    def create_completion(
        self,
        prompt: Any,
        suffix: str | None = None,
        max_tokens: int | None = 16,
        stream: bool = False,
        stop: Any = None,
        logits_processor: Any = None,
        grammar: Any = None,
        logit_bias: dict[int, float] | None = None,
    ) -> Any:
        self.asked.append(("completion", {"prompt": prompt, "suffix": suffix, "logit_bias": logit_bias}))
        if stream:
            return self._stream([self._completion(word, None) for word in self.words] + [self._completion("", "stop")])
        return self._completion(" ".join(self.words), "stop")

    def __call__(
        self, prompt: str, suffix: str | None = None, max_tokens: int | None = 16, stream: bool = False
    ) -> Any:
        return self.create_completion(prompt, suffix, max_tokens, stream)

    def create_chat_completion(
        self, messages: Any, tools: Any = None, stream: bool = False, logits_processor: Any = None, grammar: Any = None
    ) -> Any:
        self.asked.append(("chat", {"messages": messages, "grammar": grammar, "logits_processor": logits_processor}))
        if stream:
            deltas = [{"role": "assistant"}, *[{"content": word} for word in self.words]]
            return self._stream([self._chunk(delta, None) for delta in deltas] + [self._chunk({}, "stop")])
        message = {"role": "assistant", "content": " ".join(self.words)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake.gguf"}
        return {**head, "choices": [choice], "usage": usage}

    def create_embedding(self, input: Any, model: str | None = None) -> Any:  # noqa: A002 - as documented
        self.asked.append(("embedding", {"input": input}))
        data = [{"object": "embedding", "embedding": [0.5, 0.5], "index": 0}]
        return {"object": "list", "data": data, "model": "fake", "usage": {"prompt_tokens": 1, "total_tokens": 1}}

    def embed(self, input: Any, normalize: bool = False, truncate: bool = True, return_count: bool = False) -> Any:  # noqa: A002
        self.asked.append(("embed", {"input": input}))
        return [0.5, 0.5]

    def generate(self, tokens: list[int]) -> Iterator[int]:
        yield from tokens

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        return list(text)

    def n_ctx(self) -> int:
        return 512

    def _stream(self, events: list[Any]) -> Iterator[Any]:
        self.open += 1
        try:
            yield from events
        finally:
            self.open -= 1

    @staticmethod
    def _completion(text: str, finish: str | None) -> dict[str, Any]:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "fake.gguf", "choices": [choice]}

    @staticmethod
    def _chunk(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        head = {"id": "chatcmpl-1", "model": "fake.gguf", "created": 1, "object": "chat.completion.chunk"}
        return {**head, "choices": [choice]}


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


def test_the_wrapped_model_is_of_the_same_type_and_keeps_what_has_no_text() -> None:
    with guard_of() as guard:
        model = llama_cpp.wrap(Llama("x"), guard)
        assert isinstance(model, Llama)
        assert model.n_ctx() == 512
        assert model.metadata["general.name"] == "fake"
        assert model.tokenize(b"ab") == [97, 98]


def test_a_chat_is_cleared_both_ways() -> None:
    with guard_of() as guard:
        llama = Llama("a", "bad", "answer")
        model, rules = llama_cpp.wrap(llama, guard), object()
        got = model.create_chat_completion(ask("a bad question"), logits_processor=[print], grammar=rules)
        assert got["choices"][0]["message"]["content"] == "a bad answer"  # the user's own word, restored
        assert got["usage"]["total_tokens"] == 5
        _, sent = llama.asked[0]
        assert sent["messages"][0]["content"] == "a <BAD_1> question"
        assert sent["grammar"] is rules
        assert sent["logits_processor"] == [print]
        with pytest.raises(Blocked):
            model.create_chat_completion(messages=ask("worse"))
        assert len(llama.asked) == 1


def test_completions_are_cleared_however_they_are_called() -> None:
    with guard_of() as guard:
        llama = Llama("bad")
        model = llama_cpp.wrap(llama, guard)
        calls = (
            lambda: model("a bad start", "bad end", 5),
            lambda: model.create_completion(prompt="a bad start", suffix="bad end", logit_bias={7: 1.0}),
        )
        for call in calls:
            assert call()["choices"][0]["text"] == "bad"  # the user's own word, restored
            assert llama.asked[-1][1]["prompt"] == "a <BAD_1> start"
            assert llama.asked[-1][1]["suffix"] == "<BAD_1> end"
        assert llama.asked[-1][1]["logit_bias"] == {7: 1.0}


def test_what_the_model_made_up_itself_is_redacted() -> None:
    with guard_of() as guard:
        model = llama_cpp.wrap(Llama("bad"), guard)
        assert model("hi")["choices"][0]["text"] == "<BAD_1>"
        assert model.create_chat_completion(ask("hi"))["choices"][0]["message"]["content"] == "<BAD_1>"


def test_tokens_as_a_prompt_are_passed_on_as_they_are() -> None:
    with guard_of() as guard:
        llama = Llama("fine")
        llama_cpp.wrap(llama, guard).create_completion([1, 2, 3])
        assert llama.asked[0][1]["prompt"] == [1, 2, 3]


@pytest.mark.parametrize("method", ["create_chat_completion", "create_completion", "__call__"])
def test_streams_are_cleared_and_their_source_is_closed(method: str) -> None:
    def said(events: Any) -> str:
        choices = [event["choices"][0] for event in events]
        return "".join([one.get("text") or one.get("delta", {}).get("content") or "" for one in choices])

    what = ask("hi") if "chat" in method else "hi"
    with pieces_guard() as guard:
        llama = Llama("see a", "b", "c now")
        assert said(getattr(llama_cpp.wrap(llama, guard), method)(what, stream=True)) == "see <PIECE_1> now"
        assert llama.open == 0
        llama = Llama("so ", "ab", "bc", "never")
        stream = getattr(llama_cpp.wrap(llama, guard), method)(what, stream=True)
        with pytest.raises(Blocked):
            said(list(stream))
        assert llama.open == 0
    with pieces_guard(on_block={"reply": "No."}) as guard:
        events = list(getattr(llama_cpp.wrap(Llama("so ", "abbc"), guard), method)(what, stream=True))
        assert said(events) == "so No."
        assert events[-1]["choices"][0]["finish_reason"] == "content_filter"


def test_embeddings_are_of_the_cleared_text() -> None:
    with guard_of() as guard:
        llama = Llama()
        model = llama_cpp.wrap(llama, guard)
        assert model.create_embedding(["bad", "fine"])["data"][0]["embedding"] == [0.5, 0.5]
        assert model.embed("bad", normalize=True) == [0.5, 0.5]
        assert [sent["input"] for _, sent in llama.asked] == [["<BAD_1>", "fine"], "<BAD_1>"]
        with pytest.raises(Blocked):
            model.embed("worse")


def test_what_runs_the_model_on_tokens_is_refused() -> None:
    with guard_of() as guard:
        model = llama_cpp.wrap(Llama(), guard)
        with pytest.raises(ConfigurationError, match="generate is not guarded: use create_chat_completion"):
            model.generate([1])


def test_a_fallback_answers_in_place_of_the_model() -> None:
    with guard_of(on_block="fallback") as guard:
        model = llama_cpp.wrap(Llama("worse"), guard, fallback=lambda _: "sorry")
        assert model.create_chat_completion(ask("hi"))["choices"][0]["message"]["content"] == "sorry"
        assert model("hi")["choices"][0]["text"] == "sorry"
        with pytest.raises(ConfigurationError, match="fallback"):
            llama_cpp.wrap(Llama(), guard)
