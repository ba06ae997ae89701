"""Every string that the providers' own packages have in their types is a text, uncovered, or listed as no text.

The packages describe what goes over the wire member by member. Of each type on a guarded route examples are made, with
a text of its own in each string, so that a member which a dialect does not read is named here by its type.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest
from sdk_no_texts import NEVER, WORDS
from sdk_routes import PACKAGES, Said, installed, routes
from sdk_shapes import Leaf, marked, strings

from llmguard.dialects import pointer
from llmguard.dialects.wire import Body, Event
from llmguard.errors import DialectError

PROSE, WORD = "what {} says here", "word{}here"

each = pytest.mark.parametrize("package", PACKAGES)


def all_said(package: str) -> tuple[Said, ...]:
    """What the package describes; the test is skipped where another version is installed than was looked at."""
    if installed(package) != PACKAGES[package]:
        # A person has to say which of a newer one's strings are texts: then its version goes into `PACKAGES`.
        pytest.skip(f"looked at {package} {PACKAGES[package]}, installed is {installed(package) or 'none'}")
    return routes(package)


def known(said: Body | Event, body: Any) -> set[str]:
    """The texts that are seen, and all strings in what is uncovered; each where it stands."""
    pieces = [*said.parts, *((*said.deltas, *said.repeats) if isinstance(said, Event) else ())]
    for piece in pieces:
        assert pointer.said(body, piece.path) == piece.content
    texts = {piece.content for piece in pieces}
    for place in said.uncovered:
        texts.update(strings(pointer.get(body, place)))
    return texts


@functools.cache
def no_text(leaf: Leaf, style: str) -> str:
    """The pattern that lists a string as no text, "" for none."""
    owned = [
        (pattern, f"*{pattern}" if pattern.startswith(".") else pattern) for ones in NEVER.values() for pattern in ones
    ]
    owned += [(pattern, pattern) for pattern in WORDS if style == WORD]
    return next((pattern for pattern, whole in owned if fnmatchcase(str(leaf), whole)), "")


@functools.cache
def audit(package: str) -> tuple[frozenset[str], frozenset[str]]:
    """The strings that are lost, and the patterns that were needed."""
    lost, used = set(), set()
    for said in all_said(package):
        for made in said.made:
            for style in (PROSE, WORD):
                body, leaves = marked(made, style)
                found = known(said.read(body), body)
                for text in leaves.keys() - found:
                    pattern = no_text(leaves[text], style)
                    used.add(pattern)
                    if not pattern:
                        lost.add(f"{said}: {leaves[text]}, as {'a word' if style == WORD else 'prose'}")
    return frozenset(lost), frozenset(used)


@each
def test_every_string_of_a_type_is_seen_or_uncovered_or_listed(package: str) -> None:
    """What is lost is read by the dialect, or uncovered there, or listed with its reason in `sdk_no_texts`."""
    assert sorted(audit(package)[0]) == []


def test_nothing_is_listed_that_need_not_be() -> None:
    if any([installed(package) != version for package, version in PACKAGES.items()]):
        pytest.skip("the list is that of other versions")
    used = {pattern for package in PACKAGES for pattern in audit(package)[1]}
    assert sorted({*WORDS, *[pattern for patterns in NEVER.values() for pattern in patterns]} - used) == []
    assert sum(map(len, NEVER.values())) == len({pattern for patterns in NEVER.values() for pattern in patterns})


#: Objects, by a pattern of their places, in which a new member is not looked for; elsewhere prose in one is told.
CLOSED = {
    "openai.chat usage": "counts of tokens",
    "openai.completions usage": "counts of tokens",
    "openai.embeddings usage": "counts of tokens",
    "openai.embeddings data": "vectors",
    "openai.moderations results": "scores",
    "anthropic.messages metadata": "the account's own notes",
    "mcp _meta": "notes of programs to each other",
}


@each
def test_prose_under_a_member_that_is_new_is_uncovered(package: str) -> None:
    lost = set()
    for said in all_said(package):
        for made in said.made:
            added: dict[str, str] = {}
            body = with_news(marked(made, PROSE)[0], "", added)
            found = known(said.read(body), body)
            lost |= {f"{said.dialect} {added[text]}" for text in added.keys() - found}
    assert sorted([place for place in lost if not closed(place)]) == []


def closed(place: str) -> bool:
    """Whether nothing is looked for there: ``dialect /place``."""
    return any(
        [place.startswith(f"{dialect} ") and f"/{key}/" in f"{place}/" for dialect, key in map(str.split, CLOSED)]
    )


def with_news(value: Any, path: str, added: dict[str, str]) -> Any:
    """The body with a member that no type has in each of its objects, but for those of free keys."""
    if isinstance(value, list):
        return [with_news(member, f"{path}/*", added) for member in value]
    if not isinstance(value, dict):
        return value
    members = {key: with_news(member, f"{path}/{key}", added) for key, member in value.items()}
    if members.keys() & {"some", "inner"}:
        return members
    text = f"\u65b0\u7684\u6307\u793a{len(added)}"  # prose has no spaces in every language
    added[text] = path
    return {**members, "made_up": {"text": text}}


@each
def test_a_part_and_an_event_of_a_type_that_is_new_is_uncovered_or_refused(package: str) -> None:
    lost, tried = set(), set()
    for said in all_said(package):
        for made in said.made:
            for place, words in typed(made, ""):
                if (str(said), words) in tried:
                    continue
                tried.add((str(said), words))
                body, leaves = marked(retyped(made, pointer.tokens(place)), PROSE)
                try:
                    found = known(said.read(body), body)
                except DialectError:
                    continue
                for text in leaves.keys() - found:
                    if not no_text(leaves[text], PROSE):
                        lost.add(f"{said} {place}: {leaves[text]}")
    assert sorted(lost) == []


def typed(value: Any, path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The places of objects that say what they are, with the types on the way there."""

    def walk(here: Any, place: str, above: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
        if isinstance(here, dict):
            own = here.get("type")
            if isinstance(own, str):
                yield place, (*above, own, str(sorted(here)))
            for key, member in here.items():
                yield from walk(member, f"{place}/{key}", (*above, key, str(own)))
        elif isinstance(here, list):
            for index, member in enumerate(here):
                yield from walk(member, f"{place}/{index}", above)

    return walk(value, path, ())


def retyped(value: Any, keys: list[str]) -> Any:
    """The example with another type in the object that stands there."""
    if not keys:
        return {**value, "type": "made_up_type"}
    if isinstance(value, list):
        return [retyped(member, keys[1:]) if str(at) == keys[0] else member for at, member in enumerate(value)]
    return {key: retyped(member, keys[1:]) if key == keys[0] else member for key, member in value.items()}
