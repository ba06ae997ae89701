"""litellm and its router, guarded, against a server that speaks OpenAI's formats."""

from collections.abc import Iterator
from typing import Any

import pytest
from fakes import Pieces, Words
from small_server import serving

from llmguard import Blocked, ConfigurationError, Guard
from llmguard.integrations.clients import litellm as clients

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # litellm keeps its connections
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic"),
]


@pytest.fixture(scope="module")
def litellm() -> Any:
    import os
    import warnings

    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or it asks the network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("litellm")
    module.num_retries = 0
    return module


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


def answers(*words: str) -> Any:  # noqa: C901 - one server, four formats
    text = "".join(words)
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}

    def answer(path: str, body: Any) -> Any:
        head = {"id": "1", "created": 1, "model": "m"}
        if path.endswith("/embeddings"):
            data = [{"object": "embedding", "embedding": [0.5], "index": 0}]
            return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        if path.endswith("/responses"):
            return responses(body)
        if path.endswith("/chat/completions"):
            if body.get("stream"):
                return iter([*[chunk(head, {"role": "assistant", "content": w}) for w in words], end(head), "[DONE]"])
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        said = [{"index": 0, "text": w, "logprobs": None, "finish_reason": None} for w in words]
        if body.get("stream"):
            return iter([*[{**head, "object": "text_completion", "choices": [one]} for one in said], "[DONE]"])
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
        return {**head, "object": "text_completion", "choices": [choice], "usage": usage}

    def chunk(head: dict[str, Any], delta: Any, finish: str | None = None) -> Any:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    def end(head: dict[str, Any]) -> Any:
        return chunk(head, {}, "stop")

    def responses(body: Any) -> Any:
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "i", "status": "completed", "role": "assistant", "content": [part]}
        whole = {
            "id": "r",
            "object": "response",
            "created_at": 1,
            "model": "m",
            "status": "completed",
            "output": [item],
        }
        whole |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0}
        whole |= {"error": None, "incomplete_details": None, "instructions": None, "metadata": {}}
        return events(whole, item, part) if body.get("stream") else whole

    def events(whole: Any, item: Any, part: Any) -> Iterator[Any]:
        place = {"item_id": "i", "output_index": 0, "content_index": 0}
        begun = {**whole, "output": [], "status": "in_progress"}
        made: list[dict[str, Any]] = [
            {"type": "response.created", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
            {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
            *[{"type": "response.output_text.delta", **place, "delta": word} for word in words],
            {"type": "response.output_text.done", **place, "text": text},
            {"type": "response.content_part.done", **place, "part": part},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]
        for number, event in enumerate(made):
            yield {**event, "sequence_number": number}

    return answer


def to(url: str, model: str = "openai/m") -> dict[str, Any]:
    return {"model": model, "api_base": f"{url}/v1", "api_key": "none"}


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def said(events: list[Any]) -> str:
    return "".join([event.choices[0].delta.content or "" for event in events])


async def test_chats_are_cleared_sync_and_async(litellm: Any) -> None:
    with serving(answers("my bad answer")) as served, guard_of() as guard:
        own = clients.wrap(litellm, guard)
        for got in (
            own.completion(messages=ask("hi"), **to(served.url)),
            await own.acompletion(messages=ask("hi"), **to(served.url)),
        ):
            assert isinstance(got, litellm.ModelResponse)
            assert got.choices[0].message.content == "my <BAD_1> answer"
            assert got._hidden_params["custom_llm_provider"] == "openai"
        own.completion(messages=ask("a bad question"), extra_body={"documents": ["bad"]}, **to(served.url))
        assert served.asked[-1][1]["messages"] == ask("a <BAD_1> question")
        assert served.asked[-1][1]["documents"] == ["<BAD_1>"]
        with pytest.raises(Blocked):
            own.completion("openai/m", ask("worse"))
        with pytest.raises(Blocked):
            await own.acompletion(messages=ask("worse"), **to(served.url))
        assert len(served.asked) == 3


async def test_streamed_chats_are_cleared_and_blocked(litellm: Any) -> None:
    with serving(answers("see a", "b", "c now")) as served, pieces_guard() as guard:
        own = clients.wrap(litellm, guard)
        made = await own.acompletion(messages=ask("hi"), stream=True, **to(served.url))
        for got in (
            list(own.completion(messages=ask("hi"), stream=True, **to(served.url))),
            [event async for event in made],
        ):
            assert said(got) == "see <PIECE_1> now"
            assert got[-1].choices[0].finish_reason == "stop"
    with serving(answers("so ", "abbc", "never")) as served, pieces_guard(on_block={"reply": "No."}) as guard:
        got = list(clients.wrap(litellm, guard).completion(messages=ask("hi"), stream=True, **to(served.url)))
        assert said(got) == "so No."
        assert got[-1].choices[0].finish_reason == "content_filter"


async def test_completions_and_embeddings_are_cleared(litellm: Any) -> None:
    with serving(answers("my bad answer")) as served, guard_of() as guard:
        own = clients.wrap(litellm, guard)
        where = to(served.url, "text-completion-openai/m")
        assert own.text_completion(prompt="hi", **where).choices[0].text == "my <BAD_1> answer"
        assert (await own.atext_completion(prompt="hi", **where)).choices[0].text == "my <BAD_1> answer"
        assert own.embedding(input=["a bad text"], **to(served.url)).data[0]["embedding"] == [0.5]
        assert served.asked[-1][1]["input"] == ["a <BAD_1> text"]
        with pytest.raises(Blocked):
            await own.aembedding(input=["worse"], **to(served.url))


async def test_responses_are_cleared_whole_and_streamed(litellm: Any) -> None:
    with serving(answers("see a", "b", "c now")) as served, pieces_guard() as guard:
        own = clients.wrap(litellm, guard)
        for got in (own.responses(input="hi", **to(served.url)), await own.aresponses(input="abd", **to(served.url))):
            assert got.output[0].content[0].text == "see <PIECE_1> now"
        made = await own.aresponses(input="hi", stream=True, **to(served.url))
        for events in (list(own.responses(input="hi", stream=True, **to(served.url))), [one async for one in made]):
            assert (
                "".join([one.delta for one in events if one.type == "response.output_text.delta"])
                == "see <PIECE_1> now"
            )
            assert events[-1].response.output[0].content[0].text == "see <PIECE_1> now"


async def test_a_router_is_guarded_too(litellm: Any) -> None:
    with serving(answers("my bad answer")) as served, guard_of() as guard:
        own = litellm.Router(model_list=[{"model_name": "m", "litellm_params": to(served.url)}], num_retries=0)
        router = clients.wrap(own, guard)
        assert isinstance(router, litellm.Router)
        assert router.completion("m", ask("hi")).choices[0].message.content == "my <BAD_1> answer"
        got = await router.acompletion(model="m", messages=ask("hi"))
        assert got.choices[0].message.content == "my <BAD_1> answer"
        with pytest.raises(Blocked):
            router.completion("m", ask("worse"))
        assert router.get_model_names() == ["m"]
        with pytest.raises(ConfigurationError, match="chat is not guarded"):
            router.chat  # noqa: B018


@pytest.mark.parametrize("name", ["speech", "image_generation", "transcription", "batch_completion", "Router"])
def test_what_carries_text_and_is_not_guarded_is_refused(litellm: Any, name: str) -> None:
    with guard_of() as guard:
        own = clients.wrap(litellm, guard)
        with pytest.raises(ConfigurationError, match="is not guarded: use completion"):
            getattr(own, name)
        assert own.RateLimitError is litellm.RateLimitError
        assert own.token_counter(model="gpt-4o", text="x") == 1


def test_a_fallback_answers_where_the_policy_says_so(litellm: Any) -> None:
    with serving(answers("worse")) as served, guard_of(on_block="fallback") as guard:
        own = clients.wrap(litellm, guard, fallback=lambda _: "sorry")
        assert own.completion(messages=ask("hi"), **to(served.url)).choices[0].message.content == "sorry"
        assert said(list(own.completion(messages=ask("hi"), stream=True, **to(served.url)))) == "sorry"


@pytest.mark.parametrize(
    ("fallbacks", "speaks"),
    [
        (None, False),
        (["m2", {"model": "m3", "api_key": "k"}], False),
        ([{"model": "m3", "messages": [{"role": "user", "content": "unseen"}]}], True),
        ([{"model": "m3", "extra_body": {}}], True),
    ],
)
def test_a_fallback_that_says_something_of_its_own_is_no_way_around(fallbacks: Any, speaks: bool) -> None:
    from llmguard.integrations.clients.litellm import speaking

    assert speaking(fallbacks) is speaks
