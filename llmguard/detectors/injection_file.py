"""Rules of prompt injection as a YAML file says them: read, checked, compiled.

A pattern is RE2 (case does not matter) with three shorthands: a blank stands for any white space, quotes or light
punctuation; ``{gap}`` for up to four words of one sentence; ``{name}`` for the words listed under ``words``.
``⟦…⟧`` around a part of it marks what is rare in honest text: the pattern is not tried on a text without it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llmguard.errors import ConfigurationError, nearest
from llmguard.types import Role

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ENCODED = "ENCODED_PAYLOAD"
"""The category of every hit in a decoded reading."""

CATEGORIES = (
    "INSTRUCTION_OVERRIDE",
    "ROLE_PLAY",
    "PROMPT_EXTRACTION",
    "EXFILTRATION",
    "INDIRECT_INSTRUCTION",
    "FAKE_ROLE",
    "TOOL_ABUSE",
    "AUTHORITY_CLAIM",
    "REFUSAL_SUPPRESSION",
    ENCODED,
)

_KEYS = ("id", "category", "score", "roles", "reason", "reference", "patterns")
_BLANK = r"""(?:[\s"'*_,:;()\[\]<>«»„“”‘’`~–—-]+)"""
_BUILT_IN = {
    "gap": rf"(?:\s+[^\s.!?]+){{0,4}}{_BLANK}",
    "_": _BLANK,
}
_BARE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]| ")
_TOKEN = re.compile(r"\\[pP]\{\w+\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d+)(?:,\d*)?\}|[()|⟦⟧]")
_MACRO = re.compile(r"(?<!\\p)(?<!\\P)\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One known shape.

    Attributes:
        id: its name in reasons and in ``disable``.
        category: one of ``CATEGORIES``.
        score: how sure a hit makes us, in (0, 1].
        roles: the texts it looks at; all when empty.
        reason: why it is a finding, in fixed words.
        reference: where the shape is described.
        anchors: for each pattern, RE2 patterns that must all match a text for it to match. None of them counts
            repetitions, so that the scan for all of them is one small automaton.
        search: the compiled patterns, for UTF-8 bytes.
    """

    id: str
    category: str
    score: float
    roles: frozenset[Role]
    reason: str
    reference: str
    anchors: tuple[tuple[str, ...], ...]
    search: Any = field(repr=False, compare=False)


@cache
def _bundled() -> tuple[Rule, ...]:
    file = resources.files("llmguard.detectors") / "data" / "injection_rules.yaml"
    return tuple(_parse(file.read_text(encoding="utf-8"), "injection_rules.yaml", ()))


def bundled_rules() -> list[Rule]:
    """The rules that come with the package."""
    return list(_bundled())


def read_rules(path: str, *, taken: Collection[str] = ()) -> list[Rule]:
    """Rules of one file; its patterns may use the words that the file lists.

    Args:
        path: a YAML file.
        taken: ids that it must not use again.

    Raises:
        ConfigurationError: it cannot be read, or a rule in it is wrong.
    """
    try:
        source = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {type(error).__name__}", source=path) from None
    return _parse(source, path, taken)


def _parse(source: str, path: str, taken: Collection[str]) -> list[Rule]:
    try:
        data = yaml.safe_load(source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigurationError("is no YAML", source=path, line=mark.line + 1 if mark else None) from None
    if not isinstance(data, dict) or not isinstance(data.get("rules"), list):
        raise ConfigurationError("must be a mapping with a list under 'rules'", source=path)
    for key in data:
        if key not in ("words", "rules"):
            raise ConfigurationError(f"unknown key {key!r}{nearest(str(key), ('words', 'rules'))}", source=path)
    words = _words(data.get("words") or {}, path)
    seen = set(taken)
    rules = []
    for entry in data["rules"]:
        rule = _rule(entry, words, path)
        if rule.id in seen:
            raise ConfigurationError(f"rule {rule.id!r}: the id is taken", source=path)
        seen.add(rule.id)
        rules.append(rule)
    return rules


def _words(entries: Any, path: str) -> dict[str, str]:
    if not isinstance(entries, dict):
        raise ConfigurationError("'words' must be a mapping of lists", source=path)
    words = dict(_BUILT_IN)
    for name, values in entries.items():
        if name in _BUILT_IN or not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ConfigurationError(f"words {name!r}: must be a list of strings under a name of its own", source=path)
        words[name] = "(?:" + "|".join(_expand(value, words, f"words {name!r}", path) for value in values) + ")"
    return words


def _expand(pattern: str, words: Mapping[str, str], where: str, path: str) -> str:
    """A pattern with its shorthands written out."""

    def word(match: re.Match[str]) -> str:
        if match[1] not in words:
            raise ConfigurationError(f"{where}: no words {match[1]!r}{nearest(match[1], words)}", source=path)
        return words[match[1]]

    blanks = _BARE.sub(lambda match: _BLANK if match[0] == " " else match[0], pattern)
    return _MACRO.sub(word, blanks)


def _anchors(pattern: str) -> tuple[str, ...]:
    """The marked parts of a pattern, or all of it, with repetitions no longer counted.

    Raises:
        ValueError: a mark stands inside a group, or beside an alternative or a repetition, so that a match may lack it.
    """
    parts: list[str] = []
    depth, opened = 0, -1
    for token in _TOKEN.finditer(pattern):
        match token[0]:
            case "(":
                depth += 1
            case ")":
                depth -= 1
            case "⟦" if depth or opened >= 0:
                raise ValueError
            case "⟦":
                opened = token.end()
            case "⟧" if depth or opened < 0 or pattern[token.end() : token.end() + 1] in set("?*+{"):
                raise ValueError
            case "⟧":
                parts.append(pattern[opened : token.start()])
                opened = -1
            case "|" if not depth and ("⟦" in pattern or "⟧" in pattern):
                raise ValueError
    if opened >= 0:
        raise ValueError
    return tuple("(?i)" + _TOKEN.sub(_uncounted, part) for part in parts or [pattern])


def _uncounted(token: re.Match[str]) -> str:
    """``{0,3}`` as ``*`` and ``{1,3}`` as ``+``: more matches, far fewer states."""
    if token[1] is None:
        return token[0]
    return "*" if int(token[1]) == 0 else "+"


def _unmarked(pattern: str) -> str:
    return pattern.replace("⟦", "").replace("⟧", "")


def _checked(entry: Any, path: str) -> str:
    """How messages name the rule, once its plain keys are right."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise ConfigurationError("every rule must be a mapping with an id", source=path)
    where = f"rule {entry['id']!r}"
    for key in entry:
        if key not in _KEYS:
            raise ConfigurationError(f"{where}: unknown key {key!r}{nearest(str(key), _KEYS)}", source=path)
    for key in ("category", "reason", "reference"):
        if not isinstance(entry.get(key), str):
            raise ConfigurationError(f"{where}: {key} must be a string", source=path)
    if entry["category"] not in CATEGORIES:
        hint = nearest(entry["category"], CATEGORIES)
        raise ConfigurationError(f"{where}: unknown category {entry['category']!r}{hint}", source=path)
    score = entry.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 < score <= 1:
        raise ConfigurationError(f"{where}: score must be a number in (0, 1], not {score!r}", source=path)
    return where


def _roles(names: Any, where: str, path: str) -> frozenset[Role]:
    for name in names if isinstance(names, list) else [names]:
        if name not in list(Role):
            raise ConfigurationError(
                f"{where}: unknown role {name!r}{nearest(str(name), [role.value for role in Role])}", source=path
            )
    return frozenset(map(Role, names if isinstance(names, list) else [names]))


def _strings(entry: dict[str, Any], key: str, where: str, path: str) -> list[str]:
    values = entry.get(key, [])
    if not isinstance(values, list) or not all(isinstance(one, str) and one for one in values):
        raise ConfigurationError(f"{where}: {key} must be a list of strings", source=path)
    if key == "patterns" and not values:
        raise ConfigurationError(f"{where}: patterns must not be empty", source=path)
    return values


def _rule(entry: Any, words: Mapping[str, str], path: str) -> Rule:
    import re2

    where = _checked(entry, path)
    roles = _roles(entry.get("roles", []), where, path)
    patterns = [_expand(one, words, where, path) for one in _strings(entry, "patterns", where, path)]
    options = re2.Options()
    options.never_capture = True
    options.log_errors = False
    try:
        search = re2.compile(("(?i)" + "|".join(map(_unmarked, patterns))).encode(), options)
    except re2.error as error:
        raise ConfigurationError(f"{where}: RE2 does not accept a pattern: {error}", source=path) from None
    if search.match(b""):
        raise ConfigurationError(f"{where}: a pattern matches the empty text", source=path)
    try:
        anchors = tuple(map(_anchors, patterns))
    except ValueError:
        raise ConfigurationError(
            f"{where}: ⟦ and ⟧ must enclose a part that every match has, outside groups and alternatives", source=path
        ) from None
    return Rule(
        id=entry["id"],
        category=entry["category"],
        score=float(entry["score"]),
        roles=roles,
        reason=entry["reason"],
        reference=entry["reference"],
        anchors=anchors,
        search=search,
    )
