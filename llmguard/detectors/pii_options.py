"""The options of the detector ``pii``: their defaults, what they may be, and what to say when they are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmguard.detectors.pii_recognizers import LANGUAGES
from llmguard.errors import ConfigurationError, nearest

_ENGINES = ("spacy", "transformers")


def _wrong(option: str, value: object, right: str) -> ConfigurationError:
    return ConfigurationError(f"option {option!r} of detector 'pii' is {value!r}: it must be {right}")


def words(option: str, value: object) -> tuple[str, ...]:
    """A list of words, without those that come twice.

    Raises:
        ConfigurationError: it is not a list of strings, or one of them is empty.
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise _wrong(option, value, "a list of words")
    found = tuple(dict.fromkeys(value))
    if not all(isinstance(word, str) and word for word in found):
        raise ConfigurationError(f"option {option!r} of detector 'pii' must hold words that are not empty")
    return found


def languages(value: object) -> tuple[str, ...]:
    """Languages that Presidio has recognizers for.

    Raises:
        ConfigurationError: the list is empty, or one of them is unknown.
    """
    found = words("languages", value)
    if not found:
        raise _wrong("languages", value, "a list of at least one language")
    for language in found:
        if language not in LANGUAGES:
            raise ConfigurationError(
                f"option 'languages' of detector 'pii': unknown language {language!r}{nearest(language, LANGUAGES)}"
            )
    return found


def countries(value: object) -> tuple[str, ...] | None:
    """Country codes in lower case, "all" among them maybe; None for Presidio's own choice."""
    if value is None:
        return None
    return tuple(code.lower() for code in words("countries", [value] if value == "all" else value))


def score(option: str, value: object) -> float:
    """A score in [0, 1].

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise _wrong(option, value, "a number from 0 to 1")
    return float(value)


def flag(option: str, value: object) -> bool:
    """A truth value.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(value, bool):
        raise _wrong(option, value, "true or false")
    return value


def thresholds(value: object) -> dict[str, float]:
    """Scores by entity.

    Raises:
        ConfigurationError: it is not a mapping of entities to scores.
    """
    if not isinstance(value, Mapping):
        raise _wrong("thresholds", value, "a mapping of entities to scores")
    return {str(entity): score(f"thresholds.{entity}", wanted) for entity, wanted in value.items()}


def deny_list(value: object) -> dict[str, tuple[str, ...]]:
    """Words by entity; a bare list counts as those of ``DENY_LIST``.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(value, Mapping):
        found = {str(entity): words(f"deny_list.{entity}", listed) for entity, listed in value.items()}
    else:
        found = {"DENY_LIST": words("deny_list", value)}
    return {entity: listed for entity, listed in found.items() if listed}


def allow_list(value: object, match: object) -> tuple[tuple[str, ...], str]:
    """Allowed words, and how they are compared.

    Raises:
        ConfigurationError: it is not a list of words, or the way is unknown.
    """
    if match not in ("exact", "regex"):
        raise _wrong("allow_list_match", match, "'exact' or 'regex'")
    return words("allow_list", value), str(match)


def entities(value: object, known: Iterable[str]) -> frozenset[str] | None:
    """The entities to look for; None for all.

    Raises:
        ConfigurationError: no recognizer that runs finds one of them.
    """
    if value is None:
        return None
    known = frozenset(known)
    found = words("entities", value)
    for entity in found:
        check_entity("entities", entity, known)
    return frozenset(found)


def check_entity(option: str, entity: str, known: Iterable[str]) -> None:
    """Check that some recognizer that runs finds ``entity``.

    Raises:
        ConfigurationError: none does.
    """
    known = frozenset(known)
    if entity not in known:
        raise ConfigurationError(
            f"option {option!r} of detector 'pii': no recognizer that runs finds {entity!r}{nearest(entity, known)}"
        )


def nlp(value: object) -> Mapping[str, Any] | None:
    """The NLP engine: None for ours, or a mapping with ``engine`` and ``model``.

    Raises:
        ConfigurationError: it is neither.
    """
    if value == "none":
        return None
    if not isinstance(value, Mapping) or set(value) - {"engine", "model"}:
        raise _wrong("nlp", value, "'none', or a mapping with 'engine' and 'model'")
    if value.get("engine") not in _ENGINES:
        named = value.get("engine")
        hint = nearest(named, _ENGINES) if isinstance(named, str) else f" (known: {', '.join(_ENGINES)})"
        raise ConfigurationError(f"option 'nlp' of detector 'pii': unknown engine {named!r}{hint}")
    model = value.get("model")
    if not isinstance(model, (str, Mapping)) or not model:
        raise _wrong("nlp", value, "a mapping that names the installed model under 'model'")
    return value


def listed(value: object) -> str | Sequence[Mapping[str, Any]]:
    """The user's recognizers, as they were given: a path, or a list.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(value, str) or (isinstance(value, Sequence) and not isinstance(value, bytes)):
        return value
    raise _wrong("recognizers", value, "a list of recognizers in Presidio's form, or a path")
