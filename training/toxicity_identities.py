"""The identity terms that templates are crossed with, and the slots that they fill."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import yaml

PARTS = Path(__file__).parent / "toxicity_parts"
_SLOT = re.compile(r"\{(\w+)\}")
#: Words that are written with a vowel and spoken with a consonant.
_CONSONANT_SOUND = ("europ", "ukrain", "us", "unit", "one")
#: Initialisms that are spoken with a vowel.
_VOWEL_SOUND = ("lgbt",)

Words = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Identity:
    """One way to name a group of people.

    Attributes:
        group: what all ways to name the group share.
        adjective: "Muslim" in "a Muslim plumber".
        one: a person.
        many: people.
        emoji: those that stand for the group; may be empty.
    """

    group: str
    adjective: str
    one: str
    many: str
    emoji: tuple[str, ...] = ()


def identities() -> list[Identity]:
    """Every English identity term, in the order of the file."""
    block: str = yaml.safe_load((PARTS / "identities.yaml").read_text(encoding="utf-8"))["english"]
    found = []
    for line in block.splitlines():
        key, adjective, one, many, emoji = (cell.strip() for cell in line.split("|"))
        found.append(Identity(key.split("/")[0], adjective, one, many, tuple(emoji.split())))
    return found


def words() -> dict[str, list[str]]:
    """Words for the other slots, by slot."""
    found: dict[str, list[str]] = yaml.safe_load((PARTS / "words.yaml").read_text(encoding="utf-8"))
    return found


def article(word: str) -> str:
    """The word with "a" or "an" before it."""
    low = word.lower()
    vowel = low.startswith(_VOWEL_SOUND) or (low[:1] in set("aeiou") and not low.startswith(_CONSONANT_SOUND))
    return f"{'an' if vowel else 'a'} {word}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def fill(template: str, identity: Identity | None, slots: Words, rng: Random) -> str:
    """Fill a template's slots.

    Args:
        template: text with slots in braces: ``{p} {P} {s} {a} {A} {adj} {aadj} {e}`` are the identity's, others words.
        identity: None where the template has none of its slots.
        slots: words by slot; a slot that stands twice gets two different words where there are two.
        rng: draws the words.

    Raises:
        KeyError: the template names a slot that nothing fills.
    """
    forms: dict[str, str] = {}
    if identity is not None:
        forms = {
            "p": identity.many,
            "P": _capital(identity.many),
            "s": identity.one,
            "a": article(identity.one),
            "A": _capital(article(identity.one)),
            "adj": identity.adjective,
            "aadj": article(identity.adjective),
        }
        if identity.emoji:
            forms["e"] = rng.choice(identity.emoji)
    used: dict[str, set[str]] = {}

    def replace(match: re.Match[str]) -> str:
        slot = match.group(1)
        if slot in forms:
            return forms[slot]
        kind = slot.rstrip("0123456789")
        fresh = [word for word in slots[kind] if word not in used.get(kind, ())] or list(slots[kind])
        word = rng.choice(fresh)
        used.setdefault(kind, set()).add(word)
        if kind == "name":  # a name that stands twice is the same person; "name2" is another
            forms[slot] = word
        return word

    return _correct(_SLOT.sub(replace, template))


def _correct(text: str) -> str:
    """Mend the article before a drawn word."""
    return re.sub(
        r"\b([Aa])n? (?=(\w[\w-]*))",
        lambda m: article(m.group(2))[: -len(m.group(2))].replace("a", m.group(1), 1),
        text,
    )
