"""What a dialect did not read of an object: nothing hides under a key that we don't know, or where a name belongs.

Keys count as they are spelt. Some servers take ``Params`` for ``params``, so a key that differs from a known one in its
case alone is refused: it would be a text that the guard passes over and the server reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from llmguard.dialects.pointer import child, strings
from llmguard.dialects.reader import Reader
from llmguard.dialects.wire import Json
from llmguard.errors import DialectError

_NONE: frozenset[str] = frozenset()


def leftover(
    reader: Reader, value: Mapping[str, Json], path: str, read: frozenset[str], names: frozenset[str] = _NONE
) -> None:
    """Mark the strings that nobody looked at as uncovered.

    Args:
        reader: what gathers the places.
        value: the object.
        path: its pointer.
        read: keys whose members the dialect has read, or knows to hold no text at any depth.
        names: keys whose members are names, ids or words of a fixed set: no texts, unless they are arrays or objects.

    Raises:
        DialectError: a key differs from a known one in its case alone.
    """
    for key, member in value.items():
        if key in read or (key in names and not isinstance(member, (dict, list))):
            continue
        if key not in names and (key.casefold() in _folded(read) or key.casefold() in _folded(names)):
            raise DialectError(f"{path or 'the body'}: a key is spelt in another case than the format's")
        if isinstance(member, (str, dict, list)):
            reader.uncovered += [where for where, text in strings(member, child(path, key)) if text]


@lru_cache(maxsize=256)
def _folded(keys: frozenset[str]) -> frozenset[str]:
    return frozenset([key.casefold() for key in keys])
