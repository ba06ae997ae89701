"""Functions are guarded as by the decorator."""

import functools
import inspect
from collections.abc import Iterator

import pytest
from fakes import Words

from llmguard import Blocked, ConfigurationError, Guard
from llmguard.integrations.clients import callables

RULES = [
    {"detector": "words", "categories": ["BAD"], "action": "redact"},
    {"detector": "words", "categories": ["WORSE"], "action": "block"},
]


def guard_of(**policy: object) -> Guard:
    return Guard({"name": "p", "rules": RULES, **policy}, detectors=[Words("words", "bad", "worse")])


def test_a_function_is_guarded_and_keeps_its_signature() -> None:
    def ask(question: str, temperature: float = 0.0) -> str:
        return f"you said {question}"

    with guard_of() as guard:
        wrapped = callables.wrap(ask, guard)
        assert wrapped("bad thing") == "you said bad thing"
        assert inspect.signature(wrapped) == inspect.signature(ask)
        with pytest.raises(Blocked):
            wrapped("worse")


async def test_an_async_function_and_a_generator_stay_what_they_are() -> None:
    async def ask(question: str) -> str:
        return "a bad answer"

    def tell(question: str) -> Iterator[str]:
        yield from ["a b", "ad answer"]

    with guard_of() as guard:
        assert await callables.wrap(ask, guard)("fine") == "a <BAD_1> answer"
        assert "".join(callables.wrap(tell, guard)("fine")) == "a <BAD_1> answer"


def test_a_callable_object_a_partial_and_a_bound_method_are_guarded() -> None:
    class Model:
        def __call__(self, prompt: str) -> str:
            return prompt.upper()

        def ask(self, prompt: str, suffix: str = "") -> str:
            return prompt + suffix

    with guard_of() as guard:
        model = Model()
        for function in (callables.wrap(model, guard), callables.wrap(model.ask, guard)):
            with pytest.raises(Blocked):
                function("worse")
        assert callables.wrap(functools.partial(model.ask, suffix="!"), guard, input="prompt")("fine") == "fine!"


def test_a_fallback_answers_where_the_policy_says_so() -> None:
    def ask(question: str) -> str:
        return question

    with guard_of(on_block="fallback") as guard:
        wrapped = callables.wrap(ask, guard, fallback=lambda decision: f"no: {decision.stage}")
        assert wrapped("worse") == "no: input"
        with pytest.raises(ConfigurationError, match="fallback"):
            callables.wrap(ask, guard)


@pytest.mark.parametrize("thing", [3, "text", str, object()])
def test_what_can_not_be_called_is_refused(thing: object) -> None:
    with guard_of() as guard, pytest.raises(ConfigurationError, match="nothing to guard"):
        callables.wrap(thing, guard)  # type: ignore[arg-type]
