"""What server-sent events say beside their data: comments, names, ids, times to wait.

Readers skip comments, so servers keep connections alive with them. The usual ones pass as they are; of any other only
the colon goes out, which keeps the connection alive just as well. A name or an id is one word, or the stream is broken.
"""

from __future__ import annotations

import re

from llmguard.dialects.framing import Raw
from llmguard.errors import DialectError

_LINE = re.compile(rb"([^\r\n]*+)(\r\n|\r|\n|\Z)")
_KEEP_ALIVE = re.compile(
    rb":[ \t]?(?:(?:ping|keep-?alive|heart-?beat|ok|connected|openrouter processing)"
    rb"(?: - \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?(?:\+00:00)?)?)?[ \t]*",
    re.IGNORECASE,
)
_WORD = re.compile(rb" ?[!-~]{0,128}")
_TIME = re.compile(rb" ?[0-9]{0,9}")
_FIELDS = {b"event": _WORD, b"id": _WORD, b"retry": _TIME}
_BOM = b"\xef\xbb\xbf"


def quiet(raw: Raw) -> Raw:
    """The piece without comments that say something.

    Raises:
        DialectError: a name or an id is prose, or the piece says something in another way.
    """
    if raw.at == 6 and len(raw.raw) == 6 + len(raw.payload) + 2 and raw.raw.startswith(b"data: "):
        return raw  # one line of data and an empty one, as nearly all are
    lines: list[bytes] = []
    changed = False
    for line in _LINE.finditer(raw.raw.removeprefix(_BOM)):
        field, colon, value = line[1].partition(b":")
        kept = line[1]
        if colon and not field:
            kept = kept if _KEEP_ALIVE.fullmatch(kept) else b":"
            changed = changed or kept != line[1]
        elif field in _FIELDS and _FIELDS[field].fullmatch(value) is None:
            raise DialectError("the name or the id of an event is prose")
        lines += kept, line[2]
    if not changed:
        return raw
    before = _BOM if raw.raw.startswith(_BOM) else b""
    return raw._replace(raw=before + b"".join(lines), at=-1)
