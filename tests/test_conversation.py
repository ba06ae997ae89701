import asyncio
import contextvars

import pytest

from llmguard import Finding, Role, Stage, Text
from llmguard.conversation import Conversation, Conversations, ConversationScope, current

JUDGED = ((Finding("MENTION"), None),)


def key(content: str, stage: Stage = Stage.INPUT, role: Role = Role.USER):
    return Conversation.key(stage, Text(content, role))


def test_what_was_remembered_is_recalled_by_stage_role_and_content() -> None:
    conversation = Conversation("c", 10)
    conversation.recall("p1", key("a"))
    conversation.remember("p1", key("a"), JUDGED)
    assert conversation.recall("p1", key("a")) == JUDGED
    assert conversation.recall("p1", key("b")) is None
    assert conversation.recall("p1", key("a", stage=Stage.OUTPUT)) is None
    assert conversation.recall("p1", key("a", role=Role.TOOL)) is None


def test_another_policy_forgets_everything() -> None:
    conversation = Conversation("c", 10)
    conversation.recall("p1", key("a"))
    conversation.remember("p1", key("a"), JUDGED)
    assert conversation.recall("p2", key("a")) is None
    conversation.remember("p1", key("a"), JUDGED)  # a check that began under the old policy
    assert conversation.recall("p2", key("a")) is None


def test_the_least_recently_used_text_goes_first() -> None:
    conversation = Conversation("c", 2)
    conversation.recall("p", key("a"))
    conversation.remember("p", key("a"), ())
    conversation.remember("p", key("b"), ())
    conversation.recall("p", key("a"))
    conversation.remember("p", key("c"), ())
    assert conversation.recall("p", key("b")) is None
    assert conversation.recall("p", key("a")) == ()
    assert len(conversation) == 2


def test_a_key_holds_no_content_and_takes_any_string() -> None:
    secret = "my card is 4111111111111111 \ud800"
    assert secret not in repr(key(secret))
    assert key(secret) == key(secret)


def test_conversations_are_bounded() -> None:
    conversations = Conversations(limit=2)
    first = conversations.get("a", 1)
    conversations.get("b", 1)
    assert conversations.get("a", 1) is first
    conversations.get("c", 1)
    assert len(conversations) == 2
    assert conversations.get("a", 1) is first
    assert conversations.get("b", 1) is not first


def test_the_innermost_conversation_of_each_owner_counts() -> None:
    one, two = object(), object()
    a, b, c = (Conversation(name, 1) for name in "abc")
    assert current(one) is None
    with ConversationScope(one, a):
        with ConversationScope(two, b):
            assert (current(one), current(two)) == (a, b)
            with ConversationScope(one, c):
                assert (current(one), current(two)) == (c, b)
        assert (current(one), current(two)) == (a, None)
    assert current(one) is None


async def test_concurrent_tasks_do_not_see_each_others_conversation() -> None:
    owner = object()

    async def turn(name: str) -> str | None:
        async with ConversationScope(owner, Conversation(name, 1)):
            await asyncio.sleep(0)
            found = current(owner)
            return None if found is None else found.name

    assert await asyncio.gather(*(turn(str(n)) for n in range(20))) == [str(n) for n in range(20)]


def test_it_may_be_left_in_another_context_than_it_was_entered_in() -> None:
    owner = object()
    scope = ConversationScope(owner, Conversation("a", 1))
    contextvars.copy_context().run(scope.__enter__)
    scope.__exit__(None, None, None)
    assert current(owner) is None


@pytest.mark.parametrize("entries", [0, 1])
def test_no_entries_means_nothing_is_kept_for_long(entries: int) -> None:
    conversation = Conversation("c", entries)
    conversation.recall("p", key("a"))
    conversation.remember("p", key("a"), ())
    assert len(conversation) == entries


def test_one_scope_may_be_entered_again_inside_itself() -> None:
    owner = object()
    scope = ConversationScope(owner, Conversation("c", 0))
    with ConversationScope(owner, Conversation("outer", 0)) as outer:
        with scope as inner:
            with scope:
                assert current(owner) is inner
            assert current(owner) is inner
        assert current(owner) is outer
    assert current(owner) is None


async def test_one_scope_may_be_used_by_tasks_at_a_time() -> None:
    owner = object()
    scope = ConversationScope(owner, Conversation("c", 0))
    inside, leave = asyncio.Barrier(2), asyncio.Barrier(2)

    async def use(name: str) -> None:
        with ConversationScope(owner, Conversation(name, 0)) as outer:
            async with scope as inner:
                await inside.wait()
                assert current(owner) is inner
            await leave.wait()
            assert current(owner) is outer

    await asyncio.gather(use("a"), use("b"))
    assert current(owner) is None
