"""Is this value a secret, or what documents put in the place of one?

Each question takes the value, what stands before it in its match, and the shape's score, and gives
the parts of the value that are secrets, each with a score; 0 asks for detect-secrets' word. All of
them cost time linear in the value, and none looks at named values longer than ``_LONGEST`` characters.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

_LONGEST = 2048
_SHORTEST_KEY = 8
_SHORTEST_PART = 5
_WEAK = 0.6
# A random character set gives more; fewer distinct characters are a mask such as xxxx or 0000.
_FEWEST_DISTINCT = 5

_STANDS_FOR = re.compile(
    r"your|my|the|some|an?(?![a-z])|our|enter|insert|replace|change|put|set|add|here|this|me|it|with|goes|actual|real|"
    r"example|sample|demo|dummy|fake|mock|test(?:ing)?|placeholder|redacted|hidden|masked|removed|secret|password|"
    r"passwd|pwd|pass|key|token|api|value|string|user(?:name)?|name|todo|tbd|none|null|nil|true|false|undefined|"
    r"optional|required|default|changeit|xx+|\*+|\.\.+|[-_<>{}\[\]()$%#:/.\s*]",
    re.IGNORECASE,
)
_TEMPLATE = re.compile(r"\s*(?:<.*>|\$?\{.*\}|\$\(.*\)|\$[A-Za-z_]\w*|%[\w(].*|\[.*\]|#\{.*\})\s*", re.DOTALL)
_REFERENCE = re.compile(
    r"(?:os\.|process\.|env[.\[(]|getenv|import|self\.|config\.|settings\.|request\.|ref:|arn:|vault:|secrets?\.|ssm:)",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?:\.{0,2}/|~/|[A-Za-z]:\\|[a-z]+://)[^\s@]*")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-fA-F]+")
_LONG_TOKEN = re.compile(r"[\w+/-]{20,}=*", re.ASCII)
# MD5, SHA-1 and git, SHA-224, SHA-256, SHA-384, SHA-512.
_DIGEST_LENGTHS = frozenset({32, 40, 56, 64, 96, 128})
_DIGEST_WORD = re.compile(r"sha-?\d|md5|hash|checksum|digest|commit|git|revision|integrity|etag", re.IGNORECASE)
_NO_SECRET_NAME = re.compile(
    r"(?:[_-]|(?<=[a-z]))(?:id|name|path|file|dir|url|uri|type|length|len|count|size|limit|field|label|hint|policy|"
    r"param|header|regex|pattern|format|expir\w*|ttl|at|date|version|prefix|reset|rotation|izers?|ized|ization)"
    r"[\]'\"\\)\s]*[:=!>-]+\s*[@bru$]?\\?[\"'`]?\Z",
    re.IGNORECASE,
)
# Alphabets that code spells out, and the expressions that look for secrets.
_SEQUENCE = re.compile(r"0123456789|123456789|abcdefghij|qrstuvwxyz|\[a-z|\[A-Z|\(\?|\\[dws]", re.IGNORECASE)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_.]*")
_DIGIT = frozenset("0123456789")
_LETTER = frozenset("abcdefghijklmnopqrstuvwxyz")
_STRONG = frozenset("!@#$%^&*+=")
_UNIT = re.compile(r"(?:at-?least-?)?\d+[-.]?[a-z]+|[a-z]+-?\d{1,2}(?:\.\d+)?|\d[\d.,:/%-]*", re.IGNORECASE)


class Verdict(NamedTuple):
    """Which part of a value is a secret, and how surely: offsets in the value, half-open."""

    start: int
    end: int
    score: float


class Limits(NamedTuple):
    """From which Shannon entropy, in bits a character, a value counts as random.

    Attributes:
        base64: for quoted base64 without a key word nearby; detect-secrets' limit is 4.5.
        hex: for quoted hex; detect-secrets' limit is 3.0.
        near: for a value near a key word. 20 characters drawn evenly from 64 have 4.0 or more in 99 of
            100 cases, English words of that length 3.6 or less.
        shortest: values shorter than this are not looked at.
    """

    base64: float = 4.5
    hex: float = 3.0
    near: float = 3.7
    shortest: int = 20


Question = Callable[[str, str, float, Limits], list[Verdict]]


def entropy(value: str) -> float:
    """Shannon entropy of the characters of ``value``, in bits a character."""
    size = len(value)
    return math.log2(size) - sum(n * math.log2(n) for n in Counter(value).values()) / size


def is_placeholder(value: str) -> bool:
    """Whether a value only stands for a secret: masks, templates, "your-key-here", references to a variable."""
    if _TEMPLATE.fullmatch(value) or _REFERENCE.match(value) or len(set(value)) < 3:
        return True
    if not _DIGIT.isdisjoint(value):
        return False
    return len(_STANDS_FOR.sub("", value)) < 4


def is_mask(value: str) -> bool:
    """Whether the end of a token is a mask such as ``xxxxxxxx`` or words such as ``your-key-here``."""
    tail = value[-16:]
    if len(set(tail)) < _FEWEST_DISTINCT:
        return True
    lower = value.lower()
    return "xxxxxx" in lower or "your-" in lower or "your_" in lower or ("..." in lower)


def is_mixed(value: str) -> bool:
    """Whether a value has both a letter and a digit."""
    return not _DIGIT.isdisjoint(value) and not _LETTER.isdisjoint(value.lower())


def _whole(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    return [Verdict(0, len(value), score)]


def _token(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    end = len(value.rstrip("-."))
    return [] if is_mask(value[:end]) else [Verdict(0, end, score)]


def _url(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    end = len(value.rstrip(".,:!?)]}\\"))
    # An ADO string may end in its own semicolon; in prose the semicolon belongs to the sentence.
    if "://" in value:
        end = len(value[:end].rstrip(";.,:!?)]}\\"))
    _, _, after = value[:end].partition("://")
    credentials = after.rpartition("@")[0] or after
    user, _, password = credentials.partition(":")
    if not password or not is_placeholder(password):
        return [Verdict(0, end, score)]
    # "user:password" stands in documents; "admin:password" opens doors.
    if _TEMPLATE.fullmatch(password) or len(set(password)) < 2 or is_placeholder(user):
        return []
    return [Verdict(0, end, min(score, _WEAK))]


def _jwt(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    value = value.rstrip("-=/+")
    parts = value.split(".")
    sound = len(parts) > 2 and all(len(part) > _SHORTEST_PART for part in parts) and not is_mask(value)
    return [Verdict(0, len(value), score if sound else 0.0)]


def _clean(value: str, *, bare: bool) -> int:
    end = len(value)
    while end and value[end - 1] in (".,;:\\)" if bare else "\\"):
        end -= 1
    return end


def _assigned(value: str, lead: str, *, bare: bool) -> str:
    """The value of a name as far as it can be a secret, else ""."""
    if len(value) > _LONGEST or _NO_SECRET_NAME.search(lead[-80:]):
        return ""
    value = value[: _clean(value, bare=bare)]
    return "" if len(value) < 3 or is_placeholder(value) or _PATH.fullmatch(value) else value


def _plain_words(value: str) -> bool:
    return " " in value.strip() and all(c.isalpha() or c in " .,;:'!?-()" for c in value)


def _password(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    value = _assigned(value, lead, bare=False)
    if not value or _plain_words(value):
        return []
    return [Verdict(0, len(value), score if not value.isalpha() else score - 0.2)]


def _bare_password(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    value = _assigned(value, lead, bare=True)
    # "Password: required" is prose and "password = get_it" code; "password=hunter" is neither.
    if not value or (_IDENTIFIER.fullmatch(value) and lead[-1:].isspace()) or value[:1] in "=\\\"'`":
        return []
    return [Verdict(0, len(value), score if not value.isalpha() else score - 0.2)]


def _random_enough(value: str) -> bool:
    if len(value) < _SHORTEST_KEY or value.isdigit() or " " in value.strip() or _SEQUENCE.search(value):
        return False
    return is_mixed(value) or not _STRONG.isdisjoint(value)


def _key(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    value = _assigned(value, lead, bare=False)
    return [Verdict(0, len(value), score)] if value and _random_enough(value) else []


def _bare_key(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    value = _assigned(value, lead, bare=True)
    if not value or not is_mixed(value) or not _random_enough(value) or _UNIT.fullmatch(value):
        return []
    return [Verdict(0, len(value), score)]


def _header(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    value = value[: len(value.rstrip(".-/"))]
    if not is_mixed(value) or is_mask(value) or _UUID.search(value) or entropy(value) < 3.0:
        return []
    return [Verdict(0, len(value), score)]


def _phrase(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    value = value[: len(value.rstrip(".,;:)\\"))]
    if len(value) < 4 or len(value) > _LONGEST or _UNIT.fullmatch(value):
        return []
    if is_placeholder(value) or _PATH.fullmatch(value):
        return []
    inner = value[1:-1]
    if not is_mixed(value) and _STRONG.isdisjoint(inner):
        return []
    return [Verdict(0, len(value), score)]


def _near(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    found = []
    digest_word = bool(_DIGEST_WORD.search(lead[-60:]))
    for match in _LONG_TOKEN.finditer(value):
        token = match.group()
        if len(token) > _LONGEST or len(token) < limits.shortest or not _is_random(token, limits.near):
            continue
        if digest_word and _HEX.fullmatch(token):
            continue
        found.append(Verdict(match.start(), match.end(), score))
    return found


def _quoted(value: str, lead: str, score: float, limits: Limits) -> list[Verdict]:
    if len(value) > _LONGEST or len(value) < limits.shortest - 4 or is_mask(value):
        return []
    if _HEX.fullmatch(value):
        if len(value) in _DIGEST_LENGTHS or value.isdigit() or _SEQUENCE.search(value):
            return []
    elif not _is_random(value, limits.base64):
        return []
    return [Verdict(0, len(value), score)]


def _is_random(token: str, limit: float) -> bool:
    """Whether a long token looks drawn at random: both kinds of characters, enough entropy, no path, no UUID."""
    if not is_mixed(token) or is_mask(token) or _UUID.search(token) or _SEQUENCE.search(token):
        return False
    if _HEX.fullmatch(token):
        return entropy(token) >= 3.0 and not token.isdigit()
    if entropy(token) < limit:
        return False
    # Words joined by - _ or / are names and paths; a random string has case changes and digits inside its parts.
    parts = [part for part in re.split(r"[-_/+=]", token) if part]
    words = sum(len(part) for part in parts if part.isalpha() and (part.islower() or part.istitle() or part.isupper()))
    numbers = sum(len(part) for part in parts if part.isdigit())
    return (words + numbers) * 2 < len(token)


QUESTIONS: dict[str, Question] = {
    "none": _whole,
    "token": _token,
    "url": _url,
    "jwt": _jwt,
    "password": _password,
    "bare_password": _bare_password,
    "key": _key,
    "bare_key": _bare_key,
    "header": _header,
    "phrase": _phrase,
    "near": _near,
    "quoted": _quoted,
}
# Of two findings in one place the one of the lower tier stands: a known shape, then a named value, then randomness.
TIERS = {"none": 0, "token": 0, "url": 0, "jwt": 0, "near": 2, "quoted": 2}
NAMED = 1
