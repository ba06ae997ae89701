import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Optional, TypedDict, Union

import pytest

from llmguard import Text
from llmguard.annotations import text_parameters


class Message(TypedDict):
    role: str
    content: str


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, True),
        (Text, True),
        (str | None, True),
        (Optional[str], True),  # noqa: UP045 - as older code says it
        (Union[str, int], True),  # noqa: UP007 - likewise
        (Annotated[str, "doc"], True),
        (list[str], True),
        (Sequence[Text | str], True),
        (Iterable[str], True),
        (tuple[str, ...], True),
        (list[dict[str, Any]], True),
        (list[Message], True),
        (Sequence[Mapping[str, str] | Message], True),
        (int, False),
        (bytes, False),
        (dict[str, str], False),
        (list[int], False),
        (Any, False),
        (inspect.Parameter.empty, False),
    ],
)
def test_what_says_text(annotation: object, expected: bool) -> None:
    def function(argument): ...

    if annotation is not inspect.Parameter.empty:
        function.__annotations__["argument"] = annotation
    assert list(text_parameters(function, inspect.signature(function))) == (["argument"] if expected else [])


def test_annotations_that_can_not_be_resolved_are_read_as_written() -> None:
    def function(a: "str", b: "NotThere"): ...  # type: ignore[name-defined]  # noqa: F821

    assert list(text_parameters(function, inspect.signature(function))) == ["a"]
