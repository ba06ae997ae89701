import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard import ConfigurationError, Role, Stage, Text
from llmguard.texts import BATCH_LIMIT, ROLE_AT, group, member, parts


def test_strings_get_the_role_and_texts_keep_theirs() -> None:
    tool = Text("x", Role.TOOL)
    assert group(["a", tool], Role.USER) == (Text("a", Role.USER), tool)
    assert group("a", Role.SYSTEM) == (Text("a", Role.SYSTEM),)
    assert group([], Role.USER) == ()


def test_every_stage_has_a_role() -> None:
    assert set(ROLE_AT) == set(Stage)


def test_members_are_found_by_name() -> None:
    assert member(Stage, "input") is Stage.INPUT
    with pytest.raises(ConfigurationError, match="unknown role 'robot'"):
        member(Role, "robot")
    with pytest.raises(ConfigurationError, match=r"unknown stage \['input'\]"):
        member(Stage, ["input"])  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 3)))
def test_parts_keep_order_and_lose_nothing(sizes: list[int]) -> None:
    third = "x" * (BATCH_LIMIT // 3)
    batch = [third * size for size in sizes]
    cut = list(parts(batch, Role.USER))
    assert [own[0].content for part in cut for own in part] == batch
    for part in cut:
        assert len(part) == 1 or sum(len(own[0].content) for own in part) <= BATCH_LIMIT


@pytest.mark.parametrize("batch", ["one", b"bytes", Text("x"), 5, {"a"}])
def test_a_batch_is_a_sequence(batch: object) -> None:
    with pytest.raises(TypeError, match="check_batch takes a sequence of texts, not"):
        list(parts(batch, Role.USER))  # type: ignore[arg-type]
