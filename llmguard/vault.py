"""What the placeholders of a conversation stand for: held in memory, for a while, for that conversation alone.

A text that was redacted can be told from one that merely looks so, because of one invariant: in a text that was made
ready for the model, every placeholder that the vault would restore was put there by the vault. Two rules keep it,
whatever the text holds:

1. A look-alike that the vault has not given out stays, and its number and all below it are never given out again.
2. A look-alike that the vault has given out, or whose number is too high to skip, is put behind a placeholder of its
   own, ``<TEXT_n>``.

Restoring is one pass over one pattern with a look-up for each match, so nothing is replaced twice, ``_1`` is not found
in ``_10``, and no value or placeholder ever becomes a pattern.
"""

from __future__ import annotations

import hmac
import math
import secrets
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NoReturn

from llmguard.errors import ConfigurationError, VaultError
from llmguard.placeholder import HIGHEST_NUMBER, PLACEHOLDER, label
from llmguard.sealing import cipher, seal, unseal

if TYPE_CHECKING:
    from collections.abc import Callable

_ESCAPE_LABEL = "TEXT"
# A text may push a label's numbers up to here, which leaves room for those that are given out.
_HIGHEST_SKIPPED = 1_000_000


def _utf8_length(value: str) -> int:
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))


class _Conversation:
    """One conversation's entries; only touched under the vault's lock, but for reads of ``values``."""

    __slots__ = ("entries", "first", "hidden", "next_number", "placeholders", "size", "touched", "values")

    def __init__(self, first: int, now: float) -> None:
        self.first = first
        self.touched = now
        self.values: dict[str, str | bytes] = {}
        self.placeholders: dict[tuple[str, str] | bytes, str] = {}
        self.hidden: dict[tuple[str, str] | bytes, str] = {}
        self.next_number: dict[str, int] = {}
        self.entries = 0
        self.size = 0


class Vault:
    """The values behind placeholders, by conversation; thread-safe, without I/O, never written anywhere.

    Bounded: to make room, the conversations that were idle longest are dropped whole. A conversation that alone
    fills the vault is refused more. Dropped and expired placeholders stay in a text as they are, and the numbers of a
    conversation that comes back go on above them.

    Args:
        max_entries: how many values, and labels of look-alikes, it holds over all conversations.
        ttl: seconds after its last use at which a conversation is forgotten.
        encryption_key: 32 bytes; values are then held under AES-256-GCM and looked up by a keyed hash.
        max_bytes: how many bytes of values (UTF-8) it holds over all conversations.
        clock: seconds, never going back.

    Attributes:
        refused: how many values it had no room for since it was made.

    Raises:
        ConfigurationError: an option is out of range.
        MissingExtraError: a key was given and cryptography is not installed.
    """

    def __init__(
        self,
        max_entries: int = 10_000,
        ttl: float = 3600.0,
        encryption_key: bytes | None = None,
        *,
        max_bytes: int = 64 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(max_entries, int) or max_entries < 1:
            raise ConfigurationError("vault: max_entries must be a whole number from 1")
        if not isinstance(max_bytes, int) or max_bytes < 1:
            raise ConfigurationError("vault: max_bytes must be a whole number from 1")
        if not isinstance(ttl, (int, float)) or not ttl > 0:
            raise ConfigurationError("vault: ttl must be a number of seconds greater than 0")
        self.refused = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._clock = clock
        self._cipher = None if encryption_key is None else cipher("vault encryption", encryption_key)
        self._lookup_key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._conversations: OrderedDict[str, _Conversation] = OrderedDict()
        self._first_numbers: OrderedDict[int, int] = OrderedDict()
        self._entries = 0
        self._size = 0
        self._next_expiry = -math.inf

    def __repr__(self) -> str:
        return f"Vault(conversations={len(self._conversations)}, entries={self._entries})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Vault holds personal data: it can't be pickled or copied")

    def __len__(self) -> int:
        """How many entries it holds, expired ones that nothing has touched since included."""
        return self._entries

    def scoped(self, conversation: str) -> VaultScope:
        """The vault of one conversation.

        Raises:
            ConfigurationError: the id is empty: callers without one must not share one.
        """
        if not conversation:
            raise ConfigurationError("vault: a conversation id must not be empty; give each conversation its own")
        return VaultScope(self, conversation)

    def placeholder(self, conversation: str, category: str, value: str, restorable: bool = True) -> str:
        """See ``VaultScope.placeholder``."""
        name = label(category)
        key = self._key(name, value)
        with self._lock:
            own = self._open(conversation)
            if own is not None:
                known = own.placeholders.get(key) or (None if restorable else own.hidden.get(key))
                if known is not None:
                    return known
            return self._hold(conversation, name, value, key, restorable)

    def escape(self, conversation: str, text: str) -> str:
        """See ``VaultScope.escape``."""
        return PLACEHOLDER.sub(lambda match: self._escaped(conversation, match[0], match[1], int(match[2])), text)

    def restore(self, conversation: str, text: str) -> str:
        """See ``VaultScope.restore``."""
        if "<" not in text:
            return text
        with self._lock:
            own = self._open(conversation)
        if own is None:
            return text
        return PLACEHOLDER.sub(lambda match: self._value(own, conversation, match[0]), text)

    def forget(self, conversation: str) -> None:
        """Drops all of a conversation."""
        with self._lock:
            if conversation in self._conversations:
                self._drop(conversation)
            self._first_numbers.pop(hash(conversation), None)

    def purge(self) -> None:
        """Drops what has expired; every use does so too, a vault that nobody uses needs this."""
        with self._lock:
            self._expire(self._clock())

    def _escaped(self, conversation: str, literal: str, name: str, number: int) -> str:
        key = self._key(_ESCAPE_LABEL, literal)
        with self._lock:
            own = self._open(conversation)
            taken = own is not None and literal in own.values
            if own is not None and not taken and number < own.next_number.get(name, own.first):
                return literal
            try:
                if taken or number > _HIGHEST_SKIPPED:
                    known = None if own is None else own.placeholders.get(key)
                    return known or self._hold(conversation, _ESCAPE_LABEL, literal, key, restorable=True)
                if own is None or name not in own.next_number:
                    own = self._grow(conversation, len(name))
            except VaultError:
                return f"<{_ESCAPE_LABEL}>"
            own.next_number[name] = max(number + 1, own.first)
            return literal

    def _hold(self, conversation: str, name: str, value: str, key: tuple[str, str] | bytes, restorable: bool) -> str:
        own = self._grow(conversation, _utf8_length(value))
        number = own.next_number.get(name, own.first)
        if number > HIGHEST_NUMBER:
            raise VaultError(f"the numbers of this conversation have reached {HIGHEST_NUMBER}")
        own.next_number[name] = number + 1
        literal = f"<{name}_{number}>"
        if not restorable:
            own.hidden[key] = literal
            return literal
        own.placeholders[key] = literal
        own.values[literal] = value if self._cipher is None else seal(self._cipher, value, f"{conversation}\0{literal}")
        return literal

    def _key(self, name: str, value: str) -> tuple[str, str] | bytes:
        if self._cipher is None:
            return name, value
        return hmac.digest(self._lookup_key, f"{name}\0{value}".encode("utf-8", "surrogatepass"), "sha256")

    def _value(self, own: _Conversation, conversation: str, placeholder: str) -> str:
        held = own.values.get(placeholder, placeholder)
        if isinstance(held, str):
            return held
        assert self._cipher is not None  # noqa: S101 - bytes are held only where there is a cipher
        return unseal(self._cipher, held, f"{conversation}\0{placeholder}")

    def _expire(self, now: float) -> None:
        while self._conversations:
            conversation, oldest = next(iter(self._conversations.items()))
            if now - oldest.touched < self._ttl:
                # Conversations are only ever touched later than this one: none expires sooner.
                self._next_expiry = oldest.touched + self._ttl
                return
            self._drop(conversation)

    def _drop(self, conversation: str) -> None:
        gone = self._conversations.pop(conversation)
        # Else an answer that is under way could be restored to what came later.
        self._first_numbers[hash(conversation)] = max(gone.next_number.values(), default=gone.first)
        if len(self._first_numbers) > self._max_entries:
            self._first_numbers.popitem(last=False)
        self._entries -= gone.entries
        self._size -= gone.size
        gone.values.clear()

    def _open(self, conversation: str) -> _Conversation | None:
        now = self._clock()
        if now >= self._next_expiry:
            self._expire(now)
        own = self._conversations.get(conversation)
        if own is not None:
            own.touched = now
            self._conversations.move_to_end(conversation)
        return own

    def _grow(self, conversation: str, size: int) -> _Conversation:
        """Counts one more entry of ``size`` bytes, dropping the conversations idle longest to make room."""
        own = self._conversations.get(conversation)
        entries, used = (0, 0) if own is None else (own.entries, own.size)
        if entries >= self._max_entries or used + size > self._max_bytes:
            self.refused += 1
            raise VaultError(
                f"the vault has no room: a conversation with {entries} entries and {used} bytes asks for {size} more "
                f"(max_entries={self._max_entries}, max_bytes={self._max_bytes})"
            )
        while self._entries >= self._max_entries or self._size + size > self._max_bytes:
            self._drop(next(iter(self._conversations)))
        if own is None:
            first = self._first_numbers.pop(hash(conversation), 1)
            own = self._conversations[conversation] = _Conversation(first, self._clock())
        own.entries += 1
        own.size += size
        self._entries += 1
        self._size += size
        return own


class VaultScope:
    """A vault as one conversation sees it; cheap, for it holds nothing of its own."""

    __slots__ = ("_conversation", "_vault")

    def __init__(self, vault: Vault, conversation: str) -> None:
        self._vault = vault
        self._conversation = conversation

    def placeholder(self, category: str, value: str, restorable: bool = True) -> str:
        """What stands for a value: the same category and value give the same placeholder.

        Args:
            category: what the value is; the label is made of it.
            value: what to hold; any Unicode, lone surrogates included.
            restorable: False for a value that the model produced. Its placeholder is never restored; when the same
                value comes in an input later, it gets one of its own that is, and outputs use that one from then on.

        Raises:
            VaultError: the value doesn't fit in beside this conversation's others.
        """
        return self._vault.placeholder(self._conversation, category, value, restorable)

    def escape(self, text: str) -> str:
        """A text that nothing was redacted from, made safe to restore: ``restore(escape(text)) == text``.

        Only look-alikes of placeholders that were given out are changed. One that can't be kept because the vault is
        full becomes ``<TEXT>``, for good.
        """
        return self._vault.escape(self._conversation, text)

    def restore(self, text: str) -> str:
        """The text with this conversation's values in place of their placeholders; all others stay. Linear."""
        return self._vault.restore(self._conversation, text)

    def forget(self) -> None:
        """Drops all that the vault holds of this conversation."""
        self._vault.forget(self._conversation)
