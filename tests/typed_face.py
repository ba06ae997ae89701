"""What a type checker must make of the public face; checked by mypy and pyright, never run."""

from collections.abc import Iterator
from typing import assert_type

from llmguard import Action, Decision, Detector, Finding, Guard, GuardedStream, Text, detector

guard = Guard()


@guard
def ask(question: str, temperature: float = 0.0) -> str:
    return question


@guard(input="question", fallback=lambda decision: str(decision.action))
async def aask(question: str) -> str:
    return question


assert_type(ask("x", temperature=1.0), str)
ask(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def run() -> None:
    assert_type(await aask("x"), str)
    assert_type(await guard.acheck("x"), Decision)
    assert_type(await guard.acheck_batch(["x", Text("y")]), list[Decision])


assert_type(guard.check(["x", Text("y")]), Decision)
assert_type(guard.check("x").action, Action)


@detector("competitor", categories=["mention"])
def competitor(text: str) -> Iterator[Finding]:
    yield Finding("mention")


plugged: Detector = competitor


@guard
def tell(question: str) -> Iterator[str]:
    yield question


class Client:
    """Stands in for a client of a model."""


assert_type(tell("x"), Iterator[str])
assert_type(guard.wrap(Client()), Client)
with guard.stream(stage="output", context=["a document"]) as stream:
    assert_type(stream.feed("a piece"), str)
    assert_type(stream, GuardedStream)
