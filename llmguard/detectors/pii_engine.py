"""Presidio's own engine: with an NLP model that the user has installed, and as the yardstick for our shorter way."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmguard.errors import ConfigurationError, MissingExtraError


def _spacy_models(model: Any, languages: Sequence[str]) -> list[dict[str, Any]]:
    import spacy

    named = dict.fromkeys(languages, model) if isinstance(model, str) else dict(model)
    for language in languages:
        if language not in named:
            raise ConfigurationError(f"option 'nlp.model' of detector 'pii' names no model for language {language!r}")
        name = named[language]
        if not isinstance(name, str) or not (spacy.util.is_package(name) or Path(name).is_dir()):
            raise ConfigurationError(
                f"option 'nlp.model' of detector 'pii': the spaCy model {name!r} is not installed: "
                f"python -m spacy download {name}"
            )
    return [{"lang_code": language, "model_name": named[language]} for language in languages]


def _transformers_models(model: Any, languages: Sequence[str]) -> list[dict[str, Any]]:
    if not isinstance(model, Mapping) or set(model) != {"spacy", "transformers"}:
        raise ConfigurationError(
            "option 'nlp.model' of detector 'pii': engine 'transformers' wants a mapping with 'spacy' (a small model "
            "that cuts up texts) and 'transformers' (a directory)"
        )
    if not Path(str(model["transformers"])).is_dir():
        raise ConfigurationError(
            "option 'nlp.model.transformers' of detector 'pii' must be the directory of a model; nothing is downloaded"
        )
    small = _spacy_models(model["spacy"], languages)
    return [
        {**entry, "model_name": {"spacy": entry["model_name"], "transformers": model["transformers"]}}
        for entry in small
    ]


def model_engine(option: Mapping[str, Any], languages: Sequence[str]) -> Any:
    """The NLP engine that the policy names, loaded; nothing is ever downloaded.

    Args:
        option: ``engine`` ("spacy" or "transformers") and ``model``.
        languages: what it has to know.

    Raises:
        ConfigurationError: the model is not installed.
        MissingExtraError: the engine's package is not installed.
    """
    engine = option["engine"]
    for package in ("spacy", "transformers", "spacy_huggingface_pipelines")[: 1 if engine == "spacy" else 3]:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(f"the NLP engine {engine!r} of detector 'pii'", package, "pii")
    from presidio_analyzer.nlp_engine import SpacyNlpEngine, TransformersNlpEngine

    if engine == "spacy":
        made = SpacyNlpEngine(models=_spacy_models(option["model"], languages))
    else:
        made = TransformersNlpEngine(models=_transformers_models(option["model"], languages))
    made.load()
    return made


def analyzer(recognizers: Sequence[Any], nlp_engine: Any, languages: Sequence[str], threshold: float) -> Any:
    """Presidio's ``AnalyzerEngine`` over ``recognizers``.

    Args:
        recognizers: what it runs.
        nlp_engine: an engine that is loaded.
        languages: what the engine is asked about.
        threshold: score from which on a find counts, unless its recognizer says otherwise.
    """
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry

    registry = RecognizerRegistry(recognizers=list(recognizers), supported_languages=list(languages))
    return AnalyzerEngine(
        registry=registry,
        nlp_engine=nlp_engine,
        supported_languages=list(languages),
        default_score_threshold=threshold,
    )
