"""Detoxify's checkpoints: https://github.com/unitaryai/detoxify.

A checkpoint is a pickle of ``config`` (classes, names of the model's and the tokenizer's class) and ``state_dict``.
Detoxify unpickles anything; here only tensors and plain containers are read.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from llmguard.errors import MissingExtraError, ModelLoadError, nearest
from llmguard.export.original import OUTPUT, Original, fits, torch_and_transformers, window
from llmguard.inference.card import Head

# Detoxify's own renaming, so that its users find the names they know.
_RENAMED = {"toxic": "toxicity", "identity_hate": "identity_attack", "severe_toxic": "severe_toxicity"}
_LANGUAGES = {"multilingual": ["en", "fr", "es", "it", "pt", "tr", "ru"]}
_CLASSES = (
    "BertForSequenceClassification",
    "RobertaForSequenceClassification",
    "XLMRobertaForSequenceClassification",
    "AlbertForSequenceClassification",
)


def load(source: str, *, config: str | None = None, max_tokens: int | None = None) -> Original:
    """Read a checkpoint.

    Args:
        source: the name of a release (``original``, ``unbiased``, ``multilingual`` …), which is downloaded to
            PyTorch's cache as Detoxify does, or the path of a checkpoint.
        config: a directory with Hugging Face's configuration and tokenizer; without one they come from the hub.
        max_tokens: of a window, if fewer than the model allows.

    Raises:
        ModelLoadError: it can't be had or read, holds more than tensors, or its parts don't fit together.
        MissingExtraError: ``torch``, ``transformers`` or, for a release, ``detoxify`` is not installed.
    """
    torch, transformers = torch_and_transformers()
    path = Path(source) if Path(source).is_file() else _download(source, torch)
    classes, arch, state = _parts(_unpickled(path, torch), str(path))
    labels = [_RENAMED.get(name, name) for name in classes]
    if arch["num_classes"] != len(labels):
        raise ModelLoadError(
            f"{len(labels)} classes are named, the model has {arch['num_classes']} outputs", source=str(path)
        )
    if arch["model_name"] not in _CLASSES:
        hint = nearest(arch["model_name"], _CLASSES)
        raise ModelLoadError(f"the model's class {arch['model_name']!r} is not known{hint}", source=str(path))
    settings, tokenizer = _from_hub(config or arch["model_type"], config is not None, transformers)
    settings.num_labels = len(labels)
    kind = getattr(transformers, arch["model_name"])
    if not isinstance(settings, kind.config_class):
        raise ModelLoadError(
            f"the configuration is of a {settings.model_type!r}, the checkpoint of a {arch['model_name']!r}",
            source=str(path),
        )
    model = kind._from_config(settings, attn_implementation="eager", dtype=torch.float32)  # noqa: SLF001 - no public way
    _fill(model, state, str(path))
    fits(model, tokenizer, labels, str(path))
    name = source if not Path(source).is_file() else Path(source).stem
    return Original(
        name=f"detoxify-{name}",
        model=model.eval(),
        tokenizer=tokenizer,
        head=Head(name="toxicity", output=OUTPUT, kind="labels", labels=tuple(labels), activation="sigmoid"),
        columns=tuple((index,) for index in range(len(labels))),
        window=window(model, tokenizer, max_tokens),
        facts={
            "licence": "Apache-2.0",
            "description": "A checkpoint of Detoxify, exported.",
            "base": arch["model_type"] if config is None else "",
            "languages": _LANGUAGES.get(source, ["en"] if source == name else []),
        },
    )


def _download(name: str, torch: Any) -> Path:
    try:
        from detoxify.detoxify import MODEL_URLS
    except ImportError:
        raise MissingExtraError("a release of Detoxify by its name", "detoxify", "detoxify") from None
    if name not in MODEL_URLS:
        raise ModelLoadError(f"{name!r} is neither a checkpoint's path nor a release{nearest(name, MODEL_URLS)}")
    url = MODEL_URLS[name]
    file = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        # The releases carry the first digits of their sha256 in their names.
        digits = path.stem.rpartition("-")[2]
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digits, progress=False)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise ModelLoadError(
                f"the release {name!r} can't be downloaded ({reason}): fetch {url} where there is a network, and give "
                "its path"
            ) from None
    return path


def _unpickled(path: Path, torch: Any) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = "weights_only" in str(error) or "Unsupported" in str(error)
        problem = "it holds more than tensors and plain containers, and is not read" if unsafe else "it is damaged"
        raise ModelLoadError(f"no checkpoint of Detoxify: {problem}", source=str(path)) from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise ModelLoadError(f"truncated or no checkpoint ({type(error).__name__})", source=str(path)) from None


def _parts(loaded: Any, source: str) -> tuple[list[str], dict[str, Any], Mapping[str, Any]]:
    try:
        arch = {key: loaded["config"]["arch"]["args"][key] for key in ("model_type", "model_name", "num_classes")}
        return list(loaded["config"]["dataset"]["args"]["classes"]), arch, dict(loaded["state_dict"])
    except (KeyError, TypeError, ValueError) as error:
        missing = (
            f"the key {error.args[0]!r} is missing" if isinstance(error, KeyError) else "a part has the wrong type"
        )
        raise ModelLoadError(f"no checkpoint of Detoxify: {missing}", source=source) from None


def _from_hub(place: str, local: bool, transformers: Any) -> tuple[Any, Any]:
    try:
        settings = transformers.AutoConfig.from_pretrained(place, local_files_only=local)
        return settings, transformers.AutoTokenizer.from_pretrained(place, local_files_only=local)
    except (OSError, ValueError, KeyError) as error:
        hint = "" if local else ": give a directory with config.json and the tokenizer's files as config"
        raise ModelLoadError(
            f"no configuration and tokenizer of {place!r} can be had ({type(error).__name__}){hint}"
        ) from None


def _fill(model: Any, state: Mapping[str, Any], source: str) -> None:
    try:
        lacking, unknown = model.load_state_dict(state, strict=False)
    except RuntimeError:
        own = model.state_dict()
        wrong = [name for name, value in state.items() if name in own and own[name].shape != value.shape]
        raise ModelLoadError(
            f"the checkpoint doesn't fit its configuration: {wrong[0]!r} has another shape", source=source
        ) from None
    # Older releases of transformers kept the positions, which are only counted, beside the weights.
    unknown = [name for name in unknown if not name.endswith("position_ids")]
    if lacking or unknown:
        what = f"{lacking[0]!r} is missing" if lacking else f"{unknown[0]!r} is not known"
        raise ModelLoadError(f"the checkpoint doesn't fit its configuration: {what}", source=source)
