"""The clients of huggingface_hub, guarded, against a server that speaks as Text Generation Inference documents it."""

from collections.abc import Iterator
from typing import Any

import pytest
from fakes import Pieces, Words
from small_server import serving

from llmguard import Blocked, ConfigurationError, Guard
from llmguard.integrations.clients import huggingface

hub = pytest.importorskip("huggingface_hub")

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


def clients(url: str, guard: Guard, **options: Any) -> tuple[Any, Any]:
    return (
        huggingface.wrap(hub.InferenceClient(url), guard, **options),
        huggingface.wrap(hub.AsyncInferenceClient(url), guard, **options),
    )


def chat(*words: str) -> Any:
    def answer(path: str, body: Any) -> Any:
        head = {"id": "1", "created": 1, "model": "tgi", "system_fingerprint": "f"}
        if body.get("stream"):
            return chunks(head)
        message = {"role": "assistant", "content": "".join(words)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}

    def chunks(head: dict[str, Any]) -> Iterator[Any]:
        for text, finish in [*[(word, None) for word in words], ("", "stop")]:
            delta = {"role": "assistant", "content": text}
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            yield {**head, "object": "chat.completion.chunk", "choices": [choice]}
        yield "[DONE]"

    return answer


def generate(*words: str) -> Any:
    def answer(path: str, body: Any) -> Any:
        if body.get("stream"):
            return tokens()
        whole = {"generated_text": "".join(words)}
        if not body["parameters"].get("details"):
            return whole
        ids = [token(word) for word in words]
        details = {"finish_reason": "length", "generated_tokens": len(ids), "prefill": [], "seed": None, "tokens": ids}
        return {**whole, "details": details}

    def token(word: str) -> dict[str, Any]:
        return {"id": 5, "logprob": -0.5, "special": False, "text": word}

    def tokens() -> Iterator[Any]:
        details = {"finish_reason": "length", "generated_tokens": len(words), "input_length": 1, "seed": None}
        for index, word in enumerate(words):
            last = index == len(words) - 1
            end = {"generated_text": "".join(words) if last else None, "details": details if last else None}
            yield {"index": index + 1, "token": token(word), "top_tokens": [], **end}

    return answer


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def said(events: list[Any]) -> str:
    return "".join([event.choices[0].delta.content or "" for event in events])


def test_the_wrapped_clients_are_of_their_types() -> None:
    with guard_of() as guard:
        sync, later = clients("http://127.0.0.1:9", guard)
        assert isinstance(sync, hub.InferenceClient)
        assert isinstance(later, hub.AsyncInferenceClient)
        assert sync.model == "http://127.0.0.1:9"


async def test_chats_are_cleared_in_both_spellings_sync_and_async() -> None:
    with serving(chat("my ", "bad answer")) as served, guard_of() as guard:
        sync, later = clients(served.url, guard)
        answers = [
            sync.chat_completion(ask("hi"), extra_body={"documents": ["a bad source"]}),
            sync.chat.completions.create(messages=ask("hi"), extra_body={"documents": ["a bad source"]}),
            await later.chat_completion(ask("hi"), extra_body={"documents": ["a bad source"]}),
            await later.chat.completions.create(messages=ask("hi"), extra_body={"documents": ["a bad source"]}),
        ]
        for got in answers:
            assert isinstance(got, hub.ChatCompletionOutput)
            assert got.choices[0].message.content == "my bad answer"  # the word of the source, restored
            assert got.usage.total_tokens == 2
        assert {str(body["documents"]) for _, body in served.asked} == {"['a <BAD_1> source']"}
        with pytest.raises(Blocked):
            sync.chat_completion(ask("worse"))
        with pytest.raises(Blocked):
            await later.chat_completion(ask("fine"), tool_prompt="worse")
        assert len(served.asked) == 4
        await later.close()


async def test_a_tool_prompt_is_looked_at_and_arrives() -> None:
    with serving(chat("ok")) as served, guard_of() as guard:
        sync, _ = clients(served.url, guard)
        sync.chat_completion(ask("hi"), tool_prompt="a bad tool")
        assert served.asked[0][1]["tool_prompt"] == "a <BAD_1> tool"
        assert "chat_template_kwargs" not in served.asked[0][1]


async def test_streamed_chats_are_cleared() -> None:
    with serving(chat("see a", "b", "c now")) as served, pieces_guard() as guard:
        sync, later = clients(served.url, guard)
        for got in (
            list(sync.chat_completion(ask("hi"), stream=True)),
            list(sync.chat.completions.create(messages=ask("hi"), stream=True)),
            [event async for event in await later.chat_completion(ask("hi"), stream=True)],
        ):
            assert said(got) == "see <PIECE_1> now"
            assert {type(event) for event in got} == {hub.ChatCompletionStreamOutput}
        await later.close()


async def test_a_blocked_chat_stream_ends_in_the_format_or_raises() -> None:
    with serving(chat("so ", "abbc", "never")) as served:
        with pieces_guard(on_block={"reply": "No."}) as guard:
            got = list(clients(served.url, guard)[0].chat_completion(ask("hi"), stream=True))
            assert said(got) == "so No."
            assert got[-1].choices[0].finish_reason == "content_filter"
        with pieces_guard() as guard:
            _, later = clients(served.url, guard)
            stream = await later.chat_completion(ask("hi"), stream=True)
            with pytest.raises(Blocked):
                [event async for event in stream]
            await later.close()


async def test_generated_text_is_cleared_in_all_four_kinds() -> None:
    with serving(generate("see a", "b", "c now")) as served, pieces_guard() as guard:
        sync, later = clients(served.url, guard)
        for client in (sync, later):

            async def result(made: Any, client: Any = client) -> Any:
                return made if client is sync else await made

            async def events(made: Any, client: Any = client) -> list[Any]:
                return list(made) if client is sync else [event async for event in await made]

            assert await result(client.text_generation("abc?")) == "see abc now"  # the user's own, restored
            assert served.asked[-1][1]["inputs"] == "<PIECE_1>?"
            whole = await result(client.text_generation("hi", details=True))
            assert isinstance(whole, hub.TextGenerationOutput)
            assert whole.generated_text == "see <PIECE_1> now"
            assert "abc" not in str(whole)
            assert "".join(await events(client.text_generation("hi", stream=True))) == "see <PIECE_1> now"
            detailed = await events(client.text_generation("hi", stream=True, details=True, max_new_tokens=3))
            assert "".join([event.token.text for event in detailed]) == "see <PIECE_1> now"
            assert detailed[-1].generated_text == "see <PIECE_1> now"
            assert isinstance(detailed[-1], hub.TextGenerationStreamOutput)
        await later.close()


def test_blocked_text_is_replied_to_or_raised() -> None:
    with serving(generate("worse")) as served:
        with guard_of(on_block={"reply": "No."}) as guard:
            sync, _ = clients(served.url, guard)
            assert sync.text_generation("hi") == "No."
            assert sync.text_generation("hi", details=True).generated_text == "No."
            assert "".join(sync.text_generation("hi", stream=True)) == "No."
        with guard_of() as guard, pytest.raises(Blocked):
            clients(served.url, guard)[0].text_generation("hi", stop=["worse"])


@pytest.mark.parametrize(
    ("task", "args", "answer", "member"),
    [
        ("summarization", ("a bad text",), [{"summary_text": "MINE"}], "summary_text"),
        ("translation", ("a bad text",), [{"translation_text": "MINE"}], "translation_text"),
        (
            "question_answering",
            ("why?", "a bad text"),
            {"answer": "MINE", "start": 0, "end": 4, "score": 1.0},
            "answer",
        ),
    ],
)
async def test_tasks_that_answer_with_a_text(task: str, args: Any, answer: Any, member: str) -> None:
    def answered(text: str) -> Any:
        one = answer[0] if isinstance(answer, list) else answer
        new = {**one, member: text}
        return [new] if isinstance(answer, list) else new

    with serving(lambda *_: answered("my bad answer")) as served, guard_of() as guard:
        sync, later = clients(served.url, guard)
        for got in (getattr(sync, task)("hi", *args[1:]), await getattr(later, task)("hi", *args[1:])):
            shown = "my bad answer" if len(args) > 1 else "my <BAD_1> answer"  # of a source, it is restored
            assert getattr(got, member) == shown
        getattr(sync, task)(*args)
        assert "bad" not in str(served.asked)
        await later.close()
    with serving(lambda *_: answered("worse")) as served, guard_of(on_block={"reply": "No."}) as guard:
        sync, _ = clients(served.url, guard)
        assert getattr(getattr(sync, task)(*args), member) == "No."
        assert getattr(getattr(sync, task)("worse", *args[1:]), member) == "No."
        assert len(served.asked) == 1


@pytest.mark.parametrize(
    ("task", "args", "answer", "texts"),
    [
        ("feature_extraction", (["a bad text", "fine"],), [[0.5, 0.5]], ["a <BAD_1> text", "fine"]),
        ("sentence_similarity", ("a bad text", ["fine"]), [0.5], ["a <BAD_1> text", "fine"]),
        ("text_classification", ("a bad text",), [[{"label": "x", "score": 1.0}]], ["a <BAD_1> text"]),
        ("text_to_image", ("a bad text",), b"", ["a <BAD_1> text"]),
    ],
)
async def test_tasks_without_words(task: str, args: Any, answer: Any, texts: list[str]) -> None:
    with serving(lambda *_: answer) as served, guard_of(on_block={"reply": "No."}) as guard:
        sync, later = clients(served.url, guard)
        if answer:
            getattr(sync, task)(*args)
            await getattr(later, task)(*args)
            assert all([text in str(body) for _, body in served.asked for text in texts])
            assert "a bad" not in str(served.asked)
        before = len(served.asked)
        with pytest.raises(Blocked):
            getattr(sync, task)("worse", *args[1:])
        with pytest.raises(Blocked):
            await getattr(later, task)("worse", *args[1:])
        assert len(served.asked) == before
        await later.close()


@pytest.mark.parametrize("task", ["table_question_answering", "tabular_classification"])
def test_a_task_that_is_not_guarded_is_refused(task: str) -> None:
    with guard_of() as guard:
        sync, later = clients("http://127.0.0.1:9", guard)
        for client in (sync, later):
            with pytest.raises(ConfigurationError, match="is not guarded: use chat_completion"):
                getattr(client, task)


def test_every_method_of_the_client_is_guarded_passed_or_refused() -> None:
    with guard_of() as guard:
        client, _ = clients("http://127.0.0.1:9", guard)
        own = {"chat_completion", "text_generation", "chat", *huggingface._WORDED, *huggingface._WORDLESS}
        open_ = set()
        for name in dir(hub.InferenceClient):
            if name.startswith("_") or name in own:
                continue
            try:
                getattr(client, name)
                open_.add(name)
            except ConfigurationError:
                pass
        assert open_ <= type(client).passes  # those that see no text


def test_a_block_with_open_client_stays_guarded() -> None:
    with serving(chat("ok")) as served, guard_of() as guard:
        with huggingface.wrap(hub.InferenceClient(served.url), guard) as client, pytest.raises(Blocked):
            client.chat_completion(ask("worse"))
        assert served.asked == []
