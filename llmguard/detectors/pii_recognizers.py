"""Which of Presidio's recognizers run: its own default ones, those of a country, and the user's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from llmguard.detectors.pii_email import offline_email
from llmguard.errors import ConfigurationError, MissingExtraError, nearest

LANGUAGES = frozenset({"de", "en", "es", "fi", "fr", "it", "ko", "kr", "pl", "sv", "th", "tr"})
"""The languages that Presidio has recognizers for."""


def presidio() -> Any:
    """The package ``presidio_analyzer``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import presidio_analyzer
    except ImportError:
        raise MissingExtraError("the detector 'pii'", "presidio_analyzer", "pii") from None
    return presidio_analyzer


@functools.cache
def by_country() -> Mapping[str, tuple[type[Any], ...]]:
    """Presidio's country-specific recognizer classes by the code of their country."""
    presidio()
    from presidio_analyzer import predefined_recognizers

    found: dict[str, list[type[Any]]] = {}
    for _, kind in sorted(inspect.getmembers(predefined_recognizers, inspect.isclass)):
        code = getattr(kind, "COUNTRY_CODE", None)
        if code and "supported_entity" in inspect.signature(kind).parameters:
            required = inspect.signature(kind).parameters["supported_entity"].default is inspect.Parameter.empty
            if not required:
                found.setdefault(code, []).append(kind)
    return {code: tuple(kinds) for code, kinds in found.items()}


def _load(entries: Sequence[Any], languages: Sequence[str]) -> list[Any]:
    """Instances by Presidio's own loader, one for each language."""
    from presidio_analyzer.recognizer_registry.recognizers_loader_utils import (
        RecognizerConfigurationLoader,
        RecognizerListLoader,
    )

    defaults = RecognizerConfigurationLoader.get()
    wanted: Any = entries or [_spoken(entry, languages) for entry in defaults["recognizers"]]
    return list(RecognizerListLoader.get(wanted, languages, defaults["global_regex_flags"]))


def _spoken(entry: Any, languages: Sequence[str]) -> Any:
    """An entry of Presidio's default list without other languages: its loader logs a warning for each of them."""
    listed = entry.get("supported_languages") if isinstance(entry, Mapping) else None
    if not listed:
        return entry
    kept = [item for item in listed if (item["language"] if isinstance(item, Mapping) else item) in languages]
    return {**entry, "supported_languages": kept} if kept else {**entry, "enabled": False}


def _usable(recognizer: Any) -> bool:
    """Whether it needs no model: a recognizer of patterns or of phone numbers."""
    from presidio_analyzer import PatternRecognizer
    from presidio_analyzer.predefined_recognizers import PhoneRecognizer

    return isinstance(recognizer, (PatternRecognizer, PhoneRecognizer))


def _is_exactly(recognizer: Any, kind: type[Any]) -> bool:
    return type(recognizer) is kind


def _offline(recognizer: Any) -> Any:
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    if not _is_exactly(recognizer, EmailRecognizer):
        return recognizer
    replaced: Any = offline_email()(
        patterns=recognizer.patterns,
        context=recognizer.context,
        supported_language=recognizer.supported_language,
        supported_entity=recognizer.supported_entities[0],
        name=recognizer.name,
    )
    replaced.global_regex_flags = recognizer.global_regex_flags
    replaced.score_thresholds = recognizer.score_thresholds
    return replaced


def _of_countries(countries: Iterable[str], languages: Sequence[str]) -> list[Any]:
    known = by_country()
    made = []
    for code in sorted(countries):
        for kind in known[code]:
            native = inspect.signature(kind).parameters["supported_language"].default
            made.append(kind(supported_language=native if native in languages else languages[0]))
    return made


def _own(recognizers: str | Sequence[Mapping[str, Any]], languages: Sequence[str]) -> list[Any]:
    """The user's recognizers, from a file or from dictionaries, in Presidio's form."""
    source = "recognizers"
    entries: Any = recognizers
    if isinstance(recognizers, str):
        source = recognizers
        try:
            entries = yaml.safe_load(Path(recognizers).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigurationError(f"cannot read recognizers: {type(error).__name__}", source=source) from error
        if isinstance(entries, Mapping):
            entries = entries.get("recognizers")
    if (
        not isinstance(entries, Sequence)
        or isinstance(entries, str)
        or not all(isinstance(e, Mapping) for e in entries)
    ):
        raise ConfigurationError(
            "option 'recognizers' of detector 'pii' must be a list of recognizers in Presidio's form, or the path of "
            "a YAML file that has one under 'recognizers'",
            source=source if isinstance(recognizers, str) else "",
        )
    if not entries:
        return []
    from presidio_analyzer.recognizer_registry.recognizers_loader_utils import PredefinedRecognizerNotFoundError

    try:
        made = _load([full for entry in entries for full in _complete(entry, languages)], languages)
    except (ValueError, TypeError, KeyError, AttributeError, PredefinedRecognizerNotFoundError) as error:
        raise ConfigurationError(f"option 'recognizers' of detector 'pii': {error}") from error
    for recognizer in made:
        if not _usable(recognizer):
            raise ConfigurationError(
                f"option 'recognizers' of detector 'pii': {recognizer.name!r} needs a model; use option 'nlp' for those"
            )
    return made


def _complete(entry: Mapping[str, Any], languages: Sequence[str]) -> list[dict[str, Any]]:
    """Fill in what Presidio's loader wants to be told: the kind of the entry, and its language in one entry each."""
    kind = "custom" if "patterns" in entry or "deny_list" in entry else "predefined"
    full = {"type": kind, **entry}
    if "supported_language" in entry or "supported_languages" in entry:
        return [full]
    if full["type"] == "predefined":
        return [{**full, "supported_languages": list(languages)}]
    return [{**full, "supported_language": language} for language in languages]


def check_countries(countries: Iterable[str]) -> None:
    """Check country codes against those of Presidio's recognizers.

    Raises:
        ConfigurationError: one of them has no recognizer.
    """
    known = by_country()
    for code in countries:
        if code not in known:
            raise ConfigurationError(
                f"option 'countries' of detector 'pii': unknown country {code!r}{nearest(code, [*known, 'all'])}"
            )


def build(
    languages: Sequence[str],
    countries: Sequence[str] | None,
    recognizers: str | Sequence[Mapping[str, Any]],
    deny_list: Mapping[str, Sequence[str]],
) -> list[Any]:
    """Instances of all recognizers that are to run.

    Args:
        languages: what texts are in.
        countries: codes whose recognizers all run, or "all" among them; None for Presidio's own default choice.
        recognizers: the user's, as a path or in Presidio's dictionary form.
        deny_list: words by entity.

    Raises:
        ConfigurationError: a country is unknown, or the user's recognizers are wrong.
        MissingExtraError: Presidio is not installed.
    """
    package = presidio()
    made = [recognizer for recognizer in _load((), languages) if _usable(recognizer)]
    if countries is not None:
        check_countries(code for code in countries if code != "all")
        chosen = set(by_country()) if "all" in countries else set(countries)
        made = [recognizer for recognizer in made if recognizer.country_code() is None]
        made += _of_countries(chosen, languages)
    made += _own(recognizers, languages)
    for entity, words in deny_list.items():
        made += [
            package.PatternRecognizer(supported_entity=entity, deny_list=list(words), supported_language=language)
            for language in languages[:1]
        ]
    return [_offline(recognizer) for recognizer in made]
