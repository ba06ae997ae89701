"""Guarded functions: what they are given, what they return, and what a block leads to."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from fakes import Hanging, Words

from llmguard import Action, Blocked, ConfigurationError, Guard, Role, Text

RULES = [
    {"detector": "words", "categories": ["BAD"], "action": "redact"},
    {"detector": "words", "categories": ["WORSE"], "action": "block"},
]


def guard_of(**policy: Any) -> Guard:
    words = Words("words", "bad", "worse")
    return Guard({"name": "p", "version": "1", "rules": RULES, **policy}, detectors=[words])


@pytest.fixture
def guard():
    with guard_of() as guard:
        yield guard


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: int = 7


def test_a_function_sees_the_cleared_text_and_its_caller_the_restored_answer(guard: Guard) -> None:
    seen = []

    @guard
    def ask(question: str, temperature: float = 0.0) -> str:
        """Ask."""
        seen.append((question, temperature))
        return f"you said {question}"

    assert ask("bad thing", temperature=0.5) == "you said bad thing"
    assert seen == [("<BAD_1> thing", 0.5)]
    assert ask.__name__ == "ask"
    assert ask.__doc__ == "Ask."


async def test_async_functions_stay_async(guard: Guard) -> None:
    @guard
    async def ask(question: str) -> str:
        await asyncio.sleep(0)
        return question

    assert inspect.iscoroutinefunction(ask)
    assert await ask("bad") == "bad"
    with pytest.raises(Blocked):
        await ask("worse")


def test_what_the_model_made_up_itself_stays_redacted(guard: Guard) -> None:
    @guard
    def ask(question: str) -> str:
        return "a bad answer"

    assert ask("fine") == "a <BAD_1> answer"


def test_a_blocked_input_never_reaches_the_function(guard: Guard) -> None:
    called = []

    @guard
    def ask(question: str) -> str:
        called.append(question)
        return "answer"

    with pytest.raises(Blocked) as caught:
        ask("worse")
    assert called == []
    assert caught.value.decision.action is Action.BLOCK
    assert str(caught.value.decision.stage) == "input"


def test_a_blocked_answer_never_reaches_the_caller(guard: Guard) -> None:
    with pytest.raises(Blocked) as caught:
        guard(input="question")(lambda question: "worse")("fine")
    assert str(caught.value.decision.stage) == "output"


def test_text_is_found_by_annotation(guard: Guard) -> None:
    @guard
    def ask(
        a: str,
        b: str | None,
        c: list[str],
        d: list[dict[str, str]],
        e: Annotated[str, "note"],
        f: Text,
        g: Sequence[str | Text],
        n: int,
        o: dict[str, int],
    ) -> list[Any]:
        return [a, b, *c, d[0]["content"], e, f, *g]

    seen = ask(
        "bad", None, ["bad"], [{"role": "user", "content": "bad"}], "bad", Text("bad", Role.TOOL), ["bad"], 3, {}
    )
    assert [x.content if isinstance(x, Text) else x for x in seen] == ["bad", None, "bad", "bad", "bad", "bad", "bad"]
    for index in (0, 2, 3, 4, 5, 6):
        values: list[Any] = ["", None, [""], [{"role": "user", "content": ""}], "", Text(""), [""], 3, {}]
        blocked = ["worse", None, ["worse"], [{"role": "user", "content": "worse"}], "worse", Text("worse"), ["worse"]]
        values[index] = blocked[index]
        with pytest.raises(Blocked):
            ask(*values)


def test_which_arguments_are_text_can_be_said(guard: Guard) -> None:
    @guard(input="question", context=["documents"])
    def ask(question, documents, style="worse"):
        return f"{question} {documents} {style}".replace("worse", "")

    assert ask("fine", ["doc"]).startswith("fine ['doc']")
    with pytest.raises(Blocked) as caught:
        ask("fine", ["doc", "worse"])
    assert str(caught.value.decision.stage) == "context"


def test_an_answer_is_compared_with_instructions_documents_and_the_last_question() -> None:
    shown: list[list[tuple[Role, str]]] = []

    class Comparing(Words):
        together = True

        def detect(self, texts: Sequence[Text]) -> Any:
            shown.append([(text.role, text.content) for text in texts])
            return super().detect(texts)

    rules = [{"detector": "words", "stage": "output", "action": "block"}]
    with Guard({"name": "p", "version": "1", "rules": rules}, detectors=[Comparing("words", "bad")]) as guard:

        @guard(context="documents")
        def chat(messages: list[dict[str, str]], documents: list[str]) -> str:
            return "answer"

        messages = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "What is bad?"},
        ]
        assert chat(messages, ["a bad document"]) == "answer"
    assert shown == [
        [
            (Role.ASSISTANT, "answer"),
            (Role.SYSTEM, "Be kind."),
            (Role.RETRIEVAL, "a bad document"),
            (Role.USER, "What is bad?"),
        ]
    ]


def test_tool_messages_are_checked_as_tool_results() -> None:
    rules = [{"detector": "words", "stage": "tool_result", "action": "block"}]
    with Guard({"name": "p", "version": "1", "rules": rules}, detectors=[Words("words", "bad")]) as guard:

        @guard
        def chat(messages: list[dict[str, str]]) -> str:
            return "answer"

        assert chat([{"role": "user", "content": "bad"}]) == "answer"
        with pytest.raises(Blocked):
            chat([{"role": "user", "content": "x"}, {"role": "tool", "content": "bad"}])


@pytest.mark.parametrize(
    "output", ["text", lambda r: r.text, (lambda r: r.text, lambda r, text: Answer(text, r.tokens))]
)
def test_which_part_of_the_result_is_text_can_be_said(guard: Guard, output: Any) -> None:
    @guard(output=output)
    def ask(question: str) -> Answer:
        return Answer("a bad answer")

    assert ask("fine") == Answer("a <BAD_1> answer", 7)


def test_a_result_that_is_no_text_is_an_error_that_says_so(guard: Guard) -> None:
    @guard
    def ask(question: str) -> Answer:
        return Answer("worse")

    with pytest.raises(TypeError, match=r"/result is an? Answer: llmguard reads str"):
        ask("fine")


@pytest.mark.parametrize(
    ("options", "function", "message"),
    [
        ({}, lambda question: "", "no parameter of .* is annotated as text"),
        ({"input": "qestion"}, lambda question: "", r"has no parameter 'qestion' \(did you mean 'question'\?\)"),
        ({"input": "question", "context": "docs"}, lambda question: "", "has no parameter 'docs'"),
        ({"input": "question", "feedback": "why"}, lambda question: "", "has no parameter 'why'"),
        ({"input": "question", "output": lambda r: r.strip()}, lambda question: "", "pair"),
    ],
)
def test_what_can_not_be_guarded_is_said_at_decoration(guard: Guard, options: Any, function: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        guard(**options)(function)


def test_a_method_is_guarded_like_a_function(guard: Guard) -> None:
    class Bot:
        @guard
        def ask(self, question: str) -> str:
            return f"{type(self).__name__}: {question}"

    assert Bot().ask("bad") == "Bot: bad"
    with pytest.raises(Blocked):
        Bot().ask("worse")


def test_a_block_can_be_answered_with_a_reply() -> None:
    with guard_of(on_block={"reply": "I can't help with that."}) as guard:

        @guard
        def ask(question: str) -> str:
            return question if "fine" in question else "worse"

        assert ask("worse") == "I can't help with that."
        assert ask("other") == "I can't help with that."
        assert ask("fine") == "fine"

        @guard(output="text", reply=Answer)
        def ask_more(question: str) -> Answer:
            return Answer("fine")

        assert ask_more("worse") == Answer("I can't help with that.")

        @guard(output="text")
        def ask_plainly(question: str) -> Answer:
            return Answer("worse", 3)

        assert ask_plainly("fine") == Answer("I can't help with that.", 3)
        with pytest.raises(Blocked):  # there is no result yet that the reply could be put into
            ask_plainly("worse")


async def test_a_block_can_call_a_fallback() -> None:
    with guard_of(on_block="fallback") as guard:

        @guard(fallback=lambda decision: f"fallback: {decision.stage}")
        def ask(question: str) -> str:
            return "worse"

        assert ask("worse") == "fallback: input"
        assert ask("fine") == "fallback: output"

        async def later(decision: Any) -> str:
            return "later"

        @guard(fallback=later)
        async def aask(question: str) -> str:
            return "fine"

        assert await aask("worse") == "later"
        with pytest.raises(ConfigurationError, match="calls a fallback on a block"):
            guard(input="question")(lambda question: "")


def test_an_async_fallback_does_not_go_with_a_plain_function(guard: Guard) -> None:
    async def later(decision: Any) -> str:
        return "later"

    for option in ("fallback", "reply"):
        with pytest.raises(ConfigurationError, match=f"the {option} of .* is async"):
            guard(input="question", **{option: later})(lambda question: "")


async def test_an_object_that_is_called_is_guarded_like_a_function(guard: Guard) -> None:
    class Plain:
        def __call__(self, question: str) -> str:
            return question

    class Later:
        async def __call__(self, question: str) -> str:
            return question

    assert guard(input="question")(Plain())("bad") == "bad"
    assert await guard(input="question")(Later())("bad") == "bad"


def test_a_retry_tells_why_and_gives_up_in_the_end() -> None:
    with guard_of(on_block={"retry": 2}) as guard:
        asked = []

        @guard
        def ask(question: str) -> str:
            asked.append(question)
            return "worse" if len(asked) < 3 else "better"

        assert ask("bad one") == "better"
        assert asked[0] == "<BAD_1> one"
        assert asked[1].startswith("<BAD_1> one\n\nYour last answer was withheld (words/WORSE).")
        assert len(asked) == 3

        told = []

        @guard
        def stubborn(question: str, feedback: str = "") -> str:
            told.append(feedback)
            return "worse"

        with pytest.raises(Blocked):
            stubborn("fine")
        assert len(told) == 3
        assert told[0] == ""
        assert "words/WORSE" in told[2]
        with pytest.raises(Blocked):  # asking again does not better the input
            stubborn("worse")
        assert len(told) == 3


def test_shadow_mode_lets_the_call_be(guard: Guard) -> None:
    with guard_of(mode="shadow") as guard:

        @guard
        def ask(question: str) -> str:
            return question

        assert ask("bad and worse") == "bad and worse"


def test_a_conversation_restores_across_calls(guard: Guard) -> None:
    @guard
    def ask(question: str) -> str:
        return question if "<BAD_1>" in question else "you were <BAD_1>"

    with guard.conversation("c"):
        assert ask("bad") == "bad"
        assert ask("again") == "you were bad"
    assert ask("again") == "you were <BAD_1>"
    with guard.conversation("d"):
        assert ask("again") == "you were <BAD_1>"


def overlapping(slow: Any, action: str = "block") -> Guard:
    rules = [
        {"detector": slow.name, "stage": "input", "action": action, "deadline_ms": 30_000},
        {"detector": "words", "action": "redact"},
    ]
    policy = {"name": "p", "version": "1", "overlap": True, "rules": rules}
    return Guard(policy, detectors=[slow, Words("words", "bad")])


def test_overlap_starts_the_call_at_once_and_returns_nothing_before_the_decision() -> None:
    slow = Hanging("slow")
    with overlapping(slow) as guard:

        @guard
        def ask(question: str) -> str:
            assert slow.begun.wait(10)  # the check has begun and not ended
            assert not slow.released.is_set()
            slow.released.set()
            return question

        assert ask("a bad one") == "a bad one"
        assert slow.calls == 1


def test_overlap_drops_the_answer_when_the_input_is_blocked() -> None:
    slow = Words("slow", "worse", inline=False)
    called = []
    with overlapping(slow) as guard:

        @guard
        def ask(question: str) -> str:
            called.append(question)
            return "answer"

        with pytest.raises(Blocked):
            ask("worse and bad")
    assert called == ["worse and <BAD_1>"]


def test_overlap_says_blocked_rather_than_the_calls_own_error() -> None:
    with overlapping(Words("slow", "worse", inline=False)) as guard:

        @guard
        def ask(question: str) -> str:
            raise ConnectionError

        with pytest.raises(Blocked):
            ask("worse")
        with pytest.raises(ConnectionError):
            ask("fine")


async def test_overlap_cancels_an_async_call_when_the_input_is_blocked() -> None:
    slow = Hanging("slow")
    cancelled = asyncio.Event()
    rules = [{"detector": "slow", "stage": "input", "action": "block", "deadline_ms": 20}]
    with Guard({"name": "p", "version": "1", "overlap": True, "rules": rules}, detectors=[slow]) as guard:

        @guard
        async def ask(question: str) -> str:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return "never"

        with pytest.raises(Blocked):
            await ask("fine")
        assert cancelled.is_set()
        slow.released.set()


async def test_overlap_leaves_a_call_behind_that_will_not_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmguard.calls._CANCEL_S", 0.01)
    release = asyncio.Event()
    ended = asyncio.Event()
    slow = Hanging("slow")
    rules = [{"detector": "slow", "stage": "input", "action": "block", "deadline_ms": 20}]
    with Guard({"name": "p", "version": "1", "overlap": True, "rules": rules}, detectors=[slow]) as guard:

        @guard
        async def ask(question: str) -> str:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            ended.set()
            return "too late"

        with pytest.raises(Blocked):
            await ask("fine")
        slow.released.set()
        release.set()
        await asyncio.wait_for(ended.wait(), 10)


async def test_overlap_returns_the_async_answer_when_all_is_well() -> None:
    with overlapping(Words("slow", "worse", inline=False)) as guard:

        @guard
        async def ask(question: str) -> str:
            await asyncio.sleep(0)
            return question

        assert await ask("bad") == "bad"


def test_overlap_refuses_to_redact_what_has_gone_out() -> None:
    with pytest.raises(ConfigurationError, match="overlap starts the call before 'slow' has answered"):
        overlapping(Words("slow", "worse", inline=False), action="redact")


def test_an_error_of_the_function_goes_through(guard: Guard) -> None:
    @guard
    def ask(question: str) -> str:
        raise ConnectionError("upstream")

    with pytest.raises(ConnectionError, match="upstream"):
        ask("fine")


def test_even_a_stop_iteration_of_the_function_goes_through(guard: Guard) -> None:
    @guard
    def ask(question: str) -> str:
        return next(iter(()))

    with pytest.raises(StopIteration):
        ask("fine")


def test_guarded_calls_in_many_threads_keep_to_themselves(guard: Guard) -> None:
    @guard
    def ask(question: str) -> str:
        return question

    wrong = []

    def run(name: str) -> None:
        wrong.extend(n for n in range(100) if ask(f"{name} bad {n}") != f"{name} bad {n}")

    threads = [threading.Thread(target=run, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(guard.vault) == 0


async def test_a_canary_draws_once_a_call() -> None:
    seen: list[tuple[str, str]] = []
    rules = [{"detector": "words", "categories": ["BAD", "ODD"], "action": "redact"}]
    policy = {"name": "p", "rules": rules, "mode": {"canary": 0.5}}
    with Guard(policy, detectors=[Words("words", "bad", "odd")]) as guard:

        @guard
        def ask(question: str) -> str:
            asked.append(question)
            return "odd"

        @guard
        async def aask(question: str) -> str:
            return ask.__wrapped__(question)

        @guard
        def stream(question: str) -> Iterator[str]:
            asked.append(question)
            yield "odd"

        for _ in range(40):
            for how in (ask, aask, lambda question: "".join(stream(question))):
                asked: list[str] = []
                answer = how("bad")
                answer = await answer if inspect.isawaitable(answer) else answer
                seen.append((asked[0], answer))
    sides = [(text != "bad", answer != "odd") for text, answer in seen]
    assert {(False, False), (True, True)} == set(sides)


async def test_a_plain_fallback_does_not_hold_the_event_loop_up() -> None:
    told: list[threading.Thread] = []
    with guard_of(on_block="fallback") as guard:

        def slow(decision: Any) -> str:
            told.append(threading.current_thread())
            loop.call_soon_threadsafe(waiting.set)  # by the loop, which goes on meanwhile
            assert waiting.wait(30)
            return marker.get()

        marker: ContextVar[str] = ContextVar("marker", default="")
        waiting = threading.Event()

        @guard(fallback=slow)
        async def ask(question: str) -> str:
            return "fine"

        marker.set("the caller's")
        loop = asyncio.get_running_loop()
        assert await ask("worse") == "the caller's"
    assert told[0] is not threading.current_thread()


async def test_only_what_stands_in_for_an_answer_is_awaited() -> None:
    with guard_of() as guard:

        @dataclass
        class Later:
            text: str

            def __await__(self) -> Any:
                raise AssertionError("not asked for")

        @guard(output="text")
        async def ask(question: str) -> Later:
            return Later("fine")

        @guard(output="text")
        async def stream(question: str) -> AsyncIterator[Later]:
            yield Later("fine")

        assert (await ask("hi")).text == "fine"
        assert [one.text async for one in stream("hi")] == ["fine"]


def test_what_must_be_awaited_does_not_go_with_a_plain_call() -> None:
    async def later() -> str:
        return "later"

    with guard_of(on_block="fallback") as guard:
        ask = guard(input="question", fallback=lambda _: later())(lambda question: "fine")
        with pytest.raises(ConfigurationError, match="is async"):
            ask("worse")
