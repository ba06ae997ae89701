"""What events say of the ends of channels and of their own numbers."""

import pytest

from llmguard.dialects import edit_plan
from llmguard.dialects.wire import Body, Delta, Event, Numbered, Part, Put, Repeat
from llmguard.types import Role, Stage


@pytest.mark.parametrize(
    ("ends", "channel", "closed"),
    [
        ((), "0/text", False),
        (("0/text",), "0/text", True),
        (("0/text",), "0/text/1", False),
        (("0/text",), "0/tex", False),
        (("0/",), "0/text", True),
        (("0/",), "0/tool/1/arguments", True),
        (("0/",), "01/text", False),
        (("0/",), "0", False),
        (("0/tool/",), "0/text", False),
        (("1/", "0/text"), "0/text", True),
        (("",), "0/text", False),
    ],
)
def test_a_name_that_ends_with_a_slash_ends_all_that_begin_with_it(
    ends: tuple[str, ...], channel: str, closed: bool
) -> None:
    assert Event(ends=ends).closes(channel) is closed
    assert Event(ends=ends, last=True).closes(channel)


def test_a_number_moves_with_the_events_before_it() -> None:
    assert Numbered("/sequence_number", 7).shifted(2) == Put("/sequence_number", "9")
    assert Numbered("/sequence_number", 7).shifted(-3) == Put("/sequence_number", "4")


def test_no_place_is_shown_whose_keys_may_say_something() -> None:
    place = "/input/bob@example.com"
    node = edit_plan.tree({place: "x"}, ())
    shown = [
        Part(Stage.INPUT, Role.USER, place, "x"),
        Delta("0", Stage.OUTPUT, Role.ASSISTANT, place, "x"),
        Repeat("0", Stage.OUTPUT, Role.ASSISTANT, place, "x"),
        Body(uncovered=(place,), spoken=(Put(place),)),
        node,
        node.below["input"].below["bob@example.com"],
    ]
    assert all("bob" not in repr(one) for one in shown)
