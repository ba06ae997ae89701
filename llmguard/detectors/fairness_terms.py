"""A lexicon of identity terms as its YAML file says it: read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from llmguard.detectors.fairness_contexts import Contexts
from llmguard.errors import ConfigurationError, nearest

#: So many groups fit, since each is a row of every report and a value of a metric's attribute.
MAX_GROUPS = 500
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_GAP = re.compile(r"[\s-]+")
_SOURCE = ("title", "licence", "url")
_AMBIGUOUS = ("words", "counted", "persons", "said_of", "counts")
_KEYS = ("sources", "dimensions", "ambiguous", "capitalised")


@dataclass(frozen=True, slots=True)
class Term:
    """A word or phrase that names a group of people.

    Attributes:
        text: as it is spelled in running text.
        dimension: what kind of group, such as ``religion``.
        group: the group's name.
        forms: how it is used: ``adjective``, ``plural`` and whatever else the file says. Terms that share the dimension
            and the forms can take each other's place.
        sources: names of the sources that have it.
    """

    text: str
    dimension: str
    group: str
    forms: frozenset[str]
    sources: frozenset[str]


@dataclass(frozen=True, slots=True)
class Said:
    """What a file says."""

    terms: tuple[Term, ...]
    contexts: Contexts
    sources: Mapping[str, Mapping[str, str]]


def parse(text: str, name: str) -> Said:
    """The terms of a lexicon's file.

    Args:
        text: of the file.
        name: of the file, for errors.

    Raises:
        ConfigurationError: it is not in the format; names the place.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigurationError("is no YAML", source=name, line=mark.line + 1 if mark else None) from None
    file = _File(name)
    top = file.mapping(data, "the file")
    file.known(top, _KEYS, "the file")
    sources = {key: file.source(value, key) for key, value in file.mapping(top.get("sources"), "sources").items()}
    ambiguous = file.mapping(top.get("ambiguous") or {}, "ambiguous")
    file.known(ambiguous, _AMBIGUOUS, "ambiguous")
    words = {key: [w.lower() for w in file.words(value, f"ambiguous.{key}")] for key, value in ambiguous.items()}
    capitalised = [w.lower() for w in file.words(top["capitalised"], "capitalised")] if "capitalised" in top else []
    terms = file.terms(file.mapping(top.get("dimensions"), "dimensions"), sources)
    return Said(terms, Contexts(**words, capitalised=capitalised), sources)


def plain(word: str) -> str:
    """A term in lower case, its parts one blank apart: how terms are told from each other."""
    return _GAP.sub(" ", word).lower()


class _File:
    """One file, whose name is part of every error."""

    def __init__(self, name: str) -> None:
        self._name = name

    def terms(self, dimensions: Mapping[str, Any], sources: Mapping[str, Any]) -> tuple[Term, ...]:
        found: dict[str, Term] = {}
        for dimension, group, source, form, word in self._listed(dimensions):
            if source not in sources:
                where = f"dimensions.{dimension}.{group}"
                raise self.wrong(f"{where}: source {source!r} is not among 'sources'{nearest(source, sources)}")
            key = plain(word)
            before = found.get(key)
            if before is None:
                found[key] = Term(word, dimension, group, frozenset([form]), frozenset([source]))
            elif (before.dimension, before.group) == (dimension, group):
                both = before.forms | {form}, before.sources | {source}
                found[key] = Term(before.text, dimension, group, *both)
            else:
                raise self.wrong(f"{word!r} stands under {before.dimension}.{before.group} and {dimension}.{group}")
        if not found:
            raise self.wrong("there is no term under 'dimensions'")
        if (groups := len({(term.dimension, term.group) for term in found.values()})) > MAX_GROUPS:
            raise self.wrong(f"{groups} groups; at most {MAX_GROUPS} fit")
        return tuple(found.values())

    def _listed(self, dimensions: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
        for dimension, groups in dimensions.items():
            self._named(dimension, "dimension")
            for group, sources in self.mapping(groups, f"dimensions.{dimension}").items():
                self._named(group, f"group of dimensions.{dimension}")
                where = f"dimensions.{dimension}.{group}"
                for source, forms in self.mapping(sources, where).items():
                    for form, words in self.mapping(forms, f"{where}.{source}").items():
                        for word in self.words(words, f"{where}.{source}.{form}"):
                            yield dimension, group, source, form, word

    def _named(self, name: str, what: str) -> None:
        if not _NAME.fullmatch(name):
            raise self.wrong(f"{name!r} is no name of a {what}: small letters, digits and _, at most 40")

    def source(self, value: Any, name: str) -> Mapping[str, str]:
        said = self.mapping(value, f"sources.{name}")
        if sorted(said) != sorted(_SOURCE) or not all(isinstance(word, str) for word in said.values()):
            raise self.wrong(f"sources.{name} must have the texts title, licence and url")
        return said

    def mapping(self, value: Any, where: str) -> Mapping[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.wrong(f"{where} must be a mapping with names as keys, not {type(value).__name__}")
        return value

    def words(self, value: Any, where: str) -> list[str]:
        if not isinstance(value, list) or not value:
            raise self.wrong(f"{where} must be a list of words")
        for word in value:
            if not isinstance(word, str) or not re.search(r"\w", word) or len(word) > 100:
                raise self.wrong(
                    f"{where} must be a list of words of at most 100 characters (in YAML put quotes around yes and no)"
                )
        return [word.strip() for word in value]

    def known(self, value: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
        for key in value:
            if key not in keys:
                raise self.wrong(f"unknown key {key!r} in {where}{nearest(key, keys)}")

    def wrong(self, message: str) -> ConfigurationError:
        return ConfigurationError(message, source=self._name)
