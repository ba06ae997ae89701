"""What a guard remembers of one conversation, and which conversation a call belongs to."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextvars import ContextVar
from hashlib import blake2b
from types import TracebackType
from typing import NamedTuple

from llmguard.policy import Rule
from llmguard.types import Finding, Stage, Text

Judged = tuple[tuple[Finding, Rule | None], ...]
Key = tuple[Stage, str, bytes]


class Conversation:
    """The findings of texts that this conversation has shown before, keyed by content, never holding content.

    Args:
        name: the caller's id of the conversation.
        entries: how many texts are remembered; the least recently used goes first, and 0 remembers none.
        passing: whether it lasts for one call only and its name is nobody's id.
    """

    __slots__ = ("_entries", "_lock", "_policy", "entries", "name", "passing")

    def __init__(self, name: str, entries: int, *, passing: bool = False) -> None:
        self.name = name
        self.entries = entries
        self.passing = passing
        self._entries: OrderedDict[Key, Judged] = OrderedDict()
        self._policy = ""
        self._lock = threading.Lock()

    @staticmethod
    def key(stage: Stage, text: Text) -> Key:
        """What a text is remembered by: its stage, its role and a 128-bit BLAKE2b digest of its content."""
        digest = blake2b(text.content.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return stage, text.role, digest

    def recall(self, policy: str, key: Key) -> Judged | None:
        """The judged findings of a text, if this policy has looked at it before.

        Args:
            policy: hash of the policy; another one forgets everything.
            key: from `key`.
        """
        with self._lock:
            if policy != self._policy:
                self._entries.clear()
                self._policy = policy
            judged = self._entries.get(key)
            if judged is not None:
                self._entries.move_to_end(key)
            return judged

    def remember(self, policy: str, key: Key, judged: Judged) -> None:
        """Keep the judged findings of a text that every detector has looked at."""
        with self._lock:
            if policy != self._policy:
                return
            self._entries[key] = judged
            if len(self._entries) > self.entries:
                self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)


class _Entered(NamedTuple):
    owner: object
    conversation: Conversation
    outer: _Entered | None


_ENTERED: ContextVar[_Entered | None] = ContextVar("llmguard_conversation", default=None)


class ConversationScope:
    """A context manager, sync and async: what is checked inside belongs to the conversation.

    It may be entered in one task and left in another, as a stream's owner does, and by many tasks at a time. So it
    holds nothing of them: what is around it is only in the context of each.
    """

    __slots__ = ("_conversation", "_owner")

    def __init__(self, owner: object, conversation: Conversation) -> None:
        self._owner = owner
        self._conversation = conversation

    def __enter__(self) -> Conversation:
        _ENTERED.set(_Entered(self._owner, self._conversation, _ENTERED.get()))
        return self._conversation

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entered = _ENTERED.get()
        if entered is not None and entered.owner is self._owner and entered.conversation is self._conversation:
            _ENTERED.set(entered.outer)

    async def __aenter__(self) -> Conversation:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


def current(owner: object) -> Conversation | None:
    """The innermost conversation that was entered for this guard, if any."""
    entered = _ENTERED.get()
    while entered is not None and entered.owner is not owner:
        entered = entered.outer
    return entered.conversation if entered is not None else None


class Conversations:
    """The conversations of one guard, bounded: the least recently used is forgotten first.

    Args:
        limit: how many are held.
    """

    def __init__(self, limit: int = 1_000) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Conversation] = OrderedDict()

    def get(self, name: str, entries: int) -> Conversation:
        """The conversation of that name, made when it is new."""
        with self._lock:
            conversation = self._held.get(name)
            if conversation is None:
                conversation = self._held[name] = Conversation(name, entries)
                if len(self._held) > self._limit:
                    self._held.popitem(last=False)
            else:
                self._held.move_to_end(name)
            return conversation

    def __len__(self) -> int:
        return len(self._held)
